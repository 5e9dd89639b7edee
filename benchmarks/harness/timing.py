"""Seconds: of a block, of a training epoch, and of several sides in turns.

Processor time does not depend on what else the machine does, so it is what one thread is timed by.
Several threads also wait for each other, which only the clock on the wall sees.
"""

import time
from types import SimpleNamespace
from typing import NamedTuple
from unittest import mock

import numpy as np


def clock_of(n_threads):
    """Return the clock to time with: processor time for one thread, else wall time."""
    return time.process_time if n_threads == 1 else time.perf_counter


class Stopwatch:
    """Seconds that a block takes: `cpu` of this process (all its threads), and `wall`."""

    def __enter__(self):
        self._cpu, self._wall = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *_):
        self.cpu, self.wall = time.process_time() - self._cpu, time.perf_counter() - self._wall


def epoch_seconds(estimator, X, clock):
    """Fit an estimator with ``max_iter=1`` and return the seconds of that epoch alone.

    They are those of the history, callbacks included, which tell wall time unless the clock of
    skorch's timer is replaced. A callback of our own would change what is timed: the engine takes a
    longer way where users look at gradients.
    """
    with mock.patch("skorch.callbacks.logging.time", SimpleNamespace(time=clock)):
        return estimator.fit(X).net_.history[-1, "dur"]


def in_turns(sides, rounds, *, warm_up=True):
    """Call each side once a round.

    Parameters
    ----------
    sides : dict of functions without arguments that return numbers, such as seconds
    rounds : int
    warm_up : bool, default=True
        Whether a round before the first one is thrown away: first touches of memory and files.

    Returns
    -------
    dict of arrays (rounds,)
        What each side returned.
    """
    found = {name: [] for name in sides}
    for _ in range(rounds + warm_up):
        for name, side in sides.items():
            found[name].append(side())
    return {name: np.array(values[int(warm_up) :]) for name, values in found.items()}


class Ratio(NamedTuple):
    """Ratios of the rounds of one side to those of another."""

    median: float
    lowest: float
    highest: float


def ratio(seconds, reference):
    """Return how many times the reference's seconds each round took: median, lowest, highest."""
    ratios = np.divide(seconds, reference)
    return Ratio(np.median(ratios), ratios.min(), ratios.max())
