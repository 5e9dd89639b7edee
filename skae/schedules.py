"""How does a weight change during training? Pure functions of the share of training done.

A schedule maps ``progress``, the share of the epochs of a fit that are over (0 at the first batch,
1 after the last), to a factor in [0, 1]. The learning rate and the weight of the KL term of a
variational autoencoder are multiplied by such factors.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from numbers import Real

from skae._validation import Component
from skae.constraints import Interval

# A factor has settled where it is as near to its last value as this, seen at so many places.
_NEAR, _PLACES = 0.01, 1000


class Schedule(Component):
    """A factor in [0, 1] as a function of the share of training done."""

    instead = "A schedule is a function of the share of the training alone."

    @abstractmethod
    def factor(self, progress: float) -> float:
        """Return the factor at ``progress`` in [0, 1]."""

    @property
    def settles_at(self) -> float:
        """Share of the training, in [0, 1], from which the factor stays what it is at the end.

        Until then an objective with this factor in it changes by itself, and says nothing of
        convergence. The default looks at a thousand places, and takes a hundredth for no change.
        """
        last = self.factor(1.0)
        moving = [p for p in range(_PLACES) if abs(self.factor(p / _PLACES) - last) > _NEAR]
        return (moving[-1] + 1) / _PLACES if moving else 0.0

    def __call__(self, progress: float) -> float:
        """Check the range and return the factor."""
        if not 0.0 <= progress <= 1.0:
            raise ValueError(f"progress must lie in [0, 1]. Got {progress!r} instead.")
        return self.factor(progress)


class Constant(Schedule):
    """A factor of 1 throughout.

    Examples
    --------
    >>> from skae.schedules import Constant
    >>> Constant()(0.3)
    1.0
    """

    def factor(self, progress: float) -> float:
        """Return 1."""
        return 1.0


class LinearWarmup(Schedule):
    """A straight line from 0 to 1, then 1: ``min(1, progress / share)``.

    Parameters
    ----------
    share : float in [0, 1], default=0.25
        Share of the training after which the factor is 1; 0 starts at 1.

    References
    ----------
    Bowman et al. (2016), "Generating sentences from a continuous space", section 3.1.

    Examples
    --------
    >>> from skae.schedules import LinearWarmup
    >>> LinearWarmup(share=0.5)(0.25)
    0.5
    """

    _parameter_constraints: dict = {"share": [Interval(Real, 0, 1, closed="both")]}

    def __init__(self, share=0.25):
        self.share = share

    def factor(self, progress: float) -> float:
        """Return ``min(1, progress / share)``."""
        return 1.0 if progress >= self.share else progress / self.share

    @property
    def settles_at(self) -> float:
        """Return ``share``."""
        return float(self.share)


class Cosine(Schedule):
    """A short linear rise, then half a cosine down to 0 at the end of training.

    With ``w = warmup`` and ``t = (progress - w) / (1 - w)`` the factor is ``progress / w`` while
    ``progress < w`` and ``(1 + cos(pi t)) / 2`` after it.

    Parameters
    ----------
    warmup : float in [0, 1), default=0.05
        Share of the training in which the factor rises from 0 to 1.

    References
    ----------
    Loshchilov and Hutter (2017), "SGDR: Stochastic gradient descent with warm restarts",
    equation 5, with one cycle.

    Examples
    --------
    >>> from skae.schedules import Cosine
    >>> round(Cosine(warmup=0.0)(0.5), 3)
    0.5
    """

    _parameter_constraints: dict = {"warmup": [Interval(Real, 0, 1, closed="left")]}

    def __init__(self, warmup=0.05):
        self.warmup = warmup

    def factor(self, progress: float) -> float:
        """Return the rising line before ``warmup`` and the falling half cosine after it."""
        if progress < self.warmup:
            return progress / self.warmup
        return 0.5 * (1.0 + math.cos(math.pi * (progress - self.warmup) / (1.0 - self.warmup)))


class WarmupStableDecay(Schedule):
    """A short linear rise, a plateau of 1, then half a cosine down to 0 at the end of training.

    With ``w = warmup``, ``d = decay`` and ``t = (progress - 1 + d) / d`` the factor is ``progress /
    w`` while ``progress < w``, 1 until ``1 - d``, and ``(1 + cos(pi t)) / 2`` after it.

    Parameters
    ----------
    warmup : float in [0, 1), default=0.03
        Share of the training in which the factor rises from 0 to 1.
    decay : float in [0, 1], default=0.25
        Share of the training, at its end, in which it falls.

    References
    ----------
    Hu et al. (2024), "MiniCPM: unveiling the potential of small language models with scalable
    training strategies", section 4, with half a cosine for the decay.

    Examples
    --------
    >>> from skae.schedules import WarmupStableDecay
    >>> schedule = WarmupStableDecay()
    >>> schedule(0.5), round(schedule(0.875), 3)
    (1.0, 0.5)
    """

    _parameter_constraints: dict = {
        "warmup": [Interval(Real, 0, 1, closed="left")],
        "decay": [Interval(Real, 0, 1, closed="both")],
    }

    def __init__(self, warmup=0.03, decay=0.25):
        self.warmup = warmup
        self.decay = decay

    def factor(self, progress: float) -> float:
        """Return the rise, the plateau or the fall."""
        rise = progress / self.warmup if progress < self.warmup else 1.0
        begins = 1.0 - self.decay
        if progress <= begins:
            return rise
        return min(rise, 0.5 * (1.0 + math.cos(math.pi * (progress - begins) / self.decay)))


SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "linear_warmup": LinearWarmup,
    "cosine": Cosine,
    "warmup_stable_decay": WarmupStableDecay,
}
