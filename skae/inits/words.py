"""What rows of texts become before a linear path meets them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp


class Words(NamedTuple):
    """What rows become before the linear path meets them: see `CooccurrenceInit`."""

    logarithm: bool  # whether entries are counts, which are weighted by min(x, 1) + log(max(x, 1))
    weight: np.ndarray  # (n_features,), of the columns
    vectors: np.ndarray  # (n_features, n_vectors)
    centre: np.ndarray  # (n_vectors,), of the normalised sums of vectors
    mean: np.ndarray  # (n_vectors,), of those centred and normalised again
    scale: float
    axes: np.ndarray  # (n_vectors, n_components), the first principal axes of the features

    @property
    def n_vectors(self) -> int:
        """Number of features."""
        return self.vectors.shape[1]

    def weighted(self, X) -> sp.csr_array:
        """Return rows of length one in the units of the encoder."""
        values = X.data
        # Without a step at 0: there are counts there that centring left but for rounding.
        if self.logarithm:
            values = np.clip(values, 0.0, 1.0) + np.log(np.maximum(values, 1.0))
        rows = sp.csr_array((values * self.weight[X.indices], X.indices, X.indptr), shape=X.shape)
        return _normalised(rows)

    def features(self, rows) -> np.ndarray:
        """Return the features of rows that are `weighted`, of shape (n_rows, n_vectors)."""
        return (unit(unit(rows @ self.vectors) - self.centre) - self.mean) * self.scale


def _normalised(rows) -> sp.csr_array:
    length = np.sqrt(np.bincount(_row_of(rows), np.square(rows.data), rows.shape[0]))
    return sp.diags_array(1.0 / np.where(length > 0, length, 1.0)) @ rows


def _row_of(rows) -> np.ndarray:
    return np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))


def unit(rows: np.ndarray) -> np.ndarray:
    """Return rows of length one; rows of zeros stay zeros."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1.0)
