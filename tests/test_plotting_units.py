"""Pictures of units: features with bars, and images of what each writes."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import SparseAutoencoderTransformer
from skae.plotting import UnitsDisplay
from tests.drawn import FRAME, X, no_figures, plt  # noqa: F401  no_figures is for all tests
from tests.helpers import QUICK, QUIET

pytestmark = QUIET

LINEAR = {**QUICK, "n_components": 5, "hidden_layer_sizes": (), "n_active": 2}


@pytest.fixture(scope="module")
def sparse():
    return SparseAutoencoderTransformer(**LINEAR).fit(FRAME)


def texts_of(display):
    return [text.get_text() for text in display.ax_.texts]


def test_bars_are_the_features_that_units_write_most(sparse):
    display = UnitsDisplay.from_estimator(sparse, FRAME, n_units=3, n_features=4)
    table = sparse.describe_units(FRAME, n_features=4)
    table = table.sort_values("rate", ascending=False, kind="stable").iloc[:3]
    assert display.units.tolist() == table.index.tolist()
    assert display.rates.tolist() == table["rate"].tolist()
    assert display.features == table["features"].tolist()
    assert display.weights == table["weights"].tolist()
    for bars, weights in zip(display.bars_, display.weights, strict=True):
        lengths = np.array([bar.get_width() for bar in bars])
        np.testing.assert_allclose(lengths / lengths[0], np.abs(weights) / abs(weights[0]))
        colours = {to_hex(bar.get_facecolor()).upper() for bar in bars}
        assert len(colours) == len(set(np.sign(weights)))


def test_units_have_a_title_and_names_beside_their_bars():
    display = UnitsDisplay(
        units=[7, 9],
        rates=[0.021, 1.0],
        weights=[[2.0, -1.0], [3.0]],
        features=[["orbit", "a very long name of a feature"], ["moon"]],
    ).plot()
    assert texts_of(display) == [
        *("unit 7, on 2.1 % of rows", "orbit", "a very long name …"),
        *("unit 9, on 100 % of rows", "moon"),
    ]
    places = {text.get_text(): text.get_position()[1] for text in display.ax_.texts}
    assert places["orbit"] == display.bars_[0][0].get_y() + 0.375
    colours = [to_hex(bar.get_facecolor()).upper() for bar in display.bars_[0]]
    assert colours == ["#0072B2", "#D55E00"]
    assert display.ax_.get_xlabel() == "blue adds, vermilion takes away"


def test_nothing_is_said_of_taking_away_where_all_units_add():
    display = UnitsDisplay(units=[0], rates=[0.5], weights=[[1.0]], features=[["a"]]).plot()
    assert display.ax_.get_xlabel() == ""


def test_units_can_be_chosen(sparse):
    display = UnitsDisplay.from_estimator(sparse, units=[4, 1])
    assert display.units.tolist() == [4, 1]
    assert display.features == sparse.describe_units()["features"][[4, 1]].tolist()


def test_images_are_what_one_more_of_a_unit_adds():
    images = load_digits().data[:100]
    settings = {"sparsity": "topk", "max_iter": 20}
    sparse = SparseAutoencoderTransformer(**{**LINEAR, **settings}).fit(images)
    display = UnitsDisplay.from_estimator(sparse, images, image_shape=(8, 8))
    nothing = sparse.inverse_transform(np.zeros((1, 5)))
    added = sparse.inverse_transform(np.eye(5)) - nothing
    canvas = display.mesh_.get_array()
    assert (display.mesh_.get_clim(), display.mesh_.get_cmap().name) == ((-1, 1), "RdBu_r")
    assert display.ax_.get_xlabel() == "red adds, blue takes away"
    for place, unit in enumerate(display.units):
        if not display.rates[place]:
            continue
        np.testing.assert_allclose(
            display.weights[place], added[unit], rtol=1e-3, atol=1e-4 * np.abs(added).max()
        )
        cells = canvas[-8:, place * 9 : place * 9 + 8]
        shown = added[unit] / np.abs(added[unit]).max()
        np.testing.assert_allclose(cells, shown.reshape(8, 8), atol=2e-3)
        assert texts_of(display)[place].startswith(f"{unit}\n")


def test_many_images_stand_in_lines_of_eight_and_may_have_colours():
    weights = np.arange(10 * 12).reshape(10, 12) - 60.0
    settings = {"units": range(10), "rates": np.full(10, 0.1), "weights": weights}
    grey = UnitsDisplay(**settings, image_shape=(3, 4)).plot().mesh_.get_array()
    assert grey[-3:, 5:9].tolist() == (weights[9] / np.abs(weights[9]).max()).reshape(3, 4).tolist()
    assert grey[-3:, 10:].mask.all()
    colours = UnitsDisplay(**settings, image_shape=(2, 2, 3)).plot().mesh_.get_array()
    expected = (weights[9] / np.abs(weights[9]).max() + 1) / 2
    np.testing.assert_allclose(colours[-2:, 3:5], expected.reshape(2, 2, 3))


def test_a_dead_unit_is_drawn_as_nothing():
    settings = {"units": [3], "rates": [0.0]}
    bars = UnitsDisplay(**settings, weights=[[]], features=[[]]).plot()
    assert texts_of(bars) == ["unit 3, on 0 % of rows"]
    image = UnitsDisplay(**settings, weights=[np.zeros(4)], image_shape=(2, 2)).plot()
    assert not image.mesh_.get_array()[-2:].any()


def test_features_of_a_pipeline_have_the_names_of_its_steps():
    texts = ["a cat sat", "a dog sat", "dogs and cats", "no cat"] * 5
    words = TfidfVectorizer()
    pipeline = make_pipeline(words, SparseAutoencoderTransformer(**LINEAR)).fit(texts)
    display = UnitsDisplay.from_estimator(pipeline, texts)
    table = pipeline[-1].describe_units(words.transform(texts))
    names = dict(zip([f"x{i}" for i in range(7)], words.get_feature_names_out(), strict=True))
    expected = [[names[one] for one in table["features"][unit]] for unit in display.units]
    assert display.features == expected
    given = UnitsDisplay.from_estimator(pipeline, texts, feature_names=list("tuvwxyz"))
    assert set(np.concatenate(given.features)) <= set("tuvwxyz")
    search = GridSearchCV(pipeline, {"sparseautoencodertransformer__n_active": [2]}, cv=2)
    search.fit(texts)
    assert UnitsDisplay.from_estimator(search, texts).features == expected


def test_a_frame_keeps_its_names_through_steps():
    pipeline = make_pipeline(StandardScaler(), SparseAutoencoderTransformer(**LINEAR)).fit(FRAME)
    display = UnitsDisplay.from_estimator(pipeline, FRAME)
    assert set(np.concatenate(display.features)) <= set(FRAME.columns)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_units": 0}, "n_units must be an int of at least 1. Got 0"),
        ({"units": [5]}, r"numbers of the 5 units, from 0. Got \[5\]"),
        ({"units": [-1]}, r"Got \[-1\]"),
        ({"units": [0.5]}, r"Got \[0\.5\]"),
        ({"image_shape": (2, 2)}, r"as many cells as a unit has weights, 6. Got \(2, 2\)"),
        ({"feature_names": ["a"]}, "feature_names must have one entry for each of the 6 features"),
        ({"n_features": 0}, "'n_features' parameter of describe_units"),
    ],
)
def test_units_that_cannot_be_drawn_are_named(sparse, settings, message):
    with pytest.raises(ValueError, match=message):
        UnitsDisplay.from_estimator(sparse, FRAME, **settings)
    assert not plt.get_fignums()


def test_what_does_not_fit_is_named():
    settings = {"units": [1], "rates": [0.1], "weights": [[1.0, 2.0]]}
    with pytest.raises(ValueError, match="features must be the names"):
        UnitsDisplay(**settings).plot()
    with pytest.raises(ValueError, match="one entry for each of the weights of a unit, 2 in all"):
        UnitsDisplay(**settings, features=[["a"]]).plot()
    with pytest.raises(ValueError, match="rates must have one entry for each of the units"):
        UnitsDisplay(**{**settings, "rates": []}, features=[["a", "b"]]).plot()
    with pytest.raises(ValueError, match=r"UnitsDisplay needs .*PCA has no describe_units"):
        UnitsDisplay.from_estimator(PCA(2).fit(X), X)


def test_rates_of_a_frame_without_rows_are_those_of_the_training(sparse):
    display = UnitsDisplay.from_estimator(sparse, n_units=5)
    expected = sparse.describe_units()["rate"].sort_values(ascending=False, kind="stable")
    assert pd.Series(display.rates, display.units).to_dict() == expected.to_dict()
