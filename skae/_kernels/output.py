r"""The last layer of a decoder and its likelihood on CSR rows, without a dense row.

For a raw output :math:`r = W h + b` the log-probability of a row falls apart into what its stored
entries add, and a sum over all columns that does not see them:

.. math::

    \log p(x | r) = \sum_{j : x_j \ne 0} [\log p(x_j | r_j) - \log p(0 | r_j)]
    + \sum_j \log p(0 | r_j)

The first sum costs the stored entries. The second is worked out in chunks of columns, or estimated
from some of them (`columns.py`). Where a softmax couples the columns, it is minus the total of the
row times a log-sum-exp instead. Columns in which a row has an entry are never left to the sample:
their part of the second sum is exact. The estimate is then less noisy; and where a softmax couples
the columns, raw outputs would grow without limit otherwise, for the first sum gains by them and the
logarithm of a sum that they seldom are in hardly loses. Squared errors need neither: see `gram.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from skae._kernels.csr import Csr
from skae._kernels.gradients import Gradients, SoftmaxGradients
from skae._kernels.gram import gaussian_loss
from skae._kernels.last_layer import Decoded, How, LastLayer
from skae._kernels.rows import stored


def csr_loss(x: Csr, decoded: Decoded, how: How) -> Tensor:
    """Return minus the weighted sum of the log-likelihoods of rows, a scalar, in nats."""
    hidden, layer, likelihood, free, _ = decoded
    if not torch.is_grad_enabled():  # the gradients are most of the work
        return -(csr_log_likelihood(x, decoded) @ how.row_weight)
    if likelihood.squared_error:
        return gaussian_loss(x, hidden, layer, likelihood, free, how.row_weight, how.even)
    return _Loss.apply(hidden, layer.weight, layer.bias, x, decoded, how, *free.values())


@torch.no_grad()
def csr_log_likelihood(x: Csr, decoded: Decoded) -> Tensor:
    """Return the exact log-likelihood of each row, of shape (n_rows,), in nats."""
    layer = LastLayer(x, decoded)
    result = x.row_sums(layer.entry_scores())
    raws = ((chunk, layer.raw(chunk)) for chunk in layer.chunks)
    if decoded.likelihood.softmax:
        norms = [raw.logsumexp(dim=1) for _, raw in raws]
        return result - decoded.total[:, 0] * torch.stack(norms).logsumexp(dim=0)
    return result + sum(
        layer.sums(chunk, raw, **layer.free_at(chunk.columns)) for chunk, raw in raws
    )


class _Loss(torch.autograd.Function):
    """The loss; its gradients are found in the same pass over the columns."""

    @staticmethod
    def forward(ctx, hidden, weight, bias, x, decoded, how, *free):
        kind = SoftmaxGradients if decoded.likelihood.softmax else Gradients
        work = kind(LastLayer(x, decoded, how.columns), how)
        value = work.add_columns() + work.add_entries()
        ctx.gradients = work.of_parameters()
        return -value

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream):
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            raise RuntimeError("The loss of CSR rows can be differentiated once only.")
        for gradient in gradients:
            # In place: a copy of a large gradient costs more than the rest of the step.
            (stored(gradient)[1] if gradient.is_sparse else gradient).mul_(-upstream)
        hidden, weight, bias, *free = gradients
        return hidden, weight, bias, None, None, None, *free
