"""A Gaussian posterior over the code, and the bound of log p(x) that comes with it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skae._random import Stream, torch_generator
from skae._state import State
from skae._training.bottlenecks.base import Bottleneck, BottleneckSpec, Term
from skae._training.bottlenecks.points import (
    choose_n_points,
    cubature_points,
    most_points_of_divergence,
    normal_points,
)
from skae._validation import of_shape
from skae.networks import Affine, Layout, linear_layers
from skae.priors import Prior, StandardNormal
from skae.schedules import LinearWarmup, Schedule

# Share of a training over which the KL term comes in, where weights start at random.
_WARMUP = 0.25

#: Log standard deviations between these are what the encoder says; beyond, they are drawn in by at
#: most one. An encoder is a line far from the training rows, and its exponential, without a bound,
#: is no number there.
LOG_STD = (-9.0, 3.0)


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
        Fixes the points at which `score` looks, and what the prior starts at random.
    most_points : int
        Points for the expectation over the posterior in `score`, as near as whole spheres come.
    """

    variance_weighted = False
    centres = False  # the prior says where codes lie
    points: Tensor
    points_of_divergence: Tensor

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
        self.state = State(
            prior, n_components=n_components, generator=torch_generator(seed, Stream.STATE_AT_START)
        )
        self.prior, self.beta, self.warmup, self.free_bits = prior, beta, warmup, free_bits
        self.factor = 1.0
        self.importance_weighted = n_importance_samples > 1
        points = (
            normal_points(n_importance_samples, n_components, seed)
            if self.importance_weighted
            else cubature_points(n_components, most_points, seed)
        )
        self.register_buffer("points", points)
        # Of their own: few draws of an importance-weighted bound are no mean over a posterior.
        self.register_buffer(
            "points_of_divergence",
            None
            if prior.closed_form
            else cubature_points(n_components, most_points_of_divergence(n_components), seed),
        )

    @property
    def n_inputs(self):
        """Means and log standard deviations."""
        return 2 * self.n_components

    def init_encoder(self, encoder):
        """Let every posterior start as wide as the prior."""
        posteriors_as_wide_as_the_prior(encoder, self.n_components)

    def encoder_start(self, start):
        """Return means as they are, and log standard deviations that are the same for all rows."""
        mean = super().encoder_start(start)
        log_std = 0.5 * torch.as_tensor(start.posterior_variance, dtype=torch.float32).log()
        return Affine(
            torch.cat([mean.weight, torch.zeros_like(mean.weight)]), torch.cat([mean.bias, log_std])
        )

    def on_epoch_begin(self, progress):
        """Set the factor of the KL term."""
        self.factor = self.warmup(progress)

    def draw(self, n_rows, generator):
        """Return a standard normal number for each latent of each row."""
        noise = torch.empty(n_rows, self.n_components, dtype=torch.float32, device=generator.device)
        return noise.normal_(generator=generator)

    def forward(self, h, step):
        """Return the reconstruction from a draw of the posterior, and the KL term."""
        mean, log_std = bounded_posterior(h)
        code = mean + log_std.exp() * step.noise
        kl = self._divergence(mean, log_std, code)
        if self.training:
            self.sees_first(mean=mean, log_std=log_std, code=code, row_weight=step.row_weight)
        weight = self.beta * (self.factor if self.training else 1.0)
        return {
            "reconstruction": Term(step.reconstruction(code)),
            "kl": Term(self._free(kl, step.row_weight), weight, self.beta),
        }

    def _divergence(self, mean: Tensor, log_std: Tensor, code: Tensor) -> Tensor:
        """Return the KL of each row: of each latent, (n_rows, k), or of all together, (n_rows, 1).

        ``code`` is a draw from the posterior.
        """
        kl = self.prior.divergence(mean, log_std, code, **self.state.tensors())
        factorises = self.prior.factorises
        expected = mean.shape if factorises else mean.shape[:1]
        if kl.shape != expected:
            raise ValueError(
                f"divergence of {type(self.prior).__name__}, whose factorises is {factorises}, "
                f"must have the shape {tuple(expected)}. Got {tuple(kl.shape)} instead."
            )
        return kl if factorises else kl[:, None]

    def _mean_divergence(self, mean: Tensor, log_std: Tensor) -> Tensor:
        """Return the KL of each row as in `_divergence`, as a mean over points if it needs some."""
        if self.prior.closed_form:
            return self._divergence(mean, log_std, mean)
        std, points = log_std.exp(), self.points_of_divergence
        return sum(  # type: ignore[return-value]
            self._divergence(mean, log_std, mean + std * point) / len(points) for point in points
        )

    def _log_prior(self, code: Tensor) -> Tensor:
        log_prob = self.prior.log_prob(code, **self.state.tensors())
        return of_shape(log_prob, code.shape[:1], self.prior, "log_prob")

    def _free(self, kl: Tensor, row_weight: Tensor | None) -> Tensor:
        """Sum over latents; each costs at least the free bits (Kingma et al. 2016, eq. 15)."""
        a_latent = kl.mean(dim=0) if row_weight is None else row_weight @ kl / len(kl)
        return (a_latent.clamp_min(self.free_bits) if self.free_bits else a_latent).sum()

    def code(self, h):
        """Return the posterior mean."""
        return self.outer(h[:, : self.n_components])

    @property
    def turns(self) -> bool:  # type: ignore[override]
        """Whether order and sign are all one to the prior, as to the standard normal alone."""
        return type(self.prior) is StandardNormal

    def axes(self, codes, told):
        """Return the latents in the order of their use: no other turn keeps the posterior."""
        return np.eye(self.n_components)[:, np.argsort(-told["kl"], kind="stable")]

    def sample(self, n_rows: int, generator: torch.Generator) -> Tensor:
        """Return codes from the prior, on the device of the generator."""
        state = {name: value.to(generator.device) for name, value in self.state.tensors().items()}
        shape = (n_rows, self.n_components)
        with torch.no_grad():
            codes = self.prior.sample(shape, generator, **state)
        codes = of_shape(codes, shape, self.prior, "sample")
        return self.outer(codes.to(self.points.device)).to(codes.device)

    def diagnostics(self, h):
        """Return "kl", and "variance" where the prior does not factorise.

        The KL from the prior is that of each latent, (n_rows, n_components), or of all together,
        (n_rows, 1), in nats; the variance is that of the posterior, (n_rows, n_components).
        """
        mean, log_std = bounded_posterior(h)
        kl = self._mean_divergence(mean, log_std)
        if self.prior.factorises:
            return {"kl": self._ordered(kl)}
        return {"kl": kl, "variance": self._ordered((2 * log_std).exp())}

    def _ordered(self, of_latents: Tensor) -> Tensor:
        return of_latents if self.turn is None else of_latents @ self.turn.abs()

    def score(self, h, log_likelihood):
        """Return the lower bound of log p(x), at points that are the same for every row."""
        mean, log_std = bounded_posterior(h)
        std = log_std.exp()
        codes = (mean + std * point for point in self.points)
        if not self.importance_weighted:
            # Divided one by one: the sum of scores far out may be no number any more.
            expected = sum(log_likelihood(code) / len(self.points) for code in codes)
            return expected - self._mean_divergence(mean, log_std).sum(dim=1)
        log_posterior = -(0.5 * (self.points**2 + math.log(2 * math.pi))).sum(dim=1)
        ratios = [
            log_likelihood(code) + self._log_prior(code) - (log_q - log_std.sum(dim=1))
            for code, log_q in zip(codes, log_posterior, strict=True)
        ]
        return torch.logsumexp(torch.stack(ratios), dim=0) - math.log(len(ratios))


