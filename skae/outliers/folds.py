"""Rows that a member of an ensemble has not learned from, and who may judge a row.

A row is told by its values, within rounding, so that a training row is known again afterwards and
is scored as it was in `fit`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from numbers import Integral

import numpy as np
from sklearn.model_selection import KFold

from skae._duplicates import hash_rows, sort_rows
from skae.outliers.same_rows import SameRows

# Weights that are whole numbers are dealt out one by one up to this sum, else row by row.
_MOST_DEALT_OUT = 10**7


def deal_out(X, weight: np.ndarray, cv, seed: int) -> np.ndarray:
    """Return how much of the weight of each row each member does not learn from.

    Rows are dealt out one by one, copies of a row as well: among new rows there will be copies of
    training rows, as there are among these. A row of the weight 2 is two rows. Folds are dealt out
    in an order of the rows that depends on their values alone, so that the order of X does not
    matter; a splitter of the user's is given X as it is.

    Parameters
    ----------
    X : ndarray or CSR of shape (n_samples, n_features)
        Training rows.
    weight : ndarray of shape (n_samples,)
        Their weights. Rows of weight 0 are in no fold.
    cv : int, splitter or list
        Number of folds, at least 2; what has a method ``split``; or the splits themselves. Rows
        that are neither in the training nor in the test rows of a split are held out as well.
    seed : int
        In [0, 2**32), for dealing out rows to folds.

    Returns
    -------
    held_out : ndarray of shape (n_samples, n_members)
        A single row is not held out.
    """
    if isinstance(cv, Integral):
        row, each = _units(weight, _by_value(X))
        splits = list(_folds(len(row), int(cv), seed))
    else:
        row, each = np.arange(len(weight)), weight
        splits = list(_splits(X, cv, seed))
    held_out = np.empty((len(weight), len(splits)))
    for member, train in enumerate(splits):
        left = each.copy()
        left[train] = 0.0
        held_out[:, member] = np.bincount(row, left, minlength=len(weight))
    return held_out


def _by_value(X) -> np.ndarray:
    """Return all rows in an order that depends on their values alone."""
    _, first, group = np.unique(hash_rows(X), return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[sort_rows(X, first)] = np.arange(len(first))
    return np.argsort(rank[group], kind="stable")


def _units(weight: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what is dealt out as a whole: the row of each, and its weight."""
    if (weight == np.floor(weight)).all() and weight.sum() <= _MOST_DEALT_OUT:
        row = np.repeat(order, weight[order].astype(np.int64))
        return row, np.ones(len(row))
    row = order[weight[order] > 0]
    return row, weight[row]


def _splits(X, cv, seed: int) -> Iterator[np.ndarray]:
    """Yield the rows that each member learns from, by a splitter or a list."""
    if hasattr(cv, "split") and getattr(cv, "random_state", seed) is None:
        cv = copy.copy(cv)
        cv.random_state = seed
    for train, _ in cv.split(X) if hasattr(cv, "split") else cv:
        yield np.asarray(train)


def _folds(n_rows: int, n_folds: int, seed: int) -> Iterator[np.ndarray]:
    """Yield the rows that each member learns from."""
    if n_rows == 1:
        yield np.arange(1)
        return
    folds = KFold(min(n_folds, n_rows), shuffle=True, random_state=seed)
    yield from (train for train, _ in folds.split(np.empty(n_rows)))


class Judges:
    """Who may judge a row: for a training row, members that have not learned from it.

    Of a row that occurs several times, those that have not learned from one of its copies.

    Parameters
    ----------
    same_rows : SameRows
        Of the training rows.
    held_out : ndarray of shape (n_samples, n_members)
        How much of the weight of each of them each member has not learned from.

    Attributes
    ----------
    judges : ndarray of bool, shape (n_distinct, n_members)
    """

    def __init__(self, same_rows: SameRows, held_out: np.ndarray):
        self.same_rows = same_rows
        self.judges = np.zeros((same_rows.n_groups, held_out.shape[1]), dtype=bool)
        np.logical_or.at(self.judges, same_rows.group, held_out > 0)
        self.judges[~self.judges.any(axis=1)] = True

    def weights(self, X) -> np.ndarray:
        """Return the weight of each member's judgement, of shape (n_samples, n_members).

        Equal for all that may judge a row. That are all for a new row, and where it would be none.
        """
        group = self.same_rows.find(X)
        judges = self.judges[group] | (group < 0)[:, None]
        return judges / judges.sum(axis=1, keepdims=True)
