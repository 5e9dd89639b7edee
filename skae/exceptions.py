"""Errors and warnings that skae raises itself.

Bad parameters and bad input raise scikit-learn's own errors (``InvalidParameterError``,
``ValueError``, ``NotFittedError``); the classes here name what only an autoencoder can run into.
Each also inherits the standard class that a caller would think of catching.
"""


class SkaeError(Exception):
    """Base of every error that is particular to skae."""


class SupportError(SkaeError, ValueError):
    """A value of X lies outside the support of the chosen likelihood."""


class NonFiniteLossError(SkaeError, FloatingPointError):
    """Training met a loss that is not finite; the last finite weights are kept."""


class PosteriorCollapseWarning(UserWarning):
    """The posterior of a variational autoencoder equals its prior: the codes say nothing."""
