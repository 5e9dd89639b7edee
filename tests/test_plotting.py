"""Pictures: where each display is drawn, and what is said where nothing can be."""

import itertools
import pickle
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import VAETransformer
from skae.plotting import (
    LatentMapDisplay,
    LatentUseDisplay,
    LossCurveDisplay,
    ReconstructionDisplay,
    SizeDisplay,
    UnitsDisplay,
)
from tests.drawn import X, no_figures, plt  # noqa: F401  no_figures is for all tests
from tests.helpers import QUICK, QUIET

pytestmark = QUIET

HAND_MADE = {
    "loss": LossCurveDisplay(terms={"objective": [3.0, 2.0, 1.5]}),
    "size": SizeDisplay(n_components=[1, 2, 4], score=[-3.0, -1.0, -2.0], chosen=2),
    "use": LatentUseDisplay(use=[0.1, 2.0, 1.0]),
    "map": LatentMapDisplay(points=X[:, :2], y=X[:, 2]),
    "rows": ReconstructionDisplay(rows=X[:3], reconstructions=X[:3] + 0.1),
    "images": ReconstructionDisplay(rows=X[:3], reconstructions=X[3:6], image_shape=(2, 3)),
    "units": UnitsDisplay(
        units=[3, 5],
        rates=[0.02, 0.5],
        weights=[[2.0, -1.0], [0.5, 0.4]],
        features=[["a feature of eighteen", "b"], ["c", "d"]],
    ),
    "strokes": UnitsDisplay(units=[0, 1], rates=[0.1, 1.0], weights=X[:2], image_shape=(2, 3)),
}
every_display = pytest.mark.parametrize("display", HAND_MADE.values(), ids=HAND_MADE)


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


@pytest.mark.parametrize("name", ["loss", "size", "map"])
def test_a_legend_stays_inside_axes_that_were_given(name):
    figure, ax = plt.subplots(layout="constrained")
    display = pickle.loads(pickle.dumps(HAND_MADE[name]))
    if name == "map":
        display.y = np.arange(len(X)) % 3
    display.plot(ax)
    figure.canvas.draw()
    inside, found = ax.get_window_extent(), ax.get_legend().get_window_extent()
    assert inside.x0 <= found.x0
    assert found.x1 <= inside.x1
    own = pickle.loads(pickle.dumps(HAND_MADE["loss"])).plot()
    own.figure_.canvas.draw()
    assert own.ax_.get_legend().get_window_extent().x0 >= own.ax_.get_window_extent().x1


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
    texts += ax.texts
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
    "units": lambda estimator: UnitsDisplay.from_estimator(estimator, X),
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
