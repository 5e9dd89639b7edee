"""Are the likelihoods of counts and of amounts those of the textbooks, however extreme they get?

The laws that every likelihood keeps are in test_likelihood_laws.py.
"""

import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit, log_softmax, softmax

from skae._training.auto import default_scaling
from skae.likelihoods import (
    LIKELIHOODS,
    Multinomial,
    NegativeBinomial,
    Poisson,
    ZeroInflatedLogNormal,
    ZeroInflatedNegativeBinomial,
    choose_likelihood,
)
from tests.helpers import (
    cells_at_once,
    counts,
    generator,
    normal,
    one_hot,
)

COUNTS = [Poisson(), NegativeBinomial(), ZeroInflatedNegativeBinomial(), Multinomial()]
of_counts = pytest.mark.parametrize("likelihood", COUNTS, ids=str)

# Means from far below one to large, and counts from zero to far out.
TOTAL = torch.tensor([[1.0], [30.0], [4000.0], [1e5]]).double()
LOG_SHARE = torch.tensor([[-9.0, -4.0, -1.0, -0.1]]).double().expand(4, -1)
X = torch.tensor([[0.0, 1.0, 7.0, 300.0]]).double().expand(4, -1)
MEAN = (TOTAL * LOG_SHARE.exp()).numpy()


# Poisson.


def test_poisson_is_that_of_scipy():
    found = Poisson().log_prob(X, LOG_SHARE, total=TOTAL)
    np.testing.assert_allclose(found, stats.poisson.logpmf(X.numpy(), MEAN), rtol=1e-9)


def test_poisson_counts_given_their_sum_are_multinomial():
    x = torch.tensor([[2.0, 0.0, 3.0]]).double()
    raw, total = normal(1, 3), torch.tensor([[5.0]]).double()
    of_row = Poisson().log_prob(x, raw, total=total).sum()
    of_sum = stats.poisson.logpmf(5, float(Poisson().mean(raw, total=total).sum()))
    expected = Multinomial().log_prob(x, raw, total=total).sum()
    assert float(of_row) - of_sum == pytest.approx(float(expected))


# Negative binomial.


@pytest.mark.parametrize("theta", [1e-3, 0.3, 4.0, 12.0, 1e3, 1e5])
def test_negative_binomial_is_that_of_scipy(theta):
    log_theta = torch.full((4,), math.log(theta), dtype=torch.float64)
    found = NegativeBinomial().log_prob(X, LOG_SHARE, total=TOTAL, log_theta=log_theta)
    expected = stats.nbinom.logpmf(X.numpy(), theta, theta / (theta + MEAN))
    # scipy's logarithms of gamma functions lose some digits themselves.
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-8)


def test_negative_binomial_without_dispersion_is_poisson():
    small = TOTAL[:2]
    log_theta = torch.full((4,), math.log(1e6), dtype=torch.float64)
    found = NegativeBinomial().log_prob(X[:2], LOG_SHARE[:2], total=small, log_theta=log_theta)
    expected = stats.poisson.logpmf(X[:2].numpy(), MEAN[:2])
    # The first term that is left out is ((x - mu)**2 - x) / (2 theta).
    rest = ((X[:2].numpy() - MEAN[:2]) ** 2 + X[:2].numpy()) / 2e6
    assert (np.abs(found.numpy() - expected) <= 1.1 * rest + 1e-9).all()


def test_draws_of_the_negative_binomial_vary_by_their_dispersion():
    raw, total = torch.zeros(50_000, 2).double(), torch.tensor([[20.0]]).double()
    log_theta = torch.tensor([0.5, 50.0]).double().log()
    draws = NegativeBinomial().sample(raw, generator(), total=total, log_theta=log_theta)
    variance = 20 + 20**2 / log_theta.exp()
    torch.testing.assert_close(draws.var(dim=0), variance, rtol=0.05, atol=0)


