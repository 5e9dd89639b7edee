"""The start at factor analysis, shrunk to what new rows will show of it."""

from __future__ import annotations

import numpy as np

from skae.inits.base import LOWEST_NOISE, Init
from skae.inits.pca import _padded
from skae.inits.rows import StartRows

_MOST_ITERATIONS, _TOLERANCE = 200, 1e-3


class FactorAnalysisInit(Init):
    r"""Factor analysis: columns are independent given the code.

    .. math:: x \mid z \sim N(\mu + W z, \Psi), \qquad z \sim N(0, I)

    with diagonal :math:`\Psi`. Given :math:`\Psi`, with U and l the first eigenvectors and
    eigenvalues of :math:`\Psi^{-1/2} S \Psi^{-1/2}`, the likelihood is highest at :math:`W =
    \Psi^{1/2} U (l - 1)^{1/2}` (Lawley and Maxwell 1971), and W gives :math:`\Psi` in turn. A
    variational autoencoder that starts there has the exact posterior, with mean :math:`W' \Psi^{-1}
    (x - \mu) / l` and variances 1 / l, so that its bound is the likelihood. Codes without a
    posterior are the generalised least squares of the row on the factors. Noise variances are at
    least 0.01, in the units of the scaled columns, as is the noise of the Gaussian likelihood.

    Parameters
    ----------
    shrink : bool, default=True
        Whether eigenvalues are brought to the variance that new rows will have along these
        directions, by the spiked model (Donoho, Gavish and Johnstone 2018): noise alone reaches
        :math:`(1 + \sqrt g)^2` for :math:`g` columns a row. The fit of n rows else flatters itself,
        the more so the more components there are. A noise variance is not believed to be small
        either, where a few rows make up most of the variance of a column: it counts as seen in
        :math:`2 n / (\kappa - 3)` rows, with the kurtosis :math:`\kappa`, beside one row of the
        variance of the column.

    References
    ----------
    Lawley and Maxwell (1971), "Factor analysis as a statistical method".

    Donoho, Gavish and Johnstone (2018), "Optimal shrinkage of eigenvalues in the spiked covariance
    model".

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import VAETransformer
    >>> from skae.inits import FactorAnalysisInit
    >>> X, _ = load_iris(return_X_y=True)
    >>> vae = VAETransformer(
    ...     2,
    ...     init=FactorAnalysisInit(shrink=False),
    ...     early_stopping=False,
    ...     tol=0.1,
    ... )
    >>> vae.fit_transform(X).shape
    (150, 2)
    """

    _parameter_constraints: dict = {"shrink": ["boolean"]}

    def __init__(self, shrink=True):
        self.shrink = shrink

    def fit(self, rows, n_components, code, seed):
        """Return the posterior, or the projection on the factors; see `Init.fit`."""
        k = min(n_components, rows.n_features)
        noise, axes, gain = self._iterate(rows, k, seed)
        root = np.sqrt(noise)[:, None]
        loadings = root * axes * np.sqrt(gain - 1.0)
        if code == "gaussian":
            encode = axes / root * (np.sqrt(gain - 1.0) / gain)
            return _padded(rows.mean, encode, loadings.T, noise, 1.0 / gain, n_components)
        length = np.linalg.norm(loadings, axis=0)
        on = length > 0
        safe = np.where(on, length, 1.0)
        encode = np.where(on, axes / root * (safe / np.sqrt(np.where(on, gain - 1.0, 1.0))), 0.0)
        return _padded(rows.mean, encode, (loadings / safe).T, noise, np.ones(k), n_components)

    def _iterate(self, rows: StartRows, k: int, seed: int) -> tuple:
        """Return the noise variances, the directions, and their variances over the noise."""
        believed = 2 * rows.n_rows / np.maximum(rows.kurtosis - 3.0, 1e-3)
        noise = np.maximum(rows.variance, LOWEST_NOISE)
        basis = None
        for _ in range(_MOST_ITERATIONS):
            values, axes, basis = rows.leading(1.0 / np.sqrt(noise), k, basis, seed)
            gain = self._gain(values, rows)
            explained = noise * (np.square(axes) @ (gain - 1.0))
            left = np.maximum(rows.variance - explained, 0.0)
            new = (believed * left + rows.variance) / (believed + 1) if self.shrink else left
            new = np.maximum(new, LOWEST_NOISE)
            moved = np.abs(np.log(new / noise)).max()
            noise = new
            if moved < _TOLERANCE:
                break
        return noise, axes, gain

    def _gain(self, values: np.ndarray, rows: StartRows) -> np.ndarray:
        """Return the variance along each direction over that of the noise, at least 1."""
        if not self.shrink:
            return np.maximum(values, 1.0)
        return _shrunk(values, (~rows.constant).sum() / rows.n_rows)


def _shrunk(values: np.ndarray, g: float) -> np.ndarray:
    """Return the variance that new rows have along sample eigenvectors of unit noise.

    With e the population eigenvalue and c^2 the squared cosine between the directions, it is 1 +
    (e - 1) c^2 (Donoho, Gavish and Johnstone 2018, equations 1.9 to 1.11), where c^2 = (1 - g /
    (e - 1)^2) / (1 + g / (e - 1)).
    """
    edge = (1.0 + np.sqrt(g)) ** 2
    above = np.maximum(values, edge) + 1.0 - g
    spike = (above + np.sqrt(np.maximum(above**2 - 4.0 * np.maximum(values, edge), 0.0))) / 2.0
    excess = np.maximum(spike - 1.0, 0.0)
    kept = (excess**2 - g) / np.maximum(excess + g, np.finfo(np.float64).tiny)
    return np.where(values > edge, 1.0 + np.maximum(kept, 0.0), 1.0)
