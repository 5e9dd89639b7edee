"""What users hand to the detector and get from it: containers, weights, scaling, failures."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderOutlierDetector, AutoencoderTransformer, VAETransformer
from skae._scaling import SCALINGS
from skae.outliers.network import fit_estimator
from skae.outliers.rows import Rows
from skae.outliers.training import column_scaling
from tests.helpers import low_rank

pytestmark = pytest.mark.filterwarnings("ignore:Maximum iterations")

QUICK_NETWORK = AutoencoderTransformer(
    n_components=3, hidden_layer_sizes=(8,), init="random", max_iter=3, tol=1.0, random_state=0
)
X = low_rank(90)
NAMES = [f"sensor {j}" for j in range(X.shape[1])]
#: Fits once.
ONE_FIT = [(np.arange(60), np.arange(60, 90))]
FRAME = pd.DataFrame(X, columns=NAMES, index=[f"day {i}" for i in range(len(X))])


class Distance(BaseEstimator):
    """The distance from the mean, with an answer of the test's choice for rows far away."""

    def __init__(self, limit=50.0, answer=np.nan, error=None):
        self.limit = limit
        self.answer = answer
        self.error = error

    def fit(self, X, y=None):
        if self.error is not None and len(X) == self.error[0]:
            raise self.error[1]
        self.mean_ = np.asarray(X).mean(axis=0)
        return self

    def score_samples(self, X):
        distance = np.abs(np.asarray(X) - self.mean_).max(axis=1)
        return np.where(distance > self.limit, self.answer, -distance)


class Reconstructing(Distance):
    """What reconstructs every row as the mean, but rows far away as the answer."""

    def reconstruct(self, X):
        far = np.abs(np.asarray(X) - self.mean_).max(axis=1, keepdims=True) > self.limit
        return np.where(far, self.answer, self.mean_)


@pytest.fixture(scope="module")
def named():
    return AutoencoderOutlierDetector(QUICK_NETWORK, random_state=0).fit(FRAME)


@pytest.fixture(scope="module")
def bare():
    return AutoencoderOutlierDetector(QUICK_NETWORK, random_state=0).fit(X)


@pytest.fixture(scope="module")
def bare_sparse():
    return AutoencoderOutlierDetector(QUICK_NETWORK, random_state=0).fit(sp.csr_array(X))


# Scores that are no numbers.


@pytest.mark.parametrize("Estimator", [Distance, Reconstructing])
@pytest.mark.parametrize("answer", [np.nan, -np.inf])
@pytest.mark.parametrize("fdr", [None, 0.5])
def test_a_new_row_without_a_score_is_the_oddest(Estimator, answer, fdr):
    detector = AutoencoderOutlierDetector(Estimator(answer=answer), fdr=fdr, random_state=0).fit(X)
    new = np.concatenate([X[:1] + 1e3, X[:3]])
    scores = detector.score_samples(new)
    assert np.isfinite(scores).all()
    assert scores[0] < scores[1:].min()
    assert detector.predict(new)[0] == -1
    assert detector.decision_function(new)[0] < 0
    assert detector.p_values(new)[0] == 1 / (1 + len(X))
    assert 0 < detector.p_values(new, extrapolate=True)[0] <= 1 / (1 + len(X))


@pytest.mark.parametrize("answer", [np.nan, -np.inf, np.inf])
def test_training_rows_without_a_score_are_an_error(answer):
    far = X.copy()
    far[:2] += 1e3
    with pytest.raises(ValueError, match=r"2 of 90 training rows.*Distance"):
        AutoencoderOutlierDetector(Distance(answer=answer), random_state=0).fit(far)


def test_columns_without_a_reconstruction_are_the_reasons():
    detector = AutoencoderOutlierDetector(Reconstructing(), random_state=0).fit(X)
    share = detector.explain(X[0] + 1e3, n_reasons=20)["share"]
    np.testing.assert_allclose(share, 1 / X.shape[1])


# Fits that end early.


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("no"), MemoryError()])
def test_a_fit_that_fails_leaves_the_detector_as_it_was(error):
    # The last of the folds is smaller, so that two members were fitted before it fails.
    rows, settings = X[:83], {"cv": KFold(3), "random_state": 0}
    fails = Distance(error=(56, error))
    detector = AutoencoderOutlierDetector(fails, **settings)
    before = vars(detector).copy()
    with pytest.raises(type(error)):
        detector.fit(rows)
    assert vars(detector) == before
    with pytest.raises(NotFittedError):
        detector.predict(rows)
    detector.set_params(estimator=Distance()).fit(X)
    scores = detector.score_samples(X)
    with pytest.raises(type(error)):
        detector.set_params(estimator=fails).fit(rows[:, :4])
    np.testing.assert_array_equal(detector.score_samples(X), scores)


