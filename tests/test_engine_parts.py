"""Does each part of a training do its one thing? Module, loss, optimiser, callbacks."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from skorch.history import History
from torch import nn

from skae._kernels.csr import Csr
from skae._scaling import ColumnSummary, Scaling
from skae._training.auto import choose_batch_size, choose_device, choose_n_epochs
from skae._training.batches import Batch
from skae._training.bottlenecks import (
    Bottleneck,
    GaussianCode,
    PlainBottleneck,
    PlainCode,
    SparseCode,
    Term,
)
from skae._training.callbacks import (
    Clock,
    EndOfTraining,
    FiniteGuard,
    FitProgress,
    LearningRate,
    SoftThreshold,
    Stopping,
)
from skae._training.module import AutoencoderModule, Observation
from skae._training.net import WeightedSum, _EpochRecord
from skae._training.optimizers import OPTIMIZERS, make_optimizer
from skae._training.plan import DENSE, Plan
from skae._training.rules import Convergence
from skae._training.threads import threads_for
from skae.exceptions import NonFiniteLossError, SkaeError
from skae.likelihoods import LIKELIHOODS, Bernoulli, Gaussian
from skae.networks import MLP, CustomNetwork, Layout, decoder_gains
from skae.noise import Masking
from skae.priors import StandardNormal
from skae.schedules import Constant, Cosine
from skae.sparsity import L1
from tests.helpers import LIKELIHOOD_VARIANTS, generator, global_generators_untouched, normal

N_FEATURES, N_COMPONENTS = 5, 2
MEAN, VARIANCE = np.linspace(0.2, 0.8, N_FEATURES), np.linspace(0.5, 2.0, N_FEATURES)
COLUMNS = ColumnSummary(
    MEAN,
    VARIANCE**0.5,
    3**0.25 * VARIANCE**0.5,
    largest=3 * MEAN,
    smallest=np.zeros(N_FEATURES),
    used=np.linspace(0.3, 0.9, N_FEATURES),
    usual=MEAN,
    n_unusual=np.full(N_FEATURES, 100.0),
    n_rows=100,
)

SPARSE = SparseCode(L1(), n_active=1.0, sparsity_weight="auto")
GAUSSIAN = GaussianCode(StandardNormal(), 1.0, Constant(), 0.0, n_importance_samples=1)

# The module.


def made_of(kind):
    """Return a specification of a bottleneck of this class."""
    return SimpleNamespace(build=lambda layout, seed: kind(layout.n_components))


def make_module(likelihood=None, network=None, hidden=(4,), seed=0, **kwargs):
    return AutoencoderModule(
        network or MLP(),
        likelihood or Gaussian(),
        PlainCode(),
        Layout(N_FEATURES, N_COMPONENTS, hidden, "relu"),
        COLUMNS,
        seed=seed,
        **kwargs,
    )


def forward(module, x, seed=0):
    return module(module.draw_for(Batch(x), generator(seed)))


class Recorder(nn.Linear):
    """A linear layer that remembers what it was given."""

    def forward(self, x):
        self.seen = x.detach().clone()
        return super().forward(x)


@pytest.fixture
def recording():
    """A network whose encoder remembers its input."""
    return CustomNetwork(Recorder(N_FEATURES, N_COMPONENTS), nn.Linear(N_COMPONENTS, N_FEATURES))


def test_noise_is_put_on_the_input_of_training_and_never_on_the_target(recording):
    module, x = make_module(network=recording, noise=Masking(), noise_level=1.0), 1 + normal(6, 5)
    x = x.float()
    trained = forward(module.train(), x)
    assert not module.encoder.seen.any()
    # The likelihood is that of the clean rows, given the code of rows that are all masked.
    raw = module.decoder(module.encoder(torch.zeros_like(x)))
    expected = module.observation.log_likelihood(x, raw)
    torch.testing.assert_close(trained["reconstruction"].value, -expected.mean())
    forward(module.eval(), x)
    assert torch.equal(module.encoder.seen, x)


def test_noise_has_its_level_and_the_generator_of_the_step(recording):
    module = make_module(network=recording, noise=Masking(), noise_level=0.3).train()
    x, seen = torch.ones(400, N_FEATURES), []
    for seed in (0, 0, 1):
        forward(module, x, seed)
        seen.append(module.encoder.seen)
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])
    assert float(seen[0].mean()) == pytest.approx(0.7, abs=0.05)


@pytest.mark.parametrize("shift", [None, np.linspace(1.0, 2.0, N_FEATURES)])
def test_scaling_of_the_encoder_is_for_its_input_alone(recording, shift):
    scaled = Scaling(shift, np.linspace(0.5, 3.0, N_FEATURES))
    module = make_module(Bernoulli(), recording, encoder_scaling=scaled).eval()
    x = (normal(6, 5) > 0).float()
    output = forward(module, x)
    np.testing.assert_allclose(module.encoder.seen, scaled.apply(x.numpy()), rtol=1e-5, atol=1e-6)
    raw = module.decoder(module.code(x))
    expected = module.observation.log_likelihood(x, raw)
    torch.testing.assert_close(output["reconstruction"].value, -expected.mean())


@pytest.mark.parametrize("likelihood", LIKELIHOOD_VARIANTS, ids=str)
def test_decoder_laws_an_empty_code_gives_the_column_means_before_training(likelihood):
    module = make_module(likelihood, hidden=())
    # Where the total of a row is given, it is that of the mean row.
    total = torch.full((1, 1), MEAN.sum()).float()
    found = module.mean(torch.zeros(1, N_COMPONENTS), total).detach()
    np.testing.assert_allclose(found[0], MEAN, rtol=1e-4)


def test_decoder_without_a_fitting_layer_is_left_as_it_is():
    plain = nn.Sequential(nn.Linear(N_COMPONENTS, N_FEATURES, bias=False))
    network = CustomNetwork(nn.Linear(N_FEATURES, N_COMPONENTS), plain)
    module = make_module(network=network)
    assert torch.equal(module.decoder[0].weight, plain[0].weight)


@pytest.mark.parametrize("likelihood", LIKELIHOOD_VARIANTS, ids=str)
def test_observation_laws_rows_are_sums_over_features_at_the_free_parameters(likelihood):
    observation = Observation(likelihood, MEAN, VARIANCE)
    start = likelihood.parameters_at_start(*(torch.tensor(v).float() for v in (MEAN, VARIANCE)))
    assert set(observation.state.trained) == set(start)
    assert all(parameter.requires_grad for parameter in observation.parameters())
    raw, total = normal(4, likelihood.n_outputs * N_FEATURES).float(), torch.full((4, 1), 6.0)
    x = observation.sample(raw, generator(), total)
    # The total of a row is its sum, whatever the total that was drawn for.
    of_x = {"total": x.sum(dim=1, keepdim=True)} if likelihood.conditional_on_total else {}
    expected = likelihood.log_prob(x, raw, **start, **of_x).sum(dim=1)
    torch.testing.assert_close(observation.log_likelihood(x, raw), expected)
    given = {"total": total} if likelihood.conditional_on_total else {}
    torch.testing.assert_close(observation.mean(raw, total), likelihood.mean(raw, **start, **given))


@pytest.mark.parametrize("likelihood", LIKELIHOOD_VARIANTS, ids=str)
def test_observation_laws_variance_weights_change_the_gradient_of_raw_alone(likelihood):
    gradients = []
    for weighted in (False, True):
        observation = Observation(likelihood, MEAN, VARIANCE)
        raw = normal(4, likelihood.n_outputs * N_FEATURES).float().requires_grad_()
        x = torch.ones(4, N_FEATURES)
        value = observation.log_likelihood(x, raw, variance_weighted=weighted)
        value.sum().backward()
        gradients.append((value.detach(), raw.grad, [p.grad for p in observation.parameters()]))
    (value, of_raw, of_free), (weighted_value, weighted_of_raw, weighted_of_free) = gradients
    scale = likelihood.variance_weight(**observation.state.tensors())
    torch.testing.assert_close(weighted_value, value)
    torch.testing.assert_close(weighted_of_free, of_free)
    torch.testing.assert_close(weighted_of_raw, of_raw if scale is None else of_raw * scale)


def test_gradient_that_counts_errors_alike_can_be_taken_for_several_models_at_once():
    """Nothing that torch leaves out where it works on a batch of models, such as a hook."""
    observation, x = Observation(Gaussian(), MEAN, VARIANCE), torch.ones(4, N_FEATURES)

    def loss(raw):
        return observation.log_likelihood(x, raw, variance_weighted=True).sum()

    several = normal(3, 4, N_FEATURES).float()
    found = torch.func.vmap(torch.func.grad(loss))(several)
    for raw, gradient in zip(several, found, strict=True):
        raw.requires_grad_()
        torch.testing.assert_close(torch.autograd.grad(loss(raw), [raw])[0], gradient)


@pytest.mark.parametrize("bottleneck", [PlainCode(), SPARSE, GAUSSIAN], ids=type)
def test_forward_pass_draws_nothing(bottleneck):
    layout = Layout(N_FEATURES, N_COMPONENTS, (4,), "relu")
    noisy = {"noise": Masking(), "noise_level": 0.5}
    module = AutoencoderModule(MLP(), Gaussian(), bottleneck, layout, COLUMNS, **noisy).train()
    batch, draws = Batch(normal(20, N_FEATURES).float()), generator()
    drawn = module.draw_for(batch, draws)
    assert torch.equal(drawn.x, batch.x)
    state = draws.get_state()
    with global_generators_untouched():
        losses = [module(drawn)["reconstruction"].value.item() for _ in range(2)]
    assert losses[0] == losses[1]
    assert torch.equal(draws.get_state(), state)
    other = module(module.draw_for(batch, draws))
    assert other["reconstruction"].value.item() != losses[0]


def test_weights_of_the_module_are_those_of_the_seed():
    first, again, other = (
        torch.cat([p.ravel() for p in make_module(seed=seed).encoder.parameters()])
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("likelihood", LIKELIHOOD_VARIANTS, ids=str)
def test_decoder_laws_draws_and_means_are_those_of_its_output(likelihood):
    module, code = make_module(likelihood), normal(6, N_COMPONENTS).float()
    raw, total = module.decoder(code), torch.arange(6.0)[:, None]
    drawn = module.draw(code, generator(3), total)
    assert torch.equal(drawn, module.observation.sample(raw, generator(3), total))
    assert torch.equal(module.mean(code, total), module.observation.mean(raw, total))


@pytest.mark.parametrize("likelihood", LIKELIHOOD_VARIANTS, ids=str)
def test_decoder_laws_totals_are_asked_for_by_likelihoods_of_counts_alone(likelihood):
    module, code = make_module(likelihood), normal(6, N_COMPONENTS).float()
    one, two = (module.mean(code, torch.full((6, 1), total)) for total in (3.0, 6.0))
    torch.testing.assert_close(two, 2 * one if likelihood.conditional_on_total else one)


def test_score_of_a_row_is_its_likelihood_given_its_own_code():
    module, x = make_module(), normal(6, N_FEATURES).float()
    expected = module.observation.log_likelihood(x, module.decoder(module.code(x)))
    assert torch.equal(module.score(x), expected)


class Asks(Bottleneck):
    """A bottleneck that remembers what its step may ask for."""

    def forward(self, h, step):
        self.given = step
        return {"nothing": Term(h.sum(), 0.0, 0.0)}

    def code(self, h):
        return h

    def diagnostics(self, h):
        return {"double": 2 * h}


def asking(likelihood=None, **kwargs):
    layout = Layout(N_FEATURES, N_COMPONENTS, (4,), "relu")
    likelihood = likelihood or Gaussian()
    return AutoencoderModule(MLP(), likelihood, made_of(Asks), layout, COLUMNS, **kwargs).train()


def test_bottleneck_gets_the_gains_of_the_decoder_and_the_weights_of_the_rows():
    module = asking()
    x, weight = normal(3, N_FEATURES).float(), torch.tensor([0.5, 1.0, 1.5])
    assert set(module(Batch(x, weight))) == {"nothing"}
    assert module.bottleneck.given.row_weight is weight
    expected = decoder_gains(module.decoder)
    assert torch.equal(module.bottleneck.given.gains(), expected)
    assert torch.equal(module.diagnostics(x)["double"], 2 * module.encoder(x))


@pytest.mark.parametrize("likelihood", LIKELIHOOD_VARIANTS, ids=str)
def test_training_step_may_ask_for_log_likelihoods_of_codes_dense_or_csr(likelihood):
    x, weight = (normal(6, N_FEATURES) > 0.3).float(), torch.tensor([0.5, 1.5, 1, 0.2, 0.8, 2])
    mixed, found = torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0, -0.1]), []
    for rows in (x, Csr.from_scipy(sp.csr_array(x.numpy()))):
        module = asking(likelihood=likelihood, plan=Plan("exact"))
        module(Batch(rows, weight))
        step = module.bottleneck.given
        losses = (
            lambda code, step=step: step.reconstruction(code),
            lambda code, step=step: -(step.share @ step.log_likelihood(code)),
            lambda code, step=step: mixed @ step.log_likelihood(code),
        )
        for loss in losses:
            code = normal(6, N_COMPONENTS).float().requires_grad_()
            value = loss(code)
            given = [code, *module.decoder.parameters(), *module.observation.parameters()]
            found.append([value.detach(), *torch.autograd.grad(value, given)])
    dense, of_rows, of_mixed, *others = found
    for one, other in zip([of_rows, dense, of_rows, of_mixed], [dense, *others], strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4)
    # It is the one that scores are made of.
    expected = module._log_likelihood(rows, code)
    with torch.no_grad():
        torch.testing.assert_close(step.log_likelihood(code), expected)


def test_encoder_has_as_many_outputs_as_the_bottleneck_takes():
    class Wide(PlainBottleneck):
        n_inputs = 7

    module = AutoencoderModule(
        MLP(), Gaussian(), made_of(Wide), Layout(N_FEATURES, N_COMPONENTS, (), "relu"), COLUMNS
    )
    assert module.encoder(torch.zeros(1, N_FEATURES)).shape == (1, 7)


def test_bottleneck_sets_the_start_of_the_encoder():
    class Zero(PlainBottleneck):
        def init_encoder(self, encoder):
            for parameter in encoder.parameters():
                nn.init.zeros_(parameter)

    layout = Layout(N_FEATURES, N_COMPONENTS, (), "relu")
    module = AutoencoderModule(MLP(), Gaussian(), made_of(Zero), layout, COLUMNS)
    assert not module.code(torch.ones(1, N_FEATURES)).any()


# The loss.


def test_loss_is_the_sum_of_the_terms_each_times_its_weight():
    kl, penalty = Term(torch.tensor(4.0), 0.5, 2.0), Term(torch.tensor(3.0), 10.0, 0.0)
    terms = {"reconstruction": Term(torch.tensor(3.0)), "kl": kl, "penalty": penalty}
    assert float(WeightedSum()(terms)) == 3.0 + 0.5 * 4.0 + 10.0 * 3.0


def test_terms_of_an_epoch_are_unweighted_and_the_objective_has_the_final_weights():
    record = _EpochRecord()
    for n_rows, scale in ((30, 1.0), (10, 2.0)):
        terms = {
            "reconstruction": Term(torch.tensor(3.0 * scale)),
            "kl": Term(torch.tensor(4.0 * scale), 0.5, 2.0),
            "penalty": Term(torch.tensor(3.0 * scale), 10.0, 0.0),
        }
        record.add(WeightedSum()(terms), terms, n_rows)
    mean = (30 * 1.0 + 10 * 2.0) / 40
    assert record.means() == pytest.approx(
        {
            "loss": 35.0 * mean,
            "objective": 11.0 * mean,
            "reconstruction": 3.0 * mean,
            "kl": 4.0 * mean,
            "penalty": 3.0 * mean,
        }
    )


def reconstruction_of(rows, weight=None):
    return make_module()(Batch(rows, weight))["reconstruction"].value


def test_reconstruction_is_minus_the_mean_log_likelihood():
    x = normal(3, N_FEATURES).float()
    module = make_module()
    expected = -module.observation.log_likelihood(x, module.decoder(module.code(x))).mean()
    torch.testing.assert_close(reconstruction_of(x), expected)


def test_weight_of_two_is_the_row_twice_in_the_loss():
    x = normal(2, N_FEATURES).float()
    twice = reconstruction_of(x[[0, 0, 1]])
    weighted = reconstruction_of(x, torch.tensor([2.0, 1.0]) / 1.5)
    torch.testing.assert_close(weighted, twice)


# The optimiser.


def groups_of(optimizer, module):
    """Return the parameter groups, as names."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return [
        ({names[id(parameter)] for parameter in group["params"]}, group)
        for group in optimizer.param_groups
    ]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_laws_decay_is_for_matrices_alone_and_nothing_is_left_out(name):
    module = make_module()
    groups = groups_of(make_optimizer(name, module, 0.1, weight_decay=0.5), module)
    decayed = set.union(*(names for names, group in groups if group["weight_decay"] == 0.5))
    rest = [names for names, group in groups if group["weight_decay"] == 0.0]
    every = dict(module.named_parameters())
    assert decayed == {name for name in every if name.endswith("weight")}
    assert sorted([*decayed, *(name for names in rest for name in names)]) == sorted(every)
    for _, group in groups:
        assert group["initial_lr"] == group["lr"]
        assert group["fused"]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_laws_decay_shrinks_matrices_where_there_is_no_gradient(name):
    module = make_module()
    before = copy.deepcopy(dict(module.named_parameters()))
    optimizer = make_optimizer(name, module, 0.1, weight_decay=0.5)
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for key, parameter in module.named_parameters():
        if key.endswith("weight"):
            assert parameter.norm() < before[key].norm()
        else:
            assert torch.equal(parameter, before[key])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_laws_a_step_goes_down_the_gradient(name):
    module = make_module()
    before = copy.deepcopy(dict(module.named_parameters()))
    optimizer = make_optimizer(name, module, 0.01, weight_decay=0.0)
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert all((p < before[key]).all() for key, p in module.named_parameters())


