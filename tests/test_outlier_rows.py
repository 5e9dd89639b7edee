"""Rows in any format, container, weight and company: does the detector answer, and the same?"""

import io

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import KFold, ShuffleSplit
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import OneClassSVM
from threadpoolctl import threadpool_info

from skae import AutoencoderOutlierDetector, AutoencoderTransformer, VAETransformer
from skae.outliers import NeighboursAndNetwork, RobustNeighboursAndNetwork
from skae.outliers.same_rows import SameRows
from tests.helpers import (
    cells_at_once,
    one_hot,
)

pytestmark = pytest.mark.filterwarnings("ignore:Maximum iterations")

QUICK_NETWORK = AutoencoderTransformer(
    n_components=3, hidden_layer_sizes=(8,), init="random", max_iter=3, tol=1.0, random_state=0
)
QUICK = {"estimator": QUICK_NETWORK, "random_state": 0}
FORMATS = {"dense": np.asarray, "csr": sp.csr_array}

formats = pytest.mark.parametrize("as_format", FORMATS.values(), ids=FORMATS)
contaminations = pytest.mark.parametrize("contamination", ["auto", 0.1])


def mixed(n_rows=120, seed=0):
    """Return numbers, a year, a flag, a price, and a column that is mostly zero."""
    rng = np.random.RandomState(seed)
    X = rng.normal(size=(n_rows, 6)) * [1, 5, 1e-3, 1, 50, 1] + [0, 2010, 0, 0, 900, 0]
    X[:, 3] = X[:, 3] > 0
    X[:, 5] *= rng.uniform(size=n_rows) < 0.2
    return X


# Either format.


def answers(detector, X):
    """Return what every method says, dense."""
    methods = ("score_samples", "decision_function", "predict", "p_values")
    found = {name: getattr(detector, name)(X) for name in methods}
    shares, rest = detector.score_features(X, return_rest=True)
    assert sp.issparse(shares) == sp.issparse(X)
    found["shares and rest"] = np.asarray(shares.sum(axis=1)).ravel() + rest
    reasons = detector.explain(X, n_reasons=6, min_share=0)
    return found | {name: reasons[name].to_numpy() for name in reasons.columns}


@formats
@contaminations
@pytest.mark.parametrize("table", [mixed, one_hot])
def test_either_format_is_answered_alike(as_format, contamination, table):
    X, new = table(), table(40, seed=1)
    detector = AutoencoderOutlierDetector(contamination=contamination, **QUICK).fit(as_format(X))
    found = [answers(detector, kind(new)) for kind in FORMATS.values()]
    for name, values in found[0].items():
        if values.dtype == object:
            assert (values == found[1][name]).all()
        else:
            np.testing.assert_allclose(values, found[1][name], rtol=1e-9, atol=1e-9)


def test_a_log_likelihood_answers_in_either_format():
    X = mixed()
    for as_format in FORMATS.values():
        detector = AutoencoderOutlierDetector(OneClassSVM(), random_state=0).fit(as_format(X))
        scores = [detector.score_samples(kind(X)) for kind in FORMATS.values()]
        np.testing.assert_allclose(*scores)


def test_sparse_rows_are_made_dense_in_blocks_only(monkeypatch):
    detector = AutoencoderOutlierDetector(**QUICK).fit(one_hot())
    seen = []
    whole = sp.csr_array.toarray
    monkeypatch.setattr(
        sp.csr_array, "toarray", lambda self, *a, **k: seen.append(self.shape[0]) or whole(self)
    )
    with cells_at_once(12 * 64):
        detector.score_samples(sp.csr_array(one_hot(400)))
    assert max(seen) <= 64


# The same row within rounding.


def in_a_file(X):
    text = pd.DataFrame(X).to_csv(index=False, float_format="%.9g")
    return pd.read_csv(io.StringIO(text)).to_numpy()


def through_a_scaler(X, dtype=np.float64):
    scaler = StandardScaler().fit(X)
    return scaler.inverse_transform(scaler.transform(X).astype(dtype)).astype(np.float64)


ROUND_TRIPS = {
    "next number": lambda X: np.nextafter(X, np.inf),
    "single precision": lambda X: X.astype(np.float32),
    "file": in_a_file,
    "scaler": through_a_scaler,
    "scaler in single precision": lambda X: through_a_scaler(X, np.float32),
    "a part in a billion": lambda X: X * (1 + 1e-9),
}


