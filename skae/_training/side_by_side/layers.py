"""The layers of several networks at once, and where their weights stand in the networks.

Codes of different sizes are padded to the largest with zeros, and zeros they stay: a unit whose
weights are zero on both sides answers with zero, so that neither side has a gradient; a posterior
there is the standard normal, whose divergence is least; and Adam leaves zeros without a gradient
alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from skae._linear_path import Beside, Sum


class Place(NamedTuple):
    """Where in a parameter of a network a tensor of `Layers` stands."""

    parameter: Tensor  # that is trained
    part: tuple[slice, ...] = ()
    code_axis: int | None = None  # the last or the first, along which the units of a code stand
    n_blocks: int = 1  # so many times, one behind the other

    def of(self, whole: Tensor) -> Tensor:
        """Return the part of a tensor that is shaped like the parameter, inputs x outputs."""
        part = whole[self.part] if self.part else whole
        return part.mT if part.ndim == 2 else part


def fill(target: Tensor, source: Tensor, place: Place) -> None:
    """Copy the smaller of two tensors to the head of each block of the larger, or back."""
    if place.code_axis is None:
        target.copy_(source)
        return
    axis, blocks = place.code_axis % target.ndim, place.n_blocks
    target, source = (one.unflatten(axis, (blocks, -1)) for one in (target, source))
    n_units = min(target.shape[axis + 1], source.shape[axis + 1])
    target.narrow(axis + 1, 0, n_units).copy_(source.narrow(axis + 1, 0, n_units))


class Layers(nn.Module):
    """What an encoder or a decoder of `MLP` computes, of many models under `torch.func.vmap`.

    A linear path is a layer of its own here, which needs no columns put together and taken apart.
    Weights are inputs x outputs, so that their gradients lie in the memory as they do.

    Parameters
    ----------
    places : dict of Place
        Of the network that has the largest code.
    activation : torch.nn.Module
    """

    def __init__(self, places: dict[str, Place], activation: nn.Module):
        super().__init__()
        self.activation, self.names = activation, list(places)
        for name, place in places.items():
            self.register_parameter(
                name,
                nn.Parameter(
                    place.of(place.parameter.detach()).clone(memory_format=torch.contiguous_format)
                ),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs for rows of one model."""
        return _Through.apply(self, x, *(getattr(self, name) for name in self.names))


class _Through(torch.autograd.Function):
    """Layers of one model, or under `torch.func.vmap` of many by products of batches of matrices.

    By itself vmap adds a bias in a pass of its own, and calls Python for each operation.
    """

    @staticmethod
    def forward(layers, x, *tensors):
        """Return what the layers of one model make of rows."""
        return _through(layers, x[None], [tensor[None] for tensor in tensors])[0]

    @staticmethod
    def setup_context(ctx, inputs, output):
        """Keep nothing: see `backward`."""

    @staticmethod
    def backward(ctx, *gradients):
        """Raise: autograd goes through the operations of `vmap`, and there is no other use."""
        raise NotImplementedError

    @staticmethod
    def vmap(info, in_dims, layers, x, *tensors):
        """Return what the layers of many models make of the rows of each."""
        return _through(layers, x.movedim(in_dims[1], 0), tensors), 0


def _through(layers: Layers, x: Tensor, tensors: Any) -> Tensor:
    """Return what layers make of rows of shape (n_models, n_rows, n_inputs)."""
    named = dict(zip(layers.names, tensors, strict=True))
    last = sum(name.startswith("weight") for name in named) - 1
    begin = named[f"bias{last}"]
    if "path_bias" in named:
        begin = begin + named["path_bias"]
    begin = begin[:, None]
    if "path_weight" in named:
        begin = torch.baddbmm(begin, x, named["path_weight"])
    for layer in range(last):
        weight, bias = named[f"weight{layer}"], named[f"bias{layer}"]
        x = layers.activation(torch.baddbmm(bias[:, None], x, weight))
    return torch.baddbmm(begin, x, named[f"weight{last}"])


def places_of_encoder(encoder: Any, n_blocks: int) -> dict[str, Place]:
    """Return where the tensors of `Layers` stand in an encoder, with codes of so many blocks."""
    first, rest, places = encoder[0], list(encoder[1:]), {}
    begin = 0
    if rest and isinstance(rest[0], Sum):
        n_units, begin = rest[0].n_first, rest[0].n_path
        places = _both(first, "path_", slice(n_units), n_blocks)
        rest = list(rest[0].layers)
    layers = [first, *(layer for layer in rest if isinstance(layer, nn.Linear))]
    for number, layer in enumerate(layers):
        is_last = number == len(layers) - 1
        rows = slice(begin if number == 0 else 0, None)
        places |= _both(layer, "", rows, n_blocks if is_last else None, number)
    return places


def _both(
    layer: nn.Linear, prefix: str, rows: slice, n_blocks: int | None, number: int | str = ""
) -> dict[str, Place]:
    """Return the places of weight and bias of a layer whose outputs may be a code."""
    axis = None if n_blocks is None else -1
    names = f"{prefix}weight{number}", f"{prefix}bias{number}"
    both = (layer.weight, layer.bias)
    return {
        name: Place(parameter, (rows,), axis, n_blocks or 1)
        for name, parameter in zip(names, both, strict=True)
    }


def places_of_decoder(decoder: Any) -> dict[str, Place]:
    """Return where the tensors of `Layers` stand in a decoder."""
    parts, places, begin = list(decoder), {}, 0
    last = parts[-1]
    if isinstance(parts[0], Beside):
        code = parts[0].layers[0].in_features
        begin = code + parts[0].n_filled
        places = {"path_weight": Place(last.weight, (slice(None), slice(code)), 0)}
        parts = [*parts[0].layers, last]
    layers = [part for part in parts if isinstance(part, nn.Linear)]
    for number, layer in enumerate(layers):
        columns = slice(begin if layer is last else 0, None)
        axis = 0 if number == 0 else None
        places[f"weight{number}"] = Place(layer.weight, (slice(None), columns), axis)
        places[f"bias{number}"] = Place(layer.bias)
    return places
