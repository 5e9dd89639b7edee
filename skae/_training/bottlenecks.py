"""From the encoder's output to the code: as it is, sparse, or a posterior.

A bottleneck is the one part of the network in which the estimators differ. ``forward`` is its
training step: it returns the code that goes to the decoder, and the terms that it adds to the
objective. ``code`` is what ``transform`` returns, and ``score`` the log-likelihood of rows.

Shapes: ``h``, the encoder's output, is (n_rows, n_outputs(n_components)); codes are (n_rows,
n_components); scores are (n_rows,).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from scipy.special import gammaincinv
from torch import Tensor, nn
from torch.nn import functional as F

from skae._random import torch_generator
from skae.networks import Layout, linear_layers
from skae.priors import Prior
from skae.schedules import Schedule
from skae.sparsity import Sparsity

Gains = Callable[[], Tensor | float]  # how strongly the decoder answers to each unit
LogLikelihood = Callable[[Tensor], Tensor]  # codes (n_rows, k) -> log p(x | code), (n_rows,)


class Term(NamedTuple):
    """One named part of an objective."""

    value: Tensor  # scalar, before its weight
    weight: float | Tensor  # weight in the loss of this step
    final_weight: float  # weight in the objective that says whether the fit still improves


Terms = dict[str, Term]

# What the score of one row may decode.
_DECODED_CELLS = 2**20


class Bottleneck(nn.Module):
    """The code is the encoder's output (plain and denoising autoencoders)."""

    #: Whether the gradient of the network is weighted by the variance of each column (beta-NLL with
    #: beta = 1; Seitzer et al. 2022), so that errors count alike in every scaled column. Where each
    #: row has a code of its own, nothing checks the gain in likelihood from columns that are known
    #: almost exactly, and those of little variance would take all of the code. A bound of log p(x)
    #: has that check, and must be trained as it is.
    variance_weighted: bool = True

    def __init__(self, n_components: int):
        super().__init__()
        self.n_components = n_components

    @property
    def n_inputs(self) -> int:
        """Number of outputs that the encoder must have."""
        return self.n_components

    def init_encoder(self, encoder: nn.Module) -> None:
        """Set the first weights of the encoder's last layer, where they must not be random."""

    def on_train_begin(self, n_steps: int) -> None:
        """Learn how many steps the training that begins now will take at most."""

    def on_epoch_begin(self, progress: float) -> None:
        """Learn that a share ``progress`` of the training is done; called before each epoch."""

    def forward(self, h, row_weight, gains, generator) -> tuple[Tensor, Terms]:
        """Return the code for the decoder, and the terms of the objective."""
        return h, {}

    def code(self, h: Tensor) -> Tensor:
        """Return the code that ``transform`` returns."""
        return h

    def diagnostics(self, h: Tensor) -> dict[str, Tensor]:
        """Return what there is to tell of each row, by name, each of shape (n_rows, ...)."""
        return {}

    def score(self, h: Tensor, log_likelihood: LogLikelihood) -> Tensor:
        """Return log p(x | code of x)."""
        return log_likelihood(self.code(h))


