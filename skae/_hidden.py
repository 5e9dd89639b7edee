"""What a component would train, and does not declare: found in its attributes, and in a loss."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np
from torch import Tensor, nn

from skae._state import DeclaresState

_DECLARATIONS = ("parameters_at_start", "buffers_at_start", "buffers_after_step")

#: Of these a value holds nothing more.
_PLAIN = {bool, int, float, complex, str, bytes, type(None)}

#: Attributes of Python's and of scikit-learn's.
_NOT_LOOKED_AT = ("__", "_abc_", "_parameter_constraints", "_metadata_", "_doc_link")


def check_state_is_declared(component: DeclaresState) -> None:
    """Raise ``TypeError`` where a component would train or keep something that nobody knows of.

    That is where it declares what its kind is not asked for, or where it holds a torch parameter or
    module, itself or in what it holds: no optimiser sees that, and all fits would share it.
    """
    kind = type(component)
    for name in _DECLARATIONS:
        undeclared = getattr(kind, name) is not getattr(DeclaresState, name)
        if undeclared and name not in component.declares:
            raise TypeError(
                f"{kind.__name__} has a method {name}, which is never called for an object of its "
                f"kind. {component.instead}"
            )
    if not component.holds_modules:
        _check_holds_nothing(component)


def _check_holds_nothing(component: DeclaresState) -> None:
    kind = type(component).__name__
    for path, held in _held(component):
        instead = component.instead
        if "parameters_at_start" in component.declares:
            instead = (
                "Return its first value from the method parameters_at_start, by name: the network "
                f"then holds it, trains it, and hands it to the methods of {kind} as a keyword "
                "argument of that name."
            )
        raise TypeError(
            f"{kind} holds a torch {type(held).__name__} in its attribute {path}, which would "
            f"never be trained. {instead}"
        )


def check_loss_is_declared(
    loss: Tensor, trained: Iterable[Tensor], components: Iterable[DeclaresState]
) -> None:
    """Raise ``TypeError`` where a loss depends on something to train that nobody trains.

    Parameters
    ----------
    loss : Tensor
        Of a step, with its graph.
    trained : iterable of Tensor
        What the network and the optimiser hold.
    components : iterable of DeclaresState
        Looked at once more, for they may have made something in this step.
    """
    for component in components:
        check_state_is_declared(component)
    known = set(trained)
    for leaf in _leaves(loss):
        # One that a step makes for itself, as for a penalty on a gradient, has none of an earlier.
        lasting = isinstance(leaf, nn.Parameter) or leaf.grad is not None
        if lasting and leaf not in known:
            raise TypeError(
                f"The loss depends on a torch {type(leaf).__name__} of shape {tuple(leaf.shape)} "
                "that is in no module of the network, and would never be trained. An object that "
                "trains something returns its first value from the method parameters_at_start, by "
                "name; a module holds its layers as attributes, or in nn.ModuleList and "
                "nn.ParameterList, where a plain list hides them."
            )


def _leaves(loss: Tensor) -> Iterator[Tensor]:
    """Yield the tensors that the graph of a loss gives gradients to."""
    nodes, seen = [loss.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if type(node).__name__ == "AccumulateGrad":
            yield node.variable  # type: ignore[attr-defined]
        nodes += [behind for behind, _ in node.next_functions]


def _held(component: DeclaresState) -> Iterator[tuple[str, Any]]:
    """Yield path and value of each torch parameter or module that an object holds, however deep."""
    waiting, seen = deque(_attributes(component)), {id(component)}
    while waiting:
        path, value = waiting.popleft()
        if isinstance(value, nn.Module) or (
            isinstance(value, Tensor) and value.requires_grad and value.is_leaf
        ):
            yield path, value
        elif id(value) not in seen:
            seen.add(id(value))
            waiting.extend(_within(path, value))


def _attributes(component: DeclaresState) -> Iterator[tuple[str, Any]]:
    """Yield names and values of the attributes of an object and of its classes, but for methods."""
    found: dict[str, Any] = {}
    for kind in reversed(type(component).__mro__):
        found.update((name, one) for name, one in vars(kind).items() if not hasattr(one, "__get__"))
    found.update(vars(component))
    return ((name, one) for name, one in found.items() if not name.startswith(_NOT_LOOKED_AT))


def _within(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield path and value of what a value holds; what learns by a ``fit`` trains its own."""
    if isinstance(value, DeclaresState):
        yield from ((f"{path}.{name}", item) for name, item in _attributes(value))
    elif isinstance(value, Mapping):
        items = ((key, item) for key, item in value.items() if not _is_plain(item))
        yield from ((f"{path}[{key!r}]", item) for key, item in items)
    elif isinstance(value, list | tuple):
        within = ((place, item) for place, item in enumerate(value) if not _is_plain(item))
        yield from ((f"{path}[{place}]", item) for place, item in within)
    elif isinstance(value, set | frozenset | deque):
        yield from ((f"{path}{{...}}", item) for item in value if not _is_plain(item))
    elif hasattr(value, "__dict__") and not (
        isinstance(value, type | ModuleType | Tensor) or hasattr(value, "fit")
    ):
        yield from ((f"{path}.{name}", item) for name, item in vars(value).items())


def _is_plain(value: Any) -> bool:
    """Return whether a value is a number or a string, of which a list may be long."""
    return type(value) in _PLAIN or isinstance(value, np.generic)
