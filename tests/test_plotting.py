"""Pictures: what is drawn of which estimator, where, and what is said where nothing can be."""

import itertools
import pickle
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    KFold,
    RandomizedSearchCV,
    ShuffleSplit,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skae import (
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    SparseAutoencoderTransformer,
    VAETransformer,
)
from skae.plotting import (
    LatentMapDisplay,
    LatentUseDisplay,
    LossCurveDisplay,
    ReconstructionDisplay,
    SizeDisplay,
)
from tests.helpers import QUICK, QUIET, counts, low_rank

plt = pytest.importorskip("matplotlib.pyplot")
pytestmark = QUIET

X = low_rank(n_rows=60, n_features=6)
FRAME = pd.DataFrame(X, columns=list("abcdef"))
HAND_MADE = {
    "loss": LossCurveDisplay(terms={"objective": [3.0, 2.0, 1.5]}),
    "size": SizeDisplay(n_components=[1, 2, 4], score=[-3.0, -1.0, -2.0], chosen=2),
    "use": LatentUseDisplay(use=[0.1, 2.0, 1.0]),
    "map": LatentMapDisplay(points=X[:, :2], y=X[:, 2]),
    "rows": ReconstructionDisplay(rows=X[:3], reconstructions=X[:3] + 0.1),
    "images": ReconstructionDisplay(rows=X[:3], reconstructions=X[3:6], image_shape=(2, 3)),
}
every_display = pytest.mark.parametrize("display", HAND_MADE.values(), ids=HAND_MADE)


@pytest.fixture(autouse=True)
def no_figures():
    """Draw to files, and leave no figure to other tests."""
    plt.switch_backend("Agg")
    plt.close("all")
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def vae():
    return VAETransformer(**QUICK, early_stopping=True).fit(X)


@pytest.fixture(scope="module")
def autoencoder():
    return AutoencoderTransformer(**QUICK).fit(X)


def legend(display):
    found = display.ax_.get_legend()
    return [] if found is None else [text.get_text() for text in found.get_texts()]


def ticks(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


# Every display.


@every_display
def test_a_new_figure_is_made_and_only_one(display):
    display = pickle.loads(pickle.dumps(display))
    assert display.plot() is display
    assert plt.get_fignums() == [display.figure_.number]
    assert display.ax_ in display.figure_.axes
    display.figure_.canvas.draw()


@every_display
def test_given_axes_are_drawn_on_and_nothing_else_is_touched(display):
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3))
    figure.suptitle("mine")
    right.plot([0, 1])
    others = figure.axes.copy()
    drawn = pickle.loads(pickle.dumps(display)).plot(ax=left)
    assert drawn.ax_ is left
    assert drawn.figure_ is figure
    assert plt.get_fignums() == [figure.number]
    bar = getattr(drawn, "colorbar_", None)
    assert figure.axes == others + ([] if bar is None else [bar.ax])
    assert figure.get_size_inches().tolist() == [9, 3]
    assert figure.get_suptitle() == "mine"
    assert figure.get_layout_engine() is None
    assert len(right.lines) == 1
    assert not right.get_xlabel()


@pytest.mark.parametrize("display", [HAND_MADE["map"], HAND_MADE["rows"]], ids=["map", "rows"])
def test_without_a_colour_bar_no_axes_are_added(display):
    figure, ax = plt.subplots()
    assert pickle.loads(pickle.dumps(display)).plot(ax, colorbar=False).colorbar_ is None
    assert figure.axes == [ax]


@every_display
def test_a_drawn_display_can_be_stored(display):
    display = pickle.loads(pickle.dumps(display)).plot()
    assert type(pickle.loads(pickle.dumps(display))) is type(display)


@every_display
def test_no_text_is_cut_off_and_ticks_do_not_overlap(display):
    display = pickle.loads(pickle.dumps(display)).plot()
    figure, ax = display.figure_, display.ax_
    figure.canvas.draw()
    outer = figure.bbox.padded(1)
    texts = [ax.xaxis.label, ax.yaxis.label, *ax.get_yticklabels()]
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    assert all(outer.x0 <= box.x0 and box.x1 <= outer.x1 for box in boxes)
    along = [one.get_window_extent() for one in ax.get_xticklabels() if not one.get_rotation()]
    along = sorted((box for box in along if box.width > 1), key=lambda box: box.x0)
    assert all(one.x1 < other.x0 for one, other in itertools.pairwise(along))


