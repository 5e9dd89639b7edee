"""What to ask of an estimator, a pipeline or a search, which are known by their methods alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted


def parts_of(estimator) -> tuple[list, Any]:
    """Return the transformers before the last step, and the last step, which is fitted.

    A search stands for its best estimator; an estimator alone has nothing before it.

    Raises
    ------
    NotFittedError
        The last step, or the search, is not fitted.
    """
    before: list = []
    while True:
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif isinstance(estimator, Pipeline):
            *first, (_, estimator) = estimator.steps
            before += [step for _, step in first if not is_nothing(step)]
        else:
            check_is_fitted(estimator)
            return before, estimator


def last_of(estimator) -> Any:
    """Return the last step, fitted or not."""
    while isinstance(estimator, Pipeline):
        estimator = estimator.steps[-1][1]
    return estimator


def is_nothing(step) -> bool:
    """Return whether a step of a pipeline stands for doing nothing."""
    return step is None or (isinstance(step, str) and step == "passthrough")


def needs(estimator, methods: tuple[str, ...], owner: type) -> None:
    """Raise ``ValueError`` where an estimator lacks a method."""
    missing = [name for name in methods if not hasattr(estimator, name)]
    if missing:
        raise ValueError(
            f"{owner.__name__} needs an estimator with {' and '.join(methods)}. "
            f"{type(estimator).__name__} has no {' and no '.join(missing)}. Where it is the last "
            "step of a pipeline, after the autoencoder, leave it out: pipeline[:-1]."
        )


def codes_of(estimator, X, owner: type) -> tuple[Any, Any]:
    """Return the codes of rows, an array or CSR, and the estimator whose they are."""
    before, last = parts_of(estimator)
    needs(last, ("transform",), owner)
    for step in before:
        X = step.transform(X)
    codes = last.transform(X)
    return (sp.csr_array(codes) if sp.issparse(codes) else np.asarray(codes)), last
