r"""How do the data scatter about a reconstruction? Likelihoods: raw decoder output to distribution.

A likelihood turns the raw output :math:`r` of a decoder into a distribution of a row x. It says
which values of X it can explain, how many raw outputs a feature takes, which free parameters it
has (they are trained with the network by the same optimiser), and gives the log-probability, the
mean and random draws. To add one: one class here and one line in `LIKELIHOODS`.

Shapes: ``x`` is (n_rows, n_features); ``raw`` is (n_rows, n_outputs * n_features); free parameters
are tensors whose last axis is n_features. All log-probabilities are in nats and hold every
normalising constant.
"""

from __future__ import annotations

import math
from numbers import Real

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor
from torch.nn import functional as F

from skae._validation import Component

_LOG_TWO_PI = math.log(2.0 * math.pi)


class Likelihood(Component):
    """Base of all likelihoods: what a subclass declares, and what it must give."""

    #: Raw decoder outputs that one feature takes.
    n_outputs: int = 1
    #: Words for the support, as they stand in the error for a value outside it.
    support: str = "real numbers"
    #: True when the distribution of ``(x - shift) / scale`` is of the same family as that of x: the
    #: network then works on scaled data, and the log-probability gets the log-determinant.
    location_scale: bool = False
    #: Type of the values of `sample`; None stands for float64.
    sample_dtype: type | None = None

    def inside(self, values: np.ndarray) -> np.ndarray:
        """Return which of ``values`` lie in the support."""
        return np.isfinite(values)

    def default_scaling(self, sparse: bool) -> str | None:
        """Return the ``input_scaling`` that "auto" stands for, for dense or sparse X."""
        return None

    def raw_from_mean(self, mean: Tensor) -> Tensor:
        """Return the raw output whose distribution has this mean (the link function).

        The decoder starts there: before training it predicts the mean of each column.
        """
        raise NotImplementedError

    def free_parameters(self, mean: Tensor, variance: Tensor) -> dict[str, Tensor]:
        """Return starting values of the free parameters.

        ``mean`` and ``variance`` of shape (n_features,) are those of the training columns, in the
        units that the network sees.
        """
        return {}

    def log_prob(self, x: Tensor, raw: Tensor, **parameters: Tensor) -> Tensor:
        """Return log p(x_j | r_j) for every entry, of shape (n_rows, n_features), in nats."""
        raise NotImplementedError

    def gradient_scale(self, **parameters: Tensor) -> Tensor | None:
        """Return factors of shape (n_features,) for the gradient with respect to raw, or None.

        With them an error counts alike in every scaled column, however well the column is known.
        """
        return None

    def mean(self, raw: Tensor, **parameters: Tensor) -> Tensor:
        """Return the mean of x given the raw output, of shape (n_rows, n_features)."""
        raise NotImplementedError

    def sample(self, raw: Tensor, generator: torch.Generator, **parameters: Tensor) -> Tensor:
        """Return one draw of x given each row of raw output, of shape (n_rows, n_features)."""
        raise NotImplementedError


