"""The rules of a training, without an engine: how fast, how long, and what is worth keeping.

Plain objects, so that several models can be trained side by side, each by rules of its own.
"""

from __future__ import annotations

import math

from skae.schedules import Schedule

# Weights that grew so many times in an epoch are finite, and of no use.
_MOST_GROWTH = 1e3


class Convergence:
    """Whether an objective still improves, and how a training ends where it does not.

    Where the objective has not improved for ``n_iter_no_change`` epochs the training has converged:
    the learning rate is brought down to zero over as many epochs again. An epoch improves when the
    objective falls by more than ``tol`` times its whole fall so far, which depends neither on the
    units of X nor on where the log-likelihood has its zero.

    Parameters
    ----------
    schedule : Schedule
        Factor of the learning rate.
    n_epochs : int
        Most epochs of this training.
    tol : float
    n_iter_no_change : int
    start : float
        Share of the training before which the objective is not looked at.

    Attributes
    ----------
    epoch : int
        Epochs done.
    converged_at : int or None
        The epoch after which the rate was brought down.
    """

    averages = False

    def __init__(
        self, schedule: Schedule, n_epochs: int, tol: float, n_iter_no_change: int, start: float
    ):
        self.schedule, self.n_epochs, self.tol = schedule, n_epochs, tol
        self.n_iter_no_change, self.start = n_iter_no_change, start
        self.epoch = self.waited = 0
        self.first = self.best = math.inf
        self.converged_at: int | None = None

    def factor(self, epoch: float) -> float:
        """Return the factor of the learning rate after so many epochs, and parts of one."""
        factor = self.schedule(min(1.0, epoch / self.n_epochs))
        if self.converged_at is not None:
            factor *= max(0.0, 1.0 - (epoch - self.converged_at) / self.n_iter_no_change)
        return factor

    def observe(self, value: float) -> bool:
        """Take the objective of one more epoch; return whether it is the best that was watched."""
        self.epoch += 1
        if self.epoch == 1:
            self.first = value
        is_best = False
        if self.epoch > self.start * self.n_epochs or self.epoch == self.n_epochs:
            fall = max(0.0, self.first - self.best)  # 0 in the first epoch watched
            self.waited = 0 if value < self.best - self.tol * fall else self.waited + 1
            is_best = value < self.best
            self.best = value if is_best else self.best
        if self.waited >= self.n_iter_no_change and self.converged_at is None:
            self.converged_at = self.epoch
        return is_best

    @property
    def is_over(self) -> bool:
        """Whether the training has converged, and its rate has come down."""
        return self.converged_at is not None and self.factor(self.epoch) == 0.0

    @property
    def came_to_an_end(self) -> bool:
        """Whether the training ended for another reason than that no more epochs were allowed."""
        return self.converged_at is not None or self.epoch < self.n_epochs


class Trial:
    """How many epochs are best for rows held out, if any are.

    The first epoch is a still one, so that the start is judged as well. The best number is known
    once ``patience`` epochs have brought nothing better.

    Parameters
    ----------
    schedule : Schedule
        Factor of the learning rate.
    n_epochs : int
        Most epochs of this training, beside the still one.
    patience : int

    Attributes
    ----------
    best_epoch : int
        Epochs with steps before the best objective; 0 where the start is the best.
    """

    averages = True

    def __init__(self, schedule: Schedule, n_epochs: int, patience: int):
        self.schedule, self.n_epochs, self.patience = schedule, n_epochs, patience
        self.epoch = self.best_epoch = 0
        self.best = math.inf

    def factor(self, epoch: float) -> float:
        """Return the factor of the learning rate after so many epochs, and parts of one."""
        return _after_still_epoch(self.schedule, epoch, self.n_epochs)

    def observe(self, value: float) -> bool:
        """Take the objective of one more epoch; return whether it is the best."""
        is_best = value < self.best
        if is_best:
            self.best, self.best_epoch = value, self.epoch
        self.epoch += 1
        return is_best

    @property
    def is_over(self) -> bool:
        """Whether nothing better came for long."""
        return self.epoch - self.best_epoch > self.patience

    came_to_an_end = True


class Repeat:
    """The epochs that were best in a `Trial`, on its schedule, and no more.

    Parameters
    ----------
    schedule : Schedule
    n_epochs : int
        Most epochs of the trial.
    best_epoch : int
        Epochs to train after the still one.
    """

    averages = True

    def __init__(self, schedule: Schedule, n_epochs: int, best_epoch: int):
        self.schedule, self.n_epochs, self.best_epoch = schedule, n_epochs, best_epoch
        self.epoch = 0

    def factor(self, epoch: float) -> float:
        """Return the factor of the learning rate after so many epochs, and parts of one."""
        return _after_still_epoch(self.schedule, epoch, self.n_epochs)

    def observe(self, value: float) -> bool:
        """Take the objective of one more epoch; none is the best."""
        self.epoch += 1
        return False

    @property
    def is_over(self) -> bool:
        """Whether all epochs are done."""
        return self.epoch > self.best_epoch

    came_to_an_end = True


def _after_still_epoch(schedule: Schedule, epoch: float, n_epochs: int) -> float:
    return 0.0 if epoch < 1 else schedule(min(1.0, (epoch - 1) / n_epochs))


def is_finite(loss: float, growth: float) -> bool:
    """Return whether a training can go on with this loss and weights that grew so many times."""
    return math.isfinite(loss) and math.isfinite(growth)


def is_worth_keeping(growth: float) -> bool:
    """Return whether to come back to weights that grew so many times in an epoch."""
    return growth <= _MOST_GROWTH
