"""The fits of a search in one pass: what comes out is what comes out without."""

import signal
import threading
import time
import warnings
from functools import partial

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import BaseEstimator, clone
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    ShuffleSplit,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import (
    AutoencoderTransformer,
    DenoisingAETransformer,
    SparseAutoencoderTransformer,
    VAETransformer,
    together,
)
from skae._training.side_by_side import loop, meeting
from skae._training.side_by_side.backend import Together
from skae.exceptions import NonFiniteLossError
from skae.likelihoods import Gaussian

from .helpers import QUIET, counts, low_rank, one_hot, weights_of

pytestmark = [*QUIET, pytest.mark.filterwarnings("ignore:One or more of the test scores")]

X = low_rank(n_rows=110, n_features=7)
SHORT = {"hidden_layer_sizes": (9,), "max_iter": 6, "batch_size": 32, "random_state": 0}


@pytest.fixture
def passes(monkeypatch):
    """Return the sizes of codes in each pass that is made."""
    found, train = [], loop.train_side_by_side

    def noted(runs, traced):
        found.append([run.n_components for run in runs])
        train(runs, traced)

    monkeypatch.setattr(loop, "train_side_by_side", noted)
    return found


def search(estimator, grid, X=X, **settings):
    return GridSearchCV(estimator, grid, cv=2, refit=False, **settings).fit(X)


def scores_of(search):
    names = [name for name in search.cv_results_ if name.startswith("split")]
    return np.array([search.cv_results_[name] for name in sorted(names)])


def assert_same(estimator, grid, X=X, **settings):
    """Fail where scores of a search are not equal with and without."""
    with together():
        found = scores_of(search(clone(estimator), grid, X, **settings))
    expected = scores_of(search(clone(estimator), grid, X, **settings))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    assert np.isfinite(expected).all()


GRIDS = {
    "n_components": [1, 2, 5],
    "alpha": [0.0, 0.3],
    "learning_rate": ["constant", "cosine"],
    "learning_rate_init": [1e-3, 1e-2],
    "max_iter": [2, 5, 9],
    "tol": [1e-4, 0.5],
    "n_iter_no_change": [1, 2],
    "random_state": [0, 1, 2],
    "batch_size": [16, 20],
    "hidden_layer_sizes": [(), (4,), (6, 4)],
    "activation": ["relu", "tanh"],
    "init": ["random", "pca"],
    "input_scaling": [None, "standard"],
    "early_stopping": [False, True],
    "likelihood": ["gaussian", Gaussian(variance="shared")],
}


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize(
    "Estimator", [AutoencoderTransformer, DenoisingAETransformer, VAETransformer]
)
def test_scores_are_those_of_fits_one_by_one(Estimator, name, passes):
    assert_same(Estimator(2, **SHORT), {name: GRIDS[name]})
    assert sum(map(len, passes)) == 2 * len(GRIDS[name])


@pytest.mark.parametrize(
    "grid",
    [
        {"beta": [0.0, 1.0, 4.0]},
        {"kl_warmup": [0.0, 0.9]},
        {"free_bits": [0.1], "n_components": [2, 3]},
        {"n_importance_samples": [1, 4]},
    ],
    ids=str,
)
def test_scores_of_what_only_a_vae_has(grid, passes):
    assert_same(VAETransformer(2, **SHORT), grid)
    assert passes


def test_noise_of_every_kind(passes):
    noises = ["masking", "gaussian", "salt_and_pepper", "swap", "swap_gaussian"]
    denoising = DenoisingAETransformer(2, **SHORT)
    assert_same(denoising, {"noise": noises, "noise_level": [0.1, 0.3]})
    assert max(map(len, passes)) > 5


@pytest.mark.parametrize(
    ("likelihood", "rows"),
    [
        ("bernoulli", one_hot(n_rows=80)),
        ("poisson", counts(n_rows=80)),
        ("negative_binomial", counts(n_rows=80)),
        ("zero_inflated_negative_binomial", counts(n_rows=80)),
        ("multinomial", counts(n_rows=80)),
        ("zero_inflated_lognormal", counts(n_rows=80)),
    ],
)
@pytest.mark.parametrize("Estimator", [AutoencoderTransformer, VAETransformer])
def test_every_likelihood(Estimator, likelihood, rows, passes):
    estimator = Estimator(2, likelihood=likelihood, **SHORT)
    assert_same(estimator, {"n_components": [1, 3]}, X=rows)
    assert passes


