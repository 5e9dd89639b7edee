"""One member of the detector: what is learned from some of the rows.

Nothing here knows the detector: rows and settings go in, an object that scores rows comes out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from skae._duplicates import merge_duplicates
from skae._scaling import Scaling, fit_scaling, summarise_columns
from skae.outliers.criteria import Criterion, Training
from skae.outliers.network import fit_estimator, fit_network, scaling_of
from skae.outliers.progress import Tracker
from skae.outliers.rows import Rows
from skae.outliers.same_rows import SameRows, Units


class Settings(NamedTuple):
    """What is the same for all members."""

    criterion: Criterion
    estimator: Any  # None: the network of the default
    contamination: float  # 0: none
    n_references: int
    input_scaling: str | None
    network: dict  # further parameters of the network of the default
    verbose: int


class Distinct(NamedTuple):
    """The distinct rows among some, in random order."""

    rows: Rows  # one of the rows that are the same
    weight: np.ndarray  # (n_distinct,), their sum over all that are the same
    place: np.ndarray  # (n_rows,), which of the distinct rows each row is, -1 for rows of weight 0

    def weigh(self, weight: np.ndarray) -> np.ndarray:
        """Return the sum of other weights of the rows, of those that are the same."""
        inside = self.place >= 0
        return np.bincount(self.place[inside], weight[inside], minlength=len(self.weight))


def distinct_rows(rows: Rows, weight: np.ndarray, same_rows: SameRows) -> Distinct:
    """Return the distinct rows among those that have a weight."""
    kept = np.flatnonzero(weight)
    _, first, which = np.unique(same_rows.group[kept], return_index=True, return_inverse=True)
    index = kept[first]
    order, _ = merge_duplicates(rows.values[index], None)
    # Where rows lie so close that groups were cut somewhere, equal ones may be in two of them.
    order = np.concatenate([order, np.setdiff1d(np.arange(len(index)), order)])
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    place = np.full(len(weight), -1)
    place[kept] = rank[which.ravel()]
    counts = np.bincount(place[kept], weight[kept])
    return Distinct(rows.take(index[order]), counts, place)


def fit_scores(
    rows: Rows,
    weight: np.ndarray,
    distinct: Distinct,
    same_rows: SameRows,
    settings: Settings,
    seed: int,
    name: str,
) -> Any:
    """Learn from some of the rows, and return what scores rows.

    Parameters
    ----------
    rows : Rows
    weight : ndarray of shape (n_rows,)
        What is learned from each: not below 0, and not 0 throughout. A row of the weight 2 is two
        rows, one of the weight 0 is none.
    distinct : Distinct
        Rows to compare with, among the rows, also some that are not learned from: scales, the
        network and its usual errors know nothing of these. No row is compared with itself, unless
        it occurs more than once.
    same_rows : SameRows
        Of the same rows.
    settings : Settings
    seed : int
    name : str
        What is being fitted, for progress bars.

    Returns
    -------
    scorer : object
        As `Criterion.fit` returns.
    """
    learned, X = distinct.weigh(weight), distinct.rows

    def learn(trusted: np.ndarray):
        trusted = trusted & (learned > 0)
        if settings.estimator is None:
            few = X.values[np.flatnonzero(trusted)]
            return fit_network(few, learned[trusted], seed, **settings.network)
        # As they were given: in their order, copies and all.
        index = np.flatnonzero((weight > 0) & trusted[distinct.place])
        return fit_estimator(settings.estimator, rows.take(index), weight[index])

    known = np.flatnonzero(learned)
    kind = scaling_of(settings.input_scaling, sp.issparse(X.values))
    units = Units(column_scaling(X.values[known], learned[known], kind), same_rows)
    tracker = Tracker(settings.verbose, name)
    few = settings.contamination, settings.n_references
    training = Training(X, distinct.weight, learned, units, *few, learn, tracker)
    return settings.criterion.fit(training)


def column_scaling(X, counts: np.ndarray, kind: str | None) -> Scaling:
    """Return the units in which columns are compared, named as in `fit_scaling`.

    None is one unit for all columns, the root of their mean variance: rows are as far from each
    other as in X, but for a factor.
    """
    sparse = sp.issparse(X)
    columns = summarise_columns(X, np.arange(X.shape[0]), counts)
    scaling: Any = fit_scaling(kind or scaling_of("auto", sparse), columns, sparse)
    if kind is not None:
        return scaling
    largest = columns.deviation.max() or 1.0
    unit = largest * np.sqrt(np.mean(np.square(columns.deviation / largest)))
    return scaling._replace(scale=np.full(X.shape[1], unit))
