"""The fits of a search in one pass: errors, interrupts and warnings, and what joblib asks."""

import signal
import threading
import time
import warnings
from functools import partial

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.model_selection import GridSearchCV, ShuffleSplit, cross_val_score
from sklearn.pipeline import make_pipeline

from skae import AutoencoderTransformer, VAETransformer, together
from skae._training.side_by_side import loop, meeting
from skae._training.side_by_side.backend import Together
from skae.exceptions import NonFiniteLossError

from . import beside
from .beside import SHORT, X, scores_of, search
from .helpers import QUIET

pytestmark = [*QUIET, pytest.mark.filterwarnings("ignore:One or more of the test scores")]

passes = beside.passes


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

    receiver = staticmethod(threading.main_thread)

    def fit(self, X, y=None):
        signal.pthread_kill(self.receiver().ident, signal.SIGINT)
        while True:
            time.sleep(0.001)


# A signal that another thread receives wakes no wait of the main one, which has to look for it.
@pytest.mark.usefixtures("usual_handler")
@pytest.mark.parametrize("receiver", [threading.main_thread, threading.current_thread])
def test_a_signal_ends_the_search_and_leaves_no_thread(receiver, monkeypatch):
    monkeypatch.setattr(Signalling, "receiver", staticmethod(receiver))
    vae = VAETransformer(2, **SHORT)
    before = vae.get_params(), vars(vae).copy(), warnings.filters[:]
    unfitted = GridSearchCV(make_pipeline(vae, Signalling()), {"vaetransformer__beta": [1, 2]})
    with pytest.raises(KeyboardInterrupt), together():
        unfitted.fit(X)
    assert_nothing_is_left()
    assert not hasattr(unfitted, "cv_results_")
    assert before == (vae.get_params(), vars(vae), warnings.filters)


def test_an_interrupt_in_a_pass_reaches_the_caller(monkeypatch):
    def interrupted(runs, recorded):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "train_side_by_side", interrupted)
    with pytest.raises(KeyboardInterrupt), together():
        search(VAETransformer(2, **SHORT), {"n_components": [1, 2]})
    assert_nothing_is_left()


def test_an_interrupt_while_a_task_runs_ends_the_task():
    began, ended = threading.Event(), threading.Event()

    def call():
        try:
            began.set()
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
    def failing(runs, recorded):
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
