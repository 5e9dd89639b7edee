"""Do the four estimators keep what the documentation promises to users of scikit-learn?"""

import ast
import dataclasses
import inspect
import pickle
import re
import time
import tracemalloc
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import sklearn
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    GradientNormClipping,
    LRScheduler,
)
from torch import nn

from skae import (
    AutoencoderTransformer,
    DenoisingAETransformer,
    SparseAutoencoderTransformer,
    VAETransformer,
)
from skae.estimators.parameters import SharedParameters
from skae.exceptions import PosteriorCollapseWarning
from skae.likelihoods import Gaussian
from skae.networks import MLP, CustomNetwork
from tests.helpers import (
    ESTIMATORS,
    QUICK,
    SPARSE_FORMATS,
    VOCABULARIES,
    counts,
    low_rank,
    one_hot,
    weights_of,
)

# Short fits say so; where that matters, the test looks for it.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

every_estimator = pytest.mark.parametrize("Estimator", ESTIMATORS)
X = low_rank()


@pytest.fixture(scope="module", params=ESTIMATORS, ids=lambda kind: kind.__name__)
def fitted(request):
    """One quickly fitted estimator of each kind, which tests must leave as it is."""
    return request.param(**QUICK).fit(X)


# Parameters and their documentation.


def parameters(Estimator):
    signature = inspect.signature(Estimator.__init__).parameters
    return {name: one.default for name, one in signature.items() if name != "self"}


def documented(Estimator, section):
    """Entries of a numpydoc section: name -> (type, text)."""
    text = inspect.getdoc(Estimator)
    body = re.search(rf"^{section}\n-+\n(.*?)(?=\n\n\S+( \S+)?\n---)", text, re.M | re.S).group(1)
    entries = re.findall(r"^(\w+) : (.*)\n((?:(?: .*)?\n?)*)", body + "\n", re.M)
    return {name: (kind, inspect.cleandoc(words)) for name, kind, words in entries}


SHARED = [field.name for field in dataclasses.fields(SharedParameters)]

#: Defaults that an estimator has of its own.
OWN_DEFAULTS = {DenoisingAETransformer: {"noise": "masking"}}


@every_estimator
@pytest.mark.parametrize("name", SHARED)
def test_shared_parameters_are_the_same_everywhere(Estimator, name):
    default = OWN_DEFAULTS.get(Estimator, {}).get(name, parameters(SharedParameters)[name])
    assert parameters(Estimator)[name] == default
    kind, text = documented(Estimator, "Parameters")[name]
    plain_kind, plain_text = documented(AutoencoderTransformer, "Parameters")[name]
    assert text == plain_text and kind.rpartition(",")[0] == plain_kind.rpartition(",")[0]
    constraints = Estimator._parameter_constraints, AutoencoderTransformer._parameter_constraints
    assert str(constraints[0][name]) == str(constraints[1][name])


@every_estimator
def test_n_components_alone_is_taken_by_position(Estimator):
    first, *others = list(inspect.signature(Estimator).parameters.values())
    assert first.name == "n_components"
    assert {one.kind for one in others} == {inspect.Parameter.KEYWORD_ONLY}
    assert Estimator(3).n_components == 3
    with pytest.raises(TypeError, match="positional"):
        Estimator(3, (8,))


@every_estimator
def test_names_in_a_docstring_are_those_of_the_vocabulary(Estimator):
    words = documented(Estimator, "Parameters")
    vocabularies = {**VOCABULARIES, "learning_rate": VOCABULARIES["schedule"]}
    for parameter, (names, base) in vocabularies.items():
        if parameter in words:
            kind = words[parameter][0]
            listed = set(re.findall(r'"(\w+)"', re.search(r"{(.*?)}", kind).group(1)))
            assert listed - {"auto"} == set(names), parameter
            assert base.__name__ in kind


@every_estimator
def test_every_parameter_is_documented_in_order_with_its_default(Estimator):
    entries, defaults = documented(Estimator, "Parameters"), parameters(Estimator)
    assert list(entries) == list(defaults)
    for name, (kind, text) in entries.items():
        stated = re.search(r"default=(.+)$", kind).group(1)
        assert ast.literal_eval(stated) == defaults[name], name
        assert text.endswith("."), name


@every_estimator
def test_every_parameter_has_a_constraint(Estimator):
    assert set(Estimator._parameter_constraints) == set(parameters(Estimator))


# Attributes.


def public_attributes(estimator):
    names = (name for name in dir(estimator) if name.endswith("_") and not name.startswith("_"))
    return {name for name in names if hasattr(estimator, name)}


@every_estimator
def test_nothing_ends_in_an_underscore_before_fit(Estimator):
    estimator = Estimator()
    assert public_attributes(estimator) == set()
    assert set(vars(estimator)) == set(parameters(Estimator))


def test_fitted_attributes_are_those_that_are_documented(fitted):
    of_some = {"feature_names_in_", "size_curve_"}  # of a DataFrame, and of a search, alone
    assert public_attributes(fitted) | of_some == set(documented(type(fitted), "Attributes"))
    public = {name for name in vars(fitted) if not name.startswith("_")}
    assert public - set(parameters(type(fitted))) <= public_attributes(fitted)


