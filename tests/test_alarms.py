"""Do thresholds, p-values and alarms keep on new rows what they promise?

Shares are compared with bands of four standard errors around what is asked. The standard error is
that of the training rows, which fix the threshold, and of the new rows together.
"""

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.model_selection import KFold, ShuffleSplit
from sklearn.svm import OneClassSVM

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.outliers.calibration import (
    conformal_p_values,
    extrapolated_p_values,
    fewest_odd,
    fit_tail,
    raise_alarms,
    threshold,
)
from skae.outliers.folds import Judges, deal_out
from skae.outliers.rows import Rows
from skae.outliers.same_rows import SameRows
from tests.helpers import low_rank

pytestmark = pytest.mark.filterwarnings("ignore:Maximum iterations")

QUICK_NETWORK = AutoencoderTransformer(
    n_components=3, hidden_layer_sizes=(8,), max_iter=3, tol=1.0, random_state=0
)
#: Fits its training rows far better than new ones.
OVERFITTED_NETWORK = AutoencoderTransformer(
    n_components=40, hidden_layer_sizes=(64,), max_iter=40, learning_rate_init=0.02
)


def normal_rows(n_rows, rng):
    return rng.normal(size=(n_rows, 6))


def one_hot_rows(n_rows, rng, sizes=(3, 5, 8, 12)):
    """Categories, the last of which are rare: many copies of a row, and columns barely in use."""
    shares = [0.5 ** np.arange(size) for size in sizes]
    picks = [rng.choice(len(p), size=n_rows, p=p / p.sum()) for p in shares]
    return np.hstack([np.eye(len(p))[pick] for p, pick in zip(shares, picks, strict=True)])


def wide_sparse_rows(n_rows, rng):
    columns = np.minimum(rng.geometric(0.02, size=(n_rows, 12)) - 1, 399)
    rows = np.repeat(np.arange(n_rows), 12)
    return sp.csr_array((np.ones(rows.size), (rows, columns.ravel())), shape=(n_rows, 400))


def heavy_tailed_rows(n_rows, rng):
    return rng.standard_t(2, size=(n_rows, 4))


TABLES = {
    "normal": normal_rows,
    "one-hot": one_hot_rows,
    "one-hot, CSR": lambda n_rows, rng: sp.csr_array(one_hot_rows(n_rows, rng)),
    "wide CSR": wide_sparse_rows,
    "heavy tails": heavy_tailed_rows,
}


def assert_share(shares, asked, n_train, n_new):
    error = np.sqrt(asked * (1 - asked) * (1 / n_train + 1 / n_new) / len(shares))
    assert abs(np.mean(shares) - asked) < 4 * error + 1 / (n_train + 1)


# The threshold.


@pytest.mark.parametrize("contamination", ["auto", 0.05])
@pytest.mark.parametrize("table", TABLES)
def test_the_share_of_new_rows_flagged_is_what_was_asked(table, contamination):
    n_train, n_new, shares = 150, 400, []
    for seed in range(4):
        rng = np.random.RandomState(seed)
        X, new = TABLES[table](n_train, rng), TABLES[table](n_new, rng)
        detector = AutoencoderOutlierDetector(
            OVERFITTED_NETWORK, contamination=contamination, random_state=seed
        ).fit(X)
        shares.append(np.mean(detector.predict(new) == -1))
    assert_share(shares, 0.01 if contamination == "auto" else contamination, n_train, n_new)


def test_training_rows_are_scored_by_those_that_have_not_seen_them():
    rng = np.random.RandomState(0)
    X, new = rng.normal(size=(150, 30)), rng.normal(size=(150, 30))
    # A code of fewer numbers than columns: the difference is that between -7 and -180 nats.
    small = clone(OVERFITTED_NETWORK).set_params(
        n_components=10, max_iter=60, learning_rate_init=0.01
    )
    detector = AutoencoderOutlierDetector(small, criterion="log_likelihood", random_state=0).fit(X)
    seen = np.median([e.score_samples(X) for e in detector.estimators_])
    unseen = np.median([e.score_samples(new) for e in detector.estimators_])
    assert unseen < seen  # it is overfitted
    assert abs(np.median(detector.score_samples(X)) - unseen) < 0.3 * (seen - unseen)


