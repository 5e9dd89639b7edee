r"""Likelihoods of counts: how a known total is spread over the columns.

The total of a row (the length of a document, the depth of a sequenced cell) is given and not
predicted: the raw output :math:`r_j` is the logarithm of the share that column j has of it, and
:math:`\mu_j = \text{total} \cdot e^{r_j}`.

All formulas below are written with the remainder of Stirling's formula in the place of the
logarithms of factorials, as Loader (2000), "Fast and accurate computation of binomial
probabilities", does: the large parts cancel on paper, and not in single precision.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from skae.likelihoods.base import Likelihood

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)

# From here on the series of the remainder is exact in double precision.
_SERIES_FROM = 10.0

# Largest logarithm of a share. A share is at most one; this is far beyond what any fit ends at, and
# keeps totals of 1e9, and the squares of such means, finite in single precision.
_LARGEST_LOG_SHARE = 10.0

# Largest number of items that are drawn for a row: what a whole number of 64 bits holds.
_MOST_ITEMS = 2.0**62

# Smallest share that the decoder is started at, for columns of zeros.
_SMALLEST_SHARE = 1e-10

# Range of log theta, and of theta at the start, which is well inside of it.
_LOG_THETA = (math.log(1e-4), math.log(1e6))
_START_THETA = (1e-2, 1e3)


def _numpy_generator(generator: torch.Generator) -> np.random.Generator:
    """Return a generator for what torch draws from its global one alone, or does not draw."""
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    return np.random.default_rng(seed)


def _remainder(z: Tensor) -> Tensor:
    r"""Return the remainder of Stirling's formula for log Gamma(z), with z > 0.

    It is :math:`\log\Gamma(z) - (z - \tfrac12) \log z + z - \tfrac12 \log 2\pi` (Abramowitz and
    Stegun 1964, 6.1.41, where the series for large z is).
    """
    large = z.clamp_min(_SERIES_FROM)
    square = large.square().reciprocal()
    series = (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square * (1 / 1680)))) / large
    small = z.clamp_max(_SERIES_FROM)
    direct = torch.lgamma(small) - (small - 0.5) * small.log() + small - _HALF_LOG_TWO_PI
    return torch.where(z < _SERIES_FROM, direct, series)


def _factorial_remainder(x: Tensor) -> Tensor:
    """Return log x! - x log x + x for whole numbers; zero for zero."""
    positive = x.clamp_min(1.0)
    remainder = _HALF_LOG_TWO_PI + 0.5 * positive.log() + _remainder(positive)
    return torch.where(x > 0, remainder, torch.zeros_like(remainder))


def _capped(log_share: Tensor) -> Tensor:
    """Return the log share, at most `_LARGEST_LOG_SHARE`, with the gradient of the identity.

    So the exponential cannot overflow, and a share that is much too large is still pulled back.
    """
    return log_share - (log_share - _LARGEST_LOG_SHARE).clamp_min(0.0).detach()


def _mean(log_share: Tensor, total: Tensor) -> Tensor:
    """Return mu."""
    return total * _capped(log_share).exp()


def _log_mean(log_share: Tensor, total: Tensor) -> Tensor:
    """Return log mu; finite for a total of zero, where it is only ever multiplied by zero."""
    return _capped(log_share) + total.clamp_min(1e-30).log()


def _log_share(mean: Tensor) -> Tensor:
    """Return the logarithm of each column's share of the total, for means of columns."""
    share = mean / mean.sum().clamp_min(torch.finfo(mean.dtype).tiny)
    return share.clamp_min(_SMALLEST_SHARE).log()