@formats
@contaminations
@pytest.mark.parametrize("cv", [3, ShuffleSplit(1, test_size=0.2, random_state=0)], ids=["3", "1"])
@pytest.mark.parametrize("trip", ROUND_TRIPS)
def test_a_training_row_is_itself_after_a_round_trip(as_format, contamination, cv, trip):
    X = mixed()
    X[0] = X[0] * 1.01 + 5  # an odd one
    detector = AutoencoderOutlierDetector(contamination=contamination, cv=cv, **QUICK)
    scores = detector.fit(as_format(X)).score_samples(as_format(X))
    again = ROUND_TRIPS[trip](X)
    assert (again != X).any() or trip == "file"
    np.testing.assert_allclose(detector.score_samples(as_format(again)), scores, rtol=1e-3)
    assert np.argmin(scores) == 0


@contaminations
@pytest.mark.parametrize("network", [False, True])
def test_copies_are_copies_within_rounding(contamination, network):
    X, new = mixed(), mixed(30, seed=1)
    tables = [np.vstack([X, copy]) for copy in (X, X * (1 + 1e-9), through_a_scaler(X))]
    robust = contamination != "auto"
    without = RobustNeighboursAndNetwork((1, 0)) if robust else NeighboursAndNetwork((1, 1, 0))
    found = []
    for table in tables:
        detector = AutoencoderOutlierDetector(
            contamination=contamination,
            criterion="auto" if network else without,
            random_state=0,
        ).fit(table)
        found.append((detector.score_samples(X), detector.score_samples(new), detector.offset_))
    for other in found[1:]:
        for values, expected in zip(other, found[0], strict=True):
            np.testing.assert_allclose(values, expected, rtol=2e-2 if network else 1e-4)


def test_rows_that_differ_are_not_the_same():
    X = mixed()
    same = SameRows(X)
    assert same.n_groups == len(X)
    assert np.array_equal(same.find(X), same.group)
    other = X.copy()
    other[:, 0] += 1e-3
    assert (same.find(other) == -1).all()


@formats
def test_an_absurd_cell_makes_no_rows_the_same(as_format):
    X = one_hot(60, (6,)) + 0.0
    X[:, 0] = np.arange(60.0)
    X[7, 0] = 1e30
    assert SameRows(as_format(X)).n_groups == 60


def test_rows_that_lie_closer_than_rounding_are_not_all_one():
    rows = np.linspace(0, 1e-3, 5001)[:, None] + np.array([[0.0, 1.0]])
    X = np.vstack([rows, [[1e3, 1e3], [-1e3, 0.0]]])
    same = SameRows(np.repeat(X, 2, axis=0))
    spread = [np.ptp(X.repeat(2, axis=0)[same.group == g, 0]) for g in range(same.n_groups)]
    assert max(spread) < 1e-4
    assert (same.group[::2] == same.group[1::2]).all()


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 10**6),
    st.sampled_from([1, 3, 40]),
    st.sampled_from(list(FORMATS)),
    st.booleans(),
)
def test_groups_are_those_of_the_rows_before_rounding(seed, n_features, name, ties):
    """Distinct rows, some of them several times, each time rounded in another way."""
    rng, as_format = np.random.RandomState(seed), FORMATS[name]
    most = 3 if ties else 300
    X = np.unique(rng.randint(-most, most, size=(50, n_features)), axis=0)
    X = X * 10.0 ** rng.randint(-5, 4, n_features)
    which = rng.randint(len(X), size=120)
    rounded = X[which] * (1 + 1e-8 * rng.uniform(-1, 1, size=(120, n_features)))
    same = SameRows(as_format(rounded))
    _, expected = np.unique(which, return_inverse=True)
    pairs = np.unique(np.column_stack([expected, same.group]), axis=0)
    assert len(pairs) == same.n_groups == expected.max() + 1
    np.testing.assert_array_equal(same.find(as_format(X[which])), same.group)


# Rows of nothing, and of what is no number.


@contaminations
@pytest.mark.parametrize("n_used", [0, 1, 5])
def test_rows_without_entries(contamination, n_used):
    X = sp.lil_array((60, 10))
    for row in range(n_used):
        X[row, row] = 1.0
    for table in (sp.csr_array(X), X.toarray()):
        detector = AutoencoderOutlierDetector(contamination=contamination, **QUICK).fit(table)
        for new in (sp.csr_array((40, 10)), np.zeros((40, 10))):
            assert np.isfinite(detector.score_samples(new)).all()
            assert (detector.predict(new) == 1).all()
            assert detector.score_features(new).shape == (40, 10)
            assert list(detector.explain(new[[0]])) == ["feature", "value", "expected", "share"]
        assert detector.score_samples(np.full((1, 10), 3.0)) < detector.score_samples(new[[0]])


