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


def is_finite(loss: float, growth: float) -> bool:
    """Return whether a training can go on with this loss and weights that grew so many times."""
    return math.isfinite(loss) and math.isfinite(growth)


def is_worth_keeping(growth: float) -> bool:
    """Return whether to come back to weights that grew so many times in an epoch."""
    return growth <= _MOST_GROWTH
