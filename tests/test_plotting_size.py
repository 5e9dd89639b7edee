"""Pictures of the score by the number of components."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    KFold,
    RandomizedSearchCV,
    ShuffleSplit,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import VAETransformer
from skae.plotting import SizeDisplay
from tests.drawn import X, legend, no_figures, plt, ticks  # noqa: F401  no_figures is for all tests
from tests.helpers import QUIET

pytestmark = QUIET


SIZES = [1, 2, 3, 5]
FOLDS = KFold(4, shuffle=True, random_state=0)


@pytest.fixture(scope="module")
def search():
    return GridSearchCV(PCA(), {"n_components": SIZES}, cv=FOLDS).fit(X)


def bars_of(errorbar):
    """Return the ends of the bars, below and above."""
    (bars,) = errorbar.lines[2]
    return np.array([segment[:, 1] for segment in bars.get_segments()])


def test_size_of_a_search_has_scores_and_standard_errors_over_folds(search):
    display = SizeDisplay.from_search(search)
    (line,) = display.errorbars_
    mean = search.cv_results_["mean_test_score"]
    error = search.cv_results_["std_test_score"] / np.sqrt(search.n_splits_ - 1)
    np.testing.assert_allclose(line.lines[0].get_xydata(), np.column_stack([SIZES, mean]))
    np.testing.assert_allclose(bars_of(line), np.column_stack([mean - error, mean + error]))
    assert display.ax_.get_xlabel() == "n_components"
    assert display.ax_.get_ylabel() == "log-likelihood of a held-out row (nats)"
    assert ticks(display.ax_.xaxis) == ["1", "2", "3", "5"]


def test_the_size_that_was_chosen_is_marked(search):
    display = SizeDisplay.from_search(search)
    best = search.best_params_["n_components"]
    assert display.chosen == best
    assert display.chosen_.get_xydata().tolist() == [[best, search.best_score_]]
    assert legend(display) == [f"chosen: {best}"]


def test_the_mark_follows_the_rule_of_the_search():
    search = GridSearchCV(PCA(), {"n_components": SIZES}, cv=FOLDS, refit=lambda results: 1)
    display = SizeDisplay.from_search(search.fit(X))
    assert display.chosen_.get_xdata().tolist() == [2]


def test_a_search_that_is_not_to_choose_has_its_best_size_marked():
    scoring = {"a": lambda e, X: e.n_components, "b": lambda e, X: -e.n_components}
    search = GridSearchCV(PCA(), {"n_components": SIZES}, cv=FOLDS, scoring=scoring, refit=False)
    with pytest.raises(ValueError, match=r"metric must be one of \['a', 'b'\]\. Got None"):
        SizeDisplay.from_search(search.fit(X))
    assert SizeDisplay.from_search(search, metric="b").chosen == 1
    display = SizeDisplay.from_search(search, metric="a")
    assert display.chosen == 5
    assert display.ax_.get_ylabel() == "a"


def test_size_of_a_step_of_a_pipeline_and_of_a_random_search_in_any_order():
    pipeline = make_pipeline(StandardScaler(), VAETransformer(max_iter=2, random_state=0))
    settings = {"vaetransformer__n_components": [3, 1, 2]}
    search = RandomizedSearchCV(pipeline, settings, n_iter=3, random_state=1, cv=2).fit(X)
    display = SizeDisplay.from_search(search)
    assert display.n_components.tolist() == [1, 2, 3]
    tried = search.cv_results_["param_vaetransformer__n_components"]
    order = np.argsort(np.asarray(tried, dtype=int))
    assert display.score.tolist() == search.cv_results_["mean_test_score"][order].tolist()
    assert "nats" in display.ax_.get_ylabel()


def results_of(**columns):
    """Return a search with these ``cv_results_``: scores by fold, and parameters."""
    folds = np.array(columns.pop("folds"))
    search = GridSearchCV(PCA(), {}, scoring=columns.pop("scoring", None))
    params = {f"param_{name}": np.ma.masked_equal(v, -9) for name, v in columns.items()}
    by_fold = {f"split{place}_test_score": scores for place, scores in enumerate(folds.T)}
    search.cv_results_ = {**params, **by_fold, "mean_test_score": folds.mean(axis=1)}
    best = int(np.nanargmax(search.cv_results_["mean_test_score"]))
    named = {name: values[best] for name, values in columns.items()}
    search.best_params_ = {name: value for name, value in named.items() if value != -9}
    return search


GRID = {
    "n_components": [1, 2, 1, 2],
    "beta": [0.5, 0.5, 2.0, 2.0],
    "folds": [[1, 1], [5, 7], [2, 4], [3, 3]],
}


def test_each_size_stands_for_the_best_of_the_other_parameters():
    display = SizeDisplay.from_search(results_of(**GRID))
    assert display.score.tolist() == [3, 6]
    assert display.standard_error.tolist() == [1, 1]  # of the candidates that were the best
    assert legend(display) == ["best over beta (chosen: 2)"]


def test_another_parameter_can_have_a_line_for_each_value():
    display = SizeDisplay.from_search(results_of(**GRID), by="beta")
    drawn = [line.lines[0].get_xydata().tolist() for line in display.errorbars_]
    assert drawn == [[[1, 1], [2, 6]], [[1, 3], [2, 3]]]
    assert legend(display) == ["beta=0.5 (chosen: 2)", "beta=2.0"]
    colours = [line.lines[0].get_color() for line in display.errorbars_]
    assert len(set(colours)) == 2


def test_short_names_stand_for_parameters_of_steps_as_far_as_they_are_clear():
    renamed = {f"vae__{name}" if name != "folds" else name: v for name, v in GRID.items()}
    display = SizeDisplay.from_search(results_of(**renamed), by="beta")
    assert legend(display) == ["beta=0.5 (chosen: 2)", "beta=2.0"]
    assert legend(SizeDisplay.from_search(results_of(**renamed))) == ["best over beta (chosen: 2)"]


def test_another_parameter_can_be_the_size():
    search = results_of(vae__width=[8, 16], folds=[[1, 2], [2, 2]])
    display = SizeDisplay.from_search(search, param="width")
    assert display.n_components.tolist() == [8, 16]
    assert display.ax_.get_xlabel() == "width"


def test_failed_fits_and_candidates_without_a_size_are_left_out():
    folds = [[1, 1], [np.nan, 1], [9, 9], [2, 2]]
    display = SizeDisplay.from_search(results_of(n_components=[1, 2, -9, 4], folds=folds))
    assert display.n_components.tolist() == [1, 4]
    assert display.score.tolist() == [1, 2]


def test_halving_has_a_line_for_each_number_of_rows():
    search = HalvingGridSearchCV(
        PCA(), {"n_components": [1, 2, 4]}, factor=2, min_resources=20, cv=FOLDS, random_state=0
    ).fit(X)
    display = SizeDisplay.from_search(search)
    assert [text.split(" ")[0] for text in legend(display)] == ["n_samples=20", "n_samples=40"]
    assert sum("chosen" in text for text in legend(display)) == 1


def test_one_split_has_no_standard_error():
    cv = ShuffleSplit(1, random_state=0)
    display = SizeDisplay.from_search(GridSearchCV(PCA(), {"n_components": [1, 2]}, cv=cv).fit(X))
    assert display.standard_error is None
    assert not display.ax_.get_legend().get_title().get_text()


def my_score(estimator, X, y=None):
    return 0.0


@pytest.mark.parametrize(
    ("scoring", "expected"),
    [
        (None, "log-likelihood of a held-out row (nats)"),
        ("explained_variance", "explained variance"),
        (my_score, "my score"),
        (make_scorer(my_score), "score"),
    ],
)
def test_the_label_of_the_score_goes_by_scoring(scoring, expected):
    search = results_of(n_components=[1, 2], folds=[[1, 2], [2, 2]], scoring=scoring)
    assert SizeDisplay.from_search(search).ax_.get_ylabel() == expected
    assert SizeDisplay.from_search(search, score_name="mine").ax_.get_ylabel() == "mine"


def test_accuracy_of_a_classifier_is_no_log_likelihood():
    pipeline = make_pipeline(PCA(), LogisticRegression())
    search = GridSearchCV(pipeline, {"pca__n_components": [1, 2]}, cv=FOLDS).fit(X, X[:, 0] > 0)
    assert SizeDisplay.from_search(search).ax_.get_ylabel() == "score"


def test_two_searches_share_axes_and_can_be_told_apart(search):
    first = SizeDisplay.from_search(search, name="PCA")
    other = results_of(n_components=[2, 9], folds=[[1, 2], [2, 2]])
    second = SizeDisplay.from_search(other, name="VAE", ax=first.ax_)
    best = search.best_params_["n_components"]
    assert legend(second) == [f"PCA (chosen: {best})", "VAE (chosen: 9)"]
    lines = [one.errorbars_[0].lines[0] for one in (first, second)]
    assert lines[0].get_color() != lines[1].get_color()
    assert lines[0].get_marker() != lines[1].get_marker()
    assert ticks(second.ax_.xaxis) == ["1", "2", "3", "5", "9"]


def test_uneven_sizes_have_a_log_axis_and_their_ticks_have_room():
    sizes = [1, 2, 4, 8, 16, 32, 64, 65, 66]
    display = SizeDisplay(n_components=sizes, score=np.arange(9.0)).plot()
    assert display.ax_.get_xscale() == "log"
    assert ticks(display.ax_.xaxis) == [str(size) for size in sizes[:7]]
    even = SizeDisplay(n_components=[1, 2, 3], score=[1, 2, 3]).plot()
    assert even.ax_.get_xscale() == "linear"


def fitted_by_itself(**curve):
    """Return an estimator that was fitted with n_components="auto"."""
    fitted = PCA(2).fit(X)
    fitted.n_components, fitted.n_components_, fitted.size_curve_ = "auto", 2, curve
    return fitted


def test_size_of_a_fit_that_found_it():
    score, error = np.array([-9.0, -5.0, -6.0]), np.array([1.0, 2.0, np.nan])
    estimator = fitted_by_itself(
        n_components=np.array([1, 2, 4]), score=score, standard_error=error
    )
    for given in (estimator, make_pipeline("passthrough", estimator)):
        display = SizeDisplay.from_estimator(given)
        assert display.errorbars_[0].lines[0].get_xydata().tolist() == [[1, -9], [2, -5], [4, -6]]
        assert display.chosen_.get_xydata().tolist() == [[2, -5]]
        assert legend(display) == ["chosen: 2"]
        assert "nats" in display.ax_.get_ylabel()


def test_a_chosen_size_without_a_score_is_a_line_alone():
    curve = {"n_components": np.array([1, 3]), "score": np.array([-9.0, -5.0])}
    display = SizeDisplay.from_estimator(fitted_by_itself(**curve))
    assert display.chosen_ is None
    assert [2, 2] in [list(line.get_xdata()) for line in display.ax_.lines]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SizeDisplay.from_estimator(PCA(2).fit(X)), "PCA has no size_curve_.*=2.*'auto'"),
        (lambda: SizeDisplay.from_estimator(fitted_by_itself()), "no size_curve_"),
        (lambda: SizeDisplay.from_search(PCA(2).fit(X)), "PCA is no search.*from_estimator"),
        (
            lambda: SizeDisplay.from_search(results_of(beta=[1], folds=[[1, 2]])),
            r"no n_components: it has \['beta'\].*param='beta'",
        ),
        (
            lambda: SizeDisplay.from_search(
                results_of(a__n_components=[1], b__n_components=[1], folds=[[1, 2]])
            ),
            "more than one n_components.*param='a__n_components'",
        ),
        (
            lambda: SizeDisplay.from_search(results_of(**GRID), by="alpha"),
            r"by must name one of .*\['n_components', 'beta'\]\. Got 'alpha'",
        ),
        (
            lambda: SizeDisplay.from_search(results_of(**GRID), metric="r2"),
            r"metric must be one of \['score'\]\. Got 'r2'",
        ),
        (
            lambda: SizeDisplay.from_search(
                results_of(n_components=np.array([1, "auto"], dtype=object), folds=[[1, 2]] * 2)
            ),
            "n_components='auto'.*Leave it out.*from_estimator",
        ),
        (
            lambda: SizeDisplay.from_search(results_of(n_components=[-9], folds=[[1, 2]])),
            "No candidate.*'n_components'",
        ),
        (lambda: SizeDisplay(n_components=[1, 2], score=[1]).plot(), "score must .* 2 .*Got 1"),
        (
            lambda: SizeDisplay(n_components=[1], score=[1], standard_error=[1, 2]).plot(),
            "standard_error must .*Got 2",
        ),
        (lambda: SizeDisplay(n_components=[[1]], score=[1]).plot(), r"n_components .*\(1, 1\)"),
    ],
)
def test_what_has_no_sizes_is_told_so(make, message):
    with pytest.raises(ValueError, match=message):
        make()
    assert not plt.get_fignums()
