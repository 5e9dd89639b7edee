"""Is each term of a score alive, and does each parameter of a criterion do what it says?

For every term there is a table in which it alone sees the odd row.
"""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.svm import OneClassSVM

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae._scaling import Scaling
from skae.constraints import InvalidParameterError
from skae.outliers import (
    CRITERIA,
    LogLikelihood,
    NeighboursAndNetwork,
    RobustNeighboursAndNetwork,
)
from skae.outliers.deviations import NetworkErrors
from skae.outliers.rows import Rows
from tests.helpers import low_rank

pytestmark = pytest.mark.filterwarnings("ignore:Maximum iterations")

QUICK_NETWORK = AutoencoderTransformer(
    n_components=3, hidden_layer_sizes=(8,), init="random", max_iter=3, tol=1.0, random_state=0
)


def oddness(train, new, criterion, estimator=QUICK_NETWORK, as_format=np.asarray):
    """Return how odd the new rows are, in columns as they are."""
    detector = AutoencoderOutlierDetector(
        estimator, criterion=criterion, input_scaling=None, random_state=0
    )
    return -detector.fit(as_format(train)).score_samples(as_format(new))


def grid(n_columns, spacing=0.2):
    """Return a grid of points in two columns, and further columns of zeros, nearly."""
    side = np.arange(-1, 1.01, spacing)
    X = np.zeros((len(side) ** 2, n_columns))
    X[:, :2] = np.array(np.meshgrid(side, side)).reshape(2, -1).T
    return X + 0.002 * np.random.RandomState(0).normal(size=X.shape)


def between_rows():
    """In the middle of a square of rows; usual rows are at the corners."""
    train = grid(2)
    inner = grid(2)[(np.abs(train) < 0.7).all(axis=1)]
    return train, inner[::2] + 0.002, inner[1::2] + 0.1


def off_a_plane():
    """Above a corner of a square in a plane; usual rows are in its middle, farther from rows."""
    train = grid(3)
    inner = train[(np.abs(train) < 0.7).all(axis=1)]
    return train, inner[::2] + np.array([0.1, 0.1, 0]), inner[1::2] + np.array([0, 0, 0.13])


def against_a_rule(seed=0):
    """With another sum of twenty columns than the last one says, where rows are far apart."""
    rng = np.random.RandomState(seed)
    X = rng.normal(size=(1100, 21))
    X[:, 20] = X[:, :20].sum(axis=1) / 20**0.5
    train, usual, odd = X[:1000], X[1000:1050], X[1050:].copy()
    odd[:, 20] += np.where(odd[:, 20] > 0, -1.5, 1.5)
    return train, usual, odd


def beside_a_dense_part():
    """Beside rows that lie close; usual rows are where rows lie loose, and farther from them."""
    rng = np.random.RandomState(0)
    dense, loose = rng.normal(0, 0.03, (300, 2)), 5 + grid(2)
    odd = 0.17 * np.array([[np.cos(a), np.sin(a)] for a in np.linspace(0, 6, 30)])
    return np.vstack([dense, loose]), loose[::4] + 0.1, odd


class Rule(AutoencoderTransformer):
    """What a network comes to that knows the rule, and of the other columns little."""

    def reconstruct(self, X, sparse_output=False):
        X = X.toarray() if sp.issparse(X) else X
        said = 0.5 * X
        said[:, 20] = X[:, :20].sum(axis=1) / 20**0.5 + 0.05 * np.sin(100 * X[:, 0])
        return said


class Blind(AutoencoderTransformer):
    """A network that sees nothing: its error is the same in every row."""

    def reconstruct(self, X, sparse_output=False):
        return (X.toarray() if sp.issparse(X) else X) + 1.0


class Remembers(AutoencoderTransformer):
    """A network that remembers the largest value that it was given."""

    def fit(self, X, y=None, sample_weight=None):
        self.largest_ = X.max()
        return super().fit(X, y, sample_weight)


RULE, BLIND = Rule(**QUICK_NETWORK.get_params()), Blind(**QUICK_NETWORK.get_params())
ALL = NeighboursAndNetwork()


def without(place):
    """Return the criterion without one of its weights."""
    weights = [1.0, 1.0, 0.3]
    weights[place] = 0.0
    return NeighboursAndNetwork(weights=weights)