@contaminations
def test_far_rows_are_finite_and_the_farther_the_odder(contamination):
    detector = AutoencoderOutlierDetector(contamination=contamination, random_state=0).fit(mixed())
    new = np.repeat(mixed(1, seed=1), 6, axis=0)
    new[:, 0] = [1, 10, 1e3, 1e6, 1e12, 1e30]
    scores = detector.score_samples(new)
    assert np.isfinite(scores).all()
    assert (np.diff(scores) < 0).all()
    farthest = np.vstack([new, np.full((1, 6), 1e300)])
    assert np.isfinite(detector.score_samples(farthest)).all()
    assert detector.predict(farthest)[-1] == -1


class NoNumber(KernelDensity):
    """A density that is no number in some rows."""

    def __init__(self, limit=100.0):
        super().__init__()
        self.limit = limit

    def score_samples(self, X):
        return np.where(X[:, 0] > self.limit, np.nan, super().score_samples(X))


class ReconstructsNoNumber(AutoencoderTransformer):
    """A network whose output is no number in some rows."""

    def reconstruct(self, X, sparse_output=False):
        return np.where(X[:, :1] > 100, np.nan, super().reconstruct(X))


NO_NUMBERS = {
    "score": NoNumber(),
    "reconstruction": ReconstructsNoNumber(**QUICK_NETWORK.get_params()),
}


@contaminations
@pytest.mark.parametrize("kind", NO_NUMBERS)
def test_what_is_no_number_is_never_normal(kind, contamination):
    detector = AutoencoderOutlierDetector(
        NO_NUMBERS[kind], contamination=contamination, random_state=0
    ).fit(mixed())
    new = mixed(20, seed=1)
    new[3, 0] = 1e3
    scores = detector.score_samples(new)
    assert np.isfinite(scores).all()
    assert np.argmin(scores) == 3
    assert detector.predict(new)[3] == -1
    assert detector.decision_function(new)[3] < 0
    assert detector.p_values(new)[3] == min(detector.p_values(new))
    if kind == "reconstruction":
        shares = detector.score_features(new)
        np.testing.assert_allclose(shares.sum(axis=1), scores)
        assert np.isfinite(detector.explain(new[3])["share"]).all()


@pytest.mark.parametrize("kind", NO_NUMBERS)
def test_a_training_row_that_is_no_number_is_an_error(kind):
    X = mixed()
    X[5, 0] = 1e3
    with pytest.raises(ValueError, match=r"(?s)training rows.*NaN.*NoNumber|NoNumber.*NaN"):
        AutoencoderOutlierDetector(NO_NUMBERS[kind], random_state=0).fit(X)


# Reasons.


#: Containers that scipy, pandas, numpy and Python have for one row.
ONE_ROW = {
    "array": lambda row: row,
    "table": lambda row: row[None],
    "list": lambda row: row.tolist(),
    "tuple": lambda row: tuple(row.tolist()),
    "list of lists": lambda row: [row.tolist()],
    "object array": lambda row: row.astype(object),
    "Series": pd.Series,
    "DataFrame": lambda row: pd.DataFrame(row[None]),
    "sparse DataFrame": lambda row: pd.DataFrame(row[None]).astype(pd.SparseDtype(float, 0.0)),
    "csr_array, 1-d": lambda row: sp.csr_array(row[None])[0],
    "coo_array, 1-d": sp.coo_array,
    "csr_array": lambda row: sp.csr_array(row[None]),
    "csr_matrix": lambda row: sp.csr_matrix(row[None]),
    "csc_array": lambda row: sp.csc_array(row[None]),
    "coo_matrix": lambda row: sp.coo_matrix(row[None]),
    "lil_matrix": lambda row: sp.lil_matrix(row[None]),
}


@formats
def test_one_row_is_explained_in_any_container(as_format):
    X = as_format(mixed())
    detector = AutoencoderOutlierDetector(**QUICK).fit(X)
    row = mixed()[4]
    expected = detector.explain(row[None])
    assert list(expected) == ["feature", "value", "expected", "share"]
    for kind, container in ONE_ROW.items():
        pd.testing.assert_frame_equal(detector.explain(container(row)), expected, obj=kind)


