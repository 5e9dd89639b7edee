"""Is the score of hidden entries what theory says, for any estimator and either format?"""

import pickle
import tracemalloc
from functools import partial

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn import config_context
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import NMF, PCA, TruncatedSVD
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler, StandardScaler

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.constraints import InvalidParameterError
from skae.metrics import hidden_entries_score
from tests.helpers import (
    QUICK,
    QUIET,
    cells_at_once,
    counts,
    every_estimator,
    global_generators_untouched,
    low_rank,
    one_hot,
)

pytestmark = QUIET


class Given(BaseEstimator, TransformerMixin):
    """Codes are the rows themselves, which come back by a function of the rows."""

    def __init__(self, function):
        self.function = function

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        self.seen_ = [*getattr(self, "seen_", []), X]
        return X

    def inverse_transform(self, Z):
        return self.function(Z)


def exact(n_rows=120, n_columns=15, rank=3, seed=0):
    """Return rows of a subspace, without noise, in columns of different scale and offset."""
    rng = np.random.RandomState(seed)
    scores, loadings = rng.normal(size=(n_rows, rank)), rng.normal(size=(rank, n_columns))
    return scores @ loadings * np.geomspace(1e-3, 1e3, n_columns) + np.arange(n_columns)


def sparse_counts(n_rows=90, n_columns=24):
    """Return counts of three groups of columns, most of them zero."""
    rng = np.random.RandomState(0)
    rates = np.kron(np.eye(3), np.full(n_columns // 3, 1.5)) + 0.05
    return rng.poisson(rates[rng.randint(3, size=n_rows)] * rng.gamma(3.0, size=(n_rows, 1)) / 3)


# What theory says.


@pytest.mark.parametrize("rank", [1, 2, 3, 5])
def test_pca_is_best_at_the_true_rank(rank):
    X = low_rank(n_rows=400, n_features=20, rank=rank, noise=0.5)
    grid = {"n_components": [*range(1, 9), 15]}
    search = GridSearchCV(PCA(), grid, scoring=hidden_entries_score, cv=3).fit(X)
    assert search.best_params_["n_components"] == rank
    own = GridSearchCV(PCA(), grid, scoring=squared_error_of_rows, cv=3).fit(X)
    assert own.best_params_["n_components"] == 15


def squared_error_of_rows(model, X, y=None):
    """Score rows by what is made of all their entries: the longer the code, the better."""
    return -np.square(model.inverse_transform(model.transform(X)) - X).mean()


def test_hidden_entries_of_rows_without_noise_are_recovered_at_their_rank_alone():
    X = exact()
    whole = partial(hidden_entries_score, max_iter=1000, tol=1e-9)
    scores = {k: whole(PCA(k).fit(scaled(X)), scaled(X)) for k in (2, 3)}
    assert 1.0 - 1e-9 < scores[3] <= 1.0
    assert scores[2] < 0.9


def scaled(X):
    return StandardScaler().fit_transform(X)


def test_pca_ends_at_the_least_squares_fit_to_the_visible_entries():
    # One part of each row is hidden at a time: with as many parts as columns, one entry.
    X = low_rank(n_rows=60, n_features=6, rank=2, noise=0.6)
    pca = PCA(2).fit(low_rank(n_rows=200, n_features=6, rank=2, noise=0.6, seed=0))
    centred, axes = X - pca.mean_, pca.components_
    found = np.empty_like(X)
    for column in range(6):
        seen = np.arange(6) != column
        codes, *_ = np.linalg.lstsq(axes[:, seen].T, centred[:, seen].T, rcond=None)
        found[:, column] = pca.mean_[column] + codes.T @ axes[:, column]
    found = found.clip(X.min(axis=0), X.max(axis=0))
    expected = np.mean(1 - np.square(found - X).sum(axis=0) / (X.var(axis=0) * len(X)))
    score = hidden_entries_score(pca, X, n_splits=6, max_iter=2000, tol=1e-10)
    np.testing.assert_allclose(score, expected, rtol=1e-6)


def test_columns_are_scored_beside_their_means():
    X = low_rank()
    means = Given(lambda Z: np.broadcast_to(X.mean(axis=0), Z.shape))
    np.testing.assert_allclose(hidden_entries_score(means, X), 0.0, atol=1e-12)
    # Who gives back what it is shown knows no more than the mean of the other rows.
    n = len(X)
    expected = 1 - (n / (n - 1)) ** 2
    np.testing.assert_allclose(hidden_entries_score(Given(lambda Z: Z), X), expected)


def test_what_explodes_stays_within_the_range_of_its_column():
    X = low_rank()
    assert hidden_entries_score(Given(lambda Z: -1e9 * Z), X) > -50
    seen = Given(lambda Z: 3 * Z - 1)
    hidden_entries_score(seen, X)
    for rows in seen.seen_:
        assert (rows >= X.min(axis=0)).all()
        assert (rows <= X.max(axis=0)).all()


def test_each_entry_is_hidden_once_and_rows_are_split_evenly():
    X = low_rank(n_rows=30, n_features=11)
    seen = Given(lambda Z: np.zeros_like(Z))
    hidden_entries_score(seen, X, n_splits=4, max_iter=1)
    (rows,) = seen.seen_
    hidden = (rows.reshape(4, 30, 11) != X).astype(int)
    assert (hidden.sum(axis=0) == 1).all()
    assert set(hidden.sum(axis=2).ravel()) == {2, 3}
    # Not the same columns together in each row.
    assert len(np.unique(hidden[0], axis=0)) > 20


def test_zeros_are_hidden_like_other_entries():
    X = sp.csr_array(sparse_counts())
    seen = Given(lambda Z: sp.csr_array(Z.shape))
    hidden_entries_score(seen, X, max_iter=1)
    (rows,) = seen.seen_
    filled = (rows.toarray().reshape(5, *X.shape) != X.toarray()).sum(axis=0)
    zero = X.toarray() == 0
    assert filled[zero].mean() > 0.9  # the mean of a column of zeros is zero
    assert filled[~zero].mean() == 1.0


# Laws.

TABLES = {
    "gaussian": low_rank(),
    "bernoulli": one_hot(150),
    "poisson": counts(150),
    "multinomial": sparse_counts().astype(float),
    "zero_inflated_lognormal": sparse_counts() * 0.37,
}


@pytest.mark.parametrize("likelihood", TABLES)
def test_each_likelihood_is_scored_alike_in_either_format(likelihood):
    X = TABLES[likelihood]
    model = AutoencoderTransformer(likelihood=likelihood, **QUICK).fit(X)
    score = hidden_entries_score(model, X)
    assert np.isfinite(score)
    for kind in (sp.csr_array, sp.csr_matrix, sp.csc_array):
        np.testing.assert_allclose(hidden_entries_score(model, kind(X)), score, atol=1e-5)


@every_estimator
def test_each_estimator_is_scored_alike_in_either_format(Estimator):
    X = sparse_counts().astype(float)
    model = Estimator(likelihood="poisson", **QUICK).fit(sp.csr_array(X))
    scores = [hidden_entries_score(model, rows) for rows in (X, sp.csr_array(X), X.tolist())]
    np.testing.assert_allclose(scores, scores[0], atol=1e-5)


@pytest.mark.parametrize(
    "other", [NMF(3, init="nndsvda"), TruncatedSVD(3), make_pipeline(MaxAbsScaler(), NMF(3))]
)
def test_estimators_of_others_are_scored_in_either_format(other):
    X = sparse_counts().astype(float)
    model = other.fit(X)
    scores = [hidden_entries_score(model, rows) for rows in (X, sp.csr_matrix(X), sp.csr_array(X))]
    assert scores[0] > 0.2
    np.testing.assert_allclose(scores, scores[0], atol=1e-3)  # the solver of NMF sees other rows


def test_it_is_deterministic_and_draws_from_nobody():
    X, model = low_rank(), PCA(3).fit(low_rank())
    with global_generators_untouched():
        score = hidden_entries_score(model, X)
    assert hidden_entries_score(model, X) == score
    assert hidden_entries_score(model, X, random_state=0) == score
    assert hidden_entries_score(model, X, random_state=1) != score


def test_all_candidates_are_asked_for_the_same_entries():
    X, other = low_rank(), low_rank(seed=5)
    hidden = []
    for table, model in ((X, Given(lambda Z: Z)), (other, Given(lambda Z: Z + 1))):
        hidden_entries_score(model, table, max_iter=1)
        hidden.append(model.seen_[0].reshape(5, *table.shape) != table)
    assert np.array_equal(*hidden)


def test_it_does_not_depend_on_units():
    X = low_rank()
    units, offsets = 10.0 ** np.arange(-5, 5), np.linspace(-100, 100, 10)
    scores = [
        hidden_entries_score(make_pipeline(StandardScaler(), PCA(2)).fit(rows), rows)
        for rows in (X, X * units + offsets * units)
    ]
    np.testing.assert_allclose(*scores, rtol=1e-6)


@pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array])
def test_it_does_not_depend_on_how_many_rows_are_worked_on_at_once(as_format):
    X = as_format(sparse_counts().astype(float))
    model = AutoencoderTransformer(likelihood="poisson", **QUICK).fit(X)
    usual = hidden_entries_score(model, X)
    with cells_at_once(700):
        np.testing.assert_allclose(hidden_entries_score(model, X), usual, atol=1e-5)


