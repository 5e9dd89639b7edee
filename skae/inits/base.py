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
    ``noise_variance`` about it. Where raw outputs of the decoder are no means of columns (counts,
    flags), the encoder alone starts so, of rows as the encoder sees them.

    Parameters
    ----------
    mean : ndarray of shape (n_features,)
    encode : ndarray of shape (n_features, n_components), or (n_vectors, n_components) with words
    decode : ndarray of shape (n_components, n_features)
    noise_variance : ndarray of shape (n_features,)
        At least 0.
    posterior_variance : ndarray of shape (n_components,)
        Above 0, at most 1.
    words : Words or None, default=None
        What rows become before they meet ``encode``: features of mean zero.
    """

    mean: np.ndarray
    encode: np.ndarray
    decode: np.ndarray
    noise_variance: np.ndarray
    posterior_variance: np.ndarray
    words: Words | None = None

    def log_density(self, x: np.ndarray) -> np.ndarray:
        r"""Return log p(x) of rows in the units of the network, where codes are standard normal.

        .. math:: \log N(x \mid \mu, W^\top W + \Psi)

        with W = ``decode`` and :math:`\Psi` the ``noise_variance``, by the matrix inversion lemma.

        Parameters
        ----------
        x : ndarray of shape (n_rows, n_features)

        Returns
        -------
        log_density : ndarray of shape (n_rows,)
        """
        weighted = self.decode / self.noise_variance
        inner = np.eye(len(self.decode)) + weighted @ self.decode.T
        centred = x - self.mean
        along = centred @ weighted.T
        distance = np.square(centred) @ (1.0 / self.noise_variance)
        distance -= (along * np.linalg.solve(inner, along.T).T).sum(axis=1)
        volume = np.linalg.slogdet(inner)[1] + np.log(2 * np.pi * self.noise_variance).sum()
        return -0.5 * (distance + volume)


class Init(Component):
    """Base of all starts: what the first weights of a network are.

    A network whose ``has_linear_path`` is True is a linear map plus what hidden layers make of the
    row, which is zero before the first step, so that it begins as the `LinearStart` that `fit`
    returns. Other networks start at random.
    """

    instead = "A start is found once, before the training, and trains nothing."

    @abstractmethod
    def fit(self, rows: StartRows, n_components: int, code: str, seed: int) -> LinearStart | None:
        """Return the linear model that a training starts at; None starts at random.

        Parameters
        ----------
        rows : StartRows
            The training rows, weighted, in the units of the network.
        n_components : int
            Size of the code; components that the rows do not have are zero.
        code : {"plain", "sparse", "gaussian"}
            What codes are: numbers with variances of their own, not below zero, or of a standard
            normal prior and with a posterior (a variational autoencoder).
        seed : int
            Of what is drawn: the same rows and seed have the same start.

        Returns
        -------
        LinearStart or None

        Raises
        ------
        ValueError
            The start is not for these rows or codes.
        """

    def for_parts(self) -> Init:
        """Return the start of a training that sees a first part of its rows."""
        return self


class Random(Init):
    """First weights at random, in a network without a linear path.

    Weights and biases are uniform on ``+-1 / sqrt(n_inputs)`` of their layer. The decoder begins
    with the means of the columns.

    Examples
    --------
    >>> from skae import VAETransformer
    >>> VAETransformer(init="random").init
    'random'
    """

    def fit(self, rows, n_components, code, seed):
        """Return None; see `Init.fit`."""
        return None