def test_reasons_that_hold_next_to_nothing_are_left_out():
    X, new = mixed(), mixed(1, seed=1)
    new[0, 0] = 1e4
    detector = AutoencoderOutlierDetector(**QUICK).fit(X)
    assert detector.explain(new)["feature"].tolist() == ["x0"]
    assert len(detector.explain(new, min_share=0)) == 5
    assert len(detector.explain(new, n_reasons=9, min_share=0)) == 6
    assert len(detector.explain(mixed(1, seed=2), min_share=1)) == 1  # the first is always there


# Weights.


@contaminations
@formats
@pytest.mark.parametrize("kind", ["combined", "neighbours", "no weights", "log-likelihood", None])
def test_a_weight_of_two_is_the_row_given_twice(as_format, contamination, kind):
    estimator = {"no weights": NoWeights(), None: None}
    criteria = {
        "neighbours": NeighboursAndNetwork(weights=(1, 1, 0)),
        "log-likelihood": "log_likelihood",
    }
    X, weight = mixed(60), np.random.RandomState(0).randint(0, 3, 60)
    detectors = [
        AutoencoderOutlierDetector(
            estimator.get(kind, QUICK_NETWORK),
            contamination=contamination,
            criterion=criteria.get(kind, "auto"),
            random_state=0,
        )
        for _ in range(2)
    ]
    weighted = detectors[0].fit(as_format(X), sample_weight=weight)
    repeated = detectors[1].fit(as_format(np.repeat(X, weight, axis=0)))
    new = as_format(np.vstack([X, mixed(30, seed=1)]))
    np.testing.assert_allclose(weighted.score_samples(new), repeated.score_samples(new), rtol=1e-5)
    np.testing.assert_allclose(
        weighted.calibration_scores_, repeated.calibration_scores_, rtol=1e-5
    )
    assert weighted.offset_ == pytest.approx(repeated.offset_, rel=1e-5)


class NoWeights(AutoencoderTransformer):
    """An estimator whose fit takes no weights."""

    def __init__(self):
        super().__init__(**QUICK_NETWORK.get_params())

    def fit(self, X, y=None):
        return super().fit(X)


def test_equal_weights_of_one_change_nothing():
    X = mixed()
    plain = AutoencoderOutlierDetector(**QUICK).fit(X)
    weighted = AutoencoderOutlierDetector(**QUICK).fit(X, sample_weight=np.ones(120))
    assert np.array_equal(plain.score_samples(X), weighted.score_samples(X))


def test_heavier_rows_are_more_usual():
    rng = np.random.RandomState(0)
    X = np.vstack([rng.normal(size=(100, 2)), 6 + rng.normal(size=(100, 2))])
    new = np.array([[0.0, 0.0], [6.0, 6.0]])
    for fraction in (0.25, 0.75):
        weight = np.repeat([2 * fraction, 2 - 2 * fraction], 100)
        scores = (
            AutoencoderOutlierDetector(
                contamination=0.4, criterion="combined", random_state=0, estimator=QUICK_NETWORK
            )
            .fit(X, sample_weight=weight)
            .score_samples(new)
        )
        assert (scores[0] > scores[1]) == (fraction > 0.5)


def test_splits_may_be_given_and_leave_out_rows_of_weight_zero():
    X, weight = mixed(), np.ones(120)
    weight[:10] = 0
    splits = list(KFold(4).split(X))
    listed = AutoencoderOutlierDetector(cv=splits, **QUICK).fit(X, sample_weight=weight)
    folds = AutoencoderOutlierDetector(cv=KFold(4), **QUICK).fit(X, sample_weight=weight)
    assert np.array_equal(listed.score_samples(X), folds.score_samples(X))
    assert len(listed.calibration_scores_) == 110


# What an estimator gets.


def people(n_rows=100, seed=0):
    rng = np.random.RandomState(seed)
    return pd.DataFrame(
        {
            "age": rng.uniform(20, 60, n_rows),
            "city": rng.choice(["Bonn", "Jena", "Ulm"], n_rows),
            "since": pd.to_datetime("2020-01-01") + pd.to_timedelta(rng.randint(99, size=n_rows)),
            "income": np.where(rng.uniform(size=n_rows) < 0.1, np.nan, rng.normal(size=n_rows)),
        },
        index=[f"p{i}" for i in range(n_rows)],
    )


