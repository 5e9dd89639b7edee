"""Deviations of rows from their neighbours and from what a network expects.

Everything is a sum of squared errors of single cells, so a score is a sum of shares of the columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from skae._duplicates import hash_rows, merge_duplicates
from skae._scaling import Scaling, fit_scaling, summarise_columns
from skae.outliers.neighbours import (
    Comparison,
    Neighbourhood,
    Neighbours,
    same_row,
    squared_norms,
)

_CELLS_PER_BLOCK, _FEWEST_ROWS = 2**20, 32
# Columns that a sparse row does not use are left out of its shares below this part of its score.
_SMALLEST_SHARE = 1e-3
# A deviation is measured against its median, but never against less than this a column, and the
# divisor of a score is no smaller than that.
_LEAST_USUAL, _LEAST_ROOT = 1e-4, 0.1


class Recipe(NamedTuple):
    """How deviations become a score."""

    weights: tuple[float, float, float]  # nearest rows, their combination, network
    n_references: int  # most rows to compare with
    n_neighbors: int  # how many of them count as near
    locality: float = 0.0  # power of what is usual near a row; 0: the same everywhere
    share: float = 0.0  # share of the references that are near, where that is more
    contamination: float = 0.0  # share of the training rows that may be bad
    input_scaling: str | None = "auto"  # units in which columns are compared


class _Part(NamedTuple):
    """Some rows beside their neighbours; U columns, all or those in use near the row."""

    rows: np.ndarray  # (n,), which rows of the block
    columns: np.ndarray | None  # (n, U), -1 for none; None: all
    shares: np.ndarray  # (n, U), of the neighbours' deviations
    expected: np.ndarray  # (n, U), in scaled units
    divisor: np.ndarray  # (n,), what is usual near the row


class Deviations:
    """Deviations of rows, each measured against its median over the reference rows.

    Parameters
    ----------
    X : ndarray or CSR of shape (n_distinct, n_features)
        Distinct training rows, in random order. Rows asked about later may come in the other
        format; they are brought to this one, some rows at a time.
    counts : ndarray of shape (n_distinct,)
        How often each occurs.
    learned : ndarray of shape (n_distinct,)
        How often each occurs among the rows that may be learned from. The others are compared with,
        and no row with itself; scales and usual errors know nothing of them.
    recipe : Recipe
    """

    def __init__(self, X, counts: np.ndarray, learned: np.ndarray, recipe: Recipe):
        self.recipe, self.sparse = recipe, sp.issparse(X)
        known = np.flatnonzero(learned)
        self.scaling = column_scaling(X[known], learned[known], recipe.input_scaling)
        chosen, self.weight = _choose_references(counts, recipe)
        self.references, self.learned = X[chosen], learned[chosen] > 0
        rows, counts = scaled(self.references, self.scaling), counts[chosen]
        n_neighbors = max(recipe.n_neighbors, round(recipe.share * len(chosen)))
        kind = Neighbourhood if recipe.share else Neighbours
        same = same_row(*squared_lengths(self.references, self.scaling))
        self.neighbours = kind(rows, counts, n_neighbors, same)

    def trustworthy(self, X) -> np.ndarray:
        """Return which rows are left without the share that lies farthest from its neighbours."""
        blocks = (scaled(X[block], self.scaling) for block in row_blocks(X))
        distance = np.concatenate([self.neighbours.mean_distance(block) for block in blocks])
        return _all_but_largest(distance, self.recipe.contamination)

    def add_network(self, estimator) -> None:
        """Take in what reconstructs rows, and measure what deviations are usual."""
        self.estimator = estimator
        near = self._from_neighbours()
        deviations = np.stack([*near, self._from_network(near[0])], axis=1)
        floor = np.array([_LEAST_USUAL * self.references.shape[1]] * 2 + [1e-9])
        weights = np.array(self.recipe.weights)
        usual = np.maximum(_weighted_median(deviations, self.weight), floor)
        self.unit = weights / weights.sum() / usual
        self.root = np.sqrt(deviations @ self.unit)
        del self.references, self.learned

    def scores(self, X) -> np.ndarray:
        """Return the score of each row; high is normal."""
        rows = (in_format(X[block], self.sparse) for block in row_blocks(X))
        return np.concatenate([self._block_scores(block) for block in rows])

    def shares(self, X) -> tuple:
        """Return the shares of the features (CSR for CSR), and what was left out of each row."""
        found = [self._block_shares(X[block]) for block in row_blocks(X)]
        rest = np.concatenate([left_out for _, left_out in found])
        shares = [share for share, _ in found]
        if not sp.issparse(X):
            return np.concatenate(shares), rest
        kind = sp.csr_array if isinstance(X, sp.sparray) else sp.csr_matrix
        return kind(sp.vstack(shares, format="csr")), rest

    def one(self, X) -> tuple[np.ndarray, np.ndarray]:
        """Return what is expected of one row, in the units of X, and all its shares."""
        X = in_format(X, self.sparse)
        (part,) = self._parts(X)
        near = np.zeros(X.shape[1] + 1)
        near[_columns(part, X.shape[1])[0]] = part.expected[0]
        network = np.asarray(self.estimator.reconstruct(X))[0]
        return (self.scaling.undo(near[:-1]) + network) / 2, self._dense_shares(X)[0]

    # What is usual --------------------------------------------------------------------------------

    def _from_neighbours(self) -> np.ndarray:
        """Return the two deviations of the reference rows from the others."""
        result = np.empty((2, self.neighbours.rows.shape[0]))
        for c in self.neighbours.compare(self.neighbours.rows):
            result[:, c.rows] = c.nearest.sum(axis=1), c.local.sum(axis=1)
        return result

    def _from_network(self, from_neighbours: np.ndarray) -> np.ndarray:
        """Fix the mean squared error of each column; return the deviations of the references."""
        known = np.flatnonzero(self.learned) if self.learned.any() else np.arange(len(self.learned))
        trusted = _all_but_largest(from_neighbours[known], self.recipe.contamination)
        trusted = self.references[known[trusted]]
        blocks = (self._squared_errors(trusted[block]) for block in row_blocks(trusted))
        mean = np.sum([block.sum(axis=0) for block in blocks], axis=0) / trusted.shape[0]
        self.mean_error = mean + 1e-4 * mean.mean() + np.finfo(float).tiny
        X = self.references
        return np.concatenate([self._network_part(X[block]).sum(axis=1) for block in row_blocks(X)])

    # A block of rows ------------------------------------------------------------------------------

    def _block_scores(self, X) -> np.ndarray:
        scores = self._network_part(X).sum(axis=1) * -self.unit[2]
        for part in self._parts(X):
            scores[part.rows] -= part.shares.sum(axis=1)
            scores[part.rows] /= part.divisor
        return scores

    def _block_shares(self, X):
        shares = self._dense_shares(in_format(X, self.sparse))
        if not sp.issparse(X):
            return shares, np.zeros(len(shares))
        total = shares.sum(axis=1)
        kept = shares < _SMALLEST_SHARE * total[:, None]
        kept[np.repeat(np.arange(len(shares)), np.diff(X.indptr)), X.indices] = True
        sparse = sp.csr_array(np.where(kept, shares, 0.0))
        return sparse, total - sparse.sum(axis=1)

    def _dense_shares(self, X) -> np.ndarray:
        shares = np.zeros((X.shape[0], X.shape[1] + 1))  # the last column takes the fill
        shares[:, :-1] = self._network_part(X) * -self.unit[2]
        for part in self._parts(X):
            shares[part.rows[:, None], _columns(part, X.shape[1])] -= part.shares
            shares[part.rows] /= part.divisor[:, None]
        return shares[:, :-1]

    def _parts(self, X) -> Iterator[_Part]:
        for c in self.neighbours.compare(scaled(X, self.scaling)):
            shares = c.nearest * self.unit[0] + c.local * self.unit[1]
            yield _Part(c.rows, c.columns, shares, c.expected, self._divisor(c))

    def _divisor(self, c: Comparison) -> np.ndarray:
        root = np.maximum(self.root[c.neighbours].mean(axis=1), _LEAST_ROOT)
        return root**self.recipe.locality

    def _network_part(self, X) -> np.ndarray:
        return self._squared_errors(X) / self.mean_error

    def _squared_errors(self, X) -> np.ndarray:
        """Return the squared error of the network in every cell, in scaled units."""
        rows = X.toarray() if sp.issparse(X) else X
        error = np.asarray(self.estimator.reconstruct(X), dtype=np.float64) - rows
        return (error / self.scaling.scale) ** 2


def distinct_rows(X, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return distinct rows among these, in random order, and how often each occurs."""
    rows, weight = merge_duplicates(X[index], None)
    each = len(index) / len(rows)
    counts = np.full(len(rows), each) if weight is None else weight * each
    return index[rows], np.rint(counts)


