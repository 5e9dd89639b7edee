"""Where the score of a posterior looks: points that stand for the expectation over it."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.special import gammaincinv
from torch import Tensor

from skae._random import Stream, torch_generator

# What the score of one row may decode.
_DECODED_CELLS = 2**20


def choose_n_points(n_features: int) -> int:
    """Return the points of `VariationalBottleneck.score` for rows of so many columns.

    32, and in tables of more than 32,768 columns as many as decode a million cells a row, an even
    number of at least 4.
    """
    return min(32, max(4, _DECODED_CELLS // n_features // 2 * 2))


def most_points_of_divergence(n_components: int) -> int:
    """Return the points for the mean of a divergence that has no closed form.

    Nothing is decoded there, so that a whole basis can be had: 32, or two a component, up to 256.
    """
    return max(32, min(2 * n_components, 256))


def normal_points(n_points: int, n_components: int, seed: int) -> Tensor:
    """Return standard normal draws, fixed by the seed."""
    points = torch.empty(n_points, n_components, dtype=torch.float32)
    return points.normal_(generator=torch_generator(seed, Stream.SCORE_POINTS))


def cubature_points(n_components: int, most: int, seed: int) -> Tensor:
    r"""Return points whose mean stands for a standard normal expectation in k dimensions.

    On each of several spheres, the points :math:`\pm r q_i` with an orthonormal basis :math:`q_i`
    that is turned at random. The radii :math:`r` are the middle quantiles of the chi distribution
    in equal parts, scaled so that the mean of :math:`r^2` is k: with whole bases the rule is then
    exact for polynomials of degree three (as that of Arasaratnam and Haykin 2009, equation 13, with
    one sphere), so the bound is exact for a linear decoder with Gaussian noise. The random turns
    are those of Genz and Monahan (1998). Where k is more than half of ``most``, one sphere has a
    part of the basis.
    """
    generator = torch_generator(seed, Stream.SCORE_POINTS)
    n_spheres = max(1, most // (2 * n_components))
    shares = (np.arange(n_spheres) + 0.5) / n_spheres
    radii = np.sqrt(2.0 * gammaincinv(n_components / 2, shares))  # quantiles of chi
    radii *= math.sqrt(n_components / np.square(radii).mean())
    points = [radius * _turned_basis(n_components, generator)[: most // 2] for radius in radii]
    directions = torch.cat(points)
    return torch.cat([directions, -directions]).float()


def _turned_basis(n_components: int, generator: torch.Generator) -> Tensor:
    """Return an orthonormal basis in the rows, uniform over all rotations (Mezzadri 2007)."""
    square = torch.empty(n_components, n_components, dtype=torch.float64)
    q, r = torch.linalg.qr(square.normal_(generator=generator))
    return (q * r.diagonal().sign()).T
