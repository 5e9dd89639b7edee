"""Why did a loss stop being finite? The largest number that the network saw, and what to do."""

from __future__ import annotations

from operator import itemgetter

import numpy as np
import scipy.sparse as sp

from skae._blocks import cells_per_row, row_blocks
from skae._kernels.csr import Csr
from skae._scaling import Scaling
from skae._training.batches import to_csr, to_tensor

# Scaled columns are about one; the square of this alone throws a network off.
_LARGE = 1e3
# Ten times the usual learning rate: from here on it may be the cause beside a large number.
_HIGH_RATE = 2e-2


def advice(
    X,
    index: np.ndarray,
    scaling: Scaling | None,
    units,
    *,
    names,
    rate: float,
    input_scaling,
    resumed: bool,
) -> str:
    """Return the likely cause of a loss that is not finite, and the remedy that fits.

    Parameters
    ----------
    X : ndarray or CSR of shape (n_samples, n_features)
    index : ndarray of int
        Rows that were trained on.
    scaling : Scaling or None
        Between the units of X and those of the network.
    units : Units
        What the encoder alone does with the rows.
    names : sequence of str or None
        Names of the columns.
    rate : float
        The learning rate.
    input_scaling : str or None
        What the user asked for.
    resumed : bool
        Whether the scaling was fixed by the rows of an earlier call.
    """
    column, value, seen = _largest(X, index, scaling, units)
    too_fast = (
        "The likely cause is a learning rate that is too high: learning_rate_init is "
        f"{rate!r}, try a tenth of it."
    )
    if seen < _LARGE:
        return too_fast
    name = "" if names is None else f" ({names[column]!r})"
    said = f"Column {column}{name} of X holds {value!r}, which is {seen:.3g} for the network. "
    if resumed:
        said += (
            "The rows of the first call fixed the scaling of the columns, and are not like these. "
            "Begin with rows that are like all, or clip the column."
        )
    elif input_scaling is None:
        said += "Columns are not scaled: set input_scaling='auto'."
    else:
        said += "Clip the column, or take its logarithm."
    return said if rate < _HIGH_RATE else f"{said} {too_fast}"


def _largest(X, index: np.ndarray, scaling: Scaling | None, units) -> tuple[int, float, float]:
    """Return column and value of the number that is largest for the encoder, and that number."""
    blocks = (X[index[block]] for block in row_blocks(len(index), cells_per_row(X)))
    return max((_largest_of(rows, scaling, units) for rows in blocks), key=itemgetter(2))


def _largest_of(X, scaling: Scaling | None, units) -> tuple[int, float, float]:
    device = units.largest.device
    scaled = units.scaled((to_csr if sp.issparse(X) else to_tensor)(X, scaling, device))
    seen = abs(scaled.values if isinstance(scaled, Csr) else scaled).cpu().numpy()
    if not seen.size:
        return 0, 0.0, 0.0
    place = np.unravel_index(int(np.argmax(seen)), seen.shape)
    row, column = place if len(place) == 2 else (scaled.rows[place[0]], scaled.indices[place[0]])
    return int(column), float(X[int(row), int(column)]), float(seen[place])
