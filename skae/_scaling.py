"""Columns brought to one scale before the network sees them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from skae._blocks import row_blocks

#: Values of ``input_scaling`` besides None and "auto".
SCALINGS = ("standard", "fourth_moment", "common", "max", "log1p")

# Rows that are asked for the value that fills a column. Where it fills nine tenths of it, another
# one is their median less than once in 10,000 columns.
_ROWS_ASKED = 15
# A spread of no more than this many rounding errors of the mean is nothing but rounding. What is
# taken out of the values before they are squared is one of them, so that the sums add nothing.
_ROUNDING_ERRORS = 10.0
# A column is rarely used where less than this share of its rows has another value than the usual.
_RARE = 0.1
# Of a value that is seen less often it is not known how rare it is: where none of n rows has it,
# up to 3 of them might have had it (with a probability of 0.05, the "rule of three").
_LEAST_SEEN = 3
# So many rows tell the size of the values of a column, and so many columns how sizes vary.
_KNOWN, _FEWEST_PEERS = 10, 4
# What is not known of the size of the values of a column of which one is seen, as the variance of
# its logarithm.
_VARIANCE_OF_ONE = 1.0


class ColumnSummary(NamedTuple):
    """Weighted moments of each column; every array has shape (n_features,).

    Moments are kept as roots, in the units of the column: powers of values as small as 1e-90 or as
    large as 1e80 are no longer numbers of double precision.
    """

    mean: np.ndarray
    deviation: np.ndarray  # square root of the variance
    fourth_root: np.ndarray  # fourth root of the fourth moment about the mean
    largest: np.ndarray  # largest absolute value
    smallest: np.ndarray
    used: np.ndarray  # share of values that are not zero
    usual: np.ndarray  # the value that fills the column, where one does; else some value of it
    n_unusual: np.ndarray  # rows with another value, however heavy
    n_rows: int

    @property
    def variance(self) -> np.ndarray:
        """Second moment about the mean."""
        return np.square(self.deviation)

    @property
    def fourth_moment(self) -> np.ndarray:
        """Fourth moment about the mean."""
        return self.fourth_root**4

    @property
    def constant(self) -> np.ndarray:
        """Columns whose spread is nothing but rounding."""
        # Differences of values are exact in single precision too: no more is rounding there.
        return self.deviation <= _ROUNDING_ERRORS * np.finfo(np.float64).eps * np.abs(self.mean)

    @property
    def far_from_zero(self) -> np.ndarray:
        """Columns whose mean is larger than their spread; more than half of them is not zero.

        For the squared mean is at most the mean square times the share that is not zero.
        """
        return np.abs(self.mean) > self.deviation


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

    def apply_csr(self, X) -> sp.csr_array:
        """Return sparse rows in those units, CSR with sorted columns and in double precision.

        Columns that are shifted hold an entry wherever the result is not zero, also where X stores
        none. Zeros of all others stay zeros.
        """
        shift = None if self.shift is None or not self.shift.any() else self.shift
        values = np.log1p(X.data) if self.logarithm else X.data
        values = values if shift is None else values - shift[X.indices]
        rows = sp.csr_array((values / self.scale[X.indices], X.indices, X.indptr), shape=X.shape)
        return rows if shift is None else rows + self._from_zeros(X, np.flatnonzero(shift))

    def _from_zeros(self, X, columns: np.ndarray) -> sp.csr_array:
        """Return what cells that are not stored become, in some columns that are shifted."""
        place = np.full(X.shape[1], -1)
        place[columns] = np.arange(len(columns))
        place = place[X.indices]
        row = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
        missing = np.ones((X.shape[0], len(columns)), dtype=bool)
        missing[row[place >= 0], place[place >= 0]] = False
        indptr = np.concatenate([[0], np.cumsum(missing.sum(axis=1))])
        column = columns[np.nonzero(missing)[1]]
        values = -self.shift[column] / self.scale[column]  # type: ignore[index]
        return sp.csr_array((values, column.astype(X.indices.dtype), indptr), shape=X.shape)

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
    """Return the scaling named ``kind``; of sparse columns only those far from zero are centred.

    "standard" divides by the standard deviation; "max" by the largest absolute value, without
    centring; "fourth_moment" by the fourth root of a third of the fourth central moment. The last
    is the standard deviation for a Gaussian column, and larger for a column of rare, large values
    (a pixel at the border, a rare flag), which standardising would blow up: a flag set in a share
    p of the rows goes to about p**-0.5 when it is standardised, and to p**-0.25 here. "common"
    divides all by one number, so that columns keep their sizes beside each other. "log1p" takes
    log(1 + x), for counts: without centring, and without a scale but for constant columns.

    A column of which few rows tell anything is not scaled by these alone (see `_growth`), nor is a
    constant one (see `_unit_of_constant`).
    """
    if kind is None:
        return None
    if kind == "log1p":
        return _fit_log1p(columns)
    if kind == "common":
        return Scaling(_shift(columns, sparse), _common_scale(columns))
    peers = _peers(columns)
    if kind == "max":
        scale = columns.largest * _growth(columns, peers, 0.0)
    elif kind == "standard":
        scale = columns.deviation * _growth(columns, peers, 0.5)
    else:
        scale = columns.fourth_root / 3.0**0.25 * _growth(columns, peers, 0.25)
    scale = np.where(columns.constant, _unit_of_constant(columns, peers, kind != "max"), scale)
    _check_finite(scale, columns)
    if kind == "max":
        return Scaling(None, scale)
    return Scaling(_shift(columns, sparse), scale)


def _common_scale(columns: ColumnSummary) -> np.ndarray:
    """Return the root mean square of the standard deviations of columns that are not constant."""
    deviation = columns.deviation[~columns.constant]
    if not len(deviation):
        return np.ones(len(columns.deviation))
    _check_finite(columns.deviation, columns)
    largest = deviation.max()
    size = largest * np.sqrt(np.square(deviation / largest).mean())
    return np.full(len(columns.deviation), size)


def _check_finite(scale: np.ndarray, columns: ColumnSummary) -> None:
    if not np.isfinite(scale).all():
        column = int(np.argmin(np.isfinite(scale)))
        raise ValueError(
            f"Column {column} of X holds values as large as {columns.largest[column]:.3g}, too "
            "large to be scaled. Divide the column by a constant, or take its logarithm."
        )


def _shift(columns: ColumnSummary, sparse: bool) -> np.ndarray | None:
    """Return the means of the columns; of sparse ones those far from zero, and zero for others."""
    if not sparse:
        return columns.mean
    far = columns.far_from_zero
    return np.where(far, columns.mean, 0.0) if far.any() else None


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


# Columns of which little is known -----------------------------------------------------------------


class _Peers(NamedTuple):
    """What columns with the same usual value say of the size of the others; (n_features,)."""

    log_size: np.ndarray  # NaN where too few columns have that usual value
    variance: np.ndarray  # with which that foretells the log size of one more column


def _sizes(columns: ColumnSummary) -> np.ndarray:
    """Return the size of the deviations that make up the moments of each column.

    Where k of n rows deviate by v, and the others by nothing, the moments are ``v**2 k / n`` and
    ``v**4 k / n``: the fourth root of the fourth is ``v (k / n)**0.25``, and v is what is returned.
    For constant columns it is one.
    """
    root, deviation = (
        np.where(columns.constant, 1.0, roots) for roots in (columns.fourth_root, columns.deviation)
    )
    return root * (root / deviation)


def _peers(columns: ColumnSummary) -> _Peers:
    """Return the mean and variance of the log sizes of well-known columns, by usual value.

    Columns that are filled by one value, such as the black of a picture or the zero of a flag, are
    likely to be of one kind. How far they are is seen from how much their sizes differ.
    """
    known = ~columns.constant & (columns.n_unusual >= _KNOWN) & np.isfinite(columns.fourth_root)
    _, group = np.unique(columns.usual, return_inverse=True)
    log_size, of_known = np.log(_sizes(columns)[known]), group[known]
    n = np.bincount(of_known, minlength=group.max() + 1)
    enough, n = n >= _FEWEST_PEERS, np.maximum(n, _FEWEST_PEERS)
    mean = np.bincount(of_known, log_size, len(n)) / n
    square = np.bincount(of_known, np.square(log_size - mean[of_known]), len(n))
    # The variance of Student's distribution of one more value, its mean and variance unknown.
    variance = square / (n - 3) * (1 + 1 / n)
    return _Peers(np.where(enough, mean, np.nan)[group], variance[group])


def _growth(columns: ColumnSummary, peers: _Peers, power: float) -> np.ndarray:
    """Return what the scale of each column is multiplied by for what is not known of it, >= 1.

    It is one but for columns in which almost every row has the same value. What the other k rows
    tell is uncertain in two ways. A value may be rarer or less rare than it was seen: the moments
    are taken as if it had been seen three times at least; ``power`` is that with which the number
    of rows enters the scale. And one row, a pixel that is barely on, say, does not tell how large
    the values of a column are: their size (its logarithm) is estimated from the k rows, with a
    variance of 1 / k, and from the well-known columns with the same usual value, with the variance
    of their sizes. Columns in different units have a huge variance, and tell each other nothing.
    """
    seen = columns.n_unusual
    rare = (seen > 0) & (seen < _RARE * columns.n_rows) & ~columns.constant
    k = np.where(rare, seen, _KNOWN)
    growth = (np.maximum(k, _LEAST_SEEN) / k) ** power
    own = _VARIANCE_OF_ONE / k
    larger = np.where(rare, peers.log_size - np.log(_sizes(columns)), 0.0) * own
    larger = np.fmax(larger / (own + peers.variance), 0.0)
    return np.where(rare, growth * np.exp(larger), 1.0)


def _unit_of_constant(columns: ColumnSummary, peers: _Peers, centred: bool) -> np.ndarray:
    """Return what constant columns are divided by.

    Where they are not centred, their own size. Where they are, one, or their size if it is less, so
    that a new row with another value is odd; and never less than a million times what rounding
    may leave, so that the constant itself is zero. Zeros are divided by the size of other columns
    that are mostly zero, or by one where there are none or these are of many sizes.
    """
    size = columns.largest
    if centred:
        least = 1e6 * np.finfo(np.float64).eps * size
        size = np.maximum(np.minimum(size, 1.0), least)
    alike = peers.variance < _VARIANCE_OF_ONE
    of_zeros = np.exp(np.where(np.isnan(peers.log_size) | ~alike, 0.0, peers.log_size))
    return np.where(columns.largest > 0, size, of_zeros)


# Moments ------------------------------------------------------------------------------------------


def summarise_columns(X, index: np.ndarray, weight: np.ndarray | None) -> ColumnSummary:
    """Return the weighted moments of the columns of the rows ``index`` of a dense or CSR X.

    They are taken of the differences from the usual value of each column, which are exact in
    columns of small relative spread (times, identifiers), and of these as shares of the largest, so
    that no power of them underflows or overflows.
    """
    n_rows, n_features = len(index), X.shape[1]
    weight = np.full(n_rows, 1.0 / n_rows) if weight is None else weight / weight.sum()
    count = _count_sparse if sp.issparse(X) else _count_dense
    usual = _usual_values(X[index[:_ROWS_ASKED]])
    offset, used, n_unusual = np.zeros((3, n_features))
    smallest, most = np.full((2, n_features), [[np.inf], [-np.inf]])
    blocks = _Blocks(X, index, weight)
    with np.errstate(over="ignore", invalid="ignore"):  # `fit_scaling` says which column
        for rows, w in blocks:
            np.minimum(smallest, _flat(rows.min(axis=0)), out=smallest)
            np.maximum(most, _flat(rows.max(axis=0)), out=most)
            for total, part in zip((offset, used, n_unusual), count(rows, w, usual), strict=True):
                total += part
        mean = usual + offset
        spread = np.maximum(most - mean, mean - smallest)
        second, fourth = _moments(blocks, mean, np.where(spread > 0, spread, 1.0))
        return ColumnSummary(
            mean,
            spread * np.sqrt(second),
            spread * fourth**0.25,
            np.maximum(most, -smallest),
            smallest,
            used,
            usual,
            n_unusual,
            n_rows,
        )


class _Blocks:
    """The rows ``index`` of X with their weights, a block at a time, as often as wanted."""

    def __init__(self, X, index: np.ndarray, weight: np.ndarray):
        # Sparse rows cost no more than they hold.
        self.sparse = [(X[index], weight)] if sp.issparse(X) else []
        self.X, self.index, self.weight = X, index, weight

    def __iter__(self) -> Iterator[tuple]:
        if self.sparse:
            yield from self.sparse
            return
        for block in row_blocks(len(self.index), self.X.shape[1]):
            yield self.X[self.index[block]], self.weight[block]


def _usual_values(rows) -> np.ndarray:
    """Return a value from the middle of each column: the one that fills it, if one does."""
    middle = rows.shape[0] // 2
    if not sp.issparse(rows):
        return np.sort(rows, axis=0)[middle].astype(np.float64)
    usual = np.zeros(rows.shape[1])
    # In all others zeros reach the middle from either side.
    n_stored = np.bincount(rows.indices, minlength=rows.shape[1])
    full = np.flatnonzero(n_stored >= rows.shape[0] - middle)
    if len(full):
        usual[full] = np.sort(rows[:, full].toarray(), axis=0)[middle]
    return usual


def _count_dense(X: np.ndarray, weight: np.ndarray, usual: np.ndarray) -> tuple:
    """Return the sums of ``x - usual``, the weights of non-zeros, and the number of unusual."""
    difference = X - usual
    n_unusual = np.count_nonzero(difference, axis=0)
    return weight @ difference, weight @ (X != 0).astype(np.float32), n_unusual


def _count_sparse(X, weight: np.ndarray, usual: np.ndarray) -> tuple:
    """Return what `_count_dense` does for CSR, from the stored entries and the number of zeros."""
    n_features, of_entry = len(usual), np.repeat(weight, np.diff(X.indptr))
    difference = X.data - usual[X.indices]
    n_stored = np.bincount(X.indices, minlength=n_features)
    n_unusual = np.bincount(X.indices[difference != 0], minlength=n_features)
    n_unusual += np.where(usual != 0, X.shape[0] - n_stored, 0)
    of_stored = np.bincount(X.indices, of_entry * difference, n_features)
    offset = of_stored - _weight_of_zeros(X, weight, of_entry) * usual
    return offset, np.bincount(X.indices, of_entry * (X.data != 0), n_features), n_unusual


def _moments(blocks: _Blocks, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Return the means of the second and fourth powers of ``(x - mean) / spread``."""
    moments = np.zeros((2, len(mean)))
    for rows, weight in blocks:
        moments += (_sparse_sums if blocks.sparse else _dense_sums)(rows, weight, mean, spread)
    return moments


