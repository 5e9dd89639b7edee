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

from skae._kernels.csr import Csr

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


class TrueClasses:
    r"""The stored entries of rows beside a sample of columns: which lie in it, and which do not.

    The rule of sampled softmax (Bengio and Senecal 2008, "Adaptive importance sampling to
    accelerate training of a neural probabilistic language model"; Jean, Cho, Memisevic and Bengio
    2015, "On using very large target vocabulary for neural machine translation"), kept for other
    sums over columns as well: the true classes of a row, here the columns in which it has an entry,
    are always in its sum, and accidental hits, those that were drawn too, are counted once.

    Parameters
    ----------
    x : Csr
    sample : Columns

    Attributes
    ----------
    correction : Tensor of shape (n_stored,)
        How often each entry has still to be added to a sum over the sample for it to count once:
        1 where its column was not drawn, :math:`1 - 1 / \pi_j` where it was.
    outside, rows_outside : Tensor of int64
        Places of the entries whose columns were not drawn, and their rows.
    """

    def __init__(self, x: Csr, sample: Columns):
        place = torch.searchsorted(sample.column, x.indices.long())
        place = place.clamp_(max=len(sample.column) - 1)
        hit = sample.column[place] == x.indices
        self.n_rows, self.weight = len(x), sample.weight
        self.correction = 1.0 - hit * sample.weight[place]
        self.rows_hit, self.places_hit = x.rows[hit], place[hit]
        self.outside = (~hit).nonzero()[:, 0]
        self.rows_outside = x.rows[self.outside]

    def log_weight(self) -> Tensor:
        """Return the logarithm of how often each drawn column counts in each row.

        Of shape (n_rows, n_drawn): zero at accidental hits.
        """
        result = self.weight.log().repeat(self.n_rows, 1)
        result[self.rows_hit, self.places_hit] = 0.0
        return result

    def with_entries_outside(self, log_norm: Tensor, raw: Tensor) -> Tensor:
        """Return the log-sum-exp of each row over the sample with the entries outside added.

        ``log_norm`` is (n_rows,), ``raw`` the raw output at each stored entry, (n_stored,).
        """
        # In double precision no such ratio overflows.
        ratio = (raw[self.outside] - log_norm[self.rows_outside]).double().exp()
        total = ratio.new_zeros(self.n_rows).index_add_(0, self.rows_outside, ratio)
        return log_norm + total.log1p().to(log_norm.dtype)


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
