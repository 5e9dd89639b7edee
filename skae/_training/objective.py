"""The objective: minus the log-likelihood of a row plus the terms of the bottleneck, by name."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from skae._training.batches import Batch
from skae._training.module import Output


class Loss(NamedTuple):
    """A loss to minimise, and what it is made of."""

    total: Tensor  # scalar, nats a row
    terms: dict[str, Tensor]  # unweighted, by name
    final_weights: dict[str, float]  # of each term in the objective that decides about stopping


class Objective(nn.Module):
    """Composes the loss of a batch: a sum over features, a weighted mean over rows, in nats."""

    def forward(self, output: Output, batch: Batch) -> Loss:
        """Return the loss with its named terms."""
        total, terms = output.reconstruction, {"reconstruction": output.reconstruction}
        final_weights = {"reconstruction": 1.0}
        for name, term in output.terms.items():
            total = total + term.weight * term.value
            terms[name] = term.value
            final_weights[name] = term.final_weight
        return Loss(total, terms, final_weights)
