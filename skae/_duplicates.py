"""Rows of a training set merged where they are equal, in an order that depends on them alone.

A fit sees each distinct row once, with the sum of its weights. So a weight of 2 is the same as the
row given twice for every estimator, those that draw noise included; the order of the rows does
not matter; copies of a row never stand on both sides of a hold-out; and tables of few distinct
rows train faster.

The order is a fixed shuffle of the rows as they are sorted by their values. What hardly changes the
values (rounding, single precision, other units) changes the place of few rows or of none, and so
hardly changes what is learned.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import scipy.sparse as sp
from pandas.util import hash_array

from skae._blocks import row_blocks
from skae._random import Stream, numpy_generator

ROWS_TO_LOOK_BACK_ON = 10_000
# Parts of the largest value of a column below which a value counts as a zero: what rounding leaves
# where zero was meant; and in the end, nothing.
_ROUNDING, _NOTHING = 2.0**-23, 0.0
_CELLS_COMPARED = 2**18


def merge_duplicates(X, weight: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Return which rows to train on, and their weights.

    Parameters
    ----------
    X : ndarray or CSR of shape (n_samples, n_features)
    weight : ndarray of shape (n_samples,) or None
        Weights; rows of weight zero are left out.

    Returns
    -------
    rows : ndarray of int, shape (n_distinct,)
        The first row of each group of equal rows, in an order that depends on these rows alone,
        shuffled: the first of them are as good as a random choice.
    weight : ndarray of shape (n_distinct,) or None
        Summed weights with mean one; None where all are equal.
    """
    kept = np.arange(X.shape[0]) if weight is None else np.flatnonzero(weight)
    _, first, group = np.unique(hash_rows(X)[kept], return_index=True, return_inverse=True)
    summed = np.bincount(group, None if weight is None else weight[kept])
    order = np.argsort(first)  # as they lie in X, which is read faster so
    order = order[sort_rows(X, kept[first[order]])]
    shuffle = numpy_generator(0, Stream.ORDER_OF_DISTINCT_ROWS)
    order = order[shuffle.permutation(len(order))]
    rows, summed = kept[first[order]], summed[order]
    equal = np.all(summed == summed[0])
    return rows, None if equal else summed / summed.mean()


def hash_rows(X) -> np.ndarray:
    """Return a 64-bit hash of each row; a billion pairs collide with probability 1e-10.

    Equal rows have the same hash, dense or sparse, in single or in double precision.
    """
    if sp.issparse(X):
        parts = row_blocks(len(X.data), 1)
        return _sums_of_entries(X.indptr, [_hash_entries(X.data[p], X.indices[p]) for p in parts])
    columns = np.arange(X.shape[1])
    chunks = (X[block] for block in row_blocks(len(X), X.shape[1]))
    return np.concatenate([_hash_entries(chunk, columns).sum(axis=1) for chunk in chunks])


def _hash_entries(values, columns) -> np.ndarray:
    """Hash each entry with its column; zeros, of either sign, as if they were not there.

    The hash of a row is the sum of these, in any order.
    """
    values = np.ascontiguousarray(values, dtype=np.float64)
    entries = hash_array(values.ravel()).reshape(values.shape)
    entries = entries ^ hash_array(columns.astype(np.uint64))
    entries = hash_array(entries.ravel()).reshape(values.shape)
    return np.where(values == 0, np.uint64(0), entries)


def _sums_of_entries(indptr: np.ndarray, entries: list[np.ndarray]) -> np.ndarray:
    """Return the sum over the stored entries of each row of a number for each, modulo 2**64."""
    sums = np.concatenate([[np.uint64(0)], *entries]).cumsum(dtype=np.uint64)
    return sums[indptr[1:]] - sums[indptr[:-1]]


