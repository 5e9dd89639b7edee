"""Training rows as a start sees them: weighted, centred and scaled, dense or CSR, never copied."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import scipy.sparse as sp
from scipy.linalg import eigh

from skae._blocks import row_blocks
from skae._scaling import ColumnSummary, Scaling

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
    weight : ndarray or None
        Of these rows; None: all one.
    columns : ColumnSummary
        Of these rows, in the units of X.
    scaling : Scaling or None
        From the units of X to those of the network.
    """

    def __init__(
        self,
        X,
        index: np.ndarray,
        weight: np.ndarray | None,
        columns: ColumnSummary,
        scaling: Scaling | None,
    ):
        n_rows, self.n_features = len(index), X.shape[1]
        self.weight = np.full(n_rows, 1.0 / n_rows) if weight is None else weight / weight.sum()
        scale = np.ones(self.n_features) if scaling is None else scaling.scale
        shift = 0.0 if scaling is None or scaling.shift is None else scaling.shift
        self.X = X
        self.index, self._centre, self._scale = index, columns.mean, scale
        #: Mean of the rows in the units of the network.
        self.mean = (columns.mean - shift) / scale
        self.variance = np.where(columns.constant, 0.0, np.square(columns.deviation / scale))
        self.constant = columns.constant
        spread = np.where(columns.constant, 1.0, columns.deviation)
        #: Fourth moment over the squared second, 3 for a Gaussian column.
        self.kurtosis = np.where(columns.constant, 3.0, (columns.fourth_root / spread) ** 4)
        #: Of each column, in the units of X, and the share of its values that are not zero.
        self.smallest, self.used = columns.smallest, columns.used
        self._covariance: np.ndarray | None = None

    @property
    def n_rows(self) -> float:
        """How many rows of equal weight tell as much (Kish 1965): all where weights are equal."""
        return 1.0 / float(np.square(self.weight).sum())

    def covariance_times(self, vectors: np.ndarray) -> np.ndarray:
        """Return the covariance of the columns times vectors of shape (n_features, k)."""
        if self.n_features <= _MOST_COLUMNS:
            if self._covariance is None:
                self._covariance = self._moments(None)
            return self._covariance @ vectors
        return self._moments(vectors)

    def covariance(self) -> np.ndarray | None:
        """Return the covariance of the columns, where they are not too many for it."""
        if self._covariance is None:
            self._covariance = self._moments(None)
        return self._covariance

    @property
    def _few(self) -> bool:
        return self.n_features <= _MOST_COLUMNS

    def _moments(self, vectors: np.ndarray | None) -> np.ndarray:
        """Return X' D X, times ``vectors`` if there are any, of the centred rows X."""
        if sp.issparse(self.X):
            return self._sparse_moments(vectors)
        k = self.n_features if vectors is None else vectors.shape[1]
        total = np.zeros((self.n_features, k))
        for block in row_blocks(len(self.index), self.n_features):
            rows = (self.X[self.index[block]] - self._centre) / self._scale
            weighted = rows.T * self.weight[block]
            total += weighted @ (rows if vectors is None else rows @ vectors)
        return total

    def _sparse_moments(self, vectors: np.ndarray | None) -> np.ndarray:
        scale, mean = self._scale[:, None], self._centre / self._scale
        rows = self.stored
        weighted = rows.T @ sp.diags_array(self.weight)
        if vectors is None:
            return (weighted @ rows).toarray() / scale / self._scale - np.outer(mean, mean)
        return weighted @ (rows @ (vectors / scale)) / scale - np.outer(mean, mean @ vectors)

    @cached_property
    def stored(self) -> sp.csr_array:
        """The rows as they are, in the units of X, CSR."""
        return sp.csr_array(self.X[self.index])

    def loadings(self, codes: np.ndarray) -> np.ndarray:
        """Return the covariances of codes of mean zero and the columns, (k, n_features)."""
        weighted = self.weight[:, None] * codes
        if sp.issparse(self.X):
            return (self.stored.T @ weighted / self._scale[:, None]).T
        total = np.zeros((codes.shape[1], self.n_features))
        for block in row_blocks(len(self.index), self.n_features):
            rows = (self.X[self.index[block]] - self._centre) / self._scale
            total += weighted[block].T @ rows
        return total

    def leading(
        self, factor: np.ndarray, k: int, basis: np.ndarray | None = None, seed: int = 0
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Return the k largest eigenvalues, falling, and eigenvectors of the scaled covariance.

        Columns are multiplied by ``factor``, of shape (n_features,). Exact up to some hundred
        columns; beyond by subspace iteration (Halko, Martinsson and Tropp 2011, algorithm 4.4),
        from a ``basis`` that an earlier call returned as third.
        """
        if self.n_features <= _MOST_EXACT:
            matrix = factor[:, None] * self.covariance() * factor
            d = self.n_features
            values, vectors = eigh(matrix, subset_by_index=[d - k, d - 1])
            return values[::-1], vectors[:, ::-1], None
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
        return values[::-1][:k], basis[:, :k], basis
