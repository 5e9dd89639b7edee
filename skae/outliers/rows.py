"""Rows on their way through the detector: their numbers, what the user gave, blocks of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
from pandas.util import hash_array
from sklearn.utils import _safe_indexing

_CELLS_PER_BLOCK, _FEWEST_ROWS = 2**20, 32


class Rows(NamedTuple):
    """Some rows, as numbers and as they were given."""

    values: Any  # ndarray or CSR of shape (n_rows, n_features)
    given: Any  # what the estimator of the user gets; the values themselves, or a DataFrame

    def take(self, index: np.ndarray | slice) -> Rows:
        """Return some of the rows, without a copy where these are all in their order."""
        if _is_all(index, self.values.shape[0]):
            return self
        values = self.values[index]
        given = values if self.given is self.values else _safe_indexing(self.given, index)
        return Rows(values, given)

    def in_format(self, sparse: bool) -> Rows:
        """Return rows whose values are CSR, or dense; a few at a time only."""
        if sp.issparse(self.values) == sparse:
            return self
        values = sp.csr_array(self.values) if sparse else self.values.toarray()
        return Rows(values, values if self.given is self.values else self.given)


def _is_all(index: np.ndarray | slice, n_rows: int) -> bool:
    if isinstance(index, slice):
        return index.indices(n_rows) == (0, n_rows, 1)
    return len(index) == n_rows and np.array_equal(index, np.arange(n_rows))


def is_frame(X) -> bool:
    """Return whether X is a DataFrame, of which an estimator may want names and types."""
    return hasattr(X, "columns") and (hasattr(X, "iloc") or hasattr(X, "with_columns"))


def holds_anything(X) -> bool:
    """Return whether the cells of X need not be numbers, by its type."""
    if sp.issparse(X):
        return False
    return is_frame(X) or np.asarray(X).dtype.kind in "OUS"


def row_blocks(n_rows: int, n_features: int) -> Iterator[slice]:
    """Yield slices of rows that may be made dense."""
    # The network works on no fewer rows than this at once; it would fill them up.
    step = max(_FEWEST_ROWS, _CELLS_PER_BLOCK // n_features // _FEWEST_ROWS * _FEWEST_ROWS)
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


def map_blocks(function: Callable, rows: Rows) -> Iterator[Any]:
    """Yield what a function says of one block of rows after another."""
    return (function(rows.take(block)) for block in row_blocks(*rows.values.shape))


def numbers_of(X) -> np.ndarray:
    """Return a number for each cell of a table of anything, equal ones for equal cells.

    For estimators that take text, dates and missing values, of which the detector needs to know no
    more than which rows are the same.

    Parameters
    ----------
    X : DataFrame or array-like of shape (n_samples, n_features)

    Returns
    -------
    numbers : ndarray of shape (n_samples, n_features)
    """
    if isinstance(X, pd.DataFrame):
        columns = [X.iloc[:, j] for j in range(X.shape[1])]
    elif is_frame(X):
        columns = [pd.Series(X[name].to_list()) for name in X.columns]
    else:
        columns = [pd.Series(list(values)) for values in np.asarray(X, dtype=object).T]
    return np.column_stack([_numbers_of_column(column) for column in columns])


def _numbers_of_column(column: pd.Series) -> np.ndarray:
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "biuf":
        values = column.to_numpy(dtype=np.float64)
        return np.where(np.isfinite(values), values, 0.0)
    return hash_array(column.astype(str).to_numpy(dtype=object)) / 2.0**64