def bounded_posterior(h: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and log standard deviation, the latter bounded, of each latent."""
    mean, free = h.chunk(2, dim=1)
    log_std = free.clamp(*LOG_STD)
    # Not a plain clamp: one that went too far must still feel where it is drawn to.
    return mean, log_std + F.softsign(free - log_std)


@torch.no_grad()
def posteriors_as_wide_as_the_prior(encoder: nn.Module, n_components: int) -> None:
    """Let the last layer say a log standard deviation of zero for each latent.

    A width that starts as a random function of the row is the exponential of a large number for a
    row far out, which throws the first steps off.
    """
    layers = linear_layers(encoder)
    if layers and layers[-1].out_features == 2 * n_components:
        layers[-1].weight[n_components:] = 0.0
        if layers[-1].bias is not None:
            layers[-1].bias[n_components:] = 0.0


@dataclass(frozen=True, eq=False)
class GaussianCode(BottleneckSpec):
    """Makes a `VariationalBottleneck`."""

    prior: Prior
    beta: float
    kl_warmup: Schedule | None  # None: what suits the start, in a training that has `begun`
    free_bits: float
    n_importance_samples: int

    def __post_init__(self):
        if self.free_bits and not self.prior.factorises:
            raise ValueError(
                "free_bits are the KL that each latent may use without cost, and prior "
                f"{type(self.prior).__name__} has none for single latents. Got free_bits="
                f"{self.free_bits!r} instead of 0. Choose a prior that factorises, such as "
                "'standard_normal', or set free_bits=0 and lengthen kl_warmup."
            )

    code = "gaussian"

    @property
    def settles_at(self) -> float:
        """While the KL term comes in, the objective gets worse."""
        return _known(self.kl_warmup).settles_at

    def begun(self, at_model):
        """Return the bottleneck with a warm-up: a model of the rows has nothing to find first."""
        if self.kl_warmup is not None:
            return self
        return replace(self, kl_warmup=LinearWarmup(0.0 if at_model else _WARMUP))

    def in_stack(self, codes):
        """Return the bottleneck without a warm-up, in which the network would be a plain one."""
        return replace(self, kl_warmup=LinearWarmup(0.0))

    def build(self, layout: Layout, seed: int) -> Bottleneck:
        """Return the bottleneck."""
        return VariationalBottleneck(
            layout.n_components,
            self.prior,
            self.beta,
            _known(self.kl_warmup),
            self.free_bits,
            self.n_importance_samples,
            seed,
            choose_n_points(layout.n_features),
        )


def _known(warmup: Schedule | None) -> Schedule:
    if warmup is None:
        raise TypeError("The warm-up is not known before `begun`.")
    return warmup
