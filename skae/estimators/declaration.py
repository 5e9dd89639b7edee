"""How an estimator declares its parameters: default, allowed values and text in one place.

A parameter is a dataclass field that `parameter`, `choices` or `redefined` makes. The decorator
`estimator` turns the fields of a class, its own and those that it shares, into what scikit-learn
wants: an ``__init__`` that only stores, with a real signature; ``_parameter_constraints``; and the
"Parameters" section of the docstring. So a parameter is added, or its text changed, in one place.
"""

from __future__ import annotations

import dataclasses
import inspect
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, dataclass_transform

from skae._hints import hint_at_parameters
from skae._validation import Component, choice
from skae.constraints import StrOptions

_WIDTH = 96
_SECTIONS = ("Attributes", "Raises", "Warns", "See Also", "Notes", "References", "Examples")
Class = TypeVar("Class", bound=type)


def parameter(default: Any, values: list, kind: str, text: str) -> Any:
    """Return a field: its default, its constraint, and its type and text in the docstring."""
    return field(default=default, metadata={"values": values, "kind": kind, "text": text})


def choices(
    default: Any,
    names: Mapping[str, Any],
    text: str,
    base: type[Component] | None = None,
    also: tuple = (),
) -> Any:
    """Return a field for a name of a vocabulary, an object of its ``base``, or one of ``also``."""
    words = [one for one in also if one is not None]
    values: list = choice(names, base) if base else [StrOptions(names)]
    values += [StrOptions({word}) for word in words]
    quoted = ", ".join(f'"{name}"' for name in [*words, *names])
    kinds = [f"{{{quoted}}}", *([base.__name__] if base else [])]
    if None in also:
        values.append(None)
        kinds.append("None")
    return parameter(default, values, " or ".join(kinds), text)


def redefined(owner: type, name: str, default: Any) -> Any:
    """Return a parameter of another class with a default of its own."""
    return field(default=default, metadata=_fields(owner)[name].metadata)


@dataclass_transform(kw_only_default=True, field_specifiers=(parameter, choices, redefined))
def estimator(cls: Class) -> Class:
    """Give a class its ``__init__``, its table of constraints and the whole of its docstring.

    All parameters but ``n_components`` are keyword-only. In signature and docstring the class's
    own come before those that it shares.
    """
    own = [name for name in vars(cls).get("__annotations__", {}) if name in vars(cls)]
    dataclass(eq=False, repr=False, kw_only=True)(cls)
    for name in own:  # __init__ knows the default; on the class it would look like a setting
        delattr(cls, name)
    fields = _fields(cls)
    order = ["n_components", *own, *fields]
    ordered = {name: fields[name] for name in dict.fromkeys(order) if name in fields}
    _set_signature(cls, list(ordered))
    constraints = {name: one.metadata["values"] for name, one in ordered.items()}
    cls._parameter_constraints = constraints  # type: ignore[attr-defined]
    cls.__doc__ = _docstring(cls, list(ordered.values()))
    return hint_at_parameters(cls)


def _fields(cls: type) -> dict[str, dataclasses.Field]:
    return {one.name: one for one in dataclasses.fields(cls)}


def _set_signature(cls: Any, order: list[str]) -> None:
    signature = inspect.signature(cls.__init__)
    parameters = [signature.parameters[name] for name in ("self", *order)]
    bare = [one.replace(annotation=inspect.Parameter.empty) for one in parameters]
    cls.__init__.__signature__ = inspect.Signature(bare)


def _docstring(cls: Any, fields: list[dataclasses.Field]) -> str:
    """Return the docstring of a class with all of its parameters, and the attributes it shares."""
    lines = inspect.cleandoc(cls.__doc__ or "").split("\n")
    first = next((i for i, line in enumerate(lines) if line in _SECTIONS), len(lines))
    summary, rest = lines[:first], lines[first:]
    shared = [vars(base).get("_shared_attributes", "") for base in cls.__mro__]
    attributes = [line for text in shared if text for line in inspect.cleandoc(text).split("\n")]
    own, rest = (rest[2:], []) if rest[:1] == ["Attributes"] else ([""], rest)
    entries = [row for one in fields for row in _entry(one)]
    parts = [
        *summary,
        *("Parameters", "----------", *entries, ""),
        *("Attributes", "----------", *attributes, *own),
    ]
    return "\n".join([*parts, *rest, ""])


def _entry(one: dataclasses.Field) -> list[str]:
    """Return the lines of a parameter in a docstring of numpydoc's form."""
    default = f'"{one.default}"' if isinstance(one.default, str) else repr(one.default)
    text = textwrap.fill(" ".join(one.metadata["text"].split()), _WIDTH)
    return [
        f"{one.name} : {one.metadata['kind']}, default={default}",
        *textwrap.indent(text, "    ").split("\n"),
    ]