def test_fitted_attributes_have_their_values(fitted):
    assert fitted.n_features_in_ == 10
    assert fitted.n_components_ == 3
    assert fitted.n_iter_ == 5
    assert isinstance(fitted.module_, nn.Module)
    assert fitted.module_ is fitted.net_.module_
    assert len(fitted.loss_curve_) == 5
    assert fitted.validation_scores_ == []


def test_history_has_the_named_terms(fitted):
    own = {
        "SparseAutoencoderTransformer": {"sparsity", "revival", "shortage"},
        "VAETransformer": {"kl"},
    }
    terms = {"loss", "objective", "reconstruction"} | own.get(type(fitted).__name__, set())
    assert set(fitted.history_) == terms
    for values in fitted.history_.values():
        assert len(values) == fitted.n_iter_
        assert np.isfinite(values).all()
    assert fitted.loss_curve_ == fitted.history_["objective"]


def test_objective_of_a_vae_is_reconstruction_plus_beta_kl():
    vae = VAETransformer(beta=3.0, **QUICK).fit(X)
    terms = {name: np.array(values) for name, values in vae.history_.items()}
    np.testing.assert_allclose(terms["objective"], terms["reconstruction"] + 3.0 * terms["kl"])


@every_estimator
def test_early_stopping_records_held_out_terms_and_scores(Estimator):
    estimator = Estimator(**QUICK, early_stopping=True).fit(X)
    assert {"valid_loss", "valid_objective", "valid_reconstruction"} <= set(estimator.history_)
    assert len(estimator.validation_scores_) == estimator.n_iter_
    np.testing.assert_array_equal(
        estimator.validation_scores_, np.negative(estimator.history_["valid_objective"])
    )


def test_early_stopping_ends_a_fit_that_only_learns_noise_by_heart():
    noise = np.random.RandomState(0).normal(size=(60, 12))
    settings = {"n_components": 4, "hidden_layer_sizes": (64,), "learning_rate_init": 5e-3}
    settings |= {"init": "random", "max_iter": 200, "n_iter_no_change": 5, "random_state": 0}
    free = AutoencoderTransformer(**settings).fit(noise)
    stopped = AutoencoderTransformer(early_stopping=True, **settings).fit(noise)
    assert stopped.n_iter_ < 0.5 * free.n_iter_
    assert np.argmax(stopped.validation_scores_) < stopped.n_iter_ - 5


class Diary(Callback):
    """Keeps the weights of each epoch."""

    def initialize(self):
        self.weights = []
        return self

    def on_epoch_end(self, net, **kwargs):
        state = net.module_.state_dict().values()
        self.weights.append(np.concatenate([value.double().numpy().ravel() for value in state]))


def test_early_stopping_keeps_the_weights_that_were_best_for_the_rows_held_out():
    noise, diary = np.random.RandomState(0).normal(size=(60, 12)), Diary()
    settings = {"n_components": 4, "hidden_layer_sizes": (64,), "learning_rate_init": 5e-3}
    settings |= {"max_iter": 200, "n_iter_no_change": 5, "random_state": 0}
    estimator = AutoencoderTransformer(early_stopping=True, callbacks=[diary], **settings)
    estimator.fit(noise)
    best = int(np.argmax(estimator.validation_scores_))
    np.testing.assert_array_equal(weights_of(estimator), diary.weights[best])
    assert not np.array_equal(diary.weights[best], diary.weights[-1])


# Methods.


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@every_estimator
def test_answers_have_their_shapes_and_the_precision_of_x(Estimator, dtype):
    rows = X.astype(dtype)
    estimator = Estimator(**QUICK)
    codes = estimator.fit_transform(rows)
    assert (codes.shape, codes.dtype) == ((200, 3), dtype)
    for answer in (estimator.inverse_transform(codes), estimator.reconstruct(rows)):
        assert (answer.shape, answer.dtype) == ((200, 10), dtype)
    scores = estimator.score_samples(rows)
    assert (scores.shape, scores.dtype) == ((200,), np.float64)
    assert isinstance(estimator.score(rows), float)


@every_estimator
def test_integers_lists_and_frames_are_rows_too(Estimator):
    rows = np.arange(24).reshape(8, 3)
    expected = Estimator(**QUICK).fit_transform(rows.astype(float))
    for given in (rows, rows.tolist(), pd.DataFrame(rows)):
        np.testing.assert_array_equal(Estimator(**QUICK).fit_transform(given), expected)


def test_precision_of_x_does_not_change_the_model():
    rows = X.astype(np.float32)
    single = VAETransformer(**QUICK).fit(rows)
    double = VAETransformer(**QUICK).fit(rows.astype(np.float64))
    np.testing.assert_array_equal(weights_of(single), weights_of(double))


def test_score_is_the_mean_of_score_samples(fitted):
    assert fitted.score(X) == fitted.score_samples(X).mean()


def test_reconstruct_is_inverse_transform_of_transform(fitted):
    codes = fitted.transform(X)
    np.testing.assert_array_equal(fitted.reconstruct(X), fitted.inverse_transform(codes))


