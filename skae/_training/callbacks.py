"""What skorch calls around the steps of a training. The rules stand in ``rules.py``."""

from __future__ import annotations

import math
from typing import NoReturn

import torch
from skorch.callbacks import Callback
from tqdm.auto import tqdm

from skae._kernels.optimizer import RowAdamW
from skae._training.moments import Moment
from skae._training.optimizers import roles_of
from skae._training.rules import Rule, is_finite, is_worth_keeping
from skae.exceptions import NonFiniteLossError

# Weight of the older ones in an average of weights.
_DECAY = 0.98
# What a group of an optimiser is told of a training.
_RATES = ("lr", "initial_lr", "weight_decay")


class EndOfTraining(Exception):
    """How a callback ends a training in which nothing went wrong.

    Callbacks of skorch raise ``KeyboardInterrupt``, which is a real Ctrl-C as well.
    """


class LearningRate(Callback):
    """Sets the learning rate of each step.

    Parameters
    ----------
    rule : Rule
        Says the factor of the rate.
    n_batches : int
        Steps in an epoch.
    """

    def __init__(self, rule: Rule, n_batches):
        self.rule = rule
        self.n_batches = n_batches

    def on_train_begin(self, net, **kwargs):
        """Start counting."""
        self.step, self.factor = 0, 1.0

    def on_batch_begin(self, net, training=False, **kwargs):
        """Set the rate; one that the schedule leaves alone is left to the schedulers of skorch."""
        if training:
            # In the middle of the step: at its start a warm-up would be zero.
            self._set(net, self.rule.factor((self.step + 0.5) / self.n_batches))
            self.step += 1

    def on_train_end(self, net, **kwargs):
        """Go back to the rate at which the next training starts."""
        self._set(net, 1.0)

    def _set(self, net, factor: float) -> None:
        if factor != self.factor:
            for group in net.optimizer_.param_groups:
                group["lr"] = group["initial_lr"] * factor
        self.factor = factor


class Stopping(Callback):
    """Ends the training where it has converged, if asked to with the weights of the best epoch.

    Parameters
    ----------
    rule : Rule
        Says when.
    monitor : str
        Entry of the history that must fall: "train_objective" or "valid_objective".
    keep_best : bool
        Whether to end with the weights of the best epoch.
    """

    def __init__(self, rule: Rule, monitor, keep_best):
        self.rule = rule
        self.monitor = monitor
        self.keep_best = keep_best

    def on_train_begin(self, net, **kwargs):
        """Nothing is the best yet."""
        self.best_state: Moment | None = None
        self.in_epoch = False

    def on_epoch_begin(self, net, **kwargs):
        """Note that an epoch has begun."""
        self.in_epoch = True

    def on_epoch_end(self, net, **kwargs):
        """See whether the objective improved, and stop when the rate has come down."""
        self._observe(net)
        if self.rule.is_over:
            raise EndOfTraining

    def on_train_end(self, net, **kwargs):
        """Go back to the best weights, unless an error ended the training."""
        if not net.failed:
            if self.in_epoch:  # at the end of which another callback ended the training
                self._observe(net)
            if self.best_state is not None:
                self.best_state.go_back()
        self.best_state = None

    def _observe(self, net) -> None:
        self.in_epoch = False
        is_best = self.rule.observe(net.history[-1, self.monitor])
        if is_best and self.keep_best:
            if self.best_state is None:
                self.best_state = Moment(net)
            else:
                self.best_state.renew()


class Clock(Callback):
    """Tells the bottleneck how far the training is.

    A single epoch may be one of many calls, and has neither beginning nor end.
    """

    def __init__(self, n_epochs, n_batches):
        self.n_epochs = n_epochs
        self.n_batches = n_batches

    def on_train_begin(self, net, **kwargs):
        """Tell how many steps there will be."""
        self.epoch = 0
        n_steps = self.n_epochs * self.n_batches if self.n_epochs > 1 else None
        net.module_.bottleneck.on_train_begin(n_steps)

    def on_epoch_begin(self, net, **kwargs):
        """Tell the share of the training that is done."""
        net.module_.train()
        self.tell(net.module_.bottleneck)

    def tell(self, bottleneck):
        """Tell a bottleneck that an epoch begins."""
        progress = self.epoch / self.n_epochs if self.n_epochs > 1 else 1.0
        bottleneck.on_epoch_begin(progress)
        self.epoch += 1


class Averaging(Callback):
    """Keeps an exponential moving average of the weights, with which rows held out are judged.

    The average of Polyak and Juditsky (1992), over the last steps. In the first it is over few: the
    share of the newest weights after t steps is ``max(1 - decay, 9 / (10 + t))``. The training ends
    with the average, in which weights that were drawn to exact zeros are zero; where an epoch went
    wrong, with the weights that were put back for it.

    Parameters
    ----------
    decay : float
        Weight of the older ones.
    """

    def __init__(self, decay=_DECAY):
        self.decay = decay

    def on_train_begin(self, net, **kwargs):
        """Begin with the weights that are there."""
        self.weights = [one for one in net.module_.parameters() if one.requires_grad]
        self.average = [one.detach().clone() for one in self.weights]
        self.step, self.n_epochs, self.swapped = 0, 0, False

    @torch.no_grad()
    def on_batch_end(self, net, training=False, **kwargs):
        """Take the weights of one more step."""
        if training:
            self.step += 1
            share = newest_share(self.step, self.decay)
            for average, weight in zip(self.average, self.weights, strict=True):
                average.lerp_(weight, share)

    def on_batch_begin(self, net, training=False, **kwargs):
        """Let rows held out see the average."""
        if training == self.swapped:
            self._swap()

    def on_epoch_end(self, net, **kwargs):
        """Go on with the weights of the training, and count the epoch, which may be taken back."""
        if self.swapped:
            self._swap()
        self.n_epochs = len(net.history)

    def on_train_end(self, net, **kwargs):
        """End with the average."""
        if self.swapped:
            self._swap()
        if len(net.history) >= self.n_epochs:
            for weight, average in zip(self.weights, self.average, strict=True):
                average.masked_fill_(weight == 0.0, 0.0)
            self._swap()
        self.weights, self.average = [], []

    @torch.no_grad()
    def _swap(self):
        for weight, average in zip(self.weights, self.average, strict=True):
            kept = weight.clone()
            weight.copy_(average)
            average.copy_(kept)
        self.swapped = not self.swapped


