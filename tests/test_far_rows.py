"""Scores of rows far out are finite and fall with the distance; so do codes and reconstructions.

Whatever the likelihood, the estimator and the format; one absurd cell does not fail a batch.
"""

import functools

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.model_selection import GridSearchCV, KFold

from skae import AutoencoderOutlierDetector, AutoencoderTransformer, VAETransformer
from skae._training.bottlenecks import Step, VariationalBottleneck
from skae._training.bottlenecks.variational import bounded_posterior
from skae._training.encoder_input import EncoderInput
from skae.likelihoods import LIKELIHOODS, Gaussian
from skae.priors import StandardNormal
from skae.schedules import Constant
from tests.helpers import ESTIMATORS, QUICK, counts, low_rank, normal, one_hot

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::skae.exceptions.PosteriorCollapseWarning"),
]

#: What is scored: the four estimators, and the variational one by its other bound.
SCORERS = {
    **{kind.__name__: kind for kind in ESTIMATORS},
    "importance weighted": functools.partial(VAETransformer, n_importance_samples=8),
}
FORMATS = {"dense": np.asarray, "CSR": sp.csr_array}
#: Likelihoods whose support has no end; there are no far rows for the others.
ENDLESS = [name for name, kind in LIKELIHOODS.items() if kind().inside(np.array([1e9])).all()]

LARGEST = np.finfo(np.float64).max
DISTANCES = [*10.0 ** np.arange(2, 16), 1e20, 1e39, 1e100, LARGEST]


def table(likelihood, seed=0):
    """Return training rows that suit a likelihood."""
    if likelihood == "gaussian":
        return low_rank(80, 6, seed=seed)
    if likelihood == "zero_inflated_lognormal":
        return counts(80, 6, seed=seed) * np.random.RandomState(seed).lognormal(size=(80, 6))
    return counts(80, 6, rate=1.0, seed=seed)


@functools.cache
def fitted(scorer, likelihood, as_format="dense", seed=0):
    parameters = {**QUICK, "max_iter": 40, "random_state": seed, "likelihood": likelihood}
    return SCORERS[scorer](**parameters).fit(FORMATS[as_format](table(likelihood, seed)))


def cell_far_out(row, column, distances):
    """Return copies of a row with these values in one of the columns."""
    rows = np.repeat(row[None], len(distances), axis=0)
    rows[:, column] = distances
    return rows


def whole_row_far_out(row, distances):
    """Return multiples of a row, no number above the largest."""
    with np.errstate(over="ignore"):
        rows = np.outer(distances, np.where(row == 0, 1.0, row))
    return np.clip(np.round(rows), -LARGEST, LARGEST)


def assert_finite_and_falling(scores):
    assert np.isfinite(scores).all()
    rise = np.diff(scores)
    assert (rise <= 1e-5 * np.abs(scores[:-1])).all(), scores  # as single precision tells


# Every likelihood, estimator, bound and format.


@pytest.mark.parametrize("as_format", FORMATS)
@pytest.mark.parametrize("likelihood", ENDLESS)
@pytest.mark.parametrize("scorer", SCORERS)
def test_the_farther_out_a_row_is_the_lower_its_score(scorer, likelihood, as_format):
    estimator, row = fitted(scorer, likelihood, as_format), table(likelihood)[0]
    near = estimator.score_samples(FORMATS[as_format](table(likelihood)))
    for rows in (cell_far_out(row, 1, DISTANCES), whole_row_far_out(row, DISTANCES)):
        rows = FORMATS[as_format](rows)
        scores = estimator.score_samples(rows)
        assert_finite_and_falling(scores)
        assert scores[0] < near.min()
        assert scores[13] < scores[5] < scores[0]  # 1e15, 1e7 and 100
        assert np.isfinite(estimator.score(rows))
        assert np.isfinite(estimator.transform(rows)).all()
        assert np.isfinite(estimator.reconstruct(rows)).all()


@settings(derandomize=True, max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    scorer=st.sampled_from(list(SCORERS)),
    likelihood=st.sampled_from(ENDLESS),
    as_format=st.sampled_from(list(FORMATS)),
    seed=st.integers(0, 2),
    row=st.integers(0, 79),
    column=st.integers(0, 5),
    start=st.floats(2.0, 250.0),
    below=st.booleans(),
)
def test_scores_fall_from_any_row_along_any_column(
    scorer, likelihood, as_format, seed, row, column, start, below
):
    estimator, near = fitted(scorer, likelihood, as_format, seed), table(likelihood, seed)[row]
    sign = -1.0 if below and likelihood == "gaussian" else 1.0
    distances = np.round(np.minimum(10.0**start, LARGEST / 1e18) * 10.0 ** np.arange(18))
    rows = cell_far_out(near, column, sign * distances)
    assert_finite_and_falling(estimator.score_samples(FORMATS[as_format](rows)))


