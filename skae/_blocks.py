"""Rows a block at a time, so that what is made of them needs no memory that grows with the table.

There is one budget for all blocks that may have any size. Two kinds of blocks are not made here,
because their shape decides how a processor rounds, and so may depend on nothing: the rows of an
answer (`_training/inference.py`) and the columns of a loss (`_kernels/`).
"""

from __future__ import annotations

from collections.abc import Iterator

import scipy.sparse as sp
from sklearn import get_config

# 2 MiB in double precision, about the cache of a core: nothing is faster with more
# (docs/architecture.md has the figures).
_MOST_CELLS = 2**18


def cell_budget() -> int:
    """Return how many cells may be worked on at once, at least 1.

    A quarter of a million, or as many as scikit-learn's setting ``working_memory`` (in MiB) holds
    in double precision, if these are fewer.
    """
    return max(1, min(_MOST_CELLS, int(get_config()["working_memory"] * 2**20 / 8)))


def rows_per_block(cells_per_row: float, multiple: int = 1) -> int:
    """Return how many rows may be worked on at once.

    Parameters
    ----------
    cells_per_row : float
        Cells that are made of a row. 0 counts as 1.
    multiple : int, default=1
        Rows that are worked on together in any case: the result is a multiple of it, and no less
        even if that is more than the budget.
    """
    return max(1, int(cell_budget() / (max(1, cells_per_row) * multiple))) * multiple


def row_blocks(n_rows: int, cells_per_row: float, multiple: int = 1) -> Iterator[slice]:
    """Yield slices of all rows, in order, of `rows_per_block` rows; the last may be shorter."""
    return slices(n_rows, rows_per_block(cells_per_row, multiple))


def slices(n: int, step: int) -> Iterator[slice]:
    """Yield slices of at most ``step`` out of ``n``, in order."""
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def cells_per_row(X) -> float:
    """Return the columns of a dense table, the mean number of stored entries of a row of CSR."""
    return X.nnz / max(1, X.shape[0]) if sp.issparse(X) else X.shape[1]