class _Counts(Likelihood):
    """What all likelihoods of counts have in common."""

    support = "whole numbers >= 0"
    sample_dtype = np.int64
    conditional_on_total = True
    has_zero_mass = True
    resolution = 1e-6  # of a scale whose unit is one

    def nearest(self, values: np.ndarray) -> np.ndarray:
        """Return values rounded to whole numbers, and zero for those below."""
        return np.maximum(np.round(values), 0)

    def raw_from_mean(self, mean: Tensor) -> Tensor:
        """Return the logarithm of each column's share of the total."""
        return _log_share(mean)

    def mean(self, raw: Tensor, *, total: Tensor, **parameters: Tensor) -> Tensor:
        """Return the total times the share of each column."""
        return _mean(raw, total)


class Poisson(_Counts):
    r"""Counts that are as variable as independent events are: the variance is the mean.

    .. math:: \log p(x_j | r_j) = x_j \log \mu_j - \mu_j - \log x_j!,
        \qquad \mu_j = \text{total} \cdot e^{r_j}

    Given the sum of a row, Poisson counts are multinomial with the shares :math:`e^{r_j}` over
    their sum. Counts that vary more than that ask for `NegativeBinomial`.

    Examples
    --------
    >>> import torch
    >>> from skae.likelihoods import Poisson
    >>> total = torch.full((1, 1), 2.0)
    >>> log_prob = Poisson().log_prob(
    ...     torch.zeros(1, 1), torch.zeros(1, 1), total=total
    ... )
    >>> round(float(log_prob), 4)  # minus the mean
    -2.0
    """

    def log_prob(self, x: Tensor, raw: Tensor, *, total: Tensor) -> Tensor:
        """Return the log-probability of each entry."""
        return self.log_prob_zero(raw, total=total) + self.log_prob_entry(x, raw, total=total)

    def log_prob_zero(self, raw: Tensor, *, total: Tensor) -> Tensor:
        """Return minus the mean."""
        return -_mean(raw, total)

    def log_prob_entry(self, x: Tensor, raw: Tensor, *, total: Tensor) -> Tensor:
        """Return x log mu - log x!."""
        ratio = _log_mean(raw, total) - x.clamp_min(1.0).log()
        return x * ratio + x - _factorial_remainder(x)

    def sample(self, raw: Tensor, generator: torch.Generator, *, total: Tensor) -> Tensor:
        """Draw from the Poisson distribution of each entry."""
        return torch.poisson(_mean(raw, total), generator=generator)


# The negative binomial: the counts of one likelihood, and those behind the gate of another --------


def _inverse_dispersion(log_theta: Tensor) -> Tensor:
    """Return theta, within its range."""
    return log_theta.clamp(*_LOG_THETA).exp()


def _start_of_log_theta(mean: Tensor, variance: Tensor) -> Tensor:
    r"""Return log theta by the method of moments, :math:`\theta = m^2 / (v - m)`, within bounds."""
    excess = (variance - mean).clamp_min(torch.finfo(mean.dtype).tiny)
    return (mean.square() / excess).clamp(*_START_THETA).log()


def _nb_zero(log_share: Tensor, total: Tensor, log_theta: Tensor) -> Tensor:
    """Return log NB(0), theta log(theta / (theta + mu))."""
    theta = _inverse_dispersion(log_theta)
    return -theta * torch.log1p(_mean(log_share, total) / theta)


def _nb_entry(x: Tensor, log_share: Tensor, total: Tensor, log_theta: Tensor) -> Tensor:
    """Return log NB(x) - log NB(0); exactly zero for a zero."""
    theta = _inverse_dispersion(log_theta)
    # log(1 + theta / mu), which neither a tiny nor a huge ratio upsets.
    of_mean = F.softplus(theta.log() - _log_mean(log_share, total))
    of_x = torch.log1p(theta / x.clamp_min(1.0))
    gamma_ratio = _remainder(x + theta) - _remainder(theta) + (theta - 0.5) * torch.log1p(x / theta)
    return x * (of_x - of_mean) + gamma_ratio - _factorial_remainder(x)


