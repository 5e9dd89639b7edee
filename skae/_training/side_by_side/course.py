"""How far one of several trainings is, and what its net is told of it."""

from __future__ import annotations

from typing import Any

import torch

from skae._training.batches import Batch
from skae._training.callbacks import Clock, not_finite
from skae._training.rules import is_finite
from skae._training.side_by_side.run import Run


class Course:
    """How far one training is."""

    def __init__(self, run: Run):
        self.run, self.net, self.rule = run, run.net, run.rule
        self.clock = Clock(run.rule.horizon, run.n_batches[0])
        self.clock.on_train_begin(run.net)
        run.module.train()
        self.monitor = "train_objective" if run.held_out is None else "valid_objective"
        self.final_weights = _final_weights(run)
        self.ended, self.n_epochs, self.has_best = False, 0, False
        self.lowest_losses = self.net.lowest_losses.copy()

    def begin_epoch(self) -> None:
        """Begin an epoch, as the net does."""
        held_out = None if self.n_epochs else self.run.held_out  # the same noise in every epoch
        self.net.on_epoch_begin(self.net, dataset_valid=held_out)
        self.clock.tell(self.run.module.bottleneck)

    def record(self, prefix: str, means: dict[str, float], n_batches: int) -> None:
        """Write the means of an epoch into the history of the net."""
        loss = means.pop("loss")
        objective = sum(self.final_weights[name] * mean for name, mean in means.items())
        every = {"loss": loss, "objective": objective, **means}
        self.net.record_epoch(prefix, every, n_batches)

    def is_finite(self, growth: float) -> bool:
        """Count an epoch; return whether the training can go on, or note why it cannot."""
        self.n_epochs += 1
        loss = self.net.history[-1]["train_loss"]
        if is_finite(loss, growth):
            self.lowest_losses = self.net.lowest_losses.copy()
            return True
        self.run.error = not_finite(len(self.net.history), loss)
        self.net.lowest_losses = self.lowest_losses
        del self.net.history[-1]
        return False

    def observe(self, seconds: float) -> bool:
        """Show the rule an epoch; return whether it is the best, and its weights are kept."""
        row = self.net.history[-1]
        row["dur"] = seconds
        is_best = self.rule.observe(row[self.monitor])
        keeps = is_best and self.run.keeps_best
        self.has_best = self.has_best or keeps
        return keeps

    @property
    def is_over(self) -> bool:
        """Whether no more epochs are to come."""
        return self.rule.is_over or self.n_epochs >= self.rule.n_epochs


@torch.no_grad()
def _final_weights(run: Run) -> dict[str, float]:
    """Return the weight of each term in the objective, as the module itself says."""
    module = run.module
    x: Any = run.rows.take(torch.zeros(1, dtype=torch.long))
    terms = module(Batch(x, noise=x.new_zeros(1, run.n_components)))
    module.bottleneck.seen = None
    return {name: float(term.final_weight) for name, term in terms.items()}
