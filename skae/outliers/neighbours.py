"""How far is a row from the training rows near it? Nearest rows, and what they say together.

Rows are dense or CSR, in scaled units. A CSR row is compared in the columns that it or one of its
neighbours uses and in no others, so that nothing grows with the number of columns.

What comes out for a row hardly depends on the rows beside it: products of matrices are taken of
blocks filled up to a multiple of 16 rows, and rows of CSR are worked on together with those that
need as many columns, up to the next power of two.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from sklearn.utils.extmath import row_norms

from skae._blocks import row_blocks
from skae.outliers.cells import by_width, cells_of, used_columns

_ROWS_MULTIPLE = 16
# More candidates than neighbours are compared exactly: the product that finds them rounds.
_SPARE_CANDIDATES = 4
# Squared distances from a product are off by less than this part of the squared length of a row.
_ROUNDING = 1e-13
_COLUMNS_PER_GROUP = 16
# Keeps the combination of neighbours near their mean: share of the mean squared distance that is
# added to the diagonal of their Gram matrix.
_RIDGE = 0.1


class Comparison(NamedTuple):
    """Some rows beside their neighbours; U columns, all or those in use."""

    rows: np.ndarray  # (n,), which rows of X
    columns: np.ndarray | None  # (n, U), the column of each cell, -1 for none; None: all columns
    nearest: np.ndarray  # (n, U), squared deviation from the nearest neighbour, or mean from all
    residual: np.ndarray  # (n, U), squared deviation from the combination of all neighbours
    expected: np.ndarray  # (n, U), that combination
    neighbours: np.ndarray  # (n, k), indices of reference rows, nearest first


class References:
    """Reference rows, and squared distances to them.

    Parameters
    ----------
    rows : ndarray or CSR of shape (n_references, n_features)
        In scaled units and double precision.
    counts : ndarray of shape (n_references,)
        How often each occurs in the training set. A row that occurs once is no neighbour of
        itself, so that a training row is compared with the *other* training rows.
    """

    def __init__(self, rows, counts: np.ndarray):
        self.rows, self.once = rows, counts <= 1
        self.squared_norms = row_norms(rows, squared=True)
        self.transposed = rows.T.tocsr() if sp.issparse(rows) else None

    def __len__(self) -> int:
        return self.rows.shape[0]

    def squared_distances(self, X) -> np.ndarray:
        """Return squared distances, (n_samples, n_references), as far as a product can tell."""
        if sp.issparse(X):
            product = (X @ self.transposed).toarray()
            product *= -2.0
        else:
            missing = -len(X) % _ROWS_MULTIPLE
            product = (np.pad(-2.0 * X, ((0, missing), (0, 0))) @ self.rows.T)[: len(X)]
        product += self.squared_norms
        product += row_norms(X, squared=True)[:, None]
        return np.maximum(product, 0.0, out=product)

    def leave_out_same(self, squared: np.ndarray, limit: np.ndarray, index=None) -> None:
        """Make the distance infinite from a row to the reference that is that very row.

        Parameters
        ----------
        squared : ndarray of shape (n_samples, n)
            Squared distances, changed in place.
        limit : ndarray of shape (n_samples,)
            Rows no farther apart, squared, are the same.
        index : ndarray of int, shape (n_samples, n), optional
            Which references they are; None: all.
        """
        if len(self) > 1:
            once = self.once if index is None else self.once[index]
            squared[(squared <= limit[:, None]) & once] = np.inf


class NearestRows:
    """Comparisons with the nearest reference row, and with a combination of the nearest.

    Parameters
    ----------
    rows : ndarray or CSR of shape (n_references, n_features)
        Distinct rows.
    counts : ndarray of shape (n_references,)
        How often each occurs, as for `References`.
    n_neighbors : int
        Rows that are combined.
    """

    def __init__(self, rows, counts: np.ndarray, n_neighbors: int = 10):
        self.references = References(rows, counts)
        self.n_neighbors = max(1, min(n_neighbors, len(self.references) - 1))

    def compare(self, X, tolerance: np.ndarray) -> Iterator[Comparison]:
        """Yield comparisons of all rows of X, some rows at a time, sparse rows in any order.

        ``tolerance``, of shape (n_samples,), is how far from a row the same row may be.
        """
        n_candidates = min(len(self.references), self.n_neighbors + 1 + _SPARE_CANDIDATES)
        width = self.references.rows.shape[1] if not sp.issparse(X) else 1
        width *= n_candidates
        for block in row_blocks(X.shape[0], max(len(self.references), width), _ROWS_MULTIPLE):
            candidates = self._candidates(X[block], n_candidates)
            for index, columns, x, near in self._gather(X[block], candidates):
                place = block.start + index
                found = self._compare(x, near, candidates[index], tolerance[place])
                yield Comparison(place, columns, *found)

    def _candidates(self, X, n_candidates: int) -> np.ndarray:
        """Return the reference rows that may be nearest to each row, sorted by index."""
        if n_candidates == len(self.references):
            return np.tile(np.arange(n_candidates), (X.shape[0], 1))
        return smallest(self.references.squared_distances(X), n_candidates)

    def _gather(self, X, candidates: np.ndarray):
        """Yield rows as (index, columns, values, values of the candidates), all dense."""
        references = self.references.rows
        if not sp.issparse(X):
            yield np.arange(len(X)), None, X, references[candidates]
            return
        n_candidates = candidates.shape[1]
        owner = np.arange(X.shape[0]).repeat(n_candidates)
        union, n_used = used_columns(X.shape, [X, references[candidates.ravel()]], [None, owner])
        for index, columns in by_width(union, n_used, n_candidates):
            near = columns.repeat(n_candidates, axis=0)
            near = cells_of(references, candidates[index].ravel(), near)
            near = near.reshape(len(index), n_candidates, -1)
            yield index, columns, cells_of(X, index, columns), near

    def _compare(self, x, near, candidates, tolerance) -> tuple:
        difference = near - x[:, None, :]
        squared = np.einsum("ncu,ncu->nc", difference, difference)
        self.references.leave_out_same(squared, np.square(tolerance), candidates)
        order = np.argsort(squared, axis=1, kind="stable")[:, : self.n_neighbors]
        difference = np.take_along_axis(difference, order[:, :, None], axis=1)
        weight = _combination(difference)
        deviation = (weight[:, None, :] @ difference)[:, 0]
        neighbours = np.take_along_axis(candidates, order, axis=1)
        return difference[:, 0] ** 2, deviation**2, x + deviation, neighbours


class MeanOfNearest:
    """Comparisons with the mean of many reference rows near a row.

    The mean squared deviation from the neighbours in a column is the squared deviation from their
    mean plus their variance, so that no row is compared with each of them.

    Parameters
    ----------
    rows : ndarray or CSR of shape (n_references, n_features)
        A row as often as it occurs, or one of few that do.
    counts : ndarray of shape (n_references,)
        How often each occurs, as for `References`.
    n_neighbors : int
        Rows that the mean is taken of.
    """

    def __init__(self, rows, counts: np.ndarray, n_neighbors: int):
        self.references = References(rows, counts)
        self.n_neighbors = max(1, min(n_neighbors, len(self.references) - 1))
        self.squares = rows.multiply(rows).tocsr() if sp.issparse(rows) else rows * rows

    def compare(self, X, tolerance: np.ndarray) -> Iterator[Comparison]:
        """Yield comparisons of all rows of X, some rows at a time, sparse rows in any order.

        ``residual`` is the squared deviation from the mean of the neighbours, which are in any
        order. ``tolerance``, of shape (n_samples,), is how far from a row the same row may be.
        """
        references = self.references.rows
        width = references.shape[1]
        if sp.issparse(X):  # about so many columns are in use among the neighbours of a row
            width = min(width, self.n_neighbors * (1 + references.nnz // len(self.references)))
        for block in row_blocks(X.shape[0], max(len(self.references), width), _ROWS_MULTIPLE):
            squared = self._squared_distances(X[block], tolerance[block])
            neighbours = smallest(squared, self.n_neighbors)
            near = self._average(neighbours, references), self._average(neighbours, self.squares)
            for index, columns, x, mean, square in _pick_cells(X[block], *near):
                residual = (x - mean) ** 2
                spread = np.maximum(square - mean**2, 0.0)  # what rounding leaves may be negative
                place = block.start + index
                found = residual + spread, residual, mean, neighbours[index]
                yield Comparison(place, columns, *found)

    def mean_distance(self, X, tolerance: np.ndarray) -> np.ndarray:
        """Return the mean distance of each row to its neighbours."""
        result = np.empty(X.shape[0])
        for block in row_blocks(X.shape[0], len(self.references), _ROWS_MULTIPLE):
            squared = self._squared_distances(X[block], tolerance[block])
            nearest = np.partition(squared, self.n_neighbors - 1, axis=1)[:, : self.n_neighbors]
            result[block] = np.sqrt(nearest).mean(axis=1)
        return result

    def _squared_distances(self, X, tolerance: np.ndarray) -> np.ndarray:
        squared = self.references.squared_distances(X)
        limit = np.square(tolerance) + _ROUNDING * row_norms(X, squared=True)
        self.references.leave_out_same(squared, limit)
        return squared

    def _average(self, neighbours: np.ndarray, rows):
        """Return the mean over the neighbours of each row, CSR for CSR."""
        n, k = neighbours.shape
        weight = np.full(neighbours.size, 1.0 / k), neighbours.ravel(), np.arange(n + 1) * k
        return sp.csr_array(weight, shape=(n, rows.shape[0])) @ rows


def _pick_cells(X, mean, square) -> Iterator[tuple]:
    """Yield rows as (index, columns, values, means, mean squares), all dense."""
    if not sp.issparse(X):
        yield np.arange(len(X)), None, X, mean, square
        return
    # Means may cancel to zero, and are then no longer stored; mean squares do not.
    union, n_used = used_columns(X.shape, [X, square], [None, None])
    for index, columns in by_width(union, n_used, 1):
        yield index, columns, *(cells_of(rows, index, columns) for rows in (X, mean, square))


def smallest(values: np.ndarray, n_smallest: int) -> np.ndarray:
    """Return the columns of the smallest values of each row, sorted by index.

    As many groups of columns as values are wanted have a minimum at or below a limit; so have at
    least as many values, and few others, to be sorted. That is faster than a partition.
    """
    n, width = values.shape
    n_groups = width // _COLUMNS_PER_GROUP
    if n_groups < 4 * n_smallest:
        found = np.argpartition(values, n_smallest - 1, axis=1)[:, :n_smallest]
        return np.sort(found, axis=1)
    grouped = values[:, : n_groups * _COLUMNS_PER_GROUP].reshape(n, _COLUMNS_PER_GROUP, n_groups)
    limit = np.partition(grouped.min(axis=1), n_smallest - 1, axis=1)[:, n_smallest - 1]
    row, column = np.nonzero(values <= limit[:, None])
    order = np.lexsort((values[row, column], row))
    first = np.searchsorted(row, np.arange(n))[:, None] + np.arange(n_smallest)
    return np.sort(column[order[first]], axis=1)


def _combination(difference: np.ndarray) -> np.ndarray:
    """Return weights, adding up to one, whose combination of neighbours is nearest to the row.

    The weights of locally linear embedding (Roweis and Saul 2000): minimise
    ``w' (G + r I) w`` with G the Gram matrix of the differences.
    """
    n_neighbors = difference.shape[1]
    gram = difference @ difference.transpose(0, 2, 1)
    spread = np.trace(gram, axis1=1, axis2=2) / n_neighbors
    gram += (_RIDGE * spread + 1e-12)[:, None, None] * np.eye(n_neighbors)
    weight = np.linalg.solve(gram, np.ones((*gram.shape[:2], 1)))[..., 0]
    return weight / weight.sum(axis=1, keepdims=True)
