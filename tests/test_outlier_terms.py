"""Does each term of a score see what no other sees, and are rows known again?"""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import BaseEstimator
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.outliers.folds import Judges
from skae.outliers.rows import Rows
from skae.outliers.same_rows import SameRows
from tests.helpers import cells_at_once

pytestmark = pytest.mark.filterwarnings("ignore:Maximum iterations")

QUICK_NETWORK = AutoencoderTransformer(
    n_components=3, hidden_layer_sizes=(8,), init="random", max_iter=3, tol=1.0, random_state=0
)
CONTAMINATIONS = ["auto", 0.1]
FORMATS = [np.asarray, sp.csr_array]


# Terms --------------------------------------------------------------------------------------------


class Blind(BaseEstimator):
    """Reconstructs every row exactly, but for what is added to rows above a limit in column 0."""

    def __init__(self, limit=np.inf, error=0.0, usual_error=0.0):
        self.limit = limit
        self.error = error
        self.usual_error = usual_error

    def fit(self, X, y=None):
        return self

    def score_samples(self, X):
        return np.zeros(len(X))

    def reconstruct(self, X):
        above = X[:, :1] > self.limit
        return X + np.where(above, self.error, self.usual_error)


class HoldOut:
    """The last rows are held out."""

    def __init__(self, n_held_out):
        self.n_held_out = n_held_out

    def get_n_splits(self, X=None, y=None, groups=None):
        return 1

    def split(self, X, y=None, groups=None):
        n_train = len(X) - self.n_held_out
        yield np.arange(n_train), np.arange(n_train, len(X))


def fit_terms(learned, held_out, estimator=None):
    estimator = Blind() if estimator is None else estimator
    detector = AutoencoderOutlierDetector(estimator, cv=HoldOut(len(held_out)), random_state=0)
    return detector.fit(np.vstack([learned, held_out]))


def line(n_features=2, n_rows=40):
    """Return rows one unit apart on the diagonal, and some that are half-way between them.

    Away from the ends every row is the mean of its neighbours, so the combination has no error.
    """
    place = np.arange(n_rows)[:, None] / np.full(n_features, n_features**0.5)
    return place, (place[1:] + place[:-1])[8 : n_rows - 8] / 2


BESIDE = np.array([1, -1]) / 2**0.5  # one unit, square to the diagonal


def test_the_nearest_row_sees_what_lies_between_rows_far_away():
    learned, held_out = line(n_features=5)
    centre = learned[20] + [40, -40, 0, 0, 0]
    around = 10 * np.vstack([np.eye(5), -np.eye(5)])  # their mean is the centre
    detector = fit_terms(np.vstack([learned, centre + around]), held_out)
    assert detector.score_samples([centre])[0] < 3 * detector.offset_
    assert detector.predict(held_out).min() == 1


def test_the_combination_sees_what_is_beside_the_pattern():
    learned, held_out = line()
    odd = learned[[15, 20, 25]] + 0.9 * BESIDE  # nearer than rows on the line are to each other
    detector = fit_terms(learned, held_out)
    assert (detector.score_samples(odd) < 10 * detector.offset_).all()


def test_the_network_sees_what_is_near_other_rows():
    X = np.random.default_rng(0).normal(size=(200, 3))
    noise = 0.1 * np.random.default_rng(1).choice([-1.0, 1.0], size=3)
    limit = X[:, 0].max()
    odd = X[X[:, [0]].argmax(axis=0)] + [[1e-3, 0, 0]]  # beside a training row
    blind = fit_terms(X[:160], X[160:], Blind(limit, error=noise, usual_error=noise))
    sees = fit_terms(X[:160], X[160:], Blind(limit, error=5.0, usual_error=noise))
    assert blind.predict(odd).tolist() == [1]
    assert sees.predict(odd).tolist() == [-1]
    assert sees.score_samples(odd)[0] < 5 * blind.score_samples(odd)[0]


