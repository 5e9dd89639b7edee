"""What components declare is trained and kept by the network, and what they hide is refused."""

import copy
import itertools
import math
import pickle
import warnings
from numbers import Integral, Real

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from torch import nn

from skae import (
    AutoencoderTransformer,
    DenoisingAETransformer,
    SparseAutoencoderTransformer,
    VAETransformer,
)
from skae._state import ROLES, State
from skae._training.bottlenecks import SparseBottleneck, Step, VariationalBottleneck
from skae._training.bottlenecks.variational import bounded_posterior
from skae._training.optimizers import make_optimizer
from skae.constraints import Interval
from skae.exceptions import PosteriorCollapseWarning
from skae.likelihoods import Gaussian, Likelihood
from skae.networks import MLP, CustomNetwork, Network
from skae.noise import Noise
from skae.outliers import Criterion
from skae.priors import Prior, StandardNormal
from skae.samplers import Sampler
from skae.schedules import Constant, Schedule
from skae.sparsity import L1, Sparsity
from tests.helpers import QUICK, QUIET, VOCABULARIES, generator, low_rank, normal

pytestmark = QUIET

X = low_rank(240, 12, 5)
FORMATS = {"dense": np.asarray, "csr": sp.csr_array}
every_format = pytest.mark.parametrize("as_format", FORMATS.values(), ids=FORMATS)


# Components as users write them.


