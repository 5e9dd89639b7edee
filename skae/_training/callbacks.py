"""What happens around the steps of a training: its course, its guard, its progress bar."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from skorch.callbacks import Callback
from torch import Tensor
from tqdm.auto import tqdm

from skae._kernels.optimizer import RowAdamW
from skae._training.moments import Moment
from skae.exceptions import NonFiniteLossError
from skae.schedules import Schedule

# Weights that grew so many times in an epoch are finite, and of no use.
_MOST_GROWTH = 1e3


class EndOfTraining(Exception):
    """How a callback ends a training in which nothing went wrong.

    Callbacks of skorch raise ``KeyboardInterrupt``, which is a real Ctrl-C as well.
    """


class Course(Callback):
    """The learning rate of each step, and the end of the training.

    The rate follows a schedule over ``n_epochs``. Where the objective has not improved for
    ``n_iter_no_change`` epochs the training has converged: the rate is brought down to zero over as
    many epochs again, and the training stops. An epoch improves when the objective falls by more
    than ``tol`` times its whole fall so far, which depends neither on the units of X nor on where
    the log-likelihood has its zero.

    Parameters
    ----------
    schedule : Schedule
        Factor of the learning rate.
    n_epochs, n_batches : int
        Most epochs of this training, and batches in each.
    monitor : str
        Entry of the history that must fall: "train_objective" or "valid_objective".
    tol : float
    n_iter_no_change : int
    start : float
        Share of the training before which the objective is not looked at.
    keep_best : bool
        Whether to end with the weights of the best epoch.
    """

    def __init__(
        self,
        schedule: Schedule,
        n_epochs,
        n_batches,
        monitor,
        tol,
        n_iter_no_change,
        start,
        keep_best,
    ):
        self.schedule = schedule
        self.n_epochs = n_epochs
        self.n_batches = n_batches
        self.monitor = monitor
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.start = start
        self.keep_best = keep_best

    def on_train_begin(self, net, **kwargs):
        """Start counting."""
        self.step = self.waited = self.epoch = 0
        self.factor = 1.0
        self.best = math.inf
        self.best_state: Moment | None = None
        self.converged_at: int | None = None
        if self.n_epochs > 1:  # a single epoch may be one of many calls
            net.module_.bottleneck.begin(self.n_epochs * self.n_batches)

    def on_epoch_begin(self, net, **kwargs):
        """Tell the bottleneck how far the training is; a single epoch has no beginning."""
        net.module_.train()
        net.module_.bottleneck.at(self.epoch / self.n_epochs if self.n_epochs > 1 else 1.0)

    def on_batch_begin(self, net, training=False, **kwargs):
        """Set the learning rate of this step.

        A rate that the schedule leaves alone is not touched, so that a scheduler of skorch's can.
        """
        if training:
            # In the middle of the step: at its start a warm-up would be zero.
            self._set_factor(net, self._factor((self.step + 0.5) / self.n_batches))
            self.step += 1

    def on_epoch_end(self, net, **kwargs):
        """See whether the objective improved, and stop when the rate has come down."""
        self.epoch += 1
        value = net.history[-1, self.monitor]
        if self.epoch == 1:
            self.first = value
        if self.epoch > self.start * self.n_epochs or self.epoch == self.n_epochs:
            self._watch(net, value)
        if self.waited >= self.n_iter_no_change and self.converged_at is None:
            self.converged_at = self.epoch
        if self.converged_at is not None and self._factor(self.epoch) == 0.0:
            raise EndOfTraining

    def on_train_end(self, net, **kwargs):
        """Go back to the best weights, and to the rate at which the next training starts."""
        self._set_factor(net, 1.0)
        if self.best_state is not None:
            self.best_state.go_back()
        self.best_state = None

    def _set_factor(self, net, factor: float) -> None:
        if factor != self.factor:
            for group in net.optimizer_.param_groups:
                group["lr"] = group["initial_lr"] * factor
        self.factor = factor

    def _factor(self, epoch: float) -> float:
        factor = self.schedule(min(1.0, epoch / self.n_epochs))
        if self.converged_at is not None:
            factor *= max(0.0, 1.0 - (epoch - self.converged_at) / self.n_iter_no_change)
        return factor

    def _watch(self, net, value: float) -> None:
        fall = max(0.0, self.first - self.best)  # 0 in the first epoch watched
        self.waited = 0 if value < self.best - self.tol * fall else self.waited + 1
        if value < self.best:
            self.best = value
            if self.keep_best:
                if self.best_state is None:
                    self.best_state = Moment(net)
                else:
                    self.best_state.renew()


class FiniteGuard(Callback):
    """Stops a training whose loss or weights are no longer finite, with the last ones that were."""

    def __init__(self, n_epochs=math.inf):
        self.n_epochs = n_epochs

    def on_train_begin(self, net, **kwargs):
        """Keep the weights at the start, unless the way back after an error does."""
        self.epoch, self.shared = 0, getattr(net, "start", None) is not None
        self.kept = net.start if self.shared else Moment(net)

    def on_epoch_end(self, net, **kwargs):
        """Keep the weights, or put the kept ones back and raise."""
        self.epoch += 1
        loss, growth = net.history[-1, "train_loss"], self.kept.growth()
        finite = math.isfinite(growth) and _are_finite(net.module_.buffers())
        if math.isfinite(loss) and finite:
            if growth <= _MOST_GROWTH:
                self._keep(net)
            return
        self.kept.go_back()
        net.optimizer_.state.clear()  # its moments are not finite either
        epoch, self.kept = len(net.history), None
        del net.history[-1]
        raise NonFiniteLossError(
            f"Training stopped: the loss or a weight was not finite in epoch {epoch} "
            f"(loss {loss!r}). The weights of the epoch before are kept."
        )

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


class SoftThreshold(Callback):
    """Draws weights to exact zeros after each step, by ``learning rate * amount``.

    The proximal step of the L1 norm, decoupled from the adaptive step sizes as weight decay is in
    AdamW.
    """

    def __init__(self, amount):
        self.amount = amount

    def on_batch_end(self, net, training=False, **kwargs):
        """Shrink every weight that decays and is trained."""
        if training:
            threshold = self.amount * net.optimizer_.param_groups[0]["lr"]
            with torch.no_grad():
                for weight in net.module_.weights_to_decay():
                    if not weight.requires_grad:
                        continue
                    if isinstance(net.optimizer_, RowAdamW):
                        net.optimizer_.before_change(weight)
                    weight.copy_(torch.nn.functional.softshrink(weight, threshold))


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


def _are_finite(buffers: Iterable[Tensor]) -> bool:
    return all(bool(buffer.isfinite().all()) for buffer in buffers)
