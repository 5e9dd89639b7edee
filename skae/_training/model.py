"""A net together with the scaling of its columns: rows in numpy or CSR in, numpy or CSR out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from skae._random import Stream, numpy_generator, torch_generator
from skae._scaling import Scaling, fit_scaling, summarise_columns
from skae._training.batches import to_csr, to_tensor
from skae._training.inference import map_rows
from skae._training.net import AutoencoderNet
from skae._training.plan import Plan, choose_plan
from skae._training.surroundings import usual_torch
from skae._training.trainer import choose_device, make_net
from skae.likelihoods import Likelihood
from skae.likelihoods.choice import brought_inside

_ROWS_FOR_LENGTH = 10_000
_LARGEST_TOTAL = 10.0  # medians
# Rows are looked at no farther out than this, in the units of the network: the square of a scaled
# number, or the total of a row, is then still finite in single precision.
_FARTHEST_SCALED, _FARTHEST = 1e18, 1e30
_LARGEST = 1e300  # total of a row, of which there are no means that are not finite
_LOWEST_SCORE = float(np.finfo(np.float32).min)


class _Computable(Likelihood):
    """Stands for the numbers that the likelihoods of unscaled rows are worked out for.

    Clipping changes the proportions in a row that is beyond all measure as a whole. What it costs
    (see `brought_inside`) keeps it from being the likelier for that.
    """

    def nearest(self, values):
        """Return clipped values."""
        return np.clip(values, -_FARTHEST, _FARTHEST)


class Model:
    """What a fitted estimator answers with.

    Parameters
    ----------
    net : AutoencoderNet
    scaling : Scaling or None
        Between the units of X and those of the network, for rows as for reconstructions.
    sparse : bool
        Whether new rows are drawn as CSR.
    plan : Plan
        How sparse rows are trained on.
    """

    def __init__(self, net: AutoencoderNet, scaling: Scaling | None, sparse: bool, plan: Plan):
        self.net, self.scaling, self.sparse, self.plan = net, scaling, sparse, plan
        self.totals, self.n_stored = np.ones(1), 0.0
        self.training_codes: Any = None  # ndarray, once there are some

    @property
    def likelihood(self) -> Likelihood:
        """The likelihood of the fit."""
        return self.net.module_.observation.likelihood

    def remember(self, X) -> None:
        """Keep of training rows what new rows and sparse reconstructions are to resemble."""
        self.training_codes = self.codes(X)
        if self.likelihood.given_total:
            self.totals = _totals(X)
        self.n_stored = (X != 0).sum() / X.shape[0]

    @usual_torch()
    def codes(self, X) -> np.ndarray:
        """Return the code of each row."""
        return self._map(self.net.module_.code, X, self.scaling).astype(X.dtype, copy=False)

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

    @usual_torch()
    def kl(self, X) -> np.ndarray:
        """Return the KL of each latent of each row, in nats."""
        return self._map(self.net.module_.kl, X, self.scaling)

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
    def sample(self, codes: np.ndarray, seed: int):
        """Return a drawn row for each code, of the type and format of the training rows."""
        module, likelihood = self.net.module_, self.likelihood
        device = next(module.parameters()).device
        generator = torch_generator(seed, Stream.ROWS, device=device)
        totals = None
        if likelihood.given_total:
            chooser = numpy_generator(seed, Stream.TOTALS)
            totals = chooser.choice(self.totals, len(codes))
        blocks = self._decoded(
            lambda code, total: module.draw(code, generator, total), codes, totals
        )
        kind = likelihood.sample_dtype or np.float64
        return _stack((self._undo(block).astype(kind) for block in blocks), self.sparse)

    def _totals_for(self, codes, rows) -> np.ndarray | None:
        """Return the total of each row to be decoded, where the likelihood is given totals."""
        if not self.likelihood.given_total:
            return None
        return np.full(codes.shape[0], self.totals.mean()) if rows is None else _totals(rows)

    def _kept(self, code: Tensor, total: Tensor | None, mean: Tensor) -> Tensor:
        """Return which entries of a mean are kept in CSR: those most likely not to be zero.

        As many in a row as are expected not to be zero; where the likelihood gives zero no
        probability, the largest, as many as training rows have.
        """
        module = self.net.module_
        if self.likelihood.has_zeros:
            size = module.probability_of_nonzero(code, total)
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
        module, layout = self.net.module_, self.net.module__layout
        width = max(layout.n_features, layout.n_components)
        farthest = _FARTHEST_SCALED if self.likelihood.location_scale else _FARTHEST
        return map_rows(
            function,
            X,
            module,
            scaling,
            width=width,
            csr=module.takes_csr,
            farthest=farthest,
        )

    def _decoded(
        self, function: Callable, codes, totals: np.ndarray | None
    ) -> Iterator[np.ndarray]:
        """Yield ``function`` of codes and totals; the totals travel as one more column."""
        codes = codes.toarray() if sp.issparse(codes) else codes
        both = codes if totals is None else np.column_stack([codes, totals])
        n_outputs = self.net.module__layout.n_features * self.likelihood.n_outputs
        width = max(n_outputs, both.shape[1])

        def apart(rows: Any) -> Tensor:
            return function(rows, None) if totals is None else function(rows[:, :-1], rows[:, -1:])

        return map_rows(apart, both, self.net.module_, width=width, farthest=_FARTHEST)

    def _undo(self, rows: np.ndarray) -> np.ndarray:
        return rows if self.scaling is None else self.scaling.undo(rows)


def _totals(X) -> np.ndarray:
    with np.errstate(over="ignore"):
        totals = np.asarray(X.sum(axis=1, dtype=np.float64)).ravel()
    return np.minimum(totals, _LARGEST)


def _times(blocks: Iterator[np.ndarray], totals: np.ndarray) -> Iterator[np.ndarray]:
    """Yield blocks of rows times their totals, in double precision."""
    start = 0
    for block in blocks:
        yield block * totals[start : start + len(block), None]
        start += len(block)


def _for_given_totals(X, index: np.ndarray, scaling: Scaling | None) -> dict:
    """Return what (at most 10,000) rows of given totals say of the length and the totals of rows.

    The length is the root mean square of the lengths; the largest total is ten times the median,
    beyond which a few rows would decide alone what is learned.
    """
    rows = X[index[:_ROWS_FOR_LENGTH]]
    if sp.issparse(rows):
        cells = to_csr(rows, scaling, "cpu").values
    else:
        cells = to_tensor(rows, scaling, "cpu")
    length = float(cells.double().square().sum() / rows.shape[0]) ** 0.5
    totals = _totals(rows)
    usual = np.median(totals[totals > 0]) if totals.any() else 1.0
    return {"row_length": length or 1.0, "largest_total": _LARGEST_TOTAL * float(usual)}


def _stack(blocks: Iterator[np.ndarray], sparse: bool):
    """Return blocks of rows as one array, or as one CSR array."""
    if sparse:
        return sp.vstack([sp.csr_array(block) for block in blocks], format="csr")
    return np.concatenate(list(blocks))


def build_model(
    X,
    index: np.ndarray,
    weight: np.ndarray | None,
    likelihood: Likelihood,
    input_scaling,
    sparse_method: str,
    *,
    device: str,
    **net,
) -> Model:
    """Return a model with its first weights, its scaling fixed by the rows ``index`` of X.

    ``net`` holds the other arguments of `make_net`. A location-scale family is trained on scaled
    rows; for any other likelihood the target is X itself, and only what the encoder sees is scaled.
    """
    sparse = sp.issparse(X)
    if input_scaling == "auto":
        input_scaling = likelihood.default_scaling(sparse)
    columns = summarise_columns(X, index, weight)
    scaling = fit_scaling(input_scaling, columns, sparse)
    of_rows, of_encoder = (scaling, None) if likelihood.location_scale else (None, scaling)
    if of_encoder is not None and sparse:
        of_encoder = of_encoder._replace(shift=None)  # zeros are zeros for the likelihood
    if of_rows is not None:
        if of_rows.logarithm:
            raise ValueError(
                "input_scaling='log1p' is for likelihoods of counts, where it changes what the "
                f"encoder sees. Got likelihood {likelihood}, which is scaled with X. Take the "
                "logarithm of X yourself, or choose another input_scaling, such as 'auto'."
            )
        columns = columns._replace(
            mean=of_rows.apply(columns.mean), deviation=columns.deviation / of_rows.scale
        )
    plan = choose_plan(sparse_method, X, likelihood, columns, choose_device(device))
    made = make_net(
        likelihood=likelihood,
        columns=columns,
        encoder_scaling=of_encoder,
        **(_for_given_totals(X, index, of_encoder) if likelihood.given_total else {}),
        csr=plan.csr,
        device=device,
        **net,
    )
    return Model(made, of_rows, sparse, plan)
