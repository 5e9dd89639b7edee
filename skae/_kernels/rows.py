"""Gradients that are zero in most rows of a parameter."""

from __future__ import annotations

import torch
from torch import Tensor

# With more rows than this share, an optimiser that goes through all of them is faster: memory is
# read in a stream, where single rows are looked up (`benchmarks/sparse_scaling.py --optimizer`).
MOST_ROWS = 0.15


def row_gradient(rows: Tensor, values: Tensor, n_rows: int, allowed: bool) -> Tensor:
    """Return a gradient of ``n_rows`` rows from some of them, each named once.

    A sparse tensor where it is allowed and the rows are few, else a dense one.
    """
    shape = (n_rows, *values.shape[1:])
    if allowed and few(len(rows), n_rows):
        return torch.sparse_coo_tensor(
            rows[None], values, shape, is_coalesced=True, check_invariants=False
        )
    return values.new_zeros(shape).index_copy_(0, rows, values)


def few(n: int, n_rows: int) -> bool:
    """Return whether ``n`` rows of ``n_rows`` are few."""
    return n < MOST_ROWS * n_rows