#: The table, the criterion that sees the odd rows, the one that does not, and the network.
TERMS = {
    "nearest row": (between_rows, ALL, without(0), BLIND),
    "combination": (off_a_plane, ALL, without(1), BLIND),
    "network": (against_a_rule, ALL, without(2), RULE),
    "network of the default": (against_a_rule, ALL, without(2), None),
    "locality": (beside_a_dense_part, ALL, NeighboursAndNetwork(locality=0), BLIND),
    "robust network": (
        against_a_rule,
        RobustNeighboursAndNetwork(),
        RobustNeighboursAndNetwork(weights=(1, 0)),
        RULE,
    ),
}


@pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("term", TERMS)
def test_each_term_sees_what_no_other_one_sees(term, as_format):
    table, seeing, blind, network = TERMS[term]
    train, usual, odd = table()
    is_odd = np.repeat([False, True], [len(usual), len(odd)])
    found = [
        roc_auc_score(
            is_odd, oddness(train, np.vstack([usual, odd]), criterion, network, as_format)
        )
        for criterion in (seeing, blind)
    ]
    assert found[0] > (0.97 if network is not None else 0.85)
    assert found[1] < 0.75


def test_a_network_without_weight_is_left_out():
    class NeverFitted(AutoencoderTransformer):
        def fit(self, X, y=None, sample_weight=None):
            raise AssertionError

    X = low_rank(100)
    for criterion in (without(2), RobustNeighboursAndNetwork(weights=(1, 0))):
        detector = AutoencoderOutlierDetector(NeverFitted(), criterion=criterion, random_state=0)
        assert detector.fit(X).estimators_ == []
        assert np.isfinite(detector.score_samples(X)).all()
        shares = detector.score_features(X)
        np.testing.assert_allclose(shares.sum(axis=1), detector.score_samples(X))
        assert len(detector.explain(X[0], min_share=0)) == 5
        # Any estimator will do where it is not asked.
        AutoencoderOutlierDetector(OneClassSVM(), criterion=criterion).fit(X)


def test_what_is_expected_is_the_mean_of_neighbours_and_network():
    X = low_rank(100)
    near = AutoencoderOutlierDetector(criterion=without(2), random_state=0).fit(X)
    both = AutoencoderOutlierDetector(BLIND, random_state=0).fit(X)
    expected = [
        d.explain(X[3], 10, 0).set_index("feature")["expected"].sort_index() for d in (near, both)
    ]
    said = pd.Series(X[3] + 1.0, [f"x{j}" for j in range(10)])
    np.testing.assert_allclose(expected[1], (expected[0] + said) / 2)


def test_a_column_that_is_known_almost_exactly_does_not_rule_a_score():
    class Exact(AutoencoderTransformer):
        def reconstruct(self, X, sparse_output=False):
            return np.column_stack([np.round(X[:, 0], 9), np.zeros(len(X))])

    X = np.random.RandomState(0).normal(size=(200, 2))
    network = NetworkErrors(Exact(), Rows(X, X), Scaling(None, np.ones(2)))
    x = np.array([[0.123456789 + 4e-10, 1.0]])  # 4e-10 is usual, and nothing
    first, second = network.deviations(Rows(x, x))[0]
    assert first < 1e-6
    assert second == pytest.approx(1.0, rel=0.5)


def test_rows_that_have_copies_divide_no_score_by_nothing():
    X = np.repeat(low_rank(30), 5, axis=0)
    new = low_rank(20, seed=1)
    scores = [
        oddness(X, new, NeighboursAndNetwork(weights=(1, 0, 0), locality=locality))
        for locality in (0.0, 0.5, 1.0)
    ]
    # The divisor of a row whose neighbours have copies is a tenth to the power of the locality.
    np.testing.assert_allclose(scores[1], scores[0] / 0.1**0.5)
    np.testing.assert_allclose(scores[2], scores[0] / 0.1)


@pytest.mark.parametrize("n_neighbors", [1, 10, 200])
def test_neighbours_are_as_many_as_asked_for(n_neighbors):
    X = low_rank(100)
    criterion = NeighboursAndNetwork(weights=(1, 1, 0), n_neighbors=n_neighbors)
    fitted = AutoencoderOutlierDetector(criterion=criterion, random_state=0).fit(X)
    assert fitted._ensemble.members[0].neighbours.n_neighbors == min(n_neighbors, 99)
    one, ten = (
        oddness(X, X, NeighboursAndNetwork(weights=(0, 1, 0), n_neighbors=n)) for n in (1, 10)
    )
    assert not np.allclose(one, ten)


