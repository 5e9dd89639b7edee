"""The weights of several models on top of each other, with what an optimiser knows of them."""

from __future__ import annotations

import copy
import itertools
from typing import Any, NamedTuple

import torch
from torch import Tensor

from skae._kernels.optimizer import fused_adamw
from skae._training.side_by_side.layers import (
    Layers,
    Place,
    fill,
    places_of_decoder,
    places_of_encoder,
)
from skae._training.side_by_side.run import Run, is_stacked
from skae.networks import ACTIVATIONS

Tensors = dict[str, Tensor]  # each (n_models, ...)


class _Group(NamedTuple):
    """A group of parameters of the optimisers of all models."""

    names: list[str]
    settings: list[tuple[float, float]]  # starting rate and decay, of each model
    constants: dict[str, Any]


class Stack:
    """Weights, buffers and moments of models of one kind, each along a first axis.

    Parameters
    ----------
    runs : list of Run
        Whose nets have not been trained.

    Attributes
    ----------
    template : AutoencoderModule
        Of the size of the largest, to be called with the tensors of any.
    """

    def __init__(self, runs: list[Run]):
        largest = max(runs, key=lambda run: run.n_components)
        self.runs, self.template = runs, _template(largest)
        self.places = [_places(run) for run in runs]
        like = dict(self.template.named_parameters())
        self.weights = {name: _stacked(one, name, self.places) for name, one in like.items()}
        self.means, self.squares = (zeros_like(self.weights) for _ in range(2))
        self.n_steps = torch.zeros((), device=next(iter(like.values())).device)
        self.buffers = _buffers(self.template, runs)
        self.groups = _groups(runs, self.places)

    def __len__(self) -> int:
        return len(self.runs)

    def cut(self, kept: list[int]) -> None:
        """Go on with some of the models alone."""
        self.runs = [self.runs[place] for place in kept]
        self.places = [self.places[place] for place in kept]
        for name in ("weights", "means", "squares", "buffers"):
            setattr(self, name, some(getattr(self, name), kept))
        self.groups = [
            group._replace(settings=[group.settings[place] for place in kept])
            for group in self.groups
        ]

    @torch.no_grad()
    def step(self, gradients: Tensors, factors: list[float]) -> None:
        """Make a step of AdamW, at the starting rate of each model times its factor."""
        self.n_steps += 1
        for group in self.groups:
            rates = [
                (rate * factor, decay)
                for (rate, decay), factor in zip(group.settings, factors, strict=True)
            ]
            tensors = [
                [of[name] for name in group.names]
                for of in (self.weights, gradients, self.means, self.squares)
            ]
            steps = [self.n_steps] * len(group.names)
            for (rate, decay), part in _neighbours(rates):
                cut = [[one[part] for one in of] for of in tensors] if part else tensors
                weights, slopes, means, squares = cut
                settings = {"lr": rate, "weight_decay": decay, **group.constants}
                fused_adamw(weights, slopes, means, squares, steps, **settings)

    @torch.no_grad()
    def put_back(self, place: int, weights: Tensors, with_optimizer: bool = True) -> None:
        """Write weights of a model into its net, and what its optimiser is to know."""
        optimizer = self.runs[place].net.optimizer_
        for name, one in self.places[place].items():
            fill(one.of(one.parameter), weights[name][place], one)
            if not with_optimizer:
                continue
            state = optimizer.state[one.parameter]
            state["step"] = self.n_steps.clone()
            for key, moments in (("exp_avg", self.means), ("exp_avg_sq", self.squares)):
                whole = state.setdefault(key, torch.zeros_like(one.parameter))
                fill(one.of(whole), moments[name][place], one)


def zeros_like(tensors: Tensors) -> Tensors:
    """Return zeros in the shape of all tensors."""
    return {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}


def copied(tensors: Tensors) -> Tensors:
    """Return a copy of all tensors."""
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def some(tensors: Tensors, kept: list[int]) -> Tensors:
    """Return the tensors of some models."""
    return {name: tensor.detach()[kept] for name, tensor in tensors.items()}


def _neighbours(values: list) -> list[tuple[Any, slice | None]]:
    """Return each run of equal values, with where it stands; None where all are equal."""
    if values.count(values[0]) == len(values):
        return [(values[0], None)]
    found: list[tuple[Any, slice | None]] = []
    begin = 0
    for value, run in itertools.groupby(values):
        end = begin + len(list(run))
        found.append((value, slice(begin, end)))
        begin = end
    return found


def _template(run: Run) -> Any:
    """Return a copy of a module, with layers that answer for many models."""
    template = copy.deepcopy(run.module)
    activation = ACTIVATIONS[run.model.spec.activation]()
    encoder, decoder = _of_network(template)
    template.encoder, template.decoder = Layers(encoder, activation), Layers(decoder, activation)
    template.begins = False  # see `Pass._first_step`
    template.bottleneck.seen = {}  # no component keeps what a step has seen
    return template


def _of_network(module: Any) -> tuple[dict[str, Place], dict[str, Place]]:
    bottleneck = module.bottleneck
    blocks = bottleneck.n_inputs // bottleneck.n_components
    return places_of_encoder(module.encoder, blocks), places_of_decoder(module.decoder)


def _places(run: Run) -> dict[str, Place]:
    """Return where each trained tensor of the template stands in a module."""
    places: dict[str, Place] = {}
    for name, part in zip(("encoder", "decoder"), _of_network(run.module), strict=True):
        places |= {f"{name}.{key}": place for key, place in part.items()}
    others = {
        name: Place(parameter)
        for name, parameter in run.module.named_parameters()
        if not name.startswith(("encoder.", "decoder."))
    }
    return places | others


def _stacked(like: Tensor, name: str, places: list[dict[str, Place]]) -> Tensor:
    """Return the tensors of all models, padded with zeros to the shape of one."""
    stacked = torch.zeros(len(places), *like.shape, dtype=like.dtype, device=like.device)
    for row, of_model in zip(stacked, places, strict=True):
        place = of_model[name]
        fill(row, place.of(place.parameter.detach()), place)
    return stacked


def _buffers(template: Any, runs: list[Run]) -> Tensors:
    names = [name for name, _ in template.named_buffers() if is_stacked(name)]
    of_runs = [dict(run.module.named_buffers()) for run in runs]
    return {name: torch.stack([buffers[name] for buffers in of_runs]) for name in names}


def _groups(runs: list[Run], places: list[dict[str, Place]]) -> list[_Group]:
    """Return the groups of parameters, which are those of any of the optimisers."""
    role_of = {
        parameter: number
        for number, group in enumerate(runs[0].net.optimizer_.param_groups)
        for parameter in group["params"]
    }
    groups = []
    for number, group in enumerate(runs[0].net.optimizer_.param_groups):
        names = [name for name, one in places[0].items() if role_of[one.parameter] == number]
        of_all = [run.net.optimizer_.param_groups[number] for run in runs]
        settings = [(one["initial_lr"], one["weight_decay"]) for one in of_all]
        beta1, beta2 = group["betas"]
        constants = {"beta1": beta1, "beta2": beta2, "eps": group["eps"]}
        groups.append(_Group(names, settings, constants))
    return groups
