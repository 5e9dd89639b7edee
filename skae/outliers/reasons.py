"""Reasons for scores as tables, for rows in whatever container they are given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from numbers import Integral

import numpy as np
import pandas as pd
import scipy.sparse as sp

COLUMNS = ("feature", "value", "expected", "share")


def as_table(X):
    """Return what may be one row as a table of one row; a table as it is."""
    if isinstance(X, pd.Series):
        return X.to_frame().T
    if sp.issparse(X):
        return X.reshape((1, -1)) if X.ndim == 1 else X
    if hasattr(X, "shape"):
        one = len(X.shape) == 1
    else:
        one = isinstance(X, Sequence) and len(X) > 0 and np.ndim(X[0]) == 0
    return np.asarray(X).reshape(1, -1) if one else X


def row_labels(X, n_rows: int) -> Sequence:
    """Return what rows are called: by the index of a pandas DataFrame, or by number."""
    return X.index if isinstance(X, pd.DataFrame) else range(n_rows)


def names_of(estimator, feature_names, n_features: int) -> Sequence:
    """Return the names of the features: those given, those of the fit, or x0, x1, ..."""
    if feature_names is None:
        return getattr(estimator, "feature_names_in_", [f"x{j}" for j in range(n_features)])
    names = list(feature_names)
    if len(names) != n_features:
        raise ValueError(
            f"feature_names must hold {n_features} names, one for each column that the detector "
            f"was fitted on. Got {len(names)} instead."
        )
    return names


def check_limits(n_reasons, min_share) -> None:
    """Raise an error where it makes no sense how many reasons are asked for."""
    if not isinstance(n_reasons, Integral) or n_reasons < 1:
        raise ValueError(f"n_reasons must be a whole number of at least 1. Got {n_reasons!r}.")
    if not 0 <= min_share <= 1:
        raise ValueError(f"min_share must be a number in [0, 1]. Got {min_share!r} instead.")


def reasons_of(blocks: Iterator[tuple], names: Sequence, n_reasons: int, min_share: float):
    """Yield a table of reasons for each row.

    Parameters
    ----------
    blocks : iterator of (values, expected, shares)
        Of some rows at a time, dense.
    names : sequence of length n_features
    n_reasons : int
        Most reasons for a row.
    min_share : float
        Least share of a reason. The first one is always there.
    """
    for block in blocks:
        for values, expected, shares in zip(*block, strict=True):
            share = shares / min(shares.sum(), -np.finfo(float).tiny)
            top = np.argsort(-share, kind="stable")[:n_reasons]
            top = top[(share[top] >= min_share) | (np.arange(len(top)) == 0)]
            found = [names[j] for j in top], values[top].astype(float), expected[top], share[top]
            yield pd.DataFrame(dict(zip(COLUMNS, found, strict=True)))