def test_by_default_the_length_is_found_and_repeated_in_passes(passes):
    vae = VAETransformer(hidden_layer_sizes=(9,), n_iter_no_change=2, random_state=0)
    assert_same(vae, {"n_components": [1, 3]})
    assert sum(map(len, passes)) == 2 * 4


def test_what_a_fit_leaves_is_what_it_leaves_alone():
    vae = VAETransformer(2, early_stopping=True, **SHORT)
    with together():
        found = cross_validate(vae, X, cv=2, return_estimator=True)["estimator"]
    expected = cross_validate(vae, X, cv=2, return_estimator=True)["estimator"]
    for one, other in zip(found, expected, strict=True):
        assert one.n_iter_ == other.n_iter_
        assert list(one.history_) == list(other.history_)
        for name, values in other.history_.items():
            np.testing.assert_allclose(one.history_[name], values, rtol=1e-4, atol=1e-4)
        assert set(one.net_.history[-1]) == set(other.net_.history[-1])
        np.testing.assert_allclose(weights_of(one.net_), weights_of(other.net_), atol=1e-3)
        # The optimiser knows as much: the next pass over the rows does the same.
        one.partial_fit(X), other.partial_fit(X)
        assert one.score(X) == pytest.approx(other.score(X), abs=1e-3)


def test_rows_of_a_weight_count_so(passes):
    weight = np.random.RandomState(0).uniform(0.5, 2.0, size=len(X))

    def fitted():
        grid = GridSearchCV(VAETransformer(2, **SHORT), {"beta": [1.0, 3.0]}, cv=2, refit=False)
        return scores_of(grid.fit(X, sample_weight=weight))

    with together():
        found = fitted()
    np.testing.assert_allclose(found, fitted(), atol=1e-4)
    assert passes == [[2, 2, 2, 2]]


# Wherever fits are made by joblib.


def test_pipelines(passes):
    y = X[:, 0] > 0
    pipeline = make_pipeline(
        StandardScaler(), AutoencoderTransformer(2, **SHORT), LogisticRegression()
    )
    grid = {"autoencodertransformer__n_components": [1, 2, 3]}
    with together():
        found = GridSearchCV(pipeline, grid, cv=2).fit(X, y).cv_results_["mean_test_score"]
    expected = GridSearchCV(pipeline, grid, cv=2).fit(X, y).cv_results_["mean_test_score"]
    np.testing.assert_allclose(found, expected)
    assert passes == [[1, 1, 2, 2, 3, 3]]


def test_two_in_a_pipeline_meet_twice(passes):
    first = AutoencoderTransformer(4, **SHORT)
    pipeline = make_pipeline(first, VAETransformer(2, **SHORT))
    assert_same(pipeline, {"vaetransformer__n_components": [1, 2]})
    assert passes == [[4, 4, 4, 4], [1, 1, 2, 2]]


def test_other_searches(passes):
    vae = VAETransformer(2, **SHORT)

    def found():
        drawn = RandomizedSearchCV(
            vae, {"n_components": [1, 2, 3]}, n_iter=2, cv=2, random_state=0, refit=False
        )
        return [*scores_of(drawn.fit(X)).ravel(), *cross_val_score(vae, X, cv=3)]

    with together():
        beside = found()
    np.testing.assert_allclose(beside, found(), atol=1e-4)
    assert list(map(len, passes)) == [4, 3]


@pytest.mark.parametrize("resource", ["n_samples", "max_iter"])
def test_searches_by_halving(resource, passes):
    grid = {"n_components": [1, 2, 3, 4]}
    settings = {"max_resources": 9} if resource == "max_iter" else {"min_resources": 30}

    def found():
        search = HalvingGridSearchCV(
            VAETransformer(2, **SHORT), grid, cv=2, resource=resource, random_state=0, **settings
        )
        return scores_of(search.fit(X))

    with together():
        beside = found()
    np.testing.assert_allclose(beside, found(), atol=1e-4)
    assert list(map(len, passes))[:2] == [8, 4]


@pytest.mark.filterwarnings("ignore::skae.exceptions.UnclearSizeWarning")
def test_sizes_that_are_searched_for_are_then_trained_together(passes):
    vae = VAETransformer("auto", **SHORT)
    assert_same(vae, {"beta": [1.0, 1.5]}, X=X[:60])
    assert sum(map(len, passes)) == 4


