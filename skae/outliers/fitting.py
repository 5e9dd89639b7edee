"""What a member of the ensemble learns, and from which rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.utils.validation import _check_sample_weight

from skae.outliers.deviations import Deviations, Recipe, count_copies
from skae.outliers.ensemble import Member

_MOST_REPEATED = 1_000_000


def fit_member(
    X,
    train: np.ndarray,
    seed: int,
    references: tuple[np.ndarray, np.ndarray],
    recipe: Recipe,
    combined: bool,
    fit_estimator: Callable,
) -> Member:
    """Learn from some of the rows; others among the references are only compared with.

    Parameters
    ----------
    X : ndarray or CSR of shape (n_samples, n_features)
    train : ndarray of int
        Rows to learn from.
    seed : int
    references : tuple of ndarray
        Distinct rows, and how often each occurs.
    recipe : Recipe
    combined : bool
        Whether the score is the combined one; else it is that of the estimator.
    fit_estimator : callable
        Returns what is fitted to X, some rows of it, of which so many are distinct, with a seed.
    """
    rows, counts = references
    learned = count_copies(X, rows, train)
    n_distinct = int(np.count_nonzero(learned))
    robust = recipe.contamination > 0
    if not (combined or robust):
        return Member(fit_estimator(X, train, n_distinct, seed), None)
    deviations = Deviations(X[rows], counts, learned, recipe)
    if robust:
        train = train[deviations.trustworthy(X[train])]
    estimator = fit_estimator(X, train, n_distinct, seed)
    if not combined:  # the neighbours chose training rows, and no more
        return Member(estimator, None)
    deviations.add_network(estimator)
    return Member(estimator, deviations)


def repeat_rows(X, sample_weight) -> np.ndarray:
    """Return rows of X, each as often as its weight says.

    Whole numbers are taken as they are. Others, and numbers with a sum of more than a million that
    is more than the number of rows, are brought to a mean of one; a row then stands for its weight
    rounded up or down, such that the sum of the weights of any rows in a sequence is right within
    one.
    """
    weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    total = weight.sum()
    if np.all(weight == np.rint(weight)) and total <= max(_MOST_REPEATED, len(weight)):
        return np.repeat(np.arange(len(weight)), weight.astype(np.int64))
    n = np.count_nonzero(weight)
    steps = (np.arange(n) + 0.5) * (total / n)
    return np.searchsorted(np.cumsum(weight), steps).clip(max=len(weight) - 1)
