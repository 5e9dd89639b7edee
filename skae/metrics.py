"""A score by which models can be compared whose own scores flatter longer codes.

Any estimator will do that gives rows back from codes: what is asked is its methods alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.utils import check_array

from skae._blocks import row_blocks
from skae._random import Stream, draw_seed, numpy_generator
from skae.constraints import HasMethods, Interval, validate_params

__all__ = ["hidden_entries_score"]


@validate_params(
    {
        "estimator": [HasMethods("fit")],
        "n_splits": [Interval(Integral, 2, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def hidden_entries_score(
    estimator, X, y=None, *, n_splits=5, max_iter=10, tol=1e-3, random_state=0
):
    """Return how well hidden entries of rows are told from the others: a share of the variance.

    The entries of each row are dealt out to ``n_splits`` parts at random, zeros like all others.
    One part after the other is hidden, what remains is encoded and decoded, and the hidden entries
    are compared with what comes out. A code that is too short cannot hold the row; one that is too
    long copies the noise of what it sees, and so is worse for what it does not. Hence, unlike the
    score of an autoencoder, this one does not flatter longer codes.

    Parameters
    ----------
    estimator : estimator
        Fitted, on other rows than X. With ``reconstruct``, or with ``transform`` and
        ``inverse_transform``: a transformer of skae, `PCA`, `NMF`, `TruncatedSVD`, or a pipeline of
        such steps, which is scored in the units of its input, or a search over these.
    X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
        Rows, at least two, and columns, at least two. Sparse rows are made dense a block at a time.
    y : None
        Ignored; there for searches.
    n_splits : int, default=5
        Number of parts, at least 2; no more are made than there are columns. Each takes as long as
        all others, and of more parts less is hidden at a time.
    max_iter : int, default=10
        How often a row is encoded, at most.
    tol : float, default=1e-3
        A row stands when what is put in the place of its hidden entries moves by less, root mean
        square, in standard deviations of the columns.
    random_state : int, RandomState or None, default=0
        Which entries are in which part. With an int that depends on the shape of X alone, so that
        all candidates of a search are asked for the same entries.

    Returns
    -------
    score : float
        The mean over columns of one minus the sum of squared errors over that of deviations from
        the mean of the column in X: 1 is perfect, 0 as good as the means, and it may be negative.
        Columns that are constant in X are left out. It does not depend on the units of columns,
        nor on whether X is sparse.

    Raises
    ------
    TypeError
        The estimator gives no rows back.
    ValueError
        X has a single row or column, or none that varies, or what comes back has another shape.

    Notes
    -----
    To encode a row with hidden entries something must stand in their place. That is at first the
    mean of their column over the other rows, then what came out, and so on, as long as it moves
    (Wold 1978 [1]_). Where this ends, for `PCA` it is the least-squares fit to what is visible.
    What comes out is kept within the range of its column in X. For a likelihood of counts, which
    takes whole numbers alone, it is rounded up or down at random, so that it is right on average.

    In chemometrics the figure is known as :math:`Q^2` [2]_; that rows are held out as well as
    entries is called bi-cross-validation [3]_.

    References
    ----------
    .. [1] Wold (1978), Cross-validatory estimation of the number of components in factor and
       principal components models. Technometrics 20.
    .. [2] Bro, Kjeldahl, Smilde, Kiers (2008), Cross-validation of component models: a critical
       look at current methods. Analytical and Bioanalytical Chemistry 390.
    .. [3] Owen, Perry (2009), Bi-cross-validation of the SVD and the nonnegative matrix
       factorization. Annals of Applied Statistics 3.

    Examples
    --------
    >>> from sklearn.datasets import make_low_rank_matrix
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skae.metrics import hidden_entries_score
    >>> rng = np.random.RandomState(0)
    >>> X = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 20))
    >>> X += 0.5 * rng.normal(size=X.shape)
    >>> search = GridSearchCV(
    ...     PCA(),
    ...     {"n_components": [1, 2, 3, 4, 5]},
    ...     scoring=hidden_entries_score,
    ... )
    >>> search.fit(X).best_params_
    {'n_components': 3}

    Other settings are given with `functools.partial`, which can be sent to other processes:

    >>> from functools import partial
    >>> scoring = partial(hidden_entries_score, n_splits=10)
    """
    reconstruct, table = _reconstruction(estimator, X), _checked(X)
    columns = _Columns.of(table)
    fill = _Fill(reconstruct, columns, max_iter, tol, _needs_whole_numbers(estimator))
    errors = np.zeros(table.shape[1])
    seed, n_parts = draw_seed(random_state), min(n_splits, table.shape[1])
    for truth, part, draw in _blocks_with_parts(table, n_parts, seed):
        hidden = np.concatenate([part == each for each in range(n_parts)])
        repeated = np.tile(truth, (n_parts, 1))
        filled = fill(repeated, hidden, np.tile(draw, (n_parts, 1)))
        errors += np.square(filled - repeated).sum(axis=0)
    return float(np.mean(1.0 - errors[columns.varies] / columns.squares[columns.varies]))


@dataclass
class _Columns:
    """What is known of the columns of X; arrays of shape (n_features,)."""

    n_rows: int
    sums: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray
    squares: np.ndarray  # of deviations from the mean, summed

    @classmethod
    def of(cls, table) -> _Columns:
        sums, squares = np.zeros(table.shape[1]), np.zeros(table.shape[1])
        lowest, highest = np.full_like(sums, np.inf), np.full_like(sums, -np.inf)
        for rows in _dense_blocks(table):
            sums += rows.sum(axis=0)
            lowest, highest = (
                np.minimum(lowest, rows.min(axis=0)),
                np.maximum(highest, rows.max(axis=0)),
            )
        for rows in _dense_blocks(table):
            squares += np.square(rows - sums / table.shape[0]).sum(axis=0)
        columns = cls(table.shape[0], sums, lowest, highest, squares)
        if not columns.varies.any():
            raise ValueError(
                f"None of the {len(sums)} columns of X varies over its {table.shape[0]} rows, so "
                "there is nothing to tell. Score more rows."
            )
        return columns

    @property
    def varies(self) -> np.ndarray:
        return self.highest > self.lowest

    @property
    def scale(self) -> np.ndarray:
        """Standard deviations; 1 for constant columns, which never move."""
        return np.where(self.varies, np.sqrt(self.squares / self.n_rows), 1.0)

    def means_of_others(self, rows: np.ndarray) -> np.ndarray:
        """Return for each entry of some rows the mean of its column over all other rows."""
        return (self.sums - rows) / (self.n_rows - 1)


@dataclass
class _Fill:
    """Puts in the place of hidden entries what an estimator makes of the visible ones."""

    reconstruct: Callable[[np.ndarray], np.ndarray]
    columns: _Columns
    max_iter: int
    tol: float
    whole: bool

    def __call__(self, truth, hidden, draw) -> np.ndarray:
        """Return rows in which the hidden entries are replaced.

        Parameters
        ----------
        truth : ndarray of shape (n, n_features)
        hidden : ndarray of bool, of the same shape
            At least one of each row.
        draw : ndarray of the same shape
            From 0 to 1; at which fraction a number is rounded down to a whole one.
        """
        filled = np.where(hidden, self.columns.means_of_others(truth), truth)
        moving = np.arange(len(filled))
        for _ in range(self.max_iter):
            before, mask = filled[moving], hidden[moving]
            seen = np.where(mask, np.floor(before + draw[moving]), before) if self.whole else before
            answer = self.reconstruct(seen).clip(self.columns.lowest, self.columns.highest)
            filled[moving] = np.where(mask, answer, before)
            moves = np.square((filled[moving] - before) / self.columns.scale)
            # Each row stands for itself: those beside it must not decide when it stops.
            moving = moving[moves.sum(axis=1) > self.tol**2 * mask.sum(axis=1)]
            if not len(moving):
                break
        return filled


def _reconstruction(estimator, X) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from dense rows to their reconstruction by an estimator.

    It sees rows in the container of X, with the names of its columns.
    """
    *before, last = _steps(estimator) or [None]
    if not all(map(_goes_both_ways, before)) or not _gives_rows_back(last):
        raise TypeError(
            f"hidden_entries_score compares entries with what an estimator makes of their row, and "
            f"{estimator!r} gives no rows back: it has neither reconstruct nor transform and "
            "inverse_transform. In a pipeline each step needs both: leave out what comes after the "
            "codes, such as a classifier, and do before the search what has no inverse, such as "
            "counting words."
        )
    put = _container(X)

    def reconstruct(rows: np.ndarray) -> np.ndarray:
        answer = _asked([*before, last], put(rows))
        answer = answer.toarray() if sp.issparse(answer) else np.asarray(answer)
        if answer.shape != rows.shape:
            raise ValueError(
                f"What {type(estimator).__name__} gives back has shape {answer.shape} for rows of "
                f"shape {rows.shape}. hidden_entries_score needs all columns of X, in its units."
            )
        return answer

    return reconstruct


