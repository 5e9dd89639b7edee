"""What every layer needs to check its input: components named by a string, and the support of X."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator, clone

from skae._blocks import row_blocks
from skae._hidden import check_state_is_declared
from skae._hints import HintsMixin
from skae._state import DeclaresState
from skae.constraints import Names
from skae.exceptions import SupportError


@contextmanager
def restored_on_error(
    *objects: Any, unless: Callable[[BaseException], bool] | None = None
) -> Iterator[None]:
    """Put the attributes of objects back where the block fails or is interrupted.

    An error of which ``unless`` is true leaves them as they then are.
    """
    before = [vars(one).copy() for one in objects]
    try:
        yield
    except BaseException as error:  # Ctrl-C too
        if unless is not None and unless(error):
            raise
        for one, attributes in zip(objects, before, strict=True):
            vars(one).clear()
            vars(one).update(attributes)
        raise


class Component(HintsMixin, DeclaresState, BaseEstimator, ABC):
    """A choice that users name by a string or pass as an object: a likelihood, a noise, ..."""

    _parameter_constraints: dict = {}

    def check(self):
        """Return self, if a fit can use it.

        Raises
        ------
        InvalidParameterError
            A parameter is out of its range.
        TypeError
            The component holds something to train that it does not declare.
        """
        self._validate_params()
        check_state_is_declared(self)
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


def of_shape(found: Any, shape: tuple[int, ...], owner: object, method: str) -> Any:
    """Return what a method of a component gave, if it has the shape that its base class says.

    One that has not may broadcast: scores of shape (n, 1) less a divergence of shape (n,) are
    n times n numbers.
    """
    given = getattr(found, "shape", None)
    if given != shape:
        got = type(found).__name__ if given is None else tuple(given)
        raise ValueError(
            f"{method} of {type(owner).__name__} must return the shape {tuple(shape)} here. Got "
            f"{got} instead."
        )
    return found


def within_support(X, likelihood, feature_names=None, advice: str = ""):
    """Return X with values inside the support of a likelihood, those that were off by rounding.

    Parameters
    ----------
    X : ndarray or CSR of shape (n_samples, n_features)
    likelihood : Likelihood
    feature_names : sequence of str, optional
        Names of the columns, for the message.
    advice : str, optional
        What the message ends with where a value is outside by no more than one.

    Returns
    -------
    X : ndarray or CSR
        X itself where every value is inside; else a copy, of the same format.

    Raises
    ------
    SupportError
        A value is farther outside than by rounding. Column and value are named.
    """

    def move(values, columns, part):
        settled = likelihood.settled(values)
        found = _first_outside(settled, columns, likelihood.inside)
        if found is not None:
            _raise_outside(*found, likelihood, feature_names, advice)
        return settled

    return moved_inside(X, likelihood, move)


def _raise_outside(column: int, value, likelihood, feature_names, advice: str) -> NoReturn:
    name = "" if feature_names is None else f" ({feature_names[column]!r})"
    if not np.isfinite(value) or abs(value - likelihood.nearest(value)) > 1:
        advice = ""
    raise SupportError(
        f"likelihood {type(likelihood).__name__} needs {likelihood.support}, but column "
        f"{column}{name} of X holds {float(value)!r}. Rescale that column, or choose a likelihood "
        f"whose support holds it, such as likelihood='gaussian'. {advice}".rstrip()
    )


def moved_inside(X, likelihood, move: Callable):
    """Return X with ``move(values, columns, part)`` in the place of chunks that are not all inside.

    X itself is returned where all of it is inside. ``part`` is the slice of the rows of a dense X,
    of the entries of a CSR X, where a zero that comes about is no longer stored.
    """
    result = X
    for part in _parts(X):
        values, columns = _chunk(X, part)
        if not likelihood.inside(values).all():
            moved = move(values, columns, part)
            result = X.copy() if result is X else result
            _chunk(result, part)[0][...] = moved
    if result is not X and sp.issparse(result):
        result.eliminate_zeros()
    return result


def value_chunks(X) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Yield the values of dense rows, or the stored values of CSR rows and their columns.

    Of some rows or some entries at a time, whatever the width of the table.
    """
    return (_chunk(X, part) for part in _parts(X))


def _parts(X) -> Iterator[slice]:
    return row_blocks(len(X.data), 1) if sp.issparse(X) else row_blocks(*X.shape)


def _chunk(X, part: slice) -> tuple[np.ndarray, np.ndarray | None]:
    return (X.data[part], X.indices[part]) if sp.issparse(X) else (X[part], None)


def _first_outside(values, columns, inside) -> tuple[int, Any] | None:
    """Return column and value of the first entry outside, or None."""
    outside = ~inside(values)
    if not outside.any():
        return None
    place = np.unravel_index(int(np.argmax(outside)), values.shape)
    column = place[1] if columns is None else columns[place[0]]
    return int(column), values[place]