def by_names():
    columns = ColumnTransformer(
        [("age", StandardScaler(), ["age"]), ("city", OneHotEncoder(sparse_output=False), ["city"])]
    )
    return make_pipeline(columns, VAETransformer(n_components=2, max_iter=3, random_state=0))


@pytest.mark.parametrize("columns", [["age", "city", "since", "income"], ["age", "city"]])
def test_a_pipeline_gets_the_data_frame(columns):
    X = people()[columns]
    detector = AutoencoderOutlierDetector(by_names(), random_state=0).fit(X)
    assert detector.feature_names_in_.tolist() == columns
    scores = detector.score_samples(X)
    assert np.isfinite(scores).all()
    assert detector.predict(X[:5]).shape == (5,)
    # A training row is judged by the one that has not learned from it, a new one by all.
    said = np.array([one.score_samples(X) for one in detector.estimators_])
    assert all(
        np.isclose(score, of_row).any() for score, of_row in zip(scores, said.T, strict=True)
    )
    new = people(10, seed=1)[columns]
    said = np.mean([one.score_samples(new) for one in detector.estimators_], axis=0)
    np.testing.assert_allclose(detector.score_samples(new), said)
    with pytest.raises(ValueError, match="feature names"):
        detector.score_samples(X.rename(columns={"age": "years"}))
    with pytest.raises(ValueError, match="needs criterion='combined'"):
        detector.explain(X)


def test_an_estimator_that_reconstructs_gets_the_data_frame_as_well():
    class Named(AutoencoderTransformer):
        def fit(self, X, y=None, sample_weight=None):
            super().fit(X, y, sample_weight)
            assert list(self.feature_names_in_) == list("abcdef")
            return self

        def reconstruct(self, X, sparse_output=False):
            assert list(X.columns) == list("abcdef")
            return super().reconstruct(X)

    X = pd.DataFrame(mixed(), columns=list("abcdef"), index=np.arange(120) * 7)
    estimator = Named(**QUICK_NETWORK.get_params())
    framed = AutoencoderOutlierDetector(estimator, random_state=0).fit(X)
    plain = AutoencoderOutlierDetector(**QUICK).fit(mixed())
    np.testing.assert_allclose(framed.score_samples(X), plain.score_samples(mixed()))


@pytest.mark.parametrize("criterion", ["combined", "log_likelihood"])
def test_text_is_an_error_where_rows_are_compared(criterion):
    detector = AutoencoderOutlierDetector(
        QUICK_NETWORK if criterion == "combined" else by_names(),
        criterion=criterion,
        contamination=0.1,
    )
    with pytest.raises(ValueError, match=r"Column 1 \('city'\).*holds the text"):
        detector.fit(people()[["age", "city"]])


# Progress.


def test_progress_is_shown_if_wanted_and_if_it_takes_long(monkeypatch, capsys):
    X = mixed()
    AutoencoderOutlierDetector(verbose=1, **QUICK).fit(X).score_samples(X)
    assert capsys.readouterr().err == ""  # it takes no second
    from tqdm import std

    from skae.outliers import progress

    shown = []

    class Eager(std.tqdm):
        def __init__(self, *args, **kwargs):
            if not kwargs["disable"]:
                shown.append((kwargs["desc"], kwargs["total"]))
            super().__init__(*args, **{**kwargs, "delay": 0})

    monkeypatch.setattr(progress, "tqdm", Eager)
    detector = AutoencoderOutlierDetector(verbose=0, **QUICK).fit(X)
    assert not shown
    detector.set_params(verbose=1).fit(X)
    detector.score_samples(X)
    assert ("Fold 1 of 3: neighbours", 120) in shown
    assert ("Training rows: scores", 1) in shown
    assert shown[-1] == ("Rows: scores", 1)
    assert "Rows: scores" in capsys.readouterr().err


def test_products_take_one_thread_and_the_number_is_put_back():
    seen = []

    class Watching(KernelDensity):
        def score_samples(self, X):
            seen.append(threads_of_blas())
            return super().score_samples(X)

    before = threads_of_blas()
    rows = np.random.default_rng(0).normal(size=(60, 3))
    detector = AutoencoderOutlierDetector(Watching(), criterion="log_likelihood").fit(rows)
    detector.score_samples(rows)
    assert seen and all(set(one) <= {1} for one in seen)
    assert threads_of_blas() == before


def threads_of_blas():
    return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]
