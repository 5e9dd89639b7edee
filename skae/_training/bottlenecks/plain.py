"""The code is the encoder's output (plain and denoising autoencoders)."""

from __future__ import annotations

from dataclasses import dataclass

from skae._training.bottlenecks.base import Bottleneck, BottleneckSpec, Term
from skae.networks import Layout


class PlainBottleneck(Bottleneck):
    """The code is the encoder's output."""

    def forward(self, h, step):
        """Return the reconstruction."""
        return {"reconstruction": Term(step.reconstruction(h))}

    def code(self, h):
        """Return the encoder's output."""
        return h


@dataclass(frozen=True, eq=False)
class PlainCode(BottleneckSpec):
    """Makes a `PlainBottleneck`."""

    @property
    def settles_at(self) -> float:
        """The objective is looked at from the start."""
        return 0.0

    def build(self, layout: Layout, seed: int) -> Bottleneck:
        """Return the bottleneck."""
        return PlainBottleneck(layout.n_components)
