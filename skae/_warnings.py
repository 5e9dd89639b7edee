"""Warnings stand at the line of the program that called, however deep inside they were found."""

from __future__ import annotations

import contextvars
import inspect
import warnings
from typing import Any, NamedTuple

# A call of skae goes through these on its way in: wrappers of methods, pipelines, searches.
_BETWEEN = {"skae", "sklearn", "joblib", "contextlib", "functools"}


class Line(NamedTuple):
    """A line of the program, as `warnings.warn_explicit` takes it."""

    filename: str
    number: int
    module: str
    registry: dict


#: Where the program called what goes on in a thread of skae's own.
thread_called_at: contextvars.ContextVar[Line | None] = contextvars.ContextVar(
    "thread_called_at", default=None
)


def warn(warning: Warning | None) -> None:
    """Warn at the nearest line outside skae and what it was called through; None: do nothing."""
    if warning is not None:
        warnings.warn_explicit(warning, type(warning), *calling_line())


def calling_line() -> Line:
    """Return the nearest line outside skae and what it was called through."""
    frame: Any = inspect.currentframe()
    while frame.f_back is not None and _package(frame) in _BETWEEN:
        frame = frame.f_back
    called_at = thread_called_at.get()
    if called_at is not None and _package(frame) == "threading":
        return called_at
    registry = frame.f_globals.setdefault("__warningregistry__", {})
    module = frame.f_globals.get("__name__", "<string>")
    return Line(frame.f_code.co_filename, frame.f_lineno, module, registry)


def _package(frame) -> str:
    return frame.f_globals.get("__name__", "").split(".")[0]
