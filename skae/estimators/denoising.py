"""The denoising autoencoder."""

from __future__ import annotations

from typing import Any

from skae._training.bottlenecks import PlainCode
from skae.estimators.base import BaseAutoencoder
from skae.estimators.declaration import estimator, redefined
from skae.estimators.parameters import SharedParameters
from skae.inits import AutoInit


@estimator
class DenoisingAETransformer(SharedParameters, BaseAutoencoder):
    r"""Denoising autoencoder: trained to recover rows from corrupted copies of them.

    The noise stands in the training step only. Everything a fitted estimator answers is computed
    from clean rows, and `reconstruct` returns the cleaned row.

    See Also
    --------
    AutoencoderTransformer : The same without noise.

    Notes
    -----
    With noise that turns x into :math:`\tilde x`, the loss of a fit is

    .. math:: -\frac1n \sum_i \log p(x_i \mid g(f(\tilde x_i)))

    with a gradient that counts errors alike in every scaled column, as in `AutoencoderTransformer`,
    whose score this one's is. A linear network with Gaussian noise computes the Wiener filter; in
    general the reconstruction moves a row towards where the data are dense (Alain and Bengio 2014).
    For counts, every log p here is one given the total of the row.

    References
    ----------
    Vincent et al. (2010), "Stacked denoising autoencoders: learning useful representations in a
    deep network with a local denoising criterion".

    Alain and Bengio (2014), "What regularized auto-encoders learn from the data-generating
    distribution".

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import DenoisingAETransformer
    >>> X, _ = load_iris(return_X_y=True)
    >>> denoiser = DenoisingAETransformer(
    ...     n_components=2, noise="swap", tol=0.1, random_state=0
    ... )
    >>> denoiser.fit(X).reconstruct(X).shape
    (150, 4)
    """

    noise: Any = redefined(SharedParameters, "noise", "masking")

    def _auto_init(self, likelihood):
        return AutoInit(linear=False)  # PCA of clean rows knows nothing of noise

    def _bottleneck(self):
        return PlainCode()