def test_rows_stand_for_themselves():
    """How far a row is iterated does not depend on the rows beside it."""
    X = low_rank() + np.linspace(0.0, 2.0, 10)
    slow = Given(lambda Z: 0.9 * Z)
    usual = hidden_entries_score(slow, X, max_iter=100, tol=0.05)
    with cells_at_once(1):
        np.testing.assert_allclose(hidden_entries_score(slow, X, max_iter=100, tol=0.05), usual)
    assert min(len(rows) for rows in slow.seen_) < 5


def test_constant_columns_are_left_out():
    X = low_rank()
    padded = np.column_stack([X, np.full(len(X), 3.0)])
    means = Given(lambda Z: np.zeros_like(Z))
    one, other = (hidden_entries_score(means, rows, n_splits=2, max_iter=1) for rows in (X, padded))
    np.testing.assert_allclose(one, other)


def test_wide_csr_is_never_made_dense():
    X = sp.random_array((300, 8_000), density=0.002, format="csr", rng=0)
    model = TruncatedSVD(2, algorithm="arpack").fit(X)
    tracemalloc.start()
    try:
        with cells_at_once(80_000):
            hidden_entries_score(model, X, n_splits=2, max_iter=2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 300 * 8_000 * 8 / 2


# In the hands of scikit-learn.


def test_it_chooses_the_size_of_an_autoencoder_whose_own_score_takes_the_largest():
    X = low_rank(n_rows=400, n_features=20, rank=3, noise=0.5)
    grid = {"n_components": [2, 3, 4, 12]}
    model = AutoencoderTransformer(random_state=0)
    search = GridSearchCV(
        model, grid, cv=2, refit="hidden",
        scoring={"hidden": hidden_entries_score, "own": lambda model, X: model.score(X)},
    ).fit(X)  # fmt: skip
    assert search.best_params_ == {"n_components": 3}
    assert grid["n_components"][search.cv_results_["mean_test_own"].argmax()] == 12


def test_settings_are_given_by_partial_and_travel_to_other_processes():
    X = low_rank()
    scoring = partial(hidden_entries_score, n_splits=3, random_state=4)
    abroad = pickle.loads(pickle.dumps(scoring))
    scores = [cross_val_score(PCA(2), X, scoring=each, cv=3) for each in (scoring, abroad)]
    np.testing.assert_array_equal(*scores)
    assert not np.isclose(
        scores[0], cross_val_score(PCA(2), X, scoring=hidden_entries_score, cv=3)
    ).any()
    search = RandomizedSearchCV(PCA(), {"n_components": [1, 2, 3]}, n_iter=2, scoring=scoring)
    assert np.isfinite(clone(search).fit(X).best_score_)


def test_a_data_frame_stays_one():
    frame = pd.DataFrame(low_rank(), columns=list("abcdefghij"))
    pipe = make_pipeline(StandardScaler(), PCA(3)).set_output(transform="pandas").fit(frame)
    plain = make_pipeline(StandardScaler(), PCA(3)).fit(frame.to_numpy())
    expected = hidden_entries_score(plain, frame.to_numpy())
    np.testing.assert_allclose(hidden_entries_score(pipe, frame), expected)
    seen = Given(lambda Z: Z)
    hidden_entries_score(seen, frame, max_iter=1)
    assert [list(rows.columns) for rows in seen.seen_] == [list("abcdefghij")]


def test_counts_are_shown_as_whole_numbers_and_compared_as_they_are():
    X = sparse_counts().astype(float)
    model = make_pipeline(AutoencoderTransformer(likelihood="poisson", **QUICK)).fit(X)
    alone = hidden_entries_score(model[-1], X)
    assert np.isfinite([alone, hidden_entries_score(model, X)]).all()
    # An "auto" that took counts rounds what it is shown by itself, and small means all to zero.
    chose = AutoencoderTransformer(likelihood="auto", **QUICK).fit(X)
    seen, ask = [], chose.reconstruct
    chose.reconstruct = lambda rows: (seen.append(rows), ask(rows))[1]
    hidden_entries_score(chose, X, max_iter=1)
    (rows,) = seen
    assert (rows == np.round(rows)).all()
    np.testing.assert_allclose(rows.mean(), X.mean(), rtol=0.03)


@pytest.mark.parametrize(
    "around",
    [
        make_pipeline,
        lambda model: make_pipeline(FunctionTransformer(), model, "passthrough"),
        lambda model: make_pipeline(make_pipeline(FunctionTransformer(), model)),
        lambda model: GridSearchCV(model, {"n_components": [2]}, cv=2, scoring=lambda *_: 0.0),
        lambda model: GridSearchCV(make_pipeline(model), {}, cv=2, scoring=lambda *_: 0.0),
    ],
)
def test_an_estimator_has_its_score_in_a_pipeline_and_as_the_best_of_a_search(around):
    X = sparse_counts().astype(float)
    # Counts: shown whole, and asked for by row, whose total is not in the code.
    model = AutoencoderTransformer(likelihood="poisson", **{**QUICK, "n_components": 2})
    alone = hidden_entries_score(clone(model).fit(X), X)
    assert hidden_entries_score(around(model).fit(X), X) == alone


# Errors.


@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(),
        make_pipeline(PCA(2), LogisticRegression()),
        make_pipeline("passthrough"),
        AutoencoderOutlierDetector(),
    ],
)
def test_who_gives_no_rows_back_is_told_what_to_do(model):
    X = low_rank()
    with pytest.raises(TypeError, match="has neither reconstruct nor transform and inverse_trans"):
        hidden_entries_score(model, X)