def test_free_parameters_of_the_likelihood_are_faster_than_weights():
    module = make_module()
    groups = groups_of(make_optimizer("adam", module, 0.1, 0.0), module)
    rates = {name: group["lr"] for names, group in groups for name in names}
    assert rates.pop("observation.state.trained.log_variance") > 0.1
    assert set(rates.values()) == {0.1}


def test_sgd_has_nesterov_momentum():
    (group, *_) = make_optimizer("sgd", make_module(), 0.1, 0.0).param_groups
    assert group["nesterov"]
    assert group["momentum"] == 0.9


def test_optimizer_of_the_user_gets_the_groups():
    module = make_module(Bernoulli())
    optimizer = make_optimizer(torch.optim.RMSprop, module, 0.1, 0.2)
    assert isinstance(optimizer, torch.optim.RMSprop)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.2, 0.0]


# What "auto" stands for.


def test_automatic_batches_and_epochs():
    assert choose_batch_size("auto", 10_000) == 128
    assert choose_batch_size("auto", 7) == choose_batch_size(50, 7) == 7
    assert choose_batch_size(3, 7) == 3
    assert choose_n_epochs(12, 10**6, "auto") == 12
    few, middle, many = (choose_n_epochs("auto", n, "auto") for n in (10, 128 * 400, 10**7))
    assert (few, middle, many) == (500, 50, 10)
    assert choose_n_epochs("auto", 4000, 10) == 50


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("linear", [100, 100, 50]),
        ("words", [15, 15, 12]),
        ("linear words", [18, 18, 10]),
        ("twice", [500, 100, 25]),
    ],
)
def test_a_start_in_closed_form_has_a_budget_of_its_own(kind, expected):
    batch_size = choose_batch_size("auto", 10**6, kind)
    n_rows = (10, batch_size * 50, batch_size * 400)
    assert [choose_n_epochs("auto", n, "auto", kind) for n in n_rows] == expected