@pytest.mark.parametrize("contamination", ["auto", 0.05])
def test_calibration_scores_are_those_of_the_training_rows(contamination):
    X = low_rank(90)
    detector = AutoencoderOutlierDetector(
        QUICK_NETWORK, contamination=contamination, random_state=0
    ).fit(X)
    assert np.array_equal(np.sort(detector.score_samples(X)), detector.calibration_scores_)


def test_thresholds_are_right_by_hand():
    scores = np.arange(1.0, 100.0)  # 99 of them: the hundredth that comes is below with 1 / 100
    assert threshold(scores, 0.01) == 1.0
    assert threshold(scores, 0.05) == 5.0
    assert threshold(scores, 0.055) == pytest.approx(5.5)
    assert threshold(scores[:5], 0.01) == 1.0


def test_ties_at_the_threshold_are_no_alarms():
    X = np.repeat(np.eye(4), 25, axis=0)
    detector = AutoencoderOutlierDetector(QUICK_NETWORK, contamination=0.1, random_state=0)
    assert np.mean(detector.fit(X).predict(X) == -1) <= 0.1


# Who judges.


def test_each_row_is_left_out_once():
    held_out = deal_out(np.empty((20, 2)), np.ones(20), 3, seed=0)
    assert held_out.shape == (20, 3)
    assert (held_out.sum(axis=1) == 1).all()
    assert set(held_out.sum(axis=0)) == {6, 7}
    assert not np.array_equal(held_out, deal_out(np.empty((20, 2)), np.ones(20), 3, seed=1))


@pytest.mark.parametrize(("n_rows", "n_members"), [(1, 1), (2, 2), (3, 3), (50, 4)])
def test_no_more_folds_than_rows(n_rows, n_members):
    held_out = deal_out(np.empty((n_rows, 2)), np.ones(n_rows), 4, seed=0)
    assert held_out.shape == (n_rows, n_members)
    assert held_out.any(axis=1).all() == (n_rows > 1)


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array])
def test_judges_are_those_that_have_not_learned_from_a_row(kind):
    X = np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 2.0], [1e30, 3.0]])
    held_out = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]], dtype=bool)
    judges = Judges(SameRows(kind(X)), held_out)
    new = kind(np.vstack([X, [[5.0, 0.0]]]))
    expected = [[1, 0, 0], [0, 0.5, 0.5], [0, 0.5, 0.5], [1 / 3] * 3, [1 / 3] * 3]
    np.testing.assert_allclose(judges.weights(new), expected)
    same = kind(X * (1 + 1e-15)), kind(X[:3]).astype(np.float32)
    for rows in same:  # a row is itself within rounding
        np.testing.assert_allclose(judges.weights(rows), expected[: rows.shape[0]])


def test_a_splitter_decides_what_is_held_out():
    X = low_rank(100)
    once = AutoencoderOutlierDetector(
        QUICK_NETWORK, cv=ShuffleSplit(1, test_size=0.3, random_state=0), random_state=0
    ).fit(X)
    assert len(once.estimators_) == 1
    assert len(once.calibration_scores_) == 30
    folds = AutoencoderOutlierDetector(QUICK_NETWORK, cv=KFold(4), random_state=0).fit(X)
    assert len(folds.estimators_) == 4
    assert len(folds.calibration_scores_) == 100


