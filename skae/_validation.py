"""What every layer needs to check its input: components named by a string, and the support of X."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator, clone

from skae._hints import HintsMixin
from skae.constraints import Names
from skae.exceptions import SupportError

_CELLS_PER_CHUNK = 2**20


class Component(HintsMixin, BaseEstimator):
    """A choice that users name by a string or pass as an object: a likelihood, a noise, ..."""

    _parameter_constraints: dict = {}

    def check(self):
        """Raise ``InvalidParameterError`` where a parameter is out of its range; return self."""
        self._validate_params()
        return self


def choice(vocabulary: Mapping[Any, type[Component]], base: type[Component]) -> list:
    """Return the parameter constraint "a name of ``vocabulary`` or an instance of ``base``"."""
    return [Names(vocabulary), base]


def resolve(value: str | Component, vocabulary: Mapping[Any, type[Component]]) -> Any:
    """Return a checked component of its own for a name or an object.

    The object that the user passed is cloned, so that nothing a fit does can change it.
    """
    component = vocabulary[value]() if isinstance(value, str) else clone(value)
    return component.check()


def check_support(
    X,
    inside: Callable[[np.ndarray], np.ndarray],
    likelihood: str,
    support: str,
    feature_names=None,
) -> None:
    """Raise `SupportError` with column and value where X leaves the support of a likelihood.

    Parameters
    ----------
    X : ndarray or CSR of shape (n_samples, n_features)
    inside : callable
        Maps an array of values to a boolean array of the same shape. Zero must be inside when X
        is sparse.
    likelihood, support : str
        Names for the message, such as "Bernoulli" and "values in [0, 1]".
    feature_names : sequence of str, optional
        Names of the columns, for the message.
    """
    for values, columns in value_chunks(X):
        found = _first_outside(values, columns, inside)
        if found is not None:
            column, value = found
            name = "" if feature_names is None else f" ({feature_names[column]!r})"
            raise SupportError(
                f"likelihood {likelihood} needs {support}, but column {column}{name} of X holds "
                f"{value!r}. Rescale that column, or choose a likelihood whose support holds it, "
                "such as likelihood='gaussian'."
            )


def value_chunks(X) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Yield the values of dense rows, or the stored values of CSR rows and their columns.

    Of some rows or some entries at a time, whatever the width of the table.
    """
    if sp.issparse(X):
        for start in range(0, len(X.data), _CELLS_PER_CHUNK):
            part = slice(start, start + _CELLS_PER_CHUNK)
            yield X.data[part], X.indices[part]
        return
    n_rows = max(1, _CELLS_PER_CHUNK // max(1, X.shape[1]))
    for start in range(0, X.shape[0], n_rows):
        yield X[start : start + n_rows], None


def _first_outside(values, columns, inside) -> tuple[int, float] | None:
    """Return column and value of the first entry outside, or None."""
    outside = ~inside(values)
    if not outside.any():
        return None
    place = np.unravel_index(int(np.argmax(outside)), values.shape)
    column = place[1] if columns is None else columns[place[0]]
    return int(column), float(values[place])