@every_estimator
def test_fit_transform_is_fit_and_transform(Estimator):
    codes = Estimator(**QUICK).fit_transform(X)
    np.testing.assert_array_equal(codes, Estimator(**QUICK).fit(X).transform(X))


@every_estimator
def test_training_makes_rows_more_likely_and_reconstructions_better(Estimator):
    settings = {**QUICK, "init": "random", "n_components": 16, "learning_rate_init": 1e-2}
    early, late = (Estimator(**{**settings, "max_iter": n}).fit(X) for n in (5, 150))
    assert late.score(X) > early.score(X) + 1.0
    error = [np.square(X - one.reconstruct(X)).sum() for one in (early, late)]
    assert error[1] < 0.7 * error[0]


def test_code_of_a_vae_is_the_posterior_mean():
    vae = VAETransformer(**QUICK, input_scaling=None).fit(X)
    with torch.no_grad():
        mean_and_log_std = vae.module_.encoder(torch.from_numpy(X).float())
    expected = vae.module_.bottleneck.outer(mean_and_log_std[:, :3])
    np.testing.assert_allclose(vae.transform(X), expected, atol=1e-5)


def test_rows_of_a_bernoulli_are_scaled_for_the_encoder_alone():
    rows = one_hot() * np.linspace(0.2, 0.9, 12)
    estimator = AutoencoderTransformer(likelihood="bernoulli", input_scaling="max", **QUICK)
    codes = estimator.fit_transform(rows)
    with torch.no_grad():
        h = estimator.module_.encoder(torch.from_numpy(rows / rows.max(axis=0)).float())
        expected = estimator.module_.bottleneck.outer(h)
    np.testing.assert_allclose(codes, expected, atol=1e-5)
    np.testing.assert_allclose(estimator.reconstruct(rows).mean(), rows.mean(), rtol=0.1)


def test_sparse_output_is_csr_with_the_same_codes():
    dense = SparseAutoencoderTransformer(**QUICK).fit(X)
    sparse = SparseAutoencoderTransformer(**QUICK, sparse_output=True).fit(X)
    codes = sparse.transform(X)
    assert codes.format == "csr"
    assert codes.nnz == (dense.transform(X) > 0).sum()
    np.testing.assert_array_equal(codes.toarray(), dense.transform(X))
    np.testing.assert_array_equal(sparse.inverse_transform(codes), dense.reconstruct(X))


# In a pipeline, a grid, with names.


@every_estimator
def test_codes_serve_a_classifier_in_a_pipeline(Estimator):
    rows, labels = load_iris(return_X_y=True)
    encoder = Estimator(
        n_components=16,
        hidden_layer_sizes=(16,),
        max_iter=100,
        learning_rate_init=5e-3,
        random_state=0,
    )
    classifier = make_pipeline(StandardScaler(), encoder, LogisticRegression())
    assert classifier.fit(rows, labels).score(rows, labels) > 0.85


@pytest.mark.slow  # ten fits that must have converged
def test_grid_search_without_labels_finds_the_number_of_factors():
    settings = {"hidden_layer_sizes": (8,), "max_iter": 150, "learning_rate_init": 1e-2}
    search = GridSearchCV(
        VAETransformer(**settings, random_state=0), {"n_components": [1, 3, 9]}, cv=3
    ).fit(low_rank(240, rank=3, noise=0.6))
    scores = search.cv_results_["mean_test_score"]
    assert search.best_params_["n_components"] >= 3
    # Room that is not needed costs little; room that is missing costs much.
    assert abs(scores[1] - scores[2]) < 0.5 * (scores[1] - scores[0])


def test_grid_search_reaches_the_parameters_of_an_object():
    grid = {"likelihood__variance": ["shared", "per_feature"]}
    search = GridSearchCV(VAETransformer(likelihood=Gaussian(), **QUICK), grid, cv=2).fit(X)
    best = search.best_params_["likelihood__variance"]
    (log_variance,) = search.best_estimator_.module_.observation.state.trained.values()
    assert log_variance.numel() == {"shared": 1, "per_feature": 10}[best]
    assert search.cv_results_["mean_test_score"].std() > 0.0


@pytest.mark.slow  # two processes have to start
def test_grid_search_in_two_processes_gives_the_same():
    grid = {"n_components": [1, 2]}
    one, two = (
        GridSearchCV(AutoencoderTransformer(**QUICK), grid, cv=2, n_jobs=n_jobs).fit(X)
        for n_jobs in (1, 2)
    )
    np.testing.assert_array_equal(
        one.cv_results_["mean_test_score"], two.cv_results_["mean_test_score"]
    )


@every_estimator
def test_names_go_in_and_come_out(Estimator):
    frame = pd.DataFrame(X, columns=[f"column {i}" for i in range(10)])
    estimator = Estimator(**QUICK).set_output(transform="pandas").fit(frame)
    assert list(estimator.feature_names_in_) == list(frame.columns)
    names = [f"{Estimator.__name__.lower()}{i}" for i in range(3)]
    assert list(estimator.get_feature_names_out()) == names
    codes = estimator.transform(frame)
    assert isinstance(codes, pd.DataFrame)
    assert list(codes.columns) == names
    assert list(codes.index) == list(frame.index)


