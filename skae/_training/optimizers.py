"""Optimisers by name, and which parameters get which learning rate and decay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from skae._kernels.optimizer import SGD, AdamW, RowAdamW
from skae._state import ROLES, State

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": AdamW,
    "sgd": SGD,
}

# Logarithms have further to go than weights.
_RATES = {"logarithm": 10.0}


def takes_row_gradients(optimizer: str | Callable) -> bool:
    """Return whether an optimiser takes gradients of some rows of a parameter."""
    return optimizer == "adam"


def roles_of(module: Any) -> dict[nn.Parameter, str]:
    """Return the role of each parameter that has another one than "other"."""
    roles = dict.fromkeys(module.weights_to_decay(), "weight")
    for part in module.modules():
        if isinstance(part, State):
            roles.update(part.parameters_by_role())
    return roles


def make_optimizer(
    optimizer: str | Callable, module: Any, learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Return a (fused, if named) optimiser with a group of parameters for each role.

    Decay is for the role "weight" alone: what ``module.weights_to_decay()`` says of the network,
    and what a component declares to be such. Every group keeps its starting rate as ``initial_lr``,
    the base that schedules multiply.

    Raises
    ------
    ValueError
        No parameter takes a gradient.
    """
    _check_trains(module)
    roles = roles_of(module)
    by_role: dict[str, list[nn.Parameter]] = {role: [] for role in ROLES}
    for parameter in module.parameters():
        by_role[roles.get(parameter, "other")].append(parameter)
    groups = [
        {
            "params": parameters,
            "role": role,
            "lr": learning_rate * _RATES.get(role, 1.0),
            "weight_decay": weight_decay if role == "weight" else 0.0,
        }
        for role, parameters in by_role.items()
        if parameters
    ]
    groups = [{**group, "initial_lr": group["lr"]} for group in groups]
    if isinstance(optimizer, str):
        extra = {"momentum": 0.9, "nesterov": True} if optimizer == "sgd" else {}
        rows = takes_row_gradients(optimizer) and getattr(module, "takes_csr", False)
        kind: Callable[..., torch.optim.Optimizer] = RowAdamW if rows else OPTIMIZERS[optimizer]
        return kind(groups, fused=True, **extra)
    made = optimizer(groups)
    for group in made.param_groups:  # which may be others: some optimisers take a single one
        group.setdefault("initial_lr", group["lr"])
    return made


def _check_trains(module: nn.Module) -> None:
    """Raise ``ValueError`` where no parameter of a module takes a gradient."""
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise ValueError(
            "There is nothing to train: no parameter of the encoder, of the decoder or of anything "
            "beside them takes a gradient. Give a layer weights, or set requires_grad_(True) on "
            "the modules that are to be trained."
        )


def set_rates(optimizer: torch.optim.Optimizer, learning_rate: float, weight_decay: float) -> None:
    """Set starting rate and decay of each group, as `make_optimizer` does.

    Raises
    ------
    ValueError
        The optimiser, of the user's own, has other groups than it was given.
    """
    if not all("role" in group for group in optimizer.param_groups):
        raise ValueError(
            f"learning_rate_init and alpha cannot change: {type(optimizer).__name__} was made with "
            f"groups of its own. Got learning_rate_init={learning_rate!r} with a decay of "
            f"{weight_decay!r}. Set them back to go on, or let optimizer keep the groups that it "
            "is called with."
        )
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] = learning_rate * _RATES.get(group["role"], 1.0)
        group["weight_decay"] = weight_decay if group["role"] == "weight" else 0.0