@every_display
def test_axes_that_are_none_are_named(display):
    axes = np.array([None, None])
    with pytest.raises(TypeError, match=r"Got ndarray\. Give one of them, such as axes\[0\]"):
        display.plot(axes)
    with pytest.raises(TypeError, match=r"matplotlib Axes or None\. Got str"):
        display.plot("left")


@every_display
def test_without_matplotlib_the_extra_is_named(display, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=rf"{type(display).__name__} draws .* extra 'plots'"):
        display.plot()


def test_without_matplotlib_nothing_is_computed_before_that_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match="plots"):
        LatentMapDisplay.from_estimator(SimpleNamespace(), X)


def test_importing_the_displays_imports_no_matplotlib():
    code = "import skae.plotting, sys; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


FROM = {
    "loss": LossCurveDisplay.from_estimator,
    "size": SizeDisplay.from_estimator,
    "use": lambda estimator: LatentUseDisplay.from_estimator(estimator, X),
    "map": lambda estimator: LatentMapDisplay.from_estimator(estimator, X),
    "rows": lambda estimator: ReconstructionDisplay.from_estimator(estimator, X),
}
every_maker = pytest.mark.parametrize("make", FROM.values(), ids=FROM)


@every_maker
@pytest.mark.parametrize(
    "estimator",
    [
        VAETransformer(),
        make_pipeline(StandardScaler(), VAETransformer()),
        GridSearchCV(VAETransformer(), {"n_components": [1]}),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_unfitted_estimators_are_not_drawn(make, estimator):
    with pytest.raises(NotFittedError, match="not fitted"):
        make(clone(estimator))
    assert not plt.get_fignums()


@every_maker
def test_a_pipeline_that_goes_on_after_the_codes_is_told_what_to_leave_out(make):
    y = X[:, 0] > 0
    pipeline = make_pipeline(VAETransformer(**QUICK), LogisticRegression()).fit(X, y)
    with pytest.raises(ValueError, match="LogisticRegression"):
        make(pipeline)
    assert not plt.get_fignums()


# The loss.


def test_loss_has_the_terms_by_name_and_rows_held_out_beside(vae):
    display = LossCurveDisplay.from_estimator(vae)
    assert list(display.terms) == ["objective", "reconstruction", "kl"]
    lines = {line.get_label(): line for line in display.lines_}
    for name in display.terms:
        assert lines[name].get_ydata().tolist() == vae.history_[name]
        held_out = lines[f"{name}, held out"]
        assert held_out.get_ydata().tolist() == vae.history_[f"valid_{name}"]
        assert held_out.get_color() == lines[name].get_color()
        assert held_out.get_linestyle() != lines[name].get_linestyle()
        assert lines[name].get_xdata().tolist() == list(range(1, vae.n_iter_ + 1))
    assert display.ax_.get_ylabel() == "loss (nats a row)"
    assert display.ax_.get_xlabel() == "epoch"


def test_what_was_held_out_is_drawn_as_a_loss_and_its_lowest_epoch_is_marked(vae):
    display = LossCurveDisplay.from_estimator(vae)
    lines = {line.get_label(): line for line in display.lines_}
    loss = -np.array(vae.validation_scores_)
    np.testing.assert_allclose(lines["objective, held out"].get_ydata(), loss)
    best = int(loss.argmin())
    ring = lines[f"lowest held out: epoch {best + 1}"]
    np.testing.assert_allclose(ring.get_xydata(), [[best + 1, loss[best]]])
    assert legend(display) == [
        *("objective", "reconstruction", "kl", "rows held out"),
        f"lowest held out: epoch {best + 1}",
    ]


def test_a_term_that_is_the_objective_is_not_drawn_twice(autoencoder):
    assert "reconstruction" in autoencoder.history_
    assert list(LossCurveDisplay.from_estimator(autoencoder).terms) == ["objective"]


def test_other_terms_are_drawn_if_named_and_have_no_unit():
    sparse = SparseAutoencoderTransformer(**QUICK).fit(X)
    display = LossCurveDisplay.from_estimator(sparse, terms=["objective", "sparsity"])
    assert legend(display) == ["objective", "sparsity"]
    assert "own unit" in display.ax_.get_ylabel()
    assert LossCurveDisplay.from_estimator(sparse, terms="sparsity").ax_.get_ylabel() == "loss"


def test_epochs_without_rows_held_out_are_gaps(vae):
    going_on = pickle.loads(pickle.dumps(vae)).partial_fit(X)
    display = LossCurveDisplay.from_estimator(going_on)
    assert np.isnan(display.held_out["objective"]).tolist() == [False] * vae.n_iter_ + [True]


def test_a_training_of_one_epoch_can_be_seen(autoencoder):
    one = clone(autoencoder).partial_fit(X)
    (line,) = LossCurveDisplay.from_estimator(one).lines_
    assert line.get_marker() not in ("", "None")


def test_loss_of_a_pipeline_and_of_a_search_is_that_of_the_last_step(vae):
    pipeline = make_pipeline(StandardScaler(), VAETransformer(**QUICK)).fit(X)
    display = LossCurveDisplay.from_estimator(pipeline)
    assert display.terms["kl"].tolist() == pipeline[-1].history_["kl"]
    search = GridSearchCV(VAETransformer(**QUICK), {"beta": [1.0]}, cv=2).fit(X)
    display = LossCurveDisplay.from_estimator(search)
    assert display.terms["kl"].tolist() == search.best_estimator_.history_["kl"]


def test_loss_curve_alone_is_drawn_as_it_is():
    class Other(BaseEstimator):
        def fit(self, X):
            self.loss_curve_ = [2.0, 1.0]
            return self

    display = LossCurveDisplay.from_estimator(Other().fit(X))
    assert [line.get_label() for line in display.lines_] == ["loss"]
    assert display.ax_.get_ylabel() == "loss"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"terms": {}}, "at least one term"),
        ({"terms": {"a": [[1.0]]}}, r"terms\['a'\] must be one-dimensional.*\(1, 1\)"),
        ({"terms": {"a": []}}, r"terms\['a'\] .*\(0,\)"),
        ({"terms": {"a": [1.0, 2.0]}, "held_out": {"a": [1.0]}}, r"held_out\['a'\].* 1 epochs"),
        ({"terms": {"a": [1.0]}, "held_out": {"b": [1.0]}}, r"held_out\['b'\]"),
    ],
)
def test_terms_that_do_not_fit_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        LossCurveDisplay(**settings).plot()
    assert not plt.get_fignums()