def test_dispersion_starts_at_the_method_of_moments_within_bounds():
    mean = torch.tensor([2.0, 2.0, 2.0, 0.0])
    variance = torch.tensor([4.0, 1.0, 1e6, 0.0])
    likelihood = NegativeBinomial()
    found = likelihood.theta(**likelihood.parameters_at_start(mean, variance))
    torch.testing.assert_close(found, torch.tensor([2.0, 1e3, 1e-2, 1e-2]))


@pytest.mark.parametrize("log_theta", [-1e4, 1e4])
def test_dispersion_far_out_of_range_stays_finite(log_theta):
    log_theta = torch.full((3,), log_theta, requires_grad=True)
    raw = torch.zeros(1, 3, requires_grad=True)
    x, total = torch.tensor([[0.0, 1.0, 90.0]]), torch.tensor([[91.0]])
    log_prob = NegativeBinomial().log_prob(x, raw, total=total, log_theta=log_theta)
    log_prob.sum().backward()
    for found in (log_prob, raw.grad, log_theta.grad):
        assert torch.isfinite(found).all()


# Zero-inflated negative binomial.


def test_zero_inflation_mixes_zeros_into_the_negative_binomial():
    gate, log_theta = normal(4, 4), normal(4, seed=2)
    found = ZeroInflatedNegativeBinomial().log_prob(
        X, torch.cat([LOG_SHARE, gate], dim=1), total=TOTAL, log_theta=log_theta
    )
    theta, lost = log_theta.exp().numpy(), expit(gate.numpy())
    kept = (1 - lost) * stats.nbinom.pmf(X.numpy(), theta, theta / (theta + MEAN))
    np.testing.assert_allclose(found.exp(), kept + lost * (X.numpy() == 0), rtol=1e-9, atol=1e-300)


def test_a_gate_that_loses_nothing_leaves_the_negative_binomial():
    log_theta = normal(4, seed=2)
    raw = torch.cat([LOG_SHARE, torch.full((4, 4), -60.0).double()], dim=1)
    given_ = {"total": TOTAL, "log_theta": log_theta}
    found = ZeroInflatedNegativeBinomial().log_prob(X, raw, **given_)
    torch.testing.assert_close(found, NegativeBinomial().log_prob(X, LOG_SHARE, **given_))


def test_dispersion_behind_the_gate_starts_at_its_own_moments():
    # Counts of mean 3 and theta 2 (variance 7.5), a tenth of them lost.
    mean, square = 0.9 * 3.0, 0.9 * (7.5 + 9.0)
    start = ZeroInflatedNegativeBinomial().parameters_at_start(
        torch.tensor([mean]), torch.tensor([square - mean**2])
    )
    assert float(start["log_theta"].exp()) == pytest.approx(2.0, rel=1e-4)


# Multinomial.


def some_documents(n_features=5, totals=(0, 1, 4, 1000), seed=0):
    rng = np.random.RandomState(seed)
    raw = rng.normal(size=(len(totals), n_features))
    x = np.array([rng.multinomial(n, softmax(r)) for n, r in zip(totals, raw, strict=True)])
    return torch.from_numpy(x).double(), torch.from_numpy(raw)


def test_multinomial_rows_are_those_of_scipy():
    x, raw = some_documents()
    found = Multinomial().log_prob(x, raw, total=x.sum(dim=1, keepdim=True)).sum(dim=1)
    p = softmax(raw.numpy(), axis=1)
    expected = stats.multinomial.logpmf(x.numpy(), x.numpy().sum(axis=1), p)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_multinomial_without_coefficient_is_the_sum_over_items():
    x, raw = some_documents()
    likelihood, total = Multinomial(coefficient=False), x.sum(dim=1, keepdim=True)
    found = likelihood.log_prob(x, raw, total=total)
    np.testing.assert_allclose(found, x.numpy() * log_softmax(raw.numpy(), axis=1))


