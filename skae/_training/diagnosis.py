"""Why did a loss stop being finite? The largest number that the network saw, and what to do."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from skae._scaling import Scaling

_ROWS_PER_BLOCK = 4096
# Scaled columns are about one; the square of this alone throws a network off.
_LARGE = 1e3


def advice(
    X, index: np.ndarray, scaling: Scaling | None, names, rate: float, input_scaling, resumed: bool
) -> str:
    """Return the likely cause of a loss that is not finite, and the remedy that fits.

    Parameters
    ----------
    X : ndarray or CSR of shape (n_samples, n_features)
    index : ndarray of int
        Rows that were trained on.
    scaling : Scaling or None
        Between the units of X and those of the network.
    names : sequence of str or None
        Names of the columns.
    rate : float
        The learning rate.
    input_scaling : str or None
        What the user asked for.
    resumed : bool
        Whether the scaling was fixed by the rows of an earlier call.
    """
    column, value, seen = _largest(X, index, scaling)
    if seen < _LARGE:
        return (
            "The likely cause is a learning rate that is too high: learning_rate_init is "
            f"{rate!r}, try a tenth of it."
        )
    name = "" if names is None else f" ({names[column]!r})"
    said = f"Column {column}{name} of X holds {value!r}, which is {seen:.3g} for the network. "
    if resumed:
        return said + (
            "The rows of the first call fixed the scaling of the columns, and are not like these. "
            "Begin with rows that are like all, or clip the column."
        )
    if input_scaling is None:
        return said + "Columns are not scaled: set input_scaling='auto'."
    return said + "Clip the column, or take its logarithm."


def _largest(X, index: np.ndarray, scaling: Scaling | None) -> tuple[int, float, float]:
    """Return column and value of the number that is largest in the units of the network, and it."""
    found = (0, 0.0, 0.0)
    for start in range(0, len(index), _ROWS_PER_BLOCK):
        rows = X[index[start : start + _ROWS_PER_BLOCK]]
        if sp.issparse(rows):
            scaled = (rows if scaling is None else scaling.apply_csr(rows)).tocoo()
            if not scaled.nnz:
                continue
            place = int(np.argmax(np.abs(scaled.data)))
            row, column, seen = scaled.row[place], scaled.col[place], scaled.data[place]
        else:
            scaled = rows if scaling is None else scaling.apply(rows)
            row, column = np.unravel_index(int(np.argmax(np.abs(scaled))), scaled.shape)
            seen = scaled[row, column]
        if abs(seen) > found[2]:
            found = (int(column), float(rows[row, column]), float(abs(seen)))
    return found