def test_a_search_within_a_search(passes):
    inner = GridSearchCV(VAETransformer(2, **SHORT), {"n_components": [1, 2]}, cv=2)
    with together():
        found = cross_val_score(inner, X, cv=2)
    np.testing.assert_allclose(found, cross_val_score(inner, X, cv=2), atol=1e-4)
    assert passes == [[1, 1], [1, 1], [2, 2], [2, 2], passes[-1]]  # the best, refitted


def test_one_inside_another(passes):
    with together(), together():
        cross_val_score(VAETransformer(2, **SHORT), X, cv=2)
    assert passes == [[2, 2]]


def test_a_fit_without_a_search_is_as_ever(passes):
    with together():
        found = VAETransformer(2, **SHORT).fit(X)
    np.testing.assert_array_equal(
        found.transform(X), VAETransformer(2, **SHORT).fit(X).transform(X)
    )
    assert not passes


ALONE = {
    "sparse codes": SparseAutoencoderTransformer(2, **SHORT),
    "sgd": AutoencoderTransformer(2, optimizer="sgd", **SHORT),
    "l1": AutoencoderTransformer(2, alpha=0.1, l1_ratio=0.5, **SHORT),
    "no autoencoder": StandardScaler(),
}


@pytest.mark.parametrize("name", ALONE)
def test_what_cannot_be_trained_beside_others_is_trained_alone(name, passes):
    with together():
        found = cross_val_score(ALONE[name], X, cv=2, scoring=total)
    np.testing.assert_array_equal(found, cross_val_score(ALONE[name], X, cv=2, scoring=total))
    assert not passes


def total(estimator, X, y=None):
    return float(np.square(estimator.transform(X)).sum())


def test_sparse_rows_are_trained_alone(passes):
    rows = sp.csr_array(counts(n_rows=60))
    vae = VAETransformer(2, **SHORT)
    with together():
        found = cross_val_score(vae, rows, cv=2)
    np.testing.assert_array_equal(found, cross_val_score(vae, rows, cv=2))
    assert not passes


# Errors, and ends.


def test_an_error_stays_with_its_candidate(passes):
    grid = {"learning_rate_init": [1e-2, 1e30], "n_components": [1, 2]}
    autoencoder = AutoencoderTransformer(**SHORT)
    with pytest.warns(match="fits failed"), together():
        found = scores_of(search(autoencoder, grid))
    with pytest.warns(match="fits failed"):
        expected = scores_of(search(autoencoder, grid))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.isnan(expected).sum() == 4
    assert max(map(len, passes)) == 8


def test_a_wrong_parameter_stays_with_its_candidate():
    with pytest.warns(match="2 fits failed"), together():
        found = scores_of(search(AutoencoderTransformer(**SHORT), {"n_components": [1, -1]}))
    assert np.isnan(found[:, 1]).all()
    assert np.isfinite(found[:, 0]).all()


def test_an_error_goes_to_the_caller_where_it_is_asked_for():
    grid = {"learning_rate_init": [1e-2, 1e30]}
    with pytest.raises(NonFiniteLossError), together():
        search(AutoencoderTransformer(2, **SHORT), grid, error_score="raise")
    assert_nothing_is_left()


def assert_nothing_is_left():
    assert not [one for one in threading.enumerate() if isinstance(one, meeting.Task)]


class Interrupting(BaseEstimator):
    """Fits that end with Ctrl-C in the second fold."""

    fits = 0

    def __sklearn_is_fitted__(self):
        return True

    def fit(self, X, y=None):
        type(self).fits += 1
        if self.fits == 2:
            raise KeyboardInterrupt
        return self

    def score(self, X, y=None):
        return 0.0


def test_an_interrupt_in_a_task_reaches_the_caller(monkeypatch):
    monkeypatch.setattr(Interrupting, "fits", 0)
    pipeline = make_pipeline(VAETransformer(2, **SHORT), Interrupting())
    with pytest.raises(KeyboardInterrupt), together():
        search(pipeline, {"vaetransformer__n_components": [1, 2, 3]})
    assert_nothing_is_left()


class Signalling(Interrupting):
    """Fits that are interrupted from outside, and would go on for ever."""

    def fit(self, X, y=None):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        while True:
            time.sleep(0.001)


def test_a_signal_ends_the_search_and_leaves_no_thread():
    vae = VAETransformer(2, **SHORT)
    before = vae.get_params(), vars(vae).copy(), warnings.filters[:]
    unfitted = GridSearchCV(make_pipeline(vae, Signalling()), {"vaetransformer__beta": [1, 2]})
    with pytest.raises(KeyboardInterrupt), together():
        unfitted.fit(X)
    assert_nothing_is_left()
    assert not hasattr(unfitted, "cv_results_")
    assert before == (vae.get_params(), vars(vae), warnings.filters)


