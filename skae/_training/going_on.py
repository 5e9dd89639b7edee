"""A training that goes on: what may have changed since, and what a change does.

The rule is that of the two specifications. What a model is stays what it was, and a change of it is
an error; how it is trained is read anew, but for what the optimiser was made of. Only the density
of new codes is free, for there are new codes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from skae._training.auto import choose_device, choose_rates, default_scaling
from skae._training.build import check_callbacks, takes_row_gradients_of
from skae._training.fitted import FittedModel
from skae._training.net import AutoencoderNet
from skae._training.optimizers import set_rates
from skae._training.plain_data import differences, same
from skae._training.specification import ModelSpec, TrainingSpec
from skae.exceptions import NonFiniteLossError

# Of a model, what may change; and what "auto" leaves as it came to be.
_FREE, _CHOSEN_ONCE = ("sampler",), ("input_scaling", "sparse_method")
# What a training sets of a net that is there.
_SETTINGS = ("lr", "weight_decay", "seed", "verbose", "callbacks", "callbacks_")


def check_can_go_on(model: FittedModel, spec: ModelSpec, training: TrainingSpec) -> None:
    """Raise ``ValueError`` where something changed that a training which goes on cannot follow."""
    changed = [
        (name, was, now)
        for name, was, now in differences(model.spec, spec)
        if name not in _FREE and now not in _other_words(model, name)
    ]
    was = model.training
    if not same(was.optimizer, training.optimizer):
        changed.append(("optimizer", was.optimizer, training.optimizer))
    if was.device != training.device and _elsewhere(training.device, model.net):
        changed.append(("device", model.net.device, training.device))
    if not changed:
        return
    names = " and ".join(name for name, *_ in changed)
    built = ", ".join(f"{name}={value!r}" for name, value, _ in changed)
    given = ", ".join(f"{name}={now!r}{_unseen(was, now)}" for name, was, now in changed)
    raise ValueError(
        f"Training would go on with a model that was built with {built}. Got {given} instead. "
        f"Set {names} back to go on, or start anew: call fit with warm_start=False, or clone the "
        "estimator."
    )


def _unseen(was: Any, now: Any) -> str:
    """Return where to look for a difference that is not in the words for two values."""
    alike = repr(was) == repr(now)
    return " (which differs in what it holds, such as weights or requires_grad)" if alike else ""


def _other_words(model: FittedModel, name: str) -> tuple:
    """Return what can be asked for instead of what a model was built with, and means the same."""
    if name in ("kl_warmup", "n_active"):  # found out once it is known where the training starts
        return (None,)
    if name not in _CHOSEN_ONCE:
        return ()
    if getattr(model.spec, name) != "auto":
        return ("auto",)
    if name == "sparse_method":
        return (model.sparse_method,)
    return (default_scaling(model.likelihood),)


def _elsewhere(device: str, net: AutoencoderNet) -> bool:
    """Return whether a device is another than that of a net, wherever "auto" has put it."""
    if device == "auto":
        return False
    wanted, there = torch.device(choose_device(device)), torch.device(net.device)
    return wanted.type != there.type or (wanted.index or 0) != (there.index or 0)


def go_on(model: FittedModel, spec: ModelSpec, training: TrainingSpec) -> FittedModel:
    """Return a model on the same net, to be trained further.

    Raises
    ------
    ValueError
        Something changed that it cannot follow.
    """
    check_can_go_on(model, spec, training)
    check_callbacks(training.callbacks)
    named = {name: getattr(model.spec, name) for name in _CHOSEN_ONCE}
    named = {name: was for name, was in named.items() if was != "auto"}
    spec = replace(spec, bottleneck=model.spec.bottleneck, **named)
    training = choose_rates(training, finds_length=False)
    other = FittedModel(spec, training, model.n_features, model.net, model.scaling, model.sparse)
    other.size_curve = model.size_curve
    return other


@contextlib.contextmanager
def following(net: AutoencoderNet, training: TrainingSpec) -> Iterator[None]:
    """Let a net follow a specification; it is as it was again where the block fails.

    That is but for what `unchanged_on_error` puts back. A loss that is not finite is no such
    failure.
    """
    before = {name: getattr(net, name) for name in _SETTINGS}
    by_rows = net.module_.row_gradients
    try:
        _follow(net, training)
        yield
    except NonFiniteLossError:
        raise
    except BaseException:  # Ctrl-C too
        for name, value in before.items():
            setattr(net, name, value)
        net.module_.take_row_gradients(by_rows)
        raise


def _follow(net: AutoencoderNet, training: TrainingSpec) -> None:
    net.seed, net.verbose = training.seed, training.verbose
    rates = training.highest_rate, training.weight_decay
    if rates != (net.lr, net.weight_decay):  # else they are what a callback may have made of them
        set_rates(net.optimizer_, *rates)
        net.lr, net.weight_decay = rates
    if not _are(net.callbacks, training.callbacks):
        if net.start is not None:
            for parameter in net.module_.parameters():  # which a callback may change, unasked
                net.start.about_to_change(parameter)
        net.callbacks = list(training.callbacks)
        net.initialize_callbacks()
        net.module_.take_row_gradients(takes_row_gradients_of(training))


def _are(callbacks: Any, given: tuple) -> bool:
    """Return whether callbacks are the very objects that are given: others know other things."""
    pairs = zip(callbacks, given, strict=False)
    return len(callbacks) == len(given) and all(one is other for one, other in pairs)
