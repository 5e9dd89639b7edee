"""A training put together: what "auto" stands for, the net, its callbacks, and a run of it."""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

import numpy as np
import torch
from skorch.callbacks import BatchScoring, Callback, EpochScoring, PassthroughScoring
from skorch.helper import predefined_split
from tqdm.auto import tqdm

from skae._random import Stream, derive_seed, global_torch_seed
from skae._scaling import Scaling
from skae._training.batches import WeightedIndex, make_rows, split_rows
from skae._training.callbacks import Course, FiniteGuard, FitProgress
from skae._training.module import AutoencoderModule
from skae._training.moments import Moment
from skae._training.net import AutoencoderNet
from skae._training.objective import Objective
from skae._training.optimizers import takes_row_gradients
from skae._training.plan import Plan
from skae._training.threads import threads_for
from skae.exceptions import NonFiniteLossError
from skae.schedules import Schedule

# Steps that "auto" aims at, the least and most epochs that it takes for them, and the least steps.
_AUTO_STEPS, _AUTO_EPOCHS, _LEAST_STEPS = 20_000, (10, 200), 500
# The same for sparse batches: what there is to know of many rare columns is learned soon, and from
# then on by heart (`benchmarks/sparse_quality.py`).
_SPARSE_STEPS, _SPARSE_EPOCHS = 5_000, (10, 60)
_AUTO_BATCH_SIZE = 128

# Cells and rows that early stopping holds out at most; the rows are fewer in very wide tables only.
_MOST_CELLS_HELD_OUT, _FEWEST_HELD_OUT = 2**28, 256


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


def choose_batch_size(batch_size: int | str, n_rows: int) -> int:
    """Return the batch size; "auto" is 128, and never more than there are rows."""
    return min(n_rows, _AUTO_BATCH_SIZE if isinstance(batch_size, str) else batch_size)


