"""Which network maps rows to codes and back? Encoders and decoders.

A network builds a pair of torch modules: the encoder maps (n_rows, n_inputs) to (n_rows,
n_encoder_outputs), the decoder maps codes (n_rows, n_components) to (n_rows, n_decoder_outputs).
Neither ends in an activation: what the outputs mean is the business of the code's rule and of the
likelihood. To add one: one class here and one line in `NETWORKS`.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from skae._random import draw_seed, global_torch_seed, torch_generator
from skae._validation import Component

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


class Layout(NamedTuple):
    """What users choose about a network.

    Parameters
    ----------
    n_features : int
        Columns of X, the inputs of the encoder.
    n_components : int
        Inputs of the decoder.
    hidden_layer_sizes : tuple of int
        Units of each hidden layer of the encoder.
    activation : str
        A name in `ACTIVATIONS`.
    """

    n_features: int
    n_components: int
    hidden_layer_sizes: tuple[int, ...]
    activation: str


class Network(Component):
    """Base of all networks."""

    holds_modules = True
    instead = "What a network trains, its modules hold: let build return them."

    #: True where the modules draw from torch's global generators (weights, dropout): training then
    #: seeds them for its duration and puts them back.
    uses_global_generator: bool = False
    #: Whether first weights may be adjusted (the decoder predicts the column means, a posterior is
    #: as wide as the prior). Not where they were given: they can be those of an earlier training.
    adjustable: bool = True
    #: Whether `build` looks at ``hidden_layer_sizes`` and ``activation``; where it does not, giving
    #: them is an error.
    takes_layer_sizes: bool = True

    def build(
        self, layout: Layout, n_encoder_outputs: int, n_decoder_outputs: int, seed: int
    ) -> tuple[nn.Module, nn.Module]:
        """Return a new encoder and decoder with weights drawn from ``seed``."""
        raise NotImplementedError


class MLP(Network):
    """Fully connected layers; the decoder mirrors the encoder.

    With ``hidden_layer_sizes=(a, b)`` the encoder has layers of a and b units, the decoder of b and
    a. ``()`` makes both linear. Weights and biases are drawn from the uniform distribution on
    ``+-1 / sqrt(n_inputs)`` of their layer, as torch does by default.
    """

    def build(self, layout, n_encoder_outputs, n_decoder_outputs, seed):
        """Return the two stacks of layers."""
        generator = torch_generator(seed)
        hidden = layout.hidden_layer_sizes
        encoder_sizes = (layout.n_features, *hidden, n_encoder_outputs)
        decoder_sizes = (layout.n_components, *reversed(hidden), n_decoder_outputs)
        return (
            _stack(encoder_sizes, layout.activation, generator),
            _stack(decoder_sizes, layout.activation, generator),
        )


class CustomNetwork(Network):
    """Your own torch modules as encoder and decoder.

    Parameters
    ----------
    encoder : torch.nn.Module or callable
        Maps (n_rows, n_features) to (n_rows, n_components); for `VAETransformer` to (n_rows, 2 *
        n_components), the means and then the log standard deviations. A callable is called as
        ``encoder(n_inputs, n_outputs)`` and returns the module, so that one object serves every
        size in a grid search. A module is copied before it is trained.
    decoder : torch.nn.Module or callable
        Maps (n_rows, n_components) to (n_rows, n_features). Like the encoder it starts from the
        weights that it comes with.

    Examples
    --------
    >>> from torch import nn
    >>> from skae.networks import CustomNetwork
    >>> network = CustomNetwork(encoder=nn.Linear, decoder=nn.Linear)
    """

    uses_global_generator = True
    adjustable = False
    takes_layer_sizes = False

    def __init__(self, encoder, decoder):
        self.encoder = encoder
        self.decoder = decoder

    def build(self, layout, n_encoder_outputs, n_decoder_outputs, seed):
        """Return copies of the modules, or what the callables make, after a look at the shapes."""
        with global_torch_seed(seed):
            encoder = self._make(self.encoder, layout.n_features, n_encoder_outputs)
            decoder = self._make(self.decoder, layout.n_components, n_decoder_outputs)
        _check_shape(encoder, "encoder", layout.n_features, n_encoder_outputs)
        _check_shape(decoder, "decoder", layout.n_components, n_decoder_outputs)
        return encoder, decoder

    @staticmethod
    def _make(module_or_factory: nn.Module | Callable, n_inputs: int, n_outputs: int) -> nn.Module:
        if isinstance(module_or_factory, nn.Module):
            return copy.deepcopy(module_or_factory)
        return module_or_factory(n_inputs, n_outputs)


def linear_layers(module: nn.Module) -> list[nn.Linear]:
    """Return the linear layers of a module in the order in which they were added."""
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


def decoder_gains(
    decoder: nn.Module, n_components: int, last_squares: Tensor | None = None
) -> Tensor | float:
    r"""Return how strongly a decoder answers to each unit of the code, of shape (n_components,).

    The norm of the unit's column in the first linear layer, times :math:`\lVert W \rVert_F /
    \sqrt{\min(\text{shape of } W)}` (1 for orthonormal rows or columns) of each later one. A
    network with positively homogeneous activations can scale one layer down and another up without
    changing its output; this product does not change either, so a penalty that holds it cannot be
    escaped in that way. 1 for a decoder without a linear layer for the code. ``last_squares`` are
    the squared norms of the columns of the last layer, where it has too many rows to look at all.
    """
    layers = linear_layers(decoder)
    if not layers or layers[0].in_features != n_components:
        return 1.0
    gains = [_gain(layer, place == 0) for place, layer in enumerate(layers[:-1])]
    gains.append(_gain(layers[-1], len(layers) == 1, last_squares))
    return math.prod(gains[1:], start=gains[0])


def _gain(layer: nn.Linear, is_first: bool, squares: Tensor | None = None) -> Tensor:
    if squares is not None:
        squares = squares.clamp_min(torch.finfo(squares.dtype).tiny)
        return squares.sqrt() if is_first else (squares.sum() / min(layer.weight.shape)).sqrt()
    if is_first:
        return layer.weight.norm(dim=0)
    return layer.weight.norm() / math.sqrt(min(layer.weight.shape))


def _stack(sizes: tuple[int, ...], activation: str, generator: torch.Generator) -> nn.Sequential:
    """Return linear layers of these sizes with the activation between them."""
    layers: list[nn.Module] = []
    for n_inputs, n_outputs in itertools.pairwise(sizes):
        layers += [_linear(n_inputs, n_outputs, generator), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])


def _linear(n_inputs: int, n_outputs: int, generator: torch.Generator) -> nn.Linear:
    """Return a linear layer that draws from ``generator`` and not from the global one."""
    layer = nn.Linear(n_inputs, n_outputs, device="meta")  # which draws nothing
    layer.weight = nn.Parameter(torch.empty(n_outputs, n_inputs, dtype=torch.float32))
    layer.bias = nn.Parameter(torch.empty(n_outputs, dtype=torch.float32))
    bound = n_inputs**-0.5
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.uniform_(-bound, bound, generator=generator)
    return layer


@torch.no_grad()
def _check_shape(module: nn.Module, name: str, n_inputs: int, n_outputs: int) -> None:
    """Raise ``ValueError`` where a module does not map n_inputs to n_outputs columns."""
    training = module.training
    with global_torch_seed(draw_seed(None)):
        output = module.eval()(torch.zeros(2, n_inputs))
    module.train(training)
    if tuple(output.shape) != (2, n_outputs):
        raise ValueError(
            f"The {name} of CustomNetwork must map an input of shape (n_rows, {n_inputs}) to "
            f"(n_rows, {n_outputs}). For 2 rows it returned shape {tuple(output.shape)} instead. "
            "Change its last layer, or pass a callable (n_inputs, n_outputs) -> module."
        )


NETWORKS: dict[str, type[Network]] = {"mlp": MLP}