@pytest.mark.parametrize("scorer", SCORERS)
def test_what_single_precision_cannot_hold_gets_the_lowest_number(scorer):
    X = np.ones((60, 3))  # of no variance, but for the floor
    # Starts in closed form do not go down to the floor.
    settings = {**QUICK, "init": "random", "likelihood": Gaussian(variance_floor=1e-12)}
    estimator = SCORERS[scorer](**settings).fit(X)
    scores = estimator.score_samples(whole_row_far_out(X[0], DISTANCES))
    assert_finite_and_falling(scores)
    assert scores[-1] == pytest.approx(np.finfo(np.float32).min)


@pytest.mark.parametrize("scorer", SCORERS)
def test_rows_beside_an_absurd_one_are_scored_as_without_it(scorer):
    estimator, rows = fitted(scorer, "gaussian"), table("gaussian")[:5]
    absurd = np.vstack([rows, cell_far_out(rows[0], 3, [LARGEST])])
    for answer in (estimator.score_samples, estimator.transform, estimator.reconstruct):
        np.testing.assert_allclose(answer(absurd)[:5], answer(rows), rtol=1e-5, atol=1e-5)
    assert estimator.score_samples(absurd).argmin() == 5


@pytest.mark.parametrize("as_format", FORMATS)
@pytest.mark.parametrize("Estimator", ESTIMATORS)
def test_fit_names_column_and_value_that_it_cannot_hold(Estimator, as_format):
    rows = np.vstack([low_rank(30), cell_far_out(low_rank(1)[0], 3, [-1e39])])
    estimator = Estimator(**QUICK, input_scaling=None)
    with pytest.raises(ValueError, match=r"Column 3 of X holds -1e\+39, too large"):
        estimator.fit(FORMATS[as_format](rows))