class SparseBottleneck(Bottleneck):
    """Non-negative codes with exact zeros, steered to a mean number of active units.

    Parameters
    ----------
    n_components : int
    sparsity : Sparsity
    n_active : float
        Target for the mean number of active units a row.
    weight : float or None
        Weight of the penalty; None steers it until the target is met.
    """

    weight: Tensor
    recent_rate: Tensor
    uses: Tensor
    dead: Tensor

    #: Weight of the term that revives dead units. They get no other gradient, and the steps of Adam
    #: do not depend on its size; it is small so as not to disturb the layers that others share.
    REVIVAL_WEIGHT = 1e-2
    #: The steered weight starts here, and can grow by this many powers of e in one training.
    INITIAL_WEIGHT, MAX_LOG_GROWTH = 1e-2, 30.0
    #: Weight of the newest batch in the exponential moving average of the rates of activity.
    EMA_RATE = 0.05

    def __init__(
        self,
        n_components: int,
        sparsity: Sparsity,
        n_active: float,
        weight: float | None,
    ):
        super().__init__(n_components)
        self.sparsity, self.n_active = sparsity, n_active
        self.steered = weight is None and sparsity.penalised
        # A weight that is steered changes all the time, and the objective with it; how well the
        # fit does is then the reconstruction alone.
        self.final_weight = 0.0 if weight is None else float(weight)
        initial = self.INITIAL_WEIGHT if self.steered else self.final_weight
        self.register_buffer("weight", torch.tensor(initial, dtype=torch.float32))
        one = torch.ones(n_components, dtype=torch.float32)
        self.register_buffer("recent_rate", one * (n_active / n_components))  # of activity
        self.register_buffer("uses", one.clone())  # active rows in this epoch
        self.register_buffer("dead", 0 * one)  # 1 where no row was, in the last
        # For single epochs, of which nobody knows how many will come: slow enough for the network
        # to follow. A weight that runs ahead switches the whole code off.
        self.gain = 0.01

    def on_train_begin(self, n_steps):
        """Choose how fast the weight is steered."""
        self.gain = min(0.1, max(0.003, self.MAX_LOG_GROWTH / max(1, n_steps)))

    def on_epoch_begin(self, progress):
        """Count the units that no row of the last epoch switched on, and start counting again."""
        if self.training:
            self.dead.copy_(self.uses == 0)
            self.uses.zero_()

    def forward(self, h, row_weight, gains, generator):
        """Return the sparse code, the penalty, and the term that revives dead units."""
        code = self.code(h)
        terms = {}
        if self.training:
            self._count(code.detach(), row_weight)
            shortfall = (self.sparsity.threshold(h, self.n_active) - h).relu() @ self.dead
            if row_weight is not None:
                shortfall = shortfall * row_weight
            terms["revival"] = Term(shortfall.mean(), self.REVIVAL_WEIGHT, 0.0)
        if self.sparsity.penalised:
            penalty = self.sparsity.penalty(
                h, code, gains(), self.recent_rate.clone(), row_weight, self.n_active
            )
            weight = self.weight if self.steered else self.final_weight
            terms["sparsity"] = Term(penalty, weight, self.final_weight)
        return code, terms

    def _count(self, code: Tensor, row_weight: Tensor | None) -> None:
        """Note which units were active, and steer the weight towards the target."""
        active = (code > 0).to(code.dtype)
        self.uses += active.sum(dim=0)
        weight = torch.ones_like(active[:, 0]) if row_weight is None else row_weight
        rate = weight @ active / weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)
        self.recent_rate.lerp_(rate, self.EMA_RATE)
        if self.steered:
            excess = rate.sum() / self.n_active - 1
            self.weight *= (self.gain * (5 * excess).clamp(-1, 1)).exp()

    def code(self, h):
        """Return the code with its zeros."""
        return self.sparsity.activate(h, self.n_active)


