"""What does "auto" stand for in a training? Device, batches, epochs; decay and scaling."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from skae._training.specification import ModelSpec, TrainingSpec
from skae.inits import FactorAnalysisInit, PCAInit
from skae.likelihoods import Gaussian, Likelihood
from skae.schedules import Cosine, Schedule, WarmupStableDecay


class Budget(NamedTuple):
    """How long a training may be, where nobody says."""

    steps: int
    epochs: tuple[int, int]  # the least and the most for these steps
    least_steps: int = 0  # in as many epochs as that takes
    batch_size: int = 128


#: What "auto" stands for, by what is trained.
BUDGETS = {
    "dense": Budget(20_000, (10, 200), 500),
    # What there is to know of many rare columns is learned soon, and more steps overfit
    # (`benchmarks/sparse_quality.py`).
    "csr": Budget(5_000, (10, 60), 500),
    # Two trainings, of which the first says how long the second is to be.
    "twice": Budget(10_000, (10, 100), 500),
    # Codes that start at principal components, as the decoder does: longer, they are poorer
    # features of small tables (`benchmarks/features.py`).
    "linear": Budget(20_000, (10, 100)),
    "linear csr": Budget(5_000, (10, 60)),
    # A start at co-occurrence leaves little to learn, and of the cost of a sparse loss the size of
    # the batch is the smaller part.
    "words": Budget(5_000, (10, 15), batch_size=256),
    # There the decoder starts at the regression of the columns, and the size of the batch is next
    # to none of it; the features are as good (`benchmarks/features.py`).
    "linear words": Budget(3_000, (10, 18), batch_size=512),
}


class Rates(NamedTuple):
    """How fast a training goes, where nobody says."""

    highest: float
    schedule: Schedule


#: By whether rows held out say how long a training is. Then an average of the weights is kept,
#: which needs no small steps at the end (`benchmarks/held_out_score.py`).
RATES = {
    "given length": Rates(2e-3, Cosine()),
    "its own length": Rates(4e-3, WarmupStableDecay()),
}
# Rows of tables in which the length of the training is found with rows held out.
FEWEST_HELD_OUT, _MOST_ROWS = 20, 10_000

# Where many columns are rare, as among counts, they are overfitted with less decay.
_ALPHA, _ALPHA_OF_COUNTS = 1e-4, 0.3


def choose_device(device: str) -> str:
    """Return ``device``, or for "auto" the first of CUDA, MPS and CPU that is there."""
    if device != "auto":
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:  # torch raises either
            raise ValueError(
                f"device={device!r} is not a torch device of this machine: "
                f"{str(error).strip().rstrip('.')}. "
                "Choose device='auto' to take the best one that is there."
            ) from error
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def choose_batch_size(batch_size: int | str, n_rows: int, kind: str = "dense") -> int:
    """Return the batch size, no more than there are rows; "auto" is that of `BUDGETS`."""
    return min(n_rows, BUDGETS[kind].batch_size if isinstance(batch_size, str) else batch_size)


def choose_n_epochs(
    max_iter: int | str, n_rows: int, batch_size: int | str, kind: str = "dense"
) -> int:
    """Return the epochs; "auto" takes those for the steps of `BUDGETS`, within its bounds.

    A table so small that they are fewer than the least steps gets the epochs for these.
    """
    if not isinstance(max_iter, str):
        return max_iter
    budget, n_batches = BUDGETS[kind], -(-n_rows // choose_batch_size(batch_size, n_rows, kind))
    n_epochs = int(np.clip(budget.steps // n_batches, *budget.epochs))
    return max(n_epochs, -(-budget.least_steps // n_batches))


def finds_length(spec: ModelSpec, training: TrainingSpec, n_rows: int, starts: bool) -> bool:
    """Return whether rows held out say how many epochs there are to be.

    Where ``early_stopping`` and ``max_iter`` are both "auto", steps are not those of "sgd" (of
    which the rate and the average are not right), the training ``starts`` at a linear
    model of the columns, rows held out can say how good a fit is (not of codes with exact zeros,
    nor of rows without the noise that they are trained with, unless their score is a bound of log
    p(x)), and the table is so small that two trainings are cheap.
    """
    asked = training.early_stopping == training.max_iter == "auto" and training.optimizer != "sgd"
    noisy = spec.noise is not None and spec.noise_level > 0
    code = spec.bottleneck.code
    suits = starts and (code == "gaussian" or (code == "plain" and not noisy))
    return asked and suits and 2 * FEWEST_HELD_OUT <= n_rows <= _MOST_ROWS


def choose_rates(training: TrainingSpec, finds_length: bool) -> TrainingSpec:
    """Return the training with the learning rate and the schedule that "auto" stands for."""
    usual: Rates = RATES["its own length" if finds_length else "given length"]
    rate, schedule = training.learning_rate_init, training.learning_rate
    return replace(
        training,
        learning_rate_init=usual.highest if isinstance(rate, str) else rate,
        learning_rate=usual.schedule if isinstance(schedule, str) else schedule,
    )


def default_alpha(likelihood: Likelihood) -> float:
    """Return the decay of the weights that ``alpha="auto"`` stands for.

    Like `default_scaling` it goes by what a likelihood declares of itself, so that those of users
    get what those of their kind get.
    """
    return _ALPHA_OF_COUNTS if likelihood.conditional_on_total else _ALPHA


def default_scaling(likelihood: Likelihood) -> str | None:
    """Return the ``input_scaling`` that "auto" stands for."""
    if likelihood.location_scale:
        return "fourth_moment"
    if likelihood.conditional_on_total:
        return "log1p"
    if likelihood.has_zero_mass and likelihood.sample_dtype is None:
        return "max"  # amounts among zeros: it keeps the zeros, and brings columns into [0, 1]
    return None


def linear_model(likelihood: Likelihood) -> PCAInit | FactorAnalysisInit:
    """Return the start that is a model of Gaussian columns, with a standard normal code."""
    one_variance = isinstance(likelihood, Gaussian) and likelihood.variance == "shared"
    return PCAInit() if one_variance else FactorAnalysisInit()