def test_both_terms_count_with_contamination_given():
    X = np.random.default_rng(0).normal(size=(200, 3))
    noise = 0.1 * np.array([1.0, -1.0, 1.0])
    parameters = {"contamination": 0.05, "random_state": 0}
    limit = X[:, 0].max()
    odd = X[X[:, [0]].argmax(axis=0)] + [[1e-3, 0, 0]]
    blind, sees = (
        AutoencoderOutlierDetector(Blind(limit, error, noise), **parameters).fit(X)
        for error in (noise, 5.0)
    )
    assert sees.score_samples(odd)[0] < 5 * blind.score_samples(odd)[0]
    far, middle = blind.score_samples([[-20.0, 0, 0], [0.0, 0, 0]])
    assert far < 10 * middle


def test_a_column_without_errors_in_training_does_not_decide():
    X = np.random.default_rng(0).normal(size=(200, 3))
    noise, harmless = np.array([0.0, 0.1, 0.1]), np.array([1e-4, 0.1, 0.1])
    row = X[X[:, [0]].argmax(axis=0)] + [[1e-3, 0, 0]]
    usual = fit_terms(X[:160], X[160:], Blind(np.inf, usual_error=noise))
    detector = fit_terms(X[:160], X[160:], Blind(X[:, 0].max(), error=harmless, usual_error=noise))
    assert detector.predict(row).tolist() == [1]
    np.testing.assert_allclose(detector.score_samples(row), usual.score_samples(row), rtol=0.1)


def test_a_gap_counts_for_more_where_rows_lie_close():
    learned, held_out = line()
    tables = [np.vstack([0.2 * rows, rows + 30 * BESIDE]) for rows in (learned, held_out)]
    detector = fit_terms(*tables)
    odd = np.array([0.2 * learned[20], learned[20] + 30 * BESIDE]) - 3 * BESIDE
    in_dense, in_sparse = detector.score_samples(odd)
    assert in_dense < 1.5 * in_sparse


# Formats ------------------------------------------------------------------------------------------


def half_empty(n_rows=120, seed=0):
    X = np.random.default_rng(seed).normal(size=(n_rows, 6))
    return np.where(X < 0.2, 0.0, X)


def quick(contamination, **parameters):
    return AutoencoderOutlierDetector(
        QUICK_NETWORK, contamination=contamination, random_state=0, **parameters
    )


@pytest.mark.parametrize("contamination", CONTAMINATIONS)
@pytest.mark.parametrize("fitted_on", FORMATS)
def test_answers_do_not_depend_on_the_format(fitted_on, contamination):
    X = half_empty()
    detector = quick(contamination).fit(fitted_on(X))
    for rows in (X, half_empty(30, seed=1) + 2010 * (np.arange(6) == 3)):
        for method in ("score_samples", "decision_function", "predict", "p_values"):
            dense, sparse = (getattr(detector, method)(kind(rows)) for kind in FORMATS)
            np.testing.assert_allclose(dense, sparse, rtol=1e-6)
        dense = detector.score_features(rows)
        sparse, rest = detector.score_features(sp.csr_array(rows), return_rest=True)
        assert isinstance(dense, np.ndarray) and sp.issparse(sparse)
        kept = sparse.toarray() != 0
        np.testing.assert_allclose(sparse.toarray()[kept], dense[kept], rtol=1e-6)
        total = sparse.sum(axis=1).ravel() + rest
        np.testing.assert_allclose(np.asarray(total).ravel(), dense.sum(axis=1), rtol=1e-6)
        reasons = [detector.explain(kind(rows[:1])) for kind in FORMATS]
        assert reasons[0].equals(reasons[1])


@pytest.mark.parametrize("fitted_on", FORMATS)
def test_training_rows_are_known_again_by_who_may_judge(fitted_on):
    X = half_empty()
    X[:, 0] += np.linspace(1, 2, len(X))  # each occurs once
    held_out = np.arange(3) == np.arange(len(X))[:, None] % 3
    judges = Judges(SameRows(fitted_on(X)), held_out)
    np.testing.assert_array_equal(judges.weights(fitted_on(X)), held_out)
    np.testing.assert_array_equal(judges.weights(fitted_on(X * (1 + 1e-7))), held_out)
    np.testing.assert_allclose(judges.weights(fitted_on(X + 0.01)), 1 / 3)