def test_renamed_columns_are_refused():
    frame = pd.DataFrame(X).rename(columns=str)
    estimator = AutoencoderTransformer(**QUICK).fit(frame)
    with pytest.raises(ValueError, match="feature names should match"):
        estimator.transform(frame.rename(columns={"3": "three"}))


@every_estimator
def test_sample_weight_is_routed_through_a_pipeline(Estimator):
    weight = np.random.RandomState(0).uniform(size=200)
    direct = Estimator(**QUICK).fit(X, sample_weight=weight)
    with sklearn.config_context(enable_metadata_routing=True):
        encoder = Estimator(**QUICK).set_fit_request(sample_weight=True)
        pipeline = make_pipeline(encoder).fit(X, sample_weight=weight)
    np.testing.assert_array_equal(weights_of(pipeline[0]), weights_of(direct))
    assert not np.array_equal(weights_of(Estimator(**QUICK).fit(X)), weights_of(direct))


# Copies.


def test_clone_has_the_parameters_and_no_fit(fitted):
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    assert public_attributes(copy) == set()


@every_estimator
def test_pickle_before_fit_gives_the_same_fit(Estimator):
    copy = pickle.loads(pickle.dumps(Estimator(likelihood=Gaussian("shared"), **QUICK)))
    expected = Estimator(likelihood=Gaussian("shared"), **QUICK).fit(X)
    np.testing.assert_array_equal(weights_of(copy.fit(X)), weights_of(expected))


def test_pickle_after_fit_gives_the_same_answers(fitted):
    copy = pickle.loads(pickle.dumps(fitted))
    for method in ("transform", "reconstruct", "score_samples"):
        np.testing.assert_array_equal(getattr(copy, method)(X), getattr(fitted, method)(X))
    np.testing.assert_array_equal(copy.sample(5, random_state=0), fitted.sample(5, random_state=0))
    assert copy.history_ == fitted.history_


def test_training_goes_on_from_a_pickle_as_from_the_original(fitted):
    first, second = (pickle.loads(pickle.dumps(fitted)) for _ in range(2))
    second = pickle.loads(pickle.dumps(second.partial_fit(X)))
    np.testing.assert_array_equal(
        weights_of(first.partial_fit(X).partial_fit(X)), weights_of(second.partial_fit(X))
    )


# Going on with a training.


@every_estimator
def test_partial_fit_builds_at_the_first_call_and_improves_with_each(Estimator):
    settings = {**QUICK, "n_components": 16, "init": "random"}
    estimator = Estimator(**settings, batch_size=20, learning_rate_init=5e-3)
    for n_calls in range(1, 31):
        assert estimator.partial_fit(X) is estimator
        assert estimator.n_iter_ == n_calls
        if n_calls == 1:
            net, first = estimator.net_, estimator.score(X)
    assert estimator.net_ is net
    assert estimator.history_["reconstruction"][-1] < estimator.history_["reconstruction"][0] - 1
    assert estimator.score(X) > first + 1


def test_partial_fit_learns_from_rows_it_gets_in_parts():
    estimator = VAETransformer(**QUICK, learning_rate_init=1e-2)
    for part in np.split(X, 4) * 50:
        estimator.partial_fit(part)
    # The best model without a code knows the mean and the variance of each column.
    without = -0.5 * np.log(2 * np.pi * np.e * X.var(axis=0)).sum()
    assert estimator.score(X) > without + 1


def test_steering_over_many_calls_is_slow_enough_to_keep_a_small_code_alive():
    estimator = SparseAutoencoderTransformer(**QUICK, batch_size=20, learning_rate_init=5e-3)
    estimator.partial_fit(X)
    score, weight = estimator.score(X), estimator.sparsity_weight_
    for _ in range(60):
        estimator.partial_fit(X)
    assert estimator.score(X) > score + 1
    assert estimator.n_active_ > 0.5  # the target is 1, and 3 units are active on the way
    assert estimator.sparsity_weight_ > weight


@every_estimator
def test_warm_start_goes_on_from_the_weights(Estimator):
    estimator = Estimator(**QUICK, warm_start=True).fit(X)
    net, curve = estimator.net_, list(estimator.loss_curve_)
    estimator.set_params(learning_rate="constant").fit(X)
    assert estimator.net_ is net
    assert estimator.n_iter_ == 10
    assert estimator.loss_curve_[:5] == curve
    reconstruction = estimator.history_["reconstruction"]
    assert reconstruction[5] < reconstruction[0]


@every_estimator
def test_without_warm_start_a_fit_starts_anew(Estimator):
    estimator = Estimator(**QUICK).fit(X)
    net, weights = estimator.net_, weights_of(estimator)
    estimator.fit(X)
    assert estimator.net_ is not net
    assert estimator.n_iter_ == 5
    np.testing.assert_array_equal(weights_of(estimator), weights)


def test_pretrained_modules_are_where_training_starts():
    # The decoder's last bias may be set to the column means, as CustomNetwork says.
    encoder, decoder = nn.Linear(10, 6), nn.Linear(3, 10)
    vae = VAETransformer(
        n_components=3,
        network=CustomNetwork(encoder, decoder),
        learning_rate_init=1e-30,
        max_iter=1,
    ).fit(X)
    assert torch.equal(vae.module_.encoder.weight, encoder.weight)
    assert torch.equal(vae.module_.encoder.bias, encoder.bias)
    assert torch.equal(vae.module_.decoder.weight, decoder.weight)


