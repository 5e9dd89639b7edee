"""The losses of several models in one call: a module under `torch.func.vmap`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from skae._training.batches import Batch
from skae._training.net import WeightedSum
from skae._training.side_by_side.feed import Given
from skae._training.side_by_side.run import Run
from skae._training.side_by_side.stack import Tensors

# What a module holds as a number, and models of one kind may have their own of.
_NUMBERS = ("bottleneck.beta", "bottleneck.factor", "encoder_input.norm", "total_cap")


class Losses:
    """Called with the tensors of models and what a step is given, returns losses and terms.

    Parameters
    ----------
    template : AutoencoderModule
        See `Stack`.
    traced : dict
        What was traced before, by kind and shapes.
    kind : tuple
        Of the models: see `kind_of`.
    """

    def __init__(self, template: Any, traced: dict[tuple, Any], kind: tuple):
        self.template, self.criterion, self.traced = template, WeightedSum(), traced
        self.kind = kind, template.bottleneck.n_components

    def __call__(
        self, tensors: Tensors, numbers: Tensors, given: Given, training: bool
    ) -> dict[str, Tensor]:
        """Return "loss" and the terms, each (n_models,)."""
        named = [tensors, numbers, given]
        key = self.kind, training, *((name, one.shape) for name, one in given.items())
        if key not in self.traced:
            self.traced[key] = self._trace(named, training)
        names, operations = self.traced[key]
        found = operations(*(one for of in named for one in of.values()))
        return dict(zip(names, found, strict=True))

    def _trace(self, named: list[Tensors], training: bool) -> tuple[list[str], Callable]:
        """Return the names of what is found, and the operations behind it for these shapes.

        In many small steps most of the time goes to Python between the operations.
        """
        from torch.func import vmap
        from torch.fx.experimental.proxy_tensor import make_fx

        names: list[str] = []

        def of_one(*flat: Tensor) -> tuple[Tensor, ...]:
            left = iter(flat)
            terms = self._terms_of_one(*({name: next(left) for name in of} for of in named))
            names[:] = terms
            return tuple(terms.values())

        self.template.train(training)
        traced = make_fx(vmap(of_one))(*(one for of in named for one in of.values()))
        return names, traced.forward

    def _terms_of_one(self, tensors: Tensors, numbers: Tensors, given: Given) -> Tensors:
        """Return loss and terms of one model."""
        from torch.func import functional_call

        batch = Batch(given["x"], given["weight"], None, given.get("seen"), given.get("noise"))
        with _holding(self.template, numbers):
            terms = functional_call(self.template, tensors, (batch,))
            loss = self.criterion(terms)
        return {"loss": loss, **{name: term.value for name, term in terms.items()}}


def numbers_of(template: Any, runs: list[Run]) -> dict[str, Tensor]:
    """Return the numbers of each model as tensors of shape (n_models,), by where they stand."""
    device = runs[0].net.device
    return {
        path: torch.tensor([float(_look_up(run.module, path)) for run in runs], device=device)
        for path in _NUMBERS
        if isinstance(_look_up(template, path), Real)
    }


def _look_up(module: Any, path: str) -> Any:
    *way, name = path.split(".")
    for part in way:
        module = getattr(module, part)
    return getattr(module, name, None)


@contextlib.contextmanager
def _holding(module: Any, numbers: dict[str, Tensor]) -> Iterator[None]:
    """Let a module hold tensors in the place of numbers."""
    before = {path: _look_up(module, path) for path in numbers}
    try:
        _set(module, numbers)
        yield
    finally:
        _set(module, before)


def _set(module: Any, values: dict[str, Any]) -> None:
    for path, value in values.items():
        owner, _, name = path.rpartition(".")
        setattr(module.get_submodule(owner), name, value)
