"""Training rows as a start sees them: weighted, centred and scaled; CSR is never made dense."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import scipy.sparse as sp
from scipy.linalg import eigh

from skae._blocks import row_blocks
from skae._scaling import ColumnSummary, Scaling, summarise_columns

# Up to so many columns their covariance is made once; beyond, each product goes through the rows.
_MOST_COLUMNS = 2_000
_MOST_EXACT = 400
_STEPS, _STEPS_ON, _OVERSAMPLING = 8, 3, 10


class StartRows:
    """Rows ``(x - mean) / scale`` with weights that sum to one.

    Parameters
    ----------
    X : ndarray or CSR of shape (n_samples, n_features)
    index : ndarray of int
        The rows of X that are meant.
    weight : ndarray of shape (len(index),) or None
        Of these rows; None: all one.
    columns : ColumnSummary
        Of these rows, in the units of X.
    scaling : Scaling or None
        From the units of X to those of the network.
    seen : ndarray or CSR of shape (len(index), n_features), default=None
        These rows as the encoder sees them, where that is more than ``scaling``.

    Attributes
    ----------
    weight : ndarray of shape (len(index),)
        Sums to one.
    n_features : int
    mean, variance, kurtosis : ndarray of shape (n_features,)
        Of each column in the units of the network; the kurtosis is the fourth moment over the
        squared second, 3 for a Gaussian column. A constant column has the variance 0.
    constant : ndarray of bool, shape (n_features,)
        Columns whose spread is nothing but rounding.
    smallest, used : ndarray of shape (n_features,)
        Smallest value of each column, in the units of X, and the share of values that are not zero.
    """

    def __init__(
        self,
        X,
        index: np.ndarray,
        weight: np.ndarray | None,
        columns: ColumnSummary,
        scaling: Scaling | None,
        seen=None,
    ):
        n_rows, self.n_features = len(index), X.shape[1]
        self.weight = np.full(n_rows, 1.0 / n_rows) if weight is None else weight / weight.sum()
        self.X, self.index = X, index
        self.smallest, self.used = columns.smallest, columns.used
        self._rows, self._of_rows = X, index
        if seen is not None:
            self._rows, self._of_rows, scaling = seen, np.arange(n_rows), None
            columns = summarise_columns(seen, self._of_rows, weight)
        scale = np.ones(self.n_features) if scaling is None else scaling.scale
        shift = 0.0 if scaling is None or scaling.shift is None else scaling.shift
        self._columns, self._scale = columns, scale
        self.mean = (columns.mean - shift) / scale
        self.constant, self.far_from_zero = columns.constant, columns.far_from_zero
        self.variance = np.where(self.constant, 0.0, np.square(columns.deviation / scale))
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # of constant columns
            kurtosis = (columns.fourth_root / columns.deviation) ** 4
        self.kurtosis = np.where(self.constant, 3.0, kurtosis)

    @property
    def n_rows(self) -> float:
        """How many rows of equal weight tell as much (Kish 1965): all where weights are equal."""
        return 1.0 / float(np.square(self.weight).sum())

    def covariance_times(self, vectors: np.ndarray) -> np.ndarray:
        """Return the covariance of the columns times vectors of shape (n_features, k)."""
        if self.n_features <= _MOST_COLUMNS:
            return self.covariance @ vectors
        return self._moments(vectors)

    @cached_property
    def covariance(self) -> np.ndarray:
        """The covariance of the columns, (n_features, n_features), where they are not too many."""
        return self._moments(None)

    @cached_property
    def stored(self) -> sp.csr_array:
        """The rows as they are, in the units of X, CSR without zeros."""
        rows = sp.csr_array(self.X[self.index])
        rows.eliminate_zeros()
        return rows

    @cached_property
    def _scaled(self) -> tuple[sp.csr_array, np.ndarray]:
        """The rows in the units of the network, CSR, and the means of their columns.

        Those far from zero are centred, for the square of such a mean would drown the variance.
        """
        mean = self._columns.mean
        shift = np.where(self._columns.far_from_zero, mean, 0.0)
        rows = Scaling(shift, self._scale).apply_csr(self._rows[self._of_rows])
        return rows, (mean - shift) / self._scale

    def _blocks(self) -> Iterator[tuple[np.ndarray, slice]]:
        """Yield dense rows, centred and scaled, and which of them they are."""
        for block in row_blocks(len(self._of_rows), self.n_features):
            rows = self._rows[self._of_rows[block]]
            yield (rows - self._columns.mean) / self._scale, block

    def _moments(self, vectors: np.ndarray | None) -> np.ndarray:
        """Return X' D X, times ``vectors`` if there are any, of the centred rows X."""
        if sp.issparse(self._rows):
            return self._sparse_moments(vectors)
        k = self.n_features if vectors is None else vectors.shape[1]
        total = np.zeros((self.n_features, k))
        for rows, block in self._blocks():
            weighted = rows.T * self.weight[block]
            total += weighted @ (rows if vectors is None else rows @ vectors)
        return total

    def _sparse_moments(self, vectors: np.ndarray | None) -> np.ndarray:
        rows, mean = self._scaled
        weighted = rows.T @ sp.diags_array(self.weight)
        if vectors is None:
            return (weighted @ rows).toarray() - np.outer(mean, mean)
        return weighted @ (rows @ vectors) - np.outer(mean, mean @ vectors)

    def loadings(self, codes: np.ndarray) -> np.ndarray:
        """Return the covariances of codes of mean zero and the columns, (k, n_features)."""
        weighted = self.weight[:, None] * codes
        if sp.issparse(self._rows):
            return (self._scaled[0].T @ weighted).T
        total = np.zeros((codes.shape[1], self.n_features))
        for rows, block in self._blocks():
            total += weighted[block].T @ rows
        return total

    def leading(
        self, factor: np.ndarray, k: int, basis: np.ndarray | None = None, seed: int = 0
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Return the k largest eigenvalues, falling, and eigenvectors of the scaled covariance.

        Columns are multiplied by ``factor``, of shape (n_features,). Exact up to 400 columns;
        beyond by subspace iteration (Halko, Martinsson and Tropp 2011, algorithm 4.4), from a
        ``basis`` that an earlier call returned as third. Rounding does not change signs.
        """
        if self.n_features <= _MOST_EXACT:
            matrix = factor[:, None] * self.covariance * factor
            d = self.n_features
            values, vectors = eigh(matrix, subset_by_index=[d - k, d - 1])
            return values[::-1], _signed(vectors[:, ::-1]), None
        n_steps = _STEPS_ON
        if basis is None:
            n_tried, n_steps = min(k + _OVERSAMPLING, self.n_features), _STEPS
            generator = np.random.default_rng(seed)
            basis = np.linalg.qr(generator.normal(size=(self.n_features, n_tried)))[0]
        column = factor[:, None]
        for _ in range(n_steps):
            basis = np.linalg.qr(column * self.covariance_times(column * basis))[0]
        values, turn = np.linalg.eigh(basis.T @ (column * self.covariance_times(column * basis)))
        basis = (basis @ turn)[:, ::-1]
        return values[::-1][:k], _signed(basis[:, :k]), basis


def _signed(vectors: np.ndarray) -> np.ndarray:
    """Return vectors with signs by a direction that no table has reason to be orthogonal to."""
    direction = np.random.default_rng(0).normal(size=len(vectors))
    return vectors * np.where(direction @ vectors < 0, -1.0, 1.0)
