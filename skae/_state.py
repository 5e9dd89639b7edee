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

from abc import ABC
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

#: What the optimiser may do to a trained tensor: "weight" has the decay of weight matrices,
#: "logarithm" ten times the learning rate, for it has further to go, and "other" neither.
ROLES = ("weight", "other", "logarithm")

_DECLARATIONS = ("parameters_at_start", "buffers_at_start", "buffers_after_step")


class DeclaresState(ABC):  # noqa: B024 - a component may declare nothing
    """The part of a component that declares what it trains and keeps; nothing, by default.

    Which arguments the three methods get is told by the base class of each kind of component.
    """

    #: Which of the three methods are asked for, of components of this kind.
    declares: tuple[str, ...] = ()
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
        A value is not a tensor of floating point numbers.
    ValueError
        A name stands for a parameter and a buffer, or a role is not one of `ROLES`.
    """

    def __init__(self, component: DeclaresState, **given: Any):
        super().__init__()
        self.component = component
        parameters = component.parameters_at_start(**given)
        buffers = component.buffers_at_start(**given)
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
        for name, value in self.component.buffers_after_step(**given, **self.tensors()).items():
            if name not in buffers or value.shape != buffers[name].shape:
                known = {known: tuple(buffer.shape) for known, buffer in buffers.items()}
                raise ValueError(
                    f"buffers_after_step of {self._owner} must return buffers of {known}. Got "
                    f"{name!r} of shape {tuple(value.shape)} instead."
                )
            buffers[name].copy_(value)

    def parameters_by_role(self) -> Iterator[tuple[nn.Parameter, str]]:
        """Yield each trained tensor with its role."""
        return ((self.trained[name], role) for name, role in self.roles.items())

    @property
    def _owner(self) -> str:
        return type(self.component).__name__

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
            what = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise TypeError(
                f"{self._owner} must declare tensors of floating point numbers. Got {name!r} of "
                f"{what} instead."
            )
        return value.detach().to(torch.float32, copy=True)


def check_state_is_declared(component: DeclaresState) -> None:
    """Raise ``TypeError`` where a component would train or keep something that nobody knows of.

    That is where it declares what its kind is not asked for, or where it holds a torch parameter or
    module as an attribute: no optimiser sees that, and all fits would share it.
    """
    kind = type(component)
    for name in _DECLARATIONS:
        undeclared = getattr(kind, name) is not getattr(DeclaresState, name)
        if undeclared and name not in component.declares:
            raise TypeError(
                f"{kind.__name__} has a method {name}, which is never called for an object of its "
                f"kind. {component.instead}"
            )
    if component.holds_modules:
        return
    for path, held in _held(component):
        instead = component.instead
        if "parameters_at_start" in component.declares:
            instead = (
                "Return its first value from the method parameters_at_start, by name: the network "
                f"then holds it, trains it, and hands it to the methods of {kind.__name__} as a "
                "keyword argument of that name."
            )
        raise TypeError(
            f"{kind.__name__} holds a torch {type(held).__name__} in its attribute {path}, which "
            f"would never be trained. {instead}"
        )


def _held(component: Any) -> Iterator[tuple[str, Any]]:
    """Yield path and value of each torch parameter or module that an object holds."""
    of_classes = [vars(kind) for kind in reversed(type(component).__mro__)]
    attributes: dict[str, Any] = {}
    for found in [*of_classes, vars(component)]:
        attributes.update(found)
    for name, value in attributes.items():
        yield from _found(name, value)


def _found(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, nn.Module) or (isinstance(value, Tensor) and value.requires_grad):
        yield path, value
    elif isinstance(value, DeclaresState):
        yield from ((f"{path}.{inner}", held) for inner, held in _held(value))
    elif isinstance(value, Mapping) and not path.startswith("__"):
        for key, item in value.items():
            yield from _found(f"{path}[{key!r}]", item)
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            yield from _found(f"{path}[{place}]", item)