def _container(X) -> Callable:
    """Return the function that puts dense rows into the container of X."""
    if isinstance(X, pd.DataFrame):
        return lambda rows: pd.DataFrame(rows, columns=X.columns)
    if sp.issparse(X):
        return sp.csr_matrix if sp.isspmatrix(X) else sp.csr_array
    return np.asarray


def _steps(estimator) -> list:
    """Return what rows go through: steps of pipelines, of the best estimator of a search."""
    if hasattr(estimator, "reconstruct"):
        return [estimator]
    if hasattr(estimator, "best_estimator_"):
        return _steps(estimator.best_estimator_)
    if not hasattr(estimator, "steps"):
        return [estimator]
    steps = [step for _, step in estimator.steps if step is not None and step != "passthrough"]
    return [part for step in steps for part in _steps(step)]


def _asked(steps: list, rows):
    """Return what the last step makes of rows, in the units of the first.

    It is asked for their reconstruction where it can be: a code does not hold the total of a row.
    """
    *before, last = steps
    for step in before:
        rows = step.transform(rows)
    if hasattr(last, "reconstruct"):
        rows = last.reconstruct(rows)
    else:
        rows = last.inverse_transform(last.transform(rows))
    for step in reversed(before):
        rows = step.inverse_transform(rows)
    return rows


