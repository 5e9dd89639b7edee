"""Ctrl-C reaches the caller, and the estimator is as it was.

The signals are real, and are sent by a callback or a component at a step that is the same in every
run, so that nothing hangs on time.
"""

import copy
import functools
import os
import signal

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback, EarlyStopping

from skae import (
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    DenoisingAETransformer,
    SparseAutoencoderTransformer,
)
from skae.noise import Masking
from tests.helpers import ESTIMATORS, QUICK, low_rank, weights_of

pytestmark = [
    pytest.mark.usefixtures("usual_handler"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::skae.exceptions.PosteriorCollapseWarning"),
]

every_estimator = pytest.mark.parametrize("Estimator", ESTIMATORS)
X = low_rank(60)
SETTINGS = {**QUICK, "batch_size": 20, "learning_rate": "constant"}


def kill():
    os.kill(os.getpid(), signal.SIGINT)


def caught_and_raised_once_more():
    try:
        kill()
    except KeyboardInterrupt:
        raise KeyboardInterrupt from None


SIGNALS = [
    kill,
    functools.partial(signal.raise_signal, signal.SIGINT),
    caught_and_raised_once_more,
]
signals = pytest.mark.parametrize("send", SIGNALS, ids=["kill", "raise_signal", "again"])
HOOKS = ["on_train_begin", "on_epoch_begin", "on_batch_begin", "on_batch_end", "on_epoch_end"]


class CtrlC(Callback):
    """Sends the signal at the n-th call of one of its methods, if it is switched on."""

    def __init__(self, hook="on_batch_end", n=5, send=kill, on=True):
        self.hook, self.n, self.send, self.on = hook, n, send, on
        self.calls_ = 0

    def _at(self, hook):
        self.calls_ += self.on and hook == self.hook
        if self.on and self.calls_ == self.n:
            self.calls_ = 0
            self.send()

    def on_train_begin(self, net, **kwargs):
        self._at("on_train_begin")

    def on_epoch_begin(self, net, **kwargs):
        self._at("on_epoch_begin")

    def on_batch_begin(self, net, **kwargs):
        self._at("on_batch_begin")

    def on_batch_end(self, net, **kwargs):
        self._at("on_batch_end")

    def on_epoch_end(self, net, **kwargs):
        self._at("on_epoch_end")


def memory(estimator):
    return {
        "codes": estimator.transform(X).tolist(),
        "scores": estimator.score_samples(X).tolist(),
        "samples": estimator.sample(3, random_state=0).tolist(),
        "weights": weights_of(estimator).tolist(),
        "history": estimator.history_,
        "of the net": [row["train_loss"] for row in estimator.net_.history],
        "n_iter": estimator.n_iter_,
        "attributes": sorted(vars(estimator)),
    }


@every_estimator
@pytest.mark.parametrize("hook", HOOKS)
def test_first_fit_that_is_interrupted_is_no_fit(Estimator, hook):
    interrupt = CtrlC(hook, n=1 if hook == "on_train_begin" else 3)
    estimator = Estimator(**SETTINGS, callbacks=[interrupt])
    for method in (estimator.fit, estimator.partial_fit, estimator.fit_transform):
        interrupt.set_params(hook=hook, n=1 if method == estimator.partial_fit else interrupt.n)
        with pytest.raises(KeyboardInterrupt):
            method(X)
        with pytest.raises(NotFittedError):
            estimator.transform(X)
        assert not [name for name in vars(estimator) if name.endswith("_")]


@signals
@pytest.mark.parametrize("hook", ["on_batch_end", "on_epoch_end"])
def test_any_way_of_the_signal_is_told_from_a_callback_that_stops(send, hook):
    with pytest.raises(KeyboardInterrupt):
        AutoencoderTransformer(**SETTINGS, callbacks=[CtrlC(hook, 2, send)]).fit(X)


def test_handler_of_the_program_is_told_from_a_callback_that_stops():
    def handler(number, frame):
        raise KeyboardInterrupt  # a statement, too

    signal.signal(signal.SIGINT, handler)
    with pytest.raises(KeyboardInterrupt):
        AutoencoderTransformer(**SETTINGS, callbacks=[CtrlC("on_epoch_end", 2)]).fit(X)


@every_estimator
@pytest.mark.parametrize("early_stopping", [False, True])
def test_interrupted_refit_leaves_the_old_model(Estimator, early_stopping):
    callback = CtrlC(on=False)
    estimator = Estimator(**SETTINGS, callbacks=[callback], early_stopping=early_stopping).fit(X)
    before = memory(estimator)
    callback.on = True
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X[:40] + 1)
    assert memory(estimator) == before


