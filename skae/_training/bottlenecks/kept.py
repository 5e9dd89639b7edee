"""The number of active units that a training brought about, kept in one that goes on without."""

from __future__ import annotations

import torch

from skae.sparsity import Sparsity, largest_dropped


class KeptNumber(Sparsity):
    """A kind of sparsity without its penalty: a bound keeps the mean number of active units a row.

    No value up to the bound counts. It is zero before the first step, where the code is that of the
    kind, and follows the value that ``n_active`` units a row are above in a batch.

    Parameters
    ----------
    sparsity : Sparsity
        Its rule is in force as well, with what it keeps. What it trained stays what it is.
    """

    penalised = False

    #: Weight of the newest batch in the exponential moving average of the bound.
    EMA_RATE = 0.05

    def __init__(self, sparsity):
        self.sparsity = sparsity

    def buffers_at_start(self, **given):
        """Return what the kind trains and keeps, and the bound."""
        # A threshold that went on being trained without its penalty would lose units.
        trained = self.sparsity.parameters_at_start(**given)
        kept = self.sparsity.buffers_at_start(**given)
        return {**trained, **kept, "bound_on_number": torch.zeros(())}

    def role(self, name):
        """Return the role that a tensor has for the kind."""
        return self.sparsity.role(name)

    def activate(self, pre, n_active, **state):
        """Return the code of the kind, of which what does not pass the bound is zero."""
        bound = state.pop("bound_on_number")
        code = self.sparsity.activate(pre, n_active, **state)
        return torch.where(code > bound, code, 0.0)

    def activate_in_training(self, pre, row_weight, n_active, **state):
        """Return the code of a step of the kind, of which what does not pass the bound is zero."""
        bound = state.pop("bound_on_number")
        code = self.sparsity.activate_in_training(pre, row_weight, n_active, **state)
        return torch.where(code > bound, code, 0.0)

    def threshold(self, pre, n_active, **state):
        """Return the larger one of the threshold of the kind and the bound."""
        bound = state.pop("bound_on_number")
        own = self.sparsity.threshold(pre, n_active, **state)
        return torch.maximum(torch.as_tensor(own).to(bound), bound)

    def buffers_after_step(self, pre, code, row_weight, n_active, **state):
        """Return those of the kind, and the bound that keeps the number in this batch."""
        bound, given = state.pop("bound_on_number"), (row_weight, n_active)
        found = self.sparsity.buffers_after_step(pre, code, *given, **state)
        values = self.sparsity.activate_in_training(pre, *given, **state)
        highest = largest_dropped(values, *given).relu()
        return {**found, "bound_on_number": torch.lerp(bound, highest, self.EMA_RATE)}