# New rows.


def test_samples_have_the_shape_and_follow_the_random_state(fitted):
    assert fitted.sample().shape == (1, 10)
    first, again, other = (fitted.sample(7, random_state=seed) for seed in (0, 0, 1))
    assert first.shape == (7, 10)
    np.testing.assert_array_equal(first, again)
    assert not np.isclose(first, other).any()
    assert not np.isclose(fitted.sample(7), fitted.sample(7)).any()


@every_estimator
def test_samples_have_the_means_and_spreads_of_the_columns(Estimator):
    rows = X + 5.0
    estimator = Estimator(n_components=3, max_iter=300, learning_rate_init=3e-3, random_state=0)
    drawn = estimator.fit(rows).sample(2000, random_state=0)
    away = (drawn.mean(axis=0) - rows.mean(axis=0)) / rows.std(axis=0)
    assert np.abs(away).max() < 0.3
    ratio = drawn.std(axis=0) / rows.std(axis=0)
    assert 0.75 < ratio.min() <= ratio.max() < 1.3


@every_estimator
@pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array, sp.csr_matrix])
def test_binary_samples_are_binary_of_the_density_and_format_of_the_training_rows(
    Estimator, as_format
):
    rows = one_hot()
    settings = {"n_components": 3, "hidden_layer_sizes": (16,), "max_iter": 100}
    settings |= {"learning_rate_init": 1e-2, "random_state": 0}
    estimator = Estimator(likelihood="bernoulli", **settings).fit(as_format(rows))
    drawn = estimator.sample(1000, random_state=0)
    assert sp.issparse(drawn) == (as_format is not np.asarray)
    assert np.issubdtype(drawn.dtype, np.integer)
    if sp.issparse(drawn):
        assert drawn.format == "csr"
        assert drawn.nnz == drawn.sum()  # no stored zeros
        drawn = drawn.toarray()
    assert set(np.unique(drawn)) == {0, 1}
    assert drawn.mean() == pytest.approx(rows.mean(), rel=0.15)
    np.testing.assert_allclose(drawn.mean(axis=0), rows.mean(axis=0), atol=0.12)


# Sparse rows.


@every_estimator
@pytest.mark.parametrize("name", SPARSE_FORMATS)
@pytest.mark.parametrize(
    "settings", [{"input_scaling": "max"}, {"likelihood": "bernoulli"}], ids=str
)
def test_sparse_rows_give_what_dense_rows_give(Estimator, name, settings):
    rows = counts()
    if "likelihood" in settings:
        rows = (rows > 0).astype(float)
    sparse_rows = SPARSE_FORMATS[name](rows)
    # Three batches and a hold-out, so that their order matters.
    settings = {**QUICK, **settings, "batch_size": 64, "early_stopping": True}
    dense, sparse = Estimator(**settings).fit(rows), Estimator(**settings).fit(sparse_rows)
    np.testing.assert_allclose(sparse.loss_curve_, dense.loss_curve_, rtol=1e-5)
    for method in ("transform", "score_samples", "reconstruct"):
        expected = getattr(dense, method)(rows)
        np.testing.assert_allclose(getattr(sparse, method)(sparse_rows), expected, atol=1e-4)
        # A model fitted on rows of one kind takes the other.
        np.testing.assert_allclose(getattr(dense, method)(sparse_rows), expected, atol=1e-5)


@every_estimator
def test_stored_zeros_and_repeated_entries_are_nothing_special(Estimator):
    rows = sp.csr_array(counts())
    halves = (np.repeat(rows.data / 2, 2), np.repeat(rows.indices, 2), rows.indptr * 2)
    repeated = sp.csr_array(halves, shape=rows.shape)
    every_cell = tuple(place.ravel() for place in np.indices(rows.shape))
    with_zeros = sp.coo_array((rows.toarray().ravel(), every_cell), shape=rows.shape)
    assert repeated.nnz == 2 * rows.nnz
    assert with_zeros.nnz == rows.shape[0] * rows.shape[1]
    expected = Estimator(**QUICK).fit(rows)
    for given in (repeated, with_zeros):
        estimator = Estimator(**QUICK).fit(given)
        np.testing.assert_allclose(weights_of(estimator), weights_of(expected), atol=1e-6)
        np.testing.assert_array_equal(expected.transform(given), expected.transform(rows))
    assert repeated.nnz == 2 * rows.nnz  # what was given is left alone


