r"""Squared errors of CSR rows, summed over all columns through the Gram matrix of the hidden rows.

With raw output :math:`r = W h + b`, row weights :math:`a_i` and :math:`M = \sum_i a_i h_i h_i^T`,
the squared error of column j over a batch is

.. math::

    s_j = \sum_i a_i (x_{ij} - r_{ij})^2
    = w_j^T M w_j + 2 b_j \bar h^T w_j + \bar a b_j^2
    - 2 \sum_i a_i x_{ij} r_{ij} + \sum_i a_i x_{ij}^2

with :math:`\bar h = \sum_i a_i h_i` and :math:`\bar a = \sum_i a_i`. The last two sums cost the
stored entries, the others a product of W with a matrix of n_hidden x n_hidden, however many rows
there are. The idea is that of Vincent, de Brebisson and Bouthillier (2015), "Efficient exact
gradient update for training deep networks with very large sparse targets", equation 4.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from skae._kernels.csr import Csr
from skae._kernels.last_layer import LastLayerInputs, LossOptions

# Columns that are worked on at once, so that what they need stays in the cache of a processor.
_CELLS_PER_CHUNK = 2**20
_LOG_TWO_PI = math.log(2.0 * math.pi)


def gaussian_loss(x: Csr, inputs: LastLayerInputs, options: LossOptions) -> Tensor:
    """Return minus the weighted sum of the Gaussian log-likelihoods of rows, in nats.

    A variance-weighted gradient is one for hidden, weight and bias; that of the noise is as it is.
    """
    hidden, layer, likelihood, free, _ = inputs
    row_weight = options.row_weight
    variance = likelihood.noise_variance(**free)
    scale = likelihood.variance_weight(**free) if options.variance_weighted else None
    errors = _SquaredErrors.apply(hidden, layer.weight, layer.bias, x, row_weight, scale)
    constant = row_weight.sum() * (variance.log() + _LOG_TWO_PI)
    return 0.5 * (constant + errors / variance).sum()


class _SquaredErrors(torch.autograd.Function):
    """The weighted squared error of each column, of shape (n_features,)."""

    @staticmethod
    def forward(ctx, hidden, weight, bias, x, row_weight, scale):
        weighted = hidden * row_weight[:, None]
        moment, mean, total = weighted.T @ hidden, weighted.sum(dim=0), row_weight.sum()
        projected = torch.empty_like(weight)  # W M, and in backward the gradient of the weight
        linear = weight @ mean
        errors = 2 * bias * linear + total * bias.square()
        for part in _chunks(weight):
            torch.mm(weight[part], moment, out=projected[part])
            errors[part] += (projected[part] * weight[part]).sum(dim=1)
        used = x.by_column.columns
        entry_weight = row_weight[x.rows]
        cross = x.with_values(x.values * entry_weight).transposed_product(hidden)
        ones = x.column_sums(x.values * entry_weight)
        squares = x.column_sums(x.values.square() * entry_weight)
        crossed = (cross * weight[used]).sum(dim=1) + ones * bias[used]
        errors.index_add_(0, used, squares - 2 * crossed)
        ctx.x, ctx.scale = x, scale
        ctx.save_for_backward(hidden, weight, bias, row_weight, projected)
        ctx.sums = mean, total, linear, cross, ones
        return errors.clamp_min_(0.0)

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream):
        hidden, weight, bias, row_weight, projected = ctx.saved_tensors
        mean, total, linear, cross, ones = ctx.sums
        x, used = ctx.x, ctx.x.by_column.columns
        twice = 2 * upstream if ctx.scale is None else 2 * upstream * ctx.scale
        gram = hidden.new_zeros(hidden.shape[1], hidden.shape[1])
        for part in _chunks(weight):
            factor = twice[part, None]
            gram.addmm_(weight[part].T, weight[part] * factor)
            projected[part] += bias[part, None] * mean
            projected[part] *= factor
        projected.index_add_(0, used, cross * twice[used, None], alpha=-1)
        d_bias = twice * (linear + total * bias)
        d_bias.index_add_(0, used, ones * twice[used], alpha=-1)
        rows = x.with_values(x.values * twice[x.indices]).product(weight)
        d_hidden = (hidden @ gram + (twice * bias) @ weight - rows) * row_weight[:, None]
        return d_hidden, projected, d_bias, None, None, None


def _chunks(weight: Tensor) -> Iterator[slice]:
    step = max(1, _CELLS_PER_CHUNK // weight.shape[1])
    for start in range(0, len(weight), step):
        yield slice(start, start + step)
