"""A training that goes on reads anew how to train, and makes no other model of the one it has."""

import contextlib
import copy
import io
import pickle

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, GradientNormClipping
from torch import nn

from skae import AutoencoderTransformer, SparseAutoencoderTransformer, VAETransformer
from skae._training.plain_data import Specification, same
from skae.exceptions import NonFiniteLossError
from skae.likelihoods import Bernoulli, Gaussian
from skae.networks import CustomNetwork
from skae.schedules import LinearWarmup
from skae.sparsity import L1
from tests.choices import ANSWERS, CHOICES, PAIRS, TABLES, ShiftedNormal
from tests.helpers import ESTIMATORS, QUICK, QUIET, every_estimator, low_rank, weights_of

pytestmark = QUIET

X = low_rank(60)
STEPS = {**QUICK, "batch_size": 20, "learning_rate": "constant", "warm_start": True}

STARTS = ("factor_analysis", "random")

#: What a model is: a change is an error.
OF_THE_MODEL = {
    *("n_components", "hidden_layer_sizes", "activation", "network", "init", "likelihood"),
    *("input_scaling", "sparse_method", "noise", "noise_level", "optimizer"),
    *("sparsity", "n_active", "sparsity_weight", "code_dropout"),
    *("prior", "beta", "kl_warmup", "free_bits", "n_importance_samples"),
}
#: How it is trained, and what it is asked: a change acts in the next fit.
OF_THE_TRAINING = {
    *("alpha", "l1_ratio", "batch_size", "learning_rate", "learning_rate_init", "max_iter", "tol"),
    *("n_iter_no_change", "early_stopping", "validation_fraction", "callbacks", "verbose"),
    *("random_state", "sampler", "sparse_output", "transform_n_active"),
}
#: Each with a test of its own.
OTHERS = {"warm_start", "device"}


def test_every_parameter_is_the_one_or_the_other():
    names = [*OF_THE_MODEL, *OF_THE_TRAINING, *OTHERS]
    assert len(names) == len(set(names))
    assert set(names) == set(CHOICES)


def both_directions(names):
    cases = [(kind, name, turn) for kind, name in PAIRS if name in names for turn in (1, -1)]
    return pytest.mark.parametrize(("Estimator", "name", "turn"), cases)


def at_first(Estimator, name, turn):
    """Return an estimator after one pass, the other value, what to ask, and the rows."""
    choice = CHOICES[name]
    one, other = (choice.one, choice.other)[::turn]
    settings = {**QUICK, "batch_size": 50, **choice.beside, name: one, "warm_start": True}
    rows = TABLES[choice.on]
    return Estimator(**settings).partial_fit(rows), other, choice.answer, rows


@both_directions(OF_THE_TRAINING)
def test_a_parameter_of_the_training_is_read_anew(Estimator, name, turn):
    estimator, other, answer, rows = at_first(Estimator, name, turn)
    unchanged = copy.deepcopy(estimator)
    found = []
    for one in (unchanged, estimator.set_params(**{name: other})):
        with contextlib.redirect_stdout(io.StringIO()) as output:
            one.fit(rows)
        ask = ANSWERS.get(answer, ANSWERS["scores"])
        found.append(bool(output.getvalue()) if answer == "output" else ask(one, rows))
    assert not np.array_equal(*found)


@both_directions(OF_THE_MODEL)
def test_a_parameter_of_the_model_that_changed_is_an_error(Estimator, name, turn):
    estimator, other, _, rows = at_first(Estimator, name, turn)
    before = weights_of(estimator)
    estimator.set_params(**{name: other})
    for method in (estimator.fit, estimator.partial_fit):
        with pytest.raises(ValueError, match=f"(?s){name}.*Got .*{name}=.*Set {name} back.*anew"):
            method(rows)
    np.testing.assert_array_equal(weights_of(estimator), before)
    estimator.set_params(warm_start=False).fit(rows)  # a new model, as the error says


def test_the_error_has_all_names_with_both_values():
    vae = VAETransformer(**QUICK, init="random").partial_fit(X)
    vae.set_params(n_components=4, kl_warmup=0.5)
    message = (
        r"built with n_components=3, kl_warmup=LinearWarmup\(\)\. Got n_components=4, "
        r"kl_warmup=LinearWarmup\(share=0\.5\) instead\. Set n_components and kl_warmup back"
    )
    with pytest.raises(ValueError, match=message):
        vae.partial_fit(X)
    vae.set_params(n_components=3, kl_warmup=0.25).partial_fit(X)


