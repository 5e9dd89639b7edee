"""Pictures of rows: a map of their codes, and rows beside their reconstruction."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.manifold import TSNE
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skae import AutoencoderTransformer, SparseAutoencoderTransformer, VAETransformer
from skae.plotting import LatentMapDisplay, ReconstructionDisplay
from tests.drawn import FRAME, X, legend, no_figures, plt, ticks  # noqa: F401  no_figures is for all tests
from tests.helpers import QUICK, QUIET, counts

pytestmark = QUIET


@pytest.fixture(scope="module")
def autoencoder():
    return AutoencoderTransformer(**QUICK).fit(X)


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
    names = pd.Series([f"word{place}" for place in range(100)], index=np.arange(100, 200))
    display = ReconstructionDisplay(
        rows=rows, reconstructions=0 * rows, feature_names=names, max_features=2, scaled=False
    ).plot()
    assert display.features_.tolist() == [20, 70]
    assert ticks(display.ax_.xaxis) == ["word20", "word70"]


def test_only_the_rows_that_are_shown_are_made_dense_or_encoded():
    rng = np.random.default_rng(0)
    cells = np.arange(20_000).repeat(2), rng.integers(0, 50_000, size=40_000)
    table = sp.coo_array((np.ones(40_000), cells), shape=(20_000, 50_000))
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
