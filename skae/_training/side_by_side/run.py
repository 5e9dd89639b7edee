"""One training that may be done beside others: what it is, whether it may, and with which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from skae._training.batches import DenseRows, Rows
from skae._training.bottlenecks import PlainBottleneck, VariationalBottleneck
from skae._training.fitted import FittedModel
from skae._training.net import AutoencoderNet
from skae._training.rules import Rule
from skae._training.specification import TrainingSpec
from skae.networks import MLP
from skae.priors import StandardNormal

# Operations of a step from which on models are trained one by one: there the products of matrices
# are most of the time, and many at once are no faster (`benchmarks/together.py`).
_MOST_OPERATIONS = 2e8


@dataclass(eq=False)
class Run:
    """A net that is about to be trained, by a rule, on rows, with others held out or None."""

    model: FittedModel
    training: TrainingSpec
    rule: Rule
    rows: Rows
    held_out: Rows | None
    error: BaseException | None = None  # what this training ended with

    @property
    def net(self) -> AutoencoderNet:
        """The net."""
        return self.model.net

    @property
    def module(self) -> Any:
        """The torch module in the net."""
        return self.model.net.module_

    @property
    def n_components(self) -> int:
        """The size of the code."""
        return self.module.bottleneck.n_components

    @property
    def corrupts(self) -> bool:
        """Whether the encoder sees other rows than the likelihood."""
        return self.module.noise is not None

    @property
    def averages(self) -> bool:
        """Whether an average of the weights is judged, and kept."""
        return self.rule.averages

    @property
    def keeps_best(self) -> bool:
        """Whether the weights of the best epoch are kept."""
        return self.held_out is not None and not self.rule.averages

    @property
    def n_batches(self) -> tuple[int, int]:
        """Batches in an epoch, of training and of what is held out."""
        size = self.net.batch_size
        n_held_out = 0 if self.held_out is None else len(self.held_out)
        return -(-len(self.rows) // size), -(-n_held_out // size)


def can_be_stacked(run: Run) -> bool:
    """Return whether a training gives what it does alone when it is one of many in a pass.

    Not for what is not skae's own, of which nobody knows what it does beside others, nor for rows
    that stay sparse, nor where it does not pay.
    """
    return (
        _is_plain_training(run)
        and _is_small_and_dense(run)
        and type(run.model.spec.network) is MLP
        and _is_ours(run.model.likelihood)
        and _is_padded_for_nothing(run.module.bottleneck)
        and run.module.words is None
    )


def _is_plain_training(run: Run) -> bool:
    """Return whether nothing but the engine has a say in a training, which is the net's first."""
    training, net = run.training, run.net
    told = training.callbacks or training.verbose or training.alpha * training.l1_ratio
    return training.optimizer == "adam" and not told and not net.history and net.start is None


def _is_small_and_dense(run: Run) -> bool:
    dense = all(type(rows) is DenseRows for rows in (run.rows, run.held_out) if rows is not None)
    return dense and run.module.operations * run.net.batch_size <= _MOST_OPERATIONS


def _is_ours(component: Any) -> bool:
    return type(component).__module__.startswith("skae.")


def _is_padded_for_nothing(bottleneck: nn.Module) -> bool:
    """Return whether units of zeros change nothing: see `layers.py`."""
    if type(bottleneck) is VariationalBottleneck:
        return type(bottleneck.prior) is StandardNormal
    return type(bottleneck) is PlainBottleneck


def kind_of(run: Run) -> tuple:
    """Return what trainings must have in common to be done in one pass."""
    module, spec = run.module, run.model.spec
    bottleneck, given = module.bottleneck, module.encoder_input
    free_bits = getattr(bottleneck, "free_bits", 0.0)
    buffers = [(name, buffer.shape) for name, buffer in module.named_buffers() if is_stacked(name)]
    return (
        str(run.net.device),
        run.n_batches,
        (run.averages, run.keeps_best),
        (run.model.n_features, spec.hidden_layer_sizes, spec.activation, module.started),
        (type(bottleneck), free_bits, run.n_components if free_bits else None),
        (type(run.model.likelihood), *sorted(run.model.likelihood.get_params().items())),
        (given.logarithm, given.norm is None, module.total_cap is None),
        *buffers,
    )


def is_stacked(name: str) -> bool:
    """Return whether a buffer has a say in a training."""
    return not name.startswith(("bottleneck.", "noise_state."))
