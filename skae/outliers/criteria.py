"""What makes a row odd? The criteria of the detector.

A criterion holds the parameters. Its `fit` learns from distinct rows and returns an object that
scores rows, a block at a time, in the format of the rows it has learned from: ``scores``, and for
criteria that are sums over the features ``shares`` and ``expected``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np

from skae._validation import Component
from skae.constraints import Interval, InvalidParameterError
from skae.outliers.deviations import Deviations, NetworkErrors, Weights, deviations_from_neighbours
from skae.outliers.neighbours import MeanOfNearest, NearestRows
from skae.outliers.rows import Rows, map_blocks
from skae.outliers.same_rows import Units


class Training(NamedTuple):
    """What a criterion learns from."""

    rows: Rows  # distinct ones, in random order
    counts: np.ndarray  # (n_distinct,), the weight of each
    learned: np.ndarray  # (n_distinct,), the part of it that may be learned from
    units: Units
    contamination: float  # share of the rows that may be bad
    n_references: int  # most rows to compare with
    # Fits the estimator on those of the distinct rows that are true in a boolean array.
    learn: Callable[[np.ndarray], Any]
    # Passes on what it is given, with a progress bar.
    track: Callable


class Criterion(Component):
    """What makes a row odd."""

    #: Whether scores are sums of shares of the features.
    has_shares = True

    def needs_reconstruct(self) -> bool:
        """Return whether the estimator must have a method ``reconstruct``."""
        return False

    @abstractmethod
    def fit(self, training: Training) -> Any:
        """Learn from training rows.

        Parameters
        ----------
        training : Training

        Returns
        -------
        scorer : object
            With ``estimator`` (what was fitted, or None), ``scores(rows)`` of shape (n_samples,),
            high is normal, and where ``has_shares``, ``shares(rows)`` and ``expected(rows)`` of
            shape (n_samples, n_features).
        """


class NeighboursAndNetwork(Criterion):
    """Deviations from the nearest row, from a combination of near rows, and from a network.

    For training rows that are taken to be normal: a few odd ones among them that are alike vouch
    for each other.

    Parameters
    ----------
    weights : tuple of three floats, default=(1, 1, 0.3)
        Weights of the squared distance to the nearest row, of that to the combination of the
        nearest that comes closest, and of the squared error of the network, each over its median;
        none below 0, not all 0. With 0 for the last no network is fitted, which takes less time.
    n_neighbors : int, default=10
        How many nearest rows are combined, at least 1.
    locality : float, default=0.5
        Power of what is usual near a row that its score is divided by, at least 0: where rows lie
        close, it takes less to be odd. 0 is the same everywhere.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import AutoencoderOutlierDetector
    >>> from skae.outliers import NeighboursAndNetwork
    >>> X, _ = load_iris(return_X_y=True)
    >>> neighbours = NeighboursAndNetwork(weights=(1, 1, 0))
    >>> detector = AutoencoderOutlierDetector(
    ...     criterion=neighbours, random_state=0
    ... ).fit(X)
    >>> detector.estimators_
    []
    """

    _parameter_constraints: dict = {
        "weights": ["array-like"],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "locality": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(self, weights=(1.0, 1.0, 0.3), n_neighbors=10, locality=0.5):
        self.weights = weights
        self.n_neighbors = n_neighbors
        self.locality = locality

    def check(self):
        """Raise ``ValueError`` where a parameter is out of its range; return self."""
        super().check()
        _check_weights(self.weights, 3, "the nearest row, the combination and the network")
        return self

    def needs_reconstruct(self) -> bool:
        """Return whether the network has a weight."""
        return self.weights[2] > 0

    def fit(self, training: Training) -> Deviations:
        """Learn from training rows; see `Criterion`."""
        # The first of the distinct rows are as good as a random choice, and cover the table best.
        chosen = np.arange(min(len(training.counts), training.n_references))
        counts = training.counts[chosen]
        scaled = training.units.scaled(training.rows.take(chosen).values)
        neighbours = NearestRows(scaled, counts, self.n_neighbors)
        nearest, combination, network = self.weights
        weights = Weights(nearest, combination, network, self.locality)
        return _measure(training, chosen, counts, neighbours, weights, trusted_rows(training))


class RobustNeighboursAndNetwork(Criterion):
    """Mean squared distance to a share of the rows, and the deviation from a network.

    For training rows of which some are bad, perhaps in clumps: the nearest share of few references
    is more than a clump can fill.

    Parameters
    ----------
    weights : tuple of two floats, default=(1, 0.3)
        Weights of the mean squared distance to near rows and of the squared error of the network,
        each over its median; none below 0, not all 0. With 0 for the last no network is fitted.
    share : float, default=0.1
        Share of the references, in (0, 1], that are near a row. Where the detector's
        ``contamination`` is larger, that is taken.
    n_neighbors : int, default=20
        How many references are near a row at least.
    n_references : int, default=1000
        Most rows to compare with, at least 1, each as often as it occurs; at most as many as the
        detector's ``n_references``.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import AutoencoderOutlierDetector
    >>> from skae.outliers import RobustNeighboursAndNetwork
    >>> X, _ = load_iris(return_X_y=True)
    >>> robust = RobustNeighboursAndNetwork(weights=(1, 0), share=0.2)
    >>> detector = AutoencoderOutlierDetector(
    ...     criterion=robust, random_state=0
    ... ).fit(X)
    >>> detector.predict([[5.0, 3.4, 1.5, 0.2], [5.0, 3.4, 5.5, 0.2]])
    array([ 1, -1])
    """

    _parameter_constraints: dict = {
        "weights": ["array-like"],
        "share": [Interval(Real, 0, 1, closed="right")],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "n_references": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(self, weights=(1.0, 0.3), share=0.1, n_neighbors=20, n_references=1000):
        self.weights = weights
        self.share = share
        self.n_neighbors = n_neighbors
        self.n_references = n_references

    def check(self):
        """Raise ``ValueError`` where a parameter is out of its range; return self."""
        super().check()
        _check_weights(self.weights, 2, "near rows and the network")
        return self

    def needs_reconstruct(self) -> bool:
        """Return whether the network has a weight."""
        return self.weights[1] > 0

    def fit(self, training: Training) -> Deviations:
        """Learn from training rows; see `Criterion`."""
        chosen, neighbours = self._neighbours(training)
        weights = Weights(self.weights[0], 0.0, self.weights[1])
        counts, trusted = np.ones(len(chosen)), self._trusted(training, neighbours)
        return _measure(training, chosen, counts, neighbours, weights, trusted)

    def trusted(self, training: Training) -> np.ndarray:
        """Return which rows are left without the share that is farthest from near rows."""
        return self._trusted(training, self._neighbours(training)[1])

    def _trusted(self, training: Training, neighbours: MeanOfNearest) -> np.ndarray:
        if not training.contamination:
            return training.learned > 0

        def distance(rows: Rows) -> np.ndarray:
            X, units = rows.values, training.units
            return neighbours.mean_distance(units.scaled(X), units.tolerance(X))

        n_blocks = len(list(training.rows.blocks()))
        blocks = training.track(map_blocks(distance, training.rows), n_blocks, "trusted rows")
        return _all_but_largest(
            np.concatenate(list(blocks)), training.learned, training.contamination
        )

    def _neighbours(self, training: Training) -> tuple[np.ndarray, MeanOfNearest]:
        chosen = _as_often(training.counts, min(self.n_references, training.n_references))
        near = max(self.n_neighbors, round(max(self.share, training.contamination) * len(chosen)))
        scaled = training.units.scaled(training.rows.take(chosen).values)
        return chosen, MeanOfNearest(scaled, training.counts[chosen], near)


class LogLikelihood(Criterion):
    """What the estimator says of a row with ``score_samples``, and nothing else.

    The estimator may be any that has such a method, and rows may hold whatever it takes.
    """

    has_shares = False

    def fit(self, training: Training) -> LogLikelihoodScorer:
        """Learn from training rows; see `Criterion`."""
        return LogLikelihoodScorer(training.learn(trusted_rows(training)))


class LogLikelihoodScorer(NamedTuple):
    """The score of an estimator."""

    estimator: Any

    def scores(self, rows: Rows) -> np.ndarray:
        """Return the score of each row; high is normal."""
        return np.asarray(self.estimator.score_samples(rows.given), dtype=np.float64).ravel()


def trusted_rows(training: Training) -> np.ndarray:
    """Return which of the distinct rows an estimator may learn from: all that are not too odd."""
    return RobustNeighboursAndNetwork().trusted(training)


def _measure(
    training: Training,
    chosen: np.ndarray,
    counts: np.ndarray,
    neighbours: NearestRows | MeanOfNearest,
    weights: Weights,
    trusted: np.ndarray,
) -> Deviations:
    """Return deviations from neighbours and, if it has a weight, from a network yet to learn."""
    references, units = training.rows.take(chosen), training.units
    tolerance = units.tolerance(references.values)
    near = deviations_from_neighbours(neighbours, tolerance, training.track)
    network = None
    if weights.network:
        known = np.flatnonzero(training.learned[chosen])
        known = known if len(known) else np.arange(len(chosen))
        usual = _all_but_largest(near[known, 0], counts[known], training.contamination)
        network = NetworkErrors(
            training.learn(trusted), references.take(known[usual]), units.scaling
        )
    return Deviations(references, counts, neighbours, near, network, weights, units)


def _as_often(counts: np.ndarray, n_most: int) -> np.ndarray:
    """Return at most so many of the distinct rows, a row as often as it occurs.

    Only so does a share of them stand for a share of the table.
    """
    total = np.cumsum(counts)
    n = max(1, int(min(np.rint(total[-1]), n_most)))
    steps = (np.arange(n) + 0.5) * (total[-1] / n)
    return np.searchsorted(total, steps)


def _all_but_largest(values: np.ndarray, counts: np.ndarray, left_out: float) -> np.ndarray:
    """Return which values are left without a share of the rows, those of the largest.

    Rows of which the count is 0 are left out as well.
    """
    order = np.argsort(values, kind="stable")
    order = order[counts[order] > 0]
    below = np.cumsum(counts[order]) - 0.5 * counts[order]
    kept = np.zeros(len(values), dtype=bool)
    kept[order] = below <= (1.0 - left_out) * counts.sum()
    kept[order[0]] = True
    return kept


def _check_weights(weights, n: int, of: str) -> None:
    values = np.asarray(weights, dtype=object)
    sound = values.shape == (n,) and all(isinstance(value, Real) for value in values)
    if not (sound and np.isfinite(values.astype(float)).all() and min(values) >= 0 < max(values)):
        raise InvalidParameterError(
            f"weights must be {n} numbers, those of {of}: none below 0, and not all 0. "
            f"Got {weights!r} instead."
        )


#: The criteria by name. The detector's "combined" is one of the first two.
CRITERIA: dict[str, type[Criterion]] = {
    "neighbours_and_network": NeighboursAndNetwork,
    "robust_neighbours_and_network": RobustNeighboursAndNetwork,
    "log_likelihood": LogLikelihood,
}
