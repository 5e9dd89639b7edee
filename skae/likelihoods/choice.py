"""Which likelihood fits the values of a table: what ``likelihood="auto"`` stands for."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from skae._validation import moved_inside, value_chunks
from skae.likelihoods.base import Support
from skae.likelihoods.counts import NegativeBinomial
from skae.likelihoods.real import ZeroInflatedLogNormal

#: Share of zeros from which a table of non-negative numbers is taken to have them for a reason.
ZERO_SHARE = 0.2

#: Nats that each value outside a support costs, where nobody chose the support.
OUTSIDE_COST = 1000.0

# Below this, all numbers of a table are within some millionths of what counts as rounding of zero.
_LEAST_TOLD = 1e-3

# Whole numbers from here on are not told apart when values are counted.
_N_LEVELS = 1024


def choose_likelihood(X) -> str:
    """Return the name of the likelihood that suits the values of X, in blocks of rows.

    The first of these rules that holds, for all cells of the table together, where a value within
    rounding of another (see `Likelihood.settled`) is taken for that:

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
    seen = _Seen()
    for values, _ in value_chunks(X):
        if not np.isfinite(values).all():
            return "gaussian"
        seen.add(values)
    return seen.name(n_cells=X.shape[0] * X.shape[1])


class _Seen:
    """What the rules of `choose_likelihood` go by. Numbers off by rounding are taken as meant."""

    def __init__(self):
        self.counts, self.amounts = NegativeBinomial(), ZeroInflatedLogNormal()
        self.levels = np.zeros(_N_LEVELS, dtype=np.int64)  # how often 0, 1, 2, ... occur
        self.whole = self.not_negative = True
        self.n_cells = self.n_not_zero = 0
        self.largest = 0.0

    def add(self, values: np.ndarray) -> None:
        """Look at some values, all finite."""
        whole, amounts = self.counts.settled(values), self.amounts.settled(values)
        is_whole = self.counts.inside(whole)
        self.whole &= bool(is_whole.all())
        self.not_negative &= bool(self.amounts.inside(amounts).all())
        small = whole[is_whole & (whole < _N_LEVELS)].astype(np.int64)
        self.levels += np.bincount(small, minlength=_N_LEVELS)
        self.n_cells += values.size
        self.n_not_zero += int(np.count_nonzero(amounts))
        self.largest = max(self.largest, float(np.abs(values).max(initial=0.0)))

    def name(self, n_cells: int) -> str:
        """Return the name, told how many cells there are with those that are not stored."""
        levels = self.levels.copy()
        levels[0] += n_cells - self.n_cells
        # All of a table in small units is "zero within rounding", and no table of counts.
        if self.whole and (self.largest > 0.5 or self.n_not_zero == 0):
            if levels[:2].sum() == n_cells:
                return "bernoulli"
            if levels[2:].max() < levels[:2].min():
                return "negative_binomial"
        many_zeros = n_cells - self.n_not_zero >= ZERO_SHARE * n_cells
        # In a table of such small numbers "zero within rounding" is no word about zeros.
        told = self.largest >= _LEAST_TOLD or self.largest == 0.0
        amounts = self.not_negative and many_zeros and told
        return "zero_inflated_lognormal" if amounts else "gaussian"


def brought_inside(X, likelihood: Support):
    """Return X with the nearest values inside, and what the score of each row loses by that.

    That is for a likelihood that "auto" chose by other rows. A value that is outside by more than
    rounding costs 1,000 nats and the logarithm of one plus its distance from the support: the
    farther outside a row is, the less likely, and less than any row inside that is not far out.

    Parameters
    ----------
    X : ndarray or CSR of shape (n_samples, n_features)
    likelihood : Support
        As every likelihood is.

    Returns
    -------
    X : ndarray or CSR
        X itself where every value is inside.
    cost : ndarray of shape (n_samples,)
        In nats.
    """
    cost = np.zeros(X.shape[0])

    def move(values, columns, part):
        nearest = likelihood.nearest(values)
        outside = np.nonzero(likelihood.settled(values) != nearest)
        distance = np.abs(values[outside].astype(np.float64) - nearest[outside])
        rows = outside[0] + part.start
        if sp.issparse(X):
            rows = np.searchsorted(X.indptr, rows, side="right") - 1
        np.add.at(cost, rows, OUTSIDE_COST + np.log1p(distance))
        return nearest

    return moved_inside(X, likelihood, move), cost
