"""Why did a loss stop being finite? The largest number that the network saw, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import scipy.sparse as sp

from skae._blocks import cells_per_row, row_blocks
from skae._kernels.csr import Csr
from skae._scaling import Scaling
from skae._training.batches import to_csr, to_tensor
from skae._training.encoder_input import EncoderInput
from skae._training.fitted import FittedModel
from skae.exceptions import NonFiniteLossError

# Scaled columns are about one; the square of this alone throws a network off.
_LARGE = 1e3
# Ten times the usual learning rate: from here on it may be the cause beside a large number.
_HIGH_RATE = 2e-2


def advice(
    model: FittedModel,
    X,
    index: np.ndarray,
    names: Sequence[str] | None,
    resumed: bool,
    error: NonFiniteLossError | None = None,
) -> str:
    """Return the likely cause of a loss that is not finite, and the remedy that fits.

    Parameters
    ----------
    model : FittedModel
        With the last finite weights.
    X : ndarray or CSR of shape (n_samples, n_features)
    index : ndarray of int
        Rows that were trained on.
    names : sequence of str or None
        Names of the columns.
    resumed : bool
        Whether the scaling was fixed by the rows of an earlier call.
    error : NonFiniteLossError, optional
        What was found, with more than the loss of training rows to go by.
    """
    encoder_input, rate = model.net.module_.encoder_input, model.net.lr
    column, value, seen = _largest(X, index, model.scaling, encoder_input)
    too_fast = (
        "The likely cause is a learning rate that is too high: learning_rate_init is "
        f"{rate!r}, try a tenth of it."
    )
    if seen < _LARGE:
        return too_fast if error is None else _of_a_part(model, error) or too_fast
    name = "" if names is None else f" ({names[column]!r})"
    said = f"Column {column}{name} of X holds {value!r}, which is {seen:.3g} for the network. "
    if resumed:
        said += (
            "The rows of the first call fixed the scaling of the columns, and are not like these. "
            "Begin with rows that are like all, or clip the column."
        )
    elif model.spec.input_scaling is None:
        said += "Columns are not scaled: set input_scaling='auto'."
    else:
        said += "Clip the column, or take its logarithm."
    return said if rate < _HIGH_RATE else f"{said} {too_fast}"


def _of_a_part(model: FittedModel, error: NonFiniteLossError) -> str:
    """Return what is likely where the learning rate is not; empty where nothing tells."""
    if error.held_out:
        return (
            "The losses of the training rows were finite. So look at what the modules do in eval "
            "mode alone, as for answers, and at the rows that are held out: does module.eval() "
            "give finite numbers?"
        )
    return "" if error.buffer is None else _of_a_buffer(model, error.buffer)


def _of_a_buffer(model: FittedModel, buffer: str) -> str:
    owner = model.net.module_.get_submodule(buffer.rpartition(".")[0])
    return (
        f"The likely cause is what {type(owner).__name__} puts there: look for a division or a "
        "logarithm of zero, and for a sum that never stops growing."
    )


def _largest(
    X, index: np.ndarray, scaling: Scaling | None, encoder_input: EncoderInput
) -> tuple[int, float, float]:
    """Return column and value of the number that is largest for the encoder, and that number."""
    blocks = (X[index[block]] for block in row_blocks(len(index), cells_per_row(X)))
    return max((_largest_of(rows, scaling, encoder_input) for rows in blocks), key=itemgetter(2))


def _largest_of(
    X, scaling: Scaling | None, encoder_input: EncoderInput
) -> tuple[int, float, float]:
    device = encoder_input.largest.device
    scaled: Any = encoder_input.scaled(
        (to_csr if sp.issparse(X) else to_tensor)(X, scaling, device)
    )
    seen = abs(scaled.values if isinstance(scaled, Csr) else scaled).cpu().numpy()
    if not seen.size:
        return 0, 0.0, 0.0
    place = np.unravel_index(int(np.argmax(seen)), seen.shape)
    row, column = place if len(place) == 2 else (scaled.rows[place[0]], scaled.indices[place[0]])
    return int(column), float(X[int(row), int(column)]), float(seen[place])