def _gives_rows_back(step) -> bool:
    return hasattr(step, "reconstruct") or _goes_both_ways(step)


def _goes_both_ways(step) -> bool:
    return hasattr(step, "transform") and hasattr(step, "inverse_transform")


def _needs_whole_numbers(estimator) -> bool:
    """Return whether an estimator, or the last step of a pipeline, has a likelihood of counts."""
    likelihood = getattr(_steps(estimator)[-1], "likelihood_", None)
    return likelihood is not None and likelihood.nearest(np.array([0.25]))[0] != 0.25


def _checked(X):
    """Return X as numbers, dense or CSR."""
    return check_array(
        X,
        accept_sparse="csr",
        dtype=[np.float64, np.float32],
        ensure_min_samples=2,
        ensure_min_features=2,
        input_name="X",
    )


def _dense_blocks(table, copies: int = 1) -> Iterator[np.ndarray]:
    """Yield all rows in order, dense and in double precision, in blocks for ``copies`` of each."""
    for rows in row_blocks(table.shape[0], copies * table.shape[1]):
        block = table[rows]
        yield (block.toarray() if sp.issparse(block) else block).astype(np.float64)


def _blocks_with_parts(table, n_parts: int, seed: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield dense rows, the part of each entry, and a number from 0 to 1 for each.

    Both are drawn row by row, so that they do not depend on the size of the blocks.
    """
    for_parts, for_draws = (numpy_generator(seed, Stream.HIDDEN_ENTRIES, key) for key in (0, 1))
    even = np.arange(table.shape[1]) % n_parts
    for rows in _dense_blocks(table, copies=n_parts):
        part = np.empty(rows.shape, dtype=np.int64)
        order = for_parts.random_sample(rows.shape).argsort(axis=1)
        np.put_along_axis(part, order, np.broadcast_to(even, rows.shape), axis=1)
        yield rows, part, for_draws.random_sample(rows.shape)
