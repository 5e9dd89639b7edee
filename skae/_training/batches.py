"""Rows on their way to the network: dense or CSR X to shuffled batches on the device.

This file and the first layer of the network are where a sparse path takes over: everything that
trains sees a `Batch` and nothing of X.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch.utils.data import Dataset

from skae._random import torch_generator
from skae._training.scaling import Scaling

_CELLS_PER_BLOCK = 2**22


WeightedIndex = tuple[np.ndarray, np.ndarray | None]


class Batch(NamedTuple):
    """Rows for one step."""

    x: Tensor  # (n_rows, n_features), in the units of the network
    weight: Tensor | None = None  # (n_rows,), mean one over the training rows; None: all one


def to_tensor(X, scaling: Scaling | None, device: str | torch.device) -> Tensor:
    """Return rows of a dense or CSR X as a dense float32 tensor in the units of the network.

    Scaling is done in the precision of X: what is left of a column far from zero after centring
    would be lost in single precision.
    """
    rows = X.toarray() if sp.issparse(X) else X
    if scaling is not None:
        rows = scaling.apply(rows)
    with np.errstate(over="ignore"):  # said in words below
        rows = np.array(rows, dtype=np.float32, order="C")
    if not np.isfinite(rows).all():
        column = int(np.argmin(np.isfinite(rows).all(axis=0)))
        raise ValueError(
            f"Column {column} of X holds a value too large for single precision, which the network "
            "computes in. Divide the column by a constant, or take its logarithm."
        )
    return torch.from_numpy(rows).to(device)


class Rows(Dataset):
    """Training rows from which batches are taken; `take` is all that a subclass gives."""

    def __init__(self, n_rows: int, weight: np.ndarray | None, device: str):
        self.n_rows = n_rows
        self.weight = None
        if weight is not None:
            self.weight = to_tensor(weight / weight.mean(), None, device)

    def __len__(self) -> int:
        return self.n_rows

    def take(self, index: Tensor) -> Tensor:
        """Return the rows at ``index``, on the device."""
        raise NotImplementedError


class DenseRows(Rows):
    """Rows that lie on the device, converted once, in blocks."""

    def __init__(self, X, index, weight, scaling, device):
        super().__init__(len(index), weight, device)
        step = max(1, _CELLS_PER_BLOCK // X.shape[1])
        blocks = (index[i : i + step] for i in range(0, len(index), step))
        self.x = torch.empty(len(index), X.shape[1], dtype=torch.float32, device=device)
        for block, target in zip(blocks, self.x.split(step), strict=True):
            target.copy_(to_tensor(X[block], scaling, device))
        self.rows_at_once = step

    def take(self, index):
        """Return rows by one gather."""
        return self.x[index.to(self.x.device)]


class SparseRows(Rows):
    """Rows that stay in CSR and are made dense one batch at a time."""

    rows_at_once = 1

    def __init__(self, X, index, weight, scaling, device):
        super().__init__(len(index), weight, device)
        self.X, self.scaling, self.device = X[index], scaling, device

    def take(self, index):
        """Return rows as a dense tensor."""
        return to_tensor(self.X[index.numpy()], self.scaling, self.device)


def make_rows(X, index, weight, scaling, device) -> DenseRows | SparseRows:
    """Return the rows ``index`` of X, with their weights, as batches are taken from them."""
    kind = SparseRows if sp.issparse(X) else DenseRows
    return kind(X, index, weight, scaling, device)


class BatchIterator:
    """Batches of rows, in a new order in every pass where there is a seed.

    The batches of a pass are of nearly equal size, so that none of one row is left at the end. Rows
    are gathered many batches at a time; the batches are slices of that, not copies.

    Parameters
    ----------
    rows : Rows
    batch_size : int
        Largest number of rows in a batch.
    seed : int or None
        Fixes the orders; None keeps the order of the rows.
    epoch : int
        Number of passes made before this iterator existed.
    """

    def __init__(self, rows, batch_size: int, seed: int | None = None, epoch: int = 0):
        self.rows, self.seed, self.epoch = rows, seed, epoch
        n_batches = -(-len(rows) // batch_size)
        size, n_larger = divmod(len(rows), n_batches)
        self.sizes = [size + 1] * n_larger + [size] * (n_batches - n_larger)

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[Batch]:
        order, rows = self._order(), self.rows
        n_at_once = max(1, rows.rows_at_once // self.sizes[0])
        groups = [self.sizes[i : i + n_at_once] for i in range(0, len(self.sizes), n_at_once)]
        for block, sizes in zip(order.split([sum(g) for g in groups]), groups, strict=True):
            x = rows.take(block)
            if rows.weight is None:
                yield from (Batch(part) for part in x.split(sizes))
            else:
                weight = rows.weight[block.to(rows.weight.device)]
                yield from map(Batch, x.split(sizes), weight.split(sizes))

    def _order(self) -> Tensor:
        if self.seed is None:
            return torch.arange(len(self.rows))
        self.epoch += 1
        return torch.randperm(len(self.rows), generator=torch_generator(self.seed, self.epoch))


def split_rows(
    index: np.ndarray, weight: np.ndarray | None, fraction: float, seed: int
) -> tuple[WeightedIndex, WeightedIndex]:
    """Return (index, weight) of the training part and of a seeded, shuffled hold-out."""
    order = np.random.default_rng(seed).permutation(len(index))
    n_held_out = min(max(1, round(fraction * len(index))), len(index) - 1)
    parts = (np.sort(order[n_held_out:]), np.sort(order[:n_held_out]))
    train, held_out = ((index[p], None if weight is None else weight[p]) for p in parts)
    return train, held_out
