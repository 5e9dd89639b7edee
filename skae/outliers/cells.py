"""Cells of CSR rows in the columns that they use, as small dense arrays.

Rows are worked on together with those that need as many columns, up to the next power of two, so
that what comes out for a row does not depend on the rows beside it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from skae._blocks import row_blocks


def used_columns(
    shape: tuple[int, int], matrices: list, owners: list
) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns that each row uses, one row after the other, and how many it uses.

    ``owners`` says which row each row of a CSR matrix belongs to; None: the row of that number.
    """
    n, n_features = shape
    keys = []
    for matrix, owner in zip(matrices, owners, strict=True):
        row = np.arange(n) if owner is None else owner
        keys.append(row.repeat(np.diff(matrix.indptr)) * np.int64(n_features) + matrix.indices)
    union = np.unique(np.concatenate(keys))
    return union % n_features, np.bincount(union // n_features, minlength=n)


def by_width(union: np.ndarray, n_used: np.ndarray, depth: int) -> Iterator[tuple]:
    """Yield rows that use about as many columns, and these, with a bounded number of cells.

    ``depth`` is how often the cells of a row are held at once.
    """
    widths = 2 ** np.ceil(np.log2(np.maximum(n_used, 1))).astype(int)
    for width in np.unique(widths):
        group = np.flatnonzero(widths == width)
        for block in row_blocks(len(group), int(width) * depth):
            index = group[block]
            yield index, _pick_columns(union, n_used, index, int(width))


def _pick_columns(union: np.ndarray, n_used: np.ndarray, index: np.ndarray, width: int):
    """Return the columns in use of some rows as an array of this width, filled up with -1."""
    union = np.append(union, -1)  # for rows that use none, and come last
    start = np.concatenate([[0], np.cumsum(n_used)])[index]
    place = np.arange(width)
    inside = place < n_used[index, None]
    return np.where(inside, union[np.where(inside, start[:, None] + place, 0)], -1)


def cells_of(X, index: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the values of CSR rows in sorted columns of their own, of the shape of ``columns``."""
    rows = X[index]
    n_features = np.int64(X.shape[1])
    owner = np.repeat(np.arange(len(index)), np.diff(rows.indptr))
    # Keys ascend over the whole array: columns ascend in a row, -1 at its end counts as the last.
    wanted = np.arange(len(index))[:, None] * (n_features + 1) + np.where(
        columns < 0, n_features, columns
    )
    place = np.searchsorted(wanted.ravel(), owner * (n_features + 1) + rows.indices)
    cells = np.zeros(columns.size)
    cells[place] = rows.data
    return cells.reshape(columns.shape)
