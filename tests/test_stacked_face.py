"""The stack as an estimator: parameters, searches, formats, errors."""

import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback

from skae import (
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    DenoisingAETransformer,
    SparseAutoencoderTransformer,
    StackedAutoencoderTransformer,
    together,
)
from skae.exceptions import NonFiniteLossError, SupportError

from .helpers import QUIET, assert_rounding_apart, cells_at_once, counts, low_rank, weights_of
from .test_persistence import WAYS

pytestmark = QUIET

X = low_rank(120, 10, 4)
LEVEL = AutoencoderTransformer(hidden_layer_sizes=(8,), max_iter=3)
TOP_K = SparseAutoencoderTransformer(sparsity="topk", hidden_layer_sizes=(8,), max_iter=3)


def stack(**settings):
    usual = {"max_iter": 3, "random_state": 0}
    if not {"levels", "shared"} & set(settings):
        usual.update(estimator=clone(LEVEL), layer_sizes=(6, 3))
    return StackedAutoencoderTransformer(**{**usual, **settings})


# Parameters.


def test_two_fits_of_one_seed_are_the_same_and_of_another_are_not():
    one, other = stack().fit(X), stack().fit(X)
    np.testing.assert_array_equal(weights_of(one), weights_of(other))
    assert (weights_of(stack(random_state=1).fit(X)) != weights_of(one)).any()
    own = clone(LEVEL).set_params(random_state=7)
    levels = [
        stack(estimator=own, random_state=seed).fit(X).levels_[0].module_.encoder[0].weight
        for seed in (0, 1)
    ]
    np.testing.assert_array_equal(*(one.detach().numpy() for one in levels))


def test_levels_of_a_list_have_seeds_of_their_own():
    fitted = stack(levels=[LEVEL, clone(LEVEL)]).fit(X)
    one, other = (level.random_state for level in fitted.levels_)
    assert one != other
    assert LEVEL.random_state is None


def test_grid_search_over_sizes_and_parameters_of_the_estimator():
    grid = {"layer_sizes": [(4,), (6, 3)], "estimator__activation": ["relu", "tanh"]}
    model = stack().set_params(estimator__init="random")
    scores = GridSearchCV(model, grid, cv=2).fit(X).cv_results_["mean_test_score"]
    assert np.isfinite(scores).all()
    assert len(set(scores)) == 4
    with together():
        beside = GridSearchCV(model, grid, cv=2).fit(X)
    np.testing.assert_allclose(beside.cv_results_["mean_test_score"], scores, rtol=1e-3)


def test_grid_search_over_parameters_of_levels_of_a_list():
    levels = [DenoisingAETransformer(6, max_iter=3), TOP_K]
    search = GridSearchCV(
        stack(levels=levels),
        {"levels__0__noise_level": [0.0, 0.5], "fine_tune": [True, False]},
        cv=2,
    )
    scores = search.fit(X).cv_results_["mean_test_score"]
    assert len(set(scores)) == 4
    assert levels[0].noise_level == 0.2  # that of the user


def test_parameters_of_levels_are_named_where_there_is_none():
    for name in ("levels__2__noise", "levels__x__noise", "levels__0"):
        with pytest.raises(ValueError, match="levels__0__n_components"):
            stack(levels=[LEVEL, LEVEL]).set_params(**{name: 1})
    with pytest.raises(ValueError, match="Valid parameters"):
        stack(levels=[LEVEL]).set_params(levels__0__nois=1)


