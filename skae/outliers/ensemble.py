"""Detectors that learned from different rows, and what they say of a row together.

Each is made of a network and, for the combined score, of deviations. A training row is judged by
those alone that have not learned from it, a new row by all: their mean. So the score of a training
row is what it would be for a new row, and the scores of all training rows say what is usual.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from tqdm.auto import tqdm

from skae.outliers.folds import Judges

_ROWS_AT_ONCE = 8192


@dataclass
class Member:
    """What was learned from some of the training rows."""

    estimator: Any
    deviations: Any  # Deviations; None: the score is that of the estimator

    def scores(self, X) -> np.ndarray:
        """Return the score of each row; high is normal."""
        if self.deviations is None:
            return np.asarray(self.estimator.score_samples(X), dtype=np.float64)
        return self.deviations.scores(X)


@dataclass
class Ensemble:
    """Members, and who may judge a row."""

    members: list[Member]
    judges: Judges

    def scores(self, X, verbose: bool = False) -> np.ndarray:
        """Return the mean score of each row; high is normal.

        What takes more than a second has a progress bar with ``verbose``.
        """
        total, judgements = np.zeros(X.shape[0]), list(self._judgements(X))
        n_rows = sum(len(rows) for _, rows, _ in judgements)
        with progress(verbose, n_rows, "Scoring", "row") as bar:
            for member, rows, weight in judgements:
                for start in range(0, len(rows), _ROWS_AT_ONCE):
                    some = slice(start, start + _ROWS_AT_ONCE)
                    total[rows[some]] += weight[some] * member.scores(_take(X, rows[some]))
                    bar.update(len(rows[some]))
        return total

    def shares(self, X) -> tuple:
        """Return the mean shares of the features (CSR for CSR), and what was left out of a row."""
        total, rest = 0.0, np.zeros(X.shape[0])
        for member, rows, weight in self._judgements(X):
            shares, left_out = member.deviations.shares(_take(X, rows))
            back = sp.csr_array(
                (weight, (rows, np.arange(len(rows)))), shape=(X.shape[0], len(rows))
            )
            total = total + back @ shares
            rest[rows] += weight * left_out
        if not sp.issparse(X):
            return total, rest
        kind = sp.csr_array if isinstance(X, sp.sparray) else sp.csr_matrix
        return kind(total), rest

    def one(self, X) -> tuple[np.ndarray, np.ndarray]:
        """Return what is expected of one row, in the units of X, and all its shares."""
        said = [
            weight[0] * np.stack(member.deviations.one(X))
            for member, _, weight in self._judgements(X)
        ]
        expected, shares = np.sum(said, axis=0)
        return expected, shares

    def _judgements(self, X) -> Iterator[tuple[Member, np.ndarray, np.ndarray]]:
        """Yield members that judge some of the rows, these rows, and the weights there."""
        weights = self.judges.weights(X)
        for member, weight in zip(self.members, weights.T, strict=True):
            rows = np.flatnonzero(weight)
            if len(rows):
                yield member, rows, weight[rows]


def progress(verbose: bool, total: int, what: str, unit: str):
    """Return a progress bar that is seen after a second, or never."""
    return tqdm(total=total, desc=what, unit=unit, delay=1.0, leave=False, disable=not verbose)


def _take(X, rows: np.ndarray):
    """Return some rows, without a copy where these are all."""
    return X if len(rows) == X.shape[0] else X[rows]
