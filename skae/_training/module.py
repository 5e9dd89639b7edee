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
from skae._kernels.last_layer import LastLayerInputs, LossOptions
from skae._kernels.output import csr_log_likelihood, csr_loss
from skae._kernels.rows import ColumnSquares
from skae._modules import is_plain, is_plain_linear, last_linear
from skae._random import Stream, derive_seed
from skae._scaling import ColumnSummary, Scaling
from skae._state import State
from skae._training.batches import Batch
from skae._training.bottlenecks import BottleneckSpec, Step, Term, Terms
from skae._training.encoder_input import EncoderInput
from skae._training.levels import LevelCode
from skae._training.plan import DENSE, Plan, possible
from skae._training.words import WordModel
from skae._validation import of_shape
from skae.inits import LinearStart
from skae.likelihoods import Likelihood
from skae.networks import Affine, Layout, Network
from skae.noise import Noise


class Observation(nn.Module):
    """A likelihood with its state: raw decoder output to distribution of rows."""

    def __init__(
        self,
        likelihood: Likelihood,
        mean: np.ndarray,
        variance: np.ndarray,
        left: np.ndarray | None = None,  # of the variance, by the start
    ):
        super().__init__()
        self.likelihood = likelihood
        self.state = State(likelihood, mean=_tensor(mean), variance=_tensor(variance))
        if left is not None:
            begun = State(likelihood, mean=_tensor(mean), variance=_tensor(left))
            self.state.trained = begun.trained

    def log_likelihood(self, x: Tensor, raw: Tensor, variance_weighted: bool = False) -> Tensor:
        """Return log p(x | raw) of each row.

        With ``variance_weighted`` the value is the same, but the gradient that goes back into
        ``raw`` is multiplied by `Likelihood.variance_weight`.
        """
        state = self.state.tensors()
        weighted = variance_weighted and torch.is_grad_enabled()
        scale = self.likelihood.variance_weight(**state) if weighted else None
        if scale is not None:
            # Between raw and itself: the value is raw, and its gradient is multiplied by the scale.
            raw = torch.lerp(raw.detach(), raw, scale)
        if self.likelihood.conditional_on_total:
            state["total"] = x.sum(dim=1, keepdim=True)
        found = self.likelihood.log_prob(x, raw, **state)
        return of_shape(found, x.shape, self.likelihood, "log_prob").sum(dim=1)

    def last_layer_inputs(self, x: Csr, hidden: Tensor, layer: nn.Linear) -> LastLayerInputs:
        """Return what the likelihood of CSR rows depends on beside them."""
        total = x.totals() if self.likelihood.conditional_on_total else None
        return LastLayerInputs(hidden, layer, self.likelihood, self.state.tensors(), total)

    def mean(self, raw: Tensor, total: Tensor | None = None) -> Tensor:
        """Return the mean of x for each row of raw output (and its total, where that is given)."""
        return self._of_entries("mean", raw, raw, **self.parameters_for(total))

    def sample(
        self, raw: Tensor, generator: torch.Generator, total: Tensor | None = None
    ) -> Tensor:
        """Return a draw of x for each row of raw output (and its total, where that is given)."""
        return self._of_entries("sample", raw, raw, generator, **self.parameters_for(total))

    def nonzero_mass(self, raw: Tensor, total: Tensor | None) -> Tensor:
        """Return the probability of each entry not to be zero, for each row of raw output."""
        return self._of_entries("nonzero_mass", raw, raw, **self.parameters_for(total))

    def _of_entries(self, method: str, raw: Tensor, *args: Any, **parameters: Tensor) -> Tensor:
        """Return what a method of the likelihood says of each entry of the rows."""
        shape = (len(raw), raw.shape[1] // self.likelihood.n_outputs)
        found = getattr(self.likelihood, method)(*args, **parameters)
        return of_shape(found, shape, self.likelihood, method)

    def parameters_for(self, total: Tensor | None) -> dict[str, Tensor]:
        """Return the keyword arguments of the likelihood for rows of these totals."""
        state = self.state.tensors()
        if total is None or not self.likelihood.conditional_on_total:
            return state
        return {**state, "total": total}


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
    row_scaling : Scaling or None
        From the units of X to those of the network.
    encoder_scaling : Scaling or None
        Applied to the input of the encoder alone.
    input_norm : float or None
        Euclidean norm that rows are brought to for the encoder alone.
    total_cap : float or None
        Rows of a larger total count in training as if theirs were this one.
    noise : Noise or None
    noise_level : float
    plan : Plan
        How rows are to be trained on; ``plan`` of the module is how they are, which network and
        noise have a say in.
    sparse_method : str
        What the user asked for. Anything but "auto" that cannot be is an error.
    start : LinearStart or None
        What the network is before the training; None: its own first weights.
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
        bottleneck: BottleneckSpec,
        layout: Layout,
        columns: ColumnSummary,
        row_scaling: Scaling | None = None,
        encoder_scaling: Scaling | None = None,
        input_norm: float | None = None,
        total_cap: float | None = None,
        noise: Noise | None = None,
        noise_level: float = 0.0,
        plan: Plan = DENSE,
        sparse_method: str = "auto",
        start: LinearStart | None = None,
        row_gradients: bool = False,
        seed: int = 0,
    ):
        super().__init__()
        self.network, self.noise, self.noise_level = network, noise, noise_level
        moments = {"mean": _tensor(columns.mean), "variance": _tensor(columns.variance)}
        self.noise_state = None if noise is None else State(noise, **moments)
        self.bottleneck = bottleneck.build(layout, seed)
        words = None if start is None else start.words
        self.words = None
        if words is not None:
            own = derive_seed(seed, Stream.WEIGHTS_OF_FEATURES)
            self.words = WordModel(words, row_scaling, network, layout, own)
            encoder_scaling = input_norm = None  # words have units of their own
        noisy = noise is not None and noise_level > 0
        left = _left_by(start, likelihood, noisy)
        self.observation = Observation(likelihood, columns.mean, columns.variance, left)
        n_outputs = layout.n_features * likelihood.n_outputs
        self.encoder, self.decoder, self.cost = network.make(
            layout if words is None else layout._replace(n_features=words.n_vectors),
            n_encoder_outputs=self.bottleneck.n_inputs,
            n_decoder_outputs=n_outputs,
            seed=derive_seed(seed, Stream.WEIGHTS),
        )
        self.started = start is not None
        self._set_first_weights(start, likelihood, columns, n_outputs)
        self.encoder_input = EncoderInput(encoder_scaling, input_norm)
        self.plan = possible(plan, sparse_method, self._csr_obstacle)
        self.row_gradients, self.total_cap = row_gradients, total_cap
        #: Whether the first step from a start in closed form is yet to come, which the decoder
        #: makes alone.
        self.begins = start is not None
        if self.takes_csr and self.words is None:
            self.encoder[0] = InputLayer.from_linear(self.encoder[0], row_gradients)

    def _set_first_weights(
        self,
        start: LinearStart | None,
        likelihood: Likelihood,
        columns: ColumnSummary,
        n_outputs: int,
    ) -> None:
        """Let the network be the linear model of a start, or predict the means of the columns."""
        network = self.network
        if start is not None:
            bias = _first_raw(likelihood, columns, n_outputs)
            weight = bias.new_zeros(len(bias), self.bottleneck.n_components)
            last = Affine(_tensor(start.decode.T) if likelihood.raw_is_linear else weight, bias)
            first = self.bottleneck.encoder_start(start)
            network.start_linear(self.encoder, self.decoder, first, last)
        elif network.adjustable:
            if last_linear(self.encoder) is not None:
                self.bottleneck.init_encoder(self.encoder)
            network.start_at(self.decoder, _first_raw(likelihood, columns, n_outputs))

    @property
    def takes_csr(self) -> bool:
        """Whether CSR rows are trained on as they are."""
        return self.plan.csr

    @property
    def operations(self) -> float:
        """What a row costs in training, in operations of the dense network."""
        return 0.0 if self.takes_csr else self.cost.operations  # few of the weights are touched

    def weights_to_decay(self) -> list[nn.Parameter]:
        """Return the weights of the network that decay, and that L1 draws to zeros."""
        weights = self.network.weights_to_decay(self.encoder, self.decoder)
        return weights if self.words is None else [*weights, *self.words.weights_to_decay()]

    def take_row_gradients(self, row_gradients: bool) -> None:
        """Let gradients be those of some rows of a parameter, or whole."""
        self.row_gradients = row_gradients
        if self.takes_csr:
            self.encoder[0].row_gradients = row_gradients

    def _csr_obstacle(self) -> str | None:
        """Return what keeps CSR rows from being trained on as they are."""
        obstacle = self.network.csr_obstacle(self.encoder, self.decoder)
        if obstacle is not None:
            return f"network {type(self.network).__name__} does not take them: {obstacle}"
        if self.noise is not None and not self.noise.takes_csr:
            kind = type(self.noise).__name__
            return f"noise {kind} does not take them: it has no method corrupt_entries"
        return None

    def draw_for(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch with all that is random in a step on it: noise on rows, and on codes."""
        noise = self.bottleneck.draw(len(batch.x), generator)
        return batch._replace(seen=self._corrupted(batch.x, generator), noise=noise)

    def forward(self, batch: Batch) -> Terms:
        """Return the terms of the objective, unweighted; what is random was drawn before."""
        x, seen = batch.x, batch.x if batch.seen is None else batch.seen
        given = self._given_to_encoder(seen)
        h = self._encoded(given, batch.weight)
        if self.begins:
            # The errors of a principal subspace are orthogonal to it, so that the gradient of each
            # code is zero, and what is computed of it rounding, which Adam makes whole steps of.
            h = _without_gradient(h)
        share = self._share_of_rows(x, batch.weight)
        step = Step(
            reconstruction=partial(self._reconstruction, batch, share),
            log_likelihood=partial(self._log_likelihood, x, columns=batch.columns),
            share=share,
            gains=partial(self._gains, batch.columns, h),
            row_weight=batch.weight,
            noise=batch.noise,
        )
        if self.words is None:
            return self.bottleneck(h, step)
        # The encoder learns from the features alone: what a likelihood of the columns would have it
        # learn of some thousand rows makes poorer features (`benchmarks/features.py`).
        terms = self.bottleneck(h.detach(), step)
        clean = given if seen is x else self._given_to_encoder(x)
        return {**terms, "features": Term(self.words.loss(clean, h, share), 1.0, 0.0)}

    def _encoded(self, given: Any, row_weight: Tensor | None) -> Tensor:
        """Return what the encoder says in a step; its levels are told how much rows count."""
        levels = [part for part in self.encoder.children() if isinstance(part, LevelCode)]
        for level in levels:
            level.row_weight = row_weight
        h = self.encoder(given)
        for level in levels:
            level.row_weight = None
        return h

    def _reconstruction(self, batch: Batch, share: Tensor, code: Tensor) -> Tensor:
        """Return minus the mean log-likelihood of the clean rows given their codes, in nats."""
        x = batch.x
        if isinstance(x, Csr):
            options = self._loss_options(share, batch.columns)
            return csr_loss(x, self._last_layer_inputs(x, code), options)
        return -(self._log_likelihood(x, code) @ share)

    def _loss_options(self, share: Tensor, columns: Columns | None) -> LossOptions:
        weighted = self.bottleneck.variance_weighted
        return LossOptions(share, columns, weighted, self.row_gradients)

    def _share_of_rows(self, x: Tensor | Csr, row_weight: Tensor | None) -> Tensor:
        """Return how much each row counts in the mean over a batch."""
        n_rows = x.shape[0]
        if row_weight is None:
            like = x.values if isinstance(x, Csr) else x
            share = like.new_full((n_rows,), 1.0 / n_rows)
        else:
            share = row_weight / n_rows
        if self.total_cap is None or not self.training:
            return share
        total = x.totals() if isinstance(x, Csr) else x.sum(dim=1, keepdim=True)
        return share * (self.total_cap / total[:, 0]).clamp_max(1.0)

    def code(self, x: Tensor | Csr) -> Tensor:
        """Return the code of each row."""
        return self.bottleneck.code(self._encode(x))

    def strongest(self, x: Tensor | Csr, n_kept: int) -> Tensor:
        """Return the sparse code of each row with so many units, whatever its rule keeps."""
        bottleneck: Any = self.bottleneck
        return bottleneck.strongest(self._encode(x), n_kept)

    def codes_of_levels(self, x: Tensor | Csr) -> Tensor:
        """Return the codes of all levels of a stack beside each other, those of the top last."""
        codes, value = [], self._given_to_encoder(x)
        for part in self.encoder:
            value = part(value)
            if isinstance(part, LevelCode):
                codes.append(value)
        return torch.cat([*codes, self.bottleneck.code(value)], dim=1)

    def mean(self, code: Tensor, total: Tensor | None = None) -> Tensor:
        """Return the mean of x given each code."""
        return self.observation.mean(self._decode(code), total)

    def draw(self, code: Tensor, generator: torch.Generator, total: Tensor | None = None) -> Tensor:
        """Return a draw of x given each code."""
        return self.observation.sample(self._decode(code), generator, total)

    def nonzero_mass(self, code: Tensor, total: Tensor | None) -> Tensor:
        """Return the probability of each entry not to be zero, given each code."""
        return self.observation.nonzero_mass(self._decode(code), total)

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
        if not isinstance(x, Csr):
            weighted = self.bottleneck.variance_weighted
            return self.observation.log_likelihood(x, self.decoder(code), weighted)
        options = self._loss_options(code.new_ones(len(x)), columns)
        return csr_log_likelihood(x, self._last_layer_inputs(x, code), options)

    def _last_layer_inputs(self, x: Csr, code: Tensor) -> LastLayerInputs:
        return self.observation.last_layer_inputs(x, self.decoder[:-1](code), self.decoder[-1])

    def _corrupted(self, x: Tensor | Csr, generator: torch.Generator) -> Tensor | Csr:
        if not self.training or self.noise is None or self.noise_state is None:
            return x
        state = self.noise_state.tensors()
        method = "corrupt_entries" if isinstance(x, Csr) else "corrupt"
        seen = getattr(self.noise, method)(x, self.noise_level, generator, **state)
        return of_shape(seen, x.shape, self.noise, method)

    def _gains(self, columns: Columns | None, h: Tensor) -> Tensor:
        squares = None
        if columns is not None:  # they stand for all here, too
            n_outputs = self.observation.likelihood.n_outputs
            weight = self.decoder[-1].weight
            first = torch.arange(n_outputs, device=weight.device) * (len(weight) // n_outputs)
            rows = (first[:, None] + columns.column).flatten()
            row_weight = columns.weight.repeat(n_outputs)
            squares = ColumnSquares.apply(weight, rows, row_weight, self.row_gradients)
        code = self.bottleneck.code(h).detach()
        gains = self.network.gains(self.decoder, code, squares)
        return of_shape(gains, code.shape[1:], self.network, "gains")

    def _decode(self, code: Tensor) -> Tensor:
        """Return the raw output for codes as users see them."""
        return self.decoder(self.bottleneck.inner(code))

    def _encode(self, x: Tensor | Csr) -> Tensor:
        return self.encoder(self._given_to_encoder(x))

    def _given_to_encoder(self, x: Tensor | Csr) -> Any:
        seen = self.encoder_input(x)
        if seen is x and isinstance(x, Tensor) and not _begins_plainly(self.encoder):
            # Which is the target as well, and drawn once for all looks of an optimiser: the first
            # layer of a module of the user's may write into what it is given.
            seen = x.clone()
        return seen if self.words is None else self.words.features(seen)


def _begins_plainly(encoder: Any) -> bool:
    """Return whether a linear layer is all that meets the rows, into which it writes nothing."""
    if type(encoder) is not nn.Sequential or not len(encoder) or not is_plain(encoder):
        return False
    return is_plain_linear(encoder[0])


def _without_gradient(h: Tensor) -> Tensor:
    if h.requires_grad:  # zeros, for some optimisers do not take parameters without a gradient
        h.register_hook(torch.zeros_like)
    return h


def _left_by(start: LinearStart | None, likelihood: Likelihood, noisy: bool) -> np.ndarray | None:
    """Return the variance that a start leaves of each column; None where that is not known.

    What noise on the input adds to the errors is not, and gradients that begin far too large keep
    the steps of Adam small for long.
    """
    known = likelihood.raw_is_linear and not noisy
    return start.noise_variance if start is not None and known else None


def _first_raw(likelihood: Likelihood, columns: ColumnSummary, n_outputs: int) -> Tensor:
    raw = likelihood.first_raw(_tensor(columns.mean), _tensor(columns.used))
    return of_shape(raw, (n_outputs,), likelihood, "first_raw (or raw_from_mean)")


def _tensor(values: np.ndarray) -> Tensor:
    return torch.tensor(np.ascontiguousarray(values), dtype=torch.float32)
