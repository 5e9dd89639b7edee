"""Why did a loss stop being finite? Words for the error, from the rows of that training."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from skae._kernels.csr import Csr
from skae._scaling import Scaling
from skae._training.batches import to_csr, to_tensor

_CELLS_PER_BLOCK, _ROWS_PER_BLOCK = 2**20, 4096
# Columns that are scaled as they should be stay below some tens of units; where one is larger than
# this, it is to blame. A learning rate is, where no column is, or where it is above this one.
_LARGE, _HIGH_RATE = 100.0, 0.02


class Cell(NamedTuple):
    """The cell of some rows that is the farthest from zero for the encoder."""

    column: int
    value: float  # in the units of X
    scaled: float  # in those of the network


def advice(net, X, index, scaling: Scaling | None, goes_on: bool, feature_names=None) -> str:
    """Return what is to blame for a loss that is not finite, and what to do.

    Parameters
    ----------
    net : AutoencoderNet
    X : ndarray or CSR of shape (n_samples, n_features)
    index : ndarray of int
        The rows trained on.
    scaling : Scaling or None
        Of the rows for the network.
    goes_on : bool
        Whether other rows were trained on before these, and fixed the scaling.
    feature_names : sequence of str, optional
    """
    units = net.module_.encoder_units
    cell = _largest_cell(X, index, scaling, units)
    name = "" if feature_names is None else f" ({feature_names[cell.column]!r})"
    words = [
        f"The largest value for the network is {cell.scaled:.3g}: column {cell.column}{name} of X, "
        f"which holds {cell.value!r}."
    ]
    is_scaled = scaling is not None or units.scale is not None or units.logarithm
    if abs(cell.scaled) <= _LARGE:
        words.append("That is not much.")
    elif not is_scaled:
        words.append("Columns are not scaled: try input_scaling='auto'.")
    elif goes_on:
        words.append(
            "The rows of the first call fixed the scaling of columns, and that column was much "
            "smaller in them. Start anew with rows that represent all the others, or bring the "
            "column to a range that you know yourself, by its logarithm for example."
        )
    else:
        words.append("Clip that column, or take its logarithm.")
    if abs(cell.scaled) <= _LARGE or net.lr > _HIGH_RATE:
        words.append(
            "The likely cause is a learning rate that is too high: learning_rate_init is "
            f"{net.lr!r}, try a tenth of it."
        )
    return " ".join(words)


def _largest_cell(X, index, scaling, units) -> Cell:
    step = _ROWS_PER_BLOCK if sp.issparse(X) else max(1, _CELLS_PER_BLOCK // X.shape[1])
    blocks = (index[start : start + step] for start in range(0, len(index), step))
    return max((_largest_of(X[rows], scaling, units) for rows in blocks), key=lambda c: abs(c[2]))


def _largest_of(X, scaling, units) -> Cell:
    device = next(iter(units.buffers())).device
    scaled = units.scaled((to_csr if sp.issparse(X) else to_tensor)(X, scaling, device))
    values = (scaled.values if isinstance(scaled, Csr) else scaled).cpu().numpy()
    if not values.size:
        return Cell(0, 0.0, 0.0)
    place = np.unravel_index(int(np.argmax(np.abs(values))), values.shape)
    if isinstance(scaled, Csr):
        row, column = int(scaled.rows[place[0]]), int(scaled.indices[place[0]])
    else:
        row, column = int(place[0]), int(place[1])
    return Cell(column, float(X[row, column]), float(values[place]))