def test_auto_is_what_the_first_call_chose():
    vae = VAETransformer(**QUICK, init="random", kl_warmup=0.5).partial_fit(X)
    vae.set_params(init="auto", kl_warmup="auto").partial_fit(X)
    with pytest.raises(ValueError, match=r"init=Random\(\)\. Got init=FactorAnalysisInit\(\) inst"):
        vae.set_params(init="factor_analysis").partial_fit(X)
    vae = VAETransformer(3, random_state=0).partial_fit(X)
    with pytest.raises(ValueError, match="Set network back"):
        vae.set_params(network=CustomNetwork(nn.Linear, nn.Linear)).partial_fit(X)


@pytest.mark.parametrize("changed", [{"prior": ShiftedNormal()}, {"optimizer": "sgd"}])
def test_auto_starts_at_factor_analysis_where_that_is_the_model(changed):
    found = [VAETransformer(**QUICK, **more).partial_fit(X) for more in ({}, changed)]
    again = [
        VAETransformer(**QUICK, init=i, **m) for i, m in zip(STARTS, ({}, changed), strict=True)
    ]
    for one, other in zip(found, again, strict=True):
        np.testing.assert_array_equal(weights_of(one), weights_of(other.partial_fit(X)))


def test_another_likelihood_is_answered_before_its_rows():
    estimator = AutoencoderTransformer(**QUICK, likelihood="bernoulli").partial_fit(X > 0)
    with pytest.raises(ValueError, match=r"likelihood=Bernoulli\(\)\. Got likelihood=Gaussian"):
        estimator.set_params(likelihood="gaussian").partial_fit(X)


def test_other_words_for_the_same_are_no_change():
    flags = (X > 0).astype(float)
    estimator = SparseAutoencoderTransformer(**QUICK, likelihood="auto").partial_fit(flags)
    same = {"likelihood": Bernoulli(), "sparsity": L1(), "hidden_layer_sizes": [8], "n_active": 1}
    estimator.set_params(**same, network="mlp").partial_fit(flags)
    estimator.set_params(likelihood="auto", device="cpu").partial_fit(flags)
    assert estimator.n_iter_ == 3


@pytest.mark.parametrize("encoder", [nn.Linear(10, 3), nn.Linear])
def test_modules_of_the_user_are_the_same_while_they_are_not_changed(encoder):
    network = CustomNetwork(encoder, nn.Linear)
    estimator = AutoencoderTransformer(3, network=network, random_state=0).partial_fit(X)
    pickle.loads(pickle.dumps(estimator.partial_fit(X))).partial_fit(X)
    if isinstance(encoder, nn.Module):
        with torch.no_grad():
            encoder.weight.add_(1.0)
        with pytest.raises(ValueError, match="network"):
            estimator.partial_fit(X)


def lazy():
    return nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyBatchNorm1d(), nn.LazyLinear(3))


class Holds(nn.Module):
    """A linear layer, and what a module of the user's may hold beside it."""

    def __init__(self, buffer=None, beside=()):
        super().__init__()
        self.first, self.second = nn.Linear(10, 5), nn.Linear(5, 3)
        self.register_buffer("more", buffer)
        self.layers = {self.first, self.second, *beside}
        self.rates = {self.first: 1.0, self.second: 2.0}

    def forward(self, x):
        return self.second(self.first(x))


ENCODERS = {
    "lazy": lazy,
    "set of layers": Holds,
    "bfloat16": lambda: Holds(torch.ones(2, dtype=torch.bfloat16)),
    "bfloat16 number": lambda: Holds(torch.tensor(2.0, dtype=torch.bfloat16)),
    "complex": lambda: Holds(torch.ones(2, dtype=torch.complex64).conj()),
}


@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
def test_training_goes_on_with_modules_that_hold_anything(encoder):
    network = CustomNetwork(encoder(), nn.Linear)
    estimator = AutoencoderTransformer(3, network=network, random_state=0).partial_fit(X)
    assert estimator.partial_fit(X).n_iter_ == 2
    estimator.set_params(network=CustomNetwork(nn.LazyLinear(3, bias=False), nn.Linear))
    with pytest.raises(ValueError, match="network"):
        estimator.partial_fit(X)


def test_order_of_a_set_is_no_difference_and_its_members_are():
    one = Holds(beside=[nn.Linear(2, 2) for _ in range(6)])
    for _ in range(5):  # each with its members in other places of the memory
        other = copy.deepcopy(one)
        assert same(one, other)
    with torch.no_grad():
        next(layer for layer in other.layers if layer is other.first).bias.add_(1.0)
    assert not same(one, other)
    assert same({1, "a", (2.0,)}, {"a", (2.0,), 1})
    assert not same({1, 2}, {1, 3})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.int8, torch.bool])
def test_numbers_of_any_type_are_compared(dtype):
    one, other = torch.zeros(3, dtype=dtype), torch.zeros(3, dtype=dtype)
    assert same(one, other)
    other[1] = 1
    assert not same(one, other)
    assert not same(one.to_sparse(), other.to_sparse())


