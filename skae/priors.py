r"""What does a variational autoencoder believe about codes before it sees a row? Priors.

To add one: one class here and one line in `PRIORS`.

Shapes: codes and the mean and log standard deviation of a posterior are (n_rows, n_components).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from skae._validation import Component


class Prior(Component):
    """Base of all priors over the codes of a variational autoencoder."""

    def kl(self, mean: Tensor, log_std: Tensor) -> Tensor:
        """Return KL(q || prior) of each latent of each row, in nats.

        q is the Gaussian posterior with independent latents. The sum over latents is the KL of
        the row.
        """
        raise NotImplementedError

    def log_prob(self, code: Tensor) -> Tensor:
        """Return the log-density of each row, of shape (n_rows,), in nats."""
        raise NotImplementedError

    def sample(self, shape: tuple[int, int], like: Tensor, generator: torch.Generator) -> Tensor:
        """Return codes of ``shape`` drawn from the prior, of the dtype and device of ``like``."""
        raise NotImplementedError


class StandardNormal(Prior):
    r"""Independent standard normal latents.

    .. math:: \mathrm{KL} = \tfrac12 (\mu^2 + \sigma^2 - 1) - \log \sigma

    for each latent.

    References
    ----------
    Kingma and Welling (2014), "Auto-encoding variational Bayes", appendix B.

    Examples
    --------
    >>> import torch
    >>> from skae.priors import StandardNormal
    >>> float(StandardNormal().kl(torch.ones(1, 1), torch.zeros(1, 1)))
    0.5
    """

    def kl(self, mean: Tensor, log_std: Tensor) -> Tensor:
        """Return the KL of each latent."""
        return 0.5 * (mean.square() + (2 * log_std).exp() - 1) - log_std

    def log_prob(self, code: Tensor) -> Tensor:
        """Return the log-density of each row."""
        return -0.5 * (code.square() + math.log(2 * math.pi)).sum(dim=1)

    def sample(self, shape: tuple[int, int], like: Tensor, generator: torch.Generator) -> Tensor:
        """Return standard normal codes."""
        return like.new_empty(shape).normal_(generator=generator)


PRIORS: dict[str, type[Prior]] = {"standard_normal": StandardNormal}
