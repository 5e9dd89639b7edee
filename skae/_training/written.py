"""A specification written out as plain data, as JSON has it, and read again.

An object is ``{"class": name, "parameters": {...}}``, a tuple ``{"tuple": [...]}``, and a number
that JSON does not have ``{"float": "nan"}``. Classes of skae have their name, those of users the
name of their module as well, so that none of them is taken for one of skae's.
"""

from __future__ import annotations

import inspect
import math
import typing
from abc import ABC
from collections.abc import Callable, Iterable, Iterator
from numbers import Integral, Real
from types import UnionType
from typing import Any, NoReturn

import numpy as np

from skae._training.plain_data import Specification, parts_of
from skae._validation import Component


def write(value: Any, name: str = "the specification") -> Any:
    """Return a specification, or a part of one, as dicts, lists, strings and numbers.

    Parameters
    ----------
    value : ModelSpec, TrainingSpec or a value of their fields
    name : str
        What an error calls it.

    Raises
    ------
    ValueError
        A part has no such form: a torch module, a function, a callback, a complex number.
    """
    if value is None or isinstance(value, bool | np.bool_ | Real | str):
        return _write_word(value)
    if isinstance(value, list | tuple):
        items = [write(item, f"item {place} of {name}") for place, item in enumerate(value)]
        return items if isinstance(value, list) else {"tuple": items}
    if isinstance(value, Component | Specification):
        parts = {part: write(one, f"{part} of {name}") for part, one in parts_of(value).items()}
        return {"class": _name_of(type(value)), "parameters": parts}
    raise ValueError(
        f"{name} cannot be written out as plain data. Got {value!r}, which is more than names and "
        "numbers. Keep it with pickle or skops, or choose one that has a name."
    )


def _write_word(value: Any) -> Any:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        number = float(value)
        return number if math.isfinite(number) else {"float": str(number)}
    return value if value is None else str(value)


def read(data: Any, classes: Iterable[type[Component]] = ()) -> Any:
    """Return what `write` wrote; components are checked as a fit checks them.

    Parameters
    ----------
    data : what `write` returned, before or after JSON
    classes : iterable of Component classes
        Classes of the user's own that may occur. No other class is ever looked for, so that data
        from elsewhere make nothing but specifications.

    Raises
    ------
    ValueError
        A class is not known, a parameter is missing or unknown, a field of a specification is of
        another kind, a parameter of a component out of its range, or data have another form than
        `write` gives them.
    TypeError
        A component holds something to train that it does not declare.
    """
    return _Reader({**_classes_of_skae(), **{_name_of(one): one for one in classes}}).back(data)


class _Reader:
    """Makes objects of the classes that it knows, by name."""

    def __init__(self, known: dict[str, type]):
        self.known = known

    def back(self, data: Any, name: str = "the specification") -> Any:
        """Return what stands in data; ``name`` is what an error calls it."""
        if data is None or isinstance(data, bool | int | float | str):
            return data
        if isinstance(data, list):
            return [self.back(item, f"item {place} of {name}") for place, item in enumerate(data)]
        keys = sorted(map(str, data)) if isinstance(data, dict) else None
        if keys == ["tuple"] and isinstance(data["tuple"], list):
            return tuple(self.back(data["tuple"], name))
        if keys == ["float"] and data["float"] in ("nan", "inf", "-inf"):
            return float(data["float"])
        if keys == ["class", "parameters"] and isinstance(data["parameters"], dict):
            return self._made(data["class"], data["parameters"], name)
        _raise_malformed(name, "an object, a tuple, a list, a string or a number", data)

    def _made(self, called: Any, written: dict, name: str) -> Any:
        kind = self.known.get(called) if isinstance(called, str) else None
        if kind is None:
            raise ValueError(
                f"The class {called!r} of {name} is not one of skae's. If it is one of yours, hand "
                "it over: classes=[...]."
            )
        expected = list(inspect.signature(kind).parameters)
        if sorted(map(str, written)) != sorted(expected):
            _raise_malformed(f"{name} ({called})", f"the parameters {expected}", list(written))
        parts = {part: self.back(one, f"{part} of {name}") for part, one in written.items()}
        if issubclass(kind, Component):
            return kind(**parts).check()
        for field, hint in typing.get_type_hints(kind).items():
            if field in parts and not _fits(parts[field], hint):
                _raise_malformed(f"{field} of {name}", _words(hint), parts[field])
        return kind(**parts)


def _raise_malformed(name: str, wanted: str, got: Any) -> NoReturn:
    raise ValueError(
        f"{name} cannot be read: it must be {wanted}. Got {got!r} instead. Read what write() "
        "returned, unchanged, with the version of skae that wrote it."
    )


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a value is of the kind that a field of a specification has."""
    origin = typing.get_origin(hint)
    if origin in (UnionType, typing.Union):
        return any(_fits(value, one) for one in typing.get_args(hint))
    if origin is typing.Literal:
        return isinstance(value, str) and value in typing.get_args(hint)
    if origin is tuple:
        kind = typing.get_args(hint)[0]
        return isinstance(value, tuple) and all(_fits(item, kind) for item in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if origin is Callable or hint is Callable:
        return callable(value)
    return hint is Any or isinstance(value, hint)


def _words(hint: Any) -> str:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (UnionType, typing.Union):
        return " or ".join(map(_words, parts))
    if origin is typing.Literal:
        return " or ".join(map(repr, parts))
    return hint.__name__ if isinstance(hint, type) else str(hint)


def _name_of(kind: type) -> str:
    """Return what a class is called in data."""
    if _is_of_skae(kind):
        return kind.__name__
    return f"{kind.__module__}.{kind.__qualname__}"


def _is_of_skae(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == "skae"


def _classes_of_skae() -> dict[str, type]:
    """Return all specifications and components of skae's that are more than a base, by name."""
    kinds: list[type] = [*_below(Specification), *_below(Component)]
    return {kind.__name__: kind for kind in kinds if _is_of_skae(kind) and not _is_base(kind)}


def _is_base(kind: type) -> bool:
    return inspect.isabstract(kind) or ABC in kind.__bases__


def _below(base: type) -> Iterator[type]:
    kinds: list[type] = base.__subclasses__()
    for kind in kinds:
        yield kind
        yield from _below(kind)
