"""What a model is, and how it is trained: all that the engine is told, as plain data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from skae._training.bottlenecks import BottleneckSpec
from skae._training.plain_data import Specification
from skae.inits import Init
from skae.likelihoods import Likelihood
from skae.networks import Layout, Network
from skae.noise import Noise
from skae.samplers import Sampler
from skae.schedules import Constant, Schedule


@dataclass(frozen=True, eq=False)
class ModelSpec(Specification):
    """What a model is. Two models of one specification differ by their rows and seed alone."""

    n_components: int | Literal["auto"]  # "auto" until the rows have said how many
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
        return replace(self, init=self.init.for_parts())

    @property
    def size(self) -> int:
        """The number of latents, once it is known."""
        return _known(self.n_components, "n_components")

    def of_size(self, n_dimensions: int) -> ModelSpec:
        """Return the model for rows that are worth so many latents."""
        n_components, bottleneck = self.bottleneck.of_size(n_dimensions)
        return replace(self, n_components=n_components, bottleneck=bottleneck)

    def layout(self, n_features: int) -> Layout:
        """Return what decides about the shapes of the weights."""
        return Layout(n_features, self.size, self.hidden_layer_sizes, self.activation)


@dataclass(frozen=True, eq=False)
class TrainingSpec(Specification):
    """How a model is trained."""

    batch_size: int | str  # "auto": see `auto.py`, as for the other fields that take it
    max_iter: int | str
    optimizer: str | Callable
    learning_rate: Schedule | Literal["auto"]  # "auto": see `auto.choose_rates`, as for the next
    learning_rate_init: float | Literal["auto"]
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
    def schedule(self) -> Schedule:
        """``learning_rate``, once it is known."""
        return _known(self.learning_rate, "learning_rate")

    @property
    def highest_rate(self) -> float:
        """``learning_rate_init``, once it is known."""
        return _known(self.learning_rate_init, "learning_rate_init")

    @property
    def weight_decay(self) -> float:
        """The part of ``alpha`` that the optimiser has; the other is L1."""
        return self.alpha * (1.0 - self.l1_ratio)

    def single_pass(self) -> TrainingSpec:
        """Return the training of one pass over the rows at a constant rate."""
        return replace(self, max_iter=1, learning_rate=Constant(), early_stopping=False)


def _known(value: Any, name: str) -> Any:
    if isinstance(value, str):
        raise TypeError(f"{name} is {value!r} still: what it stands for is not known yet.")
    return value