def test_share_and_least_number_of_neighbours_of_the_robust_criterion():
    def n_neighbors(contamination="auto", **parameters):
        criterion = RobustNeighboursAndNetwork(weights=(1, 0), **parameters)
        detector = AutoencoderOutlierDetector(
            criterion=criterion, contamination=contamination, random_state=0
        )
        return detector.fit(low_rank(500))._ensemble.members[0].neighbours.n_neighbors

    assert n_neighbors() == 50
    assert n_neighbors(share=0.3) == 150
    assert n_neighbors(share=0.01) == 20
    assert n_neighbors(share=0.01, n_neighbors=3) == 5
    assert n_neighbors(n_references=300) == 30
    assert n_neighbors(contamination=0.2) == 100


@pytest.mark.parametrize("contamination", ["auto", 0.1])
def test_names_are_objects_without_parameters(contamination):
    X = low_rank(150)

    def scores(criterion):
        detector = AutoencoderOutlierDetector(
            QUICK_NETWORK, criterion=criterion, contamination=contamination, random_state=0
        ).fit(X)
        return detector.score_samples(X), type(detector.criterion_)

    by_name = {name: scores(name) for name in CRITERIA}
    for name, kind in CRITERIA.items():
        found, fitted = scores(kind())
        assert fitted is kind
        assert np.array_equal(by_name[name][0], found)
    usual = "neighbours_and_network" if contamination == "auto" else "robust_neighbours_and_network"
    for name in ("auto", "combined"):
        assert np.array_equal(scores(name)[0], by_name[usual][0])
    assert len({values.tobytes() for values, _ in by_name.values()}) == len(CRITERIA)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_bad_rows_are_kept_from_the_estimator_of_every_criterion(criterion):
    X = low_rank(200)
    X[:10] += 100.0
    largest = []
    for contamination in ("auto", 0.1):
        detector = AutoencoderOutlierDetector(
            Remembers(**QUICK_NETWORK.get_params()),
            contamination=contamination,
            criterion=criterion,
            random_state=0,
        ).fit(X)
        largest.append(max(one.largest_ for one in detector.estimators_))
    assert largest[0] > 50 > largest[1]


@pytest.mark.parametrize(
    ("criterion", "name"),
    [
        (NeighboursAndNetwork(weights=(1, 1)), "weights"),
        (NeighboursAndNetwork(weights=(0, 0, 0)), "weights"),
        (NeighboursAndNetwork(weights=(1, -1, 1)), "weights"),
        (NeighboursAndNetwork(weights=(1, np.inf, 1)), "weights"),
        (NeighboursAndNetwork(weights="abc"), "weights"),
        (NeighboursAndNetwork(weights=None), "weights"),
        (NeighboursAndNetwork(n_neighbors=0), "n_neighbors"),
        (NeighboursAndNetwork(locality=-1), "locality"),
        (RobustNeighboursAndNetwork(weights=(1, 1, 1)), "weights"),
        (RobustNeighboursAndNetwork(share=0), "share"),
        (RobustNeighboursAndNetwork(n_neighbors=0), "n_neighbors"),
        (RobustNeighboursAndNetwork(n_references=0), "n_references"),
    ],
)
def test_bad_parameters_of_criteria_are_named(criterion, name):
    with pytest.raises(InvalidParameterError, match=name):
        AutoencoderOutlierDetector(criterion=criterion).fit(low_rank(20))


def test_criteria_can_be_searched_and_are_not_changed():
    criterion = NeighboursAndNetwork()
    detector = AutoencoderOutlierDetector(QUICK_NETWORK, criterion=criterion, random_state=0)
    detector.set_params(criterion__locality=0.1)
    assert detector.criterion.locality == 0.1
    named = AutoencoderOutlierDetector(criterion="neighbours_and_network")
    named.set_params(criterion__weights=(1, 1, 0))
    assert named.criterion.weights == (1, 1, 0)
    before = clone(criterion).get_params()
    detector.fit(low_rank(60))
    assert criterion.get_params() == before
    assert detector.criterion_ is not criterion
    assert isinstance(clone(detector).criterion, NeighboursAndNetwork)


def test_shares_are_not_known_of_log_likelihoods():
    detector = AutoencoderOutlierDetector(QUICK_NETWORK, criterion=LogLikelihood(), random_state=0)
    detector.fit(low_rank(60))
    for method in (detector.score_features, detector.explain):
        with pytest.raises(ValueError, match="needs criterion='combined'"):
            method(low_rank(3))
