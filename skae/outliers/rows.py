"""Rows on their way through the detector: their numbers, what the user gave, blocks of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
from pandas.util import hash_array

from skae._blocks import row_blocks
from skae._sklearn import safe_indexing

# A network works on no fewer rows at once: it would fill them up.
_FEWEST_ROWS = 32


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


class Rows(NamedTuple):
    """Some rows, as numbers and as they were given."""

    values: Any  # ndarray or CSR of shape (n_rows, n_features)
    given: Any  # what the estimator of the user gets; the values themselves, or a DataFrame

    def blocks(self) -> Iterator[slice]:
        """Yield slices of rows that may be made dense."""
        n_rows, n_features = self.values.shape
        return row_blocks(n_rows, n_features, _FEWEST_ROWS)

    def take(self, index: np.ndarray | slice) -> Rows:
        """Return some of the rows, without a copy where these are all in their order."""
        if _is_all(index, self.values.shape[0]):
            return self
        values = self.values[index]
        given = values if self.given is self.values else safe_indexing(self.given, index)
        return Rows(values, given)

    def in_format(self, sparse: bool, columns: Columns | None) -> Rows:
        """Return rows whose values are CSR, or dense, and with names; a few at a time only."""
        values, given = self.values, self.given
        if sp.issparse(values) != sparse:
            values = sp.csr_array(values) if sparse else values.toarray()
        if given is self.values:
            given = values if columns is None else columns.table(values)
        return Rows(values, given)


def _is_all(index: np.ndarray | slice, n_rows: int) -> bool:
    if isinstance(index, slice):
        return index.indices(n_rows) == (0, n_rows, 1)
    return len(index) == n_rows and np.array_equal(index, np.arange(n_rows))


def is_frame(X) -> bool:
    """Return whether X is a DataFrame, of which an estimator may want names and types."""
    return hasattr(X, "columns") or hasattr(X, "__dataframe__")


def holds_anything(X) -> bool:
    """Return whether the cells of X need not be numbers, by its type."""
    if sp.issparse(X):
        return False
    return is_frame(X) or np.asarray(X).dtype.kind in "OUS"


def map_blocks(function: Callable, rows: Rows) -> Iterator[Any]:
    """Yield what a function says of one block of rows after another."""
    return (function(rows.take(block)) for block in rows.blocks())


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
