"""Containers that rows come in, and how an estimator of the user's is handed them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.utils import _safe_indexing


def is_frame(X) -> bool:
    """Return whether rows come in a table with named columns, of pandas or another library."""
    return hasattr(X, "columns") or hasattr(X, "__dataframe__")


def as_rows(x):
    """Return what is one row as a table of one row, and a table as it is."""
    if isinstance(x, pd.Series):
        return x.to_frame().T
    if sp.issparse(x):
        return x.reshape((1, -1)) if x.ndim == 1 else x
    if is_frame(x):
        return x
    rows = np.asarray(x)
    return rows[None] if rows.ndim == 1 else x


def row_labels(rows) -> np.ndarray | pd.Index:
    """Return what rows are called: by their index in pandas, elsewhere by their number."""
    return rows.index if isinstance(rows, pd.DataFrame) else np.arange(np.shape(rows)[0])


class Columns:
    """Names and types of the columns of a table.

    Parameters
    ----------
    frame : DataFrame
        Of pandas or another library.
    """

    def __init__(self, frame):
        self.names = list(getattr(frame, "column_names", frame.columns))
        types = frame.dtypes if isinstance(frame, pd.DataFrame) else [None] * len(self.names)
        # Others, as categories of numbers, are known as numbers only.
        self.types = [str(t) if isinstance(t, np.dtype) and t.kind in "biuf" else "" for t in types]

    def table(self, rows):
        """Return rows of numbers, dense or CSR, as a DataFrame of pandas."""
        if sp.issparse(rows):
            return pd.DataFrame.sparse.from_spmatrix(rows, columns=self.names)
        columns = [_as_type(rows[:, j], kind) for j, kind in enumerate(self.types)]
        table = pd.DataFrame(dict(enumerate(columns)), index=range(len(rows)))
        table.columns = pd.Index(self.names)
        return table


def _as_type(values: np.ndarray, kind: str) -> np.ndarray:
    """Return values as that type, where it can hold them."""
    if not kind:
        return values
    with np.errstate(invalid="ignore", over="ignore"):
        found = values.astype(kind)
    return found if np.array_equal(found, values) else values


class OwnEstimator:
    """A fitted estimator of the user's, asked with tables like the one that it learned from.

    Parameters
    ----------
    estimator : estimator
    columns : Columns or None
        Of the training table, if it had names.
    """

    def __init__(self, estimator, columns: Columns | None):
        self.estimator, self.columns = estimator, columns

    def reconstruct(self, X) -> np.ndarray:
        """Return what the estimator makes of rows."""
        found = self.estimator.reconstruct(self._rows(X))
        return found.toarray() if sp.issparse(found) else np.asarray(found)

    def score_samples(self, X) -> np.ndarray:
        """Return the score of each row."""
        return np.asarray(self.estimator.score_samples(self._rows(X)), dtype=np.float64).ravel()

    def _rows(self, X):
        return X if self.columns is None else self.columns.table(X)


def fit_own(estimator, given, X, train: np.ndarray, n_distinct, seed, *, index) -> OwnEstimator:
    """Fit a clone to some rows of a table, or of the checked array where it has no names.

    Parameters
    ----------
    estimator : estimator
    given : table
        As the user gave it.
    X : ndarray or CSR
        The same, checked; its rows as often as their weights say.
    train : ndarray of int
        Rows of X to learn from.
    n_distinct, seed
        Not looked at: the estimator has its own.
    index : ndarray of int or None
        Rows of ``given`` that X consists of, if these are not all in their order.
    """
    if not is_frame(given):
        return OwnEstimator(clone(estimator).fit(X[train]), None)
    rows = train if index is None else index[train]
    return OwnEstimator(clone(estimator).fit(_safe_indexing(given, rows)), Columns(given))
