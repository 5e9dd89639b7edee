"""Detectors that learned from different rows, and what they say of a row together.

A training row is judged by those alone that have not learned from it, a new row by all: their mean.
So the score of a training row is what it would be for a new row, and the scores of all training
rows say what is usual.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from skae._blas import one_blas_thread
from skae.outliers.folds import Judges
from skae.outliers.rows import Columns, Rows

# Columns that a sparse row does not use are left out of its shares below this part of its score.
_SMALLEST_SHARE = 1e-3
# The score of a row of which a member says what is no number, or minus infinity.
LOWEST = -1e300


class Ensemble(NamedTuple):
    """Members, what they learned from, and who may judge a row."""

    members: list[Any]  # what a criterion's fit returns
    judges: Judges
    sparse: bool  # whether they learned from CSR
    columns: Columns | None  # of the table that they learned from, if it had names

    def scores(self, rows: Rows, track: Callable) -> np.ndarray:
        """Return the mean score of each row; high is normal.

        A row of which a member says what is no number is as odd as can be.
        """
        return np.nan_to_num(self.raw_scores(rows, track), nan=LOWEST, neginf=LOWEST, posinf=np.inf)

    def raw_scores(self, rows: Rows, track: Callable) -> np.ndarray:
        """Return the mean score of each row, NaN where a member says so."""
        blocks = self._blocks(rows, track)
        return np.concatenate([self._mean(block, "scores") for block in blocks] or [np.empty(0)])

    def shares(self, rows: Rows, track: Callable) -> tuple:
        """Return the mean shares of the features (CSR for CSR), and what was left out of a row."""
        sparse = sp.issparse(rows.values)
        shares, left_out = [], []
        for block, start in zip(self._blocks(rows, track), rows.blocks(), strict=True):
            dense = self._mean(block, "shares")
            kept = _sparse_shares(dense, rows.values[start]) if sparse else dense
            shares.append(kept)
            left_out.append(
                dense.sum(axis=1) - kept.sum(axis=1) if sparse else np.zeros(len(dense))
            )
        return (sp.vstack(shares, format="csr") if sparse else np.concatenate(shares)), (
            np.concatenate(left_out)
        )

    def reasons(self, rows: Rows, track: Callable) -> Iterator[tuple]:
        """Yield for blocks of rows: the values, what is expected, and the shares, all dense."""
        for block in self._blocks(rows, track):
            values = block.values.toarray() if sp.issparse(block.values) else block.values
            yield values, self._mean(block, "expected"), self._mean(block, "shares")

    def _blocks(self, rows: Rows, track: Callable) -> Iterator[Rows]:
        """Yield rows a block at a time, in the format that the members learned from."""
        blocks = list(rows.blocks())
        for block in track(blocks, len(blocks), "scores"):
            yield rows.take(block).in_format(self.sparse, self.columns)

    def _mean(self, rows: Rows, what: str) -> np.ndarray:
        """Return the mean of what the members that may judge a row say of it."""
        with one_blas_thread():
            weights = self.judges.weights(rows.values)
            total: Any = 0.0
            for member, weight in zip(self.members, weights.T, strict=True):
                index = np.flatnonzero(weight)
                if len(index):
                    said = getattr(member, what)(rows.take(index))
                    of_all = np.zeros((len(weight), *said.shape[1:]))
                    of_all[index] = said * weight[index].reshape(-1, *[1] * (said.ndim - 1))
                    total = total + of_all
        return np.asarray(total)


def _sparse_shares(shares: np.ndarray, X) -> sp.csr_array:
    """Return shares of the features that rows of X use, and of those that matter."""
    kept = shares < _SMALLEST_SHARE * shares.sum(axis=1)[:, None]
    kept[np.repeat(np.arange(len(shares)), np.diff(X.indptr)), X.indices] = True
    return sp.csr_array(np.where(kept, shares, 0.0))
