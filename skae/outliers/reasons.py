"""The columns that speak most against a row, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

import numpy as np
import pandas as pd
import scipy.sparse as sp


def reasons_table(
    ensemble, X, names: Sequence, labels, n_reasons: int, min_share: float
) -> pd.DataFrame:
    """Return the largest shares of each row, the largest first.

    Parameters
    ----------
    ensemble : Ensemble
    X : ndarray or CSR of shape (n_samples, n_features)
    names : sequence of length n_features
    labels : sequence of length n_samples or None
        What rows are called, in a first column; None: there is no such column.
    n_reasons : int
    min_share : float
    """
    tables = [_reasons(ensemble, X[[i]], n_reasons, min_share) for i in range(X.shape[0])]
    column, value, expected, share = np.concatenate(tables, axis=1)
    feature = [names[int(j)] for j in column]
    table = pd.DataFrame({"feature": feature, "value": value, "expected": expected, "share": share})
    if labels is not None:
        row = np.repeat(np.arange(len(tables)), [one.shape[1] for one in tables])
        table.insert(0, "row", pd.Index(labels)[row])
    return table


def _reasons(ensemble, X, n_reasons: int, min_share: float) -> np.ndarray:
    """Return column, value, expected value and share of the reasons of one row."""
    dense = np.asarray(X.toarray() if sp.issparse(X) else X, dtype=np.float64)[0]
    expected, shares = ensemble.one(X)
    endless = ~np.isfinite(shares)
    if endless.any():  # no number, or beyond all numbers: as a score of the row, the oddest
        shares = -endless.astype(np.float64)
    shares = shares / min(shares.sum(), -np.finfo(float).tiny)
    top = np.argsort(-shares, kind="stable")[:n_reasons]
    top = top[shares[top] >= min_share]
    return np.stack([top, dense[top], expected[top], shares[top]])


def check_limits(n_reasons, min_share) -> None:
    """Raise an error where it makes no sense how many reasons are asked for."""
    if not isinstance(n_reasons, Integral) or n_reasons < 1:
        raise ValueError(f"n_reasons must be a whole number of at least 1. Got {n_reasons!r}.")
    if not 0 <= min_share <= 1:
        raise ValueError(f"min_share must be a number in [0, 1]. Got {min_share!r} instead.")


def column_names(feature_names, detector) -> Sequence:
    """Return the names given, those of the training table, or x0, x1, ..."""
    n_features = detector.n_features_in_
    if feature_names is None:
        return getattr(detector, "feature_names_in_", [f"x{j}" for j in range(n_features)])
    names = list(feature_names)
    if len(names) != n_features:
        raise ValueError(
            f"feature_names must hold {n_features} names, one for each column that the detector "
            f"was fitted on. Got {len(names)} instead."
        )
    return names