def test_device_that_is_named_is_taken():
    assert choose_device("cpu") == "cpu"
    assert choose_device("auto") in ("cpu", "cuda", "mps")


@pytest.mark.parametrize(
    ("n_rows", "csr", "expected"), [(1, False, 1), (10**8, False, 2), (10**8, True, 1)]
)
def test_small_work_has_one_thread_and_the_number_is_put_back(n_rows, csr, expected):
    module = make_module(plan=Plan("exact") if csr else DENSE)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyError), threads_for(n_rows * module.operations):
            assert torch.get_num_threads() == expected
            raise KeyError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


# Callbacks, on a net that does nothing by itself.


class Told(nn.Module):
    """A bottleneck that remembers what it was told."""

    def __init__(self):
        super().__init__()
        self.n_steps, self.progress = None, []

    def on_train_begin(self, n_steps):
        self.n_steps = n_steps

    def on_epoch_begin(self, progress):
        self.progress.append((progress, self.training))


def idle_net(rate=0.1):
    module = nn.Sequential(nn.Linear(2, 2))
    module.bottleneck = Told()
    module.weights_to_decay = lambda: [module[0].weight]
    optimizer = torch.optim.SGD(module.parameters(), lr=rate)
    for group in optimizer.param_groups:
        group["initial_lr"] = rate
    return SimpleNamespace(
        module_=module,
        optimizer_=optimizer,
        history=History(),
        lr=rate,
        lowest_losses={},
        failed=False,
    )


