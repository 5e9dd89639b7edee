r"""From the gradient for raw outputs to the gradients for what they are made of.

With :math:`r_{ij} = w_j^T h_i + b_j` and :math:`D_{ij} = \partial L / \partial r_{ij}`
(`raw_gradients.py`),

.. math::

    \frac{\partial L}{\partial h_i} = \sum_j D_{ij} w_j, \qquad
    \frac{\partial L}{\partial w_j} = \sum_i D_{ij} h_i, \qquad
    \frac{\partial L}{\partial b_j} = \sum_i D_{ij}

summed over outputs where a column has several. D comes as dense chunks of columns and as a sparse
part at the stored entries; each is added to the gradients and forgotten. A variance-weighted
gradient has :math:`s_j D_{ij}` in its place, with :math:`s_j` the `variance_weight` of the
likelihood; the gradients for its free parameters are not weighted.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from skae._kernels.last_layer import Free, LastLayer, LossOptions
from skae._kernels.rows import row_gradient


class ParameterGradients:
    """Gradients for the hidden rows, weight, bias and free parameters, added up part by part.

    Those of parameters with a row for each column have, where columns are sampled, rows only for
    the columns that were drawn or are in use.
    """

    def __init__(self, layer: LastLayer, options: LossOptions):
        self.layer, self.row_gradients = layer, options.row_gradients
        self.variance_weight = None
        if options.variance_weighted:
            self.variance_weight = layer.likelihood.variance_weight(**layer.free)
        self.columns = None  # the columns that have rows; None: all
        if options.columns is not None:
            used = layer.x.by_column.columns
            self.columns = torch.cat([used, options.columns.column]).unique()
        n_columns = layer.x.n_features if self.columns is None else len(self.columns)
        n_outputs, new = len(layer.weight), layer.hidden.new_zeros
        self.hidden = torch.zeros_like(layer.hidden)
        self.weight = new(n_outputs, n_columns, layer.hidden.shape[1])
        self.bias = new(n_outputs, n_columns)
        self.free = {n: new(min(len(v), n_columns)) for n, v in layer.free.items()}

    def add_columns(self, columns: Tensor | slice, d_raw: Tensor, d_free: Free) -> None:
        """Add the part of some columns: d_raw of shape (n_rows, n_outputs * n_columns)."""
        layer, n_outputs = self.layer, len(self.layer.weight)
        if self.variance_weight is not None:
            d_raw = d_raw * self.variance_weight[columns].repeat(n_outputs)
        places = self._places(columns)
        self.hidden.addmm_(d_raw, layer.weight_of(columns))
        _add_at(self.weight, places, (d_raw.T @ layer.hidden).unflatten(0, (n_outputs, -1)))
        _add_at(self.bias, places, d_raw.sum(dim=0).view(n_outputs, -1))
        self._add_free(d_free, places)

    def add_entries(self, d_raw: Tensor, d_free: Free) -> None:
        """Add the part of the stored entries: d_raw (n_outputs, n_stored), d_free (n_stored,).

        It takes two sparse products an output.
        """
        layer, x = self.layer, self.layer.x
        if not len(x.values):
            return
        if self.variance_weight is not None:
            d_raw = d_raw * self.variance_weight[x.indices]
        places = self._places(x.by_column.columns)
        for output, gradient in enumerate(d_raw):
            rows = x.with_values(gradient)
            self.hidden += rows.product(layer.weight[output])
            self.weight[output].index_add_(0, places, rows.transposed_product(layer.hidden))
            self.bias[output].index_add_(0, places, x.column_sums(gradient))
        sums = {n: g if len(g) == 1 else x.column_sums(g) for n, g in d_free.items()}
        self._add_free(sums, places)

    def of_parameters(self) -> list[Tensor]:
        """Return the gradients of hidden, weight, bias and the free parameters, in that order."""
        free = [g if len(g) == 1 else self._whole(g[None]) for g in self.free.values()]
        return [self.hidden, self._whole(self.weight), self._whole(self.bias), *free]

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
        return row_gradient(rows, gradient.flatten(0, 1), n_rows, self.row_gradients)


def _add_at(whole: Tensor, places: Tensor | slice, part: Tensor) -> None:
    """Add to the columns ``places`` of a gradient of shape (n_outputs, n_columns, ...)."""
    if isinstance(places, slice):
        whole[:, places] += part
    else:
        whole.index_add_(1, places, part)