def test_an_absurd_cell_among_training_rows_is_the_oddest():
    spoilt = X.copy()
    spoilt[0, 0] = 1e300
    detector = AutoencoderOutlierDetector(QUICK_NETWORK, random_state=0).fit(spoilt)
    scores = detector.score_samples(spoilt)
    assert np.isfinite(scores).all()
    assert scores.argmin() == 0


# Scaling and the other settings of the network.


@pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("scaling", ["auto", "max", None])
def test_scaling_is_that_of_neighbours_and_network(scaling, as_format):
    rows = as_format(X * np.geomspace(1e-3, 1e3, X.shape[1]))
    detector = AutoencoderOutlierDetector(input_scaling=scaling, cv=ONE_FIT, random_state=0)
    detector.fit(rows)
    usual = "fourth_moment" if sp.issparse(rows) else "standard"
    network = detector.estimators_[0]
    assert network.input_scaling == (usual if scaling == "auto" else scaling)
    found = detector._ensemble.members[0].units.scaling.scale
    if scaling is None:
        assert np.ptp(found) == 0
    else:
        expected = column_scaling(rows, np.ones(90), network.input_scaling).scale
        np.testing.assert_allclose(found, expected, rtol=0.5)


@pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array])
def test_without_scaling_one_unit_for_all_changes_nothing(as_format):
    settings = {"input_scaling": None, "random_state": 0, "estimator": Reconstructing(1e9)}
    if as_format is sp.csr_array:
        settings["estimator"] = QUICK_NETWORK
    rows = np.where(np.abs(X) > 0.5, X, 0.0)
    scores = [
        AutoencoderOutlierDetector(**settings).fit(as_format(Z)).score_samples(as_format(Z))
        for Z in (rows, rows * 2.0**-20)
    ]
    np.testing.assert_allclose(*scores, rtol=1e-4 if as_format is np.asarray else 1e-2)


def test_without_scaling_large_columns_rule():
    rows = X / X.std(axis=0) * np.r_[100.0, np.ones(X.shape[1] - 1)]
    row = rows[3].copy()
    row[5] += 20.0
    settings = {"estimator": QUICK_NETWORK, "random_state": 0}
    scaled = AutoencoderOutlierDetector(**settings).fit(rows)
    as_is = AutoencoderOutlierDetector(**settings, input_scaling=None).fit(rows)
    assert scaled.predict([row]) == [-1]
    assert as_is.score_samples([row])[0] > scaled.score_samples([row])[0]


def test_scalings_without_distances_are_refused():
    assert set(SCALINGS) - {"standard", "fourth_moment", "common", "max"} == {"log1p"}
    with pytest.raises(ValueError, match="input_scaling"):
        AutoencoderOutlierDetector(input_scaling="log1p").fit(X)


@pytest.mark.parametrize("setting", [{"device": "cpu"}, {"callbacks": []}])
def test_settings_of_the_default_network(setting):
    ((name, value),) = setting.items()
    detector = AutoencoderOutlierDetector(**setting, cv=ONE_FIT, random_state=0).fit(X)
    assert all(getattr(one, name) == value for one in detector.estimators_)
    with pytest.raises(ValueError, match=name):
        AutoencoderOutlierDetector(QUICK_NETWORK, **setting).fit(X)


def test_parameters_of_no_estimator_say_what_to_give():
    with pytest.raises(ValueError, match=r"estimator=DenoisingAETransformer\(max_iter=\.\.\.\)"):
        AutoencoderOutlierDetector().set_params(estimator__max_iter=5)


# Weights.


