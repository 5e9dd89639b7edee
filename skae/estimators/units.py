"""What do units stand for? A table of them: how often, what they write, what switches them on."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd

from skae._training.fitted import FittedModel
from skae._training.units import slopes_of_units
from skae.constraints import Interval, validate_parameter_constraints

_ALLOWED: dict[str, list] = {
    "n_features": [Interval(Integral, 1, None, closed="left"), None],
    "n_rows": [Interval(Integral, 0, None, closed="left")],
    "scaled": ["boolean"],
}


def check_units_asked(**given: Any) -> None:
    """Raise ``InvalidParameterError`` where a parameter of `describe_units` cannot be."""
    validate_parameter_constraints(_ALLOWED, given, caller_name="describe_units")


def names_of_features(given: Any, own: Any, n_features: int) -> np.ndarray:
    """Return one name for each column: those that are given, their own, or "x0" and so on."""
    if given is None:
        given = [f"x{place}" for place in range(n_features)] if own is None else own
    names = np.asarray(given)
    if names.shape != (n_features,):
        raise ValueError(
            f"feature_names must have one entry for each of the {n_features} features. Got the "
            f"shape {names.shape}."
        )
    return names


def table_of_units(
    model: FittedModel,
    codes: np.ndarray,
    names: np.ndarray,
    labels: Any,
    *,
    n_features: int | None,
    n_rows: int,
    scaled: bool,
) -> pd.DataFrame:
    """Return one row for each unit; see `AnswersMixin.describe_units`.

    ``names`` are those of the columns, and ``labels`` those of the rows, or None where it is not
    known which they are.
    """
    active = codes != 0
    times = active.sum(axis=0)
    size = np.abs(codes).sum(axis=0, dtype=np.float64)
    found: dict[str, Any] = {
        "rate": times / len(codes),
        "activation": np.where(times > 0, size, np.nan) / np.maximum(times, 1),
    }
    slopes = slopes_of_units(model, codes, scaled)
    written = [_largest(slope, names, n_features) for slope in slopes]
    found["features"] = [features for features, _ in written]
    found["weights"] = [weights for _, weights in written]
    if labels is not None:
        found["rows"] = list(_most_active(codes, active, labels, n_rows))
    return pd.DataFrame(found, index=pd.RangeIndex(codes.shape[1], name="unit"))


def _largest(slope: np.ndarray | None, names: np.ndarray, n_most: int | None) -> tuple[list, list]:
    """Return the names and the weights of the columns with the largest weights."""
    if slope is None:
        return [], []
    order = np.argsort(-np.abs(slope), kind="stable")[:n_most]
    return names[order].tolist(), slope[order].tolist()


def _most_active(
    codes: np.ndarray, active: np.ndarray, labels: Any, n_most: int
) -> Iterator[list[Any]]:
    """Yield for each unit the labels of the rows with its largest codes, of those where it is."""
    for unit in range(codes.shape[1]):
        rows = np.flatnonzero(active[:, unit])
        order = np.argsort(-codes[rows, unit], kind="stable")[:n_most]
        yield labels[rows[order]].tolist()
