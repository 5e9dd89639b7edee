"""The first layer of an encoder on CSR rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from skae._kernels.csr import Csr
from skae._kernels.rows import row_gradient


class InputLayer(nn.Module):
    """A linear layer for CSR and for dense rows, whose weight has a row for each column of X.

    With CSR rows, forward and backward cost what their stored entries cost, and the gradient of the
    weight is zero but in the rows of the columns in use: it is then a sparse tensor of those rows
    where they are few.

    Parameters
    ----------
    weight : Tensor of shape (n_features, n_outputs)
    bias : Tensor of shape (n_outputs,) or None
    row_gradients : bool
        Whether the optimiser takes gradients of some rows.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, row_gradients: bool = False):
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias: Any = None if bias is None else nn.Parameter(bias)
        self.row_gradients = row_gradients

    @classmethod
    def from_linear(cls, layer: nn.Linear, row_gradients: bool = False) -> InputLayer:
        """Return a layer that computes what a dense layer does."""
        bias = None if layer.bias is None else layer.bias.detach().clone()
        made = cls(layer.weight.detach().T.contiguous(), bias, row_gradients)
        made.weight.requires_grad_(layer.weight.requires_grad)
        if layer.bias is not None:
            made.bias.requires_grad_(layer.bias.requires_grad)
        return made

    def to_linear(self) -> nn.Linear:
        """Return a dense layer that computes what this one does."""
        n_inputs, n_outputs = self.weight.shape
        made = nn.Linear(n_inputs, n_outputs, bias=self.bias is not None, device="meta")
        made.weight = nn.Parameter(self.weight.detach().T.contiguous(), self.weight.requires_grad)
        if self.bias is not None:
            made.bias = nn.Parameter(self.bias.detach().clone(), self.bias.requires_grad)
        return made

    def forward(self, x: Tensor | Csr) -> Tensor:
        """Return the outputs, of shape (n_rows, n_outputs)."""
        if isinstance(x, Csr):
            product = _Product.apply(self.weight, x, self.row_gradients)
        else:
            product = x @ self.weight
        return product if self.bias is None else product + self.bias


class _Product(torch.autograd.Function):
    """``X @ weight``; the gradient is ``X.T @ upstream`` in the columns in use."""

    @staticmethod
    def forward(ctx, weight, x, row_gradients):
        ctx.x, ctx.n_rows, ctx.row_gradients = x, len(weight), row_gradients
        return x.product(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream):
        values = ctx.x.transposed_product(upstream.contiguous())
        rows = ctx.x.by_column.columns
        return row_gradient(rows, values, ctx.n_rows, ctx.row_gradients), None, None
