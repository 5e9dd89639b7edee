"""Rows of texts on their way to the encoder: sums of the vectors of their words."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skae._kernels.csr import Csr
from skae._modules import weight_arrays
from skae._scaling import Scaling
from skae.inits import Words
from skae.networks import Affine, Layout, Network

# Parts of the mean of a column that are nothing but rounding where it was taken off and put back.
_ROUNDING = 4 * torch.finfo(torch.float32).eps


class WordFeatures(nn.Module):
    """What `Words` are, in front of an encoder: for rows in the units of the network, CSR or dense.

    Parameters
    ----------
    words : Words
    scaling : Scaling or None
        From the units of X to those of the network.
    """

    scale: Tensor
    shift: Tensor | None
    weight: Tensor
    vectors: Tensor
    centre: Tensor
    mean: Tensor

    def __init__(self, words: Words, scaling: Scaling | None):
        super().__init__()
        self.logarithm = words.logarithm
        one = torch.ones(len(words.weight), dtype=torch.float32)
        scale = one if scaling is None else _tensor(scaling.scale)
        shift = None if scaling is None or scaling.shift is None else _tensor(scaling.shift)
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)
        for name in ("weight", "vectors", "centre", "mean"):
            self.register_buffer(name, _tensor(getattr(words, name)))
        self.factor = float(words.scale)

    def forward(self, x: Tensor | Csr) -> Tensor:
        """Return features of shape (n_rows, n_vectors)."""
        if isinstance(x, Csr):
            indices = x.indices.long()
            summed = x.with_values(self._weighted(x.values, indices)).product(self.vectors)
        else:
            summed = self._weighted(x, slice(None)) @ self.vectors
        return (F.normalize(F.normalize(summed) - self.centre) - self.mean) * self.factor

    def _weighted(self, values: Tensor, columns: Tensor | slice) -> Tensor:
        """Return entries times the weights of their columns."""
        values = values * self.scale[columns]
        if self.shift is not None:
            shift = self.shift[columns]
            values = values + shift
            # What centring left of a zero would make features of a row that has none.
            values = values * (values.abs() > _ROUNDING * shift.abs())
        if self.logarithm:
            values = values.clamp(0.0, 1.0) + values.clamp_min(1.0).log()
        return values * self.weight[columns]


class WordModel(nn.Module):
    """The autoencoder of the features of texts: what the encoder is trained with.

    Parameters
    ----------
    words : Words
    scaling : Scaling or None
        From the units of X to those of the network.
    network : Network
        Makes the decoder from codes to features.
    layout : Layout
        Of the whole.
    seed : int
    """

    def __init__(
        self, words: Words, scaling: Scaling | None, network: Network, layout: Layout, seed: int
    ):
        super().__init__()
        self.network, self.features = network, WordFeatures(words, scaling)
        seen = layout._replace(n_features=words.n_vectors)
        encoder, self.decoder, _ = network.make(seen, layout.n_components, words.n_vectors, seed)
        first, last = _through_origin(words.axes.T), _through_origin(words.axes)
        network.start_linear(encoder, self.decoder, first, last)

    def loss(self, features: Tensor, code: Tensor, share: Tensor) -> Tensor:
        """Return the mean squared error of the features of clean rows, given codes."""
        return (features - self.decoder(code)).square().sum(dim=1) @ share

    def weights_to_decay(self) -> list[nn.Parameter]:
        """Return the weights that decay."""
        return weight_arrays(self.decoder)


def _through_origin(weight: np.ndarray) -> Affine:
    return Affine(_tensor(weight), _tensor(np.zeros(len(weight))))


def _tensor(values) -> Tensor:
    return torch.tensor(np.ascontiguousarray(values), dtype=torch.float32)
