"""Does the order of training follow the values of rows, so that rounding changes little?"""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderOutlierDetector
from skae import _duplicates as duplicates
from skae._duplicates import merge_duplicates, sort_rows
from tests.helpers import ESTIMATORS, counts, low_rank, one_hot

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::skae.exceptions.PosteriorCollapseWarning"),
]

formats = pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array])
every_estimator = pytest.mark.parametrize("Estimator", ESTIMATORS)


def order(X):
    return merge_duplicates(X, None)[0]


def tables(seed=0):
    """Return tables of every kind: numbers, many ties, flags, counts, zeros here and there."""
    rng = np.random.RandomState(seed)
    some_zeros = rng.normal(size=(300, 6)) * (rng.uniform(size=(300, 6)) < 0.5)
    return {
        "numbers": rng.normal(size=(300, 5)),
        "ties": rng.randint(3, size=(300, 7)) + 0.25,
        "flags": one_hot(300, n_levels=(6, 5, 7)),
        "counts": counts(300, 9),
        "some zeros": some_zeros,
        "far": np.column_stack([1.7e18 + 4096.0 * rng.permutation(300), rng.randint(2, size=300)]),
        "wide": rng.normal(size=(20, 2000)),
    }


#: What leaves values as they are but for rounding or units.
CHANGES = {
    "rounding": lambda X: X * (1 + 1e-12),
    "last bit": lambda X: np.nextafter(X, np.inf) * (X != 0),
    "units": lambda X: X * 3.0,
    "tiny units": lambda X: X * 1e-250,
    "huge units": lambda X: X * 1e250,
    "units of columns": lambda X: X * 10.0 ** np.linspace(-200, 200, X.shape[1]),
    "there and back": lambda X: (X / 7.0) * 7.0,
}


@formats
@pytest.mark.parametrize("table", tables())
@pytest.mark.parametrize("change", CHANGES)
def test_order_is_kept(as_format, table, change):
    X = tables()[table]
    Z = CHANGES[change](X)
    np.testing.assert_array_equal(order(as_format(Z)), order(X))


@pytest.mark.parametrize("table", sorted(set(tables()) - {"far"}))
def test_order_is_that_of_the_copy_in_single_precision(table):
    X = tables()[table]
    for as_format in (np.asarray, sp.csr_array):
        np.testing.assert_array_equal(order(as_format(X.astype(np.float32))), order(X))


def test_zeros_that_rounding_makes_small_numbers_of_keep_their_place():
    # Whole numbers less their mean: zero on one machine, 1e-17 on another.
    rng = np.random.RandomState(0)
    X = rng.randint(-2, 3, size=(200, 6)).astype(float)
    X = np.unique(X, axis=0)
    noise = 1e-16 * rng.normal(size=X.shape)
    assert ((X + noise == 0) != (X == 0)).any()
    np.testing.assert_array_equal(order(X + noise), order(X))


elements = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.5, 1e-9, -1e-12, 1 + 1e-12, 1e-300, 1e200])


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(
    X=st.tuples(st.integers(1, 30), st.integers(1, 5)).flatmap(
        lambda shape: hnp.arrays(np.float64, shape, elements=elements)
    ),
    seed=st.integers(0, 100),
)
def test_order_is_that_of_the_rows_alone_in_either_format(X, seed):
    rows = order(X)
    assert len(rows) == len(np.unique(X + 0.0, axis=0))
    np.testing.assert_array_equal(order(sp.csr_array(X)), rows)
    shuffled = X[np.random.RandomState(seed).permutation(len(X))]
    np.testing.assert_array_equal(shuffled[order(shuffled)], X[rows])
    np.testing.assert_array_equal(order(X * 4.0), rows)


@formats
@pytest.mark.parametrize("cells", [1, 7, 2**18])
def test_rows_are_sorted_by_their_values_where_none_is_zero(as_format, cells, monkeypatch):
    monkeypatch.setattr(duplicates, "_CELLS_COMPARED", cells)
    X = np.unique(np.random.RandomState(0).choice([-2.0, -0.5, 1.0, 1.5], size=(200, 5)), axis=0)
    shuffled = X[np.random.RandomState(1).permutation(len(X))]
    found = sort_rows(as_format(shuffled), np.arange(len(X)))
    np.testing.assert_array_equal(shuffled[found], X)


@formats
def test_rows_that_differ_beyond_single_precision_have_an_order_of_their_own(as_format):
    X = np.outer(1.0 + 1e-12 * np.arange(50), [1.0, 2.0, 0.0])
    found = sort_rows(as_format(X[::-1]), np.arange(50))
    np.testing.assert_array_equal(found, np.arange(50)[::-1])


def test_order_is_shuffled():
    # The first rows stand for all: where training looks at 10,000 of them, and for references.
    X = np.arange(4000.0)[:, None] + 1.0
    first = order(X)[:1000]
    assert X[first].mean() == pytest.approx(2000, abs=150)
    assert np.abs(np.corrcoef(order(X)[:-1], order(X)[1:])[0, 1]) < 0.1


def test_sparse_rows_are_never_made_dense(monkeypatch):
    X = sp.random_array((500, 10**7), density=1e-6, format="csr", rng=np.random.RandomState(0))
    assert len(order(X)) == 500  # 40 GB as dense rows


@every_estimator
@formats
@pytest.mark.parametrize(
    ("change", "most"), [("rounding", 1e-6), ("single precision", 1e-3), ("units", 1e-3)]
)
def test_what_hardly_changes_the_rows_hardly_changes_the_model(Estimator, as_format, change, most):
    X = low_rank(150, n_features=5)
    changes = {
        **CHANGES,
        "units": lambda X: X * 2,
        "single precision": lambda X: X.astype(np.float32),
    }
    Z = changes[change](X)
    quick = {"n_components": 3, "max_iter": 15, "batch_size": 32, "random_state": 0}
    one, other = (
        Estimator(**quick).fit(as_format(rows)).reconstruct(as_format(rows)) for rows in (X, Z)
    )
    difference = np.abs(other / (2 if change == "units" else 1) - one).max()
    seed = Estimator(**{**quick, "random_state": 1}).fit(as_format(X)).reconstruct(as_format(X))
    assert difference < most < np.abs(seed - one).max()


@formats
def test_what_hardly_changes_the_rows_hardly_changes_the_detector(as_format):
    X = low_rank(120, n_features=5)
    one, other = (
        AutoencoderOutlierDetector(random_state=0).fit(as_format(Z)).score_samples(as_format(Z))
        for Z in (X, X * (1 + 1e-12))
    )
    np.testing.assert_allclose(one, other, rtol=1e-3)


def test_scaling_beforehand_on_another_machine_hardly_changes_the_order():
    X = low_rank(200, n_features=5)
    Z = StandardScaler().fit_transform(X)
    other = (X - X[::-1].mean(axis=0)) / X[::-1].std(axis=0)  # sums in another order
    np.testing.assert_array_equal(order(other), order(Z))