REFUSED = {
    "levels of nothing": ({"levels": []}, r"Got \[\] instead. Leave it at None"),
    "levels of something else": ({"levels": [LEVEL, "pca"]}, r"Got 'pca' at place 1 instead"),
    "a stack in a stack": (
        {"levels": [StackedAutoencoderTransformer()]},
        "transformers of skae that are one network",
    ),
    "two ways": ({"levels": [LEVEL], "estimator": LEVEL}, "Leave estimator at None"),
    "sizes beside levels": ({"levels": [LEVEL], "layer_sizes": (3,)}, r"Got layer_sizes=\(3,\)"),
    "sizes beside shared": (
        {"shared": True, "layer_sizes": (3,)},
        r"Leave layer_sizes at \(64, 16\)",
    ),
    "no sizes": ({"layer_sizes": ()}, r"layer_sizes must hold .* Got \(\) instead"),
    "a truth": ({"layer_sizes": (True,)}, r"Got \(True,\) instead"),
    "a size of zero": ({"layer_sizes": (4, 0)}, r"Got \(4, 0\) instead"),
    "number without shared": ({"n_levels": 4}, "n_levels=4 with shared=False"),
    "words": (
        {"estimator": AutoencoderTransformer(init="cooccurrence")},
        r"Got init='cooccurrence' at place 0. Choose init='auto'",
    ),
    "counts above": (
        {"levels": [LEVEL, clone(LEVEL).set_params(likelihood="poisson")]},
        r"Got likelihood=Poisson\(\) at place 1",
    ),
    "parameter of a level": (
        {"estimator": AutoencoderTransformer(activation="nothing")},
        "'activation' parameter of AutoencoderTransformer",
    ),
    "a class": ({"estimator": AutoencoderTransformer}, "give an object of it"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_settings_that_make_no_stack_are_refused_with_a_remedy(name):
    settings, message = REFUSED[name]
    fitted = stack().fit(X)
    before = fitted.transform(X)
    with pytest.raises(ValueError, match=message):
        StackedAutoencoderTransformer(**settings).fit(X)
    if {"layer_sizes", "n_levels"} & set(settings) and len(settings) == 1:
        with pytest.raises(ValueError, match=message):
            fitted.set_params(**settings).fit(X)
        np.testing.assert_array_equal(fitted.transform(X), before)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_cells_that_are_no_numbers_are_refused(value):
    bad = X.copy()
    bad[3, 2] = value
    with pytest.raises(ValueError, match="2"):
        stack().fit(bad)
    fitted = stack().fit(X)
    for method in ("transform", "transform_levels", "reconstruct", "score_samples"):
        with pytest.raises(ValueError, match="2"):
            getattr(fitted, method)(bad)


def test_values_outside_the_support_are_named():
    binary = clone(LEVEL).set_params(likelihood="bernoulli")
    with pytest.raises(SupportError, match="Bernoulli"):
        stack(estimator=binary).fit(X)


class SpoilAt(Callback):
    """Makes a weight NaN at the beginning of an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == self.epoch:
            next(net.module_.parameters()).data.fill_(np.nan)


@pytest.mark.parametrize("epoch", [1, 3])
def test_failed_level_leaves_the_stack_as_it_was_and_is_named(epoch):
    fitted = stack().fit(X)
    before = fitted.transform(X)
    fitted.set_params(estimator__callbacks=[SpoilAt(epoch)], estimator__early_stopping=False)
    with pytest.raises(NonFiniteLossError, match=r"^Level 1 of 2, .* there is no stack"):
        fitted.fit(X)
    np.testing.assert_array_equal(fitted.transform(X), before)


def test_what_is_said_of_a_level_names_it():
    levels = [
        clone(LEVEL).set_params(max_iter=1),
        clone(TOP_K).set_params(n_components=4, n_active=9, max_iter=1),
    ]
    with pytest.raises(ValueError, match=r"^Level 2 of 2, SparseAuto.* Got n_active=9"):
        stack(levels=levels).fit(X)
    levels[1].n_active = 2
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        stack(levels=levels).fit(X)
    told = [str(warning.message) for warning in said]
    for place in (1, 2):
        assert any(one.startswith(f"Level {place} of 2, ") for one in told), told
    assert all(one.startswith(("Level ", "StackedAutoencoderTransformer, all")) for one in told)


# Rows.


@pytest.mark.parametrize("likelihood", ["poisson", "bernoulli", "multinomial"])
def test_sparse_rows_give_what_dense_rows_give(likelihood):
    rows = counts(150, 30, rate=0.3) + np.eye(150, 30)
    rows = np.minimum(rows, 1.0) if likelihood == "bernoulli" else rows
    level = clone(TOP_K).set_params(likelihood=likelihood, sparse_method="exact", max_iter=10)
    for fine_tune in (False, True):
        found = stack(estimator=level, layer_sizes=(8, 6), fine_tune=fine_tune).fit(
            sp.csr_array(rows)
        )
        dense = stack(estimator=level, layer_sizes=(8, 6), fine_tune=fine_tune).fit(rows)
        assert found.sparse_method_ == "exact"
        assert dense.sparse_method_ == "dense"
        np.testing.assert_allclose(found.score_samples(rows), dense.score_samples(rows), rtol=1e-3)
        pairs = zip(
            found.transform_levels(sp.csr_array(rows)), dense.transform_levels(rows), strict=True
        )
        for one, other in pairs:
            np.testing.assert_allclose(one, other, atol=1e-3)
        assert sp.issparse(found.sample(3, random_state=0))


def test_sparse_rows_are_never_made_dense_as_a_whole(monkeypatch):
    rows = sp.random_array((3000, 700), density=0.01, random_state=0, format="csr")
    toarray = sp.csr_array.toarray

    def guarded(self, *args, **kwargs):
        assert self.shape[0] <= 300, "made dense as a whole"
        return toarray(self, *args, **kwargs)

    monkeypatch.setattr(sp.csr_array, "toarray", guarded)
    monkeypatch.setattr(sp.csr_array, "todense", guarded)
    level = clone(TOP_K).set_params(max_iter=1)
    fitted = stack(estimator=level, max_iter=1).fit(rows)
    with cells_at_once(200_000):
        fitted.transform_levels(rows)
        fitted.score(rows)
    assert fitted.reconstruct(rows[:50], sparse_output=True).shape == (50, 700)


def test_texts_do_not_start_at_words():
    words = sp.csr_array(counts(200, 150, rate=0.05))
    fitted = stack(estimator=AutoencoderTransformer(max_iter=2)).fit(words)
    assert all(level.module_.words is None for level in fitted.levels_)
    assert np.isfinite(fitted.score(words))


def test_names_go_in_and_come_out():
    frame = pd.DataFrame(X, columns=[f"c{place}" for place in range(10)])
    fitted = stack().set_output(transform="pandas").fit(frame)
    assert list(fitted.transform(frame).columns) == [
        f"stackedautoencodertransformer{place}" for place in range(3)
    ]
    assert fitted.levels_[0].transform(frame).shape == (120, 6)


def test_weight_of_two_is_a_row_given_twice():
    weight = np.random.RandomState(0).randint(0, 3, size=len(X))
    level = clone(LEVEL).set_params(init="random")
    one = stack(estimator=level).fit(X, sample_weight=weight)
    other = stack(estimator=level).fit(np.repeat(X, weight, axis=0))
    np.testing.assert_allclose(one.score_samples(X), other.score_samples(X), rtol=1e-3)
    plain = stack(estimator=level).fit(X)
    assert np.abs(plain.score_samples(X) - one.score_samples(X)).max() > 1e-2


def test_precision_of_rows_is_that_of_codes():
    fitted = stack().fit(X.astype(np.float32))
    assert {codes.dtype for codes in fitted.transform_levels(X.astype(np.float32))} == {
        np.dtype(np.float32)
    }


# Training.


def test_rows_held_out_are_unknown_to_the_levels():
    fitted = stack(early_stopping=True, validation_fraction=0.4, max_iter=6).fit(X)
    assert len(fitted.validation_scores_) == fitted.n_iter_
    assert len(fitted.levels_[0]._model.training_codes) == 72
    greedy = stack(early_stopping=True, fine_tune=False).fit(X)
    assert len(greedy.levels_[0]._model.training_codes) == 120


def test_partial_fit_builds_level_by_level_and_goes_on_with_all():
    model = stack(learning_rate_init=1e-2)
    model.partial_fit(X)
    assert [level.n_iter_ for level in model.levels_] == [1, 1]
    first = model.score(X)
    for _ in range(30):
        model.partial_fit(X)
    assert (model.n_iter_, [level.n_iter_ for level in model.levels_]) == (31, [1, 1])
    assert model.score(X) > first
    assert not hasattr(stack(fine_tune=False), "partial_fit")


def test_warm_start_goes_on_with_all_levels():
    fitted = stack(warm_start=True).fit(X)
    first = fitted.score(X)
    fitted.set_params(max_iter=30).fit(X)
    assert fitted.n_iter_ == 33
    assert fitted.score(X) > first
    before = fitted.transform(X)
    with pytest.raises(ValueError, match="with the levels"):
        fitted.set_params(estimator__activation="relu").fit(X)
    np.testing.assert_array_equal(fitted.transform(X), before)


def test_greedy_stack_is_trained_further_when_that_is_asked_for():
    fitted = stack(warm_start=True, fine_tune=False).fit(X)
    greedy = fitted.score(X)
    fitted.set_params(fine_tune=True, max_iter=30).fit(X)
    assert fitted.n_iter_ == 30
    assert fitted.score(X) > greedy


ALIVE = {
    "layer_sizes": ((6, 3), (5, 3)),
    "fine_tune": (True, False),
    "max_iter": (3, 9),
    "learning_rate_init": (1e-3, 1e-2),
    "batch_size": (20, 60),
    "optimizer": ("adam", "sgd"),
    "alpha": (0.0, 10.0),
    "random_state": (0, 1),
    "estimator__noise": (None, "masking"),
    "estimator__hidden_layer_sizes": ((8,), (4,)),
}


@pytest.mark.parametrize("name", ALIVE)
def test_every_parameter_has_a_say(name):
    one, other = (stack().set_params(**{name: value}).fit(X) for value in ALIVE[name])
    assert np.abs(one.score_samples(X) - other.score_samples(X)).max() > 1e-4


def test_number_of_shared_levels_has_a_say():
    level = clone(TOP_K).set_params(n_components=6)
    scores = [stack(estimator=level, shared=True, n_levels=n).fit(X).score(X) for n in (None, 3, 4)]
    assert scores[0] == scores[1] != scores[2]
    assert len(stack(estimator=level, shared=True).fit(X).levels_) == 3


def test_progress_tells_the_levels(capfd):
    stack(verbose=2).fit(X)
    printed = "".join(capfd.readouterr())
    places = [
        printed.index(title)
        for title in ("Level 1 of 2", "Level 2 of 2", "StackedAutoencoderTransformer, all levels")
    ]
    assert places == sorted(places)
    stack(estimator=clone(TOP_K).set_params(n_components=4), shared=True, verbose=2).fit(X)
    assert "Level 2 of 3" in "".join(capfd.readouterr())


# Among other estimators.


@pytest.mark.parametrize("way", WAYS)
def test_what_is_stored_gives_the_same_answers_and_goes_on_the_same(way):
    fitted = stack(levels=[clone(TOP_K).set_params(n_components=8), LEVEL]).fit(X)
    again = WAYS[way](fitted)
    np.testing.assert_array_equal(again.transform(X), fitted.transform(X))
    np.testing.assert_array_equal(again.sample(5, 0), fitted.sample(5, 0))
    np.testing.assert_array_equal(
        again.partial_fit(X).score_samples(X), fitted.partial_fit(X).score_samples(X)
    )


def test_three_layers_and_shared_ones_serve_a_classifier_in_a_search():
    y = X[:, 0] > 0
    three = stack(estimator=TOP_K, layer_sizes=(16, 12, 8))
    again = stack(estimator=clone(TOP_K).set_params(n_components=12), shared=True)
    for one in (three, again):
        pipeline = make_pipeline(one, LogisticRegression())
        grid = {f"{pipeline.steps[0][0]}__estimator__n_active": [1, 3]}
        search = GridSearchCV(pipeline, grid, cv=2).fit(X, y)
        assert search.best_score_ > 0.6


def test_detector_takes_a_stack():
    scores = AutoencoderOutlierDetector(estimator=stack(), random_state=0).fit(X).score_samples(X)
    assert np.isfinite(scores).all()


def test_answers_do_not_depend_on_the_rows_beside():
    fitted = stack(estimator=TOP_K, layer_sizes=(16, 8)).fit(X)
    for one, few in zip(fitted.transform_levels(X), fitted.transform_levels(X[5:8]), strict=True):
        assert_rounding_apart(few, one[5:8])
