"""Which values may a parameter have? Constraints, for those who write components of their own.

They are scikit-learn's, which keeps them in a private module. A class lists them in
``_parameter_constraints``, by the name of the parameter, and ``"boolean"``, ``None`` and types are
constraints as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from skae import _sklearn
from skae._sklearn import (
    HasMethods,
    Interval,
    InvalidParameterError,
    validate_parameter_constraints,
    validate_params,
)

__all__ = [
    "HasMethods",
    "Interval",
    "InvalidParameterError",
    "Names",
    "StrOptions",
    "validate_parameter_constraints",
    "validate_params",
]


class StrOptions(_sklearn.StrOptions):
    """One of some strings, which messages list in the order given (a set: in that of the alphabet).

    Parameters
    ----------
    options : iterable of str
        The strings that are allowed.

    Examples
    --------
    >>> from skae.constraints import StrOptions
    >>> str(StrOptions(["shared", "per_feature"]))
    "a str among {'shared', 'per_feature'}"
    """

    def __init__(self, options: Iterable[str]):
        options = sorted(options) if isinstance(options, set | frozenset) else list(options)
        super().__init__(set(options))
        self.options = dict.fromkeys(options)


class Names(_sklearn.StrOptions):
    """A name of a vocabulary; messages list names in its order.

    Parameters
    ----------
    vocabulary : dict of str to type
        What each name stands for.
    """

    def __init__(self, vocabulary: Mapping[str, Any]):
        super().__init__(set(vocabulary))
        self.options = dict.fromkeys(vocabulary)
        self.vocabulary = vocabulary
