"""The last layer of a decoder on CSR rows: raw outputs and what the likelihood says of them.

At the stored entries, and in chunks of columns. Shapes: ``hidden`` is (n_rows, n_hidden); weight
and bias of the layer have n_outputs * n_features rows, all features of the first output before
those of the second. In here they are seen as (n_outputs, n_features, ...).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from skae._kernels.columns import Columns
from skae._kernels.csr import Csr
from skae._validation import of_shape

# Columns that are worked on at once: with some hundred rows, so many that their raw outputs stay in
# the cache of a processor. The number depends on nothing, and so not on the rows beside a row.
_COLUMNS_PER_CHUNK = 4096

Free = dict[str, Tensor]  # free parameters of a likelihood, of shape (n_features,) or (1,)


class LastLayerInputs(NamedTuple):
    """What, beside the rows themselves, their log-likelihood is computed from."""

    hidden: Tensor  # (n_rows, n_hidden), the inputs of the last layer
    layer: nn.Linear
    likelihood: Any
    free: Free
    total: Any  # Tensor of shape (n_rows, 1); None where the likelihood does not ask for it


class LossOptions(NamedTuple):
    """How a loss and its gradients are computed."""

    row_weight: Tensor  # (n_rows,), weight of each row in the sum
    columns: Columns | None = None  # a sample that stands for all columns; None: take them all
    variance_weighted: bool = False  # multiply the gradient for raw by `variance_weight`
    row_gradients: bool = False  # whether the optimiser takes gradients of some rows


class LastLayer:
    """Raw outputs, and the log-probabilities that the likelihood gives for them."""

    def __init__(self, x: Csr, inputs: LastLayerInputs):
        self.x, (self.hidden, layer, self.likelihood, self.free, self.total) = x, inputs
        shape = (self.likelihood.n_outputs, x.n_features)
        self.weight = layer.weight.detach().view(*shape, -1)
        self.bias = layer.bias.detach().view(shape)
        self._gathered: tuple[Any, Any] = (None, None)  # columns, and their weights

    def free_at(self, columns: Tensor | slice) -> Free:
        """Return the free parameters of some columns."""
        return {n: v if len(v) == 1 else v[columns] for n, v in self.free.items()}

    # At the stored entries ------------------------------------------------------------------------

    def entry_raw(self) -> Tensor:
        """Return the raw outputs at the stored entries, (n_outputs, n_stored)."""
        dots = [self.x.dots(self.hidden, weight) for weight in self.weight]
        return torch.stack(dots) + self.bias[:, self.x.indices]

    def entry_log_prob(self, raw: Tensor, **free: Tensor) -> Tensor:
        """Return log p(x | r) - log p(0 | r) at the stored entries, (n_stored,)."""
        x, raw = self.x.values[None], raw.view(1, -1)
        found = self.likelihood.log_prob_entry(x, raw, **free, **self._entry_total())
        return of_shape(found, x.shape, self.likelihood, "log_prob_entry")[0]

    def entry_log_prob_zero(self, raw: Tensor, **free: Tensor) -> Tensor:
        """Return log p(0 | r) at the stored entries, (n_stored,)."""
        found = self.likelihood.log_prob_zero(raw.view(1, -1), **free, **self._entry_total())
        return of_shape(found, (1, len(self.x.values)), self.likelihood, "log_prob_zero")[0]

    def _entry_total(self) -> dict[str, Tensor]:
        """Return the totals for a list of entries, which likelihoods take for one row."""
        return {} if self.total is None else {"total": self.total[self.x.rows, 0][None]}

    # In some columns ------------------------------------------------------------------------------

    def chunks(self, sample: Columns | None = None) -> list[slice | Tensor]:
        """Return the columns that are worked on at once: parts of all, or a sample as it is."""
        if sample is not None:
            return [sample.column]
        n, step = self.x.n_features, _COLUMNS_PER_CHUNK
        return [slice(start, min(start + step, n)) for start in range(0, n, step)]

    def weight_of(self, columns: Tensor | slice) -> Tensor:
        """Return the weights of some columns, (n_outputs * n_columns, n_hidden)."""
        # A sample is a copy, and asked for again by the gradient.
        if self._gathered[0] is not columns:
            self._gathered = columns, self.weight[:, columns].flatten(0, 1)
        return self._gathered[1]

    def raw(self, columns: Tensor | slice) -> Tensor:
        """Return the raw outputs in some columns, (n_rows, n_outputs * n_columns)."""
        bias = self.bias[:, columns].flatten()
        return torch.addmm(bias, self.hidden, self.weight_of(columns).T)

    def log_prob_zero(self, raw: Tensor, **free: Tensor) -> Tensor:
        """Return log p(0 | r) in some columns, (n_rows, n_columns)."""
        given = {} if self.total is None else {"total": self.total}
        found = self.likelihood.log_prob_zero(raw, **free, **given)
        shape = (len(raw), raw.shape[1] // self.likelihood.n_outputs)
        return of_shape(found, shape, self.likelihood, "log_prob_zero")
