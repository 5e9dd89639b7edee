"""Are priors densities, do samplers draw what they were fitted on, do schedules stay in range?"""

import warnings

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.exceptions import ConvergenceWarning

from skae import VAETransformer
from skae.priors import PRIORS, Prior, StandardNormal
from skae.samplers import SAMPLERS, GaussianMixtureSampler, KernelSampler
from skae.schedules import SCHEDULES, Constant, Cosine, LinearWarmup, Schedule
from tests.helpers import AtStart, generator, global_generators_untouched, low_rank, normal

# Priors.

prior_laws = pytest.mark.parametrize("name", PRIORS)


def made(name, n_components):
    """Return a prior as its name makes it, beside the state that it starts with."""
    return AtStart(PRIORS[name](), n_components=n_components, generator=generator())


def posteriors(n_rows, n_components):
    """Return means and log standard deviations."""
    return normal(n_rows, n_components), 0.4 * normal(n_rows, n_components, seed=1) - 0.5


def of_row(divergence):
    """Return the divergence of each row, of single latents or not."""
    return divergence if divergence.ndim == 1 else divergence.sum(dim=1)


def line():
    """Return values that cover any posterior here, as codes of one latent, and their distance."""
    values = torch.linspace(-12.0, 12.0, 4801, dtype=torch.float64)
    return values[:, None], 24.0 / 4800


@prior_laws
def test_prior_laws_density_integrates_to_one(name):
    codes, width = line()
    total = made(name, 1).log_prob(codes).exp().sum() * width
    assert float(total) == pytest.approx(1.0, rel=1e-9)


@prior_laws
def test_prior_laws_divergence_agrees_with_the_integral(name):
    prior, (codes, width) = made(name, 1), line()
    mean, log_std = posteriors(5, 1)
    log_q = torch.distributions.Normal(mean, log_std.exp()).log_prob(codes.T)
    integral = (log_q.exp() * (log_q - prior.log_prob(codes))).sum(dim=1) * width
    for row, q in enumerate(log_q.exp()):  # over all draws, if it looks at them
        given = (one[row].expand_as(codes) for one in (mean, log_std))
        found = of_row(prior.divergence(*given, codes))
        torch.testing.assert_close((q * found).sum() * width, integral[row])


@prior_laws
def test_prior_laws_divergence_of_a_row_agrees_with_draws_from_the_posterior(name):
    prior, n_draws = made(name, 3), 20_000
    mean, log_std = posteriors(1, 3)
    q = torch.distributions.Normal(mean, log_std.exp())
    codes = mean + log_std.exp() * normal(n_draws, 3, seed=7)
    ratios = q.log_prob(codes).sum(dim=1) - prior.log_prob(codes)
    found = of_row(prior.divergence(mean.expand_as(codes), log_std.expand_as(codes), codes))
    assert (ratios.mean() - found.mean()).abs() < 4 * (ratios - found).std() / n_draws**0.5


@prior_laws
def test_prior_laws_default_divergence_has_the_same_mean_over_draws(name):
    prior, n_draws = made(name, 3), 20_000
    mean, log_std = (row.expand(n_draws, 3) for row in posteriors(1, 3))
    codes = mean + log_std.exp() * normal(n_draws, 3, seed=7)
    found = Prior.divergence(prior, mean, log_std, codes)
    expected = of_row(prior.divergence(mean, log_std, codes))
    assert found.shape == (n_draws,)
    assert ((found - expected).mean()).abs() <= 4 * (found - expected).std() / n_draws**0.5


@prior_laws
def test_prior_laws_divergence_has_an_entry_for_each_latent_if_it_says_so(name):
    prior, (mean, log_std) = made(name, 4), posteriors(6, 4)
    divergence = prior.divergence(mean, log_std, mean)
    assert divergence.shape == ((6, 4) if prior.factorises else (6,))
    assert (of_row(divergence) > 0).all()


@prior_laws
def test_prior_laws_closed_form_looks_at_no_draw(name):
    prior, (mean, log_std) = made(name, 4), posteriors(6, 4)
    found = [prior.divergence(mean, log_std, code) for code in (mean, mean + 1)]
    assert torch.equal(*found) == prior.closed_form


@prior_laws
def test_prior_laws_gradient_of_divergence_agrees_with_differences(name):
    mean, log_std = posteriors(3, 2)
    assert torch.autograd.gradcheck(
        lambda m, s: made(name, 2).divergence(m, s, m),
        (mean.requires_grad_(), log_std.requires_grad_()),
    )


