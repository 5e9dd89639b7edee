"""Raw outputs of the last layer of a decoder: at stored entries, and in chunks of columns.

Shapes: ``hidden`` is (n_rows, n_hidden); weight and bias of the layer have n_outputs * n_features
rows, all features of the first output before those of the second. In here they are seen as
(n_outputs, n_features, ...).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from skae._kernels.columns import Columns
from skae._kernels.csr import Csr

# Columns that are worked on at once: with some hundred rows, so many that their raw outputs stay in
# the cache of a processor. The number depends on nothing, and so not on the rows beside a row.
_COLUMNS_PER_CHUNK = 4096

Free = dict[str, Tensor]  # free parameters of a likelihood, of shape (n_features,) or (1,)


class Decoded(NamedTuple):
    """What the likelihood of rows depends on beside them."""

    hidden: Tensor  # (n_rows, n_hidden), what the last layer sees
    layer: nn.Linear
    likelihood: Any
    free: Free
    total: Any  # Tensor of shape (n_rows, 1); None where the likelihood does not ask for it


class How(NamedTuple):
    """How a loss is computed."""

    row_weight: Tensor  # (n_rows,), weight of each row in the sum
    columns: Columns | None = None  # estimate the sum over all columns from these
    even: bool = False  # let gradients count errors alike in every column
    row_gradients: bool = False  # whether the optimiser takes gradients of some rows


class Chunk(NamedTuple):
    """Columns that are worked on at once."""

    columns: slice | Tensor
    weight: Tensor | None = None  # (n_chunk,), how much each counts for; None: once


class LastLayer:
    """Raw outputs and log-probabilities of stored entries, and of chunks of columns."""

    def __init__(self, x: Csr, decoded: Decoded, columns: Columns | None = None):
        self.x, (self.hidden, layer, self.likelihood, self.free, self.total) = x, decoded
        shape = (self.likelihood.n_outputs, x.n_features)
        self.weight = layer.weight.detach().view(*shape, -1)
        self.bias = layer.bias.detach().view(shape)
        self.chunks = list(_chunks(x.n_features, columns))

    def free_at(self, columns: Tensor | slice) -> Free:
        """Return the free parameters of some columns."""
        return {n: v if len(v) == 1 else v[columns] for n, v in self.free.items()}

    def entry_raw(self) -> Tensor:
        """Return the raw outputs of the stored entries, (1, n_outputs * n_stored)."""
        dots = [self.x.dots(self.hidden, weight) for weight in self.weight]
        return (torch.stack(dots) + self.bias[:, self.x.indices]).view(1, -1)

    def entry_values(self, raw: Tensor, **free: Tensor) -> Tensor:
        """Return what the stored entries add, (1, n_stored)."""
        if self.total is not None:
            free["total"] = self.total[self.x.rows, 0][None]
        return self.likelihood.log_prob_entry(self.x.values[None], raw, **free)

    def entry_scores(self) -> Tensor:
        """Return what each stored entry adds, (n_stored,)."""
        return self.entry_values(self.entry_raw(), **self.free_at(self.x.indices))[0]

    def entry_zeros(self, raw: Tensor, **free: Tensor) -> Tensor:
        """Return log p(0 | r) at the stored entries, (1, n_stored)."""
        if self.total is not None:
            free["total"] = self.total[self.x.rows, 0][None]
        return self.likelihood.log_prob_zero(raw, **free)

    def weight_of(self, chunk: Chunk) -> Tensor:
        """Return the weights of the columns of a chunk, (n_outputs * n_chunk, n_hidden)."""
        return self.weight[:, chunk.columns].flatten(0, 1)

    def raw(self, chunk: Chunk) -> Tensor:
        """Return the raw outputs of a chunk, (n_rows, n_outputs * n_chunk)."""
        bias = self.bias[:, chunk.columns].flatten()
        return torch.addmm(bias, self.hidden, self.weight_of(chunk).T)

    def sums(self, chunk: Chunk, raw: Tensor, **free: Tensor) -> Tensor:
        """Return the sum of log p(0 | r) over the columns of a chunk, (n_rows,)."""
        if self.total is not None:
            free["total"] = self.total
        zero = self.likelihood.log_prob_zero(raw, **free)
        return zero.sum(dim=1) if chunk.weight is None else zero @ chunk.weight


def _chunks(n_features: int, columns: Columns | None) -> Iterator[Chunk]:
    if columns is not None:
        yield Chunk(*columns)
        return
    for start in range(0, n_features, _COLUMNS_PER_CHUNK):
        yield Chunk(slice(start, min(start + _COLUMNS_PER_CHUNK, n_features)))
