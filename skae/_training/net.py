"""The skorch net: how one step and one epoch of an autoencoder are done."""

from __future__ import annotations

import dis
import math
import signal
import warnings

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EpochTimer
from skorch.exceptions import DeviceWarning
from skorch.utils import TeeGenerator
from torch import nn

from skae._hidden import check_loss_is_declared
from skae._random import Stream, torch_generator
from skae._state import State
from skae._training.batches import Batch, BatchIterator, Rows
from skae._training.bottlenecks import Terms
from skae._training.callbacks import EndOfTraining
from skae._training.moments import Moment
from skae._training.optimizers import make_optimizer
from skae._training.surroundings import usual_torch

_ASK_THE_ESTIMATOR = (
    "The net of an autoencoder gives no answers about X: it does not know how columns are scaled. "
    "Ask the estimator: reconstruct(X), transform(X), score_samples(X) or score(X). A callback "
    "finds the terms of each epoch in net.history, such as net.history[-1, 'train_objective'], and "
    "those of rows held out, such as 'valid_objective', with early_stopping=True."
)

_CALLS_OF_A_STEP = ("on_batch_begin", "on_grad_computed", "on_batch_end")


class AutoencoderNet(NeuralNet):
    """A ``skorch.NeuralNet`` whose datasets are `Rows` and whose loss has named terms.

    It differs from its parent in five ways. Batches are slices of tensors on the device. Losses
    stay on the device until an epoch is over, so that no step waits for the one before; the history
    therefore has a row for each epoch and none for each batch. And everything random is drawn from
    generators that are derived from ``seed`` and the number of epochs done. A real Ctrl-C, which
    skorch takes for the end of a training, goes on to the caller. And of the calls that skorch
    makes in a step, those are left out that no callback listens to at the start of the epoch.

    Parameters
    ----------
    weight_decay : float, default=0.0
        Decoupled decay of weight matrices.
    seed : int, default=0
        Source of the order of batches and of all noise.
    """

    failed = False  # whether an error is what ends this training
    _n_looked_at = 0  # losses of this training that `check_loss_is_declared` has seen

    def __init__(self, *args, weight_decay=0.0, seed=0, **kwargs):
        self.weight_decay = weight_decay
        self.seed = seed
        self.lowest_losses: dict[str, float] = {}
        self.start: Moment | None = None  # while a net that was trained before is trained on
        self._unheard: set[str] = set()  # of the calls of a step, in this epoch
        super().__init__(*args, **kwargs)

    @property
    def _default_callbacks(self):
        return [("epoch_timer", EpochTimer())]

    def initialize_optimizer(self, triggered_directly=None):
        """Build the optimiser."""
        self.optimizer_ = make_optimizer(self.optimizer, self.module_, self.lr, self.weight_decay)
        return self

    def notify(self, method_name, **kwargs):
        """Call the callbacks; one that raises an interrupt after an epoch ends the training."""
        if method_name in self._unheard:
            return
        if method_name == "on_train_begin":
            self._tell_of_the_beginning(**kwargs)
            return
        try:
            super().notify(method_name, **kwargs)
        except KeyboardInterrupt as interrupt:
            if method_name == "on_epoch_end" and _is_from_a_raise_statement(interrupt):
                raise EndOfTraining from None
            raise

    def fit_loop(self, X, y=None, *args, **kwargs):
        """Run epochs until the last, or until a callback ends the training."""
        try:
            super().fit_loop(X, y, *args, **kwargs)
        except EndOfTraining:
            pass
        except BaseException as error:  # Ctrl-C too
            self._tell_of_the_end(self.callbacks_, error, X, y)
            if isinstance(error, KeyboardInterrupt):
                raise _Interrupted(error) from None  # which the parent does not swallow
            raise
        return self

    def _tell_of_the_beginning(self, X=None, y=None) -> None:
        """Let all callbacks begin; where one fails, those that have begun hear of the end."""
        self.on_train_begin(self, X=X, y=y)
        for place, (_, callback) in enumerate(self.callbacks_):
            try:
                callback.on_train_begin(self, X=X, y=y)
            except BaseException as error:  # Ctrl-C too
                self._tell_of_the_end(self.callbacks_[:place], error, X, y)
                raise

    def _tell_of_the_end(self, callbacks: list, error: BaseException, X, y) -> None:
        """Let callbacks tidy up, as skorch does not where a training fails.

        What one of them raises then is a note on the error, and does not keep it from the caller.
        """
        self.failed = True
        for name, callback in callbacks:
            try:
                callback.on_train_end(self, X=X, y=y)
            except Exception as another:
                error.add_note(f"Callback {name} failed at the end of the training: {another!r}")

    def partial_fit(self, X, y=None, classes=None, **fit_params):
        """Train on rows of the engine, from the weights that are there."""
        _check_is_rows(X)
        try:
            return super().partial_fit(X, y, classes, **fit_params)
        except _Interrupted as interrupted:
            raise interrupted.interrupt from None

    def fit(self, X, y=None, **fit_params):
        """Train on rows of the engine, from new weights."""
        _check_is_rows(X)  # before there are new weights
        return super().fit(X, y, **fit_params)

    def forward_iter(self, X, training=False, device="cpu"):
        """Say where the answers are: the net does not know how columns are scaled."""
        raise NotImplementedError(_ASK_THE_ESTIMATOR)

    def score(self, X, y=None):
        """Say where the answers are: the net does not know how columns are scaled."""
        raise NotImplementedError(_ASK_THE_ESTIMATOR)

    def get_iterator(self, dataset, training=False):
        """Return an iterator over batches, in a new order in every epoch of training."""
        seed = self.seed if training else None
        return BatchIterator(dataset, self.batch_size, seed, epoch=len(self.history))

    def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        """Seed this epoch; the noise of the validation loss is the same in all."""
        super().on_epoch_begin(net, dataset_train, dataset_valid, **kwargs)
        self._train_generator = torch_generator(
            self.seed, Stream.TRAINING, len(self.history), device=self.device
        )
        if dataset_valid is not None:
            self._valid_generator = torch_generator(
                self.seed, Stream.VALIDATION, device=self.device
            )

    def train_step(self, batch, **fit_params):
        """Make a step.

        Noise is drawn once, on rows and on codes, however often the optimiser looks. What a module
        of the user's draws itself, such as a dropout, it draws anew at each look, and running
        statistics of a batch normalisation move with each.
        """
        module = self.module_
        batch = self.drawn(batch, training=True)
        module.bottleneck.begin_step()
        if isinstance(self.optimizer, str):
            step = self._step_without_closure(batch, **fit_params)
        else:
            step = super().train_step(batch, **fit_params)
        module.bottleneck.end_step()
        if module.begins:  # still, where the rate is zero
            module.begins = all(group["lr"] == 0 for group in self.optimizer_.param_groups)
        return step

    def drawn(self, batch: Batch, training: bool) -> Batch:
        """Return a batch with all that is random in a step on it."""
        generator = self._train_generator if training else self._valid_generator
        return self.module_.draw_for(batch, generator)

    def _step_without_closure(self, batch, **fit_params):
        """Make the step of the parent but for the closure, which no named optimiser needs."""
        self.optimizer_.zero_grad()
        step = self.train_step_single(batch, **fit_params)
        parameters = TeeGenerator(self.get_all_learnable_params())
        self.notify("on_grad_computed", named_parameters=parameters, batch=batch, training=True)
        self.optimizer_.step()
        return step

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Look at the losses of the first two steps, in the second of which there are gradients."""
        super().on_train_begin(net, X, y, **kwargs)
        self._n_looked_at, self.failed = 0, False

    def train_step_single(self, batch, **fit_params):
        """Compute the loss of a batch and its gradients; what is random was drawn before."""
        loss, terms = self._loss(batch)
        if self._n_looked_at < 2:
            self._n_looked_at += 1
            self._check_is_declared(loss)
        loss.backward()
        return {"loss": loss.detach(), "y_pred": None, "terms": terms}

    def validation_step(self, batch, **fit_params):
        """Compute the loss of a batch of held-out rows."""
        with torch.no_grad():
            loss, terms = self._loss(self.drawn(batch, training=False))
        return {"loss": loss, "y_pred": None, "terms": terms}

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        """Run all batches, then record the mean of each named term."""
        if iterator is None:
            return
        self._set_training(training)
        record, self._unheard = _EpochRecord(), _unheard(self)
        for batch in iterator:
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch, **fit_params)
            record.add(step["loss"], step["terms"], len(batch.x))
            self.notify("on_batch_end", batch=batch, training=training, **step)
        self._unheard = set()
        self.record_epoch(prefix, record.means(), len(record.sizes))

    def record_epoch(self, prefix: str, means: dict[str, float], n_batches: int) -> None:
        """Write the mean of loss, objective and each term into the history."""
        row = self.history[-1]  # each look at the history takes as long as a small product
        row.update({f"{prefix}_{name}": value for name, value in means.items()})
        self._record_best(f"{prefix}_loss")
        row[f"{prefix}_batch_count"] = n_batches

    def _record_best(self, name: str) -> None:
        """Note whether a loss is the lowest so far: what skorch's Checkpoint looks at."""
        row = self.history[-1]
        loss, best = row[name], self.lowest_losses.get(name, math.inf)
        is_best = math.isfinite(loss) and loss < best
        row[f"{name}_best"] = is_best
        self.lowest_losses[name] = loss if is_best else best

    def _check_is_declared(self, loss: torch.Tensor) -> None:
        """Raise ``TypeError`` where a loss depends on what nobody trains."""
        of_optimizer = [one for group in self.optimizer_.param_groups for one in group["params"]]
        states = [part for part in self.module_.modules() if isinstance(part, State)]
        components = [state.component for state in states] if self._n_looked_at == 1 else []
        check_loss_is_declared(loss, [*self.module_.parameters(), *of_optimizer], components)

    def _loss(self, batch: Batch) -> tuple[torch.Tensor, Terms]:
        """Return the loss of a batch, and the terms that it is the weighted sum of."""
        terms = self.module_(batch)
        return self.criterion_(terms), terms

    def __getstate__(self):
        state = super().__getstate__()
        of_training = ("_train_generator", "_valid_generator", "_n_looked_at", "start", "failed")
        return {name: value for name, value in state.items() if name not in of_training}

    def __setstate__(self, state):
        """Load on the device of the training if it is there, else on the CPU, without a word."""
        if str(state["device"]).startswith("mps") and not torch.backends.mps.is_available():
            state = {**state, "device": "cpu"}  # skorch looks after CUDA alone
        with warnings.catch_warnings(), usual_torch(training=True):
            warnings.simplefilter("ignore", DeviceWarning)
            super().__setstate__(state)


