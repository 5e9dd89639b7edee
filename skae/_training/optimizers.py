"""Optimisers by name, and which parameters get which learning rate and decay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from skae._kernels.optimizer import SGD, AdamW, RowAdamW

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": AdamW,
    "sgd": SGD,
}

# The free parameters of a likelihood are logarithms; they have further to go than weights.
_FREE_PARAMETER_RATE = 10.0


def takes_row_gradients(optimizer: str | Callable) -> bool:
    """Return whether an optimiser takes gradients of some rows of a parameter."""
    return optimizer == "adam"


def make_optimizer(
    optimizer: str | Callable, module: Any, learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Return a (fused, if named) optimiser whose decay touches the network's weights alone.

    Which these are, ``module.weights_to_decay()`` says; biases and norms are none of them.
    Every group keeps its starting rate as ``initial_lr``, the base that schedules multiply.
    """
    decaying = {id(weight) for weight in module.weights_to_decay()}
    weights: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if name.startswith("observation."):
            free.append(parameter)
        else:
            (weights if id(parameter) in decaying else others).append(parameter)
    groups = [
        {"params": weights, "lr": learning_rate, "weight_decay": weight_decay},
        {"params": others, "lr": learning_rate, "weight_decay": 0.0},
        {"params": free, "lr": learning_rate * _FREE_PARAMETER_RATE, "weight_decay": 0.0},
    ]
    groups = [{**group, "initial_lr": group["lr"]} for group in groups if group["params"]]
    if isinstance(optimizer, str):
        extra = {"momentum": 0.9, "nesterov": True} if optimizer == "sgd" else {}
        rows = takes_row_gradients(optimizer) and getattr(module, "takes_csr", False)
        kind: Callable[..., torch.optim.Optimizer] = RowAdamW if rows else OPTIMIZERS[optimizer]
        return kind(groups, fused=True, **extra)
    return optimizer(groups)
