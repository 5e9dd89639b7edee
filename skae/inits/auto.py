"""What init="auto" is for codes without a prior."""

from __future__ import annotations

from skae.inits.base import Init
from skae.inits.cooccurrence import CooccurrenceInit
from skae.inits.pca import PCAInit
from skae.inits.rows import StartRows

# Tables without negative values, of which no more than this share is not zero, with so many rows
# and columns, are like texts.
_MOST_FILLED, _FEWEST_ROWS, _FEWEST_COLUMNS = 0.1, 100, 100


class AutoInit(Init):
    """Co-occurrence for tables like texts, else principal components.

    What ``init="auto"`` is for `skae.AutoencoderTransformer` and `skae.DenoisingAETransformer`.
    Like texts are tables of at least 100 distinct rows and 100 columns in use without negative
    values, of which at most a tenth is not zero, dense or sparse, in which some two columns are
    filled in one row. A training that begins with `partial_fit` does not start at co-occurrence:
    columns that the first rows do not use would never count.

    Parameters
    ----------
    linear : bool, default=True
        Whether other tables start at principal components (as `skae.AutoencoderTransformer` does);
        else their start is random (as `skae.DenoisingAETransformer` does).
    whole : bool, default=True
        Whether the rows that a training starts with are all of them.

    See Also
    --------
    CooccurrenceInit : For tables like texts.
    PCAInit : For others.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import AutoencoderTransformer
    >>> from skae.inits import AutoInit
    >>> X, _ = load_iris(return_X_y=True)
    >>> AutoencoderTransformer(2, init=AutoInit(), max_iter=50, tol=0.1).fit(
    ...     X
    ... ).n_components_
    2
    """

    _parameter_constraints: dict = {"linear": ["boolean"], "whole": ["boolean"]}

    def __init__(self, linear=True, whole=True):
        self.linear = linear
        self.whole = whole

    def for_parts(self):
        """Return a start that does not need all rows."""
        return AutoInit(self.linear, whole=False)

    def fit(self, rows, n_components, code, seed):
        """Return the start of the kind that suits the rows; see `Init.fit`."""
        start = None
        if self.whole and is_like_texts(rows):
            start = CooccurrenceInit().fit(rows, n_components, code, seed)
        if start is None and self.linear:
            start = PCAInit().fit(rows, n_components, code, seed)
        return start


def is_like_texts(rows: StartRows) -> bool:
    """Return whether rows are like counts of words, told by their values and not by their format.

    Non-negative and mostly zero, of many columns.
    """
    used = rows.used[rows.used > 0]  # an empty column says nothing
    if len(rows.index) < _FEWEST_ROWS or len(used) < _FEWEST_COLUMNS:
        return False
    return bool((rows.smallest >= 0).all() and used.mean() <= _MOST_FILLED)