def _nb_draw(
    log_share: Tensor, total: Tensor, log_theta: Tensor, generator: torch.Generator
) -> Tensor:
    """Draw a mean from the gamma distribution of each entry, and a Poisson count for it."""
    mean = _mean(log_share, total).detach()
    theta = _inverse_dispersion(log_theta).detach().expand_as(mean)
    gamma = _numpy_generator(generator).standard_gamma(theta.cpu().double().numpy())
    return torch.poisson(mean * torch.from_numpy(gamma).to(mean) / theta, generator=generator)


class NegativeBinomial(_Counts):
    r"""Counts that vary more than Poisson counts: words in documents, molecules in cells.

    .. math:: \log p(x_j | r_j) = \log \frac{\Gamma(x_j + \theta_j)}{\Gamma(\theta_j)\, x_j!}
        + \theta_j \log \frac{\theta_j}{\theta_j + \mu_j} + x_j \log \frac{\mu_j}{\theta_j + \mu_j},
        \qquad \mu_j = \text{total} \cdot e^{r_j}

    The mean is :math:`\mu_j` and the variance :math:`\mu_j + \mu_j^2 / \theta_j`. The inverse
    dispersion :math:`\theta_j` is learned for each column; without limit it gives the Poisson
    distribution. Its logarithm is the free parameter, and it is used between 1e-4 and 1e6, beyond
    which the distribution hardly changes.

    References
    ----------
    Hilbe (2011), "Negative binomial regression", chapter 8, where it is called NB2. Lopez, Regier,
    Cole, Jordan and Yosef (2018), "Deep generative modeling for single-cell transcriptomics",
    Methods, with the total as the size of a cell's library.

    Examples
    --------
    >>> import torch
    >>> from skae.likelihoods import NegativeBinomial
    >>> x, raw, total = torch.zeros(1, 1), torch.zeros(1, 1), torch.ones(1, 1)
    >>> log_prob = NegativeBinomial().log_prob(
    ...     x, raw, total=total, log_theta=torch.zeros(1)
    ... )
    >>> round(float(log_prob.exp()), 4)  # theta / (theta + mu)
    0.5
    """

    def parameters_at_start(self, mean: Tensor, variance: Tensor) -> dict[str, Tensor]:
        r"""Start the dispersion by the method of moments, :math:`\theta = m^2 / (v - m)`.

        It is brought into [0.01, 1000]. The variance of a column holds that of the totals and what
        the network will explain, so the start is too wide rather than too narrow.
        """
        return {"log_theta": _start_of_log_theta(mean, variance)}

    def theta(self, log_theta: Tensor) -> Tensor:
        """Return the inverse dispersion, within its range."""
        return _inverse_dispersion(log_theta)

    def log_prob(self, x: Tensor, raw: Tensor, *, total: Tensor, log_theta: Tensor) -> Tensor:
        """Return the log-probability of each entry."""
        return _nb_zero(raw, total, log_theta) + _nb_entry(x, raw, total, log_theta)

    def log_prob_zero(self, raw: Tensor, *, total: Tensor, log_theta: Tensor) -> Tensor:
        """Return theta log(theta / (theta + mu))."""
        return _nb_zero(raw, total, log_theta)

    def log_prob_entry(self, x: Tensor, raw: Tensor, *, total: Tensor, log_theta: Tensor) -> Tensor:
        """Return what is left of the log-probability; exactly zero for a zero."""
        return _nb_entry(x, raw, total, log_theta)

    def sample(
        self, raw: Tensor, generator: torch.Generator, *, total: Tensor, log_theta: Tensor
    ) -> Tensor:
        """Draw a mean from the gamma distribution of each entry, and a Poisson count for it."""
        return _nb_draw(raw, total, log_theta, generator)


