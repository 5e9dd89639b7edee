"""How far is a row from the training rows near it? Nearest rows, and what they say together.

Rows are dense or CSR, in scaled units. A CSR row is compared in the columns that it or one of its
neighbours uses and in no others, so that nothing grows with the number of columns.

What comes out for a row is the same to the last bit whichever rows stand beside it: products of
matrices are taken of blocks filled up to a multiple of 16 rows, and rows of CSR are worked on
together with those that need as many columns, up to the next power of two.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

_CELLS_PER_BLOCK = 2**21
_ROWS_MULTIPLE = 16
# More candidates than neighbours are compared exactly: the product that finds them rounds.
_SPARE_CANDIDATES = 4


class Comparison(NamedTuple):
    """Some rows beside their neighbours; U columns, all or those in use."""

    rows: np.ndarray  # (n,), which rows of X
    columns: np.ndarray | None  # (n, U), the column of each cell, -1 for none; None: all columns
    nearest: np.ndarray  # (n, U), mean squared deviation from the nearest neighbours
    local: np.ndarray  # (n, U), squared deviation from the combination of all neighbours
    expected: np.ndarray  # (n, U), that combination
    neighbours: np.ndarray  # (n, k), indices of reference rows, nearest first


class Neighbours:
    """Reference rows, and comparisons with the nearest of them.

    Parameters
    ----------
    rows : ndarray or CSR of shape (n_references, n_features)
        Distinct rows, in double precision.
    counts : ndarray of shape (n_references,)
        How often each occurs in the training set. A row that occurs once is no neighbour of
        itself, so that a training row is compared with the *other* training rows.
    n_neighbors : int
        Rows that are combined.
    n_nearest : int
        How many of them the deviation from the nearest is averaged over.
    ridge : float
        Keeps the combination of neighbours near their mean: share of the mean squared distance
        that is added to the diagonal of their Gram matrix. With infinity it is their mean.
    """

    def __init__(
        self, rows, counts: np.ndarray, n_neighbors: int = 10, n_nearest: int = 1, ridge=0.1
    ):
        self.rows, self.once, self.n_nearest, self.ridge = rows, counts <= 1, n_nearest, ridge
        self.n_neighbors = max(1, min(n_neighbors, rows.shape[0] - 1))
        self.squared_norms = _squared_norms(rows)

    def compare(self, X) -> Iterator[Comparison]:
        """Yield comparisons of all rows of X, some rows at a time, sparse rows in any order."""
        n_candidates = min(self.rows.shape[0], self.n_neighbors + 1 + _SPARE_CANDIDATES)
        width = self.rows.shape[1] if not sp.issparse(X) else 1
        for block in _blocks(X.shape[0], max(self.rows.shape[0], n_candidates * width)):
            candidates = self._candidates(X[block], n_candidates)
            for index, columns, x, near in self._gather(X[block], candidates):
                yield self._compare(block.start + index, columns, x, near, candidates[index])

    def mean_distance(self, X) -> np.ndarray:
        """Return the mean distance of each row to its neighbours."""
        result = np.empty(X.shape[0])
        for block in _blocks(X.shape[0], self.rows.shape[0]):
            squared = self._squared_distances(X[block])
            n_seen = min(self.n_neighbors + 1, squared.shape[1])
            nearest = np.sort(np.partition(squared, n_seen - 1, axis=1)[:, :n_seen], axis=1)
            result[block] = np.sqrt(nearest[:, -self.n_neighbors :]).mean(axis=1)
        return result

    def _candidates(self, X, n_candidates: int) -> np.ndarray:
        """Return the reference rows that may be nearest to each row, sorted by index."""
        if n_candidates == self.rows.shape[0]:
            return np.tile(np.arange(n_candidates), (X.shape[0], 1))
        squared = self._squared_distances(X)
        found = np.argpartition(squared, n_candidates - 1, axis=1)[:, :n_candidates]
        return np.sort(found, axis=1)

    def _squared_distances(self, X) -> np.ndarray:
        if sp.issparse(X):
            product = (X @ self.rows.T).toarray()
        else:
            missing = -len(X) % _ROWS_MULTIPLE
            product = (np.pad(X, ((0, missing), (0, 0))) @ self.rows.T)[: len(X)]
        product *= -2.0
        product += self.squared_norms
        product += _squared_norms(X)[:, None]
        return np.maximum(product, 0.0, out=product)

    def _gather(self, X, candidates: np.ndarray):
        """Yield rows as (index, columns, values, values of the candidates), all dense."""
        if not sp.issparse(X):
            yield np.arange(len(X)), None, X, self.rows[candidates]
            return
        union, n_used = _columns_in_use(X, self.rows, candidates)
        buckets = 2 ** np.ceil(np.log2(np.maximum(n_used, 1))).astype(int)
        for width in np.unique(buckets):
            group = np.flatnonzero(buckets == width)
            step = max(1, _CELLS_PER_BLOCK // (int(width) * candidates.shape[1]))
            for start in range(0, len(group), step):
                index = group[start : start + step]
                columns = _pick_columns(union, n_used, index, int(width))
                x = _cells(X, index, columns)
                near = _cells(
                    self.rows,
                    candidates[index].ravel(),
                    columns.repeat(candidates.shape[1], axis=0),
                )
                yield index, columns, x, near.reshape(len(index), candidates.shape[1], width)

    def _compare(self, index, columns, x, near, candidates) -> Comparison:
        difference = near - x[:, None, :]
        squared = np.einsum("ncu,ncu->nc", difference, difference)
        if self.rows.shape[0] > 1:
            squared[(squared == 0) & self.once[candidates]] = np.inf
        order = np.argsort(squared, axis=1, kind="stable")[:, : self.n_neighbors]
        difference = np.take_along_axis(difference, order[:, :, None], axis=1)
        weight = _combination(difference, self.ridge)
        deviation = (weight[:, None, :] @ difference)[:, 0]
        return Comparison(
            index,
            columns,
            np.mean(difference[:, : self.n_nearest] ** 2, axis=1),
            deviation**2,
            x + deviation,
            np.take_along_axis(candidates, order, axis=1),
        )


def _combination(difference: np.ndarray, ridge: float) -> np.ndarray:
    """Return weights, adding up to one, whose combination of neighbours is nearest to the row.

    The weights of locally linear embedding (Roweis and Saul 2000): minimise
    ``w' (G + r I) w`` with G the Gram matrix of the differences.
    """
    n_neighbors = difference.shape[1]
    if np.isinf(ridge):
        return np.full(difference.shape[:2], 1.0 / n_neighbors)
    gram = difference @ difference.transpose(0, 2, 1)
    spread = np.trace(gram, axis1=1, axis2=2) / n_neighbors
    gram += (ridge * spread + 1e-12)[:, None, None] * np.eye(n_neighbors)
    weight = np.linalg.solve(gram, np.ones((*gram.shape[:2], 1)))[..., 0]
    return weight / weight.sum(axis=1, keepdims=True)


def _columns_in_use(X, rows, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted keys ``row * n_features + column`` in use, and their number in each row."""
    n, n_features = X.shape
    near = rows[candidates.ravel()]
    owner = np.repeat(np.arange(n).repeat(candidates.shape[1]), np.diff(near.indptr))
    own = np.repeat(np.arange(n), np.diff(X.indptr))
    keys = np.concatenate(
        [own * np.int64(n_features) + X.indices, owner * np.int64(n_features) + near.indices]
    )
    union = np.unique(keys)
    n_used = np.bincount(union // n_features, minlength=n)
    return union % n_features, n_used


def _pick_columns(union: np.ndarray, n_used: np.ndarray, index: np.ndarray, width: int):
    """Return the columns in use of some rows as an array of this width, filled up with -1."""
    start = np.concatenate([[0], np.cumsum(n_used)])[index]
    place = np.arange(width)
    inside = place < n_used[index, None]
    return np.where(inside, union[np.where(inside, start[:, None] + place, 0)], -1)


def _cells(X, index: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the values of CSR rows in sorted columns of their own, of the shape of ``columns``."""
    rows = X[index]
    n_features = np.int64(X.shape[1])
    owner = np.repeat(np.arange(len(index)), np.diff(rows.indptr))
    # Keys ascend over the whole array: columns ascend in a row, -1 at its end counts as the last.
    wanted = np.arange(len(index))[:, None] * (n_features + 1) + np.where(
        columns < 0, n_features, columns
    )
    place = np.searchsorted(wanted.ravel(), owner * (n_features + 1) + rows.indices)
    cells = np.zeros(columns.size)
    cells[place] = rows.data
    return cells.reshape(columns.shape)


def _squared_norms(X) -> np.ndarray:
    if sp.issparse(X):
        return np.asarray(X.multiply(X).sum(axis=1)).ravel()
    return np.einsum("nd,nd->n", X, X)


def _blocks(n_rows: int, cells_per_row: int) -> Iterator[slice]:
    """Yield slices of rows with a bounded number of cells, a multiple of 16 rows each."""
    step = max(1, _CELLS_PER_BLOCK // (cells_per_row * _ROWS_MULTIPLE)) * _ROWS_MULTIPLE
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))
