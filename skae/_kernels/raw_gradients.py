r"""The log-likelihood of CSR rows as a function of raw outputs: its value and its gradient.

Row i counts :math:`a_i` times, and :math:`e(x, r) = \log p(x | r) - \log p(0 | r)` is what a stored
entry adds to a row of zeros. All below is the gradient of the log-likelihood; the loss is minus it.

**Independent columns.** With :math:`z(r) = \log p(0 | r)`,

.. math::

    L = \sum_i a_i \Big[ \sum_{j : x_{ij} \ne 0} e(x_{ij}, r_{ij}) + \sum_j c_{ij} z(r_{ij}) \Big],
    \qquad
    \frac{\partial L}{\partial r_{ij}}
    = a_i \big[ [x_{ij} \ne 0] \, e'(x_{ij}, r_{ij}) + c_{ij} z'(r_{ij}) \big]

**A softmax.** With :math:`n_i` the total of row i and :math:`Z_i = \sum_j c_{ij} e^{r_{ij}}`,

.. math::

    L = \sum_i a_i \Big[ \sum_{j : x_{ij} \ne 0} e(x_{ij}, r_{ij}) - n_i \log Z_i \Big],
    \qquad
    \frac{\partial L}{\partial r_{ij}}
    = a_i \big[ [x_{ij} \ne 0] \, e'(x_{ij}, r_{ij}) - n_i c_{ij} e^{r_{ij}} / Z_i \big]

**How often a column counts.** Where all columns are looked at, :math:`c_{ij} = 1`. In a sample,
:math:`c_{ij} = 1 / \pi_j` for a column that was drawn with probability :math:`\pi_j`, 0 for the
others, and 1 for the columns in which row i has an entry, drawn or not (`TrueClasses`).

The derivatives e' and z' of a likelihood are left to autograd, a chunk of columns at a time; the
rest is as above. Each function hands the gradient, a dense part for each chunk and a sparse one at
the stored entries, to `ParameterGradients`, and returns L.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from skae._kernels.columns import TrueClasses
from skae._kernels.last_layer import Free, LastLayer, LossOptions
from skae._kernels.parameter_gradients import ParameterGradients


def independent_columns(
    layer: LastLayer, options: LossOptions, gradients: ParameterGradients
) -> Tensor:
    """Add the gradients where the log-likelihood of a row is a sum over columns; return L."""
    x, sample, row_weight = layer.x, options.columns, options.row_weight
    true_classes = None if sample is None else TrueClasses(x, sample)

    def of_columns(raw: Tensor, **free: Tensor) -> Tensor:
        zero = layer.log_prob_zero(raw, **free)
        return (zero.sum(dim=1) if sample is None else zero @ sample.weight) @ row_weight

    def of_entries(raw: Tensor, **free: Tensor) -> Tensor:
        added = layer.entry_log_prob(raw, **free)
        if true_classes is not None:
            added = added + true_classes.correction * layer.entry_log_prob_zero(raw, **free)
        return added @ row_weight[x.rows]

    values = []
    for columns in layer.chunks(sample):
        free = layer.free_at(columns)
        value, d_raw, d_free = _differentiate(of_columns, layer.raw(columns), free)
        gradients.add_columns(columns, d_raw, d_free)
        values.append(value)
    free = layer.free_at(x.indices)
    value, d_raw, d_free = _differentiate(of_entries, layer.entry_raw(), free)
    gradients.add_entries(d_raw, d_free)
    return torch.stack(values).sum() + value


def softmax_columns(
    layer: LastLayer, options: LossOptions, gradients: ParameterGradients
) -> Tensor:
    """Add the gradients where a softmax couples the columns; return L."""
    x, sample, row_weight = layer.x, options.columns, options.row_weight
    true_classes = None if sample is None else TrueClasses(x, sample)
    chunks, entry_raw = layer.chunks(sample), layer.entry_raw()

    def logits(columns: Tensor | slice) -> Tensor:  # log(c e^r)
        raw = layer.raw(columns)
        return raw if true_classes is None else raw + true_classes.log_weight()

    def of_entries(raw: Tensor, **free: Tensor) -> Tensor:
        return layer.entry_log_prob(raw, **free) @ row_weight[x.rows]

    # Several chunks are worked out again, for log Z must be known before the gradient.
    kept = logits(chunks[0]) if len(chunks) == 1 else None
    parts = [(logits(c) if kept is None else kept).logsumexp(dim=1) for c in chunks]
    log_norm = torch.stack(parts).logsumexp(dim=0)
    if true_classes is not None:
        log_norm = true_classes.with_entries_outside(log_norm, entry_raw[0])
    row_factor = row_weight * layer.total[:, 0]
    for columns in chunks:
        share = ((logits(columns) if kept is None else kept) - log_norm[:, None]).exp()
        gradients.add_columns(columns, -row_factor[:, None] * share, {})
    value, d_raw, d_free = _differentiate(of_entries, entry_raw, layer.free_at(x.indices))
    if true_classes is not None:
        outside, rows = true_classes.outside, true_classes.rows_outside
        of_norm = torch.zeros_like(d_raw)
        of_norm[0, outside] = row_factor[rows] * (entry_raw[0, outside] - log_norm[rows]).exp()
        d_raw = d_raw - of_norm
    gradients.add_entries(d_raw, d_free)
    return value - row_factor @ log_norm


def _differentiate(function: Callable, raw: Tensor, free: Free) -> tuple[Tensor, Tensor, Free]:
    """Return a scalar function of raw outputs and free parameters, and its gradients."""
    with torch.enable_grad():
        raw = raw.detach().requires_grad_()
        free = {name: value.detach().requires_grad_() for name, value in free.items()}
        value = function(raw, **free)
        found = torch.autograd.grad(value, [raw, *free.values()], allow_unused=True)
    d_free = {n: g for n, g in zip(free, found[1:], strict=True) if g is not None}
    return value.detach(), found[0], d_free
