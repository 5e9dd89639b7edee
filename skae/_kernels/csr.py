"""CSR rows as tensors: taken, split, multiplied, on any device.

Shapes: ``indptr`` (n_rows + 1,), ``indices`` and ``values`` (n_stored,); columns ascend in a row
and no value stands twice.
"""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class ByColumn(NamedTuple):
    """The stored entries of some rows in the order of their columns."""

    columns: Tensor  # (n_used,), int64, ascending: the columns in use
    offsets: Tensor  # (n_used + 1,), where the entries of each begin
    order: Tensor  # (n_stored,), int64: places of the entries in the order of rows
    rows: Tensor  # (n_stored,), the row of each


class _Places:
    """Where entries stand, and what was worked out about it, for all rows that have them there."""

    def __init__(self, indptr: Tensor, indices: Tensor):
        self.indptr, self.indices = indptr, indices

    @cached_property
    def rows(self) -> Tensor:
        n_stored = self.indptr.diff().long()
        rows = torch.arange(len(n_stored), device=n_stored.device)
        return rows.repeat_interleave(n_stored, output_size=len(self.indices))

    @cached_property
    def by_column(self) -> ByColumn:
        columns, order = self.indices.sort(stable=True)
        used, n_stored = columns.unique_consecutive(return_counts=True)
        return ByColumn(used.long(), _offsets(n_stored), order, self.rows[order])


