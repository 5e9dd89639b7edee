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
logarithm of a sum that they seldom are in hardly loses. (Sampled softmax has the same rule: see
`TrueClasses`.) `raw_gradients.py` has the gradients of both. Squared errors need neither: see
`gram.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from skae._kernels.csr import Csr
from skae._kernels.gram import gaussian_loss
from skae._kernels.last_layer import LastLayer, LastLayerInputs, LossOptions
from skae._kernels.parameter_gradients import ParameterGradients
from skae._kernels.raw_gradients import independent_columns, softmax_columns
from skae._kernels.rows import stored


def csr_loss(x: Csr, inputs: LastLayerInputs, options: LossOptions) -> Tensor:
    """Return minus the weighted sum of the log-likelihoods of rows, a scalar, in nats."""
    hidden, layer, likelihood, free, _ = inputs
    if not torch.is_grad_enabled():  # the gradients are most of the work
        return -(_log_likelihood(x, inputs) @ options.row_weight)
    if likelihood.structure == "squared_error":
        return gaussian_loss(x, inputs, options)
    return _Loss.apply(hidden, layer.weight, layer.bias, x, inputs, options, *free.values())


def csr_log_likelihood(
    x: Csr, inputs: LastLayerInputs, options: LossOptions | None = None
) -> Tensor:
    """Return the exact log-likelihood of each row, of shape (n_rows,), in nats.

    It has a gradient where ``options`` say of which kind, whose ``row_weight`` is not looked at.
    That costs a pass over the columns more than `csr_loss`: until all values are known nobody can
    say how much each row counts.
    """
    if options is None or not torch.is_grad_enabled():
        return _log_likelihood(x, inputs)
    hidden, layer, _, free, _ = inputs
    return _Rows.apply(hidden, layer.weight, layer.bias, x, inputs, options, *free.values())


@torch.no_grad()
def _log_likelihood(x: Csr, inputs: LastLayerInputs) -> Tensor:
    layer = LastLayer(x, inputs)
    entries = layer.entry_log_prob(layer.entry_raw(), **layer.free_at(x.indices))
    result = x.row_sums(entries)
    raws = ((columns, layer.raw(columns)) for columns in layer.chunks())
    if inputs.likelihood.structure == "softmax":
        norms = [raw.logsumexp(dim=1) for _, raw in raws]
        return result - inputs.total[:, 0] * torch.stack(norms).logsumexp(dim=0)
    return result + sum(
        layer.log_prob_zero(raw, **layer.free_at(columns)).sum(dim=1) for columns, raw in raws
    )


class _Loss(torch.autograd.Function):
    """The loss; its gradients are found in the same pass over the columns."""

    @staticmethod
    def forward(ctx, hidden, weight, bias, x, inputs, options, *free):
        layer = LastLayer(x, inputs)
        gradients = ParameterGradients(layer, options)
        softmax = inputs.likelihood.structure == "softmax"
        add = softmax_columns if softmax else independent_columns
        value = add(layer, options, gradients)
        ctx.gradients = gradients.of_parameters()
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


class _Rows(torch.autograd.Function):
    """The log-likelihood of each row; its gradient is that of the sum with the weights upstream."""

    @staticmethod
    def forward(ctx, hidden, weight, bias, x, inputs, options, *free):
        ctx.x, ctx.inputs, ctx.options = x, inputs, options
        return _log_likelihood(x, inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream):
        inputs = ctx.inputs
        with torch.enable_grad():
            hidden = inputs.hidden.detach().requires_grad_()
            free = {name: value.detach().requires_grad_() for name, value in inputs.free.items()}
            loss = _weighted_loss(ctx, inputs._replace(hidden=hidden, free=free), upstream)
        given = [hidden, inputs.layer.weight, inputs.layer.bias, None, None, None, *free.values()]
        places = [place for place, needed in enumerate(ctx.needs_input_grad) if needed]
        found = torch.autograd.grad(loss, [given[place] for place in places], allow_unused=True)
        gradients = dict(zip(places, found, strict=True))
        return tuple(map(gradients.get, range(len(given))))


def _weighted_loss(ctx, inputs: LastLayerInputs, upstream: Tensor) -> Tensor:
    """Return the sum of the log-likelihoods of rows, each times what came from above."""
    # A loss is for weights that are not negative. Where all are zero, so is the gradient.
    signs = [sign for sign in (1.0, -1.0) if (sign * upstream < 0).any()] or [1.0]
    loss = inputs.hidden.new_zeros(())
    for sign in signs:
        options = ctx.options._replace(row_weight=(-sign * upstream).clamp_min(0.0))
        loss = loss + sign * csr_loss(ctx.x, inputs, options)
    return loss
