"""Which likelihood fits the values of a table: what ``likelihood="auto"`` stands for."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

_CELLS_PER_CHUNK = 2**20

#: Share of zeros from which a table of non-negative numbers is taken to have them for a reason.
ZERO_SHARE = 0.2

# Whole numbers from here on are not told apart when values are counted.
_N_LEVELS = 1024


class _Values(NamedTuple):
    """What a block of cells holds."""

    n_cells: int
    smallest: float
    whole: bool
    levels: np.ndarray  # how often 0, 1, 2, ... occur; shape (_N_LEVELS,); whole numbers only


def choose_likelihood(X) -> str:
    """Return the name of the likelihood that suits the values of X, in blocks of rows.

    The first of these rules that holds, for all cells of the table together:

    - All values are 0 or 1: "bernoulli".
    - All values are whole numbers >= 0 that thin out as counts do: zero and one are more common
      than any other: "negative_binomial". Grey levels, ratings and ages are whole numbers too, and
      fail this.
    - No value is below zero, and at least 20 % are zeros: "zero_inflated_lognormal".
    - Otherwise, and where a value is not finite: "gaussian".

    Parameters
    ----------
    X : ndarray or CSR of shape (n_samples, n_features)
        CSR is not made dense.

    Returns
    -------
    str
        A name in `LIKELIHOODS`.

    Examples
    --------
    >>> import numpy as np
    >>> from skae.likelihoods import choose_likelihood
    >>> choose_likelihood(np.array([[0.0, 3.0, 0.0], [1.0, 0.0, 1.0]]))
    'negative_binomial'
    """
    rows = max(1, _CELLS_PER_CHUNK // max(1, X.shape[1]))
    blocks = [_values_of(X[start : start + rows]) for start in range(0, X.shape[0], rows)]
    n_cells = sum(block.n_cells for block in blocks)
    levels = sum((block.levels for block in blocks), np.zeros(_N_LEVELS, dtype=np.int64))
    # Not ">= 0" of the smallest of all: a value that is not a number must fail it.
    if not all(block.smallest >= 0 for block in blocks):
        return "gaussian"
    whole = all(block.whole for block in blocks)
    if whole and levels[:2].sum() == n_cells:
        return "bernoulli"
    if whole and levels[2:].max() < levels[:2].min():
        return "negative_binomial"
    return "zero_inflated_lognormal" if levels[0] >= ZERO_SHARE * n_cells else "gaussian"


def _values_of(block) -> _Values:
    """Return what a dense or CSR block holds; its smallest value is NaN where one is not finite."""
    n_cells = block.shape[0] * block.shape[1]
    values = block.data if sp.issparse(block) else np.ravel(block)
    n_not_stored = n_cells - len(values)
    smallest = float(values.min(initial=np.inf)) if np.isfinite(values).all() else np.nan
    whole_values = values[values == np.floor(values)]
    levels = whole_values[(whole_values >= 0) & (whole_values < _N_LEVELS)].astype(np.int64)
    counts = np.bincount(levels, minlength=_N_LEVELS)
    counts[0] += n_not_stored
    return _Values(n_cells, smallest, len(whole_values) == len(values), counts)