def make_rule(n_epochs=50, schedule=None, tol=0.0, n_iter_no_change=3, start=0.0):
    return Convergence(schedule or Constant(), n_epochs, tol, n_iter_no_change, start)


def run(rule, objective, net=None, each_epoch=lambda net, epoch: None, keep_best=False):
    """Run a training on values of its objective, one an epoch; return the rate of every step."""
    net, rates, n_batches = net or idle_net(), [], 2
    stopping = Stopping(rule, "train_objective", keep_best)
    callbacks = [Clock(rule.n_epochs, n_batches), LearningRate(rule, n_batches), stopping]

    def notify(event, **kwargs):
        for callback in callbacks:
            getattr(callback, event)(net, **kwargs)

    notify("on_train_begin")
    try:
        for epoch, value in zip(range(rule.n_epochs), objective, strict=False):
            net.history.new_epoch()
            notify("on_epoch_begin")
            for _ in range(n_batches):
                notify("on_batch_begin", training=True)
                rates.append(net.optimizer_.param_groups[0]["lr"])
                notify("on_batch_begin", training=False)
            net.history.record(stopping.monitor, value)
            each_epoch(net, epoch + 1)
            notify("on_epoch_end")
    except EndOfTraining:
        pass
    notify("on_train_end")
    assert stopping.best_state is None
    return rates


