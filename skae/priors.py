r"""What does a variational autoencoder believe about codes before it sees a row? Priors.

To add one: one class here and one line in `PRIORS`.

Shapes: codes and the mean and log standard deviation of a posterior are (n_rows, n_components).
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor

from skae._validation import Component, of_shape


class Prior(Component):
    """Base of all priors over the codes of a variational autoencoder.

    What a prior declares (`parameters_at_start`, `buffers_at_start`) comes back as keyword
    arguments of all its other methods, here written ``**state``. `parameters_at_start` and
    `buffers_at_start` are told ``n_components`` and a ``generator`` for what is to start at random.
    """

    declares = ("parameters_at_start", "buffers_at_start", "buffers_after_step")

    #: Whether latents are independent, so that `divergence` has a value for each of them. Free bits
    #: are for single latents and need it; without it ``kl_`` has one entry, that of the whole code.
    factorises: bool = False
    #: Whether `divergence` is the same for every draw, so that answers need no mean over many.
    closed_form: bool = False

    def divergence(self, mean: Tensor, log_std: Tensor, code: Tensor, **state: Tensor) -> Tensor:
        r"""Return KL(q || prior) of each row, or an estimate of it at a draw, in nats.

        q is the Gaussian posterior with independent latents, and ``code`` a draw from it. Of shape
        (n_rows, n_components) where the prior `factorises`, and the sum over latents is the KL of
        the row; else of shape (n_rows,).

        The default is for any density: the entropy of q in closed form, and the prior at the draw
        (Tomczak and Welling 2018, "VAE with a VampPrior", equation 3),

        .. math:: -\tfrac12 \sum_j \log(2 \pi e \sigma_j^2) - \log p(z)
        """
        entropy = (log_std + 0.5 * math.log(2 * math.pi * math.e)).sum(dim=1)
        log_prob = self.log_prob(code, **state)
        return -entropy - of_shape(log_prob, code.shape[:1], self, "log_prob")

    @abstractmethod
    def log_prob(self, code: Tensor, **state: Tensor) -> Tensor:
        """Return the log-density of each row, of shape (n_rows,), in nats."""

    @abstractmethod
    def sample(self, shape: tuple[int, int], generator: torch.Generator, **state: Tensor) -> Tensor:
        """Return codes of ``shape`` drawn from the prior, in single precision, on its device."""

    def buffers_after_step(
        self,
        mean: Tensor,
        log_std: Tensor,
        code: Tensor,
        row_weight: Tensor | None,
        **state: Tensor,
    ) -> dict[str, Tensor]:
        """Return new values of some of the buffers, after a step of the training."""
        return {}


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
    >>> ones = torch.ones(1, 1)
    >>> float(
    ...     StandardNormal().divergence(mean=ones, log_std=0 * ones, code=ones)
    ... )
    0.5
    """

    factorises = True
    closed_form = True

    def divergence(self, mean: Tensor, log_std: Tensor, code: Tensor) -> Tensor:
        """Return the KL of each latent, which no draw is needed for."""
        return 0.5 * (mean.square() + (2 * log_std).exp() - 1) - log_std

    def log_prob(self, code: Tensor) -> Tensor:
        """Return the log-density of each row."""
        return -0.5 * (code.square() + math.log(2 * math.pi)).sum(dim=1)

    def sample(self, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
        """Return standard normal codes."""
        codes = torch.empty(shape, dtype=torch.float32, device=generator.device)
        return codes.normal_(generator=generator)


PRIORS: dict[str, type[Prior]] = {"standard_normal": StandardNormal}
