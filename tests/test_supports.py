"""Values within rounding of a support are taken for what was meant; others keep their error.

Where "auto" chose the support, every later row has an answer. And rows of weight 0 are as absent.
"""

import functools

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, StandardScaler

from skae import AutoencoderOutlierDetector, AutoencoderTransformer, VAETransformer
from skae._validation import within_support
from skae.exceptions import SupportError
from skae.likelihoods import LIKELIHOODS, Bernoulli, Poisson, choose_likelihood
from skae.likelihoods.base import Support
from skae.likelihoods.choice import OUTSIDE_COST, brought_inside
from tests.helpers import (
    ESTIMATORS,
    LIKELIHOOD_VARIANTS,
    QUICK,
    cells_at_once,
    counts,
    low_rank,
    one_hot,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::skae.exceptions.PosteriorCollapseWarning"),
]

every_estimator = pytest.mark.parametrize("Estimator", ESTIMATORS)
formats = pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array, sp.csr_matrix])
laws = pytest.mark.parametrize("likelihood", LIKELIHOOD_VARIANTS, ids=str)
numbers = st.floats(allow_nan=False, allow_infinity=False)
tables = arrays(
    np.float64,
    (6, 3),
    elements=st.one_of(
        st.sampled_from([0.0, 1.0, 2.0, 0.5, 1 + 2e-16, -1e-12, 3 - 1e-9, 1e-8, -1e-7, 7e5]),
        numbers,
    ),
)

#: Likelihoods whose support is not all real numbers.
CLOSED = [name for name, kind in LIKELIHOODS.items() if not kind().inside(np.array([-1.0])).all()]


def dense(X):
    return X.toarray() if sp.issparse(X) else X


# The protocol of a likelihood.


@laws
@given(values=arrays(np.float64, 20, elements=numbers))
def test_nearest_value_is_inside_and_none_inside_is_nearer(likelihood, values):
    nearest = likelihood.nearest(values)
    assert likelihood.inside(nearest).all()
    np.testing.assert_array_equal(likelihood.nearest(nearest), nearest)
    inside = likelihood.inside(values)
    np.testing.assert_array_equal(nearest[inside], values[inside])
    for other in (np.zeros(20), np.ones(20), np.floor(values), np.ceil(values)):
        other = other[likelihood.inside(other)]
        if len(other) == 20:
            assert (np.abs(values / 2 - nearest / 2) <= np.abs(values / 2 - other / 2)).all()


@laws
@given(values=arrays(np.float64, 20, elements=numbers))
def test_settled_values_are_inside_or_as_they_were(likelihood, values):
    settled = likelihood.settled(values)
    moved = settled != values
    assert likelihood.inside(settled[moved]).all()
    assert (np.abs(settled - values)[moved] <= np.maximum(1e-6, 1e-6 * np.abs(values[moved]))).all()
    np.testing.assert_array_equal(likelihood.settled(settled), settled)
    inside = likelihood.inside(values)
    np.testing.assert_array_equal(settled[inside], values[inside])


@laws
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_rounding_errors_of_values_inside_are_settled(likelihood, kind):
    meant = np.array([0, 0, 1, 1, 2, 3, 1000, 1e5, 1e6]).astype(kind)
    if type(likelihood) is Bernoulli:
        meant = meant.clip(0, 1)
    for sign in (-1, 1):
        off = meant * kind(1 + sign * 2e-7) + kind(sign * 1e-10)
        settled = likelihood.settled(off)
        assert settled.dtype == kind
        assert likelihood.inside(settled).all()


@pytest.mark.parametrize("value", [0.5, 1.001, -1e-3, 1234567.5, 1e6 + 0.5])
def test_numbers_that_are_not_whole_are_not_taken_for_whole(value):
    assert not Poisson().inside(Poisson().settled(np.array([value]))).any()


class Negative(Support):
    """Knows its support by `inside` alone."""

    def inside(self, values):
        return values < 0


def test_likelihood_with_only_inside_is_asked_as_it_is():
    X = np.array([[-1.0, -2.0]])
    assert within_support(X, Negative()) is X
    with pytest.raises(SupportError, match=r"column 1 of X holds 1e-12"):
        within_support(np.array([[-1.0, 1e-12]]), Negative())


