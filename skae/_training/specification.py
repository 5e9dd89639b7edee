"""What a model is, and how it is trained: all that the engine is told, as plain data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from skae._training.bottlenecks import BottleneckSpec
from skae._training.plain_data import Specification
from skae.inits import Init
from skae.likelihoods import Likelihood
from skae.networks import Layout, Network
from skae.noise import Noise
from skae.samplers import Sampler
from skae.schedules import Constant, Schedule

# What is settled before the engine gets to it is Any to it; what may be written stands beside.
Auto = Literal["auto"]


@dataclass(frozen=True, eq=False)
class ModelSpec(Specification):
    """What a model is. Two models of one specification differ by their rows and seed alone."""

    n_components: Annotated[Any, int | Auto]  # "auto" until the rows have said how many
    hidden_layer_sizes: tuple[int, ...]
    activation: str  # a name in `ACTIVATIONS`
    network: Network
    init: Init
    bottleneck: BottleneckSpec
    likelihood: Likelihood
    input_scaling: str | None  # a name in `SCALINGS`, or "auto"; None: columns as they are
    sparse_method: str  # a name in `METHODS`, or "auto"
    noise: Noise | None
    noise_level: float
    sampler: Sampler | None  # of new codes; None: the prior of the bottleneck

    def for_parts(self) -> ModelSpec:
        """Return the model that a training on parts of the rows begins with."""
        return replace(self, init=self.init and self.init.for_parts())

    def of_size(self, n_dimensions: int) -> ModelSpec:
        """Return the model for rows that are worth so many latents."""
        return replace(self, n_components=self.bottleneck.units_for(n_dimensions))

    def layout(self, n_features: int) -> Layout:
        """Return what decides about the shapes of the weights."""
        return Layout(n_features, self.n_components, self.hidden_layer_sizes, self.activation)


@dataclass(frozen=True, eq=False)
class TrainingSpec(Specification):
    """How a model is trained."""

    batch_size: int | str  # "auto": see `auto.py`, as for the other fields that take it
    max_iter: int | str
    optimizer: str | Callable
    learning_rate: Annotated[Any, Schedule | Auto]  # see `auto.choose_rates`
    learning_rate_init: Annotated[Any, float | Auto]
    alpha: float
    l1_ratio: float
    tol: float
    n_iter_no_change: int
    early_stopping: bool | str  # "auto": see `auto.finds_length`
    validation_fraction: float
    device: str
    callbacks: tuple[Any, ...]  # of skorch
    verbose: int
    title: str  # what the progress bar is of
    seed: int

    @property
    def weight_decay(self) -> float:
        """The part of ``alpha`` that the optimiser has; the other is L1."""
        return self.alpha * (1.0 - self.l1_ratio)

    def single_pass(self) -> TrainingSpec:
        """Return the training of one pass over the rows at a constant rate."""
        return replace(self, max_iter=1, learning_rate=Constant(), early_stopping=False)
