"""Warnings stand at the line of the program that called, however deep inside they were found."""

from __future__ import annotations

import inspect
import warnings

# A call of skae goes through these on its way in: wrappers of methods, pipelines, searches.
_BETWEEN = {"skae", "sklearn", "joblib", "contextlib", "functools"}


def warn(warning: Warning | None) -> None:
    """Warn at the nearest line outside skae and what it was called through; None: do nothing."""
    if warning is None:
        return
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] in _BETWEEN:
        frame, level = frame.f_back, level + 1
    warnings.warn(warning, stacklevel=level)
