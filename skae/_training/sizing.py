"""How many latents are the rows worth? The search behind ``n_components="auto"``.

A network of its own with more latents than are needed is trained on a part of the rows, with a
price of a nat that falls (`bottlenecks/sizing.py`), and then compared on the others with the first
few of its latents. It says a number and is thrown away: what is fitted with that number is a model
as any other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from skae._blocks import row_blocks
from skae._modules import linear_layers
from skae._random import Stream, derive_seed, torch_generator
from skae._scaling import Scaling, summarise_columns
from skae._training.auto import choose_batch_size
from skae._training.batches import WeightedIndex, make_rows
from skae._training.bottlenecks.sizing import SizingBottleneck, SizingCode
from skae._training.build import build
from skae._training.fitted import FittedModel
from skae._training.rules import Sizing
from skae._training.size_curve import SizeCurve, size_curve, sizes_in_doubt
from skae._training.specification import ModelSpec, TrainingSpec
from skae._training.trainer import hold_out, run
from skae.exceptions import NonFiniteLossError
from skae.inits import FactorAnalysisInit, LinearStart, Random, StartRows
from skae.schedules import WarmupStableDecay

# Rows that are looked at; those held out of them are a tenth, and at least as many.
_MOST_ROWS, _FRACTION, _FEWEST_HELD_OUT = 10_000, 0.1, 20
_MOST_COMPONENTS = 256
# Steps by rows, and their bounds.
_STEPS_A_ROW, _STEPS = 1.6, (1_600, 4_000)
_RATE = 6e-3
# The first layer of the decoder is drawn as for four inputs, for few of them will be in use.
_WIDTH_AT_START = 0.5
# So many nats a column more, and factor analysis says the size.
_CLEARLY_BETTER = 0.01
# Of the search for the first price: cells, rows, and the highest.
_CELLS, _ROWS, _HIGHEST_PRICE = 2**22, (64, 1_024), 100.0


def find_size(
    X, index: np.ndarray, weight: np.ndarray | None, spec: ModelSpec, training: TrainingSpec
) -> SizeCurve:
    """Return how many latents the rows ``index`` of X are worth.

    Raises
    ------
    NonFiniteLossError
        The loss or a weight stopped being finite.
    """
    index, weight = index[:_MOST_ROWS], None if weight is None else weight[:_MOST_ROWS]
    spec = replace(
        spec,
        n_components=min(_MOST_COMPONENTS, X.shape[1]),
        init=Random(),
        bottleneck=SizingCode(),
    )
    training = _as_searched(training, len(index))
    part, held_out = hold_out(X, index, weight, training)
    model = build(X, *part, spec, training)
    _prepare(model, X, part[0])
    n_batches = -(-len(part[0]) // choose_batch_size(training.batch_size, len(part[0])))
    n_steps = np.clip(_STEPS_A_ROW * len(part[0]), *_STEPS)
    rule = Sizing(training.schedule, math.ceil(n_steps / n_batches))
    try:
        run(model, X, *part, training, rule)
    except NonFiniteLossError as error:
        raise NonFiniteLossError(
            "The loss or a weight was not finite while the number of latents was searched for "
            "(n_components='auto'). Give a number of n_components."
        ) from error
    curve = _compare(model, X, *held_out)
    if curve.has_drop or not model.likelihood.raw_is_linear:
        return curve
    linear = _compare_linear(model, X, part, held_out, curve)
    better = linear.score.max() - curve.score.max()
    return linear if better > _CLEARLY_BETTER * X.shape[1] else curve


def _as_searched(training: TrainingSpec, n_rows: int) -> TrainingSpec:
    """Return the training of the search: what a user wants of the fit itself does not apply."""
    return replace(
        training,
        batch_size="auto",  # the price falls by epochs, of which small batches leave few
        learning_rate=WarmupStableDecay(),
        learning_rate_init=_RATE,
        optimizer="adam",  # which the rate is one of
        early_stopping=True,
        validation_fraction=min(0.5, max(_FRACTION, _FEWEST_HELD_OUT / n_rows)),
        callbacks=(),
        verbose=0,
    )


def _prepare(model: FittedModel, X, index: np.ndarray) -> None:
    """Set the price at which the first latent pays, and let the decoder begin curved."""
    module = model.net.module_
    module.bottleneck.start_at(first_price(model, X, index))
    layers = linear_layers(module.decoder)
    if len(layers) > 1 and model.spec.network.adjustable:
        generator = torch_generator(model.training.seed, Stream.WEIGHTS_OF_SEARCH)
        drawn = torch.empty(layers[0].weight.shape)
        drawn.uniform_(-_WIDTH_AT_START, _WIDTH_AT_START, generator=generator)
        with torch.no_grad():
            layers[0].weight.copy_(drawn)


def first_price(model: FittedModel, X, index: np.ndarray) -> float:
    r"""Return the weight of the KL term, at least 1, below which a first latent pays.

    A latent of little influence gains as much log-likelihood as the gradients for the raw outputs,
    in units of their standard deviation, vary along its direction: the largest eigenvalue of their
    correlation matrix. (With Gaussian columns that of the rows, as in Tipping and Bishop 1999 for a
    latent to leave zero.) What that is where the rows of each column are shuffled, and so by
    chance, is taken off (as in the parallel analysis of Horn 1965).
    """
    module = model.net.module_.eval()  # nothing is drawn in a dropout of the user's
    n_rows = int(np.clip(_CELLS // X.shape[1], *_ROWS))
    rows = make_rows(X, index[:n_rows], None, model.scaling, model.net.device, csr=False)
    x: Any = rows.take(torch.arange(len(rows)))
    with torch.no_grad():
        raw = module.decoder(x.new_zeros((len(x), module.bottleneck.n_components)))
    found = _standardised(_gradients(model, x, raw))
    generator = torch_generator(model.training.seed, Stream.SHUFFLED_COLUMNS)
    order = torch.rand(found.shape, generator=generator).argsort(dim=0)
    largest, by_chance = map(_largest_eigenvalue, (found, found.gather(0, order)))
    return float(np.clip(largest - by_chance + 1.0, 1.0, _HIGHEST_PRICE))


def _gradients(model: FittedModel, x: Tensor, raw: Tensor) -> Tensor:
    """Return the gradient of the log-likelihood of each row for its raw outputs."""
    raw = raw.clone().requires_grad_()
    total = model.net.module_.observation.log_likelihood(x, raw).sum()
    return torch.autograd.grad(total, raw)[0]


def _standardised(gradients: Tensor) -> Tensor:
    """Return columns of mean zero and variance one; those that are constant, or no numbers, zero.

    On the CPU, for MPS has neither double precision nor eigenvalues.
    """
    rows = gradients.cpu().double()
    rows = rows - rows.mean(dim=0)
    deviation = rows.square().mean(dim=0).sqrt()
    return torch.where(deviation > 0, rows / deviation, 0.0).nan_to_num(0.0, 0.0, 0.0)


def _largest_eigenvalue(rows: Tensor) -> float:
    square = rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows
    return float(torch.linalg.eigvalsh(square)[-1]) / len(rows)


def _compare(model: FittedModel, X, index: np.ndarray, weight: np.ndarray | None) -> SizeCurve:
    """Return the scores of rows held out with the first few latents."""
    bottleneck: SizingBottleneck = model.net.module_.bottleneck
    sizes = sizes_in_doubt(bottleneck.fewest, bottleneck.most)
    rows, scores = X[index], []
    for size in sizes:
        bottleneck.kept = int(size)
        scores.append(model.scores(rows))
    return size_curve(sizes, np.array(scores), weight, bottleneck.kl.cpu().numpy())


def _compare_linear(
    model: FittedModel, X, part: WeightedIndex, held_out: WeightedIndex, curve: SizeCurve
) -> SizeCurve:
    """Return the scores of rows held out by factor analysis, at which a fit starts.

    Where that is better than the network of the search, this has learned its rows by heart.
    """
    rows = StartRows(X, *part, summarise_columns(X, *part), model.scaling)
    sizes = sizes_in_doubt(1, min(_MOST_COMPONENTS, X.shape[1]))
    seed = derive_seed(model.training.seed, Stream.FACTORS_OF_SEARCH)
    index, weight = held_out
    scores = []
    for size in sizes:
        start = FactorAnalysisInit().fit(rows, int(size), "gaussian", seed)
        scores.append(np.concatenate(list(_log_densities(start, X[index], model.scaling))))
    return size_curve(sizes, np.array(scores), weight, curve.kl, is_linear=True)


def _log_densities(start: LinearStart, X, scaling: Scaling | None) -> Iterator[np.ndarray]:
    """Yield log p(x) of rows in the units of X, a block at a time."""
    for block in row_blocks(*X.shape):
        x = X[block].toarray() if sp.issparse(X) else X[block]
        if scaling is None:
            yield start.log_density(x)
        else:
            yield start.log_density(scaling.apply(x)) + scaling.log_determinant