def newest_share(step: int, decay: float = _DECAY) -> float:
    """Return the share of the newest weights in an average after so many steps."""
    return max(1.0 - decay, 9.0 / (10.0 + step))


class FiniteGuard(Callback):
    """Stops a training whose loss or weights are no longer finite, with the last ones that were."""

    def __init__(self, n_epochs=math.inf):
        self.n_epochs = n_epochs

    def on_train_begin(self, net, **kwargs):
        """Keep the weights at the start, unless the way back after an error does."""
        self.epoch, self.shared = 0, getattr(net, "start", None) is not None
        self.kept = net.start if self.shared else Moment(net)
        self.lowest_losses = net.lowest_losses.copy()
        groups = net.optimizer_.param_groups
        self.rates = [{name: one[name] for name in _RATES if name in one} for one in groups]

    def on_epoch_end(self, net, **kwargs):
        """Keep the weights, or put the kept ones back and raise."""
        self.epoch += 1
        loss, growth = net.history[-1, "train_loss"], self.kept.growth()
        buffer = self.kept.buffer_gone_bad()
        if is_finite(loss, growth) and buffer is None:
            self.lowest_losses = net.lowest_losses.copy()
            if is_worth_keeping(growth):
                self._keep(net)
        else:
            self._go_back(net, loss, buffer)

    def _go_back(self, net, loss: float, buffer: str | None) -> NoReturn:
        self.kept.go_back()
        if self.shared:  # with the rates from before this training, whose own others may be
            for group, rates in zip(net.optimizer_.param_groups, self.rates, strict=True):
                group.update(rates)
        net.optimizer_.state.clear()  # its moments are not finite either
        epoch, self.kept = len(net.history), None
        net.lowest_losses = self.lowest_losses
        del net.history[-1]
        raise not_finite(epoch, loss, buffer)

    def _keep(self, net) -> None:
        if self.epoch >= self.n_epochs:
            return  # nobody will come back to them
        if self.shared:
            self.kept, self.shared = Moment(net), False
        else:
            self.kept.renew()

    def on_train_end(self, net, **kwargs):
        """Let the kept weights go."""
        self.kept = None


def not_finite(epoch: int, loss: float, buffer: str | None = None) -> NonFiniteLossError:
    """Return the error that ends a training with the weights of the epoch before."""
    what = "the loss or a weight was not"
    if buffer is not None:
        what = f"buffer {buffer!r} was no longer"
    return NonFiniteLossError(
        f"Training stopped: {what} finite in epoch {epoch} (loss {loss!r}). "
        "The weights of the epoch before are kept.",
        buffer=buffer,
    )


class SoftThreshold(Callback):
    """Draws weights to exact zeros after each step, by ``learning rate * amount``.

    The proximal step of the L1 norm, decoupled from the adaptive step sizes as weight decay is in
    AdamW.
    """

    def __init__(self, amount):
        self.amount = amount

    def on_train_begin(self, net, **kwargs):
        """Find what has the role of a weight, in the network and in components."""
        roles = roles_of(net.module_).items()
        self.weights = {parameter for parameter, role in roles if role == "weight"}

    @torch.no_grad()
    def on_batch_end(self, net, training=False, **kwargs):
        """Shrink every weight that is trained, by the rate at which it is."""
        for group in net.optimizer_.param_groups if training else ():
            threshold = self.amount * group["lr"]
            for weight in group["params"]:
                if weight in self.weights and weight.requires_grad:
                    if isinstance(net.optimizer_, RowAdamW):
                        net.optimizer_.before_change(weight)
                    weight.copy_(torch.nn.functional.softshrink(weight, threshold))

    def on_train_end(self, net, **kwargs):
        """Let go of the weights."""
        self.weights = set()


class FitProgress(Callback):
    """One progress bar for a whole fit; short fits never show it."""

    def __init__(self, n_batches, description, delay=1.0):
        self.n_batches = n_batches
        self.description = description
        self.delay = delay

    def on_train_begin(self, net, **kwargs):
        """Open the bar."""
        self.bar = tqdm(
            total=self.n_batches,
            desc=self.description,
            unit="batch",
            delay=self.delay,
            leave=False,
        )

    def on_batch_end(self, net, training=False, **kwargs):
        """Count a batch."""
        if training:
            self.bar.update()

    def on_epoch_end(self, net, **kwargs):
        """Show the loss."""
        self.bar.set_postfix(loss=f"{net.history[-1, 'train_loss']:.4g}", refresh=False)

    def on_train_end(self, net, **kwargs):
        """Close the bar."""
        self.bar.close()
        self.bar = None