def test_unknown_terms_and_estimators_without_losses_are_errors(vae):
    with pytest.raises(ValueError, match=r"some of \[.*'kl'.*\]\. Got \['entropy'\]"):
        LossCurveDisplay.from_estimator(vae, terms=["entropy"])
    with pytest.raises(ValueError, match="PCA has kept neither"):
        LossCurveDisplay.from_estimator(PCA(2).fit(X))
    assert not plt.get_fignums()


# The size.

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


# The use of the components.


def heights(display):
    return [bar.get_height() for bar in display.bars_]


def test_use_of_a_vae_is_its_kl_sorted(vae):
    shuffled = pickle.loads(pickle.dumps(vae))
    shuffled.kl_ = vae.kl_[[1, 2, 0]]
    display = LatentUseDisplay.from_estimator(shuffled)
    assert heights(display) == sorted(vae.kl_, reverse=True)
    assert shuffled.kl_[display.order_].tolist() == heights(display)
    assert display.ax_.get_ylabel() == "KL from the prior (nats)"


def test_use_of_codes_is_their_variance(autoencoder):
    display = LatentUseDisplay.from_estimator(autoencoder, X)
    variance = autoencoder.transform(X).var(axis=0)
    np.testing.assert_allclose(heights(display), np.sort(variance)[::-1], rtol=1e-5)
    assert display.ax_.get_ylabel() == "variance of the code"


@pytest.mark.parametrize("sparse_output", [False, True])
def test_use_of_sparse_codes_is_their_mean_activation(sparse_output):
    sparse = SparseAutoencoderTransformer(**QUICK, sparse_output=sparse_output).fit(X)
    codes = sparse.transform(X)
    codes = codes.toarray() if sparse_output else codes
    display = LatentUseDisplay.from_estimator(sparse, X)
    np.testing.assert_allclose(heights(display), np.sort(codes.mean(axis=0))[::-1], rtol=1e-5)
    assert display.ax_.get_ylabel() == "mean activation"
    variance = LatentUseDisplay.from_estimator(sparse, X, measure="variance")
    np.testing.assert_allclose(heights(variance), np.sort(codes.var(axis=0))[::-1], rtol=1e-4)


