"""Between a row in the units of the network and the encoder: what the encoder alone sees of it."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.preprocessing import normalize
from torch import Tensor, nn

from skae._kernels.csr import Csr
from skae._scaling import Scaling


class EncoderInput(nn.Module):
    """What the encoder alone sees: columns scaled and rows of one norm, dense or CSR.

    After the training no number is farther from zero than `MAX_RATIO` times the largest of the
    training. Beyond, a network is a line that nothing was learned about: with codes that go on
    along it some rows come back by luck, and the farther row is then the likelier one. So codes are
    finite however far out a row is, and its distance is left to the likelihood.

    Parameters
    ----------
    scaling : Scaling or None
    norm : float or None
        Euclidean norm that every row is brought to; None leaves it. Where a likelihood is
        conditional on the total of a row, there is nothing to be read from its norm, and a few rows
        of huge totals would throw the encoder off.
    """

    scale: Tensor | None
    shift: Tensor | None
    largest: Tensor

    MAX_RATIO = 30.0

    def __init__(self, scaling: Scaling | None, norm: float | None):
        super().__init__()
        scale = shift = None
        self.logarithm = scaling is not None and scaling.logarithm
        self.norm = norm
        self.changes_rows = scaling is not None or norm is not None
        if scaling is not None:
            scale = _tensor(scaling.scale)
            # Already divided by the scale.
            shift = None if scaling.shift is None else _tensor(scaling.shift / scaling.scale)
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)
        # Of the numbers of the training.
        self.register_buffer("largest", torch.zeros((), dtype=torch.float32))

    def forward(self, x: Tensor | Csr) -> Tensor | Csr:
        """Return the rows that the encoder sees; CSR rows are never shifted."""
        if self.training and not self.changes_rows:
            return x
        x = self.scaled(x)
        if isinstance(x, Csr):
            values = self._bounded(x.values)
            if self.norm is not None:
                values = values * _to_norm(self.norm, x.row_sums(values.square()))[x.rows]
            return x.with_values(values)
        rows = self._bounded(x)
        if self.norm is None:
            return rows
        return rows * _to_norm(self.norm, rows.square().sum(dim=1, keepdim=True))

    def scaled(self, x: Tensor | Csr) -> Tensor | Csr:
        """Return rows whose columns are scaled, of whatever norm."""
        if isinstance(x, Csr):
            return x.with_values(self._scaled(x.values, x.indices))
        rows = self._scaled(x, slice(None))
        return rows if self.shift is None else rows - self.shift

    def _scaled(self, values: Tensor, columns: Tensor | slice) -> Tensor:
        # Noise can take a count below zero, where there is no logarithm.
        values = values.clamp_min(0.0).log1p() if self.logarithm else values
        return values if self.scale is None else values / self.scale[columns]

    @torch.no_grad()
    def observe(self, x: Tensor | Csr) -> None:
        """Let the bound hold for training rows; called with all of them before a training."""
        x = self.scaled(x)
        values = x.values if isinstance(x, Csr) else x
        if values.numel():
            largest = torch.linalg.vector_norm(values, ord=torch.inf)
            torch.maximum(self.largest, largest, out=self.largest)

    def _bounded(self, values: Tensor) -> Tensor:
        """Return values within the bound; in training they are within it, or noise put them out."""
        if self.training:
            return values
        bound = torch.where(self.largest > 0, self.MAX_RATIO * self.largest, torch.inf)
        return values.clamp(-bound, bound)


def as_encoder_sees(X, index: np.ndarray, scaling: Scaling | None, norm: float | None):
    """Return rows as `EncoderInput` makes them of raw ones, in double precision, dense or CSR.

    None where it leaves them as they are.
    """
    if scaling is None and norm is None:
        return None
    rows = X[index]
    if scaling is not None:
        rows = scaling.apply_csr(rows) if sp.issparse(rows) else scaling.apply(rows)
    return rows if norm is None else norm * normalize(rows)


def _to_norm(norm: float, squared_norm: Tensor) -> Tensor:
    """Return the factors that bring rows to a norm; rows of zeros stay zeros."""
    smallest = torch.finfo(squared_norm.dtype).tiny
    return norm * squared_norm.clamp_min(smallest).rsqrt()


def _tensor(values: np.ndarray) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float32)
