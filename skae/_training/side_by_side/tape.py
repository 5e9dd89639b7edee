"""What a function makes torch do, recorded once and done again without the function.

In many small steps most of the time goes to Python: modules, `vmap`, and autograd on its way back.
What reaches torch below all of them is a few dozen operations on tensors whose shapes are the same
in every step.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# What a tensor has a method for, with the same arguments in the same places. Methods are called in
# half of the time of what was recorded.
_METHODS = [
    "abs",
    "add",
    "baddbmm",
    "bmm",
    "clamp",
    "detach",
    "div",
    "exp",
    "expand",
    "log",
    "mul",
    "neg",
    "pow",
    "reciprocal",
    "sgn",
    "squeeze",
    "sub",
    "sum",
    "transpose",
    "unsqueeze",
    "view",
]

Flat = Callable[..., tuple[Tensor, ...]]


class _Operation(NamedTuple):
    function: Any  # an overload of `torch.ops`
    args: tuple
    kwargs: dict[str, Any]
    found: Any

    @property
    def name(self) -> str:
        """Its name without that of the overload, such as "add_" of "aten::add_.Tensor"."""
        return self.function.name().removeprefix("aten::").partition(".")[0]

    @property
    def changes(self) -> bool:
        """Whether it writes into what it is given."""
        return self.name.endswith("_")

    @property
    def changes_nothing(self) -> bool:
        """Whether what is found is what was given, as `detach` and many an `expand` say it."""
        found, given = self.found, self.args[0] if self.args else None
        return isinstance(found, Tensor) and isinstance(given, Tensor) and _are_alike(found, given)


class _Recorder(TorchDispatchMode):
    """Writes down each operation, and keeps all tensors so that none has the id of another."""

    def __init__(self):
        super().__init__()
        self.operations: list[_Operation] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        self.operations.append(_Operation(function, args, kwargs or {}, found))
        return found


def recorded(function: Flat, inputs: Sequence[Tensor]) -> Flat:
    """Return a function that does with tensors of these shapes what a function does with these.

    What the function does must not depend on the numbers in the tensors. It may take gradients, but
    none go through what is returned.
    """
    with _Recorder() as recorder:
        outputs = function(*inputs)
    return _Written(inputs, recorder.operations).returning(outputs)


class _Written:
    """Operations as a function of Python, which lets go of each tensor after its last use."""

    def __init__(self, inputs: Sequence[Tensor], operations: list[_Operation]):
        self.graph, self.root = torch.fx.Graph(), torch.nn.Module()
        self.nodes = {id(one): self.graph.placeholder(f"given{n}") for n, one in enumerate(inputs)}
        self.memory = {_memory(one) for one in inputs}
        written_to = {id(one.args[0]) for one in operations if one.changes}
        for one in operations:
            stays = not written_to & {id(one.found), *map(id, one.args[:1])}
            if stays and one.changes_nothing:
                self.nodes[id(one.found)] = self._node_of(one.args[0])
            else:
                self._write(one)

    def returning(self, outputs: Sequence[Tensor]) -> Flat:
        """Return the function, of which these are the outputs."""
        self.graph.output(tuple(map(self._node_of, outputs)))
        return torch.fx.GraphModule(self.root, self.graph).forward

    def _write(self, one: _Operation) -> None:
        args: Any = torch.fx.node.map_aggregate(one.args, self._node_of)
        kwargs: Any = torch.fx.node.map_aggregate(one.kwargs, self._node_of)
        if one.name in _METHODS:
            node = self.graph.call_method(one.name, args, kwargs)
        else:
            node = self.graph.call_function(one.function, args, kwargs)
        parts = _parts(self.graph, node, one.found)
        self.nodes |= {id(tensor): node for tensor, node in parts}
        self.memory |= {_memory(tensor) for tensor, _ in parts}

    def _node_of(self, value: Any) -> Any:
        """Return what stands for a tensor: another from step to step, or always the same."""
        if not isinstance(value, Tensor):
            return value
        if id(value) not in self.nodes:
            if value.numel() and _memory(value) in self.memory:
                raise RuntimeError("a tensor of a step was found by no operation of torch")
            name = f"constant{len(self.nodes)}"
            self.root.register_buffer(name, value)
            self.nodes[id(value)] = self.graph.get_attr(name)
        return self.nodes[id(value)]


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _parts(graph: torch.fx.Graph, node: Any, found: Any) -> list[tuple[Tensor, Any]]:
    """Return each tensor that an operation found, with its node."""
    if isinstance(found, Tensor):
        return [(found, node)]
    return [
        (part, graph.call_function(operator.getitem, (node, place)))
        for place, part in enumerate(found if isinstance(found, tuple | list) else ())
        if isinstance(part, Tensor)
    ]


def _are_alike(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors have the same numbers in the same places of the memory."""
    return (
        one.data_ptr() == other.data_ptr()
        and (one.shape, one.stride(), one.dtype) == (other.shape, other.stride(), other.dtype)
        and one.numel() > 0
    )
