"""What ordinary fits say of the number of latents that a search came to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from skae._blocks import row_blocks
from skae._random import Stream, derive_seed
from skae._scaling import Scaling, summarise_columns
from skae._training.auto import linear_model
from skae._training.batches import WeightedIndex
from skae._training.bottlenecks import GaussianCode
from skae._training.fitted import FittedModel
from skae._training.size_curve import IN_USE, SizeCurve, size_curve, sizes_in_doubt, typical
from skae._training.specification import ModelSpec, TrainingSpec
from skae.inits import LinearStart, Random, StartRows
from skae.priors import StandardNormal

#: Latents of any search at most.
MOST_COMPONENTS = 256
# Many latents: at least so many, and so many times as were found.
_MANY, _TIMES = 32, 4

#: Fits a model of a size to some rows: X, their places and weights, what it is, how it is trained.
Fit = Callable[..., FittedModel]


def judged(curve: SizeCurve, rows: np.ndarray, fits: Fits) -> SizeCurve:
    """Return the curve of a search, or that of two fits where these are to be believed.

    A network of many latents that does not describe new rows better than that of the search has no
    use for more. If it does, it is compared with a fit of the size found, and its latents in use
    are counted. Where there is a drop, that is asked for only if factor analysis, at which fits
    start, is better than what was found: then the network of the search has learned no more.

    Parameters
    ----------
    curve : SizeCurve
    rows : ndarray of shape (n_rows,)
        What the search says of each row held out.
    fits : Fits
    """
    found = curve.chosen
    if curve.has_drop:
        if not fits.is_gaussian:
            return curve
        linear = fits.best_linear()
        if fits.gain(linear, rows) <= 0:
            return curve
        if fits.gain(linear, fits[found].scores) <= 0 and fits[found].n_in_use == found:
            return curve
    many = fits[min(fits.most, max(_MANY, _TIMES * found))]
    if fits.gain(many.scores, rows) <= 0:
        return curve
    by_size = {each.n_in_use: each.scores for each in (many, fits[found])}
    sizes = np.array(sorted(by_size))
    scores = np.array([by_size[size] for size in sizes])
    kl = max(fits[found].kl, many.kl, key=len)
    two = size_curve(sizes, scores, fits.weight, kl, of_fits=True)
    return curve if curve.has_drop and two.chosen == found else two


class FitOfSize(NamedTuple):
    """What an ordinary fit says: log p(x) of each row held out, and the KL of each latent."""

    scores: np.ndarray
    kl: np.ndarray

    @property
    def n_in_use(self) -> int:
        """How many latents say something, one at least."""
        return max(1, int((self.kl > IN_USE).sum()))


class Fits(dict):
    """Ordinary fits by size, made when they are asked for.

    They are variational autoencoders, whoever asks: others have no price for their code.
    """

    def __init__(
        self,
        X,
        part: WeightedIndex,
        held_out: WeightedIndex,
        scaling: Scaling | None,
        spec: ModelSpec,
        training: TrainingSpec,
        fit: Fit,
    ):
        super().__init__()
        self.X, self.part, (self.index, self.weight) = X, part, held_out
        self.scaling, self.training, self.fit = scaling, training, fit
        self.is_gaussian = spec.likelihood.raw_is_linear
        self.linear = linear_model(spec.likelihood)
        starts_linear = self.is_gaussian and spec.network.has_linear_path
        self.spec = replace(
            spec,
            init=self.linear if starts_linear else Random(),
            bottleneck=GaussianCode(StandardNormal(), 1.0, None, 0.0, 1),
        )

    def __missing__(self, size: int) -> FitOfSize:
        """Make the fit."""
        model = self.fit(self.X, *self.part, replace(self.spec, n_components=size), self.training)
        self[size] = made = FitOfSize(model.scores(self.X[self.index]), model.diagnostics["kl"])
        return made

    @property
    def most(self) -> int:
        """The most latents that are tried: rows span no more dimensions than there are others."""
        return max(1, min(MOST_COMPONENTS, self.X.shape[1], len(self.part[0]) - 1))

    def gain(self, scores: np.ndarray, others: np.ndarray) -> float:
        """Return by how much more the rows held out are probable by one model than by another."""
        return float(typical(np.stack([scores, others]), self.weight) @ (scores - others))

    def best_linear(self) -> np.ndarray:
        """Return log p(x) of each row held out by the best linear model, of Gaussian columns."""
        rows = StartRows(self.X, *self.part, summarise_columns(self.X, *self.part), self.scaling)
        seed = derive_seed(self.training.seed, Stream.FACTORS_OF_SEARCH)
        scores = []
        for size in sizes_in_doubt(1, min(MOST_COMPONENTS, self.X.shape[1])):
            start = self.linear.fit(rows, int(size), "gaussian", seed)
            found = list(_log_densities(start, self.X[self.index], self.scaling))
            scores.append(np.concatenate(found))
        share = typical(np.array(scores), self.weight)
        return max(scores, key=lambda of_size: share @ of_size)


def _log_densities(start: LinearStart, X, scaling: Scaling | None) -> Iterator[np.ndarray]:
    """Yield log p(x) of rows in the units of X, a block at a time."""
    for block in row_blocks(*X.shape):
        x = X[block].toarray() if sp.issparse(X) else X[block]
        if scaling is None:
            yield start.log_density(x)
        else:
            yield start.log_density(scaling.apply(x)) + scaling.log_determinant
