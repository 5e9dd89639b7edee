"""The fits of a search in one pass: what comes out is what comes out without."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import (
    AutoencoderTransformer,
    DenoisingAETransformer,
    SparseAutoencoderTransformer,
    VAETransformer,
    together,
)
from skae.likelihoods import Gaussian

from . import beside
from .beside import SHORT, X, scores_of, search
from .helpers import QUIET, counts, one_hot, weights_of

pytestmark = [*QUIET, pytest.mark.filterwarnings("ignore:One or more of the test scores")]

passes = beside.passes


def assert_same(estimator, grid, X=X, **settings):
    """Fail where scores of a search are not equal with and without."""
    with together():
        found = scores_of(search(clone(estimator), grid, X, **settings))
    expected = scores_of(search(clone(estimator), grid, X, **settings))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    assert np.isfinite(expected).all()


GRIDS = {
    "n_components": [1, 2, 5],
    "alpha": [0.0, 0.3],
    "learning_rate": ["constant", "cosine"],
    "learning_rate_init": [1e-3, 1e-2],
    "max_iter": [2, 5, 9],
    "tol": [1e-4, 0.5],
    "n_iter_no_change": [1, 2],
    "random_state": [0, 1, 2],
    "batch_size": [16, 20],
    "hidden_layer_sizes": [(), (4,), (6, 4)],
    "activation": ["relu", "tanh"],
    "init": ["random", "pca"],
    "input_scaling": [None, "standard"],
    "early_stopping": [False, True],
    "likelihood": ["gaussian", Gaussian(variance="shared")],
}


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize(
    "Estimator", [AutoencoderTransformer, DenoisingAETransformer, VAETransformer]
)
def test_scores_are_those_of_fits_one_by_one(Estimator, name, passes):
    assert_same(Estimator(2, **SHORT), {name: GRIDS[name]})
    assert sum(map(len, passes)) == 2 * len(GRIDS[name])


@pytest.mark.parametrize(
    "grid",
    [
        {"beta": [0.0, 1.0, 4.0]},
        {"kl_warmup": [0.0, 0.9]},
        {"free_bits": [0.1], "n_components": [2, 3]},
        {"n_importance_samples": [1, 4]},
    ],
    ids=str,
)
def test_scores_of_what_only_a_vae_has(grid, passes):
    assert_same(VAETransformer(2, **SHORT), grid)
    assert passes


def test_noise_of_every_kind(passes):
    noises = ["masking", "gaussian", "salt_and_pepper", "swap", "swap_gaussian"]
    denoising = DenoisingAETransformer(2, **SHORT)
    assert_same(denoising, {"noise": noises, "noise_level": [0.1, 0.3]})
    assert max(map(len, passes)) > 5


@pytest.mark.parametrize(
    ("likelihood", "rows"),
    [
        ("bernoulli", one_hot(n_rows=80)),
        ("poisson", counts(n_rows=80)),
        ("negative_binomial", counts(n_rows=80)),
        ("zero_inflated_negative_binomial", counts(n_rows=80)),
        ("multinomial", counts(n_rows=80)),
        ("zero_inflated_lognormal", counts(n_rows=80)),
    ],
)
@pytest.mark.parametrize("Estimator", [AutoencoderTransformer, VAETransformer])
def test_every_likelihood(Estimator, likelihood, rows, passes):
    estimator = Estimator(2, likelihood=likelihood, **SHORT)
    assert_same(estimator, {"n_components": [1, 3]}, X=rows)
    assert passes


def test_by_default_the_length_is_found_and_repeated_in_passes(passes):
    vae = VAETransformer(hidden_layer_sizes=(9,), n_iter_no_change=2, random_state=0)
    assert_same(vae, {"n_components": [1, 3]})
    assert sum(map(len, passes)) == 2 * 4


def test_what_a_fit_leaves_is_what_it_leaves_alone():
    vae = VAETransformer(2, early_stopping=True, **SHORT)
    with together():
        found = cross_validate(vae, X, cv=2, return_estimator=True)["estimator"]
    expected = cross_validate(vae, X, cv=2, return_estimator=True)["estimator"]
    for one, other in zip(found, expected, strict=True):
        assert one.n_iter_ == other.n_iter_
        assert list(one.history_) == list(other.history_)
        for name, values in other.history_.items():
            np.testing.assert_allclose(one.history_[name], values, rtol=1e-4, atol=1e-4)
        assert set(one.net_.history[-1]) == set(other.net_.history[-1])
        np.testing.assert_allclose(weights_of(one.net_), weights_of(other.net_), atol=1e-3)
        # The optimiser knows as much: the next pass over the rows does the same.
        one.partial_fit(X), other.partial_fit(X)
        assert one.score(X) == pytest.approx(other.score(X), abs=1e-3)


def test_rows_of_a_weight_count_so(passes):
    weight = np.random.RandomState(0).uniform(0.5, 2.0, size=len(X))

    def fitted():
        grid = GridSearchCV(VAETransformer(2, **SHORT), {"beta": [1.0, 3.0]}, cv=2, refit=False)
        return scores_of(grid.fit(X, sample_weight=weight))

    with together():
        found = fitted()
    np.testing.assert_allclose(found, fitted(), atol=1e-4)
    assert passes == [[2, 2, 2, 2]]


# Wherever fits are made by joblib.


def test_pipelines(passes):
    y = X[:, 0] > 0
    pipeline = make_pipeline(
        StandardScaler(), AutoencoderTransformer(2, **SHORT), LogisticRegression()
    )
    grid = {"autoencodertransformer__n_components": [1, 2, 3]}
    with together():
        found = GridSearchCV(pipeline, grid, cv=2).fit(X, y).cv_results_["mean_test_score"]
    expected = GridSearchCV(pipeline, grid, cv=2).fit(X, y).cv_results_["mean_test_score"]
    np.testing.assert_allclose(found, expected)
    assert passes == [[1, 1, 2, 2, 3, 3]]


def test_two_in_a_pipeline_meet_twice(passes):
    first = AutoencoderTransformer(4, **SHORT)
    pipeline = make_pipeline(first, VAETransformer(2, **SHORT))
    assert_same(pipeline, {"vaetransformer__n_components": [1, 2]})
    assert passes == [[4, 4, 4, 4], [1, 1, 2, 2]]


def test_other_searches(passes):
    vae = VAETransformer(2, **SHORT)

    def found():
        drawn = RandomizedSearchCV(
            vae, {"n_components": [1, 2, 3]}, n_iter=2, cv=2, random_state=0, refit=False
        )
        return [*scores_of(drawn.fit(X)).ravel(), *cross_val_score(vae, X, cv=3)]

    with together():
        beside = found()
    np.testing.assert_allclose(beside, found(), atol=1e-4)
    assert list(map(len, passes)) == [4, 3]


@pytest.mark.parametrize("resource", ["n_samples", "max_iter"])
def test_searches_by_halving(resource, passes):
    grid = {"n_components": [1, 2, 3, 4]}
    settings = {"max_resources": 9} if resource == "max_iter" else {"min_resources": 30}

    def found():
        search = HalvingGridSearchCV(
            VAETransformer(2, **SHORT), grid, cv=2, resource=resource, random_state=0, **settings
        )
        return scores_of(search.fit(X))

    with together():
        beside = found()
    np.testing.assert_allclose(beside, found(), atol=1e-4)
    assert list(map(len, passes))[:2] == [8, 4]


@pytest.mark.filterwarnings("ignore::skae.exceptions.UnclearSizeWarning")
def test_sizes_that_are_searched_for_are_then_trained_together(passes):
    vae = VAETransformer("auto", **SHORT)
    assert_same(vae, {"beta": [1.0, 1.5]}, X=X[:60])
    assert sum(map(len, passes)) >= 4  # and those that a search compares
    assert min(map(len, passes)) >= 2


def test_a_search_within_a_search(passes):
    inner = GridSearchCV(VAETransformer(2, **SHORT), {"n_components": [1, 2]}, cv=2)
    with together():
        found = cross_val_score(inner, X, cv=2)
    np.testing.assert_allclose(found, cross_val_score(inner, X, cv=2), atol=1e-4)
    assert passes == [[1, 1], [1, 1], [2, 2], [2, 2], passes[-1]]  # the best, refitted


def test_one_inside_another(passes):
    with together(), together():
        cross_val_score(VAETransformer(2, **SHORT), X, cv=2)
    assert passes == [[2, 2]]


def test_a_fit_without_a_search_is_as_ever(passes):
    with together():
        found = VAETransformer(2, **SHORT).fit(X)
    np.testing.assert_array_equal(
        found.transform(X), VAETransformer(2, **SHORT).fit(X).transform(X)
    )
    assert not passes


ALONE = {
    "sparse codes": SparseAutoencoderTransformer(2, **SHORT),
    "sgd": AutoencoderTransformer(2, optimizer="sgd", **SHORT),
    "l1": AutoencoderTransformer(2, alpha=0.1, l1_ratio=0.5, **SHORT),
    "no autoencoder": StandardScaler(),
}


@pytest.mark.parametrize("name", ALONE)
def test_what_cannot_be_trained_beside_others_is_trained_alone(name, passes):
    with together():
        found = cross_val_score(ALONE[name], X, cv=2, scoring=total)
    np.testing.assert_array_equal(found, cross_val_score(ALONE[name], X, cv=2, scoring=total))
    assert not passes


def total(estimator, X, y=None):
    return float(np.square(estimator.transform(X)).sum())


def test_sparse_rows_are_trained_alone(passes):
    rows = sp.csr_array(counts(n_rows=60))
    vae = VAETransformer(2, **SHORT)
    with together():
        found = cross_val_score(vae, rows, cv=2)
    np.testing.assert_array_equal(found, cross_val_score(vae, rows, cv=2))
    assert not passes
