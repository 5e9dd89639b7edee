"""Specifications: plain data of which two are equal where all of their parts are.

Components have no equality of their own, for they can be changed by ``set_params``; what a model
was built with cannot, and whether a training can go on is a matter of whether it is the same.
"""

from __future__ import annotations

import dataclasses
from abc import ABC
from collections.abc import Iterable, Iterator, Mapping
from numbers import Real
from types import MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from skae._validation import Component


class Specification(ABC):  # noqa: B024 - what a specification is of, its fields say
    """Base of frozen dataclasses (made with ``eq=False``) that are equal where their parts are."""

    def __eq__(self, other: object) -> bool:
        return same(self, other)

    def __hash__(self) -> int:
        return hash((type(self).__name__, *map(_hashable, parts_of(self).values())))


def parts_of(value: Any) -> dict[str, Any]:
    """Return the parts of a component (its parameters) or of a specification (its fields)."""
    if isinstance(value, Component):
        return value.get_params(deep=False)
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def differences(one: Any, other: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield name and both values of the parts in which two specifications of a kind differ.

    Of a specification within, the parts that differ stand for it.
    """
    parts = parts_of(other)
    for name, value in parts_of(one).items():
        if isinstance(value, Specification) and type(value) is type(parts[name]):
            yield from differences(value, parts[name])
        elif not same(value, parts[name]):
            yield name, value, parts[name]


def same(one: Any, other: Any, seen: frozenset = frozenset()) -> bool:
    """Return whether two values are of one kind and made of equal parts, however deep.

    Numbers are equal as Python has it, NaN is NaN, and functions and classes are equal to
    themselves alone. A method is equal to that of another object of its class, which every clone
    has, and which may have changed by being called. Sets have no order. Of any other object it is
    what pickle would keep that is compared.
    """
    if one is other or (id(one), id(other)) in seen:
        return True
    if isinstance(one, Real | str):
        are_nan = one != one and other != other
        return isinstance(other, Real | str) and (are_nan or bool(one == other))
    if isinstance(one, MethodType) and isinstance(other, MethodType):
        return one.__func__ is other.__func__ and type(one.__self__) is type(other.__self__)
    if type(one) is not type(other) or isinstance(one, type) or _is_function(one):
        return False
    if isinstance(one, Tensor):
        return _same_tensor(one, other)
    if isinstance(one, np.ndarray):
        return _same_array(one, other)
    seen = seen | {(id(one), id(other))}
    if isinstance(one, Mapping):
        keys = same(list(one), list(other), seen)  # copies of modules among them
        return keys and same(list(one.values()), list(other.values()), seen)
    if isinstance(one, list | tuple):
        pairs = zip(one, other, strict=False)
        return len(one) == len(other) and all(same(*pair, seen) for pair in pairs)
    if isinstance(one, set | frozenset):
        return len(one) == len(other) and _same_members(one - other, other - one, seen)
    if isinstance(one, Component | Specification):
        return same(parts_of(one), parts_of(other), seen)
    return (one == other) is True or same(_kept(one), _kept(other), seen)


def _is_function(value: Any) -> bool:
    """Return whether a value is a function, of which nothing but its name is known."""
    return callable(value) and hasattr(value, "__qualname__")


def _kept(value: Any) -> list:
    """Return what pickle would keep of an object; of one that it refuses, something of its own."""
    try:
        kept = value.__reduce_ex__(4)
    except (TypeError, AttributeError):
        return [object()]
    if isinstance(kept, str):  # a name, under which there is one object
        return [object()]
    return [part if isinstance(part, tuple | dict) else _listed(part) for part in kept]


def _listed(part: Any) -> Any:
    return list(part) if isinstance(part, Iterator) else part


def _same_members(ones: Iterable, others: Iterable, seen: frozenset) -> bool:
    """Return whether members are the same in some order, which copies of a set need not share."""
    left = list(others)
    for one in ones:
        place = next((at for at, other in enumerate(left) if same(one, other, seen)), None)
        if place is None:
            return False
        del left[place]
    return not left


def _same_array(one: np.ndarray, other: np.ndarray) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.dtype == object:
        return same(one.tolist(), other.tolist())
    return one.tobytes() == other.tobytes()


def _same_tensor(one: Tensor, other: Tensor) -> bool:
    """Return whether tensors have the same numbers, bit by bit, and are both to be trained."""
    kinds = [(tensor.dtype, tensor.layout, _is_trained(tensor)) for tensor in (one, other)]
    if kinds[0] != kinds[1]:
        return False
    if is_lazy(one):  # as the other is, whose type is the same: there are no numbers yet
        return True
    if one.shape != other.shape or one.layout is not torch.strided or one.is_quantized:
        return one.shape == other.shape and same(_kept(one), _kept(other))
    return one.is_meta == other.is_meta and (one.is_meta or _bytes(one) == _bytes(other))


def _is_trained(tensor: Tensor) -> bool:
    return tensor.requires_grad and tensor.is_leaf  # what is worked out from others has no say


def _bytes(tensor: Tensor) -> bytes:
    """Return the numbers of a tensor, of types that numpy does not have, too."""
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    return plain.flatten().view(torch.uint8).numpy().tobytes()


def _hashable(part: Any) -> Any:
    """Return what equal parts have in common, and can be hashed."""
    if part is None or isinstance(part, str) or (isinstance(part, Real) and part == part):
        return part
    if isinstance(part, tuple):
        return tuple(map(_hashable, part))
    return "NaN" if isinstance(part, Real) else type(part).__name__