def test_a_far_row_in_a_test_fold_leaves_the_search_a_number():
    X = np.vstack([low_rank(50), cell_far_out(low_rank(1)[0], 2, [1e30])])
    search = GridSearchCV(
        VAETransformer(**QUICK), {"n_components": [1, 2]}, cv=KFold(3, shuffle=True, random_state=0)
    )
    assert np.isfinite(search.fit(X).cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize("criterion", ["log_likelihood", "combined"])
@pytest.mark.parametrize("seed", [0, 1])
def test_detector_calls_far_rows_outliers(criterion, seed):
    X = np.random.RandomState(seed).normal(size=(150, 5))
    vae = VAETransformer(**{**QUICK, "random_state": seed})
    detector = AutoencoderOutlierDetector(vae, criterion=criterion, random_state=seed).fit(X)
    far = cell_far_out(X[0], 0, [1e4, -1e4, 1e6, -1e6, 1e15, 1e39])
    assert (detector.predict(far) == -1).all()
    assert (detector.p_values(far) == detector.p_values(far).min()).all()


# What the encoder sees.


@pytest.mark.parametrize("as_format", FORMATS)
@pytest.mark.parametrize("Estimator", ESTIMATORS)
def test_codes_of_rows_shifted_by_ten_times_the_range_are_those_of_the_encoder(
    Estimator, as_format, monkeypatch
):
    X = low_rank(60)
    estimator = Estimator(**QUICK).fit(FORMATS[as_format](X))
    shifted = FORMATS[as_format](X + 10 * np.ptp(X, axis=0))
    bounded = estimator.transform(shifted)
    monkeypatch.setattr(EncoderInput, "MAX_RATIO", np.inf)
    np.testing.assert_array_equal(estimator.transform(shifted), bounded)


def test_codes_stand_still_beyond_the_bound_of_the_encoder():
    estimator, row = fitted("AutoencoderTransformer", "gaussian"), table("gaussian")[0]
    rows = cell_far_out(row, 0, [20.0, 1e5, 1e9])
    near, far, farther = (estimator.transform(one[None])[0] for one in rows)
    np.testing.assert_array_equal(far, farther)
    assert np.abs(far - near).max() > 0.1


def test_training_fixes_the_bound_of_what_the_encoder_sees():
    seen = EncoderInput(None, None)
    rows = torch.tensor([[1.0, -2.0], [0.5, 1.5]])
    assert torch.equal(seen.eval()(1e9 * rows), 1e9 * rows)  # nothing is known yet
    seen.observe(rows)
    seen.observe(0.1 * rows)
    assert torch.equal(seen.train()(1e9 * rows), 1e9 * rows)  # noise may put them anywhere
    bound = 2 * EncoderInput.MAX_RATIO
    expected = torch.tensor([[bound, -bound], [0.5, 1.5]])
    assert torch.equal(seen.eval()(torch.tensor([[1e9, -1e9], [0.5, 1.5]])), expected)


def test_widths_of_posteriors_are_bounded_and_those_of_any_use_are_left():
    kept = torch.linspace(-9.0, 3.0, 25)
    log_std = bounded_posterior(torch.stack([kept, kept], dim=1))[1][:, 0]
    assert torch.equal(log_std, kept)  # standard deviations from 1e-4 to 20
    far = torch.tensor([-1e30, -50.0, 50.0, 1e30])
    log_std = bounded_posterior(torch.stack([far, far], dim=1))[1][:, 0]
    assert ((log_std >= -10.0) & (log_std <= 4.0)).all()


def test_a_posterior_that_is_too_narrow_is_drawn_back():
    bottleneck = VariationalBottleneck(1, StandardNormal(), 1.0, Constant(), 0.0, 1, 0)
    for value, direction in ((-40.0, -1.0), (40.0, 1.0)):
        h = torch.tensor([[0.0, value]], requires_grad=True)
        bottleneck.diagnostics(h)["kl"].sum().backward()
        assert direction * float(h.grad[0, 1]) > 1e-4


def test_training_uses_the_bounded_widths():
    bottleneck = VariationalBottleneck(2, StandardNormal(), 1.0, Constant(), 0.0, 1, 0)
    h = torch.tensor([[0.0, 0.0, 500.0, -500.0]])
    noise = bottleneck.draw(1, torch.Generator().manual_seed(0))
    terms = bottleneck(h, Step(torch.sum, torch.sum, torch.ones(1), lambda: 1.0, noise=noise))
    assert torch.isfinite(terms["reconstruction"].value)
    assert torch.isfinite(terms["kl"].value)


# Totals.


def test_reconstructions_in_huge_units_are_those_in_small_ones():
    X = np.abs(low_rank(60))
    settings = {**QUICK, "n_components": 2}
    small = AutoencoderTransformer(**settings).fit(X).reconstruct(X)
    huge = AutoencoderTransformer(**settings).fit(X * 2.0**150).reconstruct(X * 2.0**150)
    np.testing.assert_allclose(huge / 2.0**150, small, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sparse_output", [False, True])
@pytest.mark.parametrize(
    "likelihood", [name for name, kind in LIKELIHOODS.items() if kind.conditional_on_total]
)
def test_reconstruction_is_proportional_to_the_total_however_large(likelihood, sparse_output):
    estimator, row = fitted("AutoencoderTransformer", likelihood), table(likelihood)[:1]
    found = []
    for factor in (2.0**100, 2.0**140, 2.0**900):  # so far out that all have one code
        large = estimator.reconstruct(row * factor, sparse_output=sparse_output) / factor
        found.append(large.toarray() if sparse_output else large)
    assert found[0].sum() > 0
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-5)


def test_shares_of_a_large_total_do_not_lose_digits():
    estimator, row = fitted("AutoencoderTransformer", "multinomial"), table("multinomial")[:1]
    for factor in (1e9, 1e35):
        total = (factor * row).sum()
        assert estimator.reconstruct(factor * row).sum() == pytest.approx(total, rel=1e-6)


def test_bounded_likelihoods_have_no_far_rows():
    assert "bernoulli" not in ENDLESS
    estimator = VAETransformer(**QUICK, likelihood="bernoulli").fit(one_hot(60))
    assert np.isfinite(estimator.score_samples(1 - one_hot(60))).all()


def test_mean_over_points_is_a_number_where_their_sum_is_none():
    bottleneck = VariationalBottleneck(3, StandardNormal(), 1.0, Constant(), 0.0, 1, 0)
    score = bottleneck.score(torch.zeros(2, 6), lambda code: torch.full((2,), -1e38))
    torch.testing.assert_close(score, torch.full((2,), -1e38))


def test_kl_is_finite_for_any_output_of_the_encoder():
    bottleneck = VariationalBottleneck(3, StandardNormal(), 1.0, Constant(), 0.0, 1, 0)
    h = 1e18 * normal(50, 6).float()
    assert torch.isfinite(bottleneck.diagnostics(h)["kl"]).all()