class ZeroInflatedNegativeBinomial(_Counts):
    r"""Counts of `NegativeBinomial`, some of them lost: a gate puts a zero in their place.

    .. math:: p(x_j | r_j, g_j) = \pi_j \, [x_j = 0] + (1 - \pi_j) \, \mathrm{NB}(x_j | r_j),
        \qquad \pi_j = 1 / (1 + e^{-g_j})

    The decoder gives two numbers for each column: the logarithm :math:`r_j` of the share, and the
    logit :math:`g_j` of the gate. The mean is :math:`(1 - \pi_j) \, \text{total} \cdot e^{r_j}`. A
    row whose total is zero has probability one, as without the gate.

    References
    ----------
    Lopez, Regier, Cole, Jordan and Yosef (2018), "Deep generative modeling for single-cell
    transcriptomics", Methods.

    Examples
    --------
    >>> import torch
    >>> from skae.likelihoods import ZeroInflatedNegativeBinomial
    >>> x, raw, total = torch.zeros(1, 1), torch.zeros(1, 2), torch.ones(1, 1)
    >>> log_prob = ZeroInflatedNegativeBinomial().log_prob(
    ...     x, raw, total=total, log_theta=torch.zeros(1)
    ... )
    >>> round(float(log_prob.exp()), 4)  # pi + (1 - pi) theta / (theta + mu)
    0.75
    """

    n_outputs = 2

    #: Probability of a lost count at the start: small, for the dispersion explains zeros as well.
    _START_GATE = 0.1

    def raw_from_mean(self, mean: Tensor) -> Tensor:
        """Return log shares of what the gate lets pass, and a gate that loses one count in ten."""
        gate = torch.full_like(mean, self._START_GATE)
        return torch.cat([_log_share(mean) - torch.log1p(-gate), torch.logit(gate)])

    def parameters_at_start(self, mean: Tensor, variance: Tensor) -> dict[str, Tensor]:
        """Start the dispersion by the method of moments, for the counts behind the gate."""
        passing = 1.0 - self._START_GATE
        behind = mean / passing
        square = (variance + mean.square()) / passing
        return {"log_theta": _start_of_log_theta(behind, square - behind.square())}

    def theta(self, log_theta: Tensor) -> Tensor:
        """Return the inverse dispersion, within its range."""
        return _inverse_dispersion(log_theta)

    def log_prob(self, x: Tensor, raw: Tensor, *, total: Tensor, log_theta: Tensor) -> Tensor:
        """Return the log-probability of each entry."""
        given = {"total": total, "log_theta": log_theta}
        return self.log_prob_zero(raw, **given) + self.log_prob_entry(x, raw, **given)

    def log_prob_zero(self, raw: Tensor, *, total: Tensor, log_theta: Tensor) -> Tensor:
        """Return log(pi + (1 - pi) NB(0))."""
        log_share, gate = raw.chunk(2, dim=1)
        zero = _nb_zero(log_share, total, log_theta)
        # Minus the probability of a count; the logarithm of one less that loses all of it in single
        # precision where it is small, as in every rare column.
        lost = torch.sigmoid(-gate) * torch.expm1(zero)
        direct = torch.logaddexp(gate, zero) - F.softplus(gate)
        return torch.where(lost > -0.5, torch.log1p(lost.clamp_min(-0.5)), direct)

    def nonzero_mass(self, raw: Tensor, *, total: Tensor, log_theta: Tensor) -> Tensor:
        """Return (1 - pi) (1 - NB(0))."""
        log_share, gate = raw.chunk(2, dim=1)
        zero = _nb_zero(log_share, total, log_theta)
        return -torch.sigmoid(-gate) * torch.expm1(zero)

    def log_prob_entry(self, x: Tensor, raw: Tensor, *, total: Tensor, log_theta: Tensor) -> Tensor:
        """Return log((1 - pi) NB(x)) less the log-probability of a zero; nothing for a zero."""
        log_share, gate = raw.chunk(2, dim=1)
        behind = _nb_zero(log_share, total, log_theta) + _nb_entry(x, log_share, total, log_theta)
        zero = self.log_prob_zero(raw, total=total, log_theta=log_theta)
        entry = behind - F.softplus(gate) - zero
        return torch.where(x > 0, entry, torch.zeros_like(entry))

    def mean(self, raw: Tensor, *, total: Tensor, **parameters: Tensor) -> Tensor:
        """Return the mean behind the gate times the probability to pass it."""
        log_share, gate = raw.chunk(2, dim=1)
        return torch.sigmoid(-gate) * _mean(log_share, total)

    def sample(
        self, raw: Tensor, generator: torch.Generator, *, total: Tensor, log_theta: Tensor
    ) -> Tensor:
        """Draw counts, and which of them are lost."""
        log_share, gate = raw.chunk(2, dim=1)
        passes = torch.bernoulli(torch.sigmoid(-gate), generator=generator)
        return passes * _nb_draw(log_share, total, log_theta, generator)