class _Interrupted(BaseException):
    """Carries an interrupt past the parent's ``partial_fit``, which takes it for an end."""

    def __init__(self, interrupt: KeyboardInterrupt):
        super().__init__(interrupt)
        self.interrupt = interrupt


def _check_is_rows(X) -> None:
    if not isinstance(X, Rows):
        raise TypeError(
            "The net of an autoencoder trains on rows that its estimator has prepared. Got "
            f"{type(X).__name__} instead. Call fit(X) or partial_fit(X) of the estimator."
        )


def _is_from_a_raise_statement(interrupt: KeyboardInterrupt) -> bool:
    """Return whether a statement raised an interrupt: one by Ctrl-C comes between two.

    Not counted are statements of the program's own handler of the signal.
    """
    handler = getattr(signal.getsignal(signal.SIGINT), "__code__", None)
    trace, codes = interrupt.__traceback__, []
    while trace is not None:
        last, code = trace.tb_lasti, trace.tb_frame.f_code
        codes.append(code)
        trace = trace.tb_next
    statement = code.co_code[last : last + 1] == bytes([dis.opmap["RAISE_VARARGS"]])
    again = isinstance(interrupt.__context__, KeyboardInterrupt)  # caught, and raised once more
    return statement and not again and handler not in codes


def _unheard(net: NeuralNet) -> set[str]:
    """Return which of the calls of a step the net and all callbacks have an empty method for.

    Found once an epoch: to make these calls takes a thirtieth of a small step.
    """
    listeners = [net, *(callback for _, callback in net.callbacks_)]
    return {name for name in _CALLS_OF_A_STEP if not any(_hears(one, name) for one in listeners)}