def test_use_in_a_pipeline_sees_the_rows_as_the_estimator_does():
    pipeline = make_pipeline(StandardScaler(), AutoencoderTransformer(**QUICK)).fit(X)
    display = LatentUseDisplay.from_estimator(pipeline, X)
    variance = pipeline.transform(X).var(axis=0)
    np.testing.assert_allclose(heights(display), np.sort(variance)[::-1], rtol=1e-5)


def test_a_kl_of_the_whole_code_is_not_taken_for_that_of_a_component(vae):
    whole = pickle.loads(pickle.dumps(vae))
    whole.kl_ = vae.kl_.sum(keepdims=True)
    with pytest.raises(ValueError, match="no kl_ of single components, of which it has 3"):
        LatentUseDisplay.from_estimator(whole)
    display = LatentUseDisplay.from_estimator(whole, X)
    assert display.ax_.get_ylabel() == "variance of the code"


def test_use_that_cannot_be_known_is_an_error(autoencoder):
    with pytest.raises(ValueError, match=r"AutoencoderTransformer has no kl_\. Give rows X"):
        LatentUseDisplay.from_estimator(autoencoder)
    with pytest.raises(ValueError, match="has no kl_"):
        LatentUseDisplay.from_estimator(autoencoder, X, measure="kl")
    with pytest.raises(ValueError, match=r"one of \['auto', 'kl'.*Got 'rate'"):
        LatentUseDisplay.from_estimator(autoencoder, X, measure="rate")
    with pytest.raises(ValueError, match=r"use must be one-dimensional.*\(3, 1\)"):
        LatentUseDisplay(use=np.ones((3, 1))).plot()
    detector = AutoencoderOutlierDetector(random_state=0, criterion="neighbours_and_network")
    with pytest.raises(ValueError, match="AutoencoderOutlierDetector has no transform"):
        LatentUseDisplay.from_estimator(detector.fit(X), X)
    assert not plt.get_fignums()


# The map.


def test_map_shows_two_components(autoencoder):
    codes = autoencoder.transform(X)
    display = LatentMapDisplay.from_estimator(autoencoder, X)
    np.testing.assert_array_equal(display.scatters_[0].get_offsets(), codes[:, :2])
    assert legend(display) == []
    other = LatentMapDisplay.from_estimator(autoencoder, X, components=(2, -3))
    np.testing.assert_array_equal(other.scatters_[0].get_offsets(), codes[:, [2, 0]])
    assert (other.ax_.get_xlabel(), other.ax_.get_ylabel()) == ("component 2", "component 0")


KINDS = {
    "texts": (np.array(["b", "a", "b"]), ["a", "b"]),
    "truth values": (np.array([True, False, True]), ["False", "True"]),
    "whole numbers": (np.array([3, 1, 3]), ["1", "3"]),
    "whole floats": (np.array([0.0, 1.0, 0.0]), ["0.0", "1.0"]),
    "a list": (["x", "y", "x"], ["x", "y"]),
    "a column": (np.array([["x"], ["y"], ["x"]]), ["x", "y"]),
    "categories in their order": (
        pd.Series(pd.Categorical(["low", "high", "low"], ["low", "high", "top"]), index=[7, 8, 9]),
        ["low", "high"],
    ),
    "a text and none": (np.array(["a", None, "a"], dtype=object), ["a", "missing"]),
}


@pytest.mark.parametrize(("y", "expected"), KINDS.values(), ids=KINDS)
def test_categories_have_a_legend_and_a_colour_each(y, expected):
    points = np.arange(6.0).reshape(3, 2)
    display = LatentMapDisplay(points=points, y=y).plot()
    assert legend(display) == expected
    assert display.colorbar_ is None
    sizes = sorted(len(one.get_offsets()) for one in display.scatters_)
    assert sizes == [1, 2]
    colours = {tuple(one.get_facecolor()[0]) for one in display.scatters_}
    assert len(colours) == 2


def test_points_of_a_category_are_its_rows():
    points, y = np.arange(8.0).reshape(4, 2), np.array(["b", "a", "b", "a"])
    first, second = LatentMapDisplay(points=points, y=y).plot().scatters_
    assert first.get_offsets().tolist() == points[[1, 3]].tolist()
    assert second.get_offsets().tolist() == points[[0, 2]].tolist()


