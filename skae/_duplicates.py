"""Rows of a training set merged where they are equal, in an order that depends on them alone.

A fit sees each distinct row once, with the sum of its weights. So a weight of 2 is the same as the
row given twice for every estimator, those that draw noise included; the order of the rows does
not matter; copies of a row never stand on both sides of a hold-out; and tables of few distinct
rows train faster.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from pandas.util import hash_array

_CELLS_PER_CHUNK = 2**20
_ROWS_TO_LOOK_BACK_ON = 10_000


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
        The first row of each group of equal rows, in the order of their hash.
    weight : ndarray of shape (n_distinct,) or None
        Summed weights with mean one; None where all are equal.
    """
    kept = np.arange(X.shape[0]) if weight is None else np.flatnonzero(weight)
    _, first, group = np.unique(hash_rows(X)[kept], return_index=True, return_inverse=True)
    summed = np.bincount(group, None if weight is None else weight[kept])
    equal = np.all(summed == summed[0])
    return kept[first], None if equal else summed / summed.mean()


def hash_rows(X) -> np.ndarray:
    """Return a 64-bit hash of each row; a billion pairs collide with probability 1e-10.

    Equal rows have the same hash, dense or sparse, in single or in double precision.
    """
    if sp.issparse(X):
        step = _CELLS_PER_CHUNK
        chunks = (slice(i, i + step) for i in range(0, len(X.data), step))
        entries = [_hash_entries(X.data[c], X.indices[c]) for c in chunks]
        sums = np.concatenate([[np.uint64(0)], *entries]).cumsum(dtype=np.uint64)
        return sums[X.indptr[1:]] - sums[X.indptr[:-1]]
    columns = np.arange(X.shape[1])
    step = max(1, _CELLS_PER_CHUNK // X.shape[1])
    chunks = (X[i : i + step] for i in range(0, len(X), step))
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


def representatives(index: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """Return at most 10,000 training rows, each as often as its weight says.

    The rows lie in the order of their hash, so that the first are as good as a random choice; and
    with weights, evenly spaced steps through their sum are.
    """
    if weight is None:
        return index[:_ROWS_TO_LOOK_BACK_ON]
    steps = (np.arange(_ROWS_TO_LOOK_BACK_ON) + 0.5) / _ROWS_TO_LOOK_BACK_ON
    places = np.searchsorted(np.cumsum(weight) / weight.sum(), steps)
    return index[places.clip(max=len(index) - 1)]