def representatives(index: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """Return at most 10,000 training rows, each as often as its weight says.

    The rows lie in the order of `merge_duplicates`, so that the first are as good as a random
    choice; and with weights, evenly spaced steps through their sum are.
    """
    if weight is None:
        return index[:ROWS_TO_LOOK_BACK_ON]
    steps = (np.arange(ROWS_TO_LOOK_BACK_ON) + 0.5) / ROWS_TO_LOOK_BACK_ON
    places = np.searchsorted(np.cumsum(weight) / weight.sum(), steps)
    return index[places.clip(max=len(index) - 1)]


# The order of values ------------------------------------------------------------------------------


def sort_rows(X, rows: np.ndarray) -> np.ndarray:
    """Return what sorts distinct rows of a dense or CSR X, alike for both formats.

    Rows are sorted by which of their cells are not zero (in some order, but one that depends on
    these cells alone), and then by their values, column after column. That is done first in single
    precision, with zeros for what rounding leaves of them, and then, for rows that are alike in
    that, with the values as they are. Most rows are told apart by the cells that are not zero, or
    in the first columns, and the rest is not looked at.

    Parameters
    ----------
    X : ndarray or CSR of shape (n_samples, n_features)
    rows : ndarray of int, shape (n_distinct,)
        Ascending numbers of rows, no two of which are equal.

    Returns
    -------
    order : ndarray of int, shape (n_distinct,)
    """
    ties = _Ties(len(rows))
    kind = _CsrValues if sp.issparse(X) else _DenseValues
    ties.settle(kind(X, rows, _ROUNDING, np.float32))
    if len(ties.place):
        ties.settle(kind(X, rows, _NOTHING, np.float64))
    return ties.order


class _Ties:
    """An order of rows, and the places in it that are not settled yet."""

    def __init__(self, n_rows: int):
        self.order = np.arange(n_rows)
        self.place = np.arange(n_rows)  # ascending
        self.group = np.zeros(n_rows, dtype=np.int64)  # the first of the places that are tied

    def settle(self, values: _Values) -> None:
        """Sort what is tied by the pattern of its cells, and then by their values."""
        self._refine(values.pattern[self.order[self.place], None])
        start = 0
        while len(self.place) and start < values.width:
            stop = start + max(1, _CELLS_COMPARED // len(self.place))
            self._refine(_sortable(values.cells(self.order[self.place], start, stop)))
            start = stop

    def _refine(self, keys: np.ndarray) -> None:
        """Sort each group by the keys of its rows, of shape (n_tied, n_keys), unsigned."""
        keys = np.column_stack([self.group.astype(keys.dtype), keys])
        if not _steps(keys)[1:].any():
            return
        # The bytes of the largest digits come first, so that bytes sort as numbers do.
        digits = keys.astype(keys.dtype.newbyteorder(">"))
        by = np.argsort(digits.view(f"V{digits.itemsize * digits.shape[1]}").ravel())
        self.order[self.place] = self.order[self.place[by]]
        first = _steps(keys[by])
        group = np.cumsum(first) - 1
        tied = np.bincount(group)[group] > 1
        self.group, self.place = self.place[first][group][tied], self.place[tied]


def _steps(keys: np.ndarray) -> np.ndarray:
    """Return which rows differ from the row before; the first always does."""
    steps = np.ones(len(keys), dtype=bool)
    np.any(keys[1:] != keys[:-1], axis=1, out=steps[1:])
    return steps


def _sortable(values: np.ndarray) -> np.ndarray:
    """Return unsigned integers that are sorted as these floating-point numbers are."""
    values = values + 0.0  # no zero has a sign
    kind: Any = np.uint32 if values.dtype == np.float32 else np.uint64
    bits, sign = values.view(kind), kind(1 << 8 * values.itemsize - 1)
    return np.where(bits & sign, np.invert(bits), bits | sign)


class _Values(ABC):
    """The cells of some rows that are not zero, to be compared.

    Parameters
    ----------
    X : ndarray or CSR of shape (n_samples, n_features)
    rows : ndarray of int, shape (n_rows,)
    least : float
        Cells count as zero up to this part of the largest value of their column.
    dtype : type
        Precision that values are compared in. For single precision columns are divided by a power
        of two, which brings those of huge and tiny units into its range and rounds nothing.

    Attributes
    ----------
    pattern : ndarray of uint64, shape (n_rows,)
        A hash of which cells are not zero.
    width : int
        Number of cells that a row has at most.
    """

    pattern: np.ndarray
    width: int

    def __init__(self, largest: np.ndarray, least: float, dtype: type):
        self.least, self.dtype = least * largest, dtype
        self.exponent = np.frexp(largest)[1] if dtype == np.float32 else np.zeros_like(largest, int)
        self.hashes = hash_array(np.arange(1, len(largest) + 1, dtype=np.uint64))  # 0 has hash 0

    @abstractmethod
    def cells(self, chosen: np.ndarray, start: int, stop: int) -> np.ndarray:
        """Return values from one cell to another of rows of one pattern, (n_chosen, n_cells)."""


class _DenseValues(_Values):
    """Of dense rows; all columns of a row are its cells."""

    def __init__(self, X, rows, least, dtype):
        self.X, self.rows, self.width = X, rows, X.shape[1]
        blocks = [rows[block] for block in row_blocks(len(rows), self.width)]
        largest = np.max([np.abs(X[block]).max(axis=0) for block in blocks], axis=0)
        super().__init__(largest, least, dtype)
        patterns = (np.where(np.abs(X[block]) > self.least, self.hashes, 0) for block in blocks)
        self.pattern = np.concatenate([pattern.sum(axis=1) for pattern in patterns])

    def cells(self, chosen, start, stop):
        """Return values in consecutive columns."""
        part = slice(start, stop)
        values = self.X[self.rows[chosen], part].astype(np.float64)
        values[np.abs(values) <= self.least[part]] = 0.0
        return np.ldexp(values, -self.exponent[part]).astype(self.dtype)


class _CsrValues(_Values):
    """Of CSR rows; the stored entries of a row that are not zero are its cells."""

    def __init__(self, X, rows, least, dtype):
        X = X[rows]
        largest = abs(X).max(axis=0).toarray().ravel()
        super().__init__(largest, least, dtype)
        kept = np.abs(X.data) > self.least[X.indices]
        columns = X.indices[kept]
        self.values = np.ldexp(X.data[kept].astype(np.float64), -self.exponent[columns])
        self.values = self.values.astype(dtype)
        self.indptr = np.concatenate([[0], np.cumsum(kept)])[X.indptr]
        self.width = int(np.diff(self.indptr).max(initial=0))
        self.pattern = _sums_of_entries(self.indptr, [self.hashes[columns]])

    def cells(self, chosen, start, stop):
        """Return consecutive stored entries, and zeros after the last."""
        place = self.indptr[chosen, None] + np.arange(start, min(stop, self.width))
        inside = place < self.indptr[chosen + 1, None]
        return np.where(inside, self.values[np.where(inside, place, 0)], self.dtype(0))