class Tens(Support):
    """Knows its support by `nearest` alone."""

    def nearest(self, values):
        return 10 * np.round(values / 10)


def test_likelihood_with_only_nearest_knows_what_is_inside():
    values, expected = (
        np.array([0.0, 20.0, 25.0, np.nan, np.inf]),
        [True, True, False, False, False],
    )
    assert Tens().inside(values).tolist() == expected
    np.testing.assert_array_equal(within_support(np.array([[20.00001]]), Tens()), [[20.0]])


@formats
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_tables_keep_format_and_caller_keeps_the_table(name, as_format):
    likelihood = LIKELIHOODS[name]()
    given_rows = np.array([[0.0, 1.0 + 1e-9, 0.0], [-1e-12, 0.0, 1.0 - 1e-9]])
    X, before = as_format(given_rows), given_rows.copy()
    settled = within_support(X, likelihood)
    np.testing.assert_array_equal(dense(X), before)
    assert type(settled) is type(X)
    assert likelihood.inside(dense(settled)).all()
    if sp.issparse(settled) and settled is not X:
        assert (settled.data != 0).all()
    if likelihood.sample_dtype is not None and name != "bernoulli":
        np.testing.assert_array_equal(dense(settled), np.round(given_rows))
    inside = as_format(np.array([[0.0, 1.0]]))
    assert within_support(inside, likelihood) is inside


# Fits and answers.


def meant_and_off(name):
    """Return a table inside a support, and the same table off by rounding."""
    rng = np.random.RandomState(0)
    if name == "zero_inflated_lognormal":
        meant = counts(60) * rng.lognormal(size=(60, 12))
        return meant, np.where(meant > 0, meant, -1e-12)
    meant = one_hot(60) if name == "bernoulli" else counts(60, rate=2.0)
    return meant, meant + np.where(meant > 0, 2e-8 * meant, -1e-12)


