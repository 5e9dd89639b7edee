"""Some rows of a table and what an estimator makes of them, through a pipeline and back."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from skae._sklearn import safe_indexing
from skae.plotting.steps import needs, parts_of


class Reconstructed(NamedTuple):
    """Rows beside their reconstruction, dense; only those that are shown."""

    rows: np.ndarray
    reconstructions: np.ndarray
    names: Any  # of the columns, if they have any
    places: np.ndarray  # of the rows in X
    sparse: bool  # whether the rows were


def reconstructed(estimator, X, n_rows: int, owner: type) -> Reconstructed:
    """Return rows that are evenly spaced over X, and what an estimator makes of them."""
    before, last = parts_of(estimator)
    if not hasattr(last, "reconstruct"):
        needs(last, ("transform", "inverse_transform"), owner)
    X = X.tocsr() if sp.issparse(X) else X  # other formats have no rows to take
    n_samples = X.shape[0] if hasattr(X, "shape") else len(X)
    places = np.unique(np.linspace(0, n_samples - 1, n_rows).round().astype(int))
    stages = [safe_indexing(X, places)]
    for step in before:
        stages.append(step.transform(stages[-1]))
    made = _reconstruct(last, stages[-1])
    stage, made = _go_back(before, stages, made)
    rows = stages[stage]
    names = names_after(X, before[:stage])
    return Reconstructed(_dense(rows), _dense(made), names, places, sp.issparse(rows))


def _reconstruct(estimator, rows):
    if hasattr(estimator, "reconstruct"):
        return estimator.reconstruct(rows)
    return estimator.inverse_transform(estimator.transform(rows))


def _go_back(steps: list, stages: list, made) -> tuple[int, Any]:
    """Return the earliest stage of a pipeline that can be gone back to, and what is made there."""
    for place in reversed(range(len(steps))):
        back = _undone(steps[place], made)
        if back is None or not (_is_numbers(stages[place]) and _is_numbers(back)):
            return place + 1, made
        made = back
    return 0, made


def _undone(step, rows):
    """Return rows as they were before a step; None if it cannot say."""
    without_inverse = getattr(step, "inverse_func", step) is None  # a FunctionTransformer
    if without_inverse or not hasattr(step, "inverse_transform"):
        return None
    try:
        return step.inverse_transform(rows)
    except (ValueError, TypeError, NotImplementedError):  # as SimpleImputer without an indicator
        return None


def _is_numbers(rows) -> bool:
    """Return whether rows are a table of numbers, and no texts or names of categories."""
    try:
        found = rows if sp.issparse(rows) else np.asarray(rows, dtype=float)
    except (TypeError, ValueError):
        return False
    return found.ndim == 2


def _dense(rows) -> np.ndarray:
    return rows.toarray() if sp.issparse(rows) else np.asarray(rows, dtype=float)


def names_after(X, steps: list):
    """Return the names of the columns of X after some steps; None where they have none."""
    columns = getattr(X, "columns", None)
    names = None if columns is None else np.asarray(columns)
    for step in steps:
        if not hasattr(step, "get_feature_names_out"):
            return None
        names = step.get_feature_names_out(names)
    return names
