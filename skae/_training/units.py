"""What does each unit write? How the mean of a row changes with each number of its code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skae._modules import is_plain, is_plain_linear
from skae._training.fitted import FittedModel
from skae._training.surroundings import usual_torch

# Rows of a unit that are looked at, at most: the mean slope over so many is known to a tenth of its
# spread, and a thousand units of a wide table take seconds.
_MOST_ROWS = 64
# Where there are no slopes, differences over this share of a unit's usual size stand for them.
_STEP = 1e-2


def slopes_of_units(
    model: FittedModel, codes: np.ndarray, scaled: bool
) -> Iterator[np.ndarray | None]:
    """Yield for each unit what one more of it adds to the mean of each column; None for a dead one.

    That is the mean of a column of the Jacobian over rows on which the unit is not zero: over 64 of
    them, evenly spaced, where there are more; one, where all have the same. A unit is done at a
    time, so that no more is in memory than its rows.

    Parameters
    ----------
    model : FittedModel
    codes : ndarray of shape (n_rows, n_components)
    scaled : bool
        Whether in the units of the network, in which columns can be compared: each column divided
        by its scale, or where rows are not scaled, by its standard deviation. Otherwise in those of
        X, for likelihoods that are given totals of a row of the mean total.
    """
    factor = _factor(model, scaled)
    most = 1 if _is_affine(model) else _MOST_ROWS
    for unit in range(codes.shape[1]):
        rows = np.flatnonzero(codes[:, unit])
        if not len(rows):
            yield None
            continue
        some = np.unique(np.linspace(0, len(rows) - 1, most).astype(int))
        yield _mean_slope(model, codes[rows[some]], unit) * factor


def _factor(model: FittedModel, scaled: bool) -> Any:
    """Return what slopes in the units of the network are multiplied by."""
    if model.scaling is not None:
        return 1.0 if scaled else model.scaling.scale
    total = model.totals.mean() if model.likelihood.conditional_on_total else 1.0
    if not scaled:
        return total
    deviation = model.net.module.keywords["columns"].deviation
    return total / np.where(deviation > 0, deviation, np.inf)


def _is_affine(model: FittedModel) -> bool:
    """Return whether all codes have one Jacobian, for it is a matrix of weights."""
    decoder = model.net.module_.decoder
    single = type(decoder) is torch.nn.Sequential and len(decoder) == 1 and is_plain(decoder)
    return single and is_plain_linear(decoder[0]) and model.likelihood.raw_is_linear


@usual_torch(training=True)
def _mean_slope(model: FittedModel, codes: np.ndarray, unit: int) -> np.ndarray:
    """Return the mean over codes of the slope of all columns along a unit."""
    module = model.net.module_
    module.eval()
    code = torch.as_tensor(codes).to(next(module.parameters()))
    along = torch.zeros_like(code)
    along[:, unit] = 1.0
    total = torch.ones_like(code[:, :1]) if model.likelihood.conditional_on_total else None
    slope = _slope(partial(module.mean, total=total), code, along)
    return slope.double().mean(dim=0).cpu().numpy()


def _slope(mean: Callable[[Tensor], Tensor], code: Tensor, along: Tensor) -> Tensor:
    """Return how the mean of each row changes where its code goes some way.

    By the gradient of a gradient: torch's forward mode compiles for a second at its first call.
    """
    code.requires_grad_()
    try:
        found = mean(code)
        pull = torch.zeros_like(found, requires_grad=True)
        (drawn,) = torch.autograd.grad(found, code, pull, create_graph=True)
        return torch.autograd.grad(drawn, pull, along)[0]
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:  # an operation of the user's that has no second gradient
        step = _STEP * (code * along).square().mean(dim=0).sum().sqrt()
        with torch.no_grad():
            return (mean(code + step / 2 * along) - mean(code - step / 2 * along)) / step
