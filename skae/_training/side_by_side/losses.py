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
from skae._training.side_by_side.tape import Flat, recorded

# What a module holds as a number, and models of one kind may have their own of.
_NUMBERS = ("bottleneck.beta", "bottleneck.factor", "encoder_input.norm", "total_cap")


class Losses:
    """The terms of many models, and their gradients.

    Parameters
    ----------
    template : AutoencoderModule
        See `Stack`.
    recorded : dict
        What was recorded before, by kind and shapes.
    kind : tuple
        Of the models: see `kind_of`.
    """

    def __init__(self, template: Any, recorded: dict[tuple, Any], kind: tuple):
        self.template, self.criterion, self.recorded = template, WeightedSum(), recorded
        self.kind = kind, template.bottleneck.n_components

    @torch.no_grad()
    def __call__(
        self, weights: Tensors, others: list[Tensors], given: Given, training: bool
    ) -> tuple[Tensors, Tensors]:
        """Return "loss" and the terms, each (n_models,), and in training the gradients of weights.

        ``others`` are the buffers, and the numbers of `numbers_of`.
        """
        named = [weights, *others, given]
        flat = [one for of in named for one in of.values()]
        key = self.kind, training, *((name, one.shape) for name, one in given.items())
        if key not in self.recorded:
            self.recorded[key] = self._record(named, flat, training)
        names, operations = self.recorded[key]
        found = operations(*flat)
        terms = dict(zip(names, found[: len(names)], strict=True))
        return terms, dict(zip(weights if training else (), found[len(names) :], strict=True))

    def _record(
        self, named: list[Tensors], flat: list[Tensor], training: bool
    ) -> tuple[list[str], Flat]:
        """Return the names of what is found, and the operations behind it for these shapes."""
        from torch.func import vmap

        names: list[str] = []
        n_weights = len(named[0])

        def of_one(*flat: Tensor) -> tuple[Tensor, ...]:
            left = iter(flat)
            terms = self._terms_of_one(*({name: next(left) for name in of} for of in named))
            names[:] = terms
            return tuple(terms.values())

        def of_all(*flat: Tensor) -> tuple[Tensor, ...]:
            if not training:
                return vmap(of_one)(*flat)
            weights = [one.detach().requires_grad_() for one in flat[:n_weights]]
            with torch.enable_grad():
                terms = vmap(of_one)(*weights, *flat[n_weights:])
                gradients = torch.autograd.grad(terms[names.index("loss")].sum(), weights)
            # The fused step of torch takes them for stored as weights are, without a look.
            return (*(one.detach() for one in terms), *(one.contiguous() for one in gradients))

        self.template.train(training)
        operations = recorded(of_all, [one.detach() for one in flat])
        return names, operations

    def _terms_of_one(
        self, weights: Tensors, buffers: Tensors, numbers: Tensors, given: Given
    ) -> Tensors:
        """Return loss and terms of one model."""
        from torch.func import functional_call

        batch = Batch(given["x"], given["weight"], None, given.get("seen"), given.get("noise"))
        with _holding(self.template, numbers):
            terms = functional_call(self.template, {**weights, **buffers}, (batch,))
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
