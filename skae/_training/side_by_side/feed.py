"""Batches of several models, with all that is random, on top of each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from skae._training.batches import Batch, BatchIterator
from skae._training.side_by_side.run import Run

Given = dict[str, Tensor]  # fields of a `Batch`, each (n_models, n_rows, ...)


class Feed:
    """Stacks the batches of an epoch, in memory that is kept from epoch to epoch.

    Each model has the batches and the noise that it has alone. Batches are filled up to one size
    with rows that count nothing, and so is the noise of codes that are smaller than the largest.

    Parameters
    ----------
    runs : list of Run
    n_components : int
        Of the largest code.
    training : bool, default=True
        Whether batches are of the training rows, and not of those held out.

    Attributes
    ----------
    sizes : Tensor of shape (n_batches, n_models)
    skipped : set of int
        Places of models that get no more batches.
    """

    def __init__(self, runs: list[Run], n_components: int, training: bool = True):
        self.runs, self.training, self.skipped = runs, training, set[int]()
        self.rows: list[Any] = [run.rows if training else run.held_out for run in runs]
        self.sizes = torch.tensor([self._iterator(place).sizes for place in range(len(runs))]).T
        self.n_rows = int(self.sizes.max())
        like = self.rows[0].x
        self.x = like.new_zeros(len(runs), len(self.sizes), self.n_rows, like.shape[1])
        self.seen = torch.zeros_like(self.x) if training and _any_corrupts(runs) else None
        # Written into in each step, when the one before is done.
        self.noise = like.new_zeros(len(runs), self.n_rows, n_components)
        is_filled = torch.arange(self.n_rows) < self.sizes[:, :, None]
        share = is_filled * (self.n_rows / self.sizes[:, :, None])
        self.weight = share.float().transpose(0, 1).contiguous().to(like.device)
        self.share = self.weight.clone()
        # Where in the order of an epoch the rows of a model stand; its first fills batches up.
        place_of = is_filled.transpose(0, 1).flatten(1)
        self.places = (place_of.cumsum(dim=1) - 1) * place_of
        self.targets = [  # where noise is written, by the size of a batch
            {size: self.noise[place, :size, : run.n_components] for size in sizes}
            for place, (run, sizes) in enumerate(zip(runs, self.sizes.T.tolist(), strict=True))
        ]

    def __iter__(self) -> Iterator[Given]:
        """Yield what a step is given."""
        live = [place for place in range(len(self.runs)) if place not in self.skipped]
        for place in live:
            self._gather(place)
        for number, sizes in enumerate(self.sizes.tolist()):
            given = {"x": self.x[:, number], "weight": self.weight[:, number]}
            for place in live:
                self._draw(place, number, sizes[place])
            if self.seen is not None:
                given["seen"] = self.seen[:, number]
            yield {**given, "noise": self.noise}

    def _iterator(self, place: int) -> BatchIterator:
        """Return the batches of an epoch that has begun, or is about to."""
        net = self.runs[place].net
        seed, epoch = (net.seed, max(0, len(net.history) - 1)) if self.training else (None, 0)
        return BatchIterator(self.rows[place], net.batch_size, seed, epoch)

    def _gather(self, place: int) -> None:
        """Take the rows of an epoch, in its order."""
        rows = self.rows[place]
        index = self._iterator(place).order().take(self.places[place]).to(rows.x.device)
        torch.index_select(rows.x, 0, index, out=self.x[place].flatten(0, 1))
        if rows.weight is not None:
            own = rows.weight[index].view_as(self.share[place])
            torch.mul(self.share[place], own, out=self.weight[place])

    def _draw(self, place: int, number: int, size: int) -> None:
        """Write what is random in a step of a model where that of all stands."""
        run = self.runs[place]
        if not self.training:
            run.module.train(False)
        drawn: Any = run.net.drawn(Batch(self.x[place, number, :size]), self.training)
        if not self.training:
            run.module.train(True)
        if self.seen is not None:
            self.seen[place, number, :size] = drawn.seen
        if drawn.noise is not None:
            self.targets[place][size].copy_(drawn.noise)


def _any_corrupts(runs: list[Run]) -> bool:
    return any(run.corrupts for run in runs)