def test_coefficient_does_not_change_the_gradient():
    x, raw = some_documents()
    raw, gradients = raw.requires_grad_(), []
    for coefficient in (False, True):
        log_prob = Multinomial(coefficient).log_prob(x, raw, total=x.sum(dim=1, keepdim=True))
        gradients.append(torch.autograd.grad(log_prob.sum(), raw)[0])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("n_features", [1, 2, 3, 5, 8, 1000])
def test_multinomial_draws_have_their_total_for_any_number_of_columns(n_features):
    total = torch.tensor([[0.0], [1.0], [13.0], [1e5]])
    raw = 5 * normal(4, n_features).float()
    draws = Multinomial().sample(raw, generator(), total=total)
    assert draws.shape == raw.shape
    assert torch.equal(draws.sum(dim=1, keepdim=True), total)
    assert (draws >= 0).all()


def test_multinomial_draws_have_the_covariance_of_the_distribution():
    raw, n, n_draws = normal(1, 5), 9.0, 60_000
    total = torch.full((1, 1), n).double()
    draws = Multinomial().sample(raw.expand(n_draws, -1), generator(), total=total)
    p = raw.softmax(dim=1)[0]
    expected = n * (torch.diag(p) - torch.outer(p, p))
    torch.testing.assert_close(draws.T.cov(), expected, rtol=0, atol=0.04)


def test_a_column_without_probability_is_never_drawn():
    raw = torch.tensor([[0.0, -1e4, 0.0, -1e4, -1e4]]).expand(100, -1)
    draws = Multinomial().sample(raw, generator(), total=torch.full((1, 1), 1000.0))
    assert not draws[:, [1, 3, 4]].any()


def test_long_rows_of_many_columns_are_drawn_without_a_table_of_their_items():
    # A table of 10**6 items by 20,000 columns would not fit into any memory.
    raw = torch.zeros(2, 20_000)
    draws = Multinomial().sample(raw, generator(), total=torch.full((2, 1), 1e6))
    assert torch.equal(draws.sum(dim=1), torch.full((2,), 1e6))
    assert float(draws.var()) == pytest.approx(50, rel=0.05)


# All counts.


@of_counts
def test_mean_grows_with_the_total(likelihood):
    raw = normal(1, likelihood.n_outputs * 3)
    one, seven = (likelihood.mean(raw, total=torch.tensor([[t]]).double()) for t in (1.0, 7.0))
    torch.testing.assert_close(seven, 7 * one)


@of_counts
def test_decoder_starts_at_shares_of_the_total(likelihood):
    mean = torch.tensor([1.0, 2.0, 5.0])
    raw = likelihood.raw_from_mean(mean)[None]
    found = likelihood.mean(raw, total=torch.tensor([[80.0]]))
    torch.testing.assert_close(found, 10 * mean[None])


@pytest.mark.parametrize("likelihood", COUNTS[:3], ids=str)
def test_share_that_is_much_too_large_stays_finite_and_is_pulled_back(likelihood):
    free = likelihood.parameters_at_start(torch.ones(2), torch.full((2,), 3.0))
    raw = torch.full((1, 2 * likelihood.n_outputs), 1e4)
    raw[:, 2:] = 0.0
    raw.requires_grad_()
    x, total = torch.tensor([[0.0, 4.0]]), torch.tensor([[1e5]])
    log_prob = likelihood.log_prob(x, raw, total=total, **free)
    log_prob.sum().backward()
    assert torch.isfinite(log_prob).all()
    assert torch.isfinite(likelihood.mean(raw, total=total, **free)).all()
    assert torch.isfinite(raw.grad).all()
    # A zero may also come from the gate, which leaves next to nothing of the pull.
    pull = raw.grad[:, 1:2] if likelihood.n_outputs == 2 else raw.grad
    assert (pull < 0).all()


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    log_theta=st.floats(math.log(1e-3), math.log(1e5)),
    total=st.integers(0, 100_000),
    log_share=st.floats(-15.0, 0.0),
    quantile=st.floats(0.0, 1.0),
    typical=st.booleans(),
    gate=st.floats(-10.0, 10.0),
)
def test_single_precision_agrees_with_double(log_theta, total, log_share, quantile, typical, gate):
    # In single precision from the start, so that both see the same numbers.
    log_theta, log_share, gate = (float(np.float32(v)) for v in (log_theta, log_share, gate))
    theta, mean = math.exp(log_theta), total * math.exp(log_share)
    drawn = stats.nbinom.ppf(0.999 * quantile, theta, theta / (theta + mean)) if total else 0
    x = min(total, max(0.0, drawn) if typical else math.floor(quantile * total))
    for likelihood in COUNTS:
        free = {"log_theta": log_theta} if likelihood.parameters_at_start(*torch.ones(2, 1)) else {}
        raw = [log_share, gate][: likelihood.n_outputs]
        single, double = (
            value_and_gradients(likelihood, x, raw, total, free, precision)
            for precision in (torch.float32, torch.float64)
        )
        # As exactly as log mu is known, for each of the x events and the mu that are expected.
        surprise = 1 + max(0.0, math.log(x / mean)) if x else 1
        scale = 1 + x * surprise + mean
        assert single == pytest.approx(double, abs=3e-6 * scale)


