"""Which likelihood fits the values of a table: what ``likelihood="auto"`` stands for."""

from __future__ import annotations

import numpy as np

from skae._validation import value_chunks

#: Share of zeros from which a table of non-negative numbers is taken to have them for a reason.
ZERO_SHARE = 0.2

# Whole numbers from here on are not told apart when values are counted.
_N_LEVELS = 1024


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
    n_cells, n_seen, whole = X.shape[0] * X.shape[1], 0, True
    levels = np.zeros(_N_LEVELS, dtype=np.int64)  # how often 0, 1, 2, ... occur
    for values, _ in value_chunks(X):
        if not (np.isfinite(values) & (values >= 0)).all():
            return "gaussian"
        whole_values = values[values == np.floor(values)]
        small = whole_values[whole_values < _N_LEVELS].astype(np.int64)
        levels += np.bincount(small, minlength=_N_LEVELS)
        whole &= whole_values.size == values.size
        n_seen += values.size
    levels[0] += n_cells - n_seen  # what a sparse table does not store
    return _name_for(levels, n_cells, whole)


def _name_for(levels: np.ndarray, n_cells: int, whole: bool) -> str:
    """Return the name for values >= 0, told how often each small whole number occurs."""
    if whole and levels[:2].sum() == n_cells:
        return "bernoulli"
    if whole and levels[2:].max() < levels[:2].min():
        return "negative_binomial"
    return "zero_inflated_lognormal" if levels[0] >= ZERO_SHARE * n_cells else "gaussian"