@every_estimator
@pytest.mark.parametrize("hook", HOOKS)
def test_interrupted_training_that_went_on_takes_its_steps_back(Estimator, hook):
    callback = CtrlC(hook, 1, on=False)
    estimator = Estimator(**SETTINGS, callbacks=[callback], warm_start=True).fit(X)
    never = Estimator(**SETTINGS, warm_start=True).fit(X)
    before = memory(estimator)
    for method in (estimator.fit, estimator.partial_fit):
        callback.on = True
        with pytest.raises(KeyboardInterrupt):
            method(X)
        assert memory(estimator) == before
    callback.on = False
    # And it goes on as if it had never been interrupted.
    np.testing.assert_array_equal(
        weights_of(estimator.partial_fit(X).fit(X)), weights_of(never.partial_fit(X).fit(X))
    )
    best = [[row["train_loss_best"] for row in one.net_.history] for one in (estimator, never)]
    assert best[0] == best[1]


@every_estimator
def test_single_epochs_go_on_after_an_interrupted_fit(Estimator):
    # A fit of many epochs steers otherwise than one of a single epoch.
    callback = CtrlC("on_batch_end", 4, on=False)
    estimator = Estimator(**SETTINGS, callbacks=[callback], warm_start=True).partial_fit(X)
    never = Estimator(**SETTINGS).partial_fit(X)
    callback.on = True
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X)
    callback.on = False
    estimator.partial_fit(X).partial_fit(X)
    never.partial_fit(X).partial_fit(X)
    np.testing.assert_array_equal(weights_of(estimator), weights_of(never))


class InterruptedSparse(SparseAutoencoderTransformer):
    """Interrupted when the training is over and the fit looks back at it."""

    on = False

    def _record_own(self):
        super()._record_own()
        if self.on:
            kill()


def test_interrupt_after_the_last_epoch_takes_the_training_back_too():
    estimator = InterruptedSparse(**SETTINGS, warm_start=True).fit(X)
    twin = copy.deepcopy(estimator)  # neither has drawn rows, which resemble those of the training
    estimator.on = True
    for method in (estimator.fit, estimator.partial_fit):
        with pytest.raises(KeyboardInterrupt):
            method(X[:30])
    del estimator.on
    assert memory(estimator) == memory(twin)


class InterruptedNoise(Masking):
    """Interrupted in the middle of a step, deep inside torch's own calls."""

    calls = 0

    def corrupt(self, x, level, generator):
        type(self).calls += 1
        if type(self).calls % 7 == 0:
            kill()
        return super().corrupt(x, level, generator)


def test_interrupt_in_the_middle_of_a_step_reaches_the_caller():
    estimator = DenoisingAETransformer(noise=InterruptedNoise(), **SETTINGS)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X)
    with pytest.raises(NotFittedError):
        estimator.transform(X)


def test_search_ends_at_the_interrupt():
    callback = CtrlC("on_epoch_end", 3)
    fits = []

    class Count(Callback):
        def on_train_begin(self, net, **kwargs):
            fits.append(net)

    estimator = AutoencoderTransformer(**SETTINGS, callbacks=[Count(), callback])
    search = GridSearchCV(estimator, {"alpha": [0.0, 1e-3]}, cv=2, error_score=np.nan)
    with pytest.raises(KeyboardInterrupt):
        search.fit(X)
    assert len(fits) == 1
    assert not hasattr(search, "best_params_")


