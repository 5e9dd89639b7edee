"""Gradients that are zero in most rows of a parameter."""

from __future__ import annotations

import torch
from torch import Tensor


def row_gradient(rows: Tensor, values: Tensor, n_rows: int, sparse: bool) -> Tensor:
    """Return a gradient of ``n_rows`` rows from some of them, each named once.

    A sparse tensor where the optimiser takes one, else a dense one.
    """
    shape = (n_rows, *values.shape[1:])
    if sparse:
        return torch.sparse_coo_tensor(
            rows[None], values, shape, is_coalesced=True, check_invariants=False
        )
    return values.new_zeros(shape).index_copy_(0, rows, values)