class Multinomial(_Counts):
    r"""Counts that share out the total of their row: a document as a bag of words.

    .. math:: \log p(x | r) = \log \frac{n!}{\prod_j x_j!} + \sum_j x_j \log \pi_j,
        \qquad \pi = \mathrm{softmax}(r), \quad n = \sum_j x_j

    The columns are not independent, so one entry has no probability of its own. The log-probability
    of the row is spread over its entries, with :math:`x_j / n` of :math:`\log n!` for entry j.

    Parameters
    ----------
    coefficient : bool, default=True
        Whether the logarithm of the number of orders, :math:`n! / \prod_j x_j!`, is counted.
        Without it the score is the log-probability of the items one after the other, in a known
        order (of the words of a text, say). It changes neither the fit nor the reconstruction.

    Examples
    --------
    >>> import torch
    >>> from skae.likelihoods import Multinomial
    >>> x, total = torch.tensor([[1.0, 1.0]]), torch.full((1, 1), 2.0)
    >>> log_prob = (
    ...     Multinomial().log_prob(x, torch.zeros(1, 2), total=total).sum()
    ... )
    >>> round(float(log_prob.exp()), 4)  # two items, two columns: one in each
    0.5
    """

    structure = "softmax"
    _parameter_constraints: dict = {"coefficient": ["boolean"]}

    def __init__(self, coefficient=True):
        self.coefficient = coefficient

    def log_prob(self, x: Tensor, raw: Tensor, *, total: Tensor) -> Tensor:
        """Return what each entry adds to the log-probability of its row."""
        return self.log_prob_entry(x, raw.log_softmax(dim=1), total=total)

    def log_prob_entry(self, x: Tensor, raw: Tensor, *, total: Tensor) -> Tensor:
        """Return x r and the entry's part of the coefficient."""
        if not self.coefficient:
            return x * raw
        positive_total = total.clamp_min(1.0)
        ratio = raw + positive_total.log() - x.clamp_min(1.0).log()
        share = x / positive_total
        return x * ratio + share * _factorial_remainder(total) - _factorial_remainder(x)

    def nonzero_mass(self, raw: Tensor, *, total: Tensor) -> Tensor:
        """Return one less the probability that none of the items falls into the column."""
        share = raw.softmax(dim=1).clamp_max(1.0 - torch.finfo(raw.dtype).eps)
        return -torch.expm1(total * torch.log1p(-share))

    def mean(self, raw: Tensor, *, total: Tensor) -> Tensor:
        """Return the total times the probability of each column."""
        return total * raw.softmax(dim=1)

    def sample(self, raw: Tensor, generator: torch.Generator, *, total: Tensor) -> Tensor:
        """Draw as many items as the total says; nothing of that size is made."""
        shares = raw.detach().cpu().double().softmax(dim=1).numpy()
        n_items = total[:, 0].cpu().double().clamp_max(_MOST_ITEMS).long().numpy()
        counts = _numpy_generator(generator).multinomial(n_items, shares)
        return torch.from_numpy(counts).to(raw)
