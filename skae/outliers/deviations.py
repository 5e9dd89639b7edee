"""Deviations of rows from their neighbours and from what a network expects.

Everything is a sum of squared errors of single cells, so a score is a sum of shares of the columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from skae._scaling import Scaling
from skae.outliers.neighbours import Comparison, MeanOfNearest, NearestRows
from skae.outliers.rows import Rows, map_blocks
from skae.outliers.same_rows import Units

# A deviation is measured against its median, but never against less than this a column, and the
# divisor of a score is no smaller than that.
_LEAST_USUAL, _LEAST_ROOT = 1e-4, 0.1
_LEAST_USUAL_OF_NETWORK = 1e-9
# A column that the network knows almost exactly counts as if its mean squared error were this part
# of the mean over the columns.
_LEAST_ERROR = 1e-4
# What a cell counts at most, and where the network gives no number.
_MOST = 1e200


class NetworkErrors:
    """A fitted estimator, and the squared error of its reconstructions that is usual in a column.

    Parameters
    ----------
    estimator : estimator with ``reconstruct``
    trusted : Rows
        Rows that say what is usual.
    scaling : Scaling
        Units of the errors.

    Raises
    ------
    ValueError
        The estimator reconstructs a row by what is not a number.
    """

    def __init__(self, estimator, trusted: Rows, scaling: Scaling):
        self.estimator, self.scaling = estimator, scaling
        total = np.sum([e.sum(axis=0) for e in map_blocks(self._squared_errors, trusted)], axis=0)
        mean = total / trusted.values.shape[0]
        if np.isnan(mean).any():
            raise ValueError(
                f"{estimator!r} reconstructs training rows by values that are not numbers (NaN). "
                "Scale or clip its input, or choose another estimator."
            )
        self.mean_error = mean + _LEAST_ERROR * mean.mean() + np.finfo(float).tiny

    def deviations(self, rows: Rows) -> np.ndarray:
        """Return the squared error in every cell, over what is usual in its column."""
        with np.errstate(over="ignore"):
            cells = self._squared_errors(rows) / self.mean_error
        return np.fmin(cells, _MOST)

    def expected(self, rows: Rows) -> np.ndarray:
        """Return reconstructions, in the units of X."""
        found = self.estimator.reconstruct(rows.given)
        return found.toarray() if sp.issparse(found) else np.asarray(found, dtype=np.float64)

    def _squared_errors(self, rows: Rows) -> np.ndarray:
        """Return the squared error of the network in every cell, in scaled units."""
        dense = rows.values.toarray() if sp.issparse(rows.values) else rows.values
        error = self.expected(rows) - dense
        with np.errstate(over="ignore"):
            return np.square(error / self.scaling.scale)


class _Part(NamedTuple):
    """Some rows beside their neighbours; U columns, all or those in use near the row."""

    rows: np.ndarray  # (n,), which rows of the block
    columns: np.ndarray | None  # (n, U), -1 for none; None: all
    shares: np.ndarray  # (n, U), of the neighbours' deviations
    expected: np.ndarray  # (n, U), in scaled units
    divisor: np.ndarray  # (n,), what is usual near the row


class Weights(NamedTuple):
    """How deviations become a score."""

    nearest: float
    combination: float
    network: float
    locality: float = 0.0  # power of what is usual near a row; 0: the same everywhere


class Deviations:
    """Deviations of rows, each measured against its median over the reference rows.

    Rows to be scored come a block at a time, in the format of the reference rows.

    Parameters
    ----------
    references : Rows
    counts : ndarray of shape (n_references,)
        How often each counts for the medians.
    neighbours : NearestRows or MeanOfNearest
        Made of the same rows, in scaled units.
    near : ndarray of shape (n_references, 2)
        What `deviations_from_neighbours` says of them.
    network : NetworkErrors or None
        None: there is none.
    weights : Weights
    units : Units
    """

    def __init__(
        self,
        references: Rows,
        counts: np.ndarray,
        neighbours: NearestRows | MeanOfNearest,
        near: np.ndarray,
        network: NetworkErrors | None,
        weights: Weights,
        units: Units,
    ):
        self.neighbours, self.network, self.units = neighbours, network, units
        self.locality = weights.locality
        floor = _LEAST_USUAL * references.values.shape[1]
        least = np.array([floor, floor, _LEAST_USUAL_OF_NETWORK])
        deviations = np.column_stack([near, self._from_network(references)])
        usual = np.maximum(_weighted_median(deviations, counts), least)
        each = np.array(weights[:3], dtype=np.float64)
        self.weight_over_usual = each / each.sum() / usual
        self.root = np.sqrt(deviations @ self.weight_over_usual)

    @property
    def estimator(self):
        """The fitted estimator, or None."""
        return None if self.network is None else self.network.estimator

    def scores(self, rows: Rows) -> np.ndarray:
        """Return the score of each row; high is normal."""
        scores = self._from_network(rows) * -self.weight_over_usual[2]
        for part in self._parts(rows):
            scores[part.rows] -= part.shares.sum(axis=1)
            scores[part.rows] /= part.divisor
        return scores

    def shares(self, rows: Rows) -> np.ndarray:
        """Return the shares of all features, (n_samples, n_features), which add up to the score."""
        n, n_features = rows.values.shape
        shares = np.zeros((n, n_features + 1))  # the last column takes the fill
        if self.network is not None:
            shares[:, :-1] = self.network.deviations(rows) * -self.weight_over_usual[2]
        for part in self._parts(rows):
            shares[part.rows[:, None], _columns(part, n_features)] -= part.shares
            shares[part.rows] /= part.divisor[:, None]
        return shares[:, :-1]

    def expected(self, rows: Rows) -> np.ndarray:
        """Return the mean of what neighbours and network say, in the units of X."""
        n, n_features = rows.values.shape
        near = np.zeros((n, n_features + 1))
        for part in self._parts(rows):
            near[part.rows[:, None], _columns(part, n_features)] = part.expected
        said = self.units.scaling.undo(near[:, :-1])
        return said if self.network is None else (said + self.network.expected(rows)) / 2

    def _from_network(self, rows: Rows) -> np.ndarray:
        if self.network is None:
            return np.zeros(rows.values.shape[0])
        blocks = map_blocks(self.network.deviations, rows)
        return np.concatenate([block.sum(axis=1) for block in blocks])

    def _parts(self, rows: Rows) -> Iterator[_Part]:
        X = rows.values
        tolerance = self.units.tolerance(X)
        for c in self.neighbours.compare(self.units.scaled(X), tolerance):
            shares = c.nearest * self.weight_over_usual[0] + c.residual * self.weight_over_usual[1]
            yield _Part(c.rows, c.columns, shares, c.expected, self._divisor(c))

    def _divisor(self, c: Comparison) -> np.ndarray:
        root = np.maximum(self.root[c.neighbours].mean(axis=1), _LEAST_ROOT)
        return root**self.locality


def deviations_from_neighbours(
    neighbours: NearestRows | MeanOfNearest, tolerance: np.ndarray, track
) -> np.ndarray:
    """Return how far each reference row is from the nearest of the others, and their combination.

    Returns
    -------
    deviations : ndarray of shape (n_references, 2)
        Squared.
    """
    rows = neighbours.references.rows
    result = np.empty((rows.shape[0], 2))
    for c in track(neighbours.compare(rows, tolerance), rows.shape[0], "neighbours"):
        result[c.rows] = np.column_stack([c.nearest.sum(axis=1), c.residual.sum(axis=1)])
    return result


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
