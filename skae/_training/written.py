"""A specification written out as plain data, as JSON has it, and read again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from skae import likelihoods, networks, noise, priors, samplers, schedules, sparsity
from skae._training.bottlenecks import GaussianCode, PlainCode, SparseCode
from skae._training.specification import ModelSpec, TrainingSpec
from skae._validation import Component

_SPECIFICATIONS = (ModelSpec, TrainingSpec, PlainCode, SparseCode, GaussianCode)
_VOCABULARY = (likelihoods, networks, noise, priors, samplers, schedules, sparsity)


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
        A part has no such form: a torch module, a function, a callback.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        items = [write(item, f"item {place} of {name}") for place, item in enumerate(value)]
        return items if isinstance(value, list) else {"tuple": items}
    if isinstance(value, Component) or type(value) in _SPECIFICATIONS:
        parts = {part: write(one, f"{part} of {name}") for part, one in _parts(value).items()}
        return {"class": type(value).__name__, "parameters": parts}
    raise ValueError(
        f"{name} cannot be written out as plain data. Got {value!r}, which is more than names and "
        "numbers. Keep it with pickle or skops, or choose one that has a name."
    )


def read(data: Any, classes: Iterable[type[Component]] = ()) -> Any:
    """Return what `write` wrote.

    Parameters
    ----------
    data : what `write` returned, before or after JSON
    classes : iterable of Component classes
        Classes of the user's own that may occur. No other class is ever looked for, so that data
        from elsewhere make nothing but specifications.

    Raises
    ------
    ValueError
        A class is not known.
    """
    known = {one.__name__: one for one in (*_known_classes(), *classes)}

    def back(value):
        if isinstance(value, list):
            return [back(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "tuple" in value:
            return tuple(map(back, value["tuple"]))
        if value["class"] not in known:
            raise ValueError(
                f"The class {value['class']!r} is not one of skae's. If it is one of yours, hand "
                "it over: classes=[...]."
            )
        parameters = {name: back(one) for name, one in value["parameters"].items()}
        return known[value["class"]](**parameters)

    return back(data)


def _parts(value: Any) -> dict[str, Any]:
    if isinstance(value, Component):
        return value.get_params(deep=False)
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _known_classes() -> Iterable[type]:
    yield from _SPECIFICATIONS
    for module in _VOCABULARY:
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Component):
                yield value
