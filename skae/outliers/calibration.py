"""How surprising is a score among those of normal rows? p-values, a threshold, and alarms.

Scores are high for normal rows; calibration scores are those of rows that were not learned from.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import false_discovery_control

# The tail is fitted to this share of the calibration scores, and to no fewer than so many.
_TAIL_SHARE, _FEWEST_IN_TAIL = 0.1, 10
_MOST_SCORES = 10**6
# No tail is taken to be lighter than that of a t distribution with three degrees of freedom: scores
# are squares, so that a density r**-4 of distances leaves a share proportional to score**(-3 / 2).
_LEAST_SHAPE = 2.0 / 3.0


def conformal_p_values(scores: np.ndarray, calibration: np.ndarray) -> np.ndarray:
    """Return (1 + number of calibration scores at or below each score) / (1 + their number).

    Parameters
    ----------
    scores : ndarray of shape (n_samples,)
        High is normal.
    calibration : ndarray of shape (n_calibration,)
        Sorted scores of normal rows that had no part in the training.

    References
    ----------
    Bates et al. (2023), "Testing for outliers with conformal p-values", section 2.
    """
    at_or_below = np.searchsorted(calibration, scores, side="right")
    return (1.0 + at_or_below) / (1.0 + len(calibration))


class Tail(NamedTuple):
    """A Pareto distribution of the oddest tenth of the scores, to go beyond the oddest of them.

    With t the negative score, ``log(1 + (t - start) / scale)`` beyond ``start`` is taken to be
    exponential, with a mean of at least 2/3. That is the generalised Pareto distribution, which all
    tails come to (Balkema and de Haan 1974; Pickands 1975), with its scale fixed: by how far the
    start is from the median. Where the scores begin and what unit they have does not matter.
    """

    start: float
    scale: float
    n_beyond: int
    total: float  # of the logarithms beyond the start
    n_calibration: int

    def p_values(self, scores: np.ndarray) -> np.ndarray:
        """Return the probability that a score is at or below each of these.

        For an exponential Z and the sum S of k others, P(Z > z) is the mean of (1 + z / S)**-k: the
        uncertainty of the mean is part of it.
        """
        beyond = np.maximum(-scores - self.start, 0.0)
        share = (1.0 + self.n_beyond) / (1.0 + self.n_calibration)
        return share * (1.0 + np.log1p(beyond / self.scale) / self.total) ** -float(self.n_beyond)


def fit_tail(calibration: np.ndarray) -> Tail | None:
    """Return the tail of the calibration scores, or None where there is none to be seen.

    Parameters
    ----------
    calibration : ndarray of shape (n_calibration,)
        Sorted scores. At least 20, and the oddest tenth apart from the median.
    """
    n = len(calibration)
    n_beyond = max(_FEWEST_IN_TAIL, round(_TAIL_SHARE * n))
    if n < 2 * n_beyond or not np.isfinite(calibration).all():
        return None
    start = -calibration[n_beyond]
    scale = start + np.median(calibration)
    if scale <= 0:
        return None
    logarithms = np.log1p((-calibration[:n_beyond] - start) / scale)
    total = max(logarithms.sum(), _LEAST_SHAPE * n_beyond)
    return Tail(float(start), float(scale), n_beyond, float(total), n)


def extrapolated_p_values(scores: np.ndarray, calibration: np.ndarray) -> np.ndarray:
    """Return conformal p-values, smaller ones for scores below all those of the calibration.

    Parameters
    ----------
    scores : ndarray of shape (n_samples,)
        High is normal.
    calibration : ndarray of shape (n_calibration,)
        Sorted scores of rows that had no part in the training.
    """
    p_values = conformal_p_values(scores, calibration)
    tail = fit_tail(calibration)
    if tail is None:
        return p_values
    beyond = scores < calibration[0]
    smaller = np.minimum(p_values[beyond], tail.p_values(scores[beyond]))
    p_values[beyond] = np.maximum(smaller, np.finfo(float).tiny)
    return p_values


def spread_weights(scores: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return sorted scores, each as often as its weight says; of large weights, in proportion.

    For weights that are not whole numbers, evenly spaced steps through their sum.
    """
    order = np.argsort(scores, kind="stable")
    total = np.cumsum(weight[order])
    n = max(1, int(min(np.rint(total[-1]), max(len(scores), _MOST_SCORES))))
    places = np.searchsorted(total, (np.arange(n) + 0.5) * (total[-1] / n))
    return scores[order][places.clip(max=len(scores) - 1)]


def threshold(calibration: np.ndarray, share: float) -> float:
    """Return what a new score is below with this probability.

    The quantile (n + 1) * share: the k-th smallest of n scores is above k / (n + 1) of the new
    ones, on average. Where n is less than 1 / share, the smallest.
    """
    return float(np.quantile(calibration, share, method="weibull"))


def raise_alarms(p_values: np.ndarray, fdr: float) -> np.ndarray:
    """Return which rows are odd at the false-discovery rate ``fdr``.

    References
    ----------
    Benjamini and Hochberg (1995), "Controlling the false discovery rate".
    """
    return false_discovery_control(p_values) <= fdr


def fewest_odd(n_rows: int, calibration: np.ndarray, fdr: float) -> int:
    """Return how many of the rows must be as odd as can be before one of them is an alarm."""
    if fit_tail(calibration) is not None:
        return 1
    return max(1, int(np.ceil(n_rows / (fdr * (1 + len(calibration))))))