def _dense_sums(X: np.ndarray, weight: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> tuple:
    """Return the weighted sums of the second and fourth powers of ``(x - mean) / spread``."""
    square = X - mean
    square /= spread
    np.square(square, out=square)
    second = weight @ square
    return second, weight @ np.square(square, out=square)


def _sparse_sums(X, weight: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> tuple:
    """Return what `_dense_sums` does for CSR."""
    of_entry = np.repeat(weight, np.diff(X.indptr))
    square = np.square((X.data - mean[X.indices]) / spread[X.indices])
    of_zeros = _weight_of_zeros(X, weight, of_entry)
    # The spread of a column with zeros is no less than its mean.
    of_zero = np.square(np.where(of_zeros > 0, mean, 0.0) / spread)
    return tuple(
        np.bincount(X.indices, of_entry * entry, len(mean)) + of_zeros * zero
        for entry, zero in ((square, of_zero), (np.square(square), np.square(of_zero)))
    )


def _weight_of_zeros(X, weight: np.ndarray, of_entry: np.ndarray) -> np.ndarray:
    """Return the summed weight of the cells of each column that are not stored.

    Exactly zero where all are: a rounding error would be multiplied by powers of the mean.
    """
    n_features = X.shape[1]
    n_stored = np.bincount(X.indices, minlength=n_features)
    left = weight.sum() - np.bincount(X.indices, of_entry, n_features)
    return np.where(n_stored < len(weight), left, 0.0)


def _flat(row) -> np.ndarray:
    return (row.toarray() if sp.issparse(row) else np.asarray(row)).ravel()
