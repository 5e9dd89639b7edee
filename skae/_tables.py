"""Is X a table of numbers? Its check, and in which sparse container answers are given."""

from __future__ import annotations

import datetime
import reprlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn import get_config
from sklearn.utils.validation import validate_data

from skae._sklearn import check_sample_weight

_MOST_NAMED = 3  # columns that a message lists
_FILL = (
    "Fill them before, for example with sklearn.impute.SimpleImputer in a pipeline, or drop these "
    "rows or columns."
)
_CLIP = "Clip such values, drop their rows, or give the column another unit."
# What numpy says of cells that it cannot make numbers of.
_NO_NUMBER = ("could not convert", "argument must be", "DType", "setting an array", "NAType")
_TIMES = (
    datetime.date,
    datetime.time,
    datetime.timedelta,
    np.datetime64,
    np.timedelta64,
    pd.Period,
)


def validate_table(estimator, X, reset: bool):
    """Return X as floating-point numbers, dense or in canonical CSR.

    Parameters
    ----------
    estimator : estimator
        Its number and names of columns are set with ``reset``, and compared with X without.
    X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
    reset : bool

    Raises
    ------
    ValueError, TypeError
        As `sklearn.utils.validation.validate_data` does; with the column and a remedy where a value
        is missing, infinite, or no number.
    """
    try:
        with np.errstate(invalid="ignore"):  # the sum of the largest numbers of either sign
            table = validate_data(
                estimator, X, accept_sparse="csr", dtype=[np.float64, np.float32], reset=reset
            )
    except (TypeError, ValueError) as error:
        message = _message(X, error)
        if message is None:
            raise
        raise (TypeError if isinstance(error, TypeError) else ValueError)(message) from error
    if sp.issparse(table) and not table.has_canonical_format:
        table = table.copy()
        table.sum_duplicates()
    return table


def to_sparse_interface(rows, like=None):
    """Return CSR rows as the kind of sparse container that is wanted; dense ones as they are.

    Parameters
    ----------
    rows : ndarray or CSR
    like : CSR, optional
        Of the kind that scikit-learn before 1.9 is answered with, which has no setting
        ``sparse_interface``; an array without it.
    """
    if not sp.issparse(rows):
        return rows
    old = "spmatrix" if sp.isspmatrix(like) else "sparray"
    matrix = get_config().get("sparse_interface", old) == "spmatrix"
    return sp.csr_matrix(rows) if matrix else sp.csr_array(rows)


def _message(X, error: Exception) -> str | None:
    """Return what is wrong with X, or None where the error says it already."""
    first_line = str(error).split("\n")[0].rstrip(".")
    if "contains infinity" in first_line:
        return _about_cells(X, _infinite, first_line, "value", _CLIP)
    if any(sign in first_line for sign in _NO_NUMBER) and not sp.issparse(X):
        for name, values in _columns(X):
            odd = _first_that_is_no_number(values)
            if odd is not None:
                return f"Column {name} of X {_about_odd(*odd)}"
    if "contains NaN" in first_line or "NAType" in first_line:
        return _about_cells(X, _missing, "Input X contains NaN", "missing value", _FILL)
    return None


def _about_odd(odd, error: Exception) -> str:
    if isinstance(odd, _TIMES):
        return (
            f"holds a date or time, {odd!r}, and X must be numbers. Turn it into one that means "
            "something, such as the days since some day or the hour, or leave the column out."
        )
    if isinstance(odd, str | bytes):
        return (
            f"holds the text {reprlib.repr(odd)}, and X must be numbers ({error}). Encode it "
            "before, for example with sklearn.preprocessing.OneHotEncoder in a "
            "sklearn.compose.ColumnTransformer, or leave the column out."
        )
    return (
        f"holds {reprlib.repr(odd)}, and X must be numbers ({error}). Turn it into a number, or "
        "leave the column out."
    )


def _about_cells(X, is_bad: Callable, head: str, what: str, remedy: str) -> str | None:
    """Return a message with the columns of the cells that are bad, and their number."""
    counts = [(name, int(is_bad(values).sum())) for name, values in _columns(X)]
    found = [(name, count) for name, count in counts if count]
    if not found:
        return None
    total = sum(count for _, count in found)
    names = ", ".join(name for name, _ in found[:_MOST_NAMED])
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    return (
        f"{head}: {total} {what}{'s' if total > 1 else ''} in column{'s' if len(found) > 1 else ''}"
        f" {names}{more}. {remedy}"
    )


def _columns(X) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the values of each column, and how to call it."""
    names: Any = getattr(X, "columns", None)
    if sp.issparse(X):
        cells = X.tocoo()
        order = np.argsort(cells.col, kind="stable")
        ends = np.cumsum(np.bincount(cells.col, minlength=X.shape[1]))
        parts = np.split(cells.data[order], ends[:-1])
    elif isinstance(X, pd.DataFrame):
        parts = [_plain(X.iloc[:, place]) for place in range(X.shape[1])]
    else:
        table = np.asarray(X) if isinstance(X, np.ndarray) else np.asarray(X, dtype=object)
        parts = list(table.T) if table.ndim == 2 else []
    for place, values in enumerate(parts):
        named = names is not None and isinstance(names[place], str)
        yield f"{place} ({names[place]!r})" if named else str(place), values


def check_weights(sample_weight, X) -> np.ndarray:
    """Return the weights of rows in double precision: not negative, and not all of them zero."""
    weight = check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    if not weight.any():
        raise ValueError(
            "Sample weights must contain at least one non-zero number. "
            f"Got {len(weight)} zeros instead."
        )
    return weight


def weighed_rows(X, sample_weight) -> tuple:
    """Return the rows of positive weight, and their weights; None for None."""
    if sample_weight is None:
        return X, None
    weight = check_weights(sample_weight, X)
    if weight.all():
        return X, weight
    kept = np.flatnonzero(weight)
    return X[kept], weight[kept]


def _plain(column: pd.Series) -> np.ndarray:
    is_plain = isinstance(column.dtype, np.dtype) and column.dtype.kind in "biufc"
    return column.to_numpy() if is_plain else column.to_numpy(dtype=object)


def _first_that_is_no_number(values: np.ndarray) -> tuple[Any, Exception] | None:
    """Return the first value that is neither a number nor missing, and why; or None."""
    if values.dtype.kind in "biufc":
        return None
    for value in values.tolist():
        try:
            float(value)
        except (TypeError, ValueError) as error:
            missing = pd.api.types.is_scalar(value) and pd.isna(value)
            if isinstance(value, _TIMES) or not missing:
                return value, error
    return None


def _missing(values: np.ndarray) -> np.ndarray:
    return np.asarray(pd.isna(values))


def _infinite(values: np.ndarray) -> np.ndarray:
    return np.isinf(values.astype(np.float64))
