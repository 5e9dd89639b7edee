"""Rows that a member of an ensemble has not learned from, and who may judge a row.

A row is told by its values, in single precision, so that a training row is known again afterwards
and is scored as it was in `fit`; also where it comes back in the other format, dense or CSR, or
changed by no more than rounding (a round trip through a file, a scaler and its inverse).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from numbers import Integral

import numpy as np
import scipy.sparse as sp
from sklearn.model_selection import KFold

from skae._duplicates import hash_rows, sort_rows
from skae._scaling import Scaling
from skae.outliers.deviations import in_format, row_blocks, scaled
from skae.outliers.neighbours import same_row, squared_norms

# Rows are told apart by so many random projections, of which each lies within so many times their
# distance, but for one pair in 20,000. Among rows sorted by the first, so many are looked at.
_N_PROJECTIONS, _MOST_PROJECTED, _LOOKED_AT = 4, 5.0, 16
# Rows that tell the units of the columns.
_ROWS_ASKED = 1000


def deal_out(X, cv, seed: int) -> np.ndarray:
    """Return which rows each member does not learn from.

    Rows are dealt out one by one, copies of a row as well: among new rows there will be copies of
    training rows, as there are among these.

    Parameters
    ----------
    X : ndarray or CSR of shape (n_samples, n_features)
        Training rows.
    cv : int or splitter
        Number of folds, at least 2, or what has a method ``split``. Rows that are neither in the
        training nor in the test rows of a split are held out as well.
    seed : int
        In [0, 2**32), for dealing out rows to folds.

    Returns
    -------
    held_out : ndarray of bool, shape (n_samples, n_members)
        A single row is not held out.
    """
    splits = list(_splits(X, cv, seed))
    held_out = np.ones((X.shape[0], len(splits)), dtype=bool)
    for member, train in enumerate(splits):
        held_out[train, member] = False
    return held_out


def _splits(X, cv, seed: int) -> Iterator[np.ndarray]:
    """Yield the rows that each member learns from.

    Folds are dealt out in an order of the rows that depends on their values alone, so that the
    order of X does not matter; a splitter of the user's is given X as it is.
    """
    n_rows = X.shape[0]
    if not isinstance(cv, Integral):
        if hasattr(cv, "split") and getattr(cv, "random_state", seed) is None:
            cv = copy.copy(cv)
            cv.random_state = seed
        splits = cv.split(X) if hasattr(cv, "split") else cv
        yield from (train for train, _ in splits)
    elif n_rows == 1:
        yield np.arange(1)
    else:
        folds = KFold(min(int(cv), n_rows), shuffle=True, random_state=seed)
        order = _by_value(X)
        yield from (order[train] for train, _ in folds.split(order))


def _by_value(X) -> np.ndarray:
    """Return all rows in an order that depends on their values alone."""
    _, first, group = np.unique(hash_rows(X), return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[sort_rows(X, first)] = np.arange(len(first))
    return np.argsort(rank[group], kind="stable")


class Judges:
    """Who may judge a row: for a training row, members that have not learned from it.

    Of a row that occurs several times, those that have not learned from each of its copies.

    Parameters
    ----------
    X : ndarray or CSR of shape (n_samples, n_features)
        Training rows.
    held_out : ndarray of bool, shape (n_samples, n_members)
        Which of them each member has not learned from.

    Attributes
    ----------
    keys : ndarray of uint64, shape (n_distinct,)
        Of the distinct training rows, ascending.
    judges : ndarray of bool, shape (n_distinct, n_members)
    """

    def __init__(self, X, held_out: np.ndarray):
        self.sparse = sp.issparse(X)
        self.keys, first, row = np.unique(self._keys(X), return_index=True, return_inverse=True)
        self.judges = np.zeros((len(self.keys), held_out.shape[1]), dtype=bool)
        np.logical_or.at(self.judges, row, held_out)
        self.judges[~self.judges.any(axis=1)] = True
        self._sketches = _Sketches(X[first])

    def weights(self, X) -> np.ndarray:
        """Return the weight of each member's judgement, of shape (n_samples, n_members).

        Equal for all that may judge a row. That are all for a new row, and where it would be none.
        """
        keys = self._keys(X)
        place = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        unknown = np.flatnonzero(self.keys[place] != keys)
        place[unknown] = self._find(X[unknown])
        judges = self.judges[place] | (place < 0)[:, None]
        return judges / judges.sum(axis=1, keepdims=True)

    def _keys(self, X) -> np.ndarray:
        blocks = (in_format(X[block], self.sparse) for block in row_blocks(X))
        return np.concatenate([_row_keys(block) for block in blocks])

    def _find(self, X) -> np.ndarray:
        """Return which training row each row is but for rounding, -1 for none."""
        blocks = (in_format(X[block], self.sparse) for block in row_blocks(X))
        found = [self._sketches.find(block) for block in blocks]
        return np.concatenate(found) if found else np.empty(0, dtype=int)


class _Sketches:
    """Random projections of rows, by which rows are known again that are rounded otherwise.

    Parameters
    ----------
    X : ndarray or CSR of shape (n_rows, n_features)
        Distinct rows.
    """

    def __init__(self, X):
        self.units = _robust_units(X[:_ROWS_ASKED])
        self.directions = np.random.RandomState(0).normal(size=(X.shape[1], _N_PROJECTIONS))
        blocks = [self._squashed(X[block]) for block in row_blocks(X)]
        lengths = np.concatenate([squared_norms(block) for block in blocks])
        offset = 0.0 if self.units.shift is None else self.units.shift / self.units.scale
        self.same = _MOST_PROJECTED**2 * same_row(lengths, np.sum(np.square(offset)))
        sketches = np.concatenate([block @ self.directions for block in blocks])
        self.order = np.argsort(sketches[:, 0], kind="stable")
        self.sketches = sketches[self.order]

    def find(self, X) -> np.ndarray:
        """Return the row that each row is but for rounding, -1 for none."""
        sketches = self._squashed(X) @ self.directions
        middle = np.searchsorted(self.sketches[:, 0], sketches[:, 0])
        near = middle[:, None] + np.arange(_LOOKED_AT) - _LOOKED_AT // 2
        near = near.clip(0, len(self.order) - 1)
        squared = ((self.sketches[near] - sketches[:, None]) ** 2).sum(axis=2)
        best = squared.argmin(axis=1)[:, None]
        row = self.order[np.take_along_axis(near, best, axis=1)[:, 0]]
        return np.where(np.take_along_axis(squared, best, axis=1)[:, 0] <= self.same[row], row, -1)

    def _squashed(self, X):
        """Return rows in which a cell far out is changed by rounding no more than the others."""
        return np.arcsinh(scaled(X, self.units))


def _robust_units(X) -> Scaling:
    """Return units that no cell far out enlarges, so that it does not hide the other rows.

    Dense columns have their median taken out, and all are divided by the median of what is not
    zero.
    """
    middle = (X.shape[0] - 1) // 2
    shift = None if sp.issparse(X) else np.sort(X.astype(np.float64), axis=0)[middle]
    size = sp.csc_array(abs(X if shift is None else X - shift))
    size.eliminate_zeros()
    n_cells = np.diff(size.indptr)
    order = np.lexsort((size.data, np.arange(X.shape[1]).repeat(n_cells)))
    scale = np.ones(X.shape[1]) if shift is None else np.where(shift == 0, 1.0, np.abs(shift))
    used = n_cells > 0
    scale[used] = size.data[order[(size.indptr[:-1] + (n_cells - 1) // 2)[used]]]
    return Scaling(shift, scale)


def _row_keys(X) -> np.ndarray:
    """Return a hash of each row in single precision; beyond its range, values are infinite."""
    with np.errstate(over="ignore"):
        if sp.issparse(X):
            single = X.data.astype(np.float32), X.indices, X.indptr
            return hash_rows(sp.csr_array(single, shape=X.shape))
        return hash_rows(np.asarray(X).astype(np.float32))
