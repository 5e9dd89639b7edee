"""Gradients of the log-likelihood of CSR rows, found in the pass that adds it up.

They are those of `output.py`, worked out by hand but for what the likelihood does to single raw
outputs, which is left to autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from skae._kernels.columns import Columns
from skae._kernels.csr import Csr
from skae._kernels.last_layer import Chunk, Free, How, LastLayer
from skae._kernels.rows import row_gradient


class Gradients:
    """Gradients of the weighted sum of log-likelihoods, added up part by part.

    Those of parameters with a row for each column have, where columns are sampled, rows only for
    the columns that were drawn or are in use.
    """

    def __init__(self, layer: LastLayer, how: How):
        self.layer, self.how = layer, how
        self.scale = layer.likelihood.gradient_scale(**layer.free) if how.even else None
        self.columns = None  # the columns that have rows; None: all
        if how.columns is not None:
            used = layer.x.by_column.columns
            self.columns = torch.cat([used, how.columns.column]).unique()
        n_columns = layer.x.n_features if self.columns is None else len(self.columns)
        n_outputs, new = len(layer.weight), layer.hidden.new_zeros
        self.hidden = torch.zeros_like(layer.hidden)
        self.weight = new(n_outputs, n_columns, layer.hidden.shape[1])
        self.bias = new(n_outputs, n_columns)
        self.free = {n: new(min(len(v), n_columns)) for n, v in layer.free.items()}
        self.entry_raw = layer.entry_raw()
        self.own = None if how.columns is None else OwnEntries(layer.x, how.columns)

    def entry_sum(self, raw: Tensor, **free: Tensor) -> Tensor:
        """Return the weighted sum of what the stored entries add."""
        values = self.layer.entry_values(raw, **free)
        if self.own is not None:
            values = values + self.own.missing * self.layer.entry_zeros(raw, **free)
        return values @ self.how.row_weight[self.layer.x.rows]

    def chunk_sum(self, chunk: Chunk, raw: Tensor, **free: Tensor) -> Tensor:
        """Return the weighted sum of what a chunk of columns adds."""
        return self.layer.sums(chunk, raw, **free) @ self.how.row_weight

    def add_entries(self) -> Tensor:
        """Add the stored entries by two sparse products an output; return their sum."""
        layer, x = self.layer, self.layer.x
        if not len(x.values):
            return x.values.new_zeros(())
        free = layer.free_at(x.indices)
        value, d_raw, d_free = _differentiate(self.entry_sum, self.entry_raw, free)
        d_raw = d_raw.view(len(layer.weight), -1)
        if self.scale is not None:
            d_raw = d_raw * self.scale[x.indices]
        places = self._places(x.by_column.columns)
        for output, gradient in enumerate(d_raw):
            rows = x.with_values(gradient)
            self.hidden += rows.product(layer.weight[output])
            self.weight[output].index_add_(0, places, rows.transposed_product(layer.hidden))
            self.bias[output].index_add_(0, places, x.column_sums(gradient))
        sums = {n: g if len(g) == 1 else x.column_sums(g) for n, g in d_free.items()}
        self._add_free(sums, places)
        return value

    def add_columns(self) -> Tensor:
        """Add the sum over columns; return it."""
        sums = [
            self._add_chunk(chunk, raw, partial(self.chunk_sum, chunk))
            for chunk, raw in self._raws()
        ]
        return torch.stack(sums).sum()

    def of_parameters(self) -> list[Tensor]:
        """Return the gradients of hidden, weight, bias and the free parameters, in that order."""
        free = [g if len(g) == 1 else self._whole(g[None]) for g in self.free.values()]
        return [self.hidden, self._whole(self.weight), self._whole(self.bias), *free]

    def _raws(self) -> Iterable[tuple[Chunk, Tensor]]:
        return ((chunk, self.layer.raw(chunk)) for chunk in self.layer.chunks)

    def _add_chunk(self, chunk: Chunk, raw: Tensor, function: Callable) -> Tensor:
        layer, columns = self.layer, chunk.columns
        value, d_raw, d_free = _differentiate(function, raw, layer.free_at(columns))
        if self.scale is not None:
            d_raw = d_raw * self.scale[columns].repeat(len(layer.weight))
        places = self._places(columns)
        self.hidden.addmm_(d_raw, layer.weight_of(chunk))
        n_outputs = len(layer.weight)
        _add_at(self.weight, places, (d_raw.T @ layer.hidden).unflatten(0, (n_outputs, -1)))
        _add_at(self.bias, places, d_raw.sum(dim=0).view(n_outputs, -1))
        self._add_free(d_free, places)
        return value

    def _add_free(self, gradients: Free, places: Tensor | slice) -> None:
        for name, gradient in gradients.items():
            if len(self.layer.free[name]) == 1:
                self.free[name] += gradient
            else:
                _add_at(self.free[name][None], places, gradient[None])

    def _places(self, columns: Any) -> Any:
        """Return in which of the rows of the gradients columns (a tensor or a slice) stand."""
        if self.columns is None:
            return columns
        return torch.searchsorted(self.columns, columns)

    def _whole(self, gradient: Tensor) -> Tensor:
        """Return the gradient of a whole parameter, given (n_outputs, n_columns, ...)."""
        if self.columns is None:
            return gradient.flatten(0, 1)
        n_features = self.layer.x.n_features
        first = torch.arange(len(gradient), device=gradient.device) * n_features
        rows = (first[:, None] + self.columns).flatten()
        n_rows = len(gradient) * n_features
        return row_gradient(rows, gradient.flatten(0, 1), n_rows, self.how.row_gradients)


class SoftmaxGradients(Gradients):
    """The same where a softmax couples the columns.

    Once the log-sum-exp is known, minus the weighted sum of the shares of the columns has its
    gradient, and falls apart into chunks and entries as in the other case.
    """

    def __init__(self, layer: LastLayer, how: How):
        super().__init__(layer, how)
        self.raws = super()._raws()
        if len(layer.chunks) == 1:  # then raw outputs are worked out once
            self.raws = list(self.raws)
        parts = [self._weighted(chunk, raw).logsumexp(dim=1) for chunk, raw in self.raws]
        self.log_norm = torch.stack(parts).logsumexp(dim=0)
        if self.own is not None:
            self.log_norm = self.own.added(self.entry_raw[0], self.log_norm)
        self.row_factor = how.row_weight * layer.total[:, 0]

    def add_columns(self) -> Tensor:
        """Add the log-sum-exp; return minus the weighted sum of it."""
        super().add_columns()
        return -self.row_factor @ self.log_norm

    def chunk_sum(self, chunk, raw, **free):
        """Return minus the weighted sum of the shares of a chunk of columns."""
        share = (self._weighted(chunk, raw) - self.log_norm[:, None]).exp()
        return -self.row_factor @ share.sum(dim=1)

    def entry_sum(self, raw, **free):
        """Return the weighted sum of what entries add, and that of their shares with a minus.

        The shares are for the gradient only: their sum is taken out of the value.
        """
        values = self.layer.entry_values(raw, **free)
        value = values @ self.how.row_weight[self.layer.x.rows]
        if self.own is None:
            return value
        outside, rows = self.own.outside, self.own.rows_outside
        share = (raw[0, outside] - self.log_norm[rows]).exp() @ self.row_factor[rows]
        return value - (share - share.detach())

    def _raws(self):
        return self.raws if isinstance(self.raws, list) else super()._raws()

    def _weighted(self, chunk: Chunk, raw: Tensor) -> Tensor:
        return raw if self.own is None else raw + self.own.log_weights(cast(Tensor, chunk.weight))


class OwnEntries:
    """Which stored entries of rows lie in a sample of columns, and which do not.

    In the sum over columns of a row, those of its own entries are to count once. Where columns are
    summed, ``missing`` says how often each entry has still to be added; in a softmax, the ones in
    the sample have a weight of one there, and the others are added.
    """

    def __init__(self, x: Csr, columns: Columns):
        place = torch.searchsorted(columns.column, x.indices.long())
        place = place.clamp_(max=len(columns.column) - 1)
        inside = columns.column[place] == x.indices
        self.n_rows = len(x)
        self.missing = 1.0 - inside * columns.weight[place]
        self.rows_inside, self.places_inside = x.rows[inside], place[inside]
        self.outside = (~inside).nonzero()[:, 0]
        self.rows_outside = x.rows[self.outside]

    def log_weights(self, weight: Tensor) -> Tensor:
        """Return the logarithm of the weight of each column in each row, (n_rows, n_columns)."""
        result = weight.log().repeat(self.n_rows, 1)
        result[self.rows_inside, self.places_inside] = 0.0
        return result

    def added(self, raw: Tensor, log_norm: Tensor) -> Tensor:
        """Return the log-sum-exp of each row with the entries outside added to it."""
        # In double precision no such ratio overflows.
        ratio = (raw[self.outside] - log_norm[self.rows_outside]).double().exp()
        total = ratio.new_zeros(self.n_rows).index_add_(0, self.rows_outside, ratio)
        return log_norm + total.log1p().to(log_norm.dtype)


def _differentiate(function: Callable, raw: Tensor, free: Free) -> tuple[Tensor, Tensor, Free]:
    """Return a scalar function of raw outputs and free parameters, and its gradients."""
    with torch.enable_grad():
        raw = raw.detach().requires_grad_()
        free = {name: value.detach().requires_grad_() for name, value in free.items()}
        value = function(raw, **free).sum()
        found = torch.autograd.grad(value, [raw, *free.values()], allow_unused=True)
    d_free = {n: g for n, g in zip(free, found[1:], strict=True) if g is not None}
    return value.detach(), found[0], d_free


def _add_at(whole: Tensor, places: Tensor | slice, part: Tensor) -> None:
    """Add to the columns ``places`` of a gradient of shape (n_outputs, n_columns, ...)."""
    if isinstance(places, slice):
        whole[:, places] += part
    else:
        whole.index_add_(1, places, part)
