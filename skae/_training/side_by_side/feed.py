"""Batches of several models, with all that is random, on top of each other."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from skae._training.batches import Batch, BatchIterator
from skae._training.side_by_side.run import Run

Given = dict[str, Tensor]  # fields of a `Batch`, each (n_models, n_rows, ...)


class Feed:
    """Stacks the batches of an epoch, in memory that is kept from step to step.

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
    """

    def __init__(self, runs: list[Run], n_components: int, training: bool = True):
        self.runs, self.n_components, self.training = runs, n_components, training
        self.sizes = torch.tensor([self._iterator(run).sizes for run in runs]).T
        self.n_rows = int(self.sizes.max())
        self.corrupted = training and any(run.corrupts for run in runs)
        self.weighted = any(self._rows(run).weight is not None for run in runs)
        self.shares = self._shares().to(runs[0].net.device)
        self.memory: Given = {}
        self.skipped: set[int] = set()  # whose trainings have ended, and which get no more batches

    def __iter__(self) -> Iterator[Given]:
        """Yield what a step is given; the memory is the same in each."""
        live = [(place, run) for place, run in enumerate(self.runs) if place not in self.skipped]
        iterators = [iter(self._iterator(run)) for _, run in live]
        for share, batches in zip(self.shares, zip(*iterators, strict=True), strict=True):
            for (place, run), batch in zip(live, batches, strict=True):
                self._put(place, self._drawn(run, batch))
            given = dict(self.memory)
            given["weight"] = share * given["weight"] if self.weighted else share
            yield given

    def _drawn(self, run: Run, batch: Batch) -> Batch:
        """Return a batch with all that is random: no noise on rows that are held out."""
        if self.training:
            return run.net.drawn(batch, training=True)
        run.module.train(False)
        drawn = run.net.drawn(batch, training=False)
        run.module.train(True)
        return drawn

    def _rows(self, run: Run):
        return run.rows if self.training else run.held_out

    def _iterator(self, run: Run) -> BatchIterator:
        """Return the batches of an epoch that has begun, or is about to."""
        net = run.net
        if self.training:
            return BatchIterator(run.rows, net.batch_size, net.seed, max(0, len(net.history) - 1))
        return BatchIterator(run.held_out, net.batch_size)

    def _shares(self) -> Tensor:
        """Return what each row of each batch counts, (n_batches, n_models, n_rows)."""
        sizes = self.sizes[:, :, None]
        return (torch.arange(self.n_rows) < sizes) * (self.n_rows / sizes)

    def _put(self, place: int, batch: Batch) -> None:
        """Write the batch of a model where those of all stand."""
        self._write("x", place, batch.x)
        if self.corrupted:
            self._write("seen", place, batch.seen)
        if batch.noise is not None:
            self._write("noise", place, batch.noise, self.n_components)
        if self.weighted:
            ones = torch.ones(len(batch.x), device=self.shares.device)
            self._write("weight", place, ones if batch.weight is None else batch.weight)

    def _write(self, name: str, place: int, value, width: int | None = None) -> None:
        whole = self.memory.get(name)
        if whole is None:
            shape = value.shape[1:] if width is None else (width,)
            whole = value.new_zeros(len(self.runs), self.n_rows, *shape)
            self.memory[name] = whole
        target = whole[place, : len(value)]
        (target if value.ndim == 1 else target[:, : value.shape[1]]).copy_(value)