@every_estimator
@pytest.mark.parametrize("way", ["dense", "exact"])
def test_sparse_rows_are_never_made_dense_as_a_whole(Estimator, way, monkeypatch):
    n_rows, n_features, batch_size = 20_000, 1_000, 512
    rng = np.random.RandomState(0)
    places = rng.randint(n_rows, size=40_000), rng.randint(n_features, size=40_000)
    rows = sp.csr_array((np.ones(40_000), places), shape=(n_rows, n_features))
    rows.data[:] = 1.0  # a Bernoulli draws zeros, which `sample` then does not store
    dense_bytes = n_rows * n_features * 8
    made = []

    def spied(original):
        def spy(self, *args, **kwargs):
            made.append(self.shape[0])
            return original(self, *args, **kwargs)

        return spy

    for kind in (sp.csr_array, sp.csr_matrix, sp.csc_array, sp.csc_matrix):
        for method in ("toarray", "todense"):
            monkeypatch.setattr(kind, method, spied(getattr(kind, method)))
    settings = {"n_components": 2, "hidden_layer_sizes": (4,), "max_iter": 1, "random_state": 0}
    settings |= {"likelihood": "bernoulli", "sparse_method": way}
    estimator = Estimator(batch_size=batch_size, **settings)
    calls = {
        "fit": lambda: estimator.fit(rows),
        "partial_fit": lambda: estimator.partial_fit(rows),
        "transform": lambda: estimator.transform(rows),
        "score_samples": lambda: estimator.score_samples(rows),
        "sample": lambda: estimator.sample(n_rows, random_state=0),
    }
    for name, call in calls.items():
        made.clear()
        tracemalloc.start()
        call()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert max(made, default=0) <= 4096, name  # a block of inference
        if name != "sample":
            assert bool(made) == (way == "dense"), name  # the spy sees what there is to see
        assert peak < 0.6 * dense_bytes, name


# Sparse codes.

DIGITS = load_digits().data[:600]


@pytest.fixture(scope="module", params=["l1", "l2", "kl", "topk"])
def sparse_codes(request):
    """A sparse autoencoder of 64 units on digits, 8 of them to be active."""
    settings = {"n_components": 64, "n_active": 8, "max_iter": 100, "hidden_layer_sizes": (64,)}
    return SparseAutoencoderTransformer(sparsity=request.param, random_state=0, **settings).fit(
        DIGITS
    )


def test_number_of_active_units_is_steered_to_its_target(sparse_codes):
    active = (sparse_codes.transform(DIGITS) > 0).sum(axis=1)
    assert sparse_codes.n_active_ == pytest.approx(active.mean())
    assert active.mean() == pytest.approx(8, rel=0.2)
    if sparse_codes.sparsity == "topk":
        assert active.max() <= 8


def test_no_unit_stays_dead(sparse_codes):
    ever = (sparse_codes.transform(DIGITS) > 0).any(axis=0)
    assert sparse_codes.n_dead_ == (~ever).sum() == 0


def test_sparse_codes_are_not_negative(sparse_codes):
    assert sparse_codes.transform(DIGITS).min() == 0.0


# Warnings, and what is printed.


def test_posterior_collapse_is_warned_of_with_its_remedies():
    noise = np.random.RandomState(0).normal(size=(200, 5))
    vae = VAETransformer(n_components=2, beta=20.0, max_iter=100, random_state=0)
    with pytest.warns(PosteriorCollapseWarning, match=r"Lower beta.*kl_warmup.*free_bits"):
        vae.fit(noise)
    assert vae.kl_.shape == (2,)
    assert vae.kl_.max() < 0.01


def test_no_collapse_where_there_is_something_to_say():
    with warnings.catch_warnings():
        warnings.simplefilter("error", PosteriorCollapseWarning)
        vae = VAETransformer(n_components=3, max_iter=100, random_state=0).fit(X)
    assert vae.kl_.max() > 0.5


def test_dead_code_is_warned_of_with_its_remedies():
    sparse = SparseAutoencoderTransformer(
        4, sparsity_weight=1e4, learning_rate_init=1e-2, max_iter=50, random_state=0
    )
    with pytest.warns(ConvergenceWarning, match=r"No unit is active.*learning_rate_init.*weight"):
        sparse.fit(X)
    assert sparse.n_active_ == 0
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="No unit is active")
        assert sparse.set_params(sparsity_weight=0.0).fit(X).n_active_ > 0


@every_estimator
def test_too_few_epochs_are_warned_of(Estimator):
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        Estimator(**{**QUICK, "max_iter": 2}).fit(X)


@every_estimator
def test_default_settings_warn_of_nothing(Estimator):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Estimator(n_components=3, random_state=0).fit(X).sample(3)


class Nap(Callback):
    """Makes a training take longer than the bar waits."""

    def on_epoch_begin(self, net, **kwargs):
        time.sleep(0.4)


@pytest.mark.parametrize("verbose", [0, 1])
def test_short_fits_are_silent(verbose, capfd):
    AutoencoderTransformer(**QUICK, verbose=verbose).fit(X)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow  # it has to take longer than a second
def test_longer_fits_show_a_bar_where_asked(capfd):
    AutoencoderTransformer(**QUICK, verbose=1, callbacks=[Nap()]).fit(X)
    out, err = capfd.readouterr()
    assert out == ""
    assert "AutoencoderTransformer" in err
    assert "batch" in err


def test_verbose_two_prints_a_line_for_each_epoch(capfd):
    AutoencoderTransformer(**QUICK, verbose=2).fit(X)
    out, _ = capfd.readouterr()
    assert "train_loss" in out
    assert len(re.findall(r"^ +[1-5] .*\d", out, re.M)) == 5


# Callbacks of skorch.


