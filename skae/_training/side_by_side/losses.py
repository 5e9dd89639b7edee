"""The losses of several models in one call: a module under `torch.func.vmap`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
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
        self, tensors: Tensors, numbers: dict[str, Tensor], given: Given, training: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of each model, (n_models,), and its terms, each (n_models,)."""
        key = self.kind, training, tuple((name, tensor.shape) for name, tensor in given.items())
        if key not in self.traced:
            self.traced[key] = self._trace(tensors, numbers, given, training)
        return self.traced[key](tensors, numbers, given)

    def _trace(self, tensors: Tensors, numbers: dict, given: Given, training: bool) -> Any:
        """Return the operations behind the loss, for tensors of these shapes.

        In many small steps most of the time goes to Python between the operations.
        """
        from torch.func import vmap
        from torch.fx.experimental.proxy_tensor import make_fx

        def of_all(tensors, numbers, given):
            return vmap(self._of_one)(tensors, numbers, given)

        self.template.train(training)
        return make_fx(of_all)(tensors, numbers, given)

    def _of_one(self, tensors: Tensors, numbers: dict[str, Tensor], given: Given):
        """Return loss and terms of one model."""
        from torch.func import functional_call

        batch = Batch(given["x"], given["weight"], None, given.get("seen"), given.get("noise"))
        with _holding(self.template, numbers):
            terms = functional_call(self.template, tensors, (batch,))
            loss = self.criterion(terms)
        return loss, {name: term.value for name, term in terms.items()}


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
