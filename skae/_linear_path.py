"""A linear path beside the hidden layers of a network, for a start at the best linear model.

Path and correction meet the rows in one linear layer, so that whatever is done for rows that are
sparse is done for both.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_CACHE_LINE = 16  # numbers of single precision


class Sum(nn.Module):
    """The first columns as they are, plus what layers make of the others."""

    def __init__(self, layers: nn.Sequential):
        super().__init__()
        self.layers = layers
        last: Any = layers[-1]
        self.n_first = last.out_features
        self.n_path = padded(self.n_first)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x[:, :k] + layers(x[:, p:])``, with k outputs of the layers and p `padded`."""
        return x[:, : self.n_first] + self.layers(x[:, self.n_path :])


class Beside(nn.Module):
    """The columns as they are, and beside them what layers make of them."""

    def __init__(self, layers: nn.Sequential):
        super().__init__()
        self.layers = layers
        first: Any = layers[0]
        self.n_filled = padded(first.in_features) - first.in_features

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[x, zeros, layers(x)]``."""
        return torch.cat([nn.functional.pad(x, (0, self.n_filled)), self.layers(x)], dim=1)


def padded(n_units: int) -> int:
    """Return the columns of a linear path of so many units; those that are more are zero.

    Where a row of a matrix is no whole number of cache lines, products of matrices round by the
    place of a row, and a row has another answer beside others.
    """
    return -(-n_units // _CACHE_LINE) * _CACHE_LINE


def with_path_behind(stack: nn.Sequential) -> nn.Sequential:
    """Return an encoder ``x @ A + layers(x)`` that meets the rows in one linear layer.

    Its last layer is zero, so that the linear path is all there is before the first step.
    """
    layers: list[Any] = list(stack)
    first, *rest = layers
    nn.init.zeros_(rest[-1].weight)
    nn.init.zeros_(rest[-1].bias)
    return nn.Sequential(
        _joined(padded(rest[-1].out_features), first, axis=0), Sum(nn.Sequential(*rest))
    )


def with_path_before(stack: nn.Sequential) -> nn.Sequential:
    """Return a decoder ``z @ W + layers(z)`` that makes the rows in one linear layer."""
    layers: list[Any] = list(stack)
    *rest, last = layers
    nn.init.zeros_(last.weight)
    wide = _joined(padded(rest[0].in_features), last, axis=1)
    return nn.Sequential(Beside(nn.Sequential(*rest)), wide)


def _joined(n_more: int, layer: nn.Linear, axis: int) -> nn.Linear:
    """Return a layer with so many more outputs (axis 0) or inputs (axis 1) of weight zero first."""
    wider = nn.Linear(1, 1, device="meta")
    wider.out_features = layer.out_features + (n_more if axis == 0 else 0)
    wider.in_features = layer.in_features + (n_more if axis == 1 else 0)
    shape = (n_more, layer.in_features) if axis == 0 else (layer.out_features, n_more)
    weight, bias = layer.weight.detach(), layer.bias.detach()
    wider.weight = nn.Parameter(torch.cat([weight.new_zeros(shape), weight], dim=axis))
    more = bias.new_zeros(n_more if axis == 0 else 0)
    wider.bias = nn.Parameter(torch.cat([more, bias]))
    return wider