def _hears(listener, name: str) -> bool:
    """Return whether an object has another method than the empty one of skorch."""
    method = getattr(getattr(listener, name), "__func__", None)
    return method not in (getattr(Callback, name), getattr(NeuralNet, name))


class WeightedSum(nn.Module):
    """The criterion: a sum over named terms, each times its weight, in nats a row."""

    def forward(self, terms: Terms) -> torch.Tensor:
        """Return the loss of a step."""
        first, *others = terms.values()
        loss = first.value if first.weight == 1.0 else first.weight * first.value
        for term in others:
            loss = torch.add(loss, term.weight * term.value)
        return loss


class _EpochRecord:
    """The losses of an epoch, which stay on the device until the epoch is over."""

    def __init__(self):
        self.totals: list[torch.Tensor] = []
        self.terms: list[torch.Tensor] = []
        self.sizes: list[int] = []
        self.last: Terms = {}

    def add(self, loss: torch.Tensor, terms: Terms, n_rows: int) -> None:
        self.totals.append(loss)
        self.terms.extend([term.value.detach() for term in terms.values()])
        self.sizes.append(n_rows)
        self.last = terms

    def means(self) -> dict[str, float]:
        """Return loss, objective and each term, averaged over the rows of the epoch."""
        share = torch.tensor(self.sizes, dtype=torch.float64) / sum(self.sizes)
        values = torch.stack(self.totals + self.terms).cpu().double()  # MPS has no double
        totals, terms = values.split([len(self.totals), len(self.terms)])
        means = dict(zip(self.last, (share @ terms.view(len(share), -1)).tolist(), strict=True))
        objective = sum(self.last[name].final_weight * mean for name, mean in means.items())
        return {"loss": float(share @ totals), "objective": objective, **means}
