"""What does "auto" stand for in a training? Device, batches, epochs; decay and scaling."""

from __future__ import annotations

import numpy as np
import torch

from skae._training.specification import ModelSpec
from skae.likelihoods import Likelihood

# Steps that "auto" aims at, the least and most epochs that it takes for them, and the least steps.
_STEPS, _EPOCHS, _LEAST_STEPS = 20_000, (10, 200), 500
# The same for sparse batches: what there is to know of many rare columns is learned soon, and more
# steps overfit (`benchmarks/sparse_quality.py`).
_SPARSE_STEPS, _SPARSE_EPOCHS = 5_000, (10, 60)
_BATCH_SIZE = 128
# The same where the training starts at co-occurrence, which leaves little to learn
# (`benchmarks/features.py`); of the loss of sparse rows the batch size is the smaller part.
_EPOCHS_OF_WORDS, _BATCH_SIZE_OF_WORDS = 20, 256
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


def choose_batch_size(batch_size: int | str, n_rows: int, words: bool = False) -> int:
    """Return the batch size, no more than there are rows; "auto" is 128, and 256 for ``words``."""
    auto = _BATCH_SIZE_OF_WORDS if words else _BATCH_SIZE
    return min(n_rows, auto if isinstance(batch_size, str) else batch_size)


def choose_n_epochs(
    max_iter: int | str, n_rows: int, batch_size: int, kind: str = "dense", n_trainings: int = 1
) -> int:
    """Return the epochs; "auto" takes those for about 20,000 steps, at least 10, at most 200.

    With CSR batches (``kind`` is "csr") they are 5,000 steps and at most 60 epochs, and where the
    training starts at co-occurrence ("words") at most 20. A table so small that they are no 500
    steps gets the epochs for 500, but for "words". Where there are to be two trainings, "auto"
    gives each of them half of its epochs.
    """
    if not isinstance(max_iter, str):
        return max_iter
    n_batches = -(-n_rows // batch_size)
    if kind == "words":
        return min(_EPOCHS_OF_WORDS, max(_SPARSE_EPOCHS[0], _SPARSE_STEPS // n_batches))
    n_steps, epochs = (_SPARSE_STEPS, _SPARSE_EPOCHS) if kind == "csr" else (_STEPS, _EPOCHS)
    n_epochs = int(np.clip(n_steps // n_batches, *epochs)) // n_trainings
    return max(n_epochs, -(-_LEAST_STEPS // n_batches))


def stops_early(spec: ModelSpec, n_rows: int) -> bool:
    """Return whether "auto" lets rows held out say how many epochs there are to be.

    Where the score is a bound of log p(x), in tables small enough that two trainings are cheap.
    """
    bounds = spec.bottleneck.code == "gaussian" and spec.init is not None
    return bounds and 2 * FEWEST_HELD_OUT <= n_rows <= _MOST_ROWS


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
