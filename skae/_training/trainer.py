"""One training: rows to batches, the engine's callbacks about a net, a run of it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from skorch.callbacks import PrintLog
from skorch.helper import predefined_split
from tqdm.auto import tqdm

from skae._blocks import cells_per_row, row_blocks
from skae._random import Stream, derive_seed, global_torch_seed
from skae._training.auto import FEWEST_HELD_OUT, choose_batch_size, choose_n_epochs
from skae._training.batches import WeightedIndex, make_rows, split_rows
from skae._training.callbacks import (
    Averaging,
    Clock,
    FiniteGuard,
    FitProgress,
    LearningRate,
    SoftThreshold,
    Stopping,
)
from skae._training.fitted import FittedModel
from skae._training.moments import Moment
from skae._training.net import AutoencoderNet
from skae._training.rules import Convergence, Repeat, Rule, Trial
from skae._training.side_by_side.meeting import trained_with_others
from skae._training.side_by_side.run import Run
from skae._training.specification import TrainingSpec
from skae._training.threads import threads_for
from skae.exceptions import NonFiniteLossError
from skae.networks import Network

# Cells and rows that early stopping holds out at most; the rows are fewer in very wide tables only.
_MOST_CELLS_HELD_OUT, _FEWEST_HELD_OUT = 2**28, 256
# Makes an untrained model of some rows and their weights, to be trained so.
Make = Callable[..., FittedModel]
# So many steps without anything better end the search for the length of a training.
_STEPS_OF_PATIENCE = 200


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


def train(
    model: FittedModel,
    X,
    index: np.ndarray,
    weight: np.ndarray | None,
    training: TrainingSpec,
    make: Make | None = None,
) -> bool:
    """Train a model on the rows ``index`` of X; return whether it came to an end of its own.

    That is False where the last epoch allowed was reached with the objective still falling. With
    ``make`` the training is as long as `find_length` says.
    """
    held_out = None
    if training.early_stopping is True:
        (index, weight), held_out = hold_out(X, index, weight, training)
    else:
        _check_monitors(model.net)
    if make is not None:
        length = find_length(make, X, index, weight, training)
        run(model, X, index, weight, training, length)
        return length.came_to_an_end
    rule = Convergence(
        training.schedule,
        choose_n_epochs(training.max_iter, len(index), training.batch_size, _kind(model)),
        training.tol,
        training.n_iter_no_change,
        model.spec.bottleneck.settles_at,
    )
    run(model, X, index, weight, training, rule, held_out)
    if held_out is not None:
        _check_was_watched(model.net, rule)
    return rule.came_to_an_end


def find_length(
    make: Make,
    X,
    index: np.ndarray,
    weight: np.ndarray | None,
    training: TrainingSpec,
) -> Repeat:
    """Return the training of as many epochs, from 0, as are best for rows held out.

    The callbacks of the user see the training that follows alone, and so does who reads what is
    printed.
    """
    fraction = max(training.validation_fraction, FEWEST_HELD_OUT / len(index))
    training = replace(training, validation_fraction=fraction, callbacks=(), verbose=0)
    part, held_out = hold_out(X, index, weight, training)
    model = make(*part, training=training)
    n_rows = len(part[0])
    n_epochs = choose_n_epochs(training.max_iter, n_rows, training.batch_size, "twice")
    n_batches = -(-n_rows // choose_batch_size(training.batch_size, n_rows, "twice"))
    patience = max(training.n_iter_no_change, -(-_STEPS_OF_PATIENCE // n_batches))
    rule = Trial(training.schedule, n_epochs, patience)
    try:
        run(model, X, *part, training, rule, held_out)
    except NonFiniteLossError as error:
        raise NonFiniteLossError(
            "The loss or a weight was not finite while rows held out were to say how long the "
            "training is to be (early_stopping='auto'). The weights of the start are kept."
        ) from error
    _check_was_watched(model.net, rule)
    return rule.repeat()


def run(
    model: FittedModel,
    X,
    index: np.ndarray,
    weight: np.ndarray | None,
    training: TrainingSpec,
    rule: Rule,
    held_out: WeightedIndex | None = None,
) -> None:
    """Train a model on the rows ``index`` of X by a rule.

    The callbacks of the engine are added to the net for this training only.
    """
    net, csr = model.net, model.net.module_.takes_csr
    kept = None if held_out is None else make_rows(X, *held_out, model.scaling, net.device, csr)
    rows = make_rows(X, index, weight, model.scaling, net.device, csr, net.module_.plan.n_sampled)
    for block in row_blocks(len(rows), cells_per_row(X) if csr else X.shape[1]):
        net.module_.encoder_input.observe(rows.take(torch.arange(block.start, block.stop)))
    net.batch_size = choose_batch_size(training.batch_size, len(rows), _kind(model))
    net.max_epochs = rule.n_epochs
    if trained_with_others(Run(model, training, rule, rows, kept)):
        return
    net.train_split = None if kept is None else predefined_split(kept)
    n_batches = -(-len(rows) // net.batch_size)
    monitor = "train_objective" if held_out is None else "valid_objective"
    first = _first(model, training, rule, n_batches)
    keeps_best = held_out is not None and not rule.averages
    # After the callbacks of the user, for it prints what they record.
    last: list = [PrintLog()] if training.verbose > 1 else []
    last += [LearningRate(rule, n_batches), Stopping(rule, monitor, keeps_best)]
    with (
        _temporary_callbacks(net, first, last),
        _seeded_if_needed(net, model.spec.network),
        threads_for(net.batch_size * net.module_.operations),
    ):
        net.partial_fit(rows)


def _check_was_watched(net: AutoencoderNet, rule: Convergence | Trial) -> None:
    """Raise ``NonFiniteLossError`` where rows held out never had an objective to go by."""
    last = net.history[-1, "valid_objective"]
    if not (math.isfinite(last) or math.isfinite(rule.best)):
        raise NonFiniteLossError(
            f"The objective of the rows held out was not finite (it is {last!r}), so that "
            "early_stopping had nothing to go by. The weights of the last epoch are kept.",
            held_out=True,
        )


def hold_out(X, index, weight, training: TrainingSpec) -> tuple[WeightedIndex, WeightedIndex]:
    """Return the rows that are left to train on, and those held out, with their weights."""
    if len(index) < 2:
        raise ValueError(
            f"early_stopping=True holds rows out and needs 2 distinct ones. Got {len(index)} "
            "instead. Set early_stopping=False."
        )
    # So few that their exact loss is no great part of an epoch.
    most = max(_FEWEST_HELD_OUT, _MOST_CELLS_HELD_OUT // X.shape[1])
    seed = derive_seed(training.seed, Stream.HELD_OUT_ROWS)
    return split_rows(index, weight, training.validation_fraction, seed, most)


def _kind(model: FittedModel) -> str:
    """Return what is trained, by the names of `BUDGETS`."""
    module = model.net.module_
    linear = model.likelihood.raw_is_linear
    if module.words is not None:
        return "linear words" if linear else "words"
    whole = linear and module.started and model.spec.bottleneck.code == "plain"  # the decoder, too
    return " ".join(["linear"] * whole + ["csr"] * module.takes_csr) or "dense"


def _first(model: FittedModel, training: TrainingSpec, rule: Rule, n_batches: int) -> list:
    """Return the callbacks that come before those of the user, and say what is trained."""
    n_epochs = rule.n_epochs
    callbacks: list = [Averaging()] if rule.averages else []
    callbacks += [FiniteGuard(n_epochs), Clock(rule.horizon, n_batches)]
    if training.alpha * training.l1_ratio:
        callbacks.append(SoftThreshold(training.alpha * training.l1_ratio))
    title = f"{training.title} ({model.sparse_method} batches)"
    if training.verbose > 1:
        tqdm.write(title)
    if training.verbose == 1:
        callbacks.append(FitProgress(n_epochs * n_batches, title))
    return callbacks


@contextlib.contextmanager
def unchanged_on_error(model: FittedModel | None):
    """Put a model that is trained on back as it was, where the block fails.

    A loss that is not finite is no such failure: the net then keeps its last finite weights. None
    stands for a model that is yet to be made, which is no loss.
    """
    if model is None:
        yield
        return
    net = model.net
    for group in net.optimizer_.param_groups:
        group["lr"] = group["initial_lr"]  # wherever the last training left it
    n_epochs = len(net.history)
    net.start = start = Moment(net, with_optimizer=True)
    others = net.lowest_losses.copy(), vars(net.module_.bottleneck).copy()
    try:
        yield
    except NonFiniteLossError:
        raise
    except BaseException:  # Ctrl-C too
        start.go_back()
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


def _seeded_if_needed(net: AutoencoderNet, network: Network):
    """Seed torch's global generators for modules that draw from them."""
    if not network.uses_global_generator:
        return contextlib.nullcontext()
    return global_torch_seed(derive_seed(net.seed, Stream.MODULES_OF_USERS, len(net.history)))