class Counter(Callback):
    """Counts training batches and epochs."""

    def initialize(self):
        self.batches = self.epochs = 0
        return self

    def on_batch_end(self, net, training=False, **kwargs):
        self.batches += training

    def on_epoch_end(self, net, **kwargs):
        self.epochs += 1


def test_callback_of_the_user_sees_every_batch_and_epoch():
    counter = Counter()
    AutoencoderTransformer(**QUICK, batch_size=50, callbacks=[("count", counter)]).fit(X)
    assert (counter.batches, counter.epochs) == (20, 5)


HOOKS_OF_A_STEP = ["on_batch_begin", "on_grad_computed", "on_batch_end"]


def of_the_class(name, hear):
    return type("Listener", (Callback,), {name: lambda self, *_, **given: hear(given)})()


def of_the_object(name, hear):
    callback = Callback()
    setattr(callback, name, lambda *_, **given: hear(given))
    return callback


@pytest.mark.parametrize("name", HOOKS_OF_A_STEP)
@pytest.mark.parametrize("make", [of_the_class, of_the_object])
def test_a_callback_hears_each_step_whatever_it_leaves_out(name, make):
    heard, epochs = [], Counter()
    listener = make(name, heard.append)
    AutoencoderTransformer(**QUICK, batch_size=50, callbacks=[Callback(), epochs, listener]).fit(X)
    assert len(heard) == epochs.batches == 20
    assert all(given["training"] for given in heard)


class Reader(Callback):
    """Notes the rows of each training batch, by epoch."""

    def initialize(self):
        self.epochs = []
        return self

    def on_epoch_begin(self, net, **kwargs):
        self.epochs.append([])

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        self.epochs[-1] += batch.x.tolist() if training else []


def test_every_epoch_sees_every_row_once_in_an_order_of_its_own():
    reader = Reader()
    AutoencoderTransformer(**QUICK, batch_size=50, input_scaling=None, callbacks=[reader]).fit(X)
    assert len(reader.epochs) == 5
    for epoch in reader.epochs:
        np.testing.assert_allclose(sorted(epoch), sorted(X.tolist()), rtol=1e-6, atol=1e-6)
    assert len({tuple(map(tuple, epoch)) for epoch in reader.epochs}) == 5


def test_early_stopping_of_skorch_stops():
    stop = EarlyStopping(monitor="train_objective", patience=2, threshold=1e9)
    autoencoder = AutoencoderTransformer(**QUICK, init="random", callbacks=[stop])
    assert autoencoder.fit(X).n_iter_ <= 3


def test_checkpoint_of_skorch_loads_what_it_saved(tmp_path):
    # It is told to save once, in the second epoch, and to go back there in the end.
    checkpoint = Checkpoint(
        monitor=lambda net: len(net.history) == 2, dirname=tmp_path, load_best=True
    )
    estimator = AutoencoderTransformer(**QUICK, callbacks=[checkpoint]).fit(X)
    saved = torch.load(tmp_path / "params.pt", weights_only=True)
    for name, value in estimator.module_.state_dict().items():
        assert torch.equal(value, saved[name])
    free = AutoencoderTransformer(**QUICK).fit(X)
    assert not np.array_equal(weights_of(estimator), weights_of(free))


def test_only_the_lowest_loss_so_far_is_the_best(monkeypatch):
    # Checkpoint of skorch saves where it is.
    losses = iter([3.0, 1.0, 2.0, 1.5, 0.5, 0.7, 0.4])

    def means(record):
        return dict.fromkeys(["loss", "objective", "reconstruction"], next(losses))

    monkeypatch.setattr("skae._training.net._EpochRecord.means", means)
    estimator = AutoencoderTransformer(**QUICK).fit(X).partial_fit(X).partial_fit(X)
    best = estimator.net_.history[:, "train_loss_best"]
    assert best == [True, True, False, False, True, False, True]


def test_a_training_begins_at_its_own_rate_wherever_another_ended():
    settings = {**QUICK, "learning_rate": "constant", "warm_start": True}
    one, other = (AutoencoderTransformer(**settings).fit(X) for _ in range(2))
    for group in one.net_.optimizer_.param_groups:
        group["lr"] = 0.5  # as a scheduler leaves it
    np.testing.assert_array_equal(weights_of(one.fit(X)), weights_of(other.fit(X)))


def test_gradient_clipping_of_skorch_acts():
    settings = {**QUICK, "optimizer": "sgd"}
    free = AutoencoderTransformer(**settings).fit(X)
    clip = GradientNormClipping(gradient_clip_value=1e-9)
    clipped = AutoencoderTransformer(**settings, alpha=0.0, callbacks=[clip]).fit(X)
    start = AutoencoderTransformer(**{**settings, "learning_rate_init": 1e-30}).fit(X)
    assert np.abs(weights_of(free) - weights_of(start)).max() > 1e-3
    np.testing.assert_allclose(weights_of(clipped), weights_of(start), atol=1e-6)


def test_scheduler_of_skorch_sets_the_rate():
    scheduler = LRScheduler(policy="StepLR", step_size=1, gamma=0.1)
    settings = {**QUICK, "learning_rate": "constant", "learning_rate_init": 1e-3}
    estimator = AutoencoderTransformer(**settings, callbacks=[scheduler]).fit(X)
    np.testing.assert_allclose(estimator.net_.history[:, "event_lr"], 10.0 ** -np.arange(3, 8))
    assert estimator.net_.optimizer_.param_groups[0]["lr"] < 1e-7