def falling(n_epochs, share=0.5):
    return [100.0 * share**epoch for epoch in range(n_epochs)]


def test_training_goes_on_while_the_objective_falls():
    rule = make_rule(20)
    assert run(rule, falling(20)) == [0.1] * 40
    assert (rule.epoch, rule.converged_at) == (20, None)
    assert not rule.came_to_an_end


def test_training_cools_down_on_a_plateau_and_stops():
    rule = make_rule()
    rates = run(rule, [5.0] * 50)
    # The first epoch improves on nothing; three more without improvement are a plateau.
    assert rule.converged_at == 4
    cooling = 1 - (np.arange(6) + 0.5) / 6  # three epochs of two steps, in the middle of each
    np.testing.assert_allclose(rates, 0.1 * np.array([1.0] * 8 + cooling.tolist()))
    assert rule.epoch == 7


def test_cooling_is_not_taken_back_when_the_objective_falls_again():
    rule = make_rule()
    run(rule, [5.0] * 5 + falling(45))
    assert rule.epoch == 7


def test_an_improvement_starts_the_waiting_anew():
    rule = make_rule()
    run(rule, [5.0, 5.0, 5.0, 4.0, 4.0, 4.0, 4.0] + [4.0] * 20)
    assert rule.converged_at == 7


@pytest.mark.parametrize(("tol", "converged_at"), [(0.05, None), (0.2, 5)])
def test_tol_is_a_share_of_the_fall_so_far(tol, converged_at):
    # After a fall of 100, each epoch improves by 10: a tenth of it.
    rule = make_rule(6, tol=tol)
    run(rule, [200.0, 100.0, 90.0, 80.0, 70.0, 60.0])
    assert rule.converged_at == converged_at


