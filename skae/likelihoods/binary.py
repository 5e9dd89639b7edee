"""The likelihood of binary columns."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from skae.likelihoods.base import Likelihood


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
    has_zero_mass = True
    resolution = 1e-6  # of a scale whose unit is one
    remedy = (
        "If a scaler sent it there, because the row goes beyond those that the scaler was fitted "
        "on, let it clip: MinMaxScaler(clip=True)."
    )

    #: Column means are kept this far from 0 and 1 when the decoder is started at them.
    _EDGE = 1e-4

    def nearest(self, values: np.ndarray) -> np.ndarray:
        """Return values clipped to [0, 1]."""
        return np.clip(values, 0, 1)

    def raw_from_mean(self, mean: Tensor) -> Tensor:
        """Return the logit of the mean."""
        return torch.logit(mean, eps=self._EDGE)

    def log_prob(self, x: Tensor, raw: Tensor) -> Tensor:
        """Return the log-probability of each entry."""
        return x * raw - F.softplus(raw)

    def log_prob_zero(self, raw: Tensor) -> Tensor:
        """Return the log-probability of a zero."""
        return -F.softplus(raw)

    def log_prob_entry(self, x: Tensor, raw: Tensor) -> Tensor:
        """Return the logit of a one, times x."""
        return x * raw

    def mean(self, raw: Tensor) -> Tensor:
        """Return the probability of a one."""
        return torch.sigmoid(raw)

    def sample(self, raw: Tensor, generator: torch.Generator) -> Tensor:
        """Draw zeros and ones."""
        return torch.bernoulli(torch.sigmoid(raw), generator=generator)