def count_copies(X, rows: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return how often each of these distinct rows occurs among the rows of the index."""
    keys = hash_rows(X)
    order = np.argsort(keys[rows])
    place = np.searchsorted(keys[rows], keys[index], sorter=order)
    return np.bincount(order[place], minlength=len(rows)).astype(float)


def _choose_references(counts: np.ndarray, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Return which of the distinct rows others are compared with, and the weight of each.

    Distinct rows cover the table best. A share of the references stands for a share of the table
    only where a row is among them as often as it occurs.
    """
    if not recipe.share:
        return np.arange(min(len(counts), recipe.n_references)), counts[: recipe.n_references]
    total = np.cumsum(counts)
    n = int(min(total[-1], recipe.n_references))
    steps = (np.arange(n) + 0.5) * (total[-1] / n)
    return np.searchsorted(total, steps), np.ones(n)


def _all_but_largest(values: np.ndarray, left_out: float) -> np.ndarray:
    """Return, in order, the indices of all values but a share, the largest."""
    n_kept = max(1, round(len(values) * (1.0 - left_out)))
    return np.sort(np.argsort(values, kind="stable")[:n_kept])


def column_scaling(X, counts: np.ndarray, kind: str | None = "auto") -> Scaling:
    """Return the units in which columns are compared, named as in `fit_scaling`.

    None is one unit for all columns, the root of their mean variance: rows are as far from each
    other as in X, but for a factor.
    """
    sparse = sp.issparse(X)
    columns = summarise_columns(X, np.arange(X.shape[0]), counts)
    usual = "fourth_moment" if sparse else "standard"
    scaling: Any = fit_scaling(usual if kind in ("auto", None) else kind, columns, sparse)
    if kind is not None:
        return scaling
    largest = columns.deviation.max() or 1.0
    unit = largest * np.sqrt(np.mean(np.square(columns.deviation / largest)))
    return scaling._replace(scale=np.full(X.shape[1], unit))


def scaled(X, scaling: Scaling):
    """Return rows in scaled units and double precision, CSR staying CSR."""
    if not sp.issparse(X):
        return scaling.apply(X.astype(np.float64, copy=False))
    return scaling.apply_csr(X)


def in_format(X, sparse: bool):
    """Return rows as CSR or dense, whichever is wanted."""
    if sp.issparse(X) == sparse:
        return X
    return sp.csr_array(X) if sparse else X.toarray()


def squared_lengths(X, scaling: Scaling) -> np.ndarray:
    """Return the squared length of each row in scaled units, and without centring: (2, n)."""
    return np.stack([squared_norms(scaled(X, s)) for s in (scaling, scaling._replace(shift=None))])


def _weighted_median(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the median of each column, a row counted as often as it occurs."""
    order = np.argsort(values, axis=0, kind="stable")
    below = np.cumsum(counts[order], axis=0)
    middle = np.argmax(below >= 0.5 * below[-1], axis=0)
    return np.take_along_axis(values, order, axis=0)[middle, np.arange(values.shape[1])]


def _columns(part: _Part, n_features: int) -> np.ndarray:
    """Return the column of each cell of a part; the fill goes to one after the last."""
    if part.columns is None:
        return np.broadcast_to(np.arange(n_features), part.shares.shape)
    return np.where(part.columns < 0, n_features, part.columns)


def row_blocks(X) -> Iterator[slice]:
    """Yield slices of rows that may be made dense."""
    # The network works on no fewer rows than this at once; it would fill them up.
    step = max(_FEWEST_ROWS, _CELLS_PER_BLOCK // X.shape[1] // _FEWEST_ROWS * _FEWEST_ROWS)
    for start in range(0, X.shape[0], step):
        yield slice(start, start + step)
