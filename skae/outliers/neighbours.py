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
# A row is the same row within this part of its length, squared: what rounding does.
_ROUNDING = 1e-12
# Columns far from zero are rounded to a part of their size before they are centred, in single
# precision where rows were stored so; rows that are this part of their length apart are others.
_SINGLE_ROUNDING, _MOST_ROUNDING = 2.0**-44, 1e-6
_COLUMNS_PER_GROUP = 16
# Keeps the combination of neighbours near their mean: share of the mean squared distance that is
# added to the diagonal of their Gram matrix.
_RIDGE = 0.1


class Comparison(NamedTuple):
    """Some rows beside their neighbours; U columns, all or those in use."""

    rows: np.ndarray  # (n,), which rows of X
    columns: np.ndarray | None  # (n, U), the column of each cell, -1 for none; None: all columns
    nearest: np.ndarray  # (n, U), squared deviation from the nearest neighbour, or mean from all
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
    same : ndarray of shape (n_references,), optional
        Squared distance within which a row is that row but for rounding; by default that of
        `same_row`.
    """

    def __init__(self, rows, counts: np.ndarray, n_neighbors: int = 10, same=None):
        self.rows = rows
        self.n_neighbors = max(1, min(n_neighbors, rows.shape[0] - 1))
        self.squared_norms = squared_norms(rows)
        same = same_row(self.squared_norms) if same is None else same
        self.same = np.where(counts <= 1, same, -1.0)
        self.transposed = rows.T.tocsr() if sp.issparse(rows) else None

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
            nearest = np.partition(squared, self.n_neighbors - 1, axis=1)[:, : self.n_neighbors]
            result[block] = np.sqrt(nearest).mean(axis=1)
        return result

    def _candidates(self, X, n_candidates: int) -> np.ndarray:
        """Return the reference rows that may be nearest to each row, sorted by index."""
        if n_candidates == self.rows.shape[0]:
            return np.tile(np.arange(n_candidates), (X.shape[0], 1))
        return _smallest(self._squared_distances(X), n_candidates)

    def _squared_distances(self, X) -> np.ndarray:
        if sp.issparse(X):
            product = (X @ self.transposed).toarray()
            product *= -2.0
        else:
            missing = -len(X) % _ROWS_MULTIPLE
            product = (np.pad(-2.0 * X, ((0, missing), (0, 0))) @ self.rows.T)[: len(X)]
        product += self.squared_norms
        product += squared_norms(X)[:, None]
        return np.maximum(product, 0.0, out=product)

    def _gather(self, X, candidates: np.ndarray):
        """Yield rows as (index, columns, values, values of the candidates), all dense."""
        if not sp.issparse(X):
            yield np.arange(len(X)), None, X, self.rows[candidates]
            return
        n_candidates = candidates.shape[1]
        owner = np.arange(X.shape[0]).repeat(n_candidates)
        union, n_used = _union(X.shape, [X, self.rows[candidates.ravel()]], [None, owner])
        for index, columns in _by_width(union, n_used, n_candidates):
            near = columns.repeat(n_candidates, axis=0)
            near = _cells(self.rows, candidates[index].ravel(), near)
            yield (
                index,
                columns,
                _cells(X, index, columns),
                near.reshape(len(index), n_candidates, -1),
            )

    def _leave_itself_out(self, squared: np.ndarray, same: np.ndarray) -> None:
        """Make the distance infinite from a row to the one reference that is that row."""
        if self.rows.shape[0] > 1:
            itself = (squared - same).argmin(axis=1)[:, None]
            found = np.take_along_axis(squared - same, itself, axis=1)[:, 0] <= 0
            squared[np.flatnonzero(found), itself[found, 0]] = np.inf

    def _compare(self, index, columns, x, near, candidates) -> Comparison:
        difference = near - x[:, None, :]
        squared = np.einsum("ncu,ncu->nc", difference, difference)
        self._leave_itself_out(squared, self.same[candidates])
        order = np.argsort(squared, axis=1, kind="stable")[:, : self.n_neighbors]
        difference = np.take_along_axis(difference, order[:, :, None], axis=1)
        weight = _combination(difference)
        deviation = (weight[:, None, :] @ difference)[:, 0]
        return Comparison(
            index,
            columns,
            difference[:, 0] ** 2,
            deviation**2,
            x + deviation,
            np.take_along_axis(candidates, order, axis=1),
        )


class Neighbourhood(Neighbours):
    """Reference rows, and comparisons with the mean of many of them near a row.

    The mean squared deviation from the neighbours in a column is the squared deviation from their
    mean plus their variance, so that no row is compared with each of them. Parameters as above.
    """

    def __init__(self, rows, counts: np.ndarray, n_neighbors: int, same=None):
        super().__init__(rows, counts, n_neighbors, same)
        self.squares = rows.multiply(rows).tocsr() if sp.issparse(rows) else rows * rows

    def compare(self, X) -> Iterator[Comparison]:
        """Yield comparisons of all rows of X, some rows at a time, sparse rows in any order.

        ``local`` is the squared deviation from the mean of the neighbours, which are in any order.
        """
        width = self.rows.shape[1]
        if sp.issparse(X):  # about so many columns are in use among the neighbours of a row
            width = min(width, self.n_neighbors * (1 + self.rows.nnz // self.rows.shape[0]))
        for block in _blocks(X.shape[0], max(self.rows.shape[0], width)):
            neighbours = _smallest(self._squared_distances(X[block]), self.n_neighbors)
            near = self._average(neighbours, self.rows), self._average(neighbours, self.squares)
            for index, columns, x, mean, square in _pick_cells(X[block], *near):
                deviation = (x - mean) ** 2
                spread = np.maximum(square - mean**2, 0.0)  # what rounding leaves may be negative
                yield Comparison(
                    block.start + index,
                    columns,
                    deviation + spread,
                    deviation,
                    mean,
                    neighbours[index],
                )

    def _squared_distances(self, X) -> np.ndarray:
        """Return squared distances to reference rows, infinite from a row to itself."""
        squared = super()._squared_distances(X)
        self._leave_itself_out(squared, self.same)
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
    union, n_used = _union(X.shape, [X, square], [None, None])
    for index, columns in _by_width(union, n_used, 1):
        yield index, columns, *(_cells(rows, index, columns) for rows in (X, mean, square))


def _smallest(values: np.ndarray, n_smallest: int) -> np.ndarray:
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


def _union(shape: tuple[int, int], matrices: list, owners: list) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns that each row uses, one row after the other, and how many it uses.

    ``owners`` says which row each row of a CSR matrix belongs to; None: the row of that number.
    """
    n, n_features = shape
    keys = []
    for matrix, owner in zip(matrices, owners, strict=True):
        row = np.arange(n) if owner is None else owner
        keys.append(row.repeat(np.diff(matrix.indptr)) * np.int64(n_features) + matrix.indices)
    union = np.unique(np.concatenate(keys))
    return union % n_features, np.bincount(union // n_features, minlength=n)


def _by_width(union: np.ndarray, n_used: np.ndarray, depth: int) -> Iterator[tuple]:
    """Yield rows that use about as many columns, and these, with a bounded number of cells.

    ``depth`` is how often the cells of a row are held at once.
    """
    widths = 2 ** np.ceil(np.log2(np.maximum(n_used, 1))).astype(int)
    for width in np.unique(widths):
        group = np.flatnonzero(widths == width)
        step = max(1, _CELLS_PER_BLOCK // (int(width) * depth))
        for start in range(0, len(group), step):
            index = group[start : start + step]
            yield index, _pick_columns(union, n_used, index, int(width))


def _pick_columns(union: np.ndarray, n_used: np.ndarray, index: np.ndarray, width: int):
    """Return the columns in use of some rows as an array of this width, filled up with -1."""
    start = np.concatenate([[0], np.cumsum(n_used)])[index]
    place = np.arange(width)
    inside = place < n_used[index, None]
    union = np.append(union, -1)  # no column is in use where rows and neighbours are all empty
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


def same_row(lengths: np.ndarray, uncentred=None) -> np.ndarray:
    """Return how near another row must be to be the same but for rounding, squared.

    Parameters
    ----------
    lengths : ndarray of shape (n_rows,)
        Squared lengths of rows in scaled units.
    uncentred : float or ndarray of shape (n_rows,), optional
        The same without centring. Where columns are far from zero, it is this that is rounded.

    Returns
    -------
    same : ndarray of shape (n_rows,)
    """
    usual = np.median(lengths)
    same = _ROUNDING * (lengths + usual)
    if uncentred is None:
        return same
    stored = np.minimum(_SINGLE_ROUNDING * uncentred, _MOST_ROUNDING * usual)
    return np.maximum(same, stored)


def squared_norms(X) -> np.ndarray:
    """Return the squared length of each row, dense or CSR."""
    if sp.issparse(X):
        return np.asarray(X.multiply(X).sum(axis=1)).ravel()
    return np.einsum("nd,nd->n", X, X)


def _blocks(n_rows: int, cells_per_row: int) -> Iterator[slice]:
    """Yield slices of rows with a bounded number of cells, a multiple of 16 rows each."""
    step = max(1, _CELLS_PER_BLOCK // (cells_per_row * _ROWS_MULTIPLE)) * _ROWS_MULTIPLE
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))