def test_layers_that_are_frozen_between_two_calls_are_a_change():
    network = CustomNetwork(nn.Linear(10, 3), nn.Linear(3, 10))
    estimator = AutoencoderTransformer(3, network=network, random_state=0).partial_fit(X)
    network.encoder.requires_grad_(False)
    with pytest.raises(ValueError, match=r"or requires_grad\) instead\. Set network back"):
        estimator.partial_fit(X)
    network.encoder.requires_grad_(True)
    estimator.partial_fit(X)


@pytest.mark.parametrize(
    ("name", "chosen", "on", "other"),
    [
        ("input_scaling", "fourth_moment", "low rank", "standard"),
        ("sparse_method", "dense", "low rank", "exact"),
        ("sparse_method", "exact", "wide flags", "dense"),
    ],
)
def test_what_auto_chose_is_no_other_model(name, chosen, on, other):
    rows = TABLES[on]
    likelihood = "bernoulli" if on == "wide flags" else "gaussian"
    for first in ("auto", chosen):
        estimator = AutoencoderTransformer(**QUICK, likelihood=likelihood, **{name: first})
        estimator.partial_fit(rows)
        for now in ("auto", chosen, "auto", chosen):
            estimator.set_params(**{name: now}).partial_fit(rows)
        estimator.set_params(**{name: other})
        with pytest.raises(ValueError, match=f"built with {name}='{chosen}'"):
            estimator.partial_fit(rows)


# Rate and decay.


def rates_of(estimator):
    names = ("role", "lr", "initial_lr", "weight_decay")
    return [[group[name] for name in names] for group in estimator.net_.optimizer_.param_groups]


@every_estimator
@pytest.mark.parametrize("optimizer", ["adam", "sgd", torch.optim.Adam])
def test_rate_and_decay_are_those_of_a_model_that_began_with_them(Estimator, optimizer):
    later = {"learning_rate_init": 1e-4, "alpha": 2.0, "l1_ratio": 0.25}
    settings = {**STEPS, "optimizer": optimizer}
    estimator = Estimator(**settings).partial_fit(X).set_params(**later).partial_fit(X)
    fresh = Estimator(**settings, **later).partial_fit(X)
    assert rates_of(estimator) == rates_of(fresh)
    estimator.set_params(alpha="auto").partial_fit(X)
    assert rates_of(estimator)[0][-1] == pytest.approx(0.75e-4)


def test_optimiser_with_groups_of_its_own_cannot_follow_and_says_so():
    def one_group(groups):
        groups = list(groups)
        parameters = [weight for group in groups for weight in group["params"]]
        return torch.optim.SGD([{"params": parameters, "lr": 1e-3, "initial_lr": 1e-3}])

    estimator = AutoencoderTransformer(**STEPS, optimizer=one_group).partial_fit(X).partial_fit(X)
    with pytest.raises(ValueError, match="alpha cannot change: SGD was made with groups of its"):
        estimator.set_params(learning_rate_init=1e-4).partial_fit(X)


@every_estimator
def test_lower_rate_goes_on_where_a_higher_one_exploded(Estimator):
    estimator = Estimator(**{**STEPS, "max_iter": 30}).fit(X)
    with pytest.raises(NonFiniteLossError, match=r"learning_rate_init is 1000000\.0"):
        estimator.set_params(learning_rate_init=1e6).fit(X)
    estimator.set_params(learning_rate_init=1e-3).fit(X)
    assert np.isfinite(estimator.score(X))


@every_estimator
@pytest.mark.parametrize("on", ["low rank", "wide flags"])
def test_rate_and_decay_after_a_loss_that_was_not_finite_are_those_asked_for(Estimator, on):
    kind = {"likelihood": "bernoulli", "sparse_method": "sampled"} if on == "wide flags" else {}
    estimator = Estimator(**{**STEPS, **kind}).partial_fit(TABLES[on])
    later = {"learning_rate_init": 0.05, "alpha": 0.5}
    estimator.set_params(**later, callbacks=[Spoils()])
    with pytest.raises(NonFiniteLossError):
        estimator.partial_fit(TABLES[on])
    estimator.set_params(callbacks=None).partial_fit(TABLES[on])
    fresh = Estimator(**{**STEPS, **kind}, **later).partial_fit(TABLES[on])
    assert rates_of(estimator) == rates_of(fresh)


# Callbacks.


class Spoils(Callback):
    """Makes a weight NaN, as a step that goes wrong does."""

    def on_batch_end(self, net, training=False, **kwargs):
        with torch.no_grad():
            next(net.module_.parameters()).fill_(torch.nan)


class Recorder(Callback):
    """Counts epochs, and notes the kinds of gradients."""

    def __init__(self):
        self.epochs, self.sparse = 0, False

    def on_epoch_end(self, net, **kwargs):
        self.epochs += 1