@pytest.mark.parametrize(("factor", "shift"), [(1e-4, 0.0), (1.0, 1e3), (1e5, -1e6)])
def test_convergence_depends_neither_on_the_unit_nor_on_the_zero_of_the_objective(factor, shift):
    values = np.array(falling(50, 0.8))
    plain, other = make_rule(tol=1e-2), make_rule(tol=1e-2)
    run(plain, values)
    run(other, factor * values + shift)
    assert plain.converged_at == other.converged_at
    assert 10 < plain.converged_at < 40


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_objective_that_is_not_finite_says_nothing(value):
    rule = make_rule(30, tol=0.05)
    run(rule, [value] * 8 + falling(4) + [value] + [12.5] * 20)
    # The first that is finite begins the fall; without improvement there are three to wait for.
    assert (rule.first, rule.best) == (100.0, 12.5)
    assert rule.converged_at == 8 + 4 + 1 + 3
    never = make_rule(10)
    run(never, [value] * 10)
    assert never.converged_at is None


def test_objective_is_not_looked_at_before_the_start():
    rule = make_rule(20, start=0.5)
    run(rule, [5.0] * 20)
    # Epoch 11 is the first that is looked at.
    assert rule.converged_at == 14


def test_rate_follows_the_schedule_step_by_step():
    rule = make_rule(5, schedule=Cosine(warmup=0.2))
    # In the middle of each step, so that the first one of a warm-up moves the weights.
    expected = [0.1 * Cosine(warmup=0.2)((step + 0.5) / 10) for step in range(10)]
    np.testing.assert_allclose(run(rule, falling(5)), expected, atol=1e-12)


