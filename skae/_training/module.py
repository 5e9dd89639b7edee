"""The torch module: noise, encoder, bottleneck, decoder and likelihood put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from skae._random import derive_seed
from skae._training.batches import Batch
from skae._training.bottlenecks import Bottleneck, Terms
from skae._training.scaling import Scaling
from skae.likelihoods import Likelihood
from skae.networks import Layout, Network, decoder_gains, linear_layers
from skae.noise import Noise


class Output(NamedTuple):
    """What a training step needs of a forward pass."""

    log_likelihood: Tensor  # (n_rows,), nats, of the clean rows
    terms: Terms


class Observation(nn.Module):
    """A likelihood with its free parameters: raw decoder output to distribution of rows."""

    def __init__(self, likelihood: Likelihood, mean: np.ndarray, variance: np.ndarray):
        super().__init__()
        self.likelihood = likelihood
        start = likelihood.free_parameters(_tensor(mean), _tensor(variance))
        self.free = nn.ParameterDict({name: nn.Parameter(v) for name, v in start.items()})

    def log_likelihood(self, x: Tensor, raw: Tensor, even: bool = False) -> Tensor:
        """Return log p(x | raw) of each row.

        With ``even`` the value is the same, but the gradient that goes back into ``raw`` counts
        errors alike in every column.
        """
        scale = self.likelihood.gradient_scale(**self.free) if even else None
        if scale is not None and raw.requires_grad:
            raw.register_hook(lambda gradient: gradient * scale)
        return self.likelihood.log_prob(x, raw, **self.free).sum(dim=1)

    def mean(self, raw: Tensor) -> Tensor:
        """Return the mean of x for each row of raw output."""
        return self.likelihood.mean(raw, **self.free)

    def sample(self, raw: Tensor, generator: torch.Generator) -> Tensor:
        """Return a draw of x for each row of raw output."""
        return self.likelihood.sample(raw, generator, **self.free)


class AutoencoderModule(nn.Module):
    """Encoder, bottleneck and decoder between rows of X, in the units of the network.

    Parameters
    ----------
    network : Network
        Builds the encoder and the decoder.
    likelihood : Likelihood
    make_bottleneck : callable
        Takes ``n_components`` and ``seed`` and returns the bottleneck.
    layout : Layout
        What the user chose about the network.
    column_mean, column_variance : ndarray of shape (n_features,)
        Of the training rows, in the units of the network.
    encoder_scaling : Scaling or None
        Applied to the input of the encoder alone.
    noise : Noise or None
    noise_level : float
    seed : int
        Fixes the initial weights.
    """

    encoder_scale: Tensor | None
    encoder_shift: Tensor | None

    def __init__(
        self,
        network: Network,
        likelihood: Likelihood,
        make_bottleneck: Callable[..., Bottleneck],
        layout: Layout,
        column_mean: np.ndarray,
        column_variance: np.ndarray,
        encoder_scaling: Scaling | None = None,
        noise: Noise | None = None,
        noise_level: float = 0.0,
        seed: int = 0,
    ):
        super().__init__()
        self.noise, self.noise_level = noise, noise_level
        self.bottleneck = make_bottleneck(
            n_components=layout.n_components, seed=derive_seed(seed, 1)
        )
        self.observation = Observation(likelihood, column_mean, column_variance)
        self.encoder, self.decoder = network.build(
            layout,
            n_encoder_outputs=self.bottleneck.n_inputs,
            n_decoder_outputs=layout.n_features * likelihood.n_outputs,
            seed=derive_seed(seed, 0),
        )
        if network.adjustable:
            self.bottleneck.start(self.encoder)
            self._start_at(likelihood.raw_from_mean(_tensor(column_mean)))
        self._encoder_scaling(encoder_scaling)

    def forward(self, batch: Batch, generator: torch.Generator) -> Output:
        """Return the log-likelihood of the clean rows and the terms of the bottleneck."""
        x, row_weight = batch
        corrupted = x
        if self.training and self.noise is not None:
            corrupted = self.noise.corrupt(x, self.noise_level, generator)
        h = self._encode(corrupted)
        code, terms = self.bottleneck(h, row_weight, self._gains, generator)
        raw = self.decoder(code)
        return Output(
            self.observation.log_likelihood(x, raw, even=self.bottleneck.even_errors), terms
        )

    def code(self, x: Tensor) -> Tensor:
        """Return the code of each row."""
        return self.bottleneck.code(self._encode(x))

    def mean(self, code: Tensor) -> Tensor:
        """Return the mean of x given each code."""
        return self.observation.mean(self.decoder(code))

    def draw(self, code: Tensor, generator: torch.Generator) -> Tensor:
        """Return a draw of x given each code."""
        return self.observation.sample(self.decoder(code), generator)

    def score(self, x: Tensor) -> Tensor:
        """Return the log-likelihood of each row, in nats."""
        return self.bottleneck.score(
            self._encode(x), lambda code: self.observation.log_likelihood(x, self.decoder(code))
        )

    def kl(self, x: Tensor) -> Tensor:
        """Return the KL of each latent of each row; only for a variational bottleneck."""
        return self.bottleneck.kl(self._encode(x))

    def _gains(self) -> Tensor | float:
        return decoder_gains(self.decoder, self.bottleneck.n_components)

    def _encode(self, x: Tensor) -> Tensor:
        if self.encoder_scale is not None:
            x = x / self.encoder_scale
            if self.encoder_shift is not None:
                x = x - self.encoder_shift
        return self.encoder(x)

    def _encoder_scaling(self, scaling: Scaling | None) -> None:
        """Keep the scaling of the encoder's input, the shift already divided by the scale."""
        scale = shift = None
        if scaling is not None:
            scale = _tensor(scaling.scale)
            shift = None if scaling.shift is None else _tensor(scaling.shift / scaling.scale)
        self.register_buffer("encoder_scale", scale)
        self.register_buffer("encoder_shift", shift)

    @torch.no_grad()
    def _start_at(self, raw: Tensor) -> None:
        """Let the decoder predict the column means before training, if its last layer can."""
        layers = linear_layers(self.decoder)
        if layers and layers[-1].bias is not None and layers[-1].bias.shape == raw.shape:
            layers[-1].bias.copy_(raw)


def _tensor(values: np.ndarray) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float32)