def value_and_gradients(likelihood, x, raw, total, free, precision):
    raw = torch.tensor([raw], dtype=precision, requires_grad=True)
    free = {k: torch.tensor([v], dtype=precision, requires_grad=True) for k, v in free.items()}
    x, total = (torch.tensor([[v]], dtype=precision) for v in (x, total))
    softmax = likelihood.structure == "softmax"
    function = likelihood.log_prob_entry if softmax else likelihood.log_prob
    log_prob = function(x, raw, total=total, **free)
    gradients = torch.autograd.grad(log_prob.sum(), [raw, *free.values()])
    return [log_prob.item(), *torch.cat([g.ravel() for g in gradients]).tolist()]


# Zero-inflated lognormal.


def test_lognormal_above_zero_is_that_of_scipy():
    log_mean, logit, log_variance = normal(6, 3), normal(6, 3, seed=1), normal(3, seed=2)
    likelihood = ZeroInflatedLogNormal(variance_floor=0.1)
    x = normal(6, 3, seed=3).exp()
    found = likelihood.log_prob(
        x, torch.cat([log_mean, logit], dim=1), log_variance=log_variance
    ).numpy()
    variance = (0.1 + log_variance.exp()).numpy()
    median = np.exp(log_mean.numpy() - variance / 2)
    above = stats.lognorm.logpdf(x.numpy(), np.sqrt(variance), scale=median)
    np.testing.assert_allclose(found, np.log(expit(logit.numpy())) + above, rtol=1e-9)


def test_zeros_of_the_lognormal_have_the_probability_of_the_gate():
    raw = torch.tensor([[0.3, -2.0, 1.5, 0.0]]).double()
    found = ZeroInflatedLogNormal().log_prob(
        torch.zeros(1, 2).double(), raw, log_variance=torch.zeros(2).double()
    )
    np.testing.assert_allclose(found.exp()[0], 1 - expit([1.5, 0.0]))


def test_variance_of_the_logarithm_starts_at_the_method_of_moments():
    # One value in ten above zero, lognormal with v = 1.5: E[x^2] = E[x]^2 e^v / 0.1.
    mean, v = torch.tensor([2.0, 2.0, 0.0]), torch.tensor([1.5, -9.0, 0.0])
    variance = (mean**2 * v.exp() / 0.1 - mean**2).clamp_min(0.0)
    likelihood = ZeroInflatedLogNormal()
    found = likelihood.variance_of_log(**likelihood.parameters_at_start(mean, variance))
    torch.testing.assert_close(found, torch.tensor([1.5, 0.25, 0.25]))


