"""The context in which the fits of a search are trained side by side."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import joblib


@contextlib.contextmanager
def together() -> Iterator[None]:
    from skae._training.side_by_side.backend import Together

    with warnings.catch_warnings(), joblib.parallel_config(backend=Together()):
        yield
