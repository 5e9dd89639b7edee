"""The variational autoencoder."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np

from skae._training.auto import linear_model
from skae._training.bottlenecks import GaussianCode
from skae._validation import resolve
from skae.constraints import Interval, StrOptions
from skae.estimators.base import BaseAutoencoder
from skae.estimators.declaration import choices, estimator, parameter
from skae.estimators.parameters import SharedParameters
from skae.exceptions import PosteriorCollapseWarning
from skae.inits import Random
from skae.priors import PRIORS, Prior, StandardNormal
from skae.schedules import SCHEDULES, LinearWarmup, Schedule

# A latent whose posterior differs from the prior by less than this (nats) says nothing.
_COLLAPSED = 0.01


@estimator
class VAETransformer(SharedParameters, BaseAutoencoder):
    r"""Variational autoencoder: a generative model with a code for each row.

    `score` is a lower bound of log p(x), so models of different size can be compared on held-out
    rows, with each other and with `sklearn.decomposition.PCA`, and a grid search without labels
    finds the number of latent dimensions. The non-linear counterpart of factor analysis.

    Attributes
    ----------
    kl_ : ndarray of shape (`n_components_`,) or (1,)
        Mean KL of each latent from the prior, in nats, on (at most 10,000) training rows, the
        largest first (after the first fit: latents that are trained on keep their places). Near
        zero for a latent that the model does not use. One entry, the KL of the whole code, where
        the prior has none for single latents (``prior.factorises`` is False).

    Warns
    -----
    PosteriorCollapseWarning
        No latent says anything of the row.

    See Also
    --------
    AutoencoderTransformer : Deterministic codes.
    sklearn.decomposition.FactorAnalysis : The linear case, solved exactly.

    Notes
    -----
    With posterior :math:`q(z \mid x) = N(\mu(x), \operatorname{diag} \sigma^2(x))` the loss of a
    fit is

    .. math::

        \frac1n \sum_i -\mathrm{E}_{q(z \mid x_i)} \log p(x_i \mid g(z))
        + \beta \sum_j \mathrm{KL}(q(z_j \mid x_i) \,\Vert\, p(z_j))

    (Kingma and Welling 2014, equation 3), both summed over dimensions, in nats. The expectation is
    one draw in training. `score_samples` uses :math:`\beta = 1` and a fixed rule for it: the mean
    over about 32 points on spheres about the posterior mean, turned at random once for each fit, so
    that the same row has the same score whatever the batch. The rule is exact for a linear decoder
    with Gaussian noise and up to 16 components, and an approximation otherwise. Tables of more than
    32,768 columns have fewer points, 4 from 200,000 columns on, so that scoring them does not take
    an hour. On texts of 10,000 words (-307 nats a row, 16 components) the score of a row is 0.45
    nats off at 4 points and 0.01 at 32, beside 512
    (``benchmarks/score_points.py``). With
    ``n_importance_samples`` the score is the bound of Burda et al. (2016), equation 8, at draws
    that are fixed by the fit. For counts, every log p here is one given the total of the row.

    References
    ----------
    Kingma and Welling (2014), "Auto-encoding variational Bayes".

    Higgins et al. (2017), "beta-VAE: learning basic visual concepts with a constrained variational
    framework".

    Kingma et al. (2016), "Improved variational inference with inverse autoregressive flow"
    (free bits, equation 15).

    Burda, Grosse and Salakhutdinov (2016), "Importance weighted autoencoders".

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import VAETransformer
    >>> X, _ = load_iris(return_X_y=True)
    >>> vae = VAETransformer(n_components=2, tol=0.1, random_state=0).fit(X)
    >>> vae.sample(3, random_state=0).shape
    (3, 4)
    """

    beta: float = parameter(
        1.0,
        [Interval(Real, 0, None, closed="left")],
        "float",
        """Weight of the KL term in training, at least 0. 1 is the evidence lower bound; more makes
        the latents more independent and the reconstruction worse (beta-VAE).""",
    )
    kl_warmup: Any = parameter(
        "auto",
        [StrOptions({"auto"}), Interval(Real, 0, 1, closed="both"), Schedule],
        'float, Schedule or "auto"',
        """Share of the training, in [0, 1], over which the KL term comes in, or a schedule of your
        own. "auto" is 0 where the start is a model of the rows, which a training without the KL
        term would leave (any ``init`` that finds one, with a Gaussian likelihood), else 0.25.""",
    )
    free_bits: float = parameter(
        0.0,
        [Interval(Real, 0, None, closed="left")],
        "float",
        """Nats of KL that each latent, averaged over a batch, may use without cost; at least 0.
        More than 0 is an error with a prior that has no KL for single latents.""",
    )
    prior: Any = choices(
        "standard_normal", PRIORS, "Distribution of the codes before a row is seen.", Prior
    )
    n_importance_samples: int = parameter(
        1,
        [Interval(Integral, 1, None, closed="left")],
        "int",
        """1: `score_samples` is the evidence lower bound. More: the importance-weighted bound with
        that many samples, which is tighter.""",
    )

    _auto_sampler = None  # the prior

    def _auto_init(self, likelihood):
        # A step of SGD is as long as the gradient is steep, as it is where there is little noise.
        suits = likelihood.raw_is_linear and self.optimizer != "sgd"
        is_model = type(resolve(self.prior, PRIORS)) is StandardNormal  # of factor analysis
        return linear_model(likelihood) if suits and is_model else Random()

    def _bottleneck(self):
        warmup = self.kl_warmup
        if isinstance(warmup, str):  # what suits the start is known where there is one
            warmup = None
        warmup = LinearWarmup(warmup) if isinstance(warmup, Real) else warmup
        return GaussianCode(
            prior=resolve(self.prior, PRIORS),
            beta=self.beta,
            kl_warmup=None if warmup is None else resolve(warmup, SCHEDULES),
            free_bits=self.free_bits,
            n_importance_samples=self.n_importance_samples,
        )

    def _record_own(self):
        found = self._model.diagnostics
        self.kl_ = told = found["kl"]
        tells, remedy = "has a KL below", "give each latent free_bits=0.1"
        if "variance" in found:
            # The prior has no KL for single latents, and that of the code need not be zero where
            # all rows have one posterior. What a latent tells is how far its means are spread.
            spread = self._model.training_codes.var(axis=0)
            told = 0.5 * np.log1p(spread / found["variance"])
            tells, remedy = "tells less than", "choose another prior"
        if not (self.beta > 0 and (told < _COLLAPSED).all()):
            return None
        return PosteriorCollapseWarning(
            f"The posterior collapsed: every latent {tells} {_COLLAPSED} nats (the "
            f"largest is {told.max():.2g}), so that the codes say nothing about the rows. "
            f"Lower beta (it is {self.beta!r}), lengthen kl_warmup (it is {self.kl_warmup!r}), "
            f"{remedy}, or train longer. If X is pure noise, this is the right answer."
        )
