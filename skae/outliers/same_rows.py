"""Which rows are the same but for rounding? Distinct rows, known again.

Data do not come back from a file, a database, single precision, or a scaler and its inverse as they
went: the last digits differ. Such a row is the same row. Two rows are the same where each cell
differs by no more than about 1e-6 of its size and of the usual deviation of its column, and by a
thousandth of the latter at most.

A row is known by its products with a few random vectors. Rows that are the same agree in each of
them, within the length of what rounding may have done; and hardly any others do.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from skae._blocks import cell_budget, cells_per_row, row_blocks
from skae._random import Stream, numpy_generator
from skae._scaling import Scaling

# Single precision rounds to 2**-24 of the size of a value; a few such steps make up a round trip.
_ROUNDING = 2.0**-20
# Columns far from zero, such as times, must not hide all other differences.
_MOST_DEVIATIONS = 1e-3
_N_KEYS, _ROWS_ASKED = 4, 2000
# Products round as well, in proportion to their size.
_ROUNDING_OF_KEYS = 1e-12
# Where rows lie so close that each is next to another, they are first sorted into cells of so many
# tolerances, and then into cells of one.
_CELLS = (64.0, 1.0)


class SameRows:
    """The distinct rows of a table, known again within rounding.

    Parameters
    ----------
    X : ndarray or CSR of shape (n_samples, n_features)
        Later rows have the same format.

    Attributes
    ----------
    group : ndarray of int, shape (n_samples,)
        Equal for rows that are the same: from 0 to the number of distinct rows less one.
    n_groups : int
    """

    def __init__(self, X):
        self.scaling = usual_deviations(X)
        draws = numpy_generator(0, Stream.KEYS_OF_ROWS)
        self.vectors = draws.normal(size=(X.shape[1], _N_KEYS))
        keys, tolerance = self._keys(X)
        self.group = _by_first_key(_group(keys, tolerance), keys)
        _, first = np.unique(self.group, return_index=True)
        self.n_groups, self.keys = len(first), keys[first]
        # Ascending within rounding, as groups are; a search wants it exactly so.
        self.first_key = np.maximum.accumulate(self.keys[:, 0])

    def find(self, X) -> np.ndarray:
        """Return the group that each row belongs to, -1 for rows that are none of these."""
        keys, tolerance = self._keys(X)
        reach = 2.0 * tolerance  # from the end of a group to its first row, and as far again
        start = np.searchsorted(self.first_key, keys[:, 0] - reach, side="left")
        stop = np.searchsorted(self.first_key, keys[:, 0] + reach, side="right")
        found = np.full(len(keys), -1)
        n_pairs = np.cumsum(stop - start)
        pairs_at_once = max(1, cell_budget() // _N_KEYS)
        n_parts = 1 + (n_pairs[-1] if len(n_pairs) else 0) // pairs_at_once
        bounds = np.searchsorted(n_pairs, np.arange(1, n_parts) * pairs_at_once)
        for rows in np.split(np.arange(len(keys)), bounds):
            query, group = _pairs(rows, start[rows], stop[rows])
            distance = np.abs(self.keys[group] - keys[query]).max(axis=1)
            near = distance <= reach[query]
            query, group, distance = query[near], group[near], distance[near]
            order = np.lexsort((distance, query))[::-1]  # the nearest is written last
            found[query[order]] = group[order]
        return found

    def tolerance(self, X, scaling: Scaling | None = None) -> np.ndarray:
        """Return how far from each row the same row may be, in the units of a scaling.

        Parameters
        ----------
        X : ndarray or CSR of shape (n_samples, n_features)
            Rows, as they were given.
        scaling : Scaling, optional
            None: columns divided by their usual deviations.

        Returns
        -------
        distance : ndarray of shape (n_samples,)
        """
        scaling = scaling or self.scaling
        if not sp.issparse(X):
            cells = self._tolerance_of_cells(np.abs(X), slice(None), scaling)
            return np.sqrt(np.square(cells).sum(axis=1))
        of_zeros = np.square(self._tolerance_of_cells(0.0, slice(None), scaling))
        of_entries = np.square(self._tolerance_of_cells(np.abs(X.data), X.indices, scaling))
        row = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
        more = np.bincount(row, of_entries - of_zeros[X.indices], minlength=X.shape[0])
        return np.sqrt(np.maximum(of_zeros.sum() + more, 0.0))

    def _tolerance_of_cells(self, size, columns, scaling: Scaling):
        unit, scale = self.scaling.scale[columns], scaling.scale[columns]
        return np.minimum(_ROUNDING * (size + unit), _MOST_DEVIATIONS * unit) / scale

    def _keys(self, X) -> tuple[np.ndarray, np.ndarray]:
        """Return what rows are known by, (n_samples, n_keys), and how far that may be off."""
        keys, tolerance = np.empty((X.shape[0], _N_KEYS)), np.empty(X.shape[0])
        for block in row_blocks(X.shape[0], cells_per_row(X)):
            rows = scaled(X[block], self.scaling)
            keys[block] = rows @ self.vectors
            tolerance[block] = self.tolerance(X[block])
        return keys, tolerance + _ROUNDING_OF_KEYS * np.abs(keys).max(axis=1, initial=0.0)


class Units(NamedTuple):
    """The units that columns are compared in, and what is nothing but rounding in them."""

    scaling: Scaling
    same_rows: SameRows

    def scaled(self, X):
        """Return rows in scaled units."""
        return scaled(X, self.scaling)

    def tolerance(self, X) -> np.ndarray:
        """Return how far from each row the same row may be, in scaled units."""
        return self.same_rows.tolerance(X, self.scaling)


def scaled(X, scaling: Scaling):
    """Return rows in scaled units and double precision, CSR staying CSR.

    Values are cut off where their squares would no longer be numbers.
    """
    if not sp.issparse(X):
        return scaling.apply(X.astype(np.float64, copy=False)).clip(-1e120, 1e120)
    rows = scaling.apply_csr(X)
    np.clip(rows.data, -1e120, 1e120, out=rows.data)
    return rows


def usual_deviations(X) -> Scaling:
    """Return the middle value of each column, and the median size of deviations from it.

    Of deviations that are more than rounding, among some thousand rows. Absurd values in a few
    rows do not matter.
    """
    rows = X[:: -(-X.shape[0] // _ROWS_ASKED)]
    middle, unit = (_middle_of_csr if sp.issparse(X) else _middle_of_dense)(rows)
    largest = abs(X).max(axis=0)
    largest = largest.toarray().ravel() if sp.issparse(X) else largest
    unit = np.where(unit > 0, unit, np.where(largest > 0, largest, 1.0))
    return Scaling(middle if middle.any() else None, unit.astype(np.float64))


def _middle_of_dense(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n, columns = X.shape[0], np.arange(X.shape[1])
    middle = np.sort(X, axis=0)[n // 2].astype(np.float64)
    deviation = np.sort(np.abs(X - middle), axis=0)
    rounding = _rounding_of(*(deviation[place] for place in _places_of_large(n)))
    n_small = (deviation <= rounding).sum(axis=0)
    place = n_small + np.maximum(n - n_small - 1, 0) // 2
    return middle, deviation[np.minimum(place, n - 1), columns]


def _middle_of_csr(X) -> tuple[np.ndarray, np.ndarray]:
    """Return what `_middle_of_dense` does; in columns that are mostly zero, from the entries."""
    n, (middle, unit) = X.shape[0], np.zeros((2, X.shape[1]))
    n_stored = np.bincount(X.indices, minlength=X.shape[1])
    stored = np.flatnonzero(n_stored)
    n_stored = n_stored[stored]
    if len(stored):
        size = np.abs(X.data)[np.lexsort((np.abs(X.data), X.indices))]
        first = np.cumsum(n_stored) - n_stored
        places = [first + n_stored - n + place for place in _places_of_large(n)]
        rounding = _rounding_of(*(np.where(p < first, 0.0, size[np.maximum(p, 0)]) for p in places))
        n_small = np.add.reduceat(size <= np.repeat(rounding, n_stored), first, dtype=np.int64)
        place = np.minimum(n_small + np.maximum(n_stored - n_small - 1, 0) // 2, n_stored - 1)
        unit[stored] = size[first + place]
    full = stored[n_stored > n // 2]  # in all others zeros are in the middle
    if len(full):
        middle[full], unit[full] = _middle_of_dense(X[:, full].toarray())
    return middle, unit


def _places_of_large(n_rows: int) -> tuple[int, int]:
    """Return the places of deviations that are large but not absurd, among sorted ones.

    The last tenth begins with the first; in columns that are mostly zero, the second is large.
    """
    return max(n_rows - 1 - max(n_rows // 10, 1), 0), max(n_rows - 3, 0)


def _rounding_of(large: np.ndarray, larger: np.ndarray) -> np.ndarray:
    """Return what deviations are but the rounding of others, in single and double precision."""
    return np.maximum(2.0**-22 * large, 1e-12 * larger)


def _pairs(rows: np.ndarray, start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each row beside each number from its start to its stop."""
    n = stop - start
    number = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
    return np.repeat(rows, n), np.repeat(start, n) + number