def test_numbers_have_a_colour_bar_with_their_name(autoencoder):
    y = pd.Series(np.linspace(0, 1, 60), name="alcohol (%)")
    y[:2] = np.nan
    display = LatentMapDisplay.from_estimator(autoencoder, X, y)
    numbers, missing = display.scatters_
    assert numbers.get_array().tolist() == y[2:].tolist()
    assert len(missing.get_offsets()) == 2
    assert display.colorbar_.ax.get_ylabel() == "alcohol (%)"
    assert numbers.get_cmap().name == "viridis"
    assert legend(display) == ["missing"]


def test_many_whole_numbers_are_numbers_and_many_categories_can_be_told_apart():
    points = np.random.default_rng(0).normal(size=(100, 2))
    assert LatentMapDisplay(points=points, y=np.arange(100)).plot().colorbar_ is not None
    names = [f"c{place:02d}" for place in range(20)]
    display = LatentMapDisplay(points=points, y=np.resize(names, 100)).plot()
    looks = {
        (tuple(one.get_facecolor()[0]), one.get_paths()[0].vertices.tobytes())
        for one in display.scatters_
    }
    assert len(looks) == 20
    assert legend(display) == names


def test_the_rarest_of_very_many_categories_are_one():
    y = np.repeat([f"c{place:02d}" for place in range(30)], np.arange(30, 0, -1))
    points = np.zeros((len(y), 2))
    display = LatentMapDisplay(points=points, y=y).plot()
    assert legend(display) == [*(f"c{place:02d}" for place in range(23)), "7 others"]
    assert len(display.scatters_[-1].get_offsets()) == sum(range(1, 8))


def test_a_projection_sees_all_codes_and_is_not_changed(autoencoder):
    projection = TSNE(random_state=0, max_iter=250, perplexity=5)
    display = LatentMapDisplay.from_estimator(autoencoder, X, projection=projection)
    expected = clone(projection).fit_transform(autoencoder.transform(X))
    np.testing.assert_allclose(display.points, expected, rtol=1e-5)
    assert display.axis_names == ("TSNE 0", "TSNE 1")
    assert not hasattr(projection, "embedding_")


def test_map_of_sparse_codes_and_of_a_pipeline_on_texts():
    sparse = SparseAutoencoderTransformer(**QUICK, sparse_output=True).fit(X)
    display = LatentMapDisplay.from_estimator(sparse, X)
    np.testing.assert_array_equal(display.points, sparse.transform(X).toarray()[:, :2])
    texts = ["a cat sat", "a dog sat", "dogs and cats", "no cat"] * 5
    pipeline = make_pipeline(TfidfVectorizer(), AutoencoderTransformer(**QUICK)).fit(texts)
    display = LatentMapDisplay.from_estimator(pipeline, texts, ["x", "y"] * 10)
    np.testing.assert_array_equal(display.points, pipeline.transform(texts)[:, :2])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"components": (0, 3)}, r"two of the 3 components.*Got \(0, 3\)"),
        ({"components": (0, 1, 2)}, r"Got \(0, 1, 2\)"),
        ({"components": 1}, "Got 1"),
        ({"components": (0.5, 1)}, r"Got \(0\.5, 1\)"),
        ({"components": TSNE()}, r"Got TSNE\(\).*projection is a parameter"),
        ({"projection": "tsne"}, "fit_transform.*Got 'tsne'"),
        ({"projection": PCA(3)}, r"PCA made the shape \(60, 3\); set its n_components=2"),
        ({"y": np.zeros(59)}, "y must have one entry for each of points, 60 in all. Got 59"),
        ({"y": np.zeros((60, 2))}, r"y must have one entry a row.*\(60, 2\)"),
    ],
)
def test_maps_that_cannot_be_drawn_are_named(autoencoder, settings, message):
    with pytest.raises(ValueError, match=message):
        LatentMapDisplay.from_estimator(autoencoder, X, **settings)
    assert not plt.get_fignums()


def test_points_must_be_pairs():
    with pytest.raises(ValueError, match=r"points .*\(n_samples, 2\)\. Got \(60, 6\)"):
        LatentMapDisplay(points=X).plot()
    one = AutoencoderTransformer(**{**QUICK, "n_components": 1}).fit(X)
    with pytest.raises(ValueError, match=r"two of the 1 components"):
        LatentMapDisplay.from_estimator(one, X)


# Rows beside their reconstruction.


def strips(display):
    """Return what is drawn of rows and of reconstructions."""
    cells = np.ma.filled(display.mesh_.get_array(), np.nan)
    return cells[0::3], cells[1::3]


