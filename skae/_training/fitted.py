"""A net together with the scaling of its columns: rows in numpy or CSR in, numpy or CSR out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.base import clone
from torch import Tensor

from skae._kernels.csr import Csr
from skae._random import Stream, numpy_generator, torch_generator
from skae._scaling import Scaling
from skae._training.inference import map_rows
from skae._training.net import AutoencoderNet
from skae._training.optimizers import roles_of
from skae._training.size_curve import SizeCurve
from skae._training.specification import ModelSpec, TrainingSpec
from skae._training.surroundings import usual_torch
from skae._validation import of_shape
from skae.likelihoods import Likelihood
from skae.likelihoods.base import Support
from skae.likelihoods.choice import brought_inside
from skae.samplers import Sampler

# Rows are looked at no farther out than this, in the units of the network: the square of a scaled
# number, or the total of a row, is then still finite in single precision.
_FARTHEST_SCALED, _FARTHEST = 1e18, 1e30
_LARGEST = 1e300  # total of a row, of which there are no means that are not finite
_LOWEST_SCORE = float(np.finfo(np.float32).min)


class _Computable(Support):
    """Stands for the numbers that the likelihoods of unscaled rows are worked out for.

    Clipping changes the proportions in a row that is beyond all measure as a whole. What it costs
    (see `brought_inside`) keeps it from being the likelier for that.
    """

    def nearest(self, values):
        """Return clipped values."""
        return np.clip(values, -_FARTHEST, _FARTHEST)


class FittedModel:
    """A model that was trained, or is about to be: what an estimator answers with.

    Parameters
    ----------
    spec : ModelSpec
        What it is.
    training : TrainingSpec
        How it was trained last, or is about to be.
    n_features : int
    net : AutoencoderNet
    scaling : Scaling or None
        Between the units of X and those of the network, for rows as for reconstructions.
    sparse : bool
        Whether new rows are drawn as CSR.
    """

    def __init__(
        self,
        spec: ModelSpec,
        training: TrainingSpec,
        n_features: int,
        net: AutoencoderNet,
        scaling: Scaling | None,
        sparse: bool,
    ):
        self.spec, self.training = spec, training
        self.n_features, self.net = n_features, net
        self.scaling, self.sparse = scaling, sparse
        self.converged = False  # whether the last training came to an end of its own
        self.size_curve: SizeCurve | None = None  # of the search for the number of latents
        self.totals, self.n_stored = np.ones(1), 0.0
        self.training_codes: Any = None  # ndarray, once there are some
        self.n_rows = 0  # distinct ones of the last training
        self.diagnostics: dict[str, np.ndarray] = {}
        self.sampler: Sampler | None = None  # fitted, once rows were drawn

    @property
    def likelihood(self) -> Likelihood:
        """The likelihood of the fit, with what the network trained for it left out."""
        return self.spec.likelihood

    @property
    def sparse_method(self) -> str:
        """How rows are trained on; "dense" for dense ones, too."""
        return self.net.module_.plan.method

    @property
    def weight_density(self) -> float:
        """Share of weights that are not exactly zero, of those that L1 draws to zeros."""
        roles = roles_of(self.net.module_).items()
        weights = [one for one, role in roles if role == "weight"]
        n_weights = sum(one.numel() for one in weights)
        return sum(int(one.count_nonzero()) for one in weights) / n_weights if n_weights else 1.0

    def summarise_training(self, X) -> None:
        """Keep of training rows what new rows and sparse reconstructions are to resemble."""
        bottleneck = self.net.module_.bottleneck
        if bottleneck.turns and bottleneck.turn is None:
            self._turn_codes(X)
        self.training_codes, self.diagnostics = self.codes(X), self._diagnostics(X)
        if self.likelihood.conditional_on_total:
            self.totals = totals_of(X)
        self.n_stored = (X != 0).sum() / X.shape[0]

    def _turn_codes(self, X) -> None:
        """Bring codes to their principal axes, or into an order, where that is free.

        The largest comes first, and the column that a code goes with most goes up with it, as in
        `sklearn.decomposition.PCA`. Done once: codes that are trained on keep their meaning.
        """
        codes = self.codes(X).astype(np.float64)
        if not np.isfinite(codes).all():
            return
        centre = codes.mean(axis=0)
        bottleneck = self.net.module_.bottleneck
        axes = bottleneck.axes(codes - centre, self._diagnostics(X))
        loadings = X.T @ ((codes - centre) @ axes)
        if self.scaling is not None:
            loadings = loadings / self.scaling.scale[:, None]
        largest = np.abs(loadings).argmax(axis=0)
        sign = np.sign(loadings[largest, np.arange(axes.shape[1])])
        centre = centre if bottleneck.centres else np.zeros_like(centre)
        device = next(self.net.module_.parameters()).device
        bottleneck.turn_to(axes * np.where(sign == 0, 1.0, sign), centre, device)

    def history(self) -> dict[str, list[float]]:
        """Return each named term of each epoch; those of held-out rows start with "valid_"."""
        rows = self.net.history
        names = [name for row in rows for name in row if name.startswith(("train_", "valid_"))]
        return {
            name.removeprefix("train_"): [row.get(name, np.nan) for row in rows]
            for name in dict.fromkeys(names)
            if not name.endswith(("batch_count", "loss_best"))
        }

    @usual_torch()
    def codes(self, X) -> np.ndarray:
        """Return the code of each row."""
        return self._map(self.net.module_.code, X, self.scaling).astype(X.dtype, copy=False)

    @usual_torch()
    def strongest_codes(self, X, n_kept: int) -> np.ndarray:
        """Return the sparse code of each row with so many units, whatever its rule keeps."""
        code = partial(self.net.module_.strongest, n_kept=n_kept)
        return self._map(code, X, self.scaling).astype(X.dtype, copy=False)

    @usual_torch()
    def codes_of_levels(self, X) -> np.ndarray:
        """Return the codes of each row at all levels of a stack, beside each other."""
        codes = self._map(self.net.module_.codes_of_levels, X, self.scaling)
        return codes.astype(X.dtype, copy=False)

    @usual_torch()
    def variance_left(self, X) -> np.ndarray:
        """Return the mean squared error of each column, in the units of the network."""
        module = self.net.module_

        def squared_error(x: Any) -> Tensor:
            dense = x.dense() if isinstance(x, Csr) else x
            return (dense - module.mean(module.code(x))).square()

        blocks = self._blocks(squared_error, X, self.scaling)
        return sum(block.sum(axis=0, dtype=np.float64) for block in blocks) / X.shape[0]

    @usual_torch()
    def scores(self, X) -> np.ndarray:
        """Return the log-likelihood of each row, in nats, in the units of X.

        It is finite: what single precision cannot hold gets the lowest number that it can.
        """
        log_determinant = 0.0 if self.scaling is None else self.scaling.log_determinant
        cost: Any = 0.0
        if not self.likelihood.location_scale:
            X, cost = brought_inside(X, _Computable())
        scores = self._map(self.net.module_.score, X, self.scaling).astype(np.float64)
        return np.maximum(scores, _LOWEST_SCORE) + log_determinant - cost

    def _diagnostics(self, X) -> dict[str, np.ndarray]:
        """Return the mean over rows of what the bottleneck has to tell, by name."""
        module = self.net.module_
        like = next(module.parameters())
        names = module.bottleneck.diagnostics(like.new_zeros((1, module.bottleneck.n_inputs)))
        return {
            name: self._map(lambda x, of=name: module.diagnostics(x)[of], X, self.scaling).mean(0)
            for name in names
        }

    @usual_torch()
    def decode(self, codes, rows=None, sparse: bool = False):
        """Return the mean of the rows with these codes, in the units of X.

        ``rows`` are those that were encoded, for likelihoods that are given their totals; without
        them rows have the mean total of the training. With ``sparse`` the result is CSR: see
        `_kept`.
        """
        module = self.net.module_
        totals = self._totals_for(codes, rows)

        def mean(code, total):
            # Means are proportional to totals, which may be too large for single precision.
            result = module.mean(code, None if total is None else torch.ones_like(total))
            if not sparse:
                return result
            # Zeros of X are no zeros while columns are centred; NaN is what is not kept until then.
            return torch.where(self._kept(code, total, result), result, torch.nan)

        decoded = self._decoded(mean, codes, totals)
        blocks: Iterator[np.ndarray] = (self._undo(block) for block in decoded)
        if totals is not None:
            blocks = _times(blocks, totals)
        if sparse:
            blocks = (np.where(np.isnan(block), 0.0, block) for block in blocks)
        return _stack((block.astype(codes.dtype, copy=False) for block in blocks), sparse)

    @usual_torch()
    def sample(self, n_samples: int, seed: int):
        """Return new rows, of the type and format of the training rows."""
        module, likelihood = self.net.module_, self.likelihood
        codes = self._draw_codes(n_samples, seed)
        device = next(module.parameters()).device
        generator = torch_generator(seed, Stream.ROWS, device=device)
        totals = None
        if likelihood.conditional_on_total:
            chooser = numpy_generator(seed, Stream.TOTALS)
            totals = chooser.choice(self.totals, len(codes))
        blocks = self._decoded(
            lambda code, total: module.draw(code, generator, total), codes, totals
        )
        kind = likelihood.sample_dtype or np.float64
        return _stack((self._undo(block).astype(kind) for block in blocks), self.sparse)

    def _draw_codes(self, n_samples: int, seed: int) -> np.ndarray:
        """Return new codes: from a density on the training codes, or the prior."""
        if self.spec.sampler is None:
            generator = torch_generator(seed, Stream.CODES)
            return self.net.module_.bottleneck.sample(n_samples, generator).numpy()
        if self.sampler is None:
            sampler = clone(self.spec.sampler)
            sampler.fit(
                self.training_codes, numpy_generator(self.net.seed, Stream.DENSITY_OF_CODES)
            )
            self.sampler = sampler
        codes = self.sampler.sample(n_samples, numpy_generator(seed, Stream.CODES))
        return of_shape(codes, (n_samples, self.spec.size), self.sampler, "sample")

    def _totals_for(self, codes, rows) -> np.ndarray | None:
        """Return the total of each row to be decoded, where the likelihood is given totals."""
        if not self.likelihood.conditional_on_total:
            return None
        return np.full(codes.shape[0], self.totals.mean()) if rows is None else totals_of(rows)

    def _kept(self, code: Tensor, total: Tensor | None, mean: Tensor) -> Tensor:
        """Return which entries of a mean are kept in CSR: those most likely not to be zero.

        As many in a row as are expected not to be zero; where the likelihood gives zero no
        probability, the largest, as many as training rows have.
        """
        module = self.net.module_
        if self.likelihood.has_zero_mass:
            size = module.nonzero_mass(code, total)
            n_kept = size.sum(dim=1, keepdim=True).round().long()
        else:
            size = (mean - self._zero(mean)).abs()
            n_kept = torch.full_like(size[:, :1], round(self.n_stored), dtype=torch.long)
        ranked = size.sort(dim=1, descending=True).values
        smallest = ranked.gather(1, (n_kept - 1).clamp_min(0))
        return (size >= smallest) & (n_kept > 0)

    def _zero(self, like: Tensor) -> Tensor:
        """Return where the zeros of X lie in the units of the network."""
        if self.scaling is None or self.scaling.shift is None:
            return like.new_zeros(1)
        return torch.as_tensor(-self.scaling.shift / self.scaling.scale).to(like)

    def _map(self, function: Callable, X, scaling: Scaling | None) -> np.ndarray:
        return np.concatenate(list(self._blocks(function, X, scaling)))

    def _blocks(self, function: Callable, X, scaling: Scaling | None) -> Iterator[np.ndarray]:
        module = self.net.module_
        width = max(self.n_features, self.spec.n_components, module.cost.width)
        farthest = _FARTHEST_SCALED if self.likelihood.location_scale else _FARTHEST
        return map_rows(
            function,
            X,
            module,
            scaling,
            width=width,
            operations=module.operations,
            csr=module.takes_csr,
            farthest=farthest,
        )

    def _decoded(
        self, function: Callable, codes, totals: np.ndarray | None
    ) -> Iterator[np.ndarray]:
        """Yield ``function`` of codes and totals; the totals travel as one more column."""
        codes = codes.toarray() if sp.issparse(codes) else codes
        both = codes if totals is None else np.column_stack([codes, totals])
        n_outputs = self.n_features * self.likelihood.n_outputs
        module = self.net.module_
        width = max(n_outputs, both.shape[1], module.cost.width)

        def apart(rows: Any) -> Tensor:
            return function(rows, None) if totals is None else function(rows[:, :-1], rows[:, -1:])

        return map_rows(
            apart, both, module, width=width, operations=module.operations, farthest=_FARTHEST
        )

    def _undo(self, rows: np.ndarray) -> np.ndarray:
        return rows if self.scaling is None else self.scaling.undo(rows)


def totals_of(X) -> np.ndarray:
    """Return the total of each row, finite."""
    with np.errstate(over="ignore"):
        totals = np.asarray(X.sum(axis=1, dtype=np.float64)).ravel()
    return np.minimum(totals, _LARGEST)


def _times(blocks: Iterator[np.ndarray], totals: np.ndarray) -> Iterator[np.ndarray]:
    """Yield blocks of rows times their totals, in double precision."""
    start = 0
    for block in blocks:
        yield block * totals[start : start + len(block), None]
        start += len(block)


def _stack(blocks: Iterator[np.ndarray], sparse: bool):
    """Return blocks of rows as one array, or as one CSR array."""
    if sparse:
        return sp.vstack([sp.csr_array(block) for block in blocks], format="csr")
    return np.concatenate(list(blocks))