@every_estimator
@pytest.mark.parametrize("method", ["transform", "reconstruct", "score_samples", "score"])
def test_interrupted_answer_reaches_the_caller_and_changes_nothing(Estimator, method, monkeypatch):
    estimator = Estimator(**SETTINGS).fit(X)
    before = memory(estimator)
    with monkeypatch.context() as patch:
        encoder = type(estimator.module_.encoder)
        forward = encoder.forward
        patch.setattr(encoder, "forward", lambda self, x: (kill(), forward(self, x))[1])
        with pytest.raises(KeyboardInterrupt):
            getattr(estimator, method)(X)
    assert memory(estimator) == before


# Callbacks that end a training, as skorch's do.


class StopAfter(Callback):
    """Ends the training by a statement of its own, or of a function that it calls."""

    def __init__(self, n, helper=False):
        self.n, self.helper = n, helper

    def _stop(self):
        raise KeyboardInterrupt

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == self.n:
            if self.helper:
                self._stop()
            raise KeyboardInterrupt


@every_estimator
@pytest.mark.parametrize("helper", [False, True])
def test_callback_may_end_a_training(Estimator, helper):
    settings = {**SETTINGS, "early_stopping": False}
    estimator = Estimator(**settings, callbacks=[StopAfter(2, helper)]).fit(X)
    assert estimator.n_iter_ == 2
    assert estimator.loss_curve_ == Estimator(**settings).fit(X).loss_curve_[:2]


@pytest.mark.parametrize("hook", [hook for hook in HOOKS if hook != "on_epoch_end"])
def test_callback_that_raises_before_an_epoch_is_complete_interrupts(hook):
    def interrupt():
        raise KeyboardInterrupt

    estimator = AutoencoderTransformer(**SETTINGS, callbacks=[CtrlC(hook, 1, interrupt)])
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X)
    assert not hasattr(estimator, "net_")


def test_callbacks_hear_of_the_end_of_an_interrupted_training():
    class Tidy(Callback):
        ended = 0

        def on_train_end(self, net, **kwargs):
            self.ended += 1

    tidy = Tidy()
    estimator = AutoencoderTransformer(**SETTINGS, callbacks=[CtrlC(), tidy])
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X)
    assert tidy.ended == 1


def test_early_stopping_of_skorch_ends_a_training():
    callback = EarlyStopping(monitor="train_objective", patience=2, threshold=1.0)
    # From a random start, where the objective is above zero: the threshold is a share of it.
    settings = {**SETTINGS, "max_iter": 50, "init": "random"}
    estimator = AutoencoderTransformer(**settings, callbacks=[callback]).fit(X)
    assert estimator.n_iter_ == 3  # each epoch would have to be twice as good as the best
    held_out = EarlyStopping(patience=2, threshold=1.0)
    estimator.set_params(callbacks=[held_out], early_stopping=True).fit(X)
    assert estimator.n_iter_ == 3


# The detector.


def test_interrupted_fit_of_the_detector_leaves_it_as_it_was():
    callback = CtrlC("on_batch_end", 3, on=False)
    detector = AutoencoderOutlierDetector(
        AutoencoderTransformer(**SETTINGS, callbacks=[callback]), random_state=0
    )
    fresh = AutoencoderOutlierDetector(
        AutoencoderTransformer(**SETTINGS, callbacks=[CtrlC("on_batch_end", 3)]), random_state=0
    )
    with pytest.raises(KeyboardInterrupt):
        fresh.fit(X)
    with pytest.raises(NotFittedError):
        fresh.score_samples(X)
    assert not [name for name in vars(fresh) if name.endswith("_")]
    scores = detector.fit(X).score_samples(X)
    detector.estimator.callbacks[0].on = True
    with pytest.raises(KeyboardInterrupt):
        detector.fit(X[:40] + 1)
    np.testing.assert_array_equal(detector.score_samples(X), scores)