def test_rows_are_spread_over_the_table_and_stand_above_their_reconstruction(autoencoder):
    display = ReconstructionDisplay.from_estimator(autoencoder, X, 3, scaled=False)
    places = [0, 30, 59]
    rows, made = strips(display)
    np.testing.assert_allclose(rows, X[places])
    np.testing.assert_allclose(made, autoencoder.reconstruct(X[places]), rtol=1e-5)
    expected = [text for place in places for text in (f"row {place}", "reconstruction")]
    assert ticks(display.ax_.yaxis) == expected
    bottom, top = display.ax_.get_ylim()
    assert bottom > top  # the first row is above
    assert ticks(display.ax_.xaxis) == list("012345")


def test_columns_are_brought_to_one_scale_unless_rows_are_sparse(autoencoder):
    display = ReconstructionDisplay.from_estimator(autoencoder, X, 3)
    both = np.concatenate(strips(display))
    np.testing.assert_allclose(both.min(axis=0), 0)
    np.testing.assert_allclose(both.max(axis=0), 1)
    assert "of its column" in display.colorbar_.ax.get_ylabel()
    display = ReconstructionDisplay.from_estimator(autoencoder, sp.coo_array(X), 3)
    np.testing.assert_allclose(strips(display)[0], X[[0, 30, 59]])
    assert display.colorbar_.ax.get_ylabel() == "value"


def test_a_constant_column_is_in_the_middle():
    rows = np.array([[1.0, 5.0], [2.0, 5.0]])
    display = ReconstructionDisplay(rows=rows, reconstructions=rows).plot()
    assert strips(display)[0].tolist() == [[0, 0.5], [1, 0.5]]


def test_fewer_rows_than_asked_for_are_all_shown(autoencoder):
    display = ReconstructionDisplay.from_estimator(autoencoder, X[:2], 6)
    assert len(display.rows) == 2


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array, sp.csc_matrix])
def test_images_stand_above_their_reconstruction_on_one_scale(kind):
    images = load_digits().data[:50]
    model = AutoencoderTransformer(**QUICK).fit(images)
    display = ReconstructionDisplay.from_estimator(model, kind(images), 3, image_shape=(8, 8))
    drawn = np.ma.filled(display.mesh_.get_array(), np.nan)
    assert drawn.shape == (17, 26)
    shown = images[[0, 24, 49]]
    np.testing.assert_allclose(drawn[:8, 9:17], shown[1].reshape(8, 8) / shown.max())
    made = np.clip(model.reconstruct(shown)[2] / shown.max(), 0, 1).reshape(8, 8)
    np.testing.assert_allclose(drawn[9:, 18:], made, rtol=1e-4, atol=1e-5)
    assert ticks(display.ax_.yaxis) == ["X", "reconstruction"]
    assert ticks(display.ax_.xaxis) == ["0", "24", "49"]


def test_images_can_have_colours():
    images = np.random.default_rng(0).uniform(size=(2, 12))
    display = ReconstructionDisplay(rows=images, reconstructions=images, image_shape=(2, 2, 3))
    drawn = display.plot().mesh_.get_array()
    assert drawn.shape == (5, 5, 3)
    least, largest = images.min(), images.max()
    np.testing.assert_allclose(
        drawn[:2, :2], (images[0].reshape(2, 2, 3) - least) / (largest - least)
    )


def test_wide_tables_show_the_columns_that_differ_most():
    rows = np.zeros((3, 100))
    rows[0, 70], rows[1, 20], rows[2, 90] = 3.0, -2.0, 1.0
    names = [f"word{place}" for place in range(100)]
    display = ReconstructionDisplay(
        rows=rows, reconstructions=0 * rows, feature_names=names, max_features=2, scaled=False
    ).plot()
    assert display.features_.tolist() == [20, 70]
    assert ticks(display.ax_.xaxis) == ["word20", "word70"]


def test_only_the_rows_that_are_shown_are_made_dense_or_encoded():
    table = sp.random_array((20_000, 50_000), density=1e-5, format="csr", rng=0)
    seen = []

    class Model(BaseEstimator):
        def fit(self, X):
            self.is_fitted_ = True
            return self

        def reconstruct(self, X):
            seen.append(X.shape)
            return X.toarray()

    display = ReconstructionDisplay.from_estimator(Model().fit(table), table, 2)
    assert seen == [(2, 50_000)]
    assert len(display.features_) == 25