def test_blocks_are_made_dense_one_by_one(monkeypatch):
    X = half_empty(300)
    detector = quick("auto").fit(X)
    expected = detector.score_samples(X)
    most, toarray = [], sp.csr_array.toarray

    def watched(self, *args, **kwargs):
        most.append(self.shape[0])
        return toarray(self, *args, **kwargs)

    monkeypatch.setattr(sp.csr_array, "toarray", watched)
    with cells_at_once(6 * 32):
        np.testing.assert_allclose(detector.score_samples(sp.csr_array(X)), expected, rtol=1e-6)
    assert 0 < max(most) <= 32


@pytest.mark.parametrize("contamination", CONTAMINATIONS)
def test_tables_of_empty_rows_are_scored_as_zeros(contamination):
    X = np.zeros((20, 10))
    sparse, dense = (quick(contamination).fit(kind(X)) for kind in (sp.csr_array, np.asarray))
    assert np.isfinite(dense.score_samples(X)).all()
    np.testing.assert_allclose(sparse.score_samples(sp.csr_array(X)), dense.score_samples(X))
    assert sparse.score_features(sp.csr_array(X)).shape == X.shape
    assert len(sparse.explain(sp.csr_array(X[:1]))) == 5


@pytest.mark.parametrize("contamination", CONTAMINATIONS)
@pytest.mark.parametrize("n_used", [1, 5, 30])
def test_rows_that_are_empty_with_their_neighbours_are_scored(n_used, contamination):
    X = np.random.default_rng(0).poisson(0.5, size=(60, 10)).astype(float)
    X[n_used:] = 0
    detector = quick(contamination).fit(sp.csr_array(X))
    scores = detector.score_samples(sp.csr_array(X))
    np.testing.assert_allclose(detector.score_samples(X), scores, rtol=1e-6)
    np.testing.assert_allclose(
        detector.score_samples(sp.csr_array(X[n_used:])), scores[n_used:], rtol=1e-12
    )


# Rounding -----------------------------------------------------------------------------------------


def round_trips(X):
    scaler = StandardScaler().fit(X)
    yield np.nextafter(X, np.inf)
    for part in (1e-12, 1e-9, 1e-7):
        yield X * (1 + part)
    yield X.astype(np.float32)
    yield X.astype(np.float32).astype(np.float64)
    yield np.array([[float(f"{value:.9g}") for value in row] for row in X])
    yield scaler.inverse_transform(scaler.transform(X))


@pytest.mark.parametrize("contamination", CONTAMINATIONS)
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("mean", [0.0, 1000.0])
def test_training_rows_come_back_from_round_trips(mean, kind, contamination):
    for seed in range(2):
        X = np.random.default_rng(seed).normal(size=(120, 5))
        X = np.where(X < -1, 0.0, X + mean)
        detector = quick(contamination).fit(kind(X))
        scores = detector.score_samples(kind(X))
        oddest = scores.argmin()
        for rows in round_trips(X):
            found = detector.score_samples(kind(rows))
            np.testing.assert_allclose(found, scores, rtol=0.02)
            assert detector.predict(kind(rows[[oddest]])).tolist() == [-1]


@pytest.mark.parametrize("seed", range(3))
def test_the_default_network_keeps_the_oddest_row_odd(seed):
    X = np.random.default_rng(seed).normal(size=(120, 5))
    detector = AutoencoderOutlierDetector(random_state=seed, cv=2).fit(X)
    oddest = X[[detector.score_samples(X).argmin()]]
    for rows in (oddest, np.nextafter(oddest, np.inf), oddest * (1 + 1e-7)):
        assert detector.predict(rows).tolist() == [-1]


@pytest.mark.parametrize("contamination", CONTAMINATIONS)
@pytest.mark.parametrize("kind", FORMATS)
def test_a_row_is_not_compared_with_itself_by_who_learned_from_it(kind, contamination):
    X = np.random.default_rng(0).normal(size=(100, 5))
    X[0] = 8  # its nearest neighbour is far away
    detector = quick(contamination).fit(kind(X))
    for member in detector._ensemble.members:
        rows = kind(np.vstack([X[:1], X[:1] * (1 + 1e-7), X[1:2]]))
        scores = member.scores(Rows(rows, rows))
        assert scores[0] < 5 * scores[2]
        np.testing.assert_allclose(scores[1], scores[0], rtol=1e-3)