class VariationalBottleneck(Bottleneck):
    r"""A Gaussian posterior over the code, drawn by :math:`z = \mu + \sigma \epsilon`.

    Parameters
    ----------
    n_components : int
    prior : Prior
    beta : float
        Weight of the KL term.
    warmup : Schedule
        Factor of ``beta`` during training.
    free_bits : float
        KL of each latent, averaged over the batch, below which it costs no less (nats).
    n_importance_samples : int
        1: `score` is the evidence lower bound. More: the importance-weighted bound.
    seed : int
        Fixes the points at which `score` looks.
    most_points : int
        Points for the expectation over the posterior in `score`, as near as whole spheres come.
    """

    variance_weighted = False
    points: Tensor

    #: Log standard deviations between these are what the encoder says; beyond, they are drawn in
    #: by at most one. An encoder is a line far from the training rows, and its exponential, without
    #: a bound, is no number there.
    LOG_STD = (-9.0, 3.0)

    def __init__(
        self,
        n_components: int,
        prior: Prior,
        beta: float,
        warmup: Schedule,
        free_bits: float,
        n_importance_samples: int,
        seed: int,
        most_points: int = 32,
    ):
        super().__init__(n_components)
        self.prior, self.beta, self.warmup, self.free_bits = prior, beta, warmup, free_bits
        self.factor = 1.0
        self.importance_weighted = n_importance_samples > 1
        points = (
            _normal_points(n_importance_samples, n_components, seed)
            if self.importance_weighted
            else _cubature_points(n_components, most_points, seed)
        )
        self.register_buffer("points", points)

    @property
    def n_inputs(self):
        """Means and log standard deviations."""
        return 2 * self.n_components

    @torch.no_grad()
    def init_encoder(self, encoder):
        """Let every posterior start as wide as the prior.

        A width that starts as a random function of the row is the exponential of a large number for
        a row far out, which throws the first steps off.
        """
        layers = linear_layers(encoder)
        if layers and layers[-1].out_features == self.n_inputs:
            layers[-1].weight[self.n_components :] = 0.0
            if layers[-1].bias is not None:
                layers[-1].bias[self.n_components :] = 0.0

    def on_epoch_begin(self, progress):
        """Set the factor of the KL term."""
        self.factor = self.warmup(progress)

    def forward(self, h, row_weight, gains, generator):
        """Return a draw from the posterior, and the KL term."""
        mean, log_std = self.posterior(h)
        code = mean + log_std.exp() * torch.empty_like(mean).normal_(generator=generator)
        kl = self._free(self.prior.kl(mean, log_std), row_weight)
        weight = self.beta * (self.factor if self.training else 1.0)
        return code, {"kl": Term(kl, weight, self.beta)}

    def posterior(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation, the latter bounded, of each latent."""
        mean, free = h.chunk(2, dim=1)
        log_std = free.clamp(*self.LOG_STD)
        # Not a plain clamp: one that went too far must still feel where it is drawn to.
        return mean, log_std + F.softsign(free - log_std)

    def _free(self, kl: Tensor, row_weight: Tensor | None) -> Tensor:
        """Sum over latents; each costs at least the free bits (Kingma et al. 2016, eq. 15)."""
        a_latent = kl.mean(dim=0) if row_weight is None else row_weight @ kl / len(kl)
        return (a_latent.clamp_min(self.free_bits) if self.free_bits else a_latent).sum()

    def code(self, h):
        """Return the posterior mean."""
        return h[:, : self.n_components]

    def diagnostics(self, h):
        """Return the KL of each latent, (n_rows, n_components), in nats."""
        return {"kl": self.prior.kl(*self.posterior(h))}

    def score(self, h, log_likelihood):
        """Return the lower bound of log p(x), at points that are the same for every row."""
        mean, log_std = self.posterior(h)
        std = log_std.exp()
        codes = (mean + std * point for point in self.points)
        if not self.importance_weighted:
            # Divided one by one: the sum of scores far out may be no number any more.
            expected = sum(log_likelihood(code) / len(self.points) for code in codes)
            return expected - self.prior.kl(mean, log_std).sum(dim=1)
        log_posterior = -(0.5 * (self.points**2 + math.log(2 * math.pi))).sum(dim=1)
        ratios = [
            log_likelihood(code) + self.prior.log_prob(code) - (log_q - log_std.sum(dim=1))
            for code, log_q in zip(codes, log_posterior, strict=True)
        ]
        return torch.logsumexp(torch.stack(ratios), dim=0) - math.log(len(ratios))


def choose_n_points(n_features: int) -> int:
    """Return the points of `VariationalBottleneck.score` for rows of so many columns.

    32, and in tables of more than 32,768 columns as many as decode a million cells a row, an even
    number of at least 4.
    """
    return min(32, max(4, _DECODED_CELLS // n_features // 2 * 2))


def _normal_points(n_points: int, n_components: int, seed: int) -> Tensor:
    """Return standard normal draws, fixed by the seed."""
    points = torch.empty(n_points, n_components, dtype=torch.float32)
    return points.normal_(generator=torch_generator(seed))


def _cubature_points(n_components: int, most: int, seed: int) -> Tensor:
    r"""Return points whose mean stands for a standard normal expectation in k dimensions.

    On each of several spheres, the points :math:`\pm r q_i` with an orthonormal basis :math:`q_i`
    that is turned at random. The radii :math:`r` are the middle quantiles of the chi distribution
    in equal parts, scaled so that the mean of :math:`r^2` is k: with whole bases the rule is then
    exact for polynomials of degree three (as that of Arasaratnam and Haykin 2009, equation 13, with
    one sphere), so the bound is exact for a linear decoder with Gaussian noise. The random turns
    are those of Genz and Monahan (1998). Where k is more than half of ``most``, one sphere has a
    part of the basis.
    """
    generator = torch_generator(seed)
    n_spheres = max(1, most // (2 * n_components))
    shares = (np.arange(n_spheres) + 0.5) / n_spheres
    radii = np.sqrt(2.0 * gammaincinv(n_components / 2, shares))  # quantiles of chi
    radii *= math.sqrt(n_components / np.square(radii).mean())
    points = [radius * _turned_basis(n_components, generator)[: most // 2] for radius in radii]
    directions = torch.cat(points)
    return torch.cat([directions, -directions]).float()


def _turned_basis(n_components: int, generator: torch.Generator) -> Tensor:
    """Return an orthonormal basis in the rows, uniform over all rotations (Mezzadri 2007)."""
    square = torch.empty(n_components, n_components, dtype=torch.float64)
    q, r = torch.linalg.qr(square.normal_(generator=generator))
    return (q * r.diagonal().sign()).T


# What makes them: plain data, so that a specification can be written out.


class BottleneckSpec(Protocol):
    """Which bottleneck a model has."""

    @property
    def settles_at(self) -> float:
        """Share of a training before which its objective says nothing of convergence."""

    def build(self, layout: Layout, seed: int) -> Bottleneck:
        """Return the bottleneck."""


@dataclass(frozen=True)
class PlainCode:
    """The code is the encoder's output."""

    settles_at: float = 0.0

    def build(self, layout: Layout, seed: int) -> Bottleneck:
        """Return the bottleneck."""
        return Bottleneck(layout.n_components)


@dataclass(frozen=True)
class SparseCode:
    """Codes with exact zeros; the fields are the arguments of `SparseBottleneck`."""

    sparsity: Sparsity
    n_active: float
    weight: float | None

    @property
    def settles_at(self) -> float:
        """While the weight of the penalty is being found, the reconstruction gets worse."""
        return 0.5 if self.weight is None and self.sparsity.penalised else 0.0

    def build(self, layout: Layout, seed: int) -> Bottleneck:
        """Return the bottleneck."""
        return SparseBottleneck(layout.n_components, self.sparsity, self.n_active, self.weight)


@dataclass(frozen=True)
class GaussianCode:
    """A posterior over codes; the fields are the arguments of `VariationalBottleneck`."""

    prior: Prior
    beta: float
    warmup: Schedule
    free_bits: float
    n_importance_samples: int

    @property
    def settles_at(self) -> float:
        """While the KL term comes in, the objective gets worse."""
        return getattr(self.warmup, "share", 0.0)

    def build(self, layout: Layout, seed: int) -> Bottleneck:
        """Return the bottleneck."""
        return VariationalBottleneck(
            layout.n_components,
            self.prior,
            self.beta,
            self.warmup,
            self.free_bits,
            self.n_importance_samples,
            seed,
            choose_n_points(layout.n_features),
        )
