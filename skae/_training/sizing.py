"""How many latents are the rows worth? The search behind ``n_components="auto"``.

A network of its own with more latents than are needed is trained on a part of the rows, with a
price of a nat that falls (`bottlenecks/sizing.py`), and then compared on the others with the first
few of its latents. Where it sees no drop, or is worse than a linear model, ordinary fits of that
size and of many latents are compared. All of these say a number and are thrown away: what is fitted
with that number is a model as any other.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skae._modules import linear_layers
from skae._random import Stream, torch_generator
from skae._training.auto import choose_batch_size
from skae._training.batches import make_rows
from skae._training.bottlenecks.sizing import SizingBottleneck, SizingCode
from skae._training.build import build
from skae._training.fitted import FittedModel
from skae._training.rules import Sizing
from skae._training.size_curve import SizeCurve, size_curve, sizes_in_doubt
from skae._training.size_fits import MOST_COMPONENTS, Fit, Fits, judged
from skae._training.specification import ModelSpec, TrainingSpec
from skae._training.trainer import hold_out, run
from skae.exceptions import NonFiniteLossError
from skae.inits import Random
from skae.schedules import WarmupStableDecay

# Rows that are looked at; those held out of them are a tenth, and at least as many.
_MOST_ROWS, _FRACTION, _FEWEST_HELD_OUT = 10_000, 0.1, 20
# Steps by rows, and their bounds.
_STEPS_A_ROW, _STEPS = 1.6, (1_600, 4_000)
_RATE = 6e-3
# The first layer of the decoder is drawn as for four inputs, for few of them will be in use.
_WIDTH_AT_START = 0.5
# Of the search for the first price: cells, rows, and the highest.
_CELLS, _ROWS, _HIGHEST_PRICE = 2**22, (64, 1_024), 100.0


def find_size(
    X,
    index: np.ndarray,
    weight: np.ndarray | None,
    spec: ModelSpec,
    training: TrainingSpec,
    fit: Fit,
) -> SizeCurve:
    """Return how many latents the rows ``index`` of X are worth.

    Raises
    ------
    NonFiniteLossError
        The loss or a weight stopped being finite.
    """
    index, weight = index[:_MOST_ROWS], None if weight is None else weight[:_MOST_ROWS]
    training = _without_wishes(training, len(index))
    rows = hold_out(X, index, weight, training)
    try:
        model = _search(X, *rows[0], spec, training)
    except NonFiniteLossError as error:
        raise NonFiniteLossError(
            "The loss or a weight was not finite while the number of latents was searched for "
            "(n_components='auto'). Give a number of n_components."
        ) from error
    curve, best = _compare(model, X, *rows[1])
    try:
        return judged(curve, best, Fits(X, *rows, model.scaling, spec, training, fit))
    except NonFiniteLossError:  # of a fit of another number, perhaps, than is wanted
        return curve


def _without_wishes(training: TrainingSpec, n_rows: int) -> TrainingSpec:
    """Return an ordinary training: what a user wants of the fit itself does not apply."""
    return replace(
        training,
        batch_size="auto",  # the price falls by epochs, of which small batches leave few
        max_iter="auto",
        learning_rate="auto",
        learning_rate_init="auto",
        optimizer="adam",
        early_stopping="auto",
        validation_fraction=min(0.5, max(_FRACTION, _FEWEST_HELD_OUT / n_rows)),
        callbacks=(),
        verbose=0,
    )


def _search(
    X, index: np.ndarray, weight: np.ndarray | None, spec: ModelSpec, training: TrainingSpec
) -> FittedModel:
    """Return a network of more latents than are needed, of which some are in use."""
    spec = replace(
        spec,
        n_components=min(MOST_COMPONENTS, X.shape[1]),
        init=Random(),
        bottleneck=SizingCode(),
    )
    training = replace(training, learning_rate=WarmupStableDecay(), learning_rate_init=_RATE)
    model = build(X, index, weight, spec, training)
    _prepare(model, X, index)
    n_batches = -(-len(index) // choose_batch_size(training.batch_size, len(index)))
    n_steps = np.clip(_STEPS_A_ROW * len(index), *_STEPS)
    rule = Sizing(training.schedule, math.ceil(n_steps / n_batches))
    run(model, X, index, weight, training, rule)
    return model


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


def _compare(
    model: FittedModel, X, index: np.ndarray, weight: np.ndarray | None
) -> tuple[SizeCurve, np.ndarray]:
    """Return the scores of rows held out with the first few latents, and of each row the best."""
    bottleneck: SizingBottleneck = model.net.module_.bottleneck
    sizes = sizes_in_doubt(bottleneck.fewest, bottleneck.most)
    rows, scores = X[index], []
    for size in sizes:
        bottleneck.kept = int(size)
        scores.append(model.scores(rows))
    curve = size_curve(sizes, np.array(scores), weight, bottleneck.kl.cpu().numpy())
    return curve, scores[curve.score.argmax()]
