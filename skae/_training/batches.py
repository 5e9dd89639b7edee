"""Rows on their way to the network: dense or CSR X to shuffled batches on the device.

Everything that trains sees a `Batch` and nothing of X.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch.utils.data import Dataset

from skae._blocks import row_blocks, rows_per_block, slices
from skae._kernels.columns import Columns, ColumnSampler
from skae._kernels.csr import Csr
from skae._random import Stream, numpy_generator, torch_generator
from skae._scaling import Scaling

# CSR rows lie on a GPU whole where they take no more than this share of what is free there.
_SHARE_OF_DEVICE = 0.5

WeightedIndex = tuple[np.ndarray, np.ndarray | None]


class Batch(NamedTuple):
    """Rows for one step."""

    x: Tensor | Csr  # (n_rows, n_features), in the units of the network
    weight: Tensor | None = None  # (n_rows,), mean one over the training rows; None: all one
    columns: Columns | None = None  # those that stand for all in the loss; None: all
    # What was drawn for the step: the rows as the encoder sees them, and the noise of their codes.
    seen: Tensor | Csr | None = None
    noise: Tensor | None = None


def to_tensor(
    X, scaling: Scaling | None, device: str | torch.device, farthest: float | None = None
) -> Tensor:
    """Return rows of a dense or CSR X as a dense float32 tensor in the units of the network.

    Scaling is done in the precision of X: what is left of a column far from zero after centring
    would be lost in single precision. Where ``farthest`` is given, numbers farther from zero are
    clipped to it; without it, what single precision cannot hold is an error.
    """
    rows = X.toarray() if sp.issparse(X) else X
    with np.errstate(over="ignore"):  # clipped, or said in words
        scaled = rows if scaling is None else scaling.apply(rows)
    scaled = _single_precision(scaled, farthest, lambda at: (at[1], rows[at]))
    return torch.from_numpy(scaled).to(device)


def to_csr(
    X, scaling: Scaling | None, device: str | torch.device, farthest: float | None = None
) -> Csr:
    """Return rows of a CSR X in single precision and in the units of the network.

    Columns that the scaling shifts, and no others, hold entries where X has none.
    """
    with np.errstate(over="ignore"):
        rows = X if scaling is None else scaling.apply_csr(X)

    def cell(at):
        row = np.searchsorted(rows.indptr, at[0], side="right") - 1
        return rows.indices[at[0]], X[row, rows.indices[at[0]]]

    values = _single_precision(rows.data, farthest, cell)
    return Csr.from_scipy(type(rows)((values, rows.indices, rows.indptr), shape=X.shape), device)


def _single_precision(
    values: np.ndarray, farthest: float | None, cell_at: Callable[[tuple], tuple]
) -> np.ndarray:
    """Return float32 values; ``cell_at`` a place gives column and value of X, for the error."""
    if farthest is not None:
        values = np.clip(values, -farthest, farthest)
    with np.errstate(over="ignore"):  # said in words below
        values = np.array(values, dtype=np.float32, order="C")
    finite = np.isfinite(values)
    if not finite.all():
        column, value = cell_at(np.unravel_index(int(np.argmin(finite)), values.shape))
        raise ValueError(
            f"Column {column} of X holds {float(value)!r}, too large for single precision, which "
            "the network computes in. Divide the column by a constant, or take its logarithm."
        )
    return values


class Rows(Dataset, ABC):
    """Training rows from which batches are taken; `take` is all that a subclass gives."""

    def __init__(self, n_rows: int, weight: np.ndarray | None, device: str):
        self.n_rows = n_rows
        self.weight = None
        if weight is not None:
            self.weight = to_tensor(weight / weight.mean(), None, device)

    def __len__(self) -> int:
        return self.n_rows

    @abstractmethod
    def take(self, index: Tensor) -> Tensor | Csr:
        """Return the rows at ``index``, on the device."""

    def column_draws(self, generator: torch.Generator) -> Iterator[Columns | None]:
        """Yield, for each batch of a training pass, the columns that stand for all."""
        return itertools.repeat(None)


class DenseRows(Rows):
    """Rows that lie on the device, converted once, in blocks."""

    def __init__(self, X, index, weight, scaling, device):
        super().__init__(len(index), weight, device)
        self.x = torch.empty(len(index), X.shape[1], dtype=torch.float32, device=device)
        for block in row_blocks(*self.x.shape):
            self.x[block] = to_tensor(X[index[block]], scaling, device)
        self.rows_at_once = rows_per_block(X.shape[1])

    def take(self, index):
        """Return rows by one gather."""
        return self.x[index.to(self.x.device)]


class DensifiedRows(Rows):
    """Rows that stay in CSR and are made dense one batch at a time."""

    rows_at_once = 1

    def __init__(self, X, index, weight, scaling, device):
        super().__init__(len(index), weight, device)
        self.X, self.scaling, self.device = X[index], scaling, device

    def take(self, index):
        """Return rows as a dense tensor."""
        return to_tensor(self.X[index.numpy()], self.scaling, self.device)


class CsrRows(Rows):
    """Rows that are CSR from here to the loss; on a GPU they lie there if they fit."""

    def __init__(self, X, index, weight, scaling, device, n_sampled: tuple[int, int] | None = None):
        super().__init__(len(index), weight, device)
        X = X[index]
        X.eliminate_zeros()
        self.x = to_csr(X, scaling, "cpu")
        n_stored = len(self.x.values)
        n_bytes = 2 * n_stored * (4 + X.indices.dtype.itemsize)  # with a copy in another order
        if _fits(device, n_bytes):
            self.x = self.x.to(device)
        self.device = device
        self.rows_at_once = rows_per_block(n_stored / len(index))
        self.sampler = None
        if n_sampled is not None:
            frequency = np.bincount(X.indices, minlength=X.shape[1]).astype(float)
            self.sampler = ColumnSampler(frequency, *n_sampled, device=device)

    def take(self, index):
        """Return rows by one gather of their entries."""
        return self.x.take(index).to(self.device)

    def column_draws(self, generator):
        """Yield columns drawn anew for each batch, where they are sampled."""
        if self.sampler is None:
            return itertools.repeat(None)
        return self.sampler.draws(generator)


def _fits(device: str | torch.device, n_bytes: int) -> bool:
    if torch.device(device).type != "cuda":
        return True
    return n_bytes <= _SHARE_OF_DEVICE * torch.cuda.mem_get_info(device)[0]


def make_rows(
    X,
    index: np.ndarray,
    weight: np.ndarray | None,
    scaling: Scaling | None,
    device: str,
    csr: bool = False,
    n_sampled: tuple[int, int] | None = None,
) -> Rows:
    """Return the rows ``index`` of X, with their weights, as batches are taken from them.

    ``csr`` says whether the network takes CSR batches, and ``n_sampled`` how many columns of the
    head and of the tail stand for all of them in the loss.
    """
    if not sp.issparse(X):
        return DenseRows(X, index, weight, scaling, device)
    if not csr:
        return DensifiedRows(X, index, weight, scaling, device)
    return CsrRows(X, index, weight, scaling, device, n_sampled)


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
        rows, generator = self.rows, self._generator()
        order, columns = self._order(generator), self._columns(generator)
        n_at_once = max(1, rows.rows_at_once // self.sizes[0])
        groups = [self.sizes[part] for part in slices(len(self.sizes), n_at_once)]
        for block, sizes in zip(order.split([sum(g) for g in groups]), groups, strict=True):
            x, weight = rows.take(block), itertools.repeat(None)
            if rows.weight is not None:
                weight = rows.weight[block.to(rows.weight.device)].split(sizes)
            # The columns come last: one more would be drawn where a block of rows ends.
            yield from map(Batch, x.split(sizes), weight, columns)

    def order(self) -> Tensor:
        """Return the rows of the next pass, in its order; it is then made."""
        return self._order(self._generator())

    def _generator(self) -> torch.Generator | None:
        if self.seed is None:
            return None
        self.epoch += 1
        return torch_generator(self.seed, Stream.BATCHES, self.epoch)

    def _order(self, generator: torch.Generator | None) -> Tensor:
        if generator is None:
            return torch.arange(len(self.rows))
        return torch.randperm(len(self.rows), generator=generator)

    def _columns(self, generator: torch.Generator | None) -> Iterator[Columns | None]:
        if generator is None:
            return itertools.repeat(None)
        return self.rows.column_draws(generator)


def split_rows(
    index: np.ndarray, weight: np.ndarray | None, fraction: float, seed: int, most: int
) -> tuple[WeightedIndex, WeightedIndex]:
    """Return (index, weight) of the training part and of a seeded, shuffled hold-out.

    No more than ``most`` rows are held out.
    """
    order = numpy_generator(seed).permutation(len(index))
    n_held_out = min(max(1, round(fraction * len(index))), len(index) - 1, most)
    parts = (np.sort(order[n_held_out:]), np.sort(order[:n_held_out]))
    train, held_out = ((index[p], None if weight is None else weight[p]) for p in parts)
    return train, held_out
