"""How surprising is a score among those of normal rows? Conformal p-values and alarms from them."""

from __future__ import annotations

import numpy as np


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


def benjamini_hochberg(p_values: np.ndarray, fdr: float) -> np.ndarray:
    """Return which hypotheses are rejected at the false-discovery rate ``fdr``.

    References
    ----------
    Benjamini and Hochberg (1995), "Controlling the false discovery rate".
    """
    ordered = np.sort(p_values)
    passed = np.flatnonzero(ordered <= fdr * np.arange(1, len(ordered) + 1) / len(ordered))
    limit = ordered[passed[-1]] if len(passed) else -1.0
    return p_values <= limit