def test_schedule_and_cooling_are_multiplied():
    rates = run(make_rule(20, schedule=Cosine(warmup=0.0)), [5.0] * 20)
    factors = np.array([Cosine(warmup=0.0)((step + 0.5) / 40) for step in range(14)])
    factors[8:] *= 1 - (np.arange(6) + 0.5) / 6
    np.testing.assert_allclose(rates, 0.1 * factors)


def test_rate_is_back_at_the_start_when_a_training_is_over():
    net = idle_net()
    for schedule in (Cosine(), Constant()):  # cooled by the schedule, cooled on a plateau
        run(make_rule(schedule=schedule), [5.0] * 50, net)
        assert run(make_rule(1), [1.0], net) == [0.1, 0.1]


def test_rate_that_a_scheduler_has_set_is_left_alone():
    net = idle_net()
    net.optimizer_.param_groups[0]["lr"] = 0.03
    assert run(make_rule(3), falling(3), net) == [0.03] * 6


@pytest.mark.parametrize(("keep_best", "expected"), [(True, 3.0), (False, 6.0)])
def test_best_weights_are_those_at_the_lowest_objective(keep_best, expected):
    def number_the_weights(net, epoch):
        nn.init.constant_(net.module_[0].weight, float(epoch))

    net = idle_net()
    run(make_rule(6), [5.0, 4.0, 3.0, 3.0, 7.0, 8.0], net, number_the_weights, keep_best)
    assert (net.module_[0].weight == expected).all()


def test_best_weights_are_not_for_a_training_that_an_error_broke_off():
    net, stopping = idle_net(), Stopping(make_rule(6), "train_objective", keep_best=True)
    stopping.on_train_begin(net)
    stopping.on_epoch_begin(net)
    net.history.new_epoch()
    net.history.record("train_objective", 1.0)
    stopping.on_epoch_end(net)
    set_weights(net, 7.0)  # what the guard went back to, say
    stopping.on_epoch_begin(net)
    net.failed = True
    stopping.on_train_end(net)
    assert (net.module_[0].weight == 7.0).all()


def test_bottleneck_is_told_how_far_the_training_is():
    net = idle_net()
    net.module_.eval()
    run(make_rule(4), falling(4), net)
    told = net.module_.bottleneck
    assert told.n_steps == 8
    assert told.progress == [(0.0, True), (0.25, True), (0.5, True), (0.75, True)]


# The guard.


def end_epoch(guard, net, loss):
    net.history.new_epoch()
    net.history.record("train_loss", loss)
    guard.on_epoch_end(net)


def set_weights(net, value):
    nn.init.constant_(net.module_[0].weight, value)


@pytest.mark.parametrize(
    ("loss", "weight"), [(np.nan, 9.0), (np.inf, 9.0), (1.0, np.nan), (1.0, -np.inf)]
)
def test_guard_restores_the_last_finite_weights_and_names_the_epoch(loss, weight):
    net, guard = idle_net(rate=0.25), FiniteGuard()
    guard.on_train_begin(net)
    for value in (1.0, 2.0):
        set_weights(net, value)
        end_epoch(guard, net, 1.0)
    set_weights(net, weight)
    with pytest.raises(NonFiniteLossError) as error:
        end_epoch(guard, net, loss)
    assert (net.module_[0].weight == 2.0).all()
    for words in ("in epoch 3", f"loss {loss!r}", "are kept"):
        assert words in str(error.value)
    assert guard.kept is None


def test_guard_restores_the_first_weights_where_the_first_epoch_fails():
    net, guard = idle_net(), FiniteGuard()
    set_weights(net, 5.0)
    guard.on_train_begin(net)
    set_weights(net, np.nan)
    with pytest.raises(NonFiniteLossError, match="in epoch 1"):
        end_epoch(guard, net, np.nan)
    assert (net.module_[0].weight == 5.0).all()


