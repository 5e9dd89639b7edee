"""The start at principal component analysis."""

from __future__ import annotations

import numpy as np

from skae.inits.base import LOWEST_NOISE, Init, LinearStart

# Variances of no more than this part of the largest are rounding.
_ROUNDING = 1e-10


class PCAInit(Init):
    r"""Principal components of the scaled columns.

    A deterministic autoencoder *is* PCA before its first step: the code is the projection on the
    first principal axes. A variational one is probabilistic PCA (Tipping and Bishop 1999, equations
    7 and 8): with eigenvalues :math:`\lambda` and :math:`\sigma^2` the mean of those left out,

    .. math:: W = U (\Lambda - \sigma^2 I)^{1/2}

    and the exact posterior, with mean :math:`W' U \Lambda^{-1} U' (x - \mu)` and variances
    :math:`\sigma^2 / \lambda`. :math:`\sigma^2` is at least 0.01, in the units of the scaled
    columns, as is the noise of the Gaussian likelihood. Codes for which the rows have no component
    are zero.

    Up to 400 columns the eigenvectors are exact; beyond, they are found by subspace iteration
    (Halko, Martinsson and Tropp 2011), for which CSR rows are not made dense.

    References
    ----------
    Tipping and Bishop (1999), "Probabilistic principal component analysis".

    Halko, Martinsson and Tropp (2011), "Finding structure with randomness".

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import VAETransformer
    >>> X, _ = load_iris(return_X_y=True)
    >>> vae = VAETransformer(
    ...     2, init="pca", early_stopping=False, tol=0.1, random_state=0
    ... )
    >>> vae.fit_transform(X).shape
    (150, 2)
    """

    def fit(self, rows, n_components, code, seed):
        """Return the projection, or the posterior of probabilistic PCA; see `Init.fit`."""
        k = min(n_components, rows.n_features)
        values, axes, _ = rows.leading(np.ones(rows.n_features), k, seed=seed)
        values = np.maximum(values, 0.0)
        left = max(0.0, rows.variance.sum() - values.sum())
        n_left = max(1, rows.n_features - len(values))
        noise = np.full(rows.n_features, left / n_left)
        if code != "gaussian":
            axes = np.where(values > _ROUNDING * values.max(initial=0.0), axes, 0.0)
            noise = np.maximum(rows.variance - np.square(axes) @ values, 0.0)
            return _padded(rows.mean, axes, axes.T, noise, np.ones(len(values)), n_components)
        noise = np.maximum(noise, LOWEST_NOISE)
        values = np.maximum(values, noise[0])  # of the model, along the axes
        length = np.sqrt(values - noise[0])
        encode, variance = axes * (length / values), noise[0] / values
        return _padded(rows.mean, encode, (axes * length).T, noise, variance, n_components)


def _padded(mean, encode, decode, noise, variance, n_components: int) -> LinearStart:
    """Return a start with zeros for the components that are more than the columns."""
    more = n_components - len(variance)
    return LinearStart(
        mean,
        np.pad(encode, ((0, 0), (0, more))),
        np.pad(decode, ((0, more), (0, 0))),
        noise,
        np.pad(variance, (0, more), constant_values=1.0),
    )