class Csr:
    """Sparse rows.

    Parameters
    ----------
    indptr, indices : Tensor of int
        Of one type, int32 or int64.
    values : Tensor
    n_features : int
    """

    def __init__(self, indptr: Tensor, indices: Tensor, values: Tensor, n_features: int):
        self.indptr, self.indices, self.values = indptr, indices, values
        self.n_features = n_features
        self._places = _Places(indptr, indices)

    @classmethod
    def from_scipy(cls, X, device: str | torch.device = "cpu", dtype=torch.float32) -> Csr:
        """Return the rows of a scipy CSR matrix or array with sorted columns."""
        index_type = torch.int32 if X.indices.dtype.itemsize == 4 else torch.int64
        return cls(
            torch.as_tensor(X.indptr, dtype=index_type).to(device),
            torch.as_tensor(X.indices, dtype=index_type).to(device),
            torch.as_tensor(X.data, dtype=dtype).to(device),
            X.shape[1],
        )

    @classmethod
    def from_entries(
        cls, row: Tensor, column: Tensor, value: Tensor, shape: tuple[int, int]
    ) -> Csr:
        """Return the rows that these entries make; they are sorted by row and then column."""
        n_stored = torch.bincount(row, minlength=shape[0])
        rows = cls(_offsets(n_stored), column, value, shape[1])
        rows._places.rows = row  # known already
        return rows

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and columns."""
        return len(self), self.n_features

    @property
    def device(self) -> torch.device:
        """Where the entries lie."""
        return self.values.device

    @property
    def rows(self) -> Tensor:
        """The row of each entry, int64."""
        return self._places.rows

    @property
    def by_column(self) -> ByColumn:
        """The same entries sorted by column."""
        return self._places.by_column

    def with_values(self, values: Tensor) -> Csr:
        """Return rows with other values in the same places."""
        other = Csr(self.indptr, self.indices, values, self.n_features)
        other._places = self._places
        return other

    def take(self, index: Tensor) -> Csr:
        """Return the rows at ``index``, in that order."""
        index = index.to(self.device)
        start, n_stored = self.indptr[:-1][index].long(), self.indptr.diff()[index].long()
        indptr = _offsets(n_stored)
        n_entries = int(indptr[-1])
        shift = (start - indptr[:-1]).repeat_interleave(n_stored, output_size=n_entries)
        places = shift + torch.arange(n_entries, device=self.device)
        indptr = indptr.to(self.indptr.dtype)
        return Csr(indptr, self.indices[places], self.values[places], self.n_features)

    def split(self, sizes: list[int]) -> list[Csr]:
        """Return consecutive rows in parts of these sizes, without copying entries."""
        starts = torch.tensor([0, *sizes]).cumsum(0)
        bounds = self.indptr[starts.to(self.device)].tolist()
        parts = []
        for first, last, begin, end in zip(
            starts[:-1].tolist(), starts[1:].tolist(), bounds[:-1], bounds[1:], strict=True
        ):
            indptr = self.indptr[first : last + 1] - begin
            entries = slice(begin, end)
            parts.append(Csr(indptr, self.indices[entries], self.values[entries], self.n_features))
        return parts

    def to(self, device: str | torch.device) -> Csr:
        """Return the same rows on a device."""
        if self.device == torch.device(device):
            return self
        indptr, indices, values = (p.to(device) for p in (self.indptr, self.indices, self.values))
        return Csr(indptr, indices, values, self.n_features)

    def filled_up(self, n_rows: int) -> Csr:
        """Return the same rows and then empty ones, ``n_rows`` in all."""
        missing = n_rows - len(self)
        indptr = torch.cat([self.indptr, self.indptr[-1:].expand(missing)])
        return Csr(indptr, self.indices, self.values, self.n_features)

    def totals(self) -> Tensor:
        """Return the sum of each row, of shape (n_rows, 1)."""
        return self.row_sums(self.values)[:, None]

    def row_sums(self, values: Tensor) -> Tensor:
        """Return the sum in each row of something known for each entry."""
        return _sums(values, self.rows, self.indptr)

    def column_sums(self, values: Tensor) -> Tensor:
        """Return the sum in each column in use of something known for each entry, (n_used,)."""
        by_column = self.by_column
        place = torch.arange(len(by_column.columns), device=self.device)
        place = place.repeat_interleave(by_column.offsets.diff(), output_size=len(values))
        return _sums(values[by_column.order], place, by_column.offsets)

    def dense(self) -> Tensor:
        """Return the rows as a dense tensor; for tests, and where rows are narrow."""
        rows = self.values.new_zeros(self.shape)
        rows[self.rows, self.indices.long()] = self.values
        return rows

    # Products; none of them is seen by autograd --------------------------------------------------

    @torch.no_grad()
    def product(self, matrix: Tensor) -> Tensor:
        """Return ``X @ matrix`` for a matrix of shape (n_features, k)."""
        return _weighted_sums(self.indices, self.indptr, self.values, matrix)

    @torch.no_grad()
    def transposed_product(self, matrix: Tensor) -> Tensor:
        """Return the rows of ``X.T @ matrix`` for the columns in use, (n_used, k)."""
        _, offsets, order, rows = self.by_column
        return _weighted_sums(rows, offsets, self.values[order], matrix)

    @torch.no_grad()
    def dots(self, left: Tensor, right: Tensor) -> Tensor:
        """Return ``left[i] @ right[j]`` for every entry (i, j): left (n_rows, k), right (D, k)."""
        if left.device.type == "cpu" and torch.backends.mkl.is_available() and len(self.values):
            return _sampled_product(self, left, right)
        return _gathered_dots(self, left, right)


def _offsets(sizes: Tensor) -> Tensor:
    """Return where parts of these sizes begin, and the end of the last."""
    return torch.nn.functional.pad(sizes.cumsum(0), (1, 0))


def _sums(values: Tensor, place: Tensor, offsets: Tensor) -> Tensor:
    """Return the sum of each part of a list, told the part of each value and where parts begin."""
    if values.device.type == "cpu":
        return values.new_zeros(len(offsets) - 1).index_add_(0, place, values)
    # Elsewhere index_add_ adds in an order that changes from call to call.
    every = torch.arange(len(values), device=values.device)
    return _weighted_sums(every, offsets, torch.ones_like(values), values[:, None])[:, 0]


def _weighted_sums(index: Tensor, offsets: Tensor, weights: Tensor, matrix: Tensor) -> Tensor:
    """Return the weighted sum of the rows of a matrix in each bag: the fastest public kernel."""
    if not len(index):
        return matrix.new_zeros(len(offsets) - 1, matrix.shape[1])
    return F.embedding_bag(
        index,
        matrix,
        offsets.to(index.dtype),
        mode="sum",
        per_sample_weights=weights,
        include_last_offset=True,
    )


def _sampled_product(x: Csr, left: Tensor, right: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "CSR is in beta state", once
        places = torch.sparse_csr_tensor(
            x.indptr, x.indices, torch.zeros_like(x.values), x.shape, check_invariants=False
        )
    return torch.sparse.sampled_addmm(places, left, right.T, beta=0.0).values()


def _gathered_dots(x: Csr, left: Tensor, right: Tensor, n_at_once: int = 2**18) -> Tensor:
    """Do what `_sampled_product` does, for devices and builds of torch that lack it."""
    result = torch.empty_like(x.values)
    for i in range(0, len(result), n_at_once):
        part = slice(i, i + n_at_once)
        result[part] = (left[x.rows[part]] * right[x.indices[part].long()]).sum(dim=1)
    return result
