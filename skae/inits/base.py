"""What a start is: a linear model of the rows, which the network contains and improves on."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import numpy as np

from skae._validation import Component
from skae.inits.rows import StartRows
from skae.inits.words import Words

#: Lowest noise variance of a start, in the units of the network: that of the likelihood "gaussian".
LOWEST_NOISE = 1e-2


class LinearStart(NamedTuple):
    """A linear model of rows of mean ``mean``, in the units of the network.

    The code of a row is ``(x - mean) @ encode``, with the variance ``posterior_variance`` where a
    posterior is asked for, and its reconstruction ``mean + code @ decode``, with
    ``noise_variance`` about it.
    """

    mean: np.ndarray  # (n_features,)
    encode: np.ndarray  # (n_features, n_components)
    decode: np.ndarray  # (n_components, n_features)
    noise_variance: np.ndarray  # (n_features,)
    posterior_variance: np.ndarray  # (n_components,)
    words: Words | None = None  # what rows become before they meet ``encode``


class Init(Component):
    """Base of all starts."""

    instead = "A start is found once, before the training, and trains nothing."

    @abstractmethod
    def fit(self, rows: StartRows, n_components: int, code: str, seed: int) -> LinearStart | None:
        """Return the linear model that a training starts at; None starts at random.

        Parameters
        ----------
        rows : StartRows
            The training rows.
        n_components : int
            Size of the code; components that the rows do not have are zero.
        code : {"plain", "sparse", "gaussian"}
            What codes are: numbers with variances of their own, not below zero, or of a standard
            normal prior and with a posterior (a variational autoencoder).
        seed : int
            Of what is drawn.
        """


class Random(Init):
    """First weights at random, in a network without a linear path.

    Weights and biases are uniform on ``+-1 / sqrt(n_inputs)`` of their layer.
    """

    def fit(self, rows, n_components, code, seed):
        """Return None."""
        return None
