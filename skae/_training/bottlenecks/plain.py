"""The code is the encoder's output (plain and denoising autoencoders)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skae._training.bottlenecks.base import Bottleneck, BottleneckSpec, Term
from skae.networks import Layout


class PlainBottleneck(Bottleneck):
    """The code is the encoder's output."""

    turns = True

    def forward(self, h, step):
        """Return the reconstruction."""
        return {"reconstruction": Term(step.reconstruction(h))}

    def code(self, h):
        """Return the encoder's output, on its principal axes."""
        return self.outer(h)

    def score(self, h, log_likelihood):
        """Return log p(x | code of x)."""
        return log_likelihood(h)

    def axes(self, codes, told):
        """Return the principal axes of the codes, the largest first."""
        return np.linalg.eigh(codes.T @ codes)[1][:, ::-1]


@dataclass(frozen=True, eq=False)
class PlainCode(BottleneckSpec):
    """Makes a `PlainBottleneck`."""

    code = "plain"

    @property
    def settles_at(self) -> float:
        """The objective is looked at from the start."""
        return 0.0

    def build(self, layout: Layout, seed: int) -> Bottleneck:
        """Return the bottleneck."""
        return PlainBottleneck(layout.n_components)
