"""Columns brought to one scale before the network sees them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

_CELLS_PER_CHUNK = 2**20

#: Values of ``input_scaling`` besides None and "auto".
SCALINGS = ("standard", "fourth_moment", "max", "log1p")


class ColumnSummary(NamedTuple):
    """Weighted moments of each column; every array has shape (n_features,)."""

    mean: np.ndarray
    variance: np.ndarray
    fourth_moment: np.ndarray  # about the mean
    largest: np.ndarray  # largest absolute value
    smallest: np.ndarray
    used: np.ndarray  # share of values that are not zero

    @property
    def constant(self) -> np.ndarray:
        """Columns whose spread is nothing but rounding."""
        return self.variance <= (1e-12 * np.abs(self.mean)) ** 2


class Scaling(NamedTuple):
    """The map ``(x - shift) / scale`` of each column; shift is None where zeros stay zeros.

    With ``logarithm``, x is replaced by log(1 + x) first, which must not be below zero. That is for
    the input of the encoder alone.
    """

    shift: np.ndarray | None
    scale: np.ndarray
    logarithm: bool = False

    def apply(self, X: np.ndarray) -> np.ndarray:
        """Return dense rows in the units of the network."""
        X = np.log1p(X) if self.logarithm else X
        return (X if self.shift is None else X - self.shift) / self.scale

    def apply_entries(self, values: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return stored entries of sparse rows, which are never shifted, in those units."""
        values = np.log1p(values) if self.logarithm else values
        return values / self.scale[columns]

    def undo(self, X: np.ndarray) -> np.ndarray:
        """Return dense rows in the units of X."""
        X = X * self.scale if self.shift is None else X * self.scale + self.shift
        return np.expm1(X) if self.logarithm else X

    @property
    def log_determinant(self) -> float:
        """Logarithm of the density of x over that of the scaled row, in nats.

        Not for a ``logarithm``, where it depends on the row.
        """
        return -float(np.log(self.scale).sum())


def fit_scaling(kind: str | None, columns: ColumnSummary, sparse: bool) -> Scaling | None:
    """Return the scaling named ``kind``; sparse columns are never centred.

    "standard" divides by the standard deviation; "max" by the largest absolute value, without
    centring; "fourth_moment" by the fourth root of a third of the fourth central moment. The last
    is the standard deviation for a Gaussian column, and larger for a column of rare, large values
    (a pixel at the border, a rare flag), which standardising would blow up: a flag set in a share
    p of the rows goes to about p**-0.5 when it is standardised, and to p**-0.25 here. "log1p" takes
    log(1 + x), for counts: without centring, and without a scale but for constant columns.
    """
    if kind is None:
        return None
    if kind == "log1p":
        return _fit_log1p(columns)
    if kind == "max":
        scale = columns.largest
    elif kind == "standard":
        scale = np.sqrt(columns.variance)
    else:
        scale = (columns.fourth_moment / 3.0) ** 0.25
    # A constant column that is centred is zero anyhow; one that is not goes to one.
    scale = np.where(columns.constant, columns.largest if sparse or kind == "max" else 1.0, scale)
    scale = np.where(scale == 0, 1.0, scale)
    if not np.isfinite(scale).all():
        column = int(np.argmin(np.isfinite(scale)))
        raise ValueError(
            f"Column {column} of X holds values as large as {columns.largest[column]:.3g}, too "
            "large to be scaled. Divide the column by a constant, or take its logarithm."
        )
    return Scaling(None if sparse or kind == "max" else columns.mean, scale)


def _fit_log1p(columns: ColumnSummary) -> Scaling:
    """Return log(1 + x), with constant columns brought to one."""
    if (columns.smallest < 0).any():
        column = int(np.argmin(columns.smallest))
        raise ValueError(
            f"input_scaling='log1p' needs values >= 0, but column {column} of X holds "
            f"{columns.smallest[column]:.3g}. Choose another input_scaling, such as 'max'."
        )
    scale = np.where(columns.constant, np.log1p(columns.largest), 1.0)
    return Scaling(None, np.where(scale == 0, 1.0, scale), logarithm=True)


def summarise_columns(X, index: np.ndarray, weight: np.ndarray | None) -> ColumnSummary:
    """Return the weighted moments of the columns of the rows ``index`` of a dense or CSR X."""
    weight = np.ones(len(index)) if weight is None else weight
    total = weight.sum()
    # Dense rows in chunks, for the sake of memory; sparse ones cost no more than they hold.
    step = len(index) if sp.issparse(X) else max(1, _CELLS_PER_CHUNK // X.shape[1])
    chunks = [slice(start, start + step) for start in range(0, len(index), step)]
    mean = sum(weight[c] @ X[index[c]] for c in chunks) / total
    second, fourth, largest, used = np.zeros((4, X.shape[1]))
    smallest = np.full(X.shape[1], np.inf)
    for c in chunks:
        rows = X[index[c]]
        central = (_sparse_sums if sp.issparse(X) else _dense_sums)(rows, weight[c], mean)
        second += central[0]
        fourth += central[1]
        np.maximum(largest, _dense(abs(rows).max(axis=0)), out=largest)
        np.minimum(smallest, _dense(rows.min(axis=0)), out=smallest)
        used += weight[c] @ (rows != 0)
    return ColumnSummary(mean, second / total, fourth / total, largest, smallest, used / total)


def _dense_sums(X: np.ndarray, weight: np.ndarray, mean: np.ndarray) -> tuple:
    """Return the weighted sums of the second and fourth powers of ``x - mean``."""
    square = np.square(X - mean)
    return weight @ square, weight @ np.square(square)


def _sparse_sums(X, weight: np.ndarray, mean: np.ndarray) -> tuple:
    """Return what `_dense_sums` does for CSR, from the stored entries and the number of zeros."""
    entry_weight = np.repeat(weight, np.diff(X.indptr))
    square = np.square(X.data - mean[X.indices])
    n_stored = np.bincount(X.indices, minlength=len(mean))
    # Exactly zero where a column has no zeros: a rounding error would be multiplied by mean**4.
    zero_weight = np.where(
        n_stored < len(weight),
        weight.sum() - np.bincount(X.indices, entry_weight, len(mean)),
        0.0,
    )
    return tuple(
        np.bincount(X.indices, entry_weight * of_entry, len(mean)) + zero_weight * of_zero
        for of_entry, of_zero in ((square, mean**2), (np.square(square), mean**4))
    )


def _dense(row) -> np.ndarray:
    return (row.toarray() if sp.issparse(row) else np.asarray(row)).ravel()