def test_guard_looks_at_buffers_and_free_parameters():
    net, guard = idle_net(), FiniteGuard()
    net.module_.register_buffer("scale", torch.ones(2))
    guard.on_train_begin(net)
    net.module_.scale[1] = torch.inf
    with pytest.raises(NonFiniteLossError):
        end_epoch(guard, net, 1.0)
    assert net.module_.scale.tolist() == [1.0, 1.0]


def test_guard_lets_be_what_was_never_finite_and_names_the_buffer_that_was():
    net, guard = idle_net(), FiniteGuard()
    net.module_.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    net.module_[0].register_buffer("smallest", torch.full((2,), torch.inf))
    frozen = nn.Parameter(torch.tensor([0.0, -torch.inf]), requires_grad=False)
    net.module_.register_parameter("frozen", frozen)
    guard.on_train_begin(net)
    end_epoch(guard, net, 1.0)
    net.module_[0].smallest[0] = 3.0
    end_epoch(guard, net, 1.0)
    net.module_[0].smallest[0] = torch.inf
    with pytest.raises(NonFiniteLossError, match=r"buffer '0\.smallest' was no longer finite"):
        end_epoch(guard, net, 1.0)
    assert net.module_[0].smallest.tolist() == [3.0, torch.inf]


def test_guard_lets_a_finite_training_pass_and_keeps_nothing():
    net, guard = idle_net(), FiniteGuard()
    guard.on_train_begin(net)
    set_weights(net, 3.0)
    end_epoch(guard, net, -1e6)
    guard.on_train_end(net)
    assert (net.module_[0].weight == 3.0).all()
    assert guard.kept is None


def test_error_of_the_guard_can_be_caught_by_its_standard_class():
    assert issubclass(NonFiniteLossError, (SkaeError, FloatingPointError))


# The soft threshold.


def test_soft_threshold_gives_exact_zeros_and_shrinks_the_rest():
    net = idle_net(rate=0.1)
    layer = net.module_[0]
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.05, -0.05], [0.5, -0.5]]))
        layer.bias.fill_(0.05)
    callback = SoftThreshold(amount=2.0)  # times the rate: 0.2
    callback.on_train_begin(net)
    callback.on_batch_end(net, training=False)
    assert layer.weight.all()
    callback.on_batch_end(net, training=True)
    assert layer.weight[0].tolist() == [0.0, 0.0]
    torch.testing.assert_close(layer.weight[1], torch.tensor([0.3, -0.3]))
    torch.testing.assert_close(layer.bias, torch.full((2,), 0.05))


def test_soft_threshold_follows_the_rate_of_the_step():
    net = idle_net(rate=0.1)
    set_weights(net, 1.0)
    bias, weight = net.module_[0].bias, net.module_[0].weight
    # The first group is another one, with a rate of its own.
    groups = [{"params": [bias], "lr": 0.5}, {"params": [weight], "lr": 0.01}]
    net.optimizer_ = torch.optim.SGD(groups)
    callback = SoftThreshold(amount=2.0)
    callback.on_train_begin(net)
    callback.on_batch_end(net, training=True)
    torch.testing.assert_close(weight, torch.full((2, 2), 0.98))


# The progress bar.


def test_progress_bar_counts_training_batches_and_closes(capsys):
    net, bar = idle_net(), FitProgress(n_batches=6, description="Fitting", delay=0.0)
    bar.on_train_begin(net)
    for training in (True, True, False):
        bar.on_batch_end(net, training=training)
    assert (bar.bar.n, bar.bar.total) == (2, 6)
    net.history.new_epoch()
    net.history.record("train_loss", 12.345)
    bar.on_epoch_end(net)
    assert "12.3" in bar.bar.postfix
    shown = bar.bar
    bar.on_train_end(net)
    assert bar.bar is None
    assert shown.disable  # what tqdm says of a bar that is closed
    assert "Fitting" in capsys.readouterr().err


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_likelihood_laws_a_training_step_gives_every_parameter_a_gradient(name):
    module = make_module(LIKELIHOODS[name](), hidden=()).train()
    raw = normal(20, module.decoder[-1].out_features).float()
    x = module.observation.sample(raw, generator(), torch.full((20, 1), 6.0))
    forward(module, x)["reconstruction"].value.backward()
    for parameter in module.parameters():
        assert parameter.grad.any()
        assert torch.isfinite(parameter.grad).all()
