"""Errors and warnings that skae raises itself.

Bad parameters and bad input raise scikit-learn's own errors (``InvalidParameterError``,
``ValueError``, ``NotFittedError``); the classes here name what only an autoencoder can run into.
Each also inherits the standard class that a caller would think of catching.
"""

from __future__ import annotations

from typing import Any


class SkaeError(Exception):
    """Base of every error that is particular to skae."""


class SupportError(SkaeError, ValueError):
    """A value of X lies outside the support of the chosen likelihood."""


class NonFiniteLossError(SkaeError, FloatingPointError):
    """Training met a loss that is not finite; the last finite weights are kept.

    Parameters
    ----------
    message : str
    model : FittedModel, optional
        The model with those weights, where the engine has one to hand over.
    buffer : str, optional
        The buffer of the network that was no longer finite, where it was one.
    held_out : bool, default=False
        Whether it is rows held out whose loss was not finite, and theirs alone.
    """

    def __init__(
        self,
        message: str,
        model: Any = None,
        buffer: str | None = None,
        held_out: bool = False,
    ):
        super().__init__(message)
        self.model, self.buffer, self.held_out = model, buffer, held_out


class PosteriorCollapseWarning(UserWarning):
    """The posterior of a variational autoencoder equals its prior: the codes say nothing."""


class UnclearSizeWarning(UserWarning):
    """Several numbers of latents describe the rows nearly alike; "auto" took one of them."""