@pytest.mark.parametrize("floor", [1e-4, 0.25])
def test_floor_bounds_the_density_of_values_that_are_all_alike(floor):
    raw = torch.tensor([[0.5 * floor, 50.0]]).double()  # the median is one
    found = ZeroInflatedLogNormal(floor).log_prob(
        torch.ones(1, 1).double(), raw, log_variance=torch.tensor([-1e3])
    )
    assert float(found) == pytest.approx(-0.5 * math.log(2 * math.pi * floor))


def test_means_and_draws_of_the_lognormal_do_not_overflow():
    raw, free = torch.tensor([[1e4, 50.0]]), {"log_variance": torch.zeros(1)}
    likelihood = ZeroInflatedLogNormal()
    assert torch.isfinite(likelihood.mean(raw, **free)).all()
    assert torch.isfinite(likelihood.sample(raw, generator(), **free)).all()


def test_defaults_of_the_scaling():
    for likelihood in COUNTS:
        assert default_scaling(likelihood) == "log1p"
    assert default_scaling(ZeroInflatedLogNormal()) == "max"


# The choice of a likelihood.


def tf_idf(seed=0):
    rng = np.random.RandomState(seed)
    return rng.gamma(2.0, size=(60, 20)) * (rng.uniform(size=(60, 20)) < 0.1)


def grey_levels(seed=0):
    rng = np.random.RandomState(seed)
    return rng.randint(1, 256, size=(60, 20)) * (rng.uniform(size=(60, 20)) < 0.2)


def with_value(X, value):
    X = X.astype(float)
    X[-1, -1] = value
    return X


TABLES = {
    "flags": (one_hot(), "bernoulli"),
    "only zeros": (np.zeros((4, 3)), "bernoulli"),
    "counts": (counts(), "negative_binomial"),
    "counts, large": (with_value(counts(), 1e9), "negative_binomial"),
    "flags and a two": (with_value(one_hot(), 2.0), "negative_binomial"),
    "tf-idf": (tf_idf(), "zero_inflated_lognormal"),
    "grey levels": (grey_levels(), "zero_inflated_lognormal"),
    "counts and a half": (with_value(counts(), 0.5), "zero_inflated_lognormal"),
    "counts and a negative": (with_value(counts(), -1.0), "gaussian"),
    "counts and nothing": (with_value(counts(), np.nan), "gaussian"),
    "counts and infinity": (with_value(counts(), np.inf), "gaussian"),
    "real": (np.random.RandomState(0).normal(size=(60, 20)), "gaussian"),
    "positive": (np.random.RandomState(0).gamma(2.0, size=(60, 20)), "gaussian"),
    "ages": (np.random.RandomState(0).randint(18, 90, size=(60, 20)), "gaussian"),
}


@pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array, sp.csr_matrix])
@pytest.mark.parametrize("cells", [30, 2**20])
@pytest.mark.parametrize(("X", "expected"), TABLES.values(), ids=TABLES)
def test_likelihood_is_chosen_by_the_values(X, expected, as_format, cells):
    with cells_at_once(cells):
        assert choose_likelihood(as_format(X.astype(np.float32))) == expected
        assert choose_likelihood(as_format(X.astype(np.float64))) == expected


@pytest.mark.parametrize(("share", "expected"), [(0.19, "gaussian"), (0.2, "lognormal")])
def test_zeros_count_from_their_share_on(share, expected):
    X = np.random.RandomState(0).gamma(2.0, size=(100, 1))
    X[: round(100 * share)] = 0
    assert choose_likelihood(X).endswith(expected)


def test_zeros_that_are_stored_are_zeros():
    X = sp.csr_array(tf_idf())
    stored = X.copy()
    stored.data[:] = np.where(np.arange(X.nnz) % 2, 0.0, X.data)
    assert choose_likelihood(stored) == choose_likelihood(stored.toarray())
    stored.data[:] = np.where(np.arange(X.nnz) % 2, 0.0, 1.0)
    assert choose_likelihood(stored) == "bernoulli"


def test_what_is_chosen_supports_the_table():
    for X, name in TABLES.values():
        if np.isfinite(X).all():
            assert LIKELIHOODS[name]().inside(X).all()
