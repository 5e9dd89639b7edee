"""Fully connected layers: drawn from a seed, and the way back through one."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

#: Names of the activations of `MLP`; "relu", "tanh", "logistic" and "identity" as in MLPRegressor.
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "identity": nn.Identity,
    "logistic": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


class Transposed(nn.Module):
    """The way back through a linear layer: its weight transposed, and a bias of its own.

    Parameters
    ----------
    layer : nn.Linear
        Which goes on to hold the weight as well.
    n_inputs : int, default=None
        Outputs of the layer that there is a way back from, the first; None: all.
    """

    def __init__(self, layer: nn.Linear, n_inputs: int | None = None):
        super().__init__()
        self.weight, self.n_inputs = layer.weight, n_inputs
        self.bias = nn.Parameter(torch.zeros(layer.in_features, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x @ weight + bias``."""
        return torch.addmm(self.bias, x, self.weight[: self.n_inputs])


def drawn_linear(n_inputs: int, n_outputs: int, generator: torch.Generator) -> nn.Linear:
    """Return a linear layer that draws from ``generator`` and not from the global one."""
    layer = nn.Linear(n_inputs, n_outputs, device="meta")  # which draws nothing
    layer.weight = nn.Parameter(torch.empty(n_outputs, n_inputs, dtype=torch.float32))
    layer.bias = nn.Parameter(torch.empty(n_outputs, dtype=torch.float32))
    bound = n_inputs**-0.5
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.uniform_(-bound, bound, generator=generator)
    return layer


def stack(sizes: tuple[int, ...], activation: str, generator: torch.Generator) -> nn.Sequential:
    """Return linear layers of these sizes with the activation between them."""
    layers: list[nn.Module] = []
    for n_inputs, n_outputs in itertools.pairwise(sizes):
        layers += [drawn_linear(n_inputs, n_outputs, generator), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])