def test_an_interrupt_in_a_pass_reaches_the_caller(monkeypatch):
    def interrupted(runs, traced):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "train_side_by_side", interrupted)
    with pytest.raises(KeyboardInterrupt), together():
        search(VAETransformer(2, **SHORT), {"n_components": [1, 2]})
    assert_nothing_is_left()


def test_an_interrupt_while_a_task_runs_ends_the_task():
    began, ended = threading.Event(), threading.Event()

    def call():
        began.set()
        try:
            while True:
                pass
        except KeyboardInterrupt:
            ended.set()
            raise

    tasks = meeting.Tasks()
    task = tasks.add(call, lambda task: None)
    tasks.under_way.append(tasks.waiting.pop())
    task.start()
    task.go.release()  # what `resume` does, but for waiting, in which it would be interrupted
    began.wait()
    tasks.stop()
    assert ended.is_set()
    assert_nothing_is_left()


def test_a_pass_that_fails_as_a_whole_is_said_to_have(monkeypatch):
    def failing(runs, traced):
        raise MemoryError("no more")

    monkeypatch.setattr(loop, "train_side_by_side", failing)
    said = pytest.raises(RuntimeError, match=r"MemoryError: no more.*without skae.together")
    with said, together():
        cross_val_score(VAETransformer(2, **SHORT), X, cv=2, error_score="raise")


def test_filters_of_warnings_are_put_back():
    before = warnings.filters[:]
    with together():
        cross_val_score(VAETransformer(2, **SHORT), X, cv=3)
    assert warnings.filters == before


class Silenced(VAETransformer):
    """Fits whose warnings are counted, or errors."""

    def fit(self, X, y=None):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("error" if self.beta == 1 else "always")
            super().fit(X)
        self.n_warnings_ = len(caught)
        return self


def test_filters_of_warnings_are_those_of_each_fit():
    def found():
        grid = {"beta": [1, 2, 3]}
        with pytest.warns(match="2 fits failed"):
            return search(Silenced(2, **SHORT), grid, scoring=n_warnings).cv_results_

    with together():
        beside = found()
    np.testing.assert_array_equal(beside["mean_test_score"], [np.nan, 1, 1])
    np.testing.assert_array_equal(beside["mean_test_score"], found()["mean_test_score"])


def n_warnings(estimator, X, y=None):
    return estimator.n_warnings_


def test_warnings_stand_at_the_line_that_called():
    with warnings.catch_warnings(record=True) as caught, together():
        warnings.simplefilter("always")
        cross_val_score(VAETransformer(2, **SHORT), X, cv=2)
    found = {(one.filename, one.lineno) for one in caught if "Maximum iter" in str(one.message)}
    line = test_warnings_stand_at_the_line_that_called.__code__.co_firstlineno + 3
    assert found == {(__file__, line)}


def test_joblib_before_1_5_asks_the_tasks_for_their_results(passes):
    backend, done = Together(), []
    calls = [partial(VAETransformer(size, **SHORT).fit, X) for size in (1, 2)]
    tasks = [backend.apply_async(call, callback=done.append) for call in calls]
    assert [task.get().n_components for task in tasks] == [1, 2]
    assert set(done) == set(tasks)
    assert passes == [[1, 2]]
    failing = backend.apply_async(partial(VAETransformer(-1).fit, X))
    with pytest.raises(ValueError, match="n_components"):
        failing.get()


def test_few_fits_are_under_way_at_a_time(passes, monkeypatch):
    alive, resume = [], meeting.Task.resume

    def noted(task):
        alive.append(sum(isinstance(one, meeting.Task) for one in threading.enumerate()))
        resume(task)

    monkeypatch.setattr(meeting.Task, "resume", noted)
    cv = ShuffleSplit(30, random_state=0)
    with together():
        cross_val_score(AutoencoderTransformer(2, **SHORT), X, cv=cv)
    assert sum(map(len, passes)) == 30
    assert max(map(len, passes)) <= 10
    assert max(alive) <= 16
    passes.clear()
    monkeypatch.setattr(meeting, "_MOST_CELLS", 2 * X.size)
    with together():
        cross_val_score(AutoencoderTransformer(2, **SHORT), X, cv=cv)
    assert max(map(len, passes)) <= 3
