"""The torch module: noise, encoder, bottleneck, decoder and likelihood put together."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skae._kernels.columns import Columns
from skae._kernels.csr import Csr
from skae._kernels.input import InputLayer
from skae._kernels.last_layer import Decoded, How
from skae._kernels.output import csr_log_likelihood, csr_loss
from skae._kernels.rows import ColumnSquares
from skae._random import derive_seed
from skae._scaling import ColumnSummary, Scaling
from skae._state import State
from skae._training.batches import Batch
from skae._training.bottlenecks import BottleneckSpec, Step, Terms
from skae.likelihoods import Likelihood
from skae.networks import Layout, Network, decoder_gains, linear_layers
from skae.noise import Entries, Noise


class Observation(nn.Module):
    """A likelihood with its state: raw decoder output to distribution of rows."""

    def __init__(self, likelihood: Likelihood, mean: np.ndarray, variance: np.ndarray):
        super().__init__()
        self.likelihood = likelihood
        self.state = State(likelihood, mean=_tensor(mean), variance=_tensor(variance))

    def log_likelihood(self, x: Tensor, raw: Tensor, even: bool = False) -> Tensor:
        """Return log p(x | raw) of each row.

        With ``even`` the value is the same, but the gradient that goes back into ``raw`` counts
        errors alike in every column.
        """
        even = even and torch.is_grad_enabled()
        scale = self.likelihood.gradient_scale(**self.state.tensors()) if even else None
        if scale is not None:
            # Between raw and itself: the value is raw, and its gradient is multiplied by the scale.
            raw = torch.lerp(raw.detach(), raw, scale)
        total = x.sum(dim=1, keepdim=True) if self.likelihood.given_total else None
        return self.likelihood.log_prob(x, raw, **self.parameters_for(total)).sum(dim=1)

    def decoded(self, x: Csr, hidden: Tensor, layer: nn.Linear) -> Decoded:
        """Return what the likelihood of CSR rows depends on beside them."""
        total = x.totals() if self.likelihood.given_total else None
        return Decoded(hidden, layer, self.likelihood, self.state.tensors(), total)

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
        state = self.state.tensors()
        return (
            state if total is None or not self.likelihood.given_total else {**state, "total": total}
        )


class AutoencoderModule(nn.Module):
    """Encoder, bottleneck and decoder between rows of X, in the units of the network.

    Parameters
    ----------
    network : Network
        Builds the encoder and the decoder.
    likelihood : Likelihood
    bottleneck : BottleneckSpec
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
        Fixes the initial weights.
    """

    # Any modules of the user's; sequences where CSR rows are taken as they are.
    encoder: Any
    decoder: Any

    def __init__(
        self,
        network: Network,
        likelihood: Likelihood,
        bottleneck: BottleneckSpec,
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
        if noise is not None:
            self.noise_state = State(
                noise, mean=_tensor(columns.mean), variance=_tensor(columns.variance)
            )
        self.bottleneck = bottleneck.build(layout, derive_seed(seed, 1))
        self.observation = Observation(likelihood, columns.mean, columns.variance)
        self.encoder, self.decoder = network.build(
            layout,
            n_encoder_outputs=self.bottleneck.n_inputs,
            n_decoder_outputs=layout.n_features * likelihood.n_outputs,
            seed=derive_seed(seed, 0),
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

    def draw_for(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch with all that is random in a step on it: noise on rows, and on codes."""
        seen = self._corrupted(batch.x, generator)
        return batch._replace(seen=seen, noise=self.bottleneck.draw(len(batch.x), generator))

    def forward(self, batch: Batch) -> Terms:
        """Return the terms of the objective, unweighted; what is random was drawn before."""
        x = batch.x
        share = self._share_of_rows(x, batch.weight)
        step = Step(
            reconstruction=partial(self._reconstruction, batch, share),
            log_likelihood=partial(self._log_likelihood, x, columns=batch.columns),
            share=share,
            gains=partial(self._gains, batch.columns),
            row_weight=batch.weight,
            noise=batch.noise,
        )
        return self.bottleneck(self._encode(x if batch.seen is None else batch.seen), step)

    def _reconstruction(self, batch: Batch, share: Tensor, code: Tensor) -> Tensor:
        """Return minus the mean log-likelihood of the clean rows given their codes, in nats."""
        if isinstance(batch.x, Csr):
            return csr_loss(batch.x, self._decoded(batch.x, code), self._how(share, batch.columns))
        return -(self._log_likelihood(batch.x, code) @ share)

    def _how(self, share: Tensor, columns: Columns | None) -> How:
        return How(share, columns, self.bottleneck.even_errors, self.row_gradients)

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

    def diagnostics(self, x: Tensor | Csr) -> dict[str, Tensor]:
        """Return what the bottleneck has to tell of each row, by name."""
        return self.bottleneck.diagnostics(self._encode(x))

    def _log_likelihood(
        self, x: Tensor | Csr, code: Tensor, columns: Columns | None = None
    ) -> Tensor:
        """Return log p(x | code) of each row; its gradient is estimated from ``columns``."""
        even = self.bottleneck.even_errors
        if not isinstance(x, Csr):
            return self.observation.log_likelihood(x, self.decoder(code), even)
        decoded = self._decoded(x, code)
        return csr_log_likelihood(x, decoded, self._how(code.new_ones(len(x)), columns))

    def _decoded(self, x: Csr, code: Tensor) -> Decoded:
        return self.observation.decoded(x, self.decoder[:-1](code), self.decoder[-1])

    def _corrupted(self, x: Tensor | Csr, generator: torch.Generator) -> Tensor | Csr:
        if not self.training or self.noise is None:
            return x
        state = self.noise_state.tensors()
        if not isinstance(x, Csr):
            return self.noise.corrupt(x, self.noise_level, generator, **state)
        entries = Entries(x.rows, x.indices.long(), x.values, x.shape)
        return Csr.from_entries(
            *self.noise.corrupt_entries(entries, self.noise_level, generator, **state)
        )

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
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks)
    return type(layer) is nn.Linear and not any(hooks)


def _tensor(values: np.ndarray) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float32)