@pytest.mark.parametrize("contamination", ["auto", 0.1])
def test_new_rows_are_judged_by_all(contamination):
    detector = AutoencoderOutlierDetector(
        QUICK_NETWORK, contamination=contamination, random_state=0
    ).fit(low_rank(90))
    new = low_rank(20, seed=1)
    scores = [member.scores(Rows(new, new)) for member in detector._ensemble.members]
    np.testing.assert_allclose(detector.score_samples(new), np.mean(scores, axis=0), rtol=1e-12)
    assert not np.allclose(scores[0], scores[1])


# p-values.


def test_p_values_are_right_by_hand():
    p = conformal_p_values(np.array([0.0, 2.0, 2.5, 9.0]), np.array([1.0, 2.0, 3.0]))
    assert p.tolist() == [0.25, 0.75, 0.75, 1.0]


def test_alarms_are_right_by_hand():
    p = np.array([0.01, 0.039, 0.03, 0.6, 0.9])
    assert raise_alarms(p, 0.1).tolist() == [True, True, True, False, False]
    assert not raise_alarms(p, 0.01).any()


@pytest.mark.parametrize("cv", [3, ShuffleSplit(1, test_size=0.5, random_state=0)])
def test_p_values_of_normal_rows_are_uniform(cv):
    n_train, n_new, n_repeats, levels = 300, 200, 10, (0.05, 0.1, 0.3, 0.7)
    below = []
    for seed in range(n_repeats):
        X = low_rank(n_train + n_new, seed=0)
        X = X[np.random.RandomState(seed).permutation(len(X))]
        detector = AutoencoderOutlierDetector(QUICK_NETWORK, cv=cv, random_state=seed)
        p = detector.fit(X[:n_train]).p_values(X[n_train:])
        below.append([np.mean(p <= level) for level in levels])
    n_calibration = len(detector.calibration_scores_)
    for level, shares in zip(levels, np.transpose(below), strict=True):
        assert_share(shares, level, n_calibration, n_new)


@pytest.mark.parametrize("scale", [0.3, 2 / 3, 2.0])
def test_extrapolated_p_values_hold_for_pareto_scores(scale):
    """P(p <= t) is at most t far below 1 / (n + 1), for scores with such a tail."""
    rng = np.random.RandomState(0)
    n, new, level = 200, 2000, 5e-4
    below = []
    for _ in range(200):
        oddness = np.expm1(scale * rng.exponential(size=n + new))
        p = extrapolated_p_values(-oddness[n:], np.sort(-oddness[:n]))
        below.append(np.mean(p <= level))
    # One training set in many has no large score, and then many new ones are beyond.
    assert np.mean(below) < 1.6 * level


def test_extrapolation_changes_nothing_but_what_is_beyond_all_calibration_scores():
    calibration = np.sort(-np.random.RandomState(0).exponential(size=100))
    scores = np.linspace(30 * calibration[0], 0, 2000)
    plain = conformal_p_values(scores, calibration)
    further = extrapolated_p_values(scores, calibration)
    beyond = scores < calibration[0]
    assert np.array_equal(plain[~beyond], further[~beyond])
    assert (further[beyond] <= plain[beyond]).all()
    assert further[0] < plain[0] / 3
    assert (np.diff(further) >= 0).all()
    shifted = extrapolated_p_values(7 * scores + 1000, 7 * calibration + 1000)
    np.testing.assert_allclose(shifted, further)


def test_infinitely_odd_is_a_p_value_above_zero():
    calibration = np.sort(-np.random.RandomState(0).exponential(size=100))
    p = extrapolated_p_values(np.array([-np.inf, -1e300]), calibration)
    assert (p > 0).all()
    assert (p < 1e-10).all()


@pytest.mark.parametrize(
    "calibration", [np.arange(19.0), np.zeros(100), np.r_[-np.inf, np.zeros(99)]]
)
def test_where_there_is_no_tail_p_values_are_the_plain_ones(calibration):
    assert fit_tail(calibration) is None
    scores = np.array([-1e9, 0.5])
    expected = conformal_p_values(scores, calibration)
    assert np.array_equal(extrapolated_p_values(scores, calibration), expected)


