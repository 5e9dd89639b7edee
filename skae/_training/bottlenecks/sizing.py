"""A posterior over more latents than are needed, of which a falling price leaves some in use."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from skae._training.bottlenecks.base import Bottleneck, BottleneckSpec, Term
from skae._training.bottlenecks.points import cubature_points
from skae._training.bottlenecks.variational import (
    bounded_posterior,
    posteriors_as_wide_as_the_prior,
)
from skae._training.size_curve import IN_USE
from skae.networks import Layout
from skae.priors import StandardNormal

#: A latent of so large a share of the largest KL is in use beyond doubt.
_BEYOND_DOUBT = 0.4
# The share of rows that keep no latent in doubt.
_KEEP_FEWEST = 0.3
# Latents at the start, and the share of them in use at which their number is doubled.
_FIRST, _CROWDED = 32, 0.75
# The share of the training at which the price is 1, and that at which latents are ordered.
_FALLS_UNTIL, _ORDERS_AT = 0.48, 0.7
_FEWER = 2  # sizes to compare below those in doubt


class SizingBottleneck(Bottleneck):
    r"""A Gaussian posterior that finds how many latents are worth their price.

    The weight of the KL term, the price of a nat, falls from that of `start_at`, b, to 1, as

    .. math:: b^{1 - p / 0.48}

    with p the share of the training done. Latents come into use one by one, in the order of what
    they are worth, and the decoder learns what they bend into before more of them can. From p = 0.7
    on latents are ordered by their KL, and each row keeps the first few, a random number of those
    in doubt, so that one network learns all of these sizes and they can be compared.

    Parameters
    ----------
    n_components : int
        The most latents; at first 32 are there, and twice as many once three quarters are in use.
    seed : int
        Fixes the points of the score.
    """

    variance_weighted = False
    prior = StandardNormal()
    points: Tensor
    places: Tensor

    def __init__(self, n_components: int, seed: int):
        super().__init__(n_components)
        self.price = self.weight = 1.0
        self.register_buffer("points", cubature_points(n_components, 16, seed))
        self.register_buffer("places", torch.arange(n_components))  # in the order of their KL
        self.register_buffer("kl", torch.zeros(n_components))  # of an epoch, nats
        self.fewest = self.most = self.kept = min(n_components, _FIRST)
        self.ordered = False
        self._totals: Tensor | None = None
        self._n_rows = 0

    @property
    def n_inputs(self):
        """Means and log standard deviations."""
        return 2 * self.n_components

    def init_encoder(self, encoder):
        """Let every posterior start as wide as the prior."""
        posteriors_as_wide_as_the_prior(encoder, self.n_components)

    def start_at(self, price: float) -> None:
        """Let the price be this one, at least 1, at the beginning."""
        self.price = self.weight = price

    def on_epoch_begin(self, progress):
        """Set the price, and see which latents are in use."""
        if self._totals is not None and not self.ordered:
            self.kl = self._totals / self._n_rows
        self._totals, self._n_rows = None, 0
        self.weight = self.price ** max(0.0, 1.0 - progress / _FALLS_UNTIL)
        if progress >= _ORDERS_AT and not self.ordered:
            self._order()
        elif not self.ordered and (self.kl > IN_USE).sum() >= _CROWDED * self.most:
            self.fewest = self.most = self.kept = min(self.n_components, 2 * self.most)

    def _order(self) -> None:
        """Order latents by their KL; from now on some are in doubt, and the others are gone."""
        kl = self.kl.sort(descending=True, stable=True)
        self.places = kl.indices.argsort()
        self.most = max(1, int((kl.values > IN_USE).sum()))
        certain = int((kl.values > _BEYOND_DOUBT * kl.values[0]).sum())
        self.fewest = max(1, min(certain, self.most - _FEWER))
        self.certain = min(max(1, certain), self.most)
        self.kept, self.ordered = self.most, True

    def draw(self, n_rows, generator):
        """Return standard normal numbers for the latents of each row, and how many it keeps."""
        noise = torch.empty(n_rows, self.n_components, dtype=torch.float32, device=generator.device)
        noise.normal_(generator=generator)
        return torch.cat([noise, self._lengths(n_rows, generator)[:, None]], dim=1)

    def _lengths(self, n_rows: int, generator: torch.Generator) -> Tensor:
        """Return how many latents each of so many rows keeps."""
        length = torch.full((n_rows,), float(self.most), device=generator.device)
        if self.fewest < self.most:
            length.uniform_(self.fewest, self.most + 1, generator=generator).floor_()
            chance = torch.rand(n_rows, generator=generator, device=generator.device)
            length[chance < _KEEP_FEWEST] = self.certain
        return length

    def forward(self, h, step):
        """Return the reconstruction from a draw of the posterior, and the KL term."""
        noise, length = step.noise[:, :-1], step.noise[:, -1:]
        mean, log_std, keep = self._posterior(h, length)
        code = keep * (mean + log_std.exp() * noise)
        kl = self.prior.divergence(mean, log_std, code)
        share = step.row_weight / len(kl) if step.row_weight is not None else None
        a_latent = kl.mean(dim=0) if share is None else share @ kl
        if self.training:
            total = len(kl) * a_latent.detach()
            self._totals = total if self._totals is None else self._totals + total
            self._n_rows += len(kl)
        weight = self.weight if self.training else 1.0
        return {
            "reconstruction": Term(step.reconstruction(code)),
            "kl": Term(a_latent.sum(), weight, 1.0),
        }

    def _posterior(self, h: Tensor, length: Tensor | int) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean and log standard deviation, those of the prior where a latent is not kept."""
        keep = (self.places < length).to(h.dtype)
        mean, log_std = bounded_posterior(h)
        return keep * mean, keep * log_std, keep

    def code(self, h):
        """Return the posterior mean of the latents that are kept."""
        return self._posterior(h, self.kept)[0]

    def score(self, h, log_likelihood):
        """Return the lower bound of log p(x) with the first `kept` latents."""
        mean, log_std, keep = self._posterior(h, self.kept)
        std = keep * log_std.exp()
        expected = sum(
            log_likelihood(mean + std * point) / len(self.points) for point in self.points
        )
        return expected - self.prior.divergence(mean, log_std, mean).sum(dim=1)


@dataclass(frozen=True, eq=False)
class SizingCode(BottleneckSpec):
    """Makes a `SizingBottleneck`."""

    code = "gaussian"

    @property
    def settles_at(self) -> float:
        """The objective says nothing of convergence."""
        return 1.0

    def build(self, layout: Layout, seed: int) -> Bottleneck:
        """Return the bottleneck."""
        return SizingBottleneck(layout.n_components, seed)