@every_estimator
@pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("name", CLOSED)
def test_rounding_changes_neither_the_fit_nor_the_answers(Estimator, name, as_format):
    meant, off = map(as_format, meant_and_off(name))
    settings = {**QUICK, "max_iter": 2, "likelihood": name}
    estimator, other = Estimator(**settings).fit(meant), Estimator(**settings).fit(off)
    for method in ("transform", "reconstruct", "score_samples"):
        expected = getattr(estimator, method)(meant)
        np.testing.assert_allclose(getattr(other, method)(off), expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(getattr(estimator, method)(off), expected, rtol=1e-4, atol=1e-5)
    assert np.isfinite(other.partial_fit(off).score(off))


def test_table_from_a_scaler_is_taken_for_zero_to_one():
    X = load_breast_cancer().data
    for kind in (np.float64, np.float32):
        pipeline = make_pipeline(MinMaxScaler(), VAETransformer(**QUICK, likelihood="bernoulli"))
        assert np.isfinite(pipeline.fit(X.astype(kind)).score(X.astype(kind)))


@pytest.mark.parametrize("scaler", [StandardScaler(), MinMaxScaler(), MaxAbsScaler()], ids=str)
@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_counts_that_went_through_a_scaler_and_back_are_counts(scaler, kind):
    X = counts(200, rate=3.0).astype(kind)
    back = scaler.inverse_transform(scaler.fit_transform(X))
    plain = VAETransformer(**QUICK, likelihood="negative_binomial").fit(X).score(X)
    estimator = VAETransformer(**QUICK, likelihood="negative_binomial").fit(back)
    assert estimator.score(back) == pytest.approx(plain, rel=1e-4)
    assert choose_likelihood(back) == choose_likelihood(X)


def test_remedy_for_rows_that_a_scaler_sends_outside_is_named_at_prediction_alone():
    estimator = VAETransformer(**QUICK, likelihood="bernoulli").fit(one_hot(60))
    for value, named in ((1.2, True), (-0.2, True), (7.0, False)):
        bad = one_hot(60)
        bad[3, 2] = value
        for method in (estimator.transform, estimator.reconstruct, estimator.score_samples):
            with pytest.raises(SupportError, match=f"column 2 of X holds {value}") as error:
                method(bad)
            assert ("MinMaxScaler(clip=True)" in str(error.value)) == named
        with pytest.raises(SupportError) as error:
            clone(estimator).fit(bad)
        assert "MinMaxScaler" not in str(error.value)


# What "auto" chooses.


@given(X=tables)
def test_chosen_likelihood_holds_the_table_that_it_was_chosen_by(X):
    likelihood = LIKELIHOODS[choose_likelihood(X)]()
    for rows in (X, sp.csr_array(X)):
        within_support(rows, likelihood)
        assert choose_likelihood(rows) == choose_likelihood(X)


@pytest.mark.parametrize(
    ("X", "name"),
    [
        (one_hot(60) * (1 + 1e-15), "bernoulli"),
        (counts(200) + 1e-12, "negative_binomial"),
        (counts(200) - 1e-12, "negative_binomial"),
        (1e-8 * one_hot(60), "gaussian"),  # small units are no rounding
        (1e-12 * counts(200), "gaussian"),
        (low_rank(60), "gaussian"),
        (counts(200) + np.where(counts(200, seed=1) > 0, 0.3, 0.0), "zero_inflated_lognormal"),
        (np.zeros((5, 3)), "bernoulli"),
    ],
)
def test_choice_sees_through_rounding(X, name):
    assert choose_likelihood(X) == name


# Later rows, where "auto" chose.


@functools.cache
def chosen(Estimator, name, sparse=False):
    X = meant_and_off(name)[0] if name != "negative_binomial" else counts(60)
    estimator = Estimator(**QUICK, likelihood="auto").fit(sp.csr_array(X) if sparse else X)
    assert isinstance(estimator.likelihood_, LIKELIHOODS[name])
    return estimator, X


AUTO = ["bernoulli", "negative_binomial", "zero_inflated_lognormal"]


@every_estimator
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("name", AUTO)
def test_later_row_outside_has_an_answer_that_is_lower_the_farther_it_is(Estimator, name, sparse):
    estimator, X = chosen(Estimator, name, sparse)
    distances = np.array([0.25, 1.0, 10.0, 1e3, 1e9, 1e39, 1e308])
    rows = np.repeat(X[:1], len(distances), axis=0)
    rows[:, 2] = -distances
    inside = rows.copy()
    inside[:, 2] = 0.0
    given_rows = sp.csr_array(rows) if sparse else rows
    scores = estimator.score_samples(given_rows)
    assert (np.diff(scores) < 0).all()
    assert (scores < estimator.score_samples(X).min()).all()
    cost = estimator.score_samples(inside) - scores
    np.testing.assert_allclose(cost, OUTSIDE_COST + np.log1p(distances), rtol=1e-5)
    for method in (estimator.transform, estimator.reconstruct):
        np.testing.assert_allclose(method(given_rows), method(inside), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array])
def test_each_value_outside_costs_and_no_other(as_format):
    X = np.array([[0.0, 1.0, 0.5], [2.0, -3.0, 1.0], [0.0, 1 + 1e-12, 0.0], [0.0, 0.0, 5.0]])
    inside, cost = brought_inside(as_format(X), Bernoulli())
    np.testing.assert_array_equal(dense(inside), X.clip(0, 1))
    expected = [0, 2 * OUTSIDE_COST + np.log(2) + np.log(4), 0, OUTSIDE_COST + np.log(5)]
    np.testing.assert_allclose(cost, expected)


@pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array])
def test_cost_of_rows_in_later_chunks_is_theirs(as_format):
    X = counts(40, 3) + 1
    X[[5, 17, 39], [0, 2, 1]] = -1.0
    with cells_at_once(4):
        cost = brought_inside(as_format(X), Poisson())[1]
    np.testing.assert_array_equal(np.flatnonzero(cost), [5, 17, 39])


def test_every_fold_of_a_search_has_a_score_where_a_rare_value_is_in_one_alone():
    X = (np.random.default_rng(0).random((100, 8)) < 0.3).astype(float)
    X[7, 3] = 2
    vae = VAETransformer(n_components=2, likelihood="auto", max_iter=5, random_state=0)
    scores = cross_val_score(vae, X, cv=KFold(5), error_score="raise")
    assert np.isfinite(scores).all()
    assert scores.argmin() == 0
    search = GridSearchCV(vae, {"n_components": [1, 2]}, cv=KFold(5), error_score="raise").fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    pipeline = make_pipeline(clone(vae), StandardScaler()).fit(X[8:])
    assert np.isfinite(pipeline.transform(X)).all()