class WatchesGradients(Recorder):
    def on_grad_computed(self, net, named_parameters, **kwargs):
        self.sparse |= any(value.grad.is_sparse for _, value in named_parameters)


class Failure(Callback):
    def on_epoch_end(self, net, **kwargs):
        raise RuntimeError("stopped by a callback")


@every_estimator
def test_callbacks_that_are_there_are_called_and_those_gone_are_not(Estimator):
    first, second = Recorder(), Recorder()  # alike, and not the same
    estimator = Estimator(**STEPS, callbacks=[first]).partial_fit(X)
    estimator.set_params(callbacks=[second]).partial_fit(X).fit(X)
    assert (first.epochs, second.epochs) == (1, 6)
    estimator.callbacks.append(first)
    estimator.partial_fit(X)
    assert (first.epochs, second.epochs) == (2, 7)
    estimator.set_params(callbacks=None).partial_fit(X)
    assert (first.epochs, second.epochs) == (2, 7)


def test_callbacks_are_checked_whenever_they_come():
    estimator = AutoencoderTransformer(**STEPS).partial_fit(X)
    with pytest.raises(ValueError, match="callbacks must hold skorch callbacks"):
        estimator.set_params(callbacks=[5]).partial_fit(X)


def test_callback_that_comes_to_look_at_gradients_sees_whole_ones():
    rows = TABLES["wide flags"]
    settings = {**QUICK, "likelihood": "bernoulli", "sparse_method": "sampled", "batch_size": 5}
    estimator = AutoencoderTransformer(**settings).partial_fit(rows)
    watcher = WatchesGradients()
    estimator.set_params(callbacks=[watcher, GradientNormClipping(1.0)]).partial_fit(rows)
    assert watcher.epochs == 1
    assert not watcher.sparse


@every_estimator
@pytest.mark.parametrize("on", ["low rank", "wide flags"])
def test_failure_takes_back_what_the_training_had_changed(Estimator, on):
    rows = TABLES[on]
    kind = {"likelihood": "bernoulli", "sparse_method": "sampled"} if on == "wide flags" else {}
    estimator = Estimator(**{**STEPS, **kind}).partial_fit(rows)
    unchanged, before = copy.deepcopy(estimator), estimator.get_params()
    changes = {"learning_rate_init": 0.1, "alpha": 1.0, "l1_ratio": 0.5, "random_state": 5}
    with pytest.raises(RuntimeError, match="stopped by a callback"):
        estimator.set_params(**changes, callbacks=[Failure()]).fit(rows)
    np.testing.assert_array_equal(weights_of(estimator), weights_of(unchanged))
    estimator.set_params(**before)
    np.testing.assert_array_equal(
        weights_of(estimator.partial_fit(rows)), weights_of(unchanged.partial_fit(rows))
    )


# Device, seed, and the end of a warm start.


def test_device_that_was_named_and_is_not_here_does_not_matter(monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("skae._training.build.choose_device", lambda device: "cpu")
        estimator = AutoencoderTransformer(**STEPS, device="cuda").partial_fit(X)
    estimator.partial_fit(X)  # as after loading: the network has come to the CPU
    estimator.set_params(device="auto").partial_fit(X)
    with pytest.raises(ValueError, match=r"built with device='cpu'\. Got device='meta' instead"):
        estimator.set_params(device="meta").partial_fit(X)


def test_seed_stays_unless_another_is_named():
    estimator = AutoencoderTransformer(**STEPS).partial_fit(X)
    unchanged = copy.deepcopy(estimator).partial_fit(X)
    anything = copy.deepcopy(estimator).set_params(random_state=None).partial_fit(X)
    np.testing.assert_array_equal(weights_of(anything), weights_of(unchanged))


@every_estimator
def test_without_warm_start_all_is_new(Estimator):
    estimator = Estimator(**STEPS).fit(X).set_params(warm_start=False, n_components=5)
    fresh = Estimator(**{**STEPS, "n_components": 5}).fit(X)
    np.testing.assert_array_equal(weights_of(estimator.fit(X)), weights_of(fresh))


# Specifications.


@pytest.mark.parametrize("Estimator", ESTIMATORS)
def test_specifications_of_equal_parameters_are_equal(Estimator):
    def specs(**changes):
        model = Estimator(**{**STEPS, **changes}).partial_fit(X)._model
        return model.spec, model.training

    for one, other in zip(specs(), specs(likelihood=Gaussian()), strict=True):
        assert isinstance(one, Specification)
        assert one == other
        assert len({one, other}) == 1
    changed, trained = specs(likelihood=Gaussian(variance="shared"), alpha=3.0)
    assert changed != specs()[0]
    assert trained != specs()[1]
    assert LinearWarmup() != LinearWarmup()  # they can be changed, and so they are not