def test_p_values_need_two_rows():
    detector = AutoencoderOutlierDetector(QUICK_NETWORK, random_state=0).fit(low_rank(1))
    with pytest.raises(ValueError, match="at least 2 rows"):
        detector.p_values(low_rank(4))


# Alarms at a false-discovery rate.


@pytest.mark.parametrize("n_train", [300, 1000, 3000])
@pytest.mark.parametrize("cells", ["all", "one"])
def test_three_gross_errors_among_100_rows_are_found_with_the_defaults(n_train, cells):
    rng = np.random.RandomState(0)
    X, new = normal_rows(n_train, rng), normal_rows(100, rng)
    new[:3] += 50.0 if cells == "all" else 50.0 * np.eye(3, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        labels = AutoencoderOutlierDetector(fdr=0.1, random_state=0).fit(X).predict(new)
    assert (labels[:3] == -1).all()
    assert (labels[3:] == -1).sum() <= 2


@pytest.mark.parametrize("estimator", [OneClassSVM(), QUICK_NETWORK])
def test_gross_errors_are_found_by_other_scores(estimator):
    rng = np.random.RandomState(0)
    X, new = normal_rows(300, rng), normal_rows(100, rng)
    new[:3] += 50.0
    detector = AutoencoderOutlierDetector(
        estimator, criterion="log_likelihood", fdr=0.3, random_state=0
    )
    labels = detector.fit(X).predict(new)
    if isinstance(estimator, OneClassSVM):  # its scores are bounded: nothing is far out
        assert (labels[3:] == -1).sum() <= 2
    else:
        assert (labels[:3] == -1).all()


def test_false_discovery_rate_is_kept():
    share_false, found = [], []
    for seed in range(12):
        rng = np.random.RandomState(seed)
        X, new = rng.normal(size=(300, 4)), rng.normal(size=(200, 4))
        new[:20] += 6.0
        alarm = (
            AutoencoderOutlierDetector(QUICK_NETWORK, fdr=0.2, random_state=seed)
            .fit(X)
            .predict(new)
        ) == -1
        share_false.append(alarm[20:].sum() / max(alarm.sum(), 1))
        found.append(alarm[:20].mean())
    error = np.std(share_false) / np.sqrt(len(share_false))
    assert np.mean(share_false) <= 0.2 + 2 * error
    assert np.mean(found) > 0.8


@pytest.mark.parametrize("table", TABLES)
def test_rows_that_are_all_normal_rarely_raise_an_alarm(table):
    n_batches, alarms = 0, 0
    for seed in range(4):
        rng = np.random.RandomState(seed)
        detector = AutoencoderOutlierDetector(QUICK_NETWORK, fdr=0.1, random_state=seed)
        detector.fit(TABLES[table](300, rng))
        for _ in range(10):
            n_batches += 1
            alarms += (detector.predict(TABLES[table](100, rng)) == -1).any()
    # Batches share their training rows: ten of them count as few.
    assert alarms / n_batches <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / 12)


def test_a_warning_says_how_many_must_be_odd():
    rng = np.random.RandomState(0)
    detector = AutoencoderOutlierDetector(QUICK_NETWORK, fdr=0.1, random_state=0)
    detector.fit(normal_rows(19, rng))
    new = normal_rows(100, rng)
    with pytest.warns(UserWarning, match=r"0\.05.*19 calibration rows.*at least 50 of these 100"):
        labels = detector.predict(new)
    assert (labels == 1).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        detector.predict(new[:2])  # one p-value of 1 / 20 is enough


def test_so_many_as_the_warning_says_are_enough():
    calibration = np.arange(19.0)
    n_odd = fewest_odd(100, calibration, 0.1)
    assert n_odd == 50
    for n, found in ((n_odd, True), (n_odd - 1, False)):
        scores = np.where(np.arange(100) < n, -1.0, 30.0)
        assert raise_alarms(conformal_p_values(scores, calibration), 0.1).any() == found
