"""Are columns centred and scaled right, however far from zero, constant, tiny or rare?"""

from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.metrics import roc_auc_score

from skae import (
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    SparseAutoencoderTransformer,
    VAETransformer,
)
from skae._kernels.csr import Csr
from skae._scaling import Scaling, fit_scaling, summarise_columns
from skae._training.batches import CsrRows, to_csr, to_tensor
from skae.outliers.network import scaling_of
from skae.outliers.same_rows import scaled
from skae.outliers.training import column_scaling
from tests.helpers import ESTIMATORS, low_rank

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::skae.exceptions.PosteriorCollapseWarning"),
]

formats = pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array, sp.csr_matrix])
every_estimator = pytest.mark.parametrize("Estimator", ESTIMATORS)

#: Columns that are far from zero for their spread, from numbers of size one.
FAR = {
    "years": lambda z: np.round(2010 + 5 * z),
    "prices": lambda z: 30 * np.exp(0.2 * z),
    "seconds": lambda z: np.round(1.7e9 + 100 * z),
    "microseconds": lambda z: np.round(1.7e15 + 500 * z),
    "nanoseconds": lambda z: np.round(1.7e18 + 1e6 * z),
    "identifiers": lambda z: np.round(9e15 + 1e3 * z),
    "below zero": lambda z: -1e8 + z,
}
far_columns = pytest.mark.parametrize("far", FAR)


def summary(X, as_format=np.asarray, weight=None):
    return summarise_columns(as_format(X), np.arange(len(X)), weight)


def mixed(far, n_rows=300, seed=0):
    """Return six flags, a number, and a column far from zero that follows it."""
    rng = np.random.RandomState(seed)
    flags, number = np.eye(6)[rng.randint(6, size=n_rows)], rng.normal(size=n_rows)
    return np.column_stack([flags, number, FAR[far](number + 0.1 * rng.normal(size=n_rows))])


def explained(X, R):
    return 1 - np.square(X - R).mean(axis=0) / X.var(axis=0)


# Moments.


def exact_moments(column, weight):
    """Return mean, and roots of the second and fourth central moments, by whole numbers."""
    values, weight = [Fraction(v) for v in column], [Fraction(w) for w in weight]
    total = sum(weight)
    mean = sum(w * v for v, w in zip(values, weight, strict=True)) / total
    scale = max(abs(v - mean) for v in values) or Fraction(1)
    moments = [
        sum(w * ((v - mean) / scale) ** p for v, w in zip(values, weight, strict=True)) / total
        for p in (2, 4)
    ]
    return float(mean), *(
        float(scale) * float(m) ** (1 / p) for m, p in zip(moments, (2, 4), strict=True)
    )


@formats
@pytest.mark.parametrize("weighted", [False, True])
def test_moments_are_exact_whatever_mean_and_unit(as_format, weighted):
    rng = np.random.RandomState(0)
    z = rng.normal(size=60)
    sparse = z * (rng.uniform(size=60) < 0.3)
    columns = [f(z) for f in FAR.values()] + [u * sparse for u in (1.0, 1e-90, 1e-200, 1e75, 1e200)]
    columns.append(np.where(rng.uniform(size=60) < 0.2, 0.0, 5 + z))  # seldom a zero
    X, weight = np.column_stack(columns), rng.uniform(0.5, 2.0, 60) if weighted else None
    found = summary(X, as_format, weight)
    for j, column in enumerate(columns):
        expected = exact_moments(column, np.ones(60) if weight is None else weight)
        mean, *roots = (part[j] for part in (found.mean, found.deviation, found.fourth_root))
        # The mean is a number of double precision; the roots are about that.
        assert abs(mean - expected[0]) <= 1e-15 * abs(expected[0]) + 1e-12 * expected[1]
        np.testing.assert_allclose(roots, expected[1:], rtol=1e-5)
    assert not found.constant.any()
    np.testing.assert_array_equal(found.n_unusual, (found.usual != X).sum(axis=0))
    np.testing.assert_allclose(found.used, np.average(X != 0, axis=0, weights=weight))


@formats
@pytest.mark.parametrize("value", [0.1, -3.7, 1e-200, 2e250, 1.7e18, 1e15])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_columns_are_constant_within_rounding_and_come_out_as_zero(as_format, value, dtype):
    value = np.float64(np.clip(abs(value), 1e-30, 1e30) if dtype is np.float32 else value)
    rng = np.random.RandomState(0)
    rounded = value * (1 + np.finfo(np.float64).eps * rng.randint(-2, 3, size=500))
    telling = value * (1 + 100 * np.finfo(dtype).eps * rng.normal(size=500))
    X = np.column_stack([np.full(500, value), rounded, telling]).astype(dtype)
    columns = summarise_columns(as_format(X), np.arange(500), None)
    assert columns.constant.tolist() == [True, True, False]
    for kind in ("standard", "fourth_moment"):
        found = fit_scaling(kind, columns, as_format is not np.asarray)
        assert np.abs(found.apply(X)[:, :2]).max() <= 1e-5
        assert found.apply(X)[:, 2].std() == pytest.approx(1.0, rel=0.3)


