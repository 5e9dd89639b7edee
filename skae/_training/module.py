"""The torch module: noise, encoder, bottleneck, decoder and likelihood put together."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from skae._kernels.columns import Columns
from skae._kernels.csr import Csr
from skae._kernels.input import InputLayer
from skae._kernels.last_layer import Decoded, How
from skae._kernels.output import csr_log_likelihood, csr_loss
from skae._kernels.rows import ColumnSquares
from skae._random import Stream, derive_seed
from skae._scaling import ColumnSummary, Scaling
from skae._training.batches import Batch
from skae._training.bottlenecks import Bottleneck, Terms
from skae.likelihoods import Likelihood
from skae.networks import Layout, Network, decoder_gains, linear_layers
from skae.noise import Entries, Noise


class Output(NamedTuple):
    """What a training step needs of a forward pass."""

    reconstruction: Tensor  # scalar, nats: minus the mean log-likelihood of the clean rows
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
        total = x.sum(dim=1, keepdim=True) if self.likelihood.given_total else None
        return self.likelihood.log_prob(x, raw, **self.parameters_for(total)).sum(dim=1)

    def decoded(self, x: Csr, hidden: Tensor, layer: nn.Linear) -> Decoded:
        """Return what the likelihood of CSR rows depends on beside them."""
        total = x.totals() if self.likelihood.given_total else None
        return Decoded(hidden, layer, self.likelihood, dict(self.free), total)

    def mean(self, raw: Tensor, total: Tensor | None = None) -> Tensor:
        """Return the mean of x for each row of raw output (and its total, where that is given)."""
        return self.likelihood.mean(raw, **self.parameters_for(total))

    def sample(
        self, raw: Tensor, generator: torch.Generator, total: Tensor | None = None
    ) -> Tensor:
        """Return a draw of x for each row of raw output (and its total, where that is given)."""
        return self.likelihood.sample(raw, generator, **self.parameters_for(total))

    def parameters_for(self, total: Tensor | None) -> dict[str, Tensor]:
        """Return the keyword arguments of the likelihood for rows of these totals."""
        given = {"total": total} if self.likelihood.given_total else {}
        return {**self.free, **given}


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
    columns : ColumnSummary
        Of the training rows, in the units of the network.
    encoder_scaling : Scaling or None
        Applied to the input of the encoder alone.
    row_length : float or None
        Length that the rows are brought to for the encoder alone.
    largest_total : float or None
        Rows of a larger total count in training as if theirs were this one.
    noise : Noise or None
    noise_level : float
    csr : bool
        Whether CSR rows are to be trained on as they are. They are if the network begins and ends
        with a linear layer; ``takes_csr`` says so.
    row_gradients : bool
        Whether the optimiser takes gradients of some rows of a parameter.
    seed : int
        Fixes the initial weights and the points of scores.
    """

    # Any modules of the user's; sequences where CSR rows are taken as they are.
    encoder: Any
    decoder: Any

    def __init__(
        self,
        network: Network,
        likelihood: Likelihood,
        make_bottleneck: Callable[..., Bottleneck],
        layout: Layout,
        columns: ColumnSummary,
        encoder_scaling: Scaling | None = None,
        row_length: float | None = None,
        largest_total: float | None = None,
        noise: Noise | None = None,
        noise_level: float = 0.0,
        csr: bool = False,
        row_gradients: bool = False,
        seed: int = 0,
    ):
        super().__init__()
        self.noise, self.noise_level = noise, noise_level
        self.bottleneck = make_bottleneck(
            n_components=layout.n_components, seed=derive_seed(seed, Stream.SCORE_POINTS)
        )
        self.observation = Observation(likelihood, columns.mean, columns.variance)
        self.encoder, self.decoder = network.build(
            layout,
            n_encoder_outputs=self.bottleneck.n_inputs,
            n_decoder_outputs=layout.n_features * likelihood.n_outputs,
            seed=derive_seed(seed, Stream.WEIGHTS),
        )
        if network.adjustable:
            self.bottleneck.start(self.encoder)
            start = likelihood.first_raw(_tensor(columns.mean), _tensor(columns.used))
            self._start_at(start)
        self.encoder_units = Units(encoder_scaling, row_length)
        self.takes_csr = (
            csr
            and _begins_and_ends_linear(self.encoder, self.decoder)
            # A noise of the user's may know dense rows alone.
            and (noise is None or type(noise).corrupt_entries is not Noise.corrupt_entries)
        )
        self.row_gradients, self.largest_total = row_gradients, largest_total
        if self.takes_csr:
            self.encoder[0] = InputLayer.from_linear(self.encoder[0], row_gradients)

    def forward(self, batch: Batch, generator: torch.Generator) -> Output:
        """Return the reconstruction term and the terms of the bottleneck."""
        x, row_weight, columns = batch
        h = self._encode(self._corrupted(x, generator))
        code, terms = self.bottleneck(h, row_weight, partial(self._gains, columns), generator)
        row_weight = self._share_of_rows(x, row_weight)
        even = self.bottleneck.even_errors
        if isinstance(x, Csr):
            how = How(row_weight, columns, even, self.row_gradients)
            return Output(csr_loss(x, self._decoded(x, code), how), terms)
        log_likelihood = self.observation.log_likelihood(x, self.decoder(code), even)
        return Output(-(log_likelihood @ row_weight), terms)

    def _share_of_rows(self, x: Tensor | Csr, row_weight: Tensor | None) -> Tensor:
        """Return how much each row counts in the mean over a batch."""
        if row_weight is None:
            like = x.values if isinstance(x, Csr) else x
            share = like.new_full((len(x),), 1.0 / len(x))
        else:
            share = row_weight / len(x)
        if self.largest_total is None or not self.training:
            return share
        total = x.totals() if isinstance(x, Csr) else x.sum(dim=1, keepdim=True)
        return share * (self.largest_total / total[:, 0]).clamp_max(1.0)

    def code(self, x: Tensor | Csr) -> Tensor:
        """Return the code of each row."""
        return self.bottleneck.code(self._encode(x))

    def mean(self, code: Tensor, total: Tensor | None = None) -> Tensor:
        """Return the mean of x given each code."""
        return self.observation.mean(self.decoder(code), total)

    def draw(self, code: Tensor, generator: torch.Generator, total: Tensor | None = None) -> Tensor:
        """Return a draw of x given each code."""
        return self.observation.sample(self.decoder(code), generator, total)

    def probability_of_nonzero(self, code: Tensor, total: Tensor | None) -> Tensor:
        """Return the probability of each entry not to be zero, given each code."""
        given = self.observation.parameters_for(total)
        return self.observation.likelihood.prob_nonzero(self.decoder(code), **given)

    def score(self, x: Tensor | Csr) -> Tensor:
        """Return the log-likelihood of each row, in nats."""
        return self.bottleneck.score(self._encode(x), partial(self._log_likelihood, x))

    def kl(self, x: Tensor | Csr) -> Tensor:
        """Return the KL of each latent of each row; only for a variational bottleneck."""
        return self.bottleneck.kl(self._encode(x))

    def _log_likelihood(self, x: Tensor | Csr, code: Tensor) -> Tensor:
        if isinstance(x, Csr):
            return csr_log_likelihood(x, self._decoded(x, code))
        return self.observation.log_likelihood(x, self.decoder(code))

    def _decoded(self, x: Csr, code: Tensor) -> Decoded:
        return self.observation.decoded(x, self.decoder[:-1](code), self.decoder[-1])

    def _corrupted(self, x: Tensor | Csr, generator: torch.Generator) -> Tensor | Csr:
        if not self.training or self.noise is None:
            return x
        if not isinstance(x, Csr):
            return self.noise.corrupt(x, self.noise_level, generator)
        entries = Entries(x.rows, x.indices.long(), x.values, x.shape)
        return Csr.from_entries(*self.noise.corrupt_entries(entries, self.noise_level, generator))

    def _gains(self, columns: Columns | None) -> Tensor | float:
        squares = None
        if columns is not None:  # they stand for all here, too
            n_outputs = self.observation.likelihood.n_outputs
            weight = self.decoder[-1].weight
            first = torch.arange(n_outputs, device=weight.device) * (len(weight) // n_outputs)
            rows = (first[:, None] + columns.column).flatten()
            row_weight = columns.weight.repeat(n_outputs)
            squares = ColumnSquares.apply(weight, rows, row_weight, self.row_gradients)
        return decoder_gains(self.decoder, self.bottleneck.n_components, squares)

    def _encode(self, x: Tensor | Csr) -> Tensor:
        return self.encoder(self.encoder_units(x))

    @torch.no_grad()
    def _start_at(self, raw: Tensor) -> None:
        """Let the decoder predict the column means before training, if its last layer can."""
        layers = linear_layers(self.decoder)
        if layers and layers[-1].bias is not None and layers[-1].bias.shape == raw.shape:
            layers[-1].bias.copy_(raw)


class Units(nn.Module):
    """What the encoder alone sees: columns scaled and rows of one length, dense or CSR.

    After the training no number is farther from zero than `REACH` times the largest of the
    training. Beyond, a network is a line that nothing was learned about: with codes that go on
    along it some rows come back by luck, and the farther row is then the likelier one. So codes are
    finite however far out a row is, and its distance is left to the likelihood.

    Parameters
    ----------
    scaling : Scaling or None
    length : float or None
        Euclidean length that every row is brought to; None leaves it. Where the total of a row is
        given there is nothing to be read from its length, and a few rows of huge totals would
        throw the encoder off.
    """

    scale: Tensor | None
    shift: Tensor | None
    largest: Tensor

    REACH = 30.0

    def __init__(self, scaling: Scaling | None, length: float | None):
        super().__init__()
        scale = shift = None
        self.logarithm = scaling is not None and scaling.logarithm
        self.length = length
        if scaling is not None:
            scale = _tensor(scaling.scale)
            # Already divided by the scale.
            shift = None if scaling.shift is None else _tensor(scaling.shift / scaling.scale)
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)
        # Of the numbers of the training.
        self.register_buffer("largest", torch.zeros((), dtype=torch.float32))

    def forward(self, x: Tensor | Csr) -> Tensor | Csr:
        """Return rows in the units of the encoder; CSR rows are never shifted."""
        x = self.scaled(x)
        if isinstance(x, Csr):
            values = self._within_reach(x.values)
            if self.length is not None:
                values = values * _factor(self.length, x.row_sums(values.square()))[x.rows]
            return x.with_values(values)
        rows = self._within_reach(x)
        if self.length is None:
            return rows
        return rows * _factor(self.length, rows.square().sum(dim=1, keepdim=True))

    def scaled(self, x: Tensor | Csr) -> Tensor | Csr:
        """Return rows whose columns are scaled, of whatever length."""
        if isinstance(x, Csr):
            return x.with_values(self._scaled(x.values, x.indices))
        rows = self._scaled(x, slice(None))
        return rows if self.shift is None else rows - self.shift

    def _scaled(self, values: Tensor, columns: Tensor | slice) -> Tensor:
        # Noise can take a count below zero, where there is no logarithm.
        values = values.clamp_min(0.0).log1p() if self.logarithm else values
        return values if self.scale is None else values / self.scale[columns]

    def _within_reach(self, values: Tensor) -> Tensor:
        """Return the values as they are in training, which says how far others may reach."""
        if not self.training:
            bound = torch.where(self.largest > 0, self.REACH * self.largest, torch.inf)
            return values.clamp(-bound, bound)
        if values.numel():
            largest = torch.linalg.vector_norm(values.detach(), ord=torch.inf)
            torch.maximum(self.largest, largest, out=self.largest)
        return values


def _factor(length: float, squared_length: Tensor) -> Tensor:
    """Return what brings rows to a length; rows of zeros stay zeros."""
    smallest = torch.finfo(squared_length.dtype).tiny
    return length * squared_length.clamp_min(smallest).rsqrt()


def _begins_and_ends_linear(encoder: nn.Module, decoder: nn.Module) -> bool:
    """Return whether both are sequences, with a linear layer where they meet the rows.

    Not those of a class of the user's: it may compute something else.
    """
    if type(encoder) is not nn.Sequential or type(decoder) is not nn.Sequential:
        return False
    first, last = encoder[0], decoder[-1]
    return _is_plain(first) and _is_plain(last) and last.bias is not None


def _is_plain(layer: nn.Module) -> bool:
    # Torch does not tell in public whether a module has hooks.
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks)
    return type(layer) is nn.Linear and not any(hooks)


def _tensor(values: np.ndarray) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float32)
