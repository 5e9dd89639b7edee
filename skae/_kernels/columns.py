r"""Which columns stand for all of them where a sum over columns is estimated.

A head of frequent columns is always there; of the others, the tail, some are drawn with
probabilities :math:`\pi_j` that grow with their frequency, and a column that was drawn counts
:math:`1 / \pi_j` times. The sum is then right on average, whatever is summed (Horvitz and Thompson
1952, equation 4).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

# Every column of the tail gets this share of the mean frequency on top of its own, so that none is
# drawn so seldom that it counts for too much.
_LEAST_SHARE = 0.05


class Columns(NamedTuple):
    """Some columns, and how much each counts for."""

    column: Tensor  # (n,), int64, ascending
    weight: Tensor  # (n,)


class ColumnSampler:
    """Draws columns: a fixed head, and a systematic sample of the tail.

    Parameters
    ----------
    frequency : ndarray of shape (n_features,)
        How often each column is used.
    n_head, n_tail : int
        Numbers of columns that are always there, and that are drawn.
    device : str or torch.device
    """

    def __init__(self, frequency: np.ndarray, n_head: int, n_tail: int, device="cpu"):
        order = np.argsort(-frequency, kind="stable")
        self.head = np.sort(order[:n_head])
        self.tail = np.sort(order[n_head:])
        self.probability = inclusion_probabilities(frequency[self.tail], n_tail)
        self.device = device

    def draws(self, generator: torch.Generator) -> Iterator[Columns]:
        """Yield columns without end; the tail is put in a new order once, at the beginning.

        Systematic sampling (Madow 1949): points at distance one, with a random start, on a line
        where each column of the tail takes as much room as its probability.
        """
        order = torch.randperm(len(self.tail), generator=generator).numpy()
        ends = torch.from_numpy(self.probability[order].cumsum())
        n_tail = round(float(ends[-1])) if len(ends) else 0
        tail, probability = self.tail[order], self.probability[order]
        while True:
            start = torch.rand((), generator=generator, dtype=torch.float64)
            points = start + torch.arange(n_tail, dtype=torch.float64)
            # What rounding leaves at the far end belongs to the last column.
            found = torch.searchsorted(ends, points, right=True).clamp_(max=len(tail) - 1).numpy()
            yield self._columns(tail[found], probability[found])

    def _columns(self, tail: np.ndarray, probability: np.ndarray) -> Columns:
        index = np.concatenate([self.head, tail])
        weight = np.concatenate([np.ones(len(self.head)), 1.0 / probability])
        order = np.argsort(index)
        return Columns(
            torch.from_numpy(index[order]).to(self.device),
            torch.from_numpy(weight[order].astype(np.float32)).to(self.device),
        )


def inclusion_probabilities(frequency: np.ndarray, n_drawn: int) -> np.ndarray:
    """Return probabilities in proportion to frequency, at most one, that add up to ``n_drawn``."""
    if n_drawn >= len(frequency):
        return np.ones(len(frequency))
    size = frequency + _LEAST_SHARE * frequency.mean() + np.finfo(float).tiny
    probability = np.zeros(len(size))
    certain = np.zeros(len(size), dtype=bool)
    while True:
        free = ~certain
        probability[free] = (n_drawn - certain.sum()) * size[free] / size[free].sum()
        if (probability[free] <= 1.0).all():
            return probability
        certain |= probability >= 1.0
        probability[certain] = 1.0