# Far from zero.


@pytest.mark.parametrize("kind", ["standard", "fourth_moment", "common", "max", "log1p"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scaled_csr_rows_are_the_scaled_rows(kind, dtype):
    rng = np.random.RandomState(0)
    X = rng.poisson(0.5, size=(50, 7)).astype(dtype)
    X[:, 1], X[:, 3], X[:, 6] = 2010 + rng.normal(size=50), 3.0, rng.uniform(size=50) < 0.9
    X[:5, 1] = X[7, 3] = 0.0  # nothing stored where there will be an entry
    found = fit_scaling(kind, summary(X, sp.csr_array), sparse=True)
    rows = found.apply_csr(sp.csr_array(X))
    assert rows.has_canonical_format
    assert rows.dtype == np.float64
    np.testing.assert_allclose(rows.toarray(), found.apply(X), rtol=1e-6 if kind == "log1p" else 0)
    near = np.ones(7, dtype=bool) if found.shift is None else found.shift == 0
    assert (found.shift is not None) == (kind in ("standard", "fourth_moment", "common"))
    assert (rows.toarray()[:, near][X[:, near] == 0] == 0).all()
    assert rows.data.all()
    found_there = to_csr(sp.csr_array(X), found, "cpu").dense()
    np.testing.assert_allclose(found_there, to_tensor(X, found, "cpu"), rtol=1e-6)
    of_detector = scaled(sp.csr_array(X), found).toarray()
    np.testing.assert_allclose(of_detector, scaled(X, found), rtol=1e-6)


def test_entries_of_centred_columns_at_most_double():
    rng = np.random.RandomState(0)
    share = rng.uniform(size=300)
    X = sp.csr_array((rng.uniform(size=(400, 300)) < share) * rng.normal(3, 1, size=(400, 300)))
    found = fit_scaling("fourth_moment", summarise_columns(X, np.arange(400), None), sparse=True)
    assert (found.shift != 0).any()
    assert found.apply_csr(X).nnz <= 2 * X.nnz
    assert isinstance(CsrRows(X, np.arange(400), None, found, "cpu").x, Csr)


@far_columns
@every_estimator
@pytest.mark.parametrize("method", ["dense", "exact"])  # "auto" is one of them
def test_sparse_columns_far_from_zero_are_learned_as_if_they_were_near(Estimator, far, method):
    X = mixed(far)
    mean, deviation = X[:, 7].mean(), X[:, 7].std()
    near = np.column_stack([X[:, :7], (X[:, 7] - mean) / deviation])
    settings = {"n_components": 3, "max_iter": 8, "learning_rate_init": 1e-2, "random_state": 0}
    one, other = (
        Estimator(sparse_method=method, **settings).fit(sp.csr_array(Z)) for Z in (X, near)
    )
    # A mean of 9e15 is a whole number, so that a thousandth of the spread is left of its fraction.
    found, expected = one.reconstruct(sp.csr_array(X)), other.reconstruct(sp.csr_array(near))
    np.testing.assert_allclose((found[:, 7] - mean) / deviation, expected[:, 7], atol=0.05)
    np.testing.assert_allclose(found[:, :7], expected[:, :7], atol=0.05)
    scores = one.score_samples(sp.csr_array(X)) + np.log(deviation)
    np.testing.assert_allclose(scores, other.score_samples(sp.csr_array(near)), atol=0.1)
    # In either format.
    np.testing.assert_allclose(one.score_samples(X) + np.log(deviation), scores, atol=1e-3)


@far_columns
@every_estimator
def test_sparse_columns_far_from_zero_are_learned_as_in_a_dense_table(Estimator, far):
    X = mixed(far)
    settings = {"n_components": 6, "max_iter": 60, "learning_rate_init": 5e-3, "random_state": 0}
    if Estimator is SparseAutoencoderTransformer:
        settings["n_active"] = 3
    dense, sparse = (
        explained(X, Estimator(**settings).fit(Z).reconstruct(Z)) for Z in (X, sp.csr_array(X))
    )
    assert dense[6:].min() > 0.8  # it says something of these columns
    assert sparse[6:].min() > dense[6:].min() - 0.12


@far_columns
def test_explained_variance_of_a_far_column_is_that_of_theory(far):
    # The column follows the number but for a hundredth of its variance.
    X = sp.csr_array(mixed(far))
    vae = VAETransformer(n_components=3, random_state=0, max_iter=150).fit(X)
    assert explained(X.toarray(), vae.reconstruct(X))[7] > 0.97


@far_columns
def test_detector_sees_odd_values_of_far_columns_in_csr_as_in_dense(far):
    train, test = mixed(far), mixed(far, 60, seed=1)
    odd = np.arange(60) < 20
    test[odd, 6] *= -1  # no longer goes with the column far from zero
    found = []
    for as_format in (np.asarray, sp.csr_array):
        detector = AutoencoderOutlierDetector(random_state=0).fit(as_format(train))
        found.append(roc_auc_score(odd, -detector.score_samples(as_format(test))))
    assert found[0] == pytest.approx(found[1], abs=0.03)
    assert min(found) > 0.85


def test_zeros_stay_zeros_for_an_encoder_that_alone_is_scaled():
    X = sp.csr_array((np.random.RandomState(0).uniform(size=(80, 5)) < 0.9).astype(float))
    # From principal components the first step would be made of rounding, where bias is concerned.
    settings = {"max_iter": 3, "random_state": 0, "likelihood": "bernoulli", "init": "random"}
    found = [
        AutoencoderTransformer(2, input_scaling="standard", sparse_method=method, **settings).fit(X)
        for method in ("dense", "exact")
    ]
    for estimator in found:
        assert estimator.module_.encoder_input.shift is None
    np.testing.assert_allclose(*(one.transform(X) for one in found), rtol=1e-4, atol=1e-4)


def test_sparse_reconstruction_of_a_far_column_is_in_the_units_of_x():
    X = sp.csr_array(mixed("years"))
    fitted = AutoencoderTransformer(n_components=3, random_state=0, max_iter=60).fit(X)
    found = fitted.reconstruct(X, sparse_output=True).toarray()
    assert np.abs(found[:, 7] - X.toarray()[:, 7]).max() < 10


# Constant columns.


@every_estimator
@pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("value", [0.0, 3.7, -1e15, 2e200])
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_constant_columns_teach_nothing_and_tell_odd_rows(Estimator, as_format, value):
    X = low_rank(100, n_features=4)
    rounded = value * (1 + 2e-16 * np.random.RandomState(0).randint(-1, 2, size=100))
    fitted = Estimator(n_components=2, random_state=0, max_iter=40, learning_rate_init=1e-2)
    with_constant = fitted.fit(as_format(np.column_stack([X, rounded])))
    scores = []
    for times in (1.0, 1.5, 3.0, 30.0):
        new = np.column_stack([X, np.full(100, value * times if value else times - 1.0)])
        scores.append(with_constant.score_samples(as_format(new)))
    assert np.isfinite(scores).all()
    assert (np.diff(scores, axis=0) < 0).all()


@pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("constant", [1.0, 2020.0, 1e6, 16777216.0])
def test_a_row_that_leaves_a_constant_by_one_is_odd(as_format, constant):
    X = np.random.RandomState(0).normal(size=(200, 5))
    detector = AutoencoderOutlierDetector(random_state=0)
    detector.fit(as_format(np.column_stack([X, np.full(200, constant)])))
    new = np.repeat(np.zeros((1, 5)), 4, axis=0)
    new = np.column_stack([new, constant + np.array([0.0, 1.0, 3.0, 30.0])])
    scores = detector.score_samples(as_format(new))
    assert (np.diff(scores) < 0).all()
    assert detector.predict(as_format(new)).tolist() == [1, -1, -1, -1]


def test_steps_of_one_unit_in_the_last_place_are_a_spread_in_single_precision():
    steps = np.round(8 * np.random.RandomState(0).normal(size=200))
    x = np.random.RandomState(1).normal(size=(200, 3))
    X = np.column_stack([x, 1.7e9 // 128 * 128 + 128 * steps])
    settings = {"n_components": 2, "max_iter": 60, "random_state": 0, "learning_rate_init": 1e-2}
    for table in (X, X.astype(np.float32)):
        columns = summarise_columns(table, np.arange(200), None)
        assert not columns.constant.any()
        R = AutoencoderTransformer(**settings).fit(table).reconstruct(table)
        assert np.abs(R[:, 3].astype(float) - X[:, 3]).max() < 5 * X[:, 3].std()


@pytest.mark.parametrize("start", [1.7e15, 1e18, 9e15])
@pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array])
def test_where_a_time_starts_does_not_matter(as_format, start):
    rng = np.random.RandomState(0)
    x, time = rng.normal(size=(200, 3)), 2048.0 * rng.randint(-100, 100, size=200)
    X = np.column_stack([x[:, 0], x[:, 0] + 0.1 * x[:, 1], x[:, 0] - 0.1 * x[:, 2], time])
    settings = {"n_components": 2, "random_state": 0, "max_iter": 60, "learning_rate_init": 1e-2}
    for offset in (0.0, start):
        Z = as_format(X + np.array([0, 0, 0, offset]))
        R = AutoencoderTransformer(**settings).fit(Z).reconstruct(Z)
        assert explained(X[:, :3], R[:, :3]).min() > 0.95


# Units.


@every_estimator
@pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("units", [[1e-90, 1e-200, 1e75, 1e120], [1e-300, 1e150, 1e-60, 1e250]])
def test_log_likelihood_does_not_depend_on_units_however_small_or_large(
    Estimator, as_format, units
):
    X = low_rank(100, n_features=4)
    settings = {"n_components": 2, "random_state": 0, "max_iter": 20}
    one, other = (
        Estimator(**settings).fit(as_format(Z)).score_samples(as_format(Z)) for Z in (X, X * units)
    )
    np.testing.assert_allclose(other + np.log(units).sum(), one, atol=1e-3)


# Columns of which few rows tell anything.


def pictures(n_rows=2000, n_features=60, n_barely_on=8, seed=0):
    """Return pixels of 0 to 1, most of them black; some are barely on in one row alone."""
    rng = np.random.RandomState(seed)
    X = rng.beta(2.0, 1.0, size=(n_rows, n_features)) * (
        rng.uniform(size=(n_rows, n_features)) < 0.2
    )
    X[:, :n_barely_on] = 0.0
    X[np.arange(n_barely_on), np.arange(n_barely_on)] = 1 / 255
    return X


@formats
@pytest.mark.parametrize("unit", [1e-100, 1.0, 255.0])
@pytest.mark.parametrize(
    ("kind", "most"), [("fourth_moment", 15.0), ("standard", 60.0), ("max", 2.0)]
)
def test_pixel_that_is_barely_on_once_is_scaled_as_one_of_the_others(as_format, kind, most, unit):
    X = pictures() * unit
    X[:, 7] = 0.0  # never on
    found = fit_scaling(kind, summary(X, as_format), as_format is not np.asarray)
    new = np.abs(found.apply(np.full((1, 60), unit)))[0]
    assert new[:8].max() < most
    # It is one of the larger ones: nobody knows that the pixel is often so bright.
    assert new[0] >= 0.9 * np.median(new)


def test_columns_of_many_units_lend_each_other_no_size():
    X = pictures()
    units = 10.0 ** np.random.RandomState(0).uniform(-80, 75, size=60)
    for kind in ("fourth_moment", "standard"):
        rows = summary(X * units)
        scale = fit_scaling(kind, rows, sparse=False).scale
        plain = rows.deviation if kind == "standard" else rows.fourth_root / 3**0.25
        once = 3.0 ** (0.5 if kind == "standard" else 0.25)
        np.testing.assert_allclose(scale[8:], plain[8:])
        # Sizes from 1e-80 to 1e75 have a variance of thousands, so that one row weighs nearly all.
        assert (scale[:8] >= 0.999 * once * plain[:8]).all()
        assert (scale[:8] < 2 * once * plain[:8]).all()


@pytest.mark.parametrize(("kind", "power"), [("fourth_moment", 0.25), ("standard", 0.5)])
def test_flags_seen_less_than_three_times_count_as_seen_three_times(kind, power):
    seen = np.array([1, 2, 3, 4, 30, 100, 200, 300, 400])
    X = (np.arange(1000)[:, None] < seen).astype(float)
    columns = summary(X)
    own = {"standard": columns.deviation, "fourth_moment": columns.fourth_root / 3**0.25}[kind]
    found = fit_scaling(kind, columns, sparse=False).scale / own
    expected = np.ones(9)
    expected[:2] = 3.0**power, 1.5**power
    # Sizes of flags are alike, but for what a share of ones adds to a deviation.
    np.testing.assert_allclose(found, expected, rtol=0.25)
    assert (found >= expected - 1e-12).all()
    np.testing.assert_array_equal(found[4:], 1.0)


@formats
def test_usual_value_may_be_any(as_format):
    X = 1.0 - pictures()
    found = fit_scaling("fourth_moment", summary(X, as_format), sparse=as_format is not np.asarray)
    of_black = fit_scaling("fourth_moment", summary(pictures()), sparse=False)
    np.testing.assert_allclose(found.scale, of_black.scale, rtol=1e-6)


@formats
def test_detector_takes_the_same_floor(as_format):
    X = as_format(pictures())
    found = column_scaling(X, np.ones(2000), scaling_of("auto", sp.issparse(X)))
    assert np.abs(found.apply(np.ones((1, 60)))).max() < 60


def test_scaling_without_shift_leaves_csr_as_it_is():
    X = sp.csr_array(np.eye(3))
    found = Scaling(None, np.full(3, 2.0)).apply_csr(X)
    np.testing.assert_array_equal(found.toarray(), X.toarray() / 2)
    np.testing.assert_array_equal(found.indices, X.indices)
