"""Rows of a training set merged where they are equal, in an order that depends on them alone.

A fit sees each distinct row once, with the sum of its weights. So a weight of 2 is the same as the
row given twice for every estimator, those that draw noise included; the order of the rows does
not matter; copies of a row never stand on both sides of a hold-out; and tables of few distinct
rows train faster.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy.sparse as sp
from pandas.util import hash_array, hash_pandas_object

_ROWS_PER_CHUNK = 2**14


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
    """Return a 64-bit hash of each row; a billion pairs collide with probability 1e-10."""
    if sp.issparse(X):
        return _hash_sparse(X)
    chunks = range(0, len(X), _ROWS_PER_CHUNK)
    # Adding zero turns -0.0 into 0.0, which equals it but has other bits.
    frames = (pd.DataFrame(X[i : i + _ROWS_PER_CHUNK] + 0.0, copy=False) for i in chunks)
    return np.concatenate([hash_pandas_object(f, index=False).to_numpy() for f in frames])


def _hash_sparse(X) -> np.ndarray:
    """Hash each stored entry with its column, and sum over the row (in any order)."""
    stored = X.data != 0
    entries = hash_array(X.data) ^ hash_array(X.indices.astype(np.uint64))
    entries = np.where(stored, hash_array(entries), np.uint64(0))
    sums = np.concatenate([[np.uint64(0)], np.cumsum(entries, dtype=np.uint64)])
    return sums[X.indptr[1:]] - sums[X.indptr[:-1]]