def choose_n_epochs(
    max_iter: int | str, n_rows: int, batch_size: int | str, csr: bool = False
) -> int:
    """Return the epochs; "auto" takes those for about 20,000 steps, at least 10, at most 200.

    With CSR batches they are 5,000 steps and at most 60 epochs. A table so small that they are no
    500 steps gets the epochs for 500.
    """
    if not isinstance(max_iter, str):
        return max_iter
    n_batches = -(-n_rows // choose_batch_size(batch_size, n_rows))
    n_steps, epochs = (_SPARSE_STEPS, _SPARSE_EPOCHS) if csr else (_AUTO_STEPS, _AUTO_EPOCHS)
    n_epochs = int(np.clip(n_steps // n_batches, *epochs))
    return max(n_epochs, -(-_LEAST_STEPS // n_batches))


def _is_callback(value) -> bool:
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
        value = value[1]
    return isinstance(value, Callback) or (isinstance(value, type) and issubclass(value, Callback))


def _sees_gradients(callback) -> bool:
    """Return whether a callback of the user's does something to gradients, as clipping does."""
    return _kind(callback).on_grad_computed is not Callback.on_grad_computed


def _kind(callback) -> Any:
    """Return the class of a callback of the user's, however it is given."""
    callback = callback[1] if isinstance(callback, tuple) else callback
    return callback if isinstance(callback, type) else type(callback)


def _check_callbacks(callbacks: list) -> None:
    """Raise ``ValueError`` where a callback is none, or needs what this training does not have."""
    for callback in callbacks:
        if not _is_callback(callback):
            raise ValueError(
                "callbacks must hold skorch callbacks, their classes, or pairs of a name and one. "
                f"Got {callbacks!r} instead."
            )
        kind = _kind(callback)
        if issubclass(kind, EpochScoring | BatchScoring | PassthroughScoring):
            raise ValueError(
                f"{kind.__name__} scores predictions or single batches, which the training of an "
                "autoencoder does not have. The terms of each epoch stand in history_ after fit, "
                "and in net.history for a callback of your own; early_stopping=True adds those of "
                "rows held out."
            )


def _check_monitors(net: AutoencoderNet) -> None:
    """Raise ``ValueError`` where a callback watches held-out rows, and there are none."""
    for _, callback in net.callbacks_:
        monitor = getattr(callback, "monitor", None)
        if isinstance(monitor, str) and monitor.startswith("valid_"):
            raise ValueError(
                f"{type(callback).__name__} watches {monitor!r}, but this training holds no rows "
                "out. Set early_stopping=True and call fit, or let it watch the training rows: "
                f"monitor={monitor.replace('valid_', 'train_', 1)!r}."
            )


class Stopping(NamedTuple):
    """When a training ends."""

    n_epochs: int  # at the latest
    tol: float
    n_iter_no_change: int
    start: float  # share of the training before which nothing is watched
    validation_fraction: float | None  # None: watch the training rows


def make_net(*, device, optimizer, learning_rate, weight_decay, callbacks, verbose, seed, **module):
    """Return an initialised net for a module with these arguments."""
    _check_callbacks(callbacks)
    net = AutoencoderNet(
        AutoencoderModule,
        Objective,
        optimizer=optimizer,
        lr=learning_rate,
        weight_decay=weight_decay,
        device=choose_device(device),
        callbacks=callbacks,
        train_split=None,
        **({} if verbose > 1 else {"callbacks__print_log": None}),
        verbose=verbose,
        seed=seed,
        **{f"module__{name}": value for name, value in module.items()},
        module__row_gradients=takes_row_gradients(optimizer)
        # What they call takes dense gradients alone.
        and not any(map(_sees_gradients, callbacks)),
        module__seed=seed,
    )
    return net.initialize()


def train(
    net: AutoencoderNet,
    X,
    index: np.ndarray,
    weight: np.ndarray | None,
    scaling: Scaling | None,
    plan: Plan,
    *,
    batch_size: int | str,
    schedule: Schedule,
    stopping: Stopping,
    extra_callbacks: tuple = (),
    description: str = "",
) -> bool:
    """Train a net on the rows ``index`` of X; return whether it came to an end of its own.

    That is False where the last epoch allowed was reached with the objective still falling. The
    callbacks of the engine are added to the net for this training only.
    """
    csr = net.module_.takes_csr
    if stopping.validation_fraction is None:
        _check_monitors(net)
    else:
        (index, weight), held_out = _hold_out(net, X, index, weight, stopping.validation_fraction)
        net.train_split = predefined_split(make_rows(X, *held_out, scaling, net.device, csr))
    rows = make_rows(X, index, weight, scaling, net.device, csr, plan.n_sampled)
    net.batch_size = choose_batch_size(batch_size, len(rows))
    net.max_epochs = stopping.n_epochs
    n_batches = -(-len(rows) // net.batch_size)
    course = _course(schedule, stopping, n_batches)
    first: list = [FiniteGuard(stopping.n_epochs), *extra_callbacks]
    if net.verbose > 1 and description:
        tqdm.write(description)
    if net.verbose == 1:
        first.append(FitProgress(stopping.n_epochs * n_batches, description))
    with (
        _temporary_callbacks(net, first, last=[course]),
        _seeded_if_needed(net),
        threads_for(net.module_, net.batch_size),
    ):
        net.partial_fit(rows)
    return course.converged_at is not None or course.epoch < stopping.n_epochs


def _hold_out(
    net: AutoencoderNet, X, index: np.ndarray, weight: np.ndarray | None, fraction: float
) -> tuple[WeightedIndex, WeightedIndex]:
    """Return the rows to train on and those held out, each with their weights."""
    # So few that their exact loss is no great part of an epoch.
    most = max(_FEWEST_HELD_OUT, _MOST_CELLS_HELD_OUT // X.shape[1])
    return split_rows(index, weight, fraction, derive_seed(net.seed, Stream.HELD_OUT_ROWS), most)


def _course(schedule: Schedule, stopping: Stopping, n_batches: int) -> Course:
    """Return what sets the learning rate and ends the training."""
    holds_out = stopping.validation_fraction is not None
    return Course(
        schedule,
        stopping.n_epochs,
        n_batches,
        "valid_objective" if holds_out else "train_objective",
        stopping.tol,
        stopping.n_iter_no_change,
        stopping.start,
        keep_best=holds_out,
    )


@contextlib.contextmanager
def unchanged_on_error(net: AutoencoderNet):
    """Put a net that was trained before back as it was, where going on with it fails.

    A loss that is not finite is no such failure: the net then keeps its last finite weights.
    """
    for group in net.optimizer_.param_groups:
        group["lr"] = group["initial_lr"]  # wherever the last training left it
    n_epochs = len(net.history)
    net.start = Moment(net, with_optimizer=True) if n_epochs else None
    others = net.lowest_losses.copy(), vars(net.module_.bottleneck).copy()
    try:
        yield
    except NonFiniteLossError:
        raise
    except BaseException:  # Ctrl-C too
        if net.start is not None:
            net.start.go_back()
            net.lowest_losses = others[0]
            vars(net.module_.bottleneck).update(others[1])
            del net.history[n_epochs:]
        raise
    finally:
        net.start = None


@contextlib.contextmanager
def _temporary_callbacks(net: AutoencoderNet, first: list, last: list):
    """Put the engine's callbacks around the user's, and take all that is for training away.

    The callback that ends a training comes last, so that the user's see every epoch.
    """
    before = list(net.callbacks_)
    named = [[(type(cb).__name__, cb.initialize()) for cb in part] for part in (first, last)]
    net.callbacks_ = named[0] + before + named[1]
    try:
        yield
    finally:
        net.callbacks_, net.train_split = before, None


def _seeded_if_needed(net: AutoencoderNet):
    """Seed torch's global generators for modules that draw from them."""
    if not net.module__network.uses_global_generator:
        return contextlib.nullcontext()
    return global_torch_seed(derive_seed(net.seed, Stream.MODULES_OF_USERS, len(net.history)))
