"""The torch module: noise, encoder, bottleneck, decoder and likelihood put together."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from skae._kernels.columns import Columns
from skae._kernels.csr import Csr
from skae._kernels.input import InputLayer
from skae._kernels.last_layer import LastLayerInputs, LossOptions
from skae._kernels.output import csr_log_likelihood, csr_loss
from skae._kernels.rows import ColumnSquares
from skae._random import derive_seed
from skae._scaling import ColumnSummary, Scaling
from skae._training.batches import Batch
from skae._training.bottlenecks import BottleneckSpec, Terms
from skae._training.encoder_input import EncoderInput
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

    def log_likelihood(self, x: Tensor, raw: Tensor, variance_weighted: bool = False) -> Tensor:
        """Return log p(x | raw) of each row.

        With ``variance_weighted`` the value is the same, but the gradient that goes back into
        ``raw`` is multiplied by `Likelihood.variance_weight`.
        """
        scale = self.likelihood.variance_weight(**self.free) if variance_weighted else None
        if scale is not None and raw.requires_grad:
            raw.register_hook(lambda gradient: gradient * scale)
        total = x.sum(dim=1, keepdim=True) if self.likelihood.conditional_on_total else None
        return self.likelihood.log_prob(x, raw, **self.parameters_for(total)).sum(dim=1)

    def last_layer_inputs(self, x: Csr, hidden: Tensor, layer: nn.Linear) -> LastLayerInputs:
        """Return what the likelihood of CSR rows depends on beside them."""
        total = x.totals() if self.likelihood.conditional_on_total else None
        return LastLayerInputs(hidden, layer, self.likelihood, dict(self.free), total)

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
        given = {"total": total} if self.likelihood.conditional_on_total else {}
        return {**self.free, **given}


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
    input_norm : float or None
        Euclidean norm that rows are brought to for the encoder alone.
    total_cap : float or None
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
        input_norm: float | None = None,
        total_cap: float | None = None,
        noise: Noise | None = None,
        noise_level: float = 0.0,
        csr: bool = False,
        row_gradients: bool = False,
        seed: int = 0,
    ):
        super().__init__()
        self.noise, self.noise_level = noise, noise_level
        self.bottleneck = bottleneck.build(layout, derive_seed(seed, 1))
        self.observation = Observation(likelihood, columns.mean, columns.variance)
        self.encoder, self.decoder = network.build(
            layout,
            n_encoder_outputs=self.bottleneck.n_inputs,
            n_decoder_outputs=layout.n_features * likelihood.n_outputs,
            seed=derive_seed(seed, 0),
        )
        if network.adjustable:
            self.bottleneck.init_encoder(self.encoder)
            start = likelihood.first_raw(_tensor(columns.mean), _tensor(columns.used))
            self._start_at(start)
        self.encoder_input = EncoderInput(encoder_scaling, input_norm)
        self.takes_csr = (
            csr
            and _begins_and_ends_linear(self.encoder, self.decoder)
            # A noise that a user wrote may be for dense rows only.
            and (noise is None or type(noise).corrupt_entries is not Noise.corrupt_entries)
        )
        self.row_gradients, self.total_cap = row_gradients, total_cap
        if self.takes_csr:
            self.encoder[0] = InputLayer.from_linear(self.encoder[0], row_gradients)

    def forward(self, batch: Batch, generator: torch.Generator) -> Output:
        """Return the reconstruction term and the terms of the bottleneck."""
        x, row_weight, columns = batch
        h = self._encode(self._corrupted(x, generator))
        code, terms = self.bottleneck(h, row_weight, partial(self._gains, columns), generator)
        row_weight = self._share_of_rows(x, row_weight)
        variance_weighted = self.bottleneck.variance_weighted
        if isinstance(x, Csr):
            options = LossOptions(row_weight, columns, variance_weighted, self.row_gradients)
            return Output(csr_loss(x, self._last_layer_inputs(x, code), options), terms)
        log_likelihood = self.observation.log_likelihood(x, self.decoder(code), variance_weighted)
        return Output(-(log_likelihood @ row_weight), terms)

    def _share_of_rows(self, x: Tensor | Csr, row_weight: Tensor | None) -> Tensor:
        """Return how much each row counts in the mean over a batch."""
        if row_weight is None:
            like = x.values if isinstance(x, Csr) else x
            share = like.new_full((len(x),), 1.0 / len(x))
        else:
            share = row_weight / len(x)
        if self.total_cap is None or not self.training:
            return share
        total = x.totals() if isinstance(x, Csr) else x.sum(dim=1, keepdim=True)
        return share * (self.total_cap / total[:, 0]).clamp_max(1.0)

    def code(self, x: Tensor | Csr) -> Tensor:
        """Return the code of each row."""
        return self.bottleneck.code(self._encode(x))

    def mean(self, code: Tensor, total: Tensor | None = None) -> Tensor:
        """Return the mean of x given each code."""
        return self.observation.mean(self.decoder(code), total)

    def draw(self, code: Tensor, generator: torch.Generator, total: Tensor | None = None) -> Tensor:
        """Return a draw of x given each code."""
        return self.observation.sample(self.decoder(code), generator, total)

    def nonzero_mass(self, code: Tensor, total: Tensor | None) -> Tensor:
        """Return the probability of each entry not to be zero, given each code."""
        given = self.observation.parameters_for(total)
        return self.observation.likelihood.nonzero_mass(self.decoder(code), **given)

    def score(self, x: Tensor | Csr) -> Tensor:
        """Return the log-likelihood of each row, in nats."""
        return self.bottleneck.score(self._encode(x), partial(self._log_likelihood, x))

    def diagnostics(self, x: Tensor | Csr) -> dict[str, Tensor]:
        """Return what the bottleneck has to tell of each row, by name."""
        return self.bottleneck.diagnostics(self._encode(x))

    def _log_likelihood(self, x: Tensor | Csr, code: Tensor) -> Tensor:
        if isinstance(x, Csr):
            return csr_log_likelihood(x, self._last_layer_inputs(x, code))
        return self.observation.log_likelihood(x, self.decoder(code))

    def _last_layer_inputs(self, x: Csr, code: Tensor) -> LastLayerInputs:
        return self.observation.last_layer_inputs(x, self.decoder[:-1](code), self.decoder[-1])

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
        return self.encoder(self.encoder_input(x))

    @torch.no_grad()
    def _start_at(self, raw: Tensor) -> None:
        """Let the decoder predict the column means before training, if its last layer can."""
        layers = linear_layers(self.decoder)
        if layers and layers[-1].bias is not None and layers[-1].bias.shape == raw.shape:
            layers[-1].bias.copy_(raw)


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