def _group(keys: np.ndarray, tolerance: np.ndarray) -> np.ndarray:
    """Return groups of rows whose keys all lie within the tolerance."""
    group = _split_at_gaps(np.zeros(len(keys), dtype=np.int64), keys, tolerance)
    for cells in _CELLS:
        wide = np.flatnonzero(_is_wide(group, keys, tolerance))
        if not len(wide):
            break
        # A place of the grid that no round number lies on.
        place = np.floor(keys[wide] / (cells * tolerance[wide].max()) + 0.3819660112501051)
        parts = np.unique(np.column_stack([group[wide], place]), axis=0, return_inverse=True)[1]
        parts = _split_at_gaps(parts.ravel(), keys[wide], tolerance[wide])
        group[wide] = group.max() + 1 + parts
    return group


def _split_at_gaps(group: np.ndarray, keys: np.ndarray, tolerance: np.ndarray) -> np.ndarray:
    """Return groups cut where a key of two rows next to each other differs by too much."""
    for key in keys.T:
        order = np.lexsort((key, group))
        first = np.ones(len(order), dtype=bool)
        gap = np.diff(key[order]) > np.maximum(tolerance[order][1:], tolerance[order][:-1])
        first[1:] = gap | (np.diff(group[order]) != 0)
        group = np.empty_like(group)
        group[order] = np.cumsum(first) - 1
    return group


def _is_wide(group: np.ndarray, keys: np.ndarray, tolerance: np.ndarray) -> np.ndarray:
    """Return which rows are in groups that reach too far to be one row."""
    order = np.argsort(group, kind="stable")
    first = np.flatnonzero(np.diff(group[order], prepend=-1))
    keys, tolerance = keys[order], tolerance[order]
    reach = np.maximum.reduceat(keys, first) - np.minimum.reduceat(keys, first)
    wide = np.empty(len(group), dtype=bool)
    n = np.diff(np.append(first, len(group)))
    limit = 4.0 * np.maximum.reduceat(tolerance, first)
    wide[order] = np.repeat((reach > limit[:, None]).any(axis=1), n)
    return wide


def _by_first_key(group: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return the groups numbered in the order of the first key of their first rows."""
    _, first, group = np.unique(group, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(keys[first, 0], kind="stable")] = np.arange(len(first))
    return rank[group.ravel()]
