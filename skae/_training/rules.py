"""The rules of a training, without an engine: how fast, how long, and what is worth keeping.

Plain objects, so that several models can be trained side by side, each by rules of its own.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from skae.schedules import Schedule

# Weights that grew so many times in an epoch are finite, and of no use.
_MOST_GROWTH = 1e3


class Rule(ABC):
    """How fast a training goes at each moment, and when it is over."""

    n_epochs: int  # the most of this training
    horizon: int  # the epochs that schedules are laid out for
    #: Whether an average of the weights is judged, and kept at the end.
    averages: bool = False

    @abstractmethod
    def factor(self, epoch: float) -> float:
        """Return the factor of the learning rate after so many epochs, and parts of one."""

    @abstractmethod
    def observe(self, value: float) -> bool:
        """Take the objective of one more epoch; return whether it is the best that was watched."""

    @property
    @abstractmethod
    def is_over(self) -> bool:
        """Whether there are to be no more epochs."""

    @property
    @abstractmethod
    def came_to_an_end(self) -> bool:
        """Whether the training ended for another reason than that no more epochs were allowed."""


class Convergence(Rule):
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

    def __init__(
        self, schedule: Schedule, n_epochs: int, tol: float, n_iter_no_change: int, start: float
    ):
        self.schedule, self.n_epochs, self.tol = schedule, n_epochs, tol
        self.horizon = n_epochs
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
        """Take the objective of one more epoch; return whether it is the best that was watched.

        One that is not finite says nothing, neither of a fall nor of an end to it.
        """
        self.epoch += 1
        if not math.isfinite(value):
            return False
        if not math.isfinite(self.first):
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


class Trial(Rule):
    """How many epochs are best for rows held out, if any are.

    The first epoch is a still one, so that the start is judged as well. The best number is known
    once ``patience`` epochs have brought nothing better.

    Parameters
    ----------
    schedule : Schedule
        Factor of the learning rate.
    most_epochs : int
        Most epochs beside the still one.
    patience : int

    Attributes
    ----------
    best_epoch : int
        Epochs with steps before the best objective; 0 where the start is the best.
    """

    averages = True

    def __init__(self, schedule: Schedule, most_epochs: int, patience: int):
        self.schedule, self.most_epochs, self.patience = schedule, most_epochs, patience
        self.n_epochs = self.horizon = most_epochs + 1
        self.epoch = self.best_epoch = 0
        self.best = math.inf

    def factor(self, epoch: float) -> float:
        """Return the factor of the learning rate after so many epochs, and parts of one."""
        return _after_still_epoch(self.schedule, epoch, self.most_epochs)

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

    @property
    def came_to_an_end(self) -> bool:
        """Whether more epochs would have brought nothing better, as far as that was tried."""
        return self.is_over

    def repeat(self) -> Repeat:
        """Return the training of the best number of epochs."""
        return Repeat(self.schedule, self.most_epochs, self.best_epoch, self.came_to_an_end)


class FixedLength(Rule):
    """So many epochs as were said beforehand, of which none is better than another."""

    came_to_an_end = True
    epoch = 0

    def observe(self, value: float) -> bool:
        """Take the objective of one more epoch; none is the best."""
        self.epoch += 1
        return False

    @property
    def is_over(self) -> bool:
        """Whether all epochs are done."""
        return self.epoch >= self.n_epochs


class Repeat(FixedLength):
    """The epochs that were best in a `Trial`, on its schedule, and no more.

    Parameters
    ----------
    schedule : Schedule
    most_epochs : int
        Of the trial.
    best_epoch : int
        Epochs to train after the still one.
    came_to_an_end : bool, default=True
        Whether the trial did.
    """

    # Every moment of it is one of the trial: of the learning rate, and of all other schedules.

    averages = True

    def __init__(
        self,
        schedule: Schedule,
        most_epochs: int,
        best_epoch: int,
        came_to_an_end: bool = True,
    ):
        self.schedule, self.most_epochs = schedule, most_epochs
        self.came_to_an_end = came_to_an_end
        self.n_epochs, self.horizon = best_epoch + 1, most_epochs + 1

    def factor(self, epoch: float) -> float:
        """Return the factor of the learning rate after so many epochs, and parts of one."""
        return _after_still_epoch(self.schedule, epoch, self.most_epochs)


class Sizing(FixedLength):
    """A fixed number of epochs of a longer training, whose end is never reached.

    Parameters
    ----------
    schedule : Schedule
    horizon : int
        Epochs of the longer one.
    """

    #: The share of it that is trained.
    SHARE = 0.85

    def __init__(self, schedule: Schedule, horizon: int):
        self.schedule, self.horizon = schedule, horizon
        self.n_epochs = math.ceil(self.SHARE * horizon)

    def factor(self, epoch: float) -> float:
        """Return the factor of the learning rate after so many epochs, and parts of one."""
        return self.schedule(min(1.0, epoch / self.horizon))


def _after_still_epoch(schedule: Schedule, epoch: float, most_epochs: int) -> float:
    return 0.0 if epoch < 1 else schedule(min(1.0, (epoch - 1) / most_epochs))


def is_finite(loss: float, growth: float) -> bool:
    """Return whether a training can go on with this loss and weights that grew so many times."""
    return math.isfinite(loss) and math.isfinite(growth)


def is_worth_keeping(growth: float) -> bool:
    """Return whether to come back to weights that grew so many times in an epoch."""
    return growth <= _MOST_GROWTH