@pytest.mark.parametrize("cv", [3, KFold(2)])
@pytest.mark.parametrize("contamination", ["auto", 0.1])
@pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array])
def test_a_weight_is_how_often_a_row_is_there(cv, contamination, as_format):
    weight = np.random.default_rng(0).integers(0, 3, len(X))
    splits = cv
    if cv != 3:  # the same rows on both sides of each split
        cv = list(cv.split(X))
        splits = [[np.flatnonzero(np.repeat(s, weight)) for s in _masks(pair)] for pair in cv]
    settings = {"contamination": contamination, "random_state": 0, "estimator": QUICK_NETWORK}
    weighted = AutoencoderOutlierDetector(**settings, cv=cv).fit(as_format(X), sample_weight=weight)
    repeated = AutoencoderOutlierDetector(**settings, cv=splits)
    repeated.fit(as_format(np.repeat(X, weight, axis=0)))
    new = as_format(X + 1)
    # The models are equal; products of tables of other shapes round otherwise on some processors.
    scores = [one.score_samples(new) for one in (weighted, repeated)]
    np.testing.assert_allclose(*scores, rtol=1e-7)
    calibration = [one.calibration_scores_ for one in (weighted, repeated)]
    np.testing.assert_allclose(*calibration, rtol=1e-7)


def _masks(pair):
    return [np.isin(np.arange(len(X)), rows) for rows in pair]


def test_weights_that_are_no_whole_numbers():
    weight = np.random.default_rng(0).uniform(0.1, 3, 90)
    Witness.seen.clear()
    fit_estimator(Witness(), Rows(X, X), weight)  # which takes no weights
    (seen,) = Witness.seen
    copies = np.array([(seen == row).all(axis=1).sum() for row in X])
    np.testing.assert_array_less(np.abs(copies - weight), 1.0 + 1e-9)
    assert abs(copies.sum() - weight.sum()) < 1
    found = [
        AutoencoderOutlierDetector(QUICK_NETWORK, random_state=0)
        .fit(X, sample_weight=weight * factor)
        .score_samples(X + 1)
        for factor in (1.0, 1e-9, 1e12)
    ]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-4)


@pytest.mark.parametrize(("weight", "match"), [(0.0, "non-zero"), (-1.0, "egative")])
def test_weights_that_weigh_nothing_are_an_error(weight, match):
    with pytest.raises(ValueError, match=match):
        AutoencoderOutlierDetector().fit(X, sample_weight=np.full(len(X), weight))


# An estimator of one's own.


class Witness(Distance):
    """What remembers the tables it is given."""

    seen: list = []

    def fit(self, X, y=None):
        self.seen.append(X)
        return super().fit(X)

    def score_samples(self, X):
        self.seen.append(X)
        return super().score_samples(X)


def test_an_estimator_is_given_the_frame():
    frame = FRAME.assign(count=np.arange(len(X)), single=X[:, 0].astype("f4"), flag=X[:, 1] > 0)
    Witness.seen.clear()
    detector = AutoencoderOutlierDetector(Witness(1e9), random_state=0).fit(frame)
    n_fit = len(Witness.seen)
    detector.predict(frame)
    assert len(Witness.seen) > n_fit
    for table in Witness.seen:
        assert list(table.columns) == list(frame.columns)
        assert table.dtypes.equals(frame.dtypes)
    detector.score_samples(frame.assign(count=0.5))  # what does not fit the type is kept
    assert set(Witness.seen[-1]["count"]) == {0.5}


@pytest.mark.parametrize("weighted", [False, True])
def test_a_pipeline_that_chooses_columns_by_name(weighted):
    pipeline = make_pipeline(
        ColumnTransformer([("scaled", StandardScaler(), NAMES[2:5])]),
        VAETransformer(2, max_iter=3, random_state=0),
    )
    weight = np.arange(len(X)) % 3 if weighted else None
    detector = AutoencoderOutlierDetector(pipeline, random_state=0).fit(FRAME, sample_weight=weight)
    changed = FRAME.copy()
    changed[NAMES[0]] += 1e-3  # not looked at; and no training row any more
    other = changed.copy()
    other[NAMES[0]] += 5.0
    np.testing.assert_array_equal(detector.score_samples(changed), detector.score_samples(other))
    assert set(detector.predict(FRAME)) <= {-1, 1}


def test_a_table_with_sparse_columns_is_given_as_one():
    frame = pd.DataFrame.sparse.from_spmatrix(sp.csr_array(np.where(X > 1, X, 0)), columns=NAMES)
    Witness.seen.clear()
    AutoencoderOutlierDetector(Witness(1e9), random_state=0).fit(frame).predict(frame)
    assert all(list(table.columns) == NAMES for table in Witness.seen)


# Reasons.

ONE_ROW = {
    "1-d array": lambda: X[4],
    "list": lambda: X[4].tolist(),
    "2-d": lambda: X[4:5],
    "list of lists": lambda: X[4:5].tolist(),
}