@prior_laws
def test_prior_laws_draws_have_the_entropy_and_spread_of_the_density(name):
    prior, (codes, width) = made(name, 1), line()
    with global_generators_untouched():
        draws = prior.sample((40_000, 1), generator(3)).double()
    assert draws.shape == (40_000, 1)
    log_prob = prior.log_prob(codes)
    for found, exact in (
        (prior.log_prob(draws), log_prob),
        (draws[:, 0], codes[:, 0]),
        (draws[:, 0] ** 2, codes[:, 0] ** 2),
    ):
        expected = (exact * log_prob.exp()).sum() * width
        assert (found.mean() - expected).abs() < 4 * found.std() / len(draws) ** 0.5


@prior_laws
def test_prior_laws_same_generator_same_codes(name):
    first, again, other = (made(name, 3).sample((5, 3), generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_standard_normal_is_that_of_scipy():
    codes = normal(6, 3)
    expected = stats.multivariate_normal(np.zeros(3)).logpdf(codes.numpy())
    np.testing.assert_allclose(StandardNormal().log_prob(codes), expected)


def test_kl_is_zero_where_the_posterior_is_the_prior():
    zeros = torch.zeros(2, 3)
    assert not StandardNormal().divergence(zeros, zeros, zeros).any()


# Samplers.

sampler_laws = pytest.mark.parametrize("name", SAMPLERS)


def two_blobs(n_rows=400, seed=0):
    rng = np.random.RandomState(seed)
    centres = np.array([[-5.0, 0.0], [5.0, 2.0]])
    return centres[np.arange(n_rows) % 2] + rng.normal(scale=[0.5, 0.2], size=(n_rows, 2))


def sparse_codes(n_rows=300, seed=0):
    """Return codes of which about two thirds are zero, some components negative, one dead."""
    rng = np.random.RandomState(seed)
    sign = np.array([1.0, -1.0, 1.0, 0.0])
    return rng.gamma(2.0, size=(n_rows, 4)) * (rng.uniform(size=(n_rows, 4)) < 1 / 3) * sign


def drawn(name, codes, n_samples, seed=0):
    sampler = SAMPLERS[name]().fit(codes, np.random.RandomState(1))
    return sampler.sample(n_samples, np.random.RandomState(seed))


@sampler_laws
@pytest.mark.parametrize("n_samples", [1, 7, 500])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sampler_laws_shape_and_finite(name, n_samples, dtype):
    codes = drawn(name, two_blobs().astype(dtype), n_samples)
    assert codes.shape == (n_samples, 2)
    assert np.isfinite(codes).all()


@sampler_laws
def test_sampler_laws_same_state_same_codes(name):
    with global_generators_untouched():
        first, again, other = (drawn(name, two_blobs(), 20, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@sampler_laws
def test_sampler_laws_state_of_the_fit_is_not_used_for_draws(name):
    sampler = SAMPLERS[name]().fit(two_blobs(), np.random.RandomState(1))
    first, again = (sampler.sample(20, np.random.RandomState(0)) for _ in range(2))
    np.testing.assert_array_equal(first, again)


@sampler_laws
def test_sampler_laws_fit_leaves_the_codes_alone(name):
    codes = two_blobs()
    before = codes.copy()
    drawn(name, codes, 20)[:] = 0.0
    np.testing.assert_array_equal(codes, before)


@sampler_laws
def test_sampler_laws_two_blobs_stay_two_blobs_of_their_size(name):
    codes, new = two_blobs(), drawn(name, two_blobs(), 2000)
    for side in (-1, 1):
        old_blob, new_blob = (c[np.sign(c[:, 0]) == side] for c in (codes, new))
        assert len(new_blob) == pytest.approx(1000, abs=4 * 22.4)  # binomial
        np.testing.assert_allclose(new_blob.mean(axis=0), old_blob.mean(axis=0), atol=0.15)
        # Kernels widen both by about the spread of the component over all rows, shared by blobs.
        assert (new_blob.std(axis=0) < old_blob.std(axis=0) + 0.6).all()
    assert (np.abs(new[:, 0]) > 1).all()


@sampler_laws
def test_sampler_laws_draws_are_new_codes_in_random_order(name):
    codes, new = two_blobs(), drawn(name, two_blobs(), 200)
    assert not np.isin(new[:, 0], codes[:, 0]).any()
    # Blobs alternate at random, where a sorted sample would change sides once.
    assert (np.diff(np.sign(new[:, 0])) != 0).sum() > 50


@sampler_laws
@pytest.mark.parametrize("codes", [[[1.5, -2.0, 0.0]], [[3.0]], [[0.0, 0.0]]], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sampler_laws_one_training_row_is_drawn_again(name, codes, dtype):
    codes = np.array(codes, dtype=dtype)
    np.testing.assert_allclose(drawn(name, codes, 30), np.repeat(codes, 30, axis=0), atol=0.05)


@sampler_laws
def test_sampler_laws_equal_rows_and_dead_components_work(name):
    with warnings.catch_warnings():
        # That k-means finds fewer distinct points than it was asked for is no fault of the codes.
        warnings.simplefilter("ignore", ConvergenceWarning)
        new = drawn(name, np.tile([2.0, 0.0], (60, 1)), 30)
    np.testing.assert_allclose(new, np.tile([2.0, 0.0], (30, 1)), atol=0.05)
    assert np.abs(drawn(name, sparse_codes(), 200)[:, 3]).max() < 0.05


@sampler_laws
@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_sampler_laws_unit_of_the_codes_does_not_matter(name, unit):
    new, scaled = drawn(name, two_blobs(), 50), drawn(name, unit * two_blobs(), 50)
    np.testing.assert_allclose(scaled / unit, new, rtol=1e-3, atol=1e-3)


def test_mixture_finds_the_two_blobs():
    sampler = GaussianMixtureSampler(n_mixtures=2).fit(two_blobs(), np.random.RandomState(0))
    means = sampler.mixture_.means_[np.argsort(sampler.mixture_.means_[:, 0])]
    np.testing.assert_allclose(means, [[-5.0, 0.0], [5.0, 2.0]], atol=0.15)
    spread = np.sqrt(sampler.mixture_.covariances_[:, [0, 1], [0, 1]])
    np.testing.assert_allclose(spread, [[0.5, 0.2]] * 2, rtol=0.2)


@pytest.mark.parametrize(("n_rows", "n_mixtures"), [(4, 1), (9, 1), (12, 2), (30, 3)])
def test_mixture_has_five_rows_for_each_gaussian(n_rows, n_mixtures):
    sampler = GaussianMixtureSampler(n_mixtures=3).fit(two_blobs(n_rows), np.random.RandomState(0))
    assert sampler.mixture_.n_components == n_mixtures


def test_kernel_keeps_zeros_and_signs():
    codes = sparse_codes()
    sampler = KernelSampler(bandwidth=1.0).fit(codes, None)
    draws = np.random.RandomState(0)
    new = sampler.sample(3000, draws)
    np.testing.assert_array_equal(np.sign(new).min(axis=0), [0, -1, 0, 0])
    np.testing.assert_array_equal(np.sign(new).max(axis=0), [1, 0, 1, 0])
    # The very patterns of zeros are those of training rows.
    assert set(map(tuple, new != 0)) <= set(map(tuple, codes != 0))
    assert (new != 0).mean() == pytest.approx((codes != 0).mean(), abs=0.02)


def test_kernel_has_the_bandwidth_in_units_of_the_spread_where_active():
    rng = np.random.RandomState(0)
    codes = np.where(np.arange(200)[:, None] < 50, 100.0 + rng.normal(size=(200, 1)), 0.0)
    sampler = KernelSampler(bandwidth=0.5).fit(codes, None)
    active = codes[:50, 0]
    assert sampler.spread_[0] == pytest.approx(active.std())
    new = sampler.sample(20_000, rng)
    # Independent parts add their variances.
    assert new[new > 0].std() == pytest.approx(active.std() * np.sqrt(1 + 0.5**2), rel=0.05)


def test_kernel_of_no_width_repeats_training_rows():
    codes = two_blobs(30)
    new = KernelSampler(bandwidth=0.0).fit(codes, None).sample(100, np.random.RandomState(0))
    assert set(map(tuple, new)) <= set(map(tuple, codes))
    assert len(set(map(tuple, new))) > 15


# Schedules.

schedule_laws = pytest.mark.parametrize("name", SCHEDULES)


def curve(schedule):
    return np.array([schedule(progress) for progress in np.linspace(0, 1, 201)])


@schedule_laws
def test_schedule_laws_factor_lies_between_zero_and_one(name):
    factors = curve(SCHEDULES[name]())
    assert (factors >= 0).all()
    assert (factors <= 1).all()
    # Somewhere the weight counts in full.
    assert factors.max() > 0.99


@schedule_laws
def test_schedule_laws_factor_depends_on_progress_alone(name):
    schedule = SCHEDULES[name]()
    forwards = curve(schedule)
    np.testing.assert_array_equal(curve(schedule), forwards)
    assert all(isinstance(schedule(progress), float) for progress in (0.0, 0.3, 1.0))


@schedule_laws
@pytest.mark.parametrize("progress", [-1e-9, 1 + 1e-9, np.nan, np.inf])
def test_schedule_laws_progress_out_of_range_is_refused(name, progress):
    with pytest.raises(ValueError, match=r"progress must lie in \[0, 1\]\. Got"):
        SCHEDULES[name]()(progress)


@schedule_laws
def test_schedule_laws_factor_stays_where_the_schedule_says_that_it_settles(name):
    schedule = SCHEDULES[name]()
    assert 0.0 <= schedule.settles_at <= 1.0
    after = np.linspace(schedule.settles_at, 1.0, 201)
    assert all(schedule(progress) == pytest.approx(schedule(1.0), abs=0.011) for progress in after)
    if schedule.settles_at:
        before = np.linspace(0.0, schedule.settles_at, 201)
        assert any(abs(schedule(progress) - schedule(1.0)) > 0.5 for progress in before)


class Own(Schedule):
    """A schedule of a user's, who says nothing of where it settles."""

    def __init__(self, function, share=None):  # a word of the user's own
        self.function, self.share = function, share

    def factor(self, progress):
        return self.function(progress)


@pytest.mark.parametrize(
    ("function", "settles_at"),
    [
        (lambda progress: 1.0, 0.0),
        (lambda progress: float(progress >= 0.4), 0.4),
        (lambda progress: min(1.0, 2 * (4 * progress % 1.0)) if progress < 1.0 else 1.0, 0.875),
        (lambda progress: 1.0 / (1.0 + np.exp(-20 * (progress - 0.5))), 0.73),
        (lambda progress: progress, 0.99),
    ],
    ids=["constant", "step", "cycles", "logistic", "line"],
)
def test_where_a_schedule_of_a_user_settles_is_found_out(function, settles_at):
    assert Own(function, share=0.1).settles_at == pytest.approx(settles_at, abs=0.01)


def test_fit_does_not_converge_before_a_warm_up_of_a_user_is_over():
    X = low_rank(200, 8, 2)
    warmup = Own(lambda progress: float(progress >= 0.6))
    vae = VAETransformer(2, kl_warmup=warmup, max_iter=100, n_iter_no_change=3, random_state=0)
    vae.set_params(hidden_layer_sizes=(), tol=0.2).fit(X)
    assert vae.n_iter_ > 60
    assert vae.history_["loss"][0] < vae.history_["objective"][0]
    in_full = pytest.approx(vae.history_["objective"][-1], rel=1e-5)
    assert vae.history_["loss"][-1] == in_full  # the KL term counts


def test_constant_is_one():
    assert (curve(Constant()) == 1).all()


@pytest.mark.parametrize("share", [0.1, 0.25, 1.0])
def test_warmup_rises_on_a_straight_line_and_stays(share):
    schedule = LinearWarmup(share)
    assert (schedule(0.0), schedule(share), schedule(1.0)) == (0.0, 1.0, 1.0)
    assert schedule(share / 4) == pytest.approx(0.25)
    assert (np.diff(curve(schedule)) >= 0).all()


def test_warmup_over_no_time_is_one_at_once():
    assert (curve(LinearWarmup(0)) == 1).all()


@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.5])
def test_cosine_rises_to_one_and_falls_to_zero(warmup):
    schedule = Cosine(warmup)
    factors, progress = curve(schedule), np.linspace(0, 1, 201)
    assert schedule(1.0) == pytest.approx(0.0, abs=1e-15)
    assert schedule(warmup) == 1.0
    assert (np.diff(factors[progress <= warmup]) > 0).all()
    assert (np.diff(factors[progress >= warmup]) < 0).all()
    assert schedule((1 + warmup) / 2) == pytest.approx(0.5)
    # A cosine and not a line: slow at both ends.
    assert schedule(warmup + 0.1 * (1 - warmup)) > 0.97
    if warmup:
        assert schedule(0.0) == 0.0
        assert schedule(warmup / 2) == pytest.approx(0.5)