class Gaussian(Likelihood):
    r"""Real-valued columns, with a noise variance that is learned for each of them.

    .. math:: \log p(x_j | r_j) = -\tfrac12 \left[\log(2 \pi v_j) + (x_j - r_j)^2 / v_j\right]

    with :math:`v_j = \text{variance_floor} + e^{\theta_j}` and :math:`\theta_j` learned. Because
    the variance is learned, neither the units of X nor the number of columns upset the balance
    between the reconstruction and the other terms of an objective.

    Parameters
    ----------
    variance : {"per_feature", "shared"}, default="per_feature"
        One noise variance for each column (as in factor analysis) or one for all (as in
        probabilistic PCA; Tipping and Bishop 1999), in the units of the scaled columns.
    variance_floor : float > 0, default=1e-2
        Lowest variance, as a share of the squared scale of the column. It keeps a column that can
        be reconstructed perfectly, a constant one for example, from outweighing all the others.

    References
    ----------
    Rybkin, Daniilidis and Levine (2021), "Simple and effective VAE training with calibrated
    decoders", section 4.

    Examples
    --------
    >>> import torch
    >>> from skae.likelihoods import Gaussian
    >>> x = torch.zeros(1, 1)
    >>> log_prob = Gaussian(variance_floor=1e-12).log_prob(x, x, log_variance=torch.zeros(1))
    >>> round(float(log_prob), 4)  # -log(2 pi) / 2
    -0.9189
    """

    support = "finite real numbers"
    location_scale = True
    _parameter_constraints: dict = {
        "variance": [StrOptions({"per_feature", "shared"})],
        "variance_floor": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(self, variance="per_feature", variance_floor=1e-2):
        self.variance = variance
        self.variance_floor = variance_floor

    def default_scaling(self, sparse: bool) -> str | None:
        """Return "fourth_moment"."""
        return "fourth_moment"

    def raw_from_mean(self, mean: Tensor) -> Tensor:
        """Return the mean itself."""
        return mean

    def free_parameters(self, mean: Tensor, variance: Tensor) -> dict[str, Tensor]:
        """Start the noise at the variance of each column, as if nothing were explained."""
        if self.variance == "shared":
            variance = variance.mean(dim=0, keepdim=True)
        return {"log_variance": variance.clamp_min(self.variance_floor).log()}

    def noise_variance(self, log_variance: Tensor) -> Tensor:
        """Return v_j, in the units of the scaled columns."""
        return self.variance_floor + log_variance.exp()

    def log_prob(self, x: Tensor, raw: Tensor, *, log_variance: Tensor) -> Tensor:
        """Return the log-density of each entry."""
        variance = self.noise_variance(log_variance)
        constant = -0.5 * (variance.log() + _LOG_TWO_PI)
        return torch.addcmul(constant, (x - raw).square(), -0.5 / variance)

    def gradient_scale(self, *, log_variance: Tensor) -> Tensor | None:
        """Return the variance of each column over their mean."""
        if self.variance == "shared":
            return None
        variance = self.noise_variance(log_variance.detach())
        return variance / variance.mean()

    def mean(self, raw: Tensor, **parameters: Tensor) -> Tensor:
        """Return the raw output itself."""
        return raw

    def sample(self, raw: Tensor, generator: torch.Generator, *, log_variance: Tensor) -> Tensor:
        """Draw from the Gaussian of each entry."""
        noise = torch.empty_like(raw).normal_(generator=generator)
        return torch.addcmul(raw, noise, self.noise_variance(log_variance).sqrt())


class Bernoulli(Likelihood):
    r"""Binary columns: flags, one-hot columns, presence of words.

    .. math:: \log p(x_j | r_j) = x_j r_j - \log(1 + e^{r_j})

    so that the mean is the logistic function of the raw output. Values between 0 and 1 (grey
    levels, for example) are accepted and give the cross-entropy; it is then no longer the logarithm
    of a probability, and cannot be compared with the score under another likelihood.

    Examples
    --------
    >>> import torch
    >>> from skae.likelihoods import Bernoulli
    >>> log_prob = Bernoulli().log_prob(torch.ones(1, 1), torch.zeros(1, 1))
    >>> round(float(log_prob.exp()), 4)
    0.5
    """

    support = "values in [0, 1]"
    sample_dtype = np.int64

    #: Column means are kept this far from 0 and 1 when the decoder is started at them.
    _EDGE = 1e-4

    def inside(self, values: np.ndarray) -> np.ndarray:
        """Return which values lie in [0, 1]."""
        return (values >= 0) & (values <= 1)

    def raw_from_mean(self, mean: Tensor) -> Tensor:
        """Return the logit of the mean."""
        return torch.logit(mean, eps=self._EDGE)

    def log_prob(self, x: Tensor, raw: Tensor) -> Tensor:
        """Return the log-probability of each entry."""
        return x * raw - F.softplus(raw)

    def mean(self, raw: Tensor) -> Tensor:
        """Return the probability of a one."""
        return torch.sigmoid(raw)

    def sample(self, raw: Tensor, generator: torch.Generator) -> Tensor:
        """Draw zeros and ones."""
        return torch.bernoulli(torch.sigmoid(raw), generator=generator)


LIKELIHOODS: dict[str, type[Likelihood]] = {
    "gaussian": Gaussian,
    "bernoulli": Bernoulli,
}
