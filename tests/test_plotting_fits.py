"""Pictures of one fit: its losses, and what its components carry."""

import pickle

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import (
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    SparseAutoencoderTransformer,
    VAETransformer,
)
from skae.plotting import LatentUseDisplay, LossCurveDisplay
from tests.drawn import X, legend, no_figures, plt  # noqa: F401  no_figures is for all tests
from tests.helpers import QUICK, QUIET

pytestmark = QUIET


@pytest.fixture(scope="module")
def vae():
    return VAETransformer(**QUICK, early_stopping=True).fit(X)


@pytest.fixture(scope="module")
def autoencoder():
    return AutoencoderTransformer(**QUICK).fit(X)


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