class TrainedThreshold(Sparsity):
    """Keeps what is above a threshold, trained for each unit (Rajamanoharan et al. 2024)."""

    _parameter_constraints = {
        "start": [Interval(Real, 0, None, closed="neither")],
        "width": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(self, start=0.1, width=1.0):
        self.start = start
        self.width = width

    def parameters_at_start(self, n_components, n_active, generator):
        return {"log_threshold": torch.full((n_components,), self.start).log()}

    def role(self, name):
        return "logarithm"

    def jump(self, pre, log_threshold):
        threshold = log_threshold.exp()
        near = (pre - threshold).abs() < self.width / 2
        return pre > threshold, near * (threshold.detach() - threshold) / self.width

    def activate(self, pre, n_active, *, log_threshold):
        above, jump = self.jump(pre, log_threshold)
        return torch.where(above, pre, 0.0) + log_threshold.detach().exp() * jump

    def threshold(self, pre, n_active, *, log_threshold):
        return log_threshold.exp()

    def penalty(self, pre, code, gains, recent_rate, row_weight, n_active, *, log_threshold):
        above, jump = self.jump(pre, log_threshold)
        active = (above + jump).sum(dim=1)
        return active.mean() if row_weight is None else row_weight @ active / len(active)


class RunningThreshold(Sparsity):
    """Keeps the largest activations of a batch; new rows are held to their usual smallest."""

    penalised = False

    def buffers_at_start(self, n_components, n_active, generator):
        return {"usual": torch.zeros(())}

    def activate(self, pre, n_active, *, usual):
        return torch.where(pre > usual, pre.relu(), 0.0)

    def activate_in_training(self, pre, row_weight, n_active, *, usual):
        return self.activate(pre, n_active, usual=self.threshold(pre, n_active, usual=usual))

    def threshold(self, pre, n_active, *, usual):
        n_kept = min(round(n_active * len(pre)), pre.numel() - 1)
        return pre.flatten().topk(n_kept + 1).values[-2:].mean().relu()

    def buffers_after_step(self, pre, code, row_weight, n_active, *, usual):
        return {"usual": usual.lerp(self.threshold(pre, n_active, usual=usual), 0.05)}


class Mixture(Prior):
    """Gaussians of unit width about means that are trained."""

    _parameter_constraints = {"n_mixtures": [Interval(Integral, 1, None, closed="left")]}

    def __init__(self, n_mixtures=4):
        self.n_mixtures = n_mixtures

    def parameters_at_start(self, n_components, generator):
        means = torch.empty(self.n_mixtures, n_components).normal_(generator=generator)
        return {"means": means}

    def log_prob(self, code, *, means):
        distance = (code[:, None] - means).square() + math.log(2 * math.pi)
        return torch.logsumexp(-0.5 * distance.sum(dim=2), dim=1) - math.log(len(means))

    def sample(self, shape, generator, *, means):
        chosen = torch.randint(len(means), shape[:1], generator=generator)
        return means[chosen] + torch.empty(shape).normal_(generator=generator)


class MovingNormal(Prior):
    """A normal prior about the running mean of codes, with latents of their own."""

    factorises = True
    closed_form = True

    def buffers_at_start(self, n_components, generator):
        return {"centre": torch.zeros(n_components)}

    def divergence(self, mean, log_std, code, *, centre):
        return 0.5 * ((mean - centre).square() + (2 * log_std).exp() - 1) - log_std

    def log_prob(self, code, *, centre):
        return -0.5 * ((code - centre).square() + math.log(2 * math.pi)).sum(dim=1)

    def sample(self, shape, generator, *, centre):
        return centre + torch.empty(shape).normal_(generator=generator)

    def buffers_after_step(self, mean, log_std, code, row_weight, *, centre):
        return {"centre": centre.lerp(mean.mean(dim=0), 0.1)}


class ColumnNoise(Noise):
    """Gaussian noise as wide as each column is."""

    def buffers_at_start(self, mean, variance):
        return {"std": variance.sqrt()}

    def corrupt(self, x, level, generator, *, std):
        return x + level * std * torch.empty_like(x).normal_(generator=generator)


class FixedVariance(Likelihood):
    """A Gaussian whose variances are kept, and not trained."""

    location_scale = True

    def buffers_at_start(self, mean, variance):
        return {"kept": variance}

    def raw_from_mean(self, mean):
        return mean

    def mean(self, raw, **state):
        return raw

    def sample(self, raw, generator, *, kept):
        return raw + kept.sqrt() * torch.empty_like(raw).normal_(generator=generator)

    def log_prob(self, x, raw, *, kept):
        return -0.5 * ((x - raw).square() / kept + (2 * math.pi * kept).log())


SETTINGS = {"n_components": 8, "hidden_layer_sizes": (16,), "batch_size": 32, "random_state": 0}
CASES = {
    "threshold": SparseAutoencoderTransformer(sparsity=TrainedThreshold(), max_iter=8, **SETTINGS),
    "means": VAETransformer(prior=Mixture(), max_iter=8, **SETTINGS),
    "running threshold": SparseAutoencoderTransformer(
        sparsity=RunningThreshold(), max_iter=8, **SETTINGS
    ),
    "running centre": VAETransformer(prior=MovingNormal(), max_iter=8, **SETTINGS),
    "noise": DenoisingAETransformer(noise=ColumnNoise(), max_iter=5, **SETTINGS),
    "variance": AutoencoderTransformer(
        likelihood=FixedVariance(), input_scaling=None, max_iter=5, **SETTINGS
    ),
}
every_case = pytest.mark.parametrize("estimator", CASES.values(), ids=CASES)
MOVING = [name for name in CASES if name not in ("noise", "variance")]


def fitted(name, as_format=np.asarray, **changes):
    return clone(CASES[name]).set_params(**changes).fit(as_format(X))


def state_of(estimator):
    """Return what the component of an estimator trains and keeps, and how it started."""
    module = estimator.module_
    holders = [one for one in module.modules() if isinstance(one, State)]
    own = [one for one in holders if one.component.__class__.__module__ == __name__]
    (state,) = own
    return {name: value.detach().clone() for name, value in state.tensors().items()}


# They are trained.


@every_format
@pytest.mark.parametrize("name", MOVING)
def test_what_is_declared_moves_away_from_its_start(name, as_format):
    method = {"sparse_method": "exact"} if as_format is sp.csr_array else {}
    early = state_of(fitted(name, as_format, max_iter=1, **method))
    late = state_of(fitted(name, as_format, max_iter=20, **method))
    for key, value in late.items():
        assert torch.isfinite(value).all()
        assert (value - early[key]).abs().max() > 0.05


@every_format
def test_trained_thresholds_are_steered_to_the_number_of_active_units(as_format):
    changes = {"max_iter": 80, "sparsity__start": 0.02, "n_active": 2.0}
    method = {"sparse_method": "exact"} if as_format is sp.csr_array else {}
    estimator = fitted("threshold", as_format, **changes, **method)
    assert estimator.n_active_ == pytest.approx(2.0, rel=0.2)
    codes = estimator.transform(X)
    # A unit is off below its threshold, and not cut short above it.
    threshold = state_of(estimator)["log_threshold"].exp().numpy()
    smallest = np.where(codes > 0, codes, np.inf).min(axis=0)
    assert (smallest > threshold * (1 - 1e-5)).all()
    assert threshold.max() > 0.1


def test_gradients_of_a_jump_are_the_pseudo_derivatives_that_are_published():
    kind, width, pre = TrainedThreshold(width=0.5), 0.5, torch.tensor([[0.3, 0.9, 1.1, 1.3]])
    log_threshold = torch.zeros(4, requires_grad=True)
    near = torch.tensor([0.0, 1.0, 1.0, 0.0])
    code = kind.activate(pre, 1.0, log_threshold=log_threshold)
    assert torch.equal(code, torch.tensor([[0.0, 0.0, 1.1, 1.3]]))
    (found,) = torch.autograd.grad(code.sum(), [log_threshold])
    torch.testing.assert_close(found, -near / width)
    penalty = kind.penalty(pre, code, 1.0, None, None, 1.0, log_threshold=log_threshold)
    assert penalty.item() == 2.0
    (found,) = torch.autograd.grad(penalty, [log_threshold])
    torch.testing.assert_close(found, -near / width)


def clusters(seed):
    rng = np.random.RandomState(seed)
    centres = 4 * np.random.RandomState(1).normal(size=(4, 6))
    return centres[rng.randint(4, size=400)] + 0.3 * rng.normal(size=(400, 6))


def test_means_that_were_trained_explain_new_rows_better_than_those_of_the_start():
    vae = VAETransformer(2, prior=Mixture(), max_iter=60, batch_size=64, random_state=0)
    vae.fit(clusters(0))
    held_out = clusters(5)
    trained = vae.score(held_out)
    start = Mixture().parameters_at_start(2, generator(3))["means"]
    with torch.no_grad():
        vae.module_.bottleneck.state.trained["means"].copy_(start)
    assert trained > vae.score(held_out) + 0.5


def test_codes_of_new_rows_are_drawn_about_the_trained_means():
    vae = VAETransformer(2, prior=Mixture(2), max_iter=2, random_state=0).fit(clusters(0))
    with torch.no_grad():
        vae.module_.bottleneck.state.trained["means"].copy_(torch.tensor([[-50.0], [50.0]]))
    codes = vae._model._draw_codes(200, seed=0)
    assert (np.abs(np.abs(codes) - 50) < 5).all()
    assert 60 < (codes[:, 0] > 0).sum() < 140


@pytest.mark.parametrize("n_importance_samples", [1, 5])
def test_score_of_a_prior_without_single_latents_is_that_of_its_formula(n_importance_samples):
    """A mixture of equal parts is one normal distribution, with a closed form."""
    settings = (1.0, Constant(), 0.0, n_importance_samples, 0)
    several = VariationalBottleneck(3, Mixture(3), *settings)
    one = VariationalBottleneck(3, MovingNormal(), *settings)
    centre = torch.tensor([0.5, -1.0, 2.0])
    with torch.no_grad():
        several.state.trained["means"].copy_(centre.expand(3, 3))
        one.state.kept.centre.copy_(centre)
    h = normal(20, 6).float()
    found, expected = (b.score(h, lambda code: code.sum(dim=1)) for b in (several, one))
    # Exact, for the points have the mean and the variance of a standard normal.
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    if n_importance_samples == 1:
        of_code, of_latents = (b.diagnostics(h)["kl"] for b in (several, one))
        assert of_code.shape == (20, 1)
        torch.testing.assert_close(of_code, of_latents.sum(dim=1, keepdim=True))


@pytest.mark.parametrize("n_importance_samples", [2, 5])
@pytest.mark.parametrize("k", [2, 20])
def test_kl_is_a_mean_over_a_posterior_however_few_draws_a_score_has(n_importance_samples, k):
    settings = (1.0, Constant(), 0.0, n_importance_samples, 0)
    several = VariationalBottleneck(k, Mixture(3), *settings, most_points=4)
    with torch.no_grad():  # a mixture of equal parts is a standard normal distribution
        several.state.trained["means"].zero_()
    h = 0.1 * normal(20, 2 * k).float()
    expected = StandardNormal().divergence(*bounded_posterior(h), None).sum(dim=1, keepdim=True)
    torch.testing.assert_close(several.diagnostics(h)["kl"], expected, rtol=1e-3, atol=1e-4)


# They are kept.


def test_running_threshold_is_for_new_rows_and_the_batch_decides_in_training():
    bottleneck = SparseBottleneck(4, RunningThreshold(), 1.0, None).train()
    h = normal(30, 4).float()
    seen = []
    for _ in range(200):
        train_on(bottleneck, h, lambda code: seen.append(code) or code.sum())
    assert (seen[-1] > 0).sum() == 30  # one a row, on average, whatever was kept before
    assert torch.equal(seen[0], seen[-1])
    torch.testing.assert_close(bottleneck.eval().code(h), seen[-1])
    before = bottleneck.state.kept.usual.clone()
    train_on(bottleneck, 10 * h, lambda code: seen.append(code) or code.sum())
    assert torch.equal(bottleneck.state.kept.usual, before)  # no step of a training
    assert (seen[-1] > 0).sum() > 40


def train_on(bottleneck, h, reconstruction):
    """Make a step of a training, without an optimiser; return the terms of its loss."""
    step = Step(reconstruction, lambda code: code.sum(dim=1), torch.ones(len(h)), lambda: 1.0)
    bottleneck.begin_step()
    terms = bottleneck(h, step)
    bottleneck.end_step()
    return terms


@every_format
def test_rule_that_looks_at_a_batch_keeps_its_promise_on_new_rows(as_format):
    estimator = fitted("running threshold", as_format, n_active=2.0, max_iter=40)
    new = as_format(low_rank(440, 12, 5)[240:])
    codes = estimator.transform(new)
    assert (codes > 0).sum(axis=1).mean() == pytest.approx(2.0, rel=0.15)
    one_by_one = np.vstack([estimator.transform(new[[i]]) for i in range(5)])
    np.testing.assert_allclose(one_by_one, codes[:5], rtol=1e-5, atol=1e-6)


def test_noise_and_likelihood_get_what_they_keep():
    noisy = state_of(fitted("noise"))["std"]
    assert noisy.shape == (12,)
    assert (noisy > 0).all()
    kept = state_of(fitted("variance"))["kept"]
    np.testing.assert_allclose(kept, X.var(axis=0), rtol=1e-5)


def test_state_of_a_likelihood_serves_sparse_rows_too():
    rows = sp.csr_array(np.where(np.abs(X) > 1, X, 0.0))
    estimator = fitted("variance", sparse_method="exact").fit(rows)
    assert estimator.sparse_method_ == "exact"
    np.testing.assert_allclose(
        estimator.score_samples(rows), estimator.score_samples(rows.toarray()), rtol=1e-4
    )


def test_buffer_may_change_though_a_gradient_still_needs_what_it_was():
    class Scaled(RunningThreshold):
        def activate_in_training(self, pre, row_weight, n_active, *, usual):
            return pre.relu() * (1 + usual)

    bottleneck = SparseBottleneck(4, Scaled(), 1.0, None).train()
    h = normal(5, 4).float().requires_grad_()
    terms = train_on(bottleneck, h, lambda code: code.sum())
    terms["reconstruction"].value.backward()
    torch.testing.assert_close(h.grad, (h > 0).float())
    assert bottleneck.state.kept.usual > 0


@pytest.mark.parametrize("changed", [{"other": torch.zeros(())}, {"usual": torch.zeros(2)}])
def test_buffers_that_nobody_declared_are_an_error(changed):
    class Wrong(RunningThreshold):
        def buffers_after_step(self, pre, code, row_weight, n_active, *, usual):
            return changed

    bottleneck = SparseBottleneck(4, Wrong(), 1.0, None).train()
    with pytest.raises(ValueError, match=r"buffers_after_step of Wrong must return .*us"):
        train_on(bottleneck, normal(5, 4).float(), lambda code: code.sum())


# They belong to the fit, not to the object.


@every_case
def test_object_of_the_user_is_as_it_was_and_the_same_seed_gives_the_same_fit(estimator):
    ours = clone(estimator)
    (component,) = [
        value for value in ours.get_params(deep=False).values() if hasattr(value, "declares")
    ]
    before = copy.deepcopy(vars(component))
    first = state_of(ours.fit(X))
    assert vars(component) == before
    again = state_of(clone(ours).fit(X))
    assert all(torch.equal(first[name], again[name]) for name in first)


@every_case
def test_what_was_trained_is_stored_by_pickle_and_copied(estimator):
    ours = clone(estimator).fit(X)
    for loaded in (pickle.loads(pickle.dumps(ours)), copy.deepcopy(ours)):
        _assert_same(loaded, ours)


@every_case
def test_what_was_trained_is_stored_by_skops(estimator):
    skops = pytest.importorskip("skops.io")
    ours = clone(estimator).fit(X)
    data = skops.dumps(ours)
    _assert_same(skops.loads(data, trusted=skops.get_untrusted_types(data=data)), ours)


def _assert_same(loaded, ours):
    expected = state_of(ours)
    assert all(torch.equal(value, expected[name]) for name, value in state_of(loaded).items())
    np.testing.assert_array_equal(loaded.score_samples(X), ours.score_samples(X))
    np.testing.assert_array_equal(loaded.sample(3, random_state=0), ours.sample(3, random_state=0))


@pytest.mark.parametrize("name", MOVING)
def test_warm_start_goes_on_from_the_trained_state(name):
    estimator = fitted(name, warm_start=True)
    before = state_of(estimator)
    start = state_of(fitted(name, max_iter=1))
    estimator.set_params(max_iter=1, learning_rate="constant").fit(X)
    for key, after in state_of(estimator).items():
        step = (after - before[key]).abs().max()
        assert 0 < step < (before[key] - start[key]).abs().max()


@pytest.mark.parametrize("name", MOVING)
def test_training_that_is_interrupted_leaves_the_state_as_it_was(name):
    from skorch.callbacks import Callback

    class Interrupt(Callback):
        def on_batch_end(self, net, **kwargs):
            if armed and next(armed) > 3:
                raise KeyboardInterrupt

    armed = []
    estimator = fitted(name, callbacks=[Interrupt()], max_iter=2)
    before = state_of(estimator)
    armed = itertools.count()
    with pytest.raises(KeyboardInterrupt):
        estimator.partial_fit(X)
    assert all(torch.equal(value, before[key]) for key, value in state_of(estimator).items())


@pytest.mark.parametrize(
    ("name", "grid"),
    [
        ("threshold", {"sparsity__start": [0.05, 5.0], "sparsity__width": [1.0]}),
        ("means", {"prior__n_mixtures": [1, 4]}),
    ],
)
def test_parameters_of_the_object_can_be_searched_over(name, grid):
    estimator = clone(CASES[name]).set_params(max_iter=3)
    search = GridSearchCV(estimator, grid, cv=2).fit(X)
    scores = search.cv_results_["mean_test_score"]
    assert np.isfinite(scores).all()
    assert scores[0] != scores[1]
    assert search.best_params_.keys() == grid.keys()


def test_objects_can_be_cloned():
    for one in (TrainedThreshold(width=0.3), Mixture(7)):
        assert clone(one).get_params() == one.get_params()


# Roles.


class Roles(Sparsity):
    """Declares one tensor for each role, whatever its shape would say."""

    def parameters_at_start(self, n_components, n_active, generator):
        one = torch.ones(n_components)
        return {"weight": one, "other": one.expand(2, -1), "logarithm": one.expand(3, -1)}

    def role(self, name):
        return name


def test_roles_decide_about_rate_and_decay():
    module = SparseBottleneck(4, Roles(), 1.0, None)
    module.weights_to_decay = list  # those of a network, which is not here
    optimizer = make_optimizer("adam", module, 0.1, weight_decay=0.5)
    found = {
        len(parameter) if parameter.ndim > 1 else 1: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert found == {1: (0.1, 0.5), 2: (0.1, 0.0), 3: (1.0, 0.0)}
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    trained = module.state.trained
    assert (trained["weight"] < 1).all()
    assert (trained["other"] == 1).all()
    assert (trained["logarithm"] == 1).all()
    assert set(ROLES) == set(trained)


@pytest.mark.parametrize("l1_ratio", [0.0, 0.5, 1.0])
def test_what_has_the_role_of_a_weight_decays_and_is_drawn_to_zeros(l1_ratio):
    class Shift(L1):
        """A code that is moved, which makes no difference to the loss here."""

        def parameters_at_start(self, n_components, n_active, generator):
            return {"weight": torch.ones(n_components), "other": torch.ones(n_components)}

        def role(self, name):
            return name

        def activate(self, pre, n_active, *, weight, other):
            return (pre + 0.0 * weight + 0.0 * other).relu()

        def threshold(self, pre, n_active, *, weight, other):
            return 0.0

        def penalty(self, *args, weight, other):
            return super().penalty(*args)

    settings = {"alpha": 10.0, "l1_ratio": l1_ratio, "learning_rate": "constant"}
    estimator = SparseAutoencoderTransformer(sparsity=Shift(), **QUICK, **settings).fit(X)
    trained, n_steps = estimator.module_.bottleneck.state.trained, 5 * 2
    assert (trained["other"] == 1).all()
    expected = 1.0
    for _ in range(n_steps):
        expected = (1 - 0.02 * (1 - l1_ratio)) * expected - 0.02 * l1_ratio
    torch.testing.assert_close(trained["weight"], torch.full((3,), expected))


@pytest.mark.parametrize("name", ["threshold", "means"])
def test_decay_touches_neither_thresholds_nor_means(name):
    estimator = fitted(name, max_iter=1, alpha=10.0)
    (own,) = estimator.module_.bottleneck.state.trained.values()
    groups = estimator.net_.optimizer_.param_groups
    assert {group["weight_decay"] for group in groups} == {0.0, 10.0}
    (group,) = [g for g in groups if any(own is parameter for parameter in g["params"])]
    assert group["weight_decay"] == 0.0


def test_free_parameters_of_a_likelihood_are_logarithms_and_others_are_none_by_default():
    assert Gaussian().role("log_variance") == "logarithm"
    assert Mixture().role("means") == L1().role("any") == "other"


@pytest.mark.parametrize(
    ("value", "words"), [(np.zeros(3), "ndarray"), (torch.zeros(3, dtype=torch.long), "int64")]
)
def test_only_tensors_of_floating_point_numbers_can_be_declared(value, words):
    class Wrong(Sparsity):
        def parameters_at_start(self, n_components, n_active, generator):
            return {"mine": value}

    estimator = SparseAutoencoderTransformer(sparsity=Wrong(), **QUICK)
    with pytest.raises(TypeError, match=f"Wrong must declare tensors.*'mine' of .*{words}"):
        estimator.fit(X)


def test_a_name_stands_for_one_tensor_and_a_role_is_one_that_is_known():
    class Twice(Sparsity):
        def parameters_at_start(self, n_components, n_active, generator):
            return {"mine": torch.zeros(3)}

        buffers_at_start = parameters_at_start

    class Unknown(TrainedThreshold):
        def role(self, name):
            return "bias"

    for kind, words in ((Twice, "Twice declares 'mine' as"), (Unknown, "must be one of 'weight'")):
        with pytest.raises(ValueError, match=words):
            SparseAutoencoderTransformer(sparsity=kind(), **QUICK).fit(X)


NAMES = {
    "dot": (Sparsity, "a.b", "no name in Python"),
    "number": (Sparsity, 3, "no name in Python"),
    "word of Python": (Sparsity, "lambda", "no name in Python"),
    "mode": (Sparsity, "training", "torch has"),
    "dict": (Prior, "values", "torch has"),
    "latents": (Prior, "mean", "argument already"),
    "step": (Prior, "row_weight", "argument already"),
    "code": (Sparsity, "code", "argument already"),
    "size": (Sparsity, "n_active", "argument already"),
    "rows": (Likelihood, "x", "argument already"),
    "total": (Likelihood, "total", "argument already"),
    "noise": (Noise, "level", "argument already"),
}
OF_KIND = {
    Sparsity: (SparseAutoencoderTransformer, "sparsity", L1),
    Prior: (VAETransformer, "prior", StandardNormal),
    Likelihood: (AutoencoderTransformer, "likelihood", FixedVariance),
    Noise: (DenoisingAETransformer, "noise", ColumnNoise),
}


def declaring(base, method, value):
    """Return an estimator with a component of which a method returns a value."""
    Estimator, name, entry = OF_KIND[base]
    kind = type("Wrong", (entry,), {method: lambda self, *args, **given: value})
    return Estimator(**{name: kind()}, **QUICK)


@pytest.mark.parametrize(
    ("base", "name", "reason", "method"),
    [
        pytest.param(*case, method, id=f"{named}-{method}")
        for named, case in NAMES.items()
        for method in ("parameters_at_start", "buffers_at_start")
        if method in case[0].declares
    ],
)
def test_names_are_those_that_a_keyword_argument_of_its_own_can_have(base, name, reason, method):
    estimator = declaring(base, method, {name: torch.ones(3)})
    message = rf"{method} of Wrong must name.*Got {name!r} instead, which .*{reason}.*another name"
    with pytest.raises(ValueError, match=message):
        estimator.fit(X)


def test_names_that_no_method_of_the_kind_has_are_free():
    class Free(FixedVariance):
        def buffers_at_start(self, mean, variance):
            return {"mean": variance}

        def log_prob(self, x, raw, *, mean):
            return super().log_prob(x, raw, kept=mean)

    class FreePrior(StandardNormal):
        def buffers_at_start(self, n_components, generator):
            return {"total": torch.ones(())}

        def divergence(self, mean, log_std, code, *, total):
            return total * super().divergence(mean, log_std, code)

    for estimator in (AutoencoderTransformer(likelihood=Free()), VAETransformer(prior=FreePrior())):
        estimator.set_params(**QUICK).fit(X)


@pytest.mark.parametrize("base", OF_KIND)
@pytest.mark.parametrize("value", [None, [torch.ones(3)], torch.ones(3)], ids=["None", "list", "1"])
def test_declarations_are_dicts(base, value):
    method = base.declares[0]
    with pytest.raises(TypeError, match=f"{method} of Wrong must return a dict of tensors"):
        declaring(base, method, value).fit(X)


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [(None, TypeError, "must return a dict"), ({"usual": 1.0}, ValueError, "'usual' of float")],
)
def test_buffers_after_a_step_are_tensors_by_name(changed, error, words):
    kind = type(
        "Wrong", (RunningThreshold,), {"buffers_after_step": lambda *args, **given: changed}
    )
    with pytest.raises(error, match=f"buffers_after_step of Wrong.*{words}"):
        SparseAutoencoderTransformer(sparsity=kind(), **QUICK).fit(X)


def test_values_that_a_component_returns_are_copied_in_single_precision():
    start = torch.ones(3, dtype=torch.float64)

    class Keeps(Sparsity):
        def parameters_at_start(self, n_components, n_active, generator):
            return {"mine": start}

    state = State(Keeps(), n_components=3, n_active=1.0, generator=None)
    with torch.no_grad():
        state.trained["mine"].add_(1)
    assert (start == 1).all()
    assert state.tensors()["mine"].dtype == torch.float32


# What is hidden is refused.


def holding(value):
    """Return a sparsity that holds a value beside its parameters."""

    class Hidden(L1):
        def __init__(self):
            self.mine = value

    return Hidden()


HIDDEN = {
    "parameter": (nn.Parameter(torch.zeros(3)), "Parameter in its attribute mine,"),
    "module": (nn.Linear(3, 2), "Linear in its attribute mine,"),
    "tensor": (torch.zeros(3, requires_grad=True), "Tensor in its attribute mine,"),
    "list": ([1, nn.Parameter(torch.zeros(3))], r"Parameter in its attribute mine\[1\],"),
    "dict": ({"a": nn.ReLU()}, r"ReLU in its attribute mine\['a'\],"),
    "component": (holding(nn.Linear(2, 2)), r"Linear in its attribute mine\.mine,"),
}


@pytest.mark.parametrize(("value", "words"), HIDDEN.values(), ids=HIDDEN)
def test_torch_parameters_and_modules_outside_the_protocol_are_refused_at_fit(value, words):
    estimator = SparseAutoencoderTransformer(sparsity=holding(value), **QUICK)
    with pytest.raises(TypeError, match=f"Hidden holds a torch {words} which would never") as error:
        estimator.fit(X)
    assert "parameters_at_start" in str(error.value)
    assert not hasattr(estimator, "net_")


class Bare:
    """An object of no class that we know."""

    def __init__(self, value):
        self.value = value


WRAPPED = {
    "object": (Bare, r"mine\.value,"),
    "object in a list": (lambda value: [Bare(value)], r"mine\[0\]\.value,"),
    "set": (lambda value: {value}, r"mine\{\.\.\.\},"),
}


@pytest.mark.parametrize(("wrap", "path"), WRAPPED.values(), ids=WRAPPED)
def test_what_hides_in_other_objects_is_found(wrap, path):
    estimator = SparseAutoencoderTransformer(
        sparsity=holding(wrap(nn.Parameter(torch.zeros(3)))), **QUICK
    )
    with pytest.raises(TypeError, match=f"Parameter in its attribute {path}"):
        estimator.fit(X)


def test_objects_that_hold_themselves_hold_nothing_to_train():
    around = []
    component, bare = holding(around), Bare(None)
    bare.value = bare
    around += [component, bare, around, math, PCA(2).fit(X)]
    assert component.check() is component


class Slots:
    __slots__ = ("value",)


def lazily_made(keep):
    """Return a sparsity with a scale made in its first step; ``keep`` says where it stays."""

    class Lazy(L1):
        def penalty(self, pre, code, *args):
            return super().penalty(pre, code, *args) * keep(self).mean()

    return Lazy()


def as_attribute(component):
    if not hasattr(component, "scale_"):
        component.scale_ = nn.Parameter(torch.ones(3))
    return component.scale_


def in_slots(component):
    if not hasattr(component, "box_"):
        component.box_ = Slots()
        component.box_.value = nn.Parameter(torch.ones(3))
    return component.box_.value


OUTSIDE = nn.Parameter(torch.ones(3))
PLAIN = torch.ones(3, requires_grad=True)


@pytest.mark.parametrize("as_format", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize(
    ("keep", "words"),
    [
        (as_attribute, "Lazy holds a torch Parameter in its attribute scale_"),
        (in_slots, r"depends on a torch Parameter of shape \(3,\) that is in no module"),
        (lambda component: OUTSIDE, r"depends on a torch Parameter of shape \(3,\)"),
        (lambda component: PLAIN, r"depends on a torch Tensor of shape \(3,\) that is in no"),
    ],
    ids=["attribute", "slots", "global", "tensor"],
)
def test_what_comes_in_while_training_is_found_in_the_first_losses(keep, words, as_format):
    OUTSIDE.grad = PLAIN.grad = None
    method = {"sparse_method": "exact"} if as_format is sp.csr_array else {}
    estimator = SparseAutoencoderTransformer(sparsity=lazily_made(keep), **method, **QUICK)
    with pytest.raises(TypeError, match=f"{words}.*would never be trained.*parameters_at_start"):
        estimator.fit(as_format(X))
    assert not hasattr(estimator, "net_")


def test_likelihood_of_sparse_rows_that_makes_a_parameter_is_found():
    class Lazy(FixedVariance):
        def log_prob(self, x, raw, *, kept):
            if not hasattr(self, "scale_"):
                self.scale_ = nn.Parameter(torch.ones(()))
            return super().log_prob(x, raw, kept=kept) * self.scale_

    estimator = AutoencoderTransformer(likelihood=Lazy(), sparse_method="exact", **QUICK)
    with pytest.raises(TypeError, match="Lazy holds a torch Parameter in its attribute scale_"):
        estimator.fit(sp.csr_array(np.where(X > 1, X, 0.0)))


def test_layers_in_a_plain_list_are_found():
    class Listed(nn.Module):
        def __init__(self, n_inputs, n_outputs):
            super().__init__()
            self.last = nn.Linear(4, n_outputs)
            self.layers = [nn.Linear(n_inputs, 4)]

        def forward(self, x):
            return self.last(self.layers[0](x))

    network = CustomNetwork(Listed, nn.Linear)
    with pytest.raises(TypeError, match=r"shape \(4, 12\).*nn.ModuleList.*a plain list hides"):
        AutoencoderTransformer(3, network=network, random_state=0).fit(X)


def test_tensors_that_a_step_makes_for_itself_are_nobodys():
    class Contractive(L1):
        def penalty(self, pre, code, *args):
            moved = code.detach().requires_grad_()
            (slope,) = torch.autograd.grad(moved.square().sum(), moved, create_graph=True)
            return super().penalty(pre, code, *args) + slope.square().mean()

    SparseAutoencoderTransformer(sparsity=Contractive(), batch_size=20, **QUICK).fit(X)


def test_parameters_of_a_class_or_given_to_the_constructor_are_refused():
    class OfClass(StandardNormal):
        mine = nn.Parameter(torch.zeros(3))

    class Given(StandardNormal):
        def __init__(self, mine):
            self.mine = mine

    for prior in (OfClass(), Given(nn.Linear(3, 3))):
        with pytest.raises(TypeError, match="in its attribute mine, which would never be trained"):
            VAETransformer(prior=prior, **QUICK).fit(X)


def test_plain_tensors_and_modules_of_a_network_are_no_such_thing():
    SparseAutoencoderTransformer(sparsity=holding(torch.zeros(3)), **QUICK).fit(X)
    network = CustomNetwork(nn.Linear(12, 3), nn.Linear(3, 12))
    AutoencoderTransformer(3, network=network, max_iter=1, random_state=0).fit(X)


KINDS = {base: name for name, (_, base) in VOCABULARIES.items()}
NOT_ASKED = [
    pytest.param(base, method, id=f"{base.__name__}-{method}")
    for base in (Likelihood, Sparsity, Prior, Noise, Network, Sampler, Schedule, Criterion)
    for method in ("parameters_at_start", "buffers_at_start", "buffers_after_step")
    if method not in base.declares
]


@pytest.mark.parametrize(("base", "method"), NOT_ASKED)
def test_declaration_that_nobody_asks_for_is_refused(base, method):
    entry = next(iter(VOCABULARIES[KINDS[base]][0].values()))
    kind = type("Mine", (entry,), {method: lambda self, *args, **given: {}})
    with pytest.raises(TypeError, match=f"Mine has a method {method}, which is never") as error:
        kind().check()
    assert str(error.value).endswith(base.instead)


def test_every_kind_of_component_was_thought_of():
    assert {base for base in KINDS if base.declares} == {Likelihood, Sparsity, Prior, Noise}
    assert [base for base in KINDS if base.holds_modules] == [Network]
    assert type(MLP().check()) is MLP


# Priors without single latents.


def test_kl_has_one_entry_where_there_are_no_single_latents():
    assert fitted("running centre").kl_.shape == (8,)
    kl = fitted("means").kl_
    assert kl.shape == (1,)
    assert kl[0] > 0


def test_free_bits_need_single_latents():
    with pytest.raises(ValueError, match=r"prior Mixture has none.*Got free_bits=0.1"):
        fitted("means", free_bits=0.1)
    fitted("running centre", free_bits=0.1, max_iter=1)


@pytest.mark.parametrize("name", ["means", "running centre"])
def test_collapse_is_seen_whichever_the_prior(name):
    with pytest.warns(PosteriorCollapseWarning, match=r"collapsed: every latent .* 0.01 nats"):
        fitted(name, beta=1e4, kl_warmup=0.0, max_iter=20)
    with warnings.catch_warnings():
        warnings.simplefilter("error", PosteriorCollapseWarning)
        fitted(name, max_iter=20)


@pytest.mark.parametrize(("factorises", "shape"), [(False, (5, 3)), (True, (5,))])
def test_divergence_of_another_shape_than_the_prior_says_is_an_error(factorises, shape):
    kind = type(
        "Wrong",
        (Mixture,),
        {"factorises": factorises, "divergence": lambda *args, **state: torch.zeros(shape)},
    )
    bottleneck = VariationalBottleneck(3, kind(), 1.0, Constant(), 0.0, 1, 0)
    with pytest.raises(ValueError, match=r"divergence of Wrong, whose factorises is"):
        bottleneck.diagnostics(torch.zeros(5, 6))


# A penalty that is weighed but not steered.


class Pulled(L1):
    """An L1 penalty beside a rule that keeps the number by itself."""

    steerable = False


@pytest.mark.parametrize(("weight", "expected"), [("auto", 1.0), (0.25, 0.25)])
def test_penalty_that_cannot_be_steered_has_the_weight_one_unless_given(weight, expected):
    estimator = SparseAutoencoderTransformer(sparsity=Pulled(), sparsity_weight=weight, **QUICK)
    assert estimator.fit(X).sparsity_weight_ == expected
    # Convergence is looked at from the start.
    assert estimator._bottleneck().settles_at == 0.0
    objective = np.array(estimator.history_["objective"])
    terms = np.array(estimator.history_["sparsity"])
    reconstruction = np.array(estimator.history_["reconstruction"])
    np.testing.assert_allclose(objective, reconstruction + expected * terms, rtol=1e-5)
    steered = SparseAutoencoderTransformer(sparsity=L1(), **QUICK).fit(X)
    assert steered._bottleneck().settles_at == 0.5
    assert steered.sparsity_weight_ not in (1.0, 0.0)
