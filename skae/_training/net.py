"""The skorch net: how one step and one epoch of an autoencoder are done."""

from __future__ import annotations

import math
import warnings

import torch
from skorch import NeuralNet
from skorch.callbacks import EpochTimer, PrintLog
from skorch.exceptions import DeviceWarning

from skae._random import torch_generator
from skae._training.batches import BatchIterator
from skae._training.moments import Moment
from skae._training.objective import Loss
from skae._training.optimizers import make_optimizer

# Purposes of the random streams that are derived from the seed of a net.
_SHUFFLE, _TRAIN, _VALID = 1, 2, 3


class AutoencoderNet(NeuralNet):
    """A ``skorch.NeuralNet`` whose datasets are `Rows` and whose loss has named terms.

    It differs from its parent in three ways. Batches are slices of tensors on the device. Losses
    stay on the device until an epoch is over, so that no step waits for the one before; the history
    therefore has a row for each epoch and none for each batch. And everything random is drawn from
    generators that are derived from ``seed`` and the number of epochs done.

    Parameters
    ----------
    weight_decay : float, default=0.0
        Decoupled decay of weight matrices.
    seed : int, default=0
        Source of the order of batches and of all noise.
    """

    def __init__(self, *args, weight_decay=0.0, seed=0, **kwargs):
        self.weight_decay = weight_decay
        self.seed = seed
        self._lowest: dict[str, float] = {}
        self.start: Moment | None = None  # while a net that was trained before is trained on
        super().__init__(*args, **kwargs)

    @property
    def _default_callbacks(self):
        return [("epoch_timer", EpochTimer()), ("print_log", PrintLog())]

    def initialize_optimizer(self, triggered_directly=None):
        """Build the optimiser."""
        self.optimizer_ = make_optimizer(self.optimizer, self.module_, self.lr, self.weight_decay)
        return self

    def get_iterator(self, dataset, training=False):
        """Return an iterator over batches, in a new order in every epoch of training."""
        seed = self.seed + _SHUFFLE if training else None
        return BatchIterator(dataset, self.batch_size, seed, epoch=len(self.history))

    def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        """Seed this epoch; the noise of the validation loss is the same in all."""
        super().on_epoch_begin(net, dataset_train, dataset_valid, **kwargs)
        self._train_generator = torch_generator(
            self.seed, _TRAIN, len(self.history), device=self.device
        )
        self._valid_generator = torch_generator(self.seed, _VALID, device=self.device)

    def train_step_single(self, batch, **fit_params):
        """Compute the loss of a batch and its gradients."""
        loss = self._loss(batch, self._train_generator)
        loss.total.backward()
        return {"loss": loss.total.detach(), "y_pred": None, "parts": loss}

    def validation_step(self, batch, **fit_params):
        """Compute the loss of a batch of held-out rows."""
        with torch.no_grad():
            loss = self._loss(batch, self._valid_generator)
        return {"loss": loss.total, "y_pred": None, "parts": loss}

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        """Run all batches, then record the mean of each named term."""
        if iterator is None:
            return
        self._set_training(training)
        record = _EpochRecord()
        for batch in iterator:
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch, **fit_params)
            record.add(step["parts"], len(batch.x))
            self.notify("on_batch_end", batch=batch, training=training, **step)
        for name, value in record.means().items():
            self.history.record(f"{prefix}_{name}", value)
        self._record_best(f"{prefix}_loss")
        self.history.record(f"{prefix}_batch_count", len(record.sizes))

    def _record_best(self, name: str) -> None:
        """Note whether a loss is the lowest so far: what skorch's Checkpoint looks at."""
        loss, best = self.history[-1, name], self._lowest.get(name, math.inf)
        self.history.record(f"{name}_best", loss < best)
        self._lowest[name] = min(loss, best)

    def _loss(self, batch, generator) -> Loss:
        return self.criterion_(self.module_(batch, generator), batch)

    def __getstate__(self):
        state = super().__getstate__()
        of_training = ("_train_generator", "_valid_generator", "start")
        return {name: value for name, value in state.items() if name not in of_training}

    def __setstate__(self, state):
        """Load on the device of the training if it is there, else on the CPU, without a word."""
        if str(state["device"]).startswith("mps") and not torch.backends.mps.is_available():
            state = {**state, "device": "cpu"}  # skorch looks after CUDA alone
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeviceWarning)
            super().__setstate__(state)


class _EpochRecord:
    """The losses of an epoch, which stay on the device until the epoch is over."""

    def __init__(self):
        self.totals: list[torch.Tensor] = []
        self.terms: list[torch.Tensor] = []
        self.sizes: list[int] = []
        self.final_weights: dict[str, float] = {}

    def add(self, loss: Loss, n_rows: int) -> None:
        self.totals.append(loss.total.detach())
        self.terms.extend(value.detach() for value in loss.terms.values())
        self.sizes.append(n_rows)
        self.final_weights = loss.final_weights

    def means(self) -> dict[str, float]:
        """Return loss, objective and each term, averaged over the rows of the epoch."""
        share = torch.tensor(self.sizes, dtype=torch.float64) / sum(self.sizes)
        values = torch.stack(self.totals + self.terms).cpu().double()  # MPS has no double
        totals, terms = values.split([len(self.totals), len(self.terms)])
        means = dict(
            zip(self.final_weights, (share @ terms.view(len(share), -1)).tolist(), strict=True)
        )
        objective = sum(self.final_weights[name] * mean for name, mean in means.items())
        return {"loss": float(share @ totals), "objective": objective, **means}
