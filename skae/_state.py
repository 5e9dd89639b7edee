"""What components train and keep: they declare it, and a torch module holds it and hands it back.

A component (a likelihood, a sparsity, a prior, a noise) is an object that users clone, search over
and share between fits, so it holds no tensors that a training changes. It declares them by name
instead, in three methods:

* ``parameters_at_start`` returns the starting values of what the optimiser is to train;
* ``buffers_at_start`` returns those of what is kept beside it, such as a running mean;
* ``buffers_after_step`` returns what buffers become after a step of the training.

A `State` in the network holds the values. Every method of the component that works on rows gets all
of them as keyword arguments, so a component that declares nothing has none.
"""

from __future__ import annotations

import inspect
import keyword
from abc import ABC
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

#: What the optimiser may do to a trained tensor: "weight" has the decay of weight matrices,
#: "logarithm" ten times the learning rate, for it has further to go, and "other" neither.
ROLES = ("weight", "other", "logarithm")

#: What is told how a training starts, and gets no tensors.
_AT_START = ("parameters_at_start", "buffers_at_start")


class DeclaresState(ABC):  # noqa: B024 - a component may declare nothing
    """The part of a component that declares what it trains and keeps; nothing, by default.

    Which arguments the three methods get is told by the base class of each kind of component.
    """

    #: Which of the three methods are asked for, of components of this kind.
    declares: tuple[str, ...] = ()
    #: Keyword arguments that its methods get from the engine, beside the tensors.
    also_given: tuple[str, ...] = ()
    #: What to do instead of declaring, or holding, what this kind may not; ends an error.
    instead: str = "Keep what it needs as arguments of its constructor."
    #: Whether components of this kind hold torch modules, of which a fit takes copies.
    holds_modules: bool = False

    def parameters_at_start(self, *args: Any, **given: Any) -> dict[str, Tensor]:
        """Return the starting values of the tensors to train, by name."""
        return {}

    def buffers_at_start(self, *args: Any, **given: Any) -> dict[str, Tensor]:
        """Return the starting values of the tensors to keep beside them, by name."""
        return {}

    def buffers_after_step(self, *args: Any, **given: Any) -> dict[str, Tensor]:
        """Return new values of some of the buffers, after a step of the training."""
        return {}

    def role(self, name: str) -> str:
        """Return the role of a tensor to train: "weight", "other" or "logarithm"."""
        return "other"


class State(nn.Module):
    """The tensors of one component, in single precision: trained parameters, and buffers.

    Parameters
    ----------
    component : DeclaresState
        Declares them.
    **given
        What its declarations are told.

    Raises
    ------
    TypeError
        A declaration is not a dict, or a value not a tensor of floating point numbers.
    ValueError
        A name is not one that a keyword argument of its own can have, or stands for a parameter and
        a buffer; or a role is not one of `ROLES`.
    """

    def __init__(self, component: DeclaresState, **given: Any):
        super().__init__()
        self.component = component
        parameters, buffers = (self._declared(name, **given) for name in _AT_START)
        self.roles = {name: self._role(name) for name in parameters}
        self.trained = nn.ParameterDict(
            {name: nn.Parameter(self._value(name, value)) for name, value in parameters.items()}
        )
        self.kept = nn.Module()
        for name, value in buffers.items():
            if name in parameters:
                raise ValueError(f"{self._owner} declares {name!r} as a parameter and a buffer.")
            self.kept.register_buffer(name, self._value(name, value))
        self.kept_names = tuple(buffers)

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by name, as the keyword arguments of the component's methods."""
        if not self.kept_names:
            return dict(self.trained)
        kept = dict(self.kept.named_buffers())
        if self.training:  # what a step holds for its gradient may not change before it is taken
            kept = {name: buffer.clone() for name, buffer in kept.items()}
        return {**self.trained, **kept}

    @torch.no_grad()
    def update(self, **given: Any) -> None:
        """Ask the component for the buffers after a step, and keep them."""
        buffers = dict(self.kept.named_buffers())
        if not buffers:
            return
        changed = self.component.buffers_after_step(**given, **self.tensors())
        for name, value in self._as_dict("buffers_after_step", changed).items():
            shape = tuple(value.shape) if isinstance(value, Tensor) else None
            if name not in buffers or shape != tuple(buffers[name].shape):
                known = {known: tuple(buffer.shape) for known, buffer in buffers.items()}
                raise ValueError(
                    f"buffers_after_step of {self._owner} must return buffers of {known}. Got "
                    f"{name!r} of {_what(value) if shape is None else f'shape {shape}'} instead."
                )
            buffers[name].copy_(value)

    def parameters_by_role(self) -> Iterator[tuple[nn.Parameter, str]]:
        """Yield each trained tensor with its role."""
        return ((self.trained[name], role) for name, role in self.roles.items())

    @property
    def _owner(self) -> str:
        return type(self.component).__name__

    def _declared(self, method: str, **given: Any) -> dict[str, Any]:
        """Return what a component declares, with names that its methods can take."""
        declared = self._as_dict(method, getattr(self.component, method)(**given))
        for name in declared:
            reason = _unusable(name, type(self.component))
            if reason:
                raise ValueError(
                    f"{method} of {self._owner} must name tensors as keyword arguments of its "
                    f"other methods. Got {name!r} instead, which {reason}. Choose another name."
                )
        return declared

    def _as_dict(self, method: str, returned: Any) -> dict:
        if not isinstance(returned, dict):
            raise TypeError(
                f"{method} of {self._owner} must return a dict of tensors by name, or an empty "
                f"one. Got {_what(returned)} instead."
            )
        return returned

    def _role(self, name: str) -> str:
        role = self.component.role(name)
        if role not in ROLES:
            raise ValueError(
                f"The role of {name!r} in {self._owner} must be one of "
                f"{', '.join(map(repr, ROLES))}. Got {role!r} instead."
            )
        return role

    def _value(self, name: str, value: Any) -> Tensor:
        """Return a copy of a starting value, which the component may keep."""
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise TypeError(
                f"{self._owner} must declare tensors of floating point numbers. Got {name!r} of "
                f"{_what(value)} instead."
            )
        return value.detach().to(torch.float32, copy=True)


def _what(value: Any) -> str:
    return str(value.dtype) if isinstance(value, Tensor) else type(value).__name__


def _unusable(name: Any, kind: type[DeclaresState]) -> str | None:
    """Return what keeps a name from being that of a tensor of a component; None if nothing does."""
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
        return "is no name in Python"
    if hasattr(nn.ParameterDict, name) or hasattr(nn.Module(), name):
        return "torch has for something of its own"
    if name in _arguments(kind):
        return "these methods have for an argument already"
    return None


def _arguments(kind: type[DeclaresState]) -> set[str]:
    """Return the names of what the methods that get tensors are given beside them.

    These are the methods with a ``**`` in the base class of the kind: a likelihood, a sparsity, ...
    """
    base = next((one for one in kind.__mro__ if "declares" in vars(one)), DeclaresState)
    names = set(kind.also_given)
    for method, function in vars(base).items():
        if inspect.isfunction(function) and method not in _AT_START:
            found = inspect.signature(function).parameters.values()
            if any(one.kind is one.VAR_KEYWORD for one in found):
                names.update(one.name for one in found if one.kind is one.POSITIONAL_OR_KEYWORD)
    return names