# Networks of the user.


def dropout_encoder(n_inputs, n_outputs):
    return nn.Sequential(
        nn.Linear(n_inputs, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, n_outputs)
    )


@every_estimator
def test_network_with_dropout_follows_the_random_state(Estimator):
    network = CustomNetwork(dropout_encoder, nn.Linear)
    quick = {name: value for name, value in QUICK.items() if name != "hidden_layer_sizes"}

    def fit(seed):
        return Estimator(**{**quick, "random_state": seed}, network=network).fit(X)

    first, again, other = fit(0), fit(0), fit(1)
    np.testing.assert_array_equal(weights_of(first), weights_of(again))
    assert not np.array_equal(weights_of(first), weights_of(other))
    # There is no dropout outside the training.
    np.testing.assert_array_equal(first.transform(X), first.transform(X))


def test_network_from_callables_serves_every_size_of_a_grid():
    encoder = VAETransformer(network=CustomNetwork(nn.Linear, nn.Linear), max_iter=2)
    search = GridSearchCV(encoder, {"n_components": [1, 2, 5]}, cv=2).fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@every_estimator
@pytest.mark.parametrize("given", [{"hidden_layer_sizes": (8,)}, {"activation": "relu"}])
def test_sizes_beside_a_network_that_does_not_look_at_them_are_refused(Estimator, given):
    network = CustomNetwork(nn.Linear, nn.Linear)
    (name,) = given
    with pytest.raises(ValueError, match=rf"{name}.*CustomNetwork does not look at it.*Leave"):
        Estimator(network=network, max_iter=2, **given).fit(X)
    Estimator(network=MLP(), max_iter=2, **given).fit(X)


# Choices that are independent: every estimator takes noise, a sampler, L1.


@every_estimator
def test_every_estimator_can_denoise(Estimator):
    longer = {**QUICK, "max_iter": 150}
    clean, noisy, noisier = (
        Estimator(**longer, noise=noise, noise_level=level).fit(X)
        for noise, level in ((None, 0.9), ("masking", 0.3), ("masking", 0.8))
    )
    without = Estimator(**longer, noise=None, noise_level=0.1).fit(X)
    np.testing.assert_array_equal(weights_of(clean), weights_of(without))
    # The objective is that of the training step: the more is hidden, the worse it is.
    losses = [fitted.history_["reconstruction"][-1] for fitted in (clean, noisy, noisier)]
    assert losses == sorted(losses) and losses[2] > losses[0] + 1.0


@every_estimator
def test_every_estimator_samples_from_the_density_that_is_asked_for(Estimator):
    two = np.concatenate([X, X + 40.0])
    fitted = Estimator(**{**QUICK, "max_iter": 20}, sampler="kernel").fit(two)
    codes, drawn = fitted.transform(two), fitted._model._draw_codes(200, seed=0)
    # Shaken training codes: each lies near one of them, in the units of their spread.
    gaps = (drawn[:, None] - codes[None]) / codes.std(axis=0).clip(1e-6)
    assert np.square(gaps).sum(axis=2).min(axis=1).max() < 1.0
    other = Estimator(**{**QUICK, "max_iter": 20}, sampler="gaussian_mixture").fit(two)
    np.testing.assert_array_equal(weights_of(fitted), weights_of(other))
    assert not np.array_equal(fitted.sample(20, random_state=0), other.sample(20, random_state=0))


@every_estimator
def test_l1_ratio_draws_weights_to_zero(Estimator):
    settings = {**QUICK, "init": "random", "max_iter": 40}

    def share_of_zeros(l1_ratio):
        fitted = Estimator(**settings, alpha=3.0, l1_ratio=l1_ratio).fit(X)
        return (fitted.module_.encoder[0].weight == 0).float().mean()

    assert share_of_zeros(0.0) < 0.01 < 0.2 < share_of_zeros(1.0)


@every_estimator
def test_weight_density_falls_with_alpha_where_l1_has_a_share(Estimator):
    settings = {**QUICK, "init": "random", "max_iter": 40}

    def density(**more):
        fitted = Estimator(**settings, **more).fit(X)
        weights = [one for one in fitted.module_.parameters() if one.ndim == 2]
        share = sum(int((one != 0).sum()) for one in weights) / sum(one.numel() for one in weights)
        assert fitted.weight_density_ == share
        return share

    dense, *sparser = [density(alpha=alpha, l1_ratio=1.0) for alpha in (0.0, 1.0, 3.0, 10.0)]
    assert dense == density(alpha=3.0, l1_ratio=0.0) == 1.0
    assert dense > sparser[0] > sparser[1] > sparser[2]


def test_network_of_the_wrong_size_is_refused_with_the_sizes():
    network = CustomNetwork(nn.Linear(10, 3), nn.Linear)
    with pytest.raises(ValueError, match=r"encoder of CustomNetwork.*\(n_rows, 6\).*\(2, 3\)"):
        VAETransformer(n_components=3, network=network).fit(X)