def test_rows_of_another_shape_are_an_error():
    with pytest.raises(ValueError, match=r"has shape \(1000, 4\) for rows of shape \(1000, 10\)"):
        hidden_entries_score(Given(lambda Z: Z[:, :4]), low_rank())


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (low_rank()[:1], "minimum of 2 is required"),
        (low_rank()[:, :1], "minimum of 2 is required"),
        (np.ones((5, 3)), "None of the 3 columns of X varies over its 5 rows"),
        ([[1.0, np.nan], [2.0, 3.0]], "contains NaN"),
    ],
)
def test_tables_of_which_nothing_can_be_told_are_errors(X, message):
    with pytest.raises(ValueError, match=message):
        hidden_entries_score(Given(lambda Z: Z), X)


@pytest.mark.parametrize(
    "bad", [{"n_splits": 1}, {"max_iter": 0}, {"tol": -1.0}, {"random_state": "seed"}]
)
def test_bad_parameters_are_errors(bad):
    with pytest.raises(InvalidParameterError, match=next(iter(bad))):
        hidden_entries_score(PCA(2).fit(low_rank()), low_rank(), **bad)


def test_working_memory_is_heeded():
    X, seen = low_rank(), Given(lambda Z: Z)
    with config_context(working_memory=0):
        hidden_entries_score(seen, X, max_iter=1)
    assert {len(rows) for rows in seen.seen_} == {5}
