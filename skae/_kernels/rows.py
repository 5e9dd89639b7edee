"""Gradients that are zero in most rows of a parameter."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class ColumnSquares(torch.autograd.Function):
    """An estimate of the squared norm of each column of a weight, from some of its rows.

    Row j counts ``row_weight[j]`` times. The gradient has these rows alone.
    """

    @staticmethod
    def forward(ctx, weight, rows, row_weight, sparse):
        part = weight[rows]
        ctx.save_for_backward(rows, part, row_weight)
        ctx.n_rows, ctx.sparse = len(weight), sparse
        return row_weight @ part.square()

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream):
        rows, part, row_weight = ctx.saved_tensors
        values = 2.0 * upstream * part * row_weight[:, None]
        return row_gradient(rows, values, ctx.n_rows, ctx.sparse), None, None, None


def stored(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows of a sparse gradient as they are stored, and their values, not copied.

    By torch's private names: `indices` and `values` want a gradient to be coalesced, and autograd
    forgets that one is.
    """
    return gradient._indices()[0], gradient._values()


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
