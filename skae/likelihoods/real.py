r"""Likelihoods of real-valued columns: Gaussian noise, and positive values among zeros."""

from __future__ import annotations

import math
from numbers import Real

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from skae.constraints import Interval, StrOptions
from skae.likelihoods.base import Likelihood

_LOG_TWO_PI = math.log(2.0 * math.pi)


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
    >>> log_prob = Gaussian(variance_floor=1e-12).log_prob(
    ...     x, x, log_variance=torch.zeros(1)
    ... )
    >>> round(float(log_prob), 4)  # -log(2 pi) / 2
    -0.9189
    """

    support = "finite real numbers"
    location_scale = True
    structure = "squared_error"
    _parameter_constraints: dict = {
        "variance": [StrOptions({"per_feature", "shared"})],
        "variance_floor": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(self, variance="per_feature", variance_floor=1e-2):
        self.variance = variance
        self.variance_floor = variance_floor

    def raw_from_mean(self, mean: Tensor) -> Tensor:
        """Return the mean itself."""
        return mean

    def parameters_at_start(self, mean: Tensor, variance: Tensor) -> dict[str, Tensor]:
        """Start the noise at the variance of each column, or what a start leaves of it."""
        if self.variance == "shared":
            variance = variance.mean(dim=0, keepdim=True)
        free = (variance - self.variance_floor).clamp_min(0.01 * self.variance_floor)
        return {"log_variance": free.log()}

    def noise_variance(self, log_variance: Tensor) -> Tensor:
        """Return v_j, in the units of the scaled columns."""
        return self.variance_floor + log_variance.exp()

    def log_prob(self, x: Tensor, raw: Tensor, *, log_variance: Tensor) -> Tensor:
        """Return the log-density of each entry."""
        variance = self.noise_variance(log_variance)
        constant = -0.5 * (variance.log() + _LOG_TWO_PI)
        return torch.addcmul(constant, (x - raw).square(), variance.reciprocal(), value=-0.5)

    def variance_weight(self, *, log_variance: Tensor) -> Tensor | None:
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


class ZeroInflatedLogNormal(Likelihood):
    r"""Non-negative columns with many exact zeros: TF-IDF weights, amounts, durations.

    A value is zero with probability :math:`1 - p_j`; if it is not, its logarithm is Gaussian:

    .. math::

        p(x_j = 0) = 1 - p_j, \qquad
        p(x_j) = \frac{p_j}{x_j \sqrt{2 \pi v_j}}
            \exp\left(-\frac{(\log x_j - \ell_j)^2}{2 v_j}\right) \quad \text{for } x_j > 0

    The decoder gives two numbers for each column: the logarithm :math:`m_j = \ell_j + v_j / 2` of
    the mean of the values above zero, and the logit of :math:`p_j`. So the mean
    :math:`p_j e^{m_j}` does not depend on :math:`v_j = \text{variance_floor} + e^{\theta_j}`, where
    :math:`\theta_j` is learned. The log-probability of a value above zero is that of a density, in
    the units of the column; that of a zero is a probability.

    Parameters
    ----------
    variance_floor : float > 0, default=1e-2
        Lowest variance of log x. It keeps a column whose values above zero are all alike from
        having a density without limit. The default stands for an error of about 10 %.

    References
    ----------
    Aitchison (1955), "On the distribution of a positive random variable having a discrete
    probability mass at the origin". Wang, Liu and Miao (2019), "A deep probabilistic model for
    customer lifetime value prediction", section 3, with the same two heads and the variance as a
    third.

    Examples
    --------
    >>> import torch
    >>> from skae.likelihoods import ZeroInflatedLogNormal
    >>> raw = torch.tensor(
    ...     [[0.0, 0.0]]
    ... )  # the logarithm of a mean, and the logit of x > 0
    >>> log_prob = ZeroInflatedLogNormal().log_prob(
    ...     torch.zeros(1, 1), raw, log_variance=torch.zeros(1)
    ... )
    >>> round(float(log_prob.exp()), 4)
    0.5
    """

    n_outputs = 2
    support = "finite numbers >= 0"
    has_zero_mass = True
    _parameter_constraints: dict = {"variance_floor": [Interval(Real, 0, None, closed="neither")]}

    #: Share of values above zero where nothing is known of it, midway (as logits go) between a
    #: table that is half full and one that holds one cell in a hundred; and its range at the start.
    _START_SHARE = 0.1
    _SHARES = (1e-6, 1.0 - 1e-3)
    #: Range of the variance of log x at the start.
    _START_VARIANCE = (0.25, 4.0)
    #: Lowest mean of a column that the decoder is started at, for columns of zeros.
    _EDGE = 1e-12
    #: Largest logarithm of a mean or a draw: its exponential is finite in single precision.
    _LARGEST_LOG = 80.0

    def __init__(self, variance_floor=1e-2):
        self.variance_floor = variance_floor

    def nearest(self, values: np.ndarray) -> np.ndarray:
        """Return values, and zero for those below."""
        return np.maximum(values, 0)

    def raw_from_mean(self, mean: Tensor) -> Tensor:
        """Return the raw output with one value in ten above zero: the mean cannot tell how many."""
        return self.first_raw(mean, torch.full_like(mean, self._START_SHARE))

    def first_raw(self, mean: Tensor, used: Tensor) -> Tensor:
        """Return the raw output for this mean and this share of values above zero."""
        share = used.clamp(*self._SHARES)
        return torch.cat([(mean.clamp_min(self._EDGE) / share).log(), torch.logit(share)])

    def parameters_at_start(self, mean: Tensor, variance: Tensor) -> dict[str, Tensor]:
        r"""Start the variance of log x by the method of moments, with one value in ten above zero.

        As :math:`E[x^2] = E[x]^2 e^v / p`, it is :math:`v = \log(p E[x^2] / E[x]^2)`, brought into
        [0.25, 4], and never below the floor.
        """
        square = mean.square().clamp_min(self._EDGE**2)
        start = (self._START_SHARE * (variance + mean.square()) / square).clamp_min(1.0).log()
        above_floor = start.clamp(*self._START_VARIANCE) - self.variance_floor
        return {"log_variance": above_floor.clamp_min(self.variance_floor).log()}

    def variance_of_log(self, log_variance: Tensor) -> Tensor:
        """Return v_j, the variance of log x where x is above zero."""
        return self.variance_floor + log_variance.exp()

    def log_prob(self, x: Tensor, raw: Tensor, *, log_variance: Tensor) -> Tensor:
        """Return the log-density of entries above zero, the log-probability of zeros."""
        return self.log_prob_zero(raw) + self.log_prob_entry(x, raw, log_variance=log_variance)

    def log_prob_zero(self, raw: Tensor, **parameters: Tensor) -> Tensor:
        """Return log(1 - p_j)."""
        return -F.softplus(raw.chunk(2, dim=1)[1])

    def log_prob_entry(self, x: Tensor, raw: Tensor, *, log_variance: Tensor) -> Tensor:
        """Return the logit of p_j plus the log-density of the log-normal; nothing for zeros."""
        log_mean, logit = raw.chunk(2, dim=1)
        variance = self.variance_of_log(log_variance)
        # A zero has no logarithm; what stands in its place does not reach the result.
        log_x = torch.where(x > 0, x, torch.ones_like(x)).log()
        square = (log_x - log_mean + 0.5 * variance).square() / variance
        density = -0.5 * (variance.log() + _LOG_TWO_PI + square) - log_x
        return torch.where(x > 0, logit + density, torch.zeros_like(density))

    def mean(self, raw: Tensor, **parameters: Tensor) -> Tensor:
        """Return the probability of a value above zero times the mean of such values."""
        log_mean, logit = raw.chunk(2, dim=1)
        return torch.sigmoid(logit) * log_mean.clamp_max(self._LARGEST_LOG).exp()

    def sample(self, raw: Tensor, generator: torch.Generator, *, log_variance: Tensor) -> Tensor:
        """Draw which entries are above zero, and their values."""
        log_mean, logit = raw.chunk(2, dim=1)
        variance = self.variance_of_log(log_variance)
        noise = torch.empty_like(log_mean).normal_(generator=generator)
        log_x = torch.addcmul(log_mean - 0.5 * variance, noise, variance.sqrt())
        above_zero = torch.bernoulli(torch.sigmoid(logit), generator=generator)
        return above_zero * log_x.clamp_max(self._LARGEST_LOG).exp()