@pytest.mark.parametrize("row", ONE_ROW.values(), ids=ONE_ROW)
def test_one_row_in_any_container(bare, row):
    found, expected = bare.explain(row()), bare.explain(X[4:5])
    assert list(found.columns) == ["feature", "value", "expected", "share"]
    assert found["feature"].tolist() == expected["feature"].tolist()
    np.testing.assert_allclose(found["share"], expected["share"], rtol=1e-4)


def test_one_row_of_a_sparse_table(bare_sparse):
    rows = sp.csr_array(X)
    expected = bare_sparse.explain(rows[[4]])
    for row in (rows[4], sp.coo_array(X[4]), sp.csc_matrix(X[4:5]), sp.lil_array(X[4:5])):
        assert bare_sparse.explain(row).equals(expected)


def test_one_row_of_a_frame(named):
    assert named.explain(FRAME.iloc[4]).equals(named.explain(FRAME.iloc[[4]]))


@pytest.mark.parametrize("wrong", [FRAME.iloc[4, ::-1], FRAME.iloc[[4], ::-1]])
def test_names_are_checked(named, wrong):
    with pytest.raises(ValueError, match="feature names"):
        named.explain(wrong)


def test_several_rows_stand_below_each_other(named):
    some = FRAME.iloc[[3, 1, 8]]
    found = named.explain(some, n_reasons=4, min_share=0.0)
    assert list(found.columns) == ["row", "feature", "value", "expected", "share"]
    assert found["row"].tolist() == ["day 3"] * 4 + ["day 1"] * 4 + ["day 8"] * 4
    for label, part in found.groupby("row"):
        alone = named.explain(FRAME.loc[label], n_reasons=4, min_share=0.0)
        assert part.drop(columns="row").reset_index(drop=True).equals(alone)


def test_rows_without_labels_are_numbered(bare, bare_sparse):
    for rows in (X[:3], X[:3].tolist()):
        assert bare.explain(rows)["row"].unique().tolist() == [0, 1, 2]
    assert bare_sparse.explain(sp.csr_array(X[:3]))["row"].unique().tolist() == [0, 1, 2]


def test_names_for_arrays(bare):
    given = bare.explain(X[:2], feature_names=NAMES)
    assert given["feature"].tolist() == [
        NAMES[int(name[1:])] for name in bare.explain(X[:2])["feature"]
    ]
    with pytest.raises(ValueError, match=r"feature_names must hold 10 names.*Got 3"):
        bare.explain(X[:2], feature_names=NAMES[:3])


def test_small_shares_are_left_out(bare):
    everything = bare.explain(X[:5], n_reasons=10, min_share=0.0)
    assert len(everything) == 50
    found = bare.explain(X[:5], n_reasons=10, min_share=0.1)
    assert found["share"].tolist() == everything["share"][everything["share"] >= 0.1].tolist()
    assert bare.explain(X[:5], n_reasons=10)["share"].min() >= 0.01


@pytest.mark.parametrize(
    "wrong", [{"n_reasons": 0}, {"n_reasons": 1.5}, {"min_share": -0.1}, {"min_share": 2}]
)
def test_limits_that_make_no_sense_are_named(bare, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        bare.explain(X[:2], **wrong)


def test_not_fitted_comes_first():
    with pytest.raises(NotFittedError):
        AutoencoderOutlierDetector().explain("nonsense", n_reasons=0)


class OnlyDense(Distance):
    """Knows arrays alone, as many estimators do."""

    def score_samples(self, X):
        assert isinstance(X, np.ndarray)
        return super().score_samples(X)


def test_an_estimator_is_asked_in_the_format_that_it_learned_from():
    detector = AutoencoderOutlierDetector(
        OnlyDense(), criterion="log_likelihood", random_state=0
    ).fit(X)
    np.testing.assert_allclose(detector.score_samples(sp.csr_array(X)), detector.score_samples(X))


@pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array])
def test_reasons_of_rows_are_those_of_each(bare, as_format):
    # More rows than stand in a block; some of them training rows, with judges of their own.
    rows = np.vstack([X[:20], X[:30] + 3.0])
    together = bare.explain(as_format(rows), n_reasons=3)
    for i in (0, 7, 25, 49):
        alone = bare.explain(as_format(rows[[i]]), n_reasons=3)
        found = together[together["row"] == i].drop(columns="row").reset_index(drop=True)
        pd.testing.assert_frame_equal(found, alone, rtol=1e-6)