@pytest.mark.parametrize("criterion", ["log_likelihood", "combined"])
@pytest.mark.parametrize("sparse", [False, True])
def test_detector_with_such_an_estimator_answers_for_rows_outside(criterion, sparse):
    X = one_hot(100)
    odd = X[:3].copy()
    odd[:, 1] = [2.0, -1.0, 0.5]
    odd[:2, 4] = 9.0
    vae = VAETransformer(**QUICK, likelihood="auto")
    detector = AutoencoderOutlierDetector(vae, criterion=criterion, random_state=0)
    detector.fit(sp.csr_array(X) if sparse else X)
    scores = detector.score_samples(sp.csr_array(odd) if sparse else odd)
    assert np.isfinite(scores).all()
    assert (detector.predict(odd)[:2] == -1).all()


@every_estimator
def test_what_the_user_named_keeps_its_error_and_training_too(Estimator):
    X = one_hot(60)
    bad = X.copy()
    bad[0, 0] = 2.0
    named = Estimator(**QUICK, likelihood="bernoulli").fit(X)
    named.set_params(likelihood="auto")  # changes nothing until the next fit
    with pytest.raises(SupportError):
        named.score_samples(bad)
    auto = Estimator(**QUICK, likelihood="auto").partial_fit(X)
    auto.set_params(likelihood="bernoulli")
    assert np.isfinite(auto.score_samples(bad)).all()
    with pytest.raises(SupportError, match=r"'auto'.*first call"):
        auto.partial_fit(bad)


# Weights.


@every_estimator
@pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("likelihood", ["auto", "bernoulli"])
def test_row_of_weight_zero_is_as_absent(Estimator, as_format, likelihood):
    X = one_hot(60)
    with_bad = np.vstack([X, np.full((1, 12), -1.0), np.full((1, 12), 1e300)])
    weight = np.append(np.ones(60), [0.0, 0.0])
    settings = {**QUICK, "max_iter": 2, "likelihood": likelihood}
    expected = Estimator(**settings).fit(as_format(X)).transform(X)
    estimator = Estimator(**settings).fit(as_format(with_bad), sample_weight=weight)
    np.testing.assert_allclose(estimator.transform(X), expected, rtol=1e-5, atol=1e-6)
    assert type(estimator.likelihood_) is Bernoulli
    score = estimator.score(as_format(with_bad), sample_weight=weight)
    assert score == pytest.approx(estimator.score(X), rel=1e-6)
    assert estimator.partial_fit(as_format(with_bad), sample_weight=weight) is estimator


@every_estimator
@pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array])
def test_score_is_the_weighted_mean(Estimator, as_format):
    X = low_rank(60)
    estimator, weight = Estimator(**QUICK).fit(X), np.arange(60.0)
    scores = estimator.score_samples(X)
    assert estimator.score(as_format(X)) == pytest.approx(scores.mean(), rel=1e-5)
    found = estimator.score(as_format(X), sample_weight=weight)
    assert found == pytest.approx(np.average(scores, weights=weight), rel=1e-5)
    twice = estimator.score(np.vstack([X, X[:9]]))
    weight = np.append(np.full(9, 2.0), np.ones(51))
    assert estimator.score(X, sample_weight=weight) == pytest.approx(twice, rel=1e-6)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (-np.ones(60), "Negative values"),
        (np.zeros(60), "at least one non-zero"),
        (np.full(60, np.nan), "NaN"),
        (np.ones(59), r"sample_weight\.shape"),
    ],
)
def test_bad_weights_of_a_score_are_refused(weight, message):
    estimator = AutoencoderTransformer(**QUICK).fit(low_rank(60))
    with pytest.raises(ValueError, match=message):
        estimator.score(low_rank(60), sample_weight=weight)


def test_weights_of_a_score_can_be_routed_and_names_are_checked():
    estimator = AutoencoderTransformer(**QUICK)
    assert "sample_weight" in estimator.get_metadata_routing().score.requests
    frame = pd.DataFrame(low_rank(60)).add_prefix("c")
    estimator.fit(frame)
    with pytest.raises(ValueError, match="feature names"):
        estimator.score(frame.add_prefix("x"), sample_weight=np.ones(60))