def test_without_reconstruct_codes_are_turned_back():
    pca = PCA(2).fit(X)
    display = ReconstructionDisplay.from_estimator(pca, X, 2)
    expected = pca.inverse_transform(pca.transform(X[[0, 59]]))
    np.testing.assert_allclose(display.reconstructions, expected)


def test_rows_of_a_pipeline_are_shown_in_the_units_of_the_table():
    pipeline = make_pipeline(StandardScaler(), AutoencoderTransformer(**QUICK)).fit(FRAME)
    display = ReconstructionDisplay.from_estimator(pipeline, FRAME, 2)
    scaler, model = pipeline
    shown = FRAME.iloc[[0, 59]]
    np.testing.assert_allclose(display.rows, shown)
    made = scaler.inverse_transform(model.reconstruct(scaler.transform(shown)))
    np.testing.assert_allclose(display.reconstructions, made)
    assert ticks(display.ax_.xaxis) == list("abcdef")


HEADS = {
    "says that it cannot": SimpleImputer(),
    "has no inverse and says nothing": FunctionTransformer(
        np.arcsinh, feature_names_out="one-to-one"
    ),
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_rows_are_gone_back_with_as_far_as_steps_can(head):
    pipeline = make_pipeline(head, StandardScaler(), AutoencoderTransformer(**QUICK)).fit(FRAME)
    display = ReconstructionDisplay.from_estimator(pipeline, FRAME, 2)
    after = pipeline[0].transform(FRAME.iloc[[0, 59]])
    np.testing.assert_allclose(display.rows, after)
    made = pipeline[2].reconstruct(pipeline[1].transform(after))
    np.testing.assert_allclose(display.reconstructions, pipeline[1].inverse_transform(made))
    assert ticks(display.ax_.xaxis) == list("abcdef")


def test_texts_are_shown_as_weights_of_words():
    texts = ["a cat sat", "the dog sat", "dogs and cats", "no cat"] * 5
    pipeline = make_pipeline(TfidfVectorizer(), AutoencoderTransformer(**QUICK)).fit(texts)
    display = ReconstructionDisplay.from_estimator(pipeline, texts, 2)
    weights = pipeline[0].transform(texts).toarray()[[0, 19]]
    np.testing.assert_allclose(strips(display)[0], weights)
    assert ticks(display.ax_.xaxis) == pipeline[0].get_feature_names_out().tolist()


def test_counts_keep_the_total_of_their_row():
    X = sp.csr_array(counts())
    model = VAETransformer(**QUICK, likelihood="poisson").fit(X)
    display = ReconstructionDisplay.from_estimator(model, X, 4)
    np.testing.assert_allclose(
        display.reconstructions, model.reconstruct(X[[0, 66, 133, 199]]), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_rows": 0}, "n_rows must be an int of at least 1. Got 0"),
        ({"n_rows": 2.5}, "Got 2.5"),
        ({"image_shape": (2, 2)}, r"image_shape .* columns, 6\. Got \(2, 2\)"),
        ({"image_shape": (6,)}, r"Got \(6,\)"),
        ({"image_shape": (1, 3, 2)}, r"Got \(1, 3, 2\)"),
        ({"feature_names": ["a", "b"]}, "feature_names must .*columns, 6 in all. Got 2"),
        ({"max_features": 0}, "max_features must be an int of at least 1. Got 0"),
    ],
)
def test_reconstructions_that_cannot_be_drawn_are_named(autoencoder, settings, message):
    with pytest.raises(ValueError, match=message):
        ReconstructionDisplay.from_estimator(autoencoder, X, **settings)
    assert not plt.get_fignums()


def test_rows_without_a_reconstruction_are_errors():
    with pytest.raises(ValueError, match=r"Got \(3, 6\) and \(2, 6\)"):
        ReconstructionDisplay(rows=X[:3], reconstructions=X[:2]).plot()
    tsne = TSNE(random_state=0, max_iter=250, perplexity=5).fit(X)
    with pytest.raises(ValueError, match="TSNE has no transform and no inverse_transform"):
        ReconstructionDisplay.from_estimator(tsne, X)
    assert not plt.get_fignums()


def test_real_names_are_drawn_whole_or_cut_with_a_sign():
    wine = load_wine(as_frame=True).data
    display = ReconstructionDisplay.from_estimator(PCA(2).fit(wine), wine, 2)
    names = ticks(display.ax_.xaxis)
    assert names[0] == "alcohol"
    assert names[11].endswith("…")
