"""The plain autoencoder."""

from __future__ import annotations

from skae._training.bottlenecks import PlainCode
from skae.estimators.base import BaseAutoencoder
from skae.estimators.declaration import estimator
from skae.estimators.parameters import SharedParameters
from skae.inits import AutoInit


@estimator
class AutoencoderTransformer(SharedParameters, BaseAutoencoder):
    r"""Autoencoder: a code from which each row can be reconstructed.

    The plain member of the family, and the non-linear counterpart of `sklearn.decomposition.PCA`.

    See Also
    --------
    SparseAutoencoderTransformer : Codes with few active units.
    DenoisingAETransformer : Trained to undo noise.
    VAETransformer : A prior over codes, and a bound of log p(x) as its score.

    Notes
    -----
    With encoder f and decoder g, the loss of a fit is

    .. math:: -\frac1n \sum_i \log p(x_i \mid g(f(x_i)))

    summed over features, in nats. The value is that log-likelihood, but its gradient counts errors
    alike in every scaled column: without a prior nothing checks the gain from columns that are
    known almost exactly, and those of little variance would take all of the code.

    `score_samples` is the log-likelihood of a row given its own
    code. It says nothing of how likely that code is, so it flatters larger codes and cannot choose
    their number: `skae.metrics.hidden_entries_score` can, as the score of `VAETransformer` and a
    model that uses the codes. For counts, every log p here is one given the total of the row.

    References
    ----------
    Hinton and Salakhutdinov (2006), "Reducing the dimensionality of data with neural networks".

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import AutoencoderTransformer
    >>> X, _ = load_iris(return_X_y=True)
    >>> autoencoder = AutoencoderTransformer(
    ...     n_components=2, max_iter=50, tol=0.1, random_state=0
    ... )
    >>> autoencoder.fit_transform(X).shape
    (150, 2)
    """

    def _auto_init(self, likelihood):
        return AutoInit()

    def _bottleneck(self):
        return PlainCode()
