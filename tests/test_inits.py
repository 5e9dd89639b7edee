"""Is a start the linear model that theory says, whatever the format and the weights of the rows?"""

import pickle
import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA, FactorAnalysis
from torch import nn

import skae.inits.cooccurrence as cooccurrence
import skae.inits.rows as rows_module
from skae import (
    AutoencoderTransformer,
    DenoisingAETransformer,
    SparseAutoencoderTransformer,
    VAETransformer,
)
from skae._duplicates import merge_duplicates
from skae._kernels.csr import Csr
from skae._scaling import fit_scaling, summarise_columns
from skae._training.words import WordFeatures
from skae.inits import INITS, AutoInit, CooccurrenceInit, FactorAnalysisInit, PCAInit, StartRows
from skae.inits.factor_analysis import _shrunk
from skae.likelihoods import LIKELIHOODS, Gaussian
from skae.networks import CustomNetwork
from tests.helpers import QUIET, cells_at_once, counts, low_rank

pytestmark = QUIET

#: A training that does not move, on columns as they are.
STILL = {"learning_rate_init": 1e-30, "max_iter": 1, "random_state": 0, "early_stopping": False}
AS_THEY_ARE = {**STILL, "input_scaling": None}
FORMATS = {"dense": np.asarray, "csr": sp.csr_array, "single": np.float32}
as_formats = pytest.mark.parametrize("as_format", FORMATS.values(), ids=FORMATS)
LINEAR = {name: INITS[name] for name in ("pca", "factor_analysis")}
every_linear = pytest.mark.parametrize("kind", LINEAR.values(), ids=LINEAR)
X = low_rank(150, 8, 3)
TINY_FLOOR = {"likelihood": Gaussian(variance_floor=1e-6)}


def start_rows(X, weight=None, scaling="fourth_moment"):
    """Return the rows of a table as a fit hands them to a start."""
    index, weight = merge_duplicates(X, weight)
    columns = summarise_columns(X, index, weight)
    return StartRows(X, index, weight, columns, fit_scaling(scaling, columns, sp.issparse(X)))


def test_the_density_of_a_start_is_that_of_its_gaussian():
    start = FactorAnalysisInit().fit(start_rows(X), 3, "gaussian", 0)
    covariance = start.decode.T @ start.decode + np.diag(start.noise_variance)
    expected = multivariate_normal(start.mean, covariance).logpdf(X)
    np.testing.assert_allclose(start.log_density(X), expected, rtol=1e-9)


def texts(n_rows=300, n_columns=120, n_topics=3, seed=0):
    """Return counts of words, of which each topic uses a part of its own, and the topics."""
    rng = np.random.default_rng(seed)
    topic = rng.integers(n_topics, size=n_rows)
    own = np.arange(n_columns) % n_topics
    return rng.poisson(np.where(own == topic[:, None], 0.2, 0.01)).astype(float), topic


# Rows ---------------------------------------------------------------------------------------------


def moments(X, weight):
    """Return mean and covariance of the columns in the units of the start, straightforwardly."""
    summary = summarise_columns(X, np.arange(len(X)), weight)
    scale = fit_scaling("fourth_moment", summary, False).scale
    return np.cov((X / scale).T, aweights=weight, bias=True), scale


@pytest.mark.parametrize("most_columns", [2_000, 3])
@as_formats
def test_covariance_is_that_of_weighted_rows(as_format, most_columns, monkeypatch):
    monkeypatch.setattr(rows_module, "_MOST_COLUMNS", most_columns)
    weight = np.random.default_rng(0).uniform(0.1, 2.0, len(X))
    covariance, _ = moments(X, weight)
    vectors = np.random.default_rng(1).normal(size=(8, 2))
    found = start_rows(as_format(X), weight).covariance_times(vectors)
    np.testing.assert_allclose(found, covariance @ vectors, rtol=1e-5, atol=1e-5)


@as_formats
def test_loadings_are_covariances_with_codes(as_format):
    rows = start_rows(as_format(X))
    dense = X[rows.index] - X.mean(axis=0)
    codes = dense[:, :2] ** 2
    codes = codes - codes.mean(axis=0)
    expected = codes.T @ dense / len(X) / moments(X, None)[1]
    np.testing.assert_allclose(rows.loadings(codes), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mean", [1e4, 1e8])
def test_columns_far_from_zero_have_the_same_start_in_csr(mean):
    far = X + mean * (np.arange(8) % 2)
    dense, csr = start_rows(far), start_rows(sp.csr_array(far))
    vectors = np.eye(8)
    # As much as the digits of the values allow.
    atol = 1e-14 * mean + 1e-9
    np.testing.assert_allclose(
        csr.covariance_times(vectors), dense.covariance_times(vectors), atol=atol
    )


def test_weighted_rows_tell_as_much_as_kish_says():
    assert start_rows(X).n_rows == pytest.approx(len(X))
    weight = np.random.default_rng(0).uniform(0.1, 2.0, len(X))
    assert start_rows(X, weight).n_rows == pytest.approx(weight.sum() ** 2 / (weight**2).sum())


def test_subspace_iteration_finds_the_leading_eigenvectors(monkeypatch):
    rows, factor = start_rows(low_rank(200, 60, 4)), np.linspace(0.5, 2.0, 60)
    values, vectors, _ = rows.leading(factor, 4)
    monkeypatch.setattr(rows_module, "_MOST_EXACT", 10)
    found, basis, again = rows.leading(factor, 4, seed=3)
    np.testing.assert_allclose(found, values, rtol=1e-6)
    np.testing.assert_allclose(basis, vectors, atol=1e-3)  # of the same sign, too
    np.testing.assert_allclose(rows.leading(factor, 4, again)[0], values, rtol=1e-9)


@pytest.mark.parametrize(("name", "most"), [("pca", 60), ("cooccurrence", 200)])
def test_wide_csr_is_never_dense(name, most):
    n_rows, n_columns = 2_000, 50_000
    rng = np.random.default_rng(0)
    entries = rng.integers(n_columns, size=(n_rows, 20)).ravel()
    wide = sp.csr_array(
        (np.ones(entries.size), entries, np.arange(n_rows + 1) * 20), shape=(n_rows, n_columns)
    )
    wide.sum_duplicates()
    rows = start_rows(wide, scaling="max")
    tracemalloc.start()
    start = INITS[name]().fit(rows, 4, "plain", 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(start.mean) == n_columns
    # Some vectors of a number a column each; a dense table would be 800 MB.
    assert peak < 1.5 * most * n_columns * 8


# Principal components -----------------------------------------------------------------------------


@pytest.mark.parametrize("Estimator", [AutoencoderTransformer, DenoisingAETransformer])
@as_formats
def test_an_autoencoder_begins_as_pca(Estimator, as_format):
    autoencoder = Estimator(n_components=3, init="pca", **AS_THEY_ARE).fit(as_format(X))
    pca = PCA(3).fit(X)
    np.testing.assert_allclose(autoencoder.transform(as_format(X)), pca.transform(X), atol=1e-4)
    expected = pca.inverse_transform(pca.transform(X))
    np.testing.assert_allclose(autoencoder.reconstruct(as_format(X)), expected, atol=1e-4)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@as_formats
def test_a_plain_autoencoder_of_any_likelihood_begins_as_pca_by_default(likelihood, as_format):
    rows = as_format((low_rank(90, 8, 3) > 0).astype(float))
    settings = {"likelihood": likelihood, "max_iter": 3, "random_state": 0}
    codes = [
        AutoencoderTransformer(3, init=init, **settings).fit_transform(rows)
        for init in ("auto", "pca")
    ]
    np.testing.assert_array_equal(*codes)


def test_a_plain_autoencoder_of_flags_does_not_learn_them_by_heart():
    rng = np.random.default_rng(0)
    chance = 1 / (1 + np.exp(-rng.normal(size=(600, 3)) @ rng.normal(size=(3, 40)) * 1.5))
    rows = (rng.random(chance.shape) < chance).astype(float)
    scores = [
        AutoencoderTransformer(6, init=init, likelihood="bernoulli", random_state=0)
        .fit(rows[:300])
        .score(rows[300:])
        for init in ("auto", "random")
    ]
    assert scores[0] > scores[1] + 1


def test_pca_sees_columns_of_one_scale():
    weight = np.ones(len(X))
    _, scale = moments(X, weight)
    autoencoder = AutoencoderTransformer(3, **STILL)
    codes = autoencoder.fit_transform(X * 10.0 ** np.arange(8))
    np.testing.assert_allclose(codes, PCA(3).fit_transform(X / scale), atol=1e-4)


@pytest.mark.parametrize("likelihood", ["bernoulli", "poisson", "multinomial"])
@pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array])
def test_pca_of_other_likelihoods_is_of_what_the_encoder_sees(likelihood, as_format):
    table = counts(100, 9, 2.0)
    table = (table > 1).astype(float) if likelihood == "bernoulli" else table
    autoencoder = AutoencoderTransformer(
        3, init="pca", likelihood=likelihood, sparse_method="exact", **STILL
    )
    codes = autoencoder.fit_transform(as_format(table))
    seen = table
    if likelihood != "bernoulli":
        norm = autoencoder.module_.encoder_input.norm
        seen = np.log1p(table)
        if norm is not None:
            seen = norm * seen / np.linalg.norm(seen, axis=1, keepdims=True)
    np.testing.assert_allclose(codes, PCA(3).fit_transform(seen), atol=1e-3)


@pytest.mark.parametrize("n_components", [2, 8, 11])
def test_a_vae_at_pca_is_probabilistic_pca(n_components):
    # Tipping and Bishop (1999), equations 7 and 8, with no noise below what the network can have.
    vae = VAETransformer(
        n_components,
        init="pca",
        likelihood=Gaussian(variance="shared", variance_floor=1e-6),
        **AS_THEY_ARE,
    ).fit(X)
    values, axes = np.linalg.eigh(np.cov(X.T, bias=True))
    k = min(n_components, 8)
    noise = max(values[: 8 - k].mean() if k < 8 else 0.0, 1e-2)
    excess = np.maximum(values[8 - k :] - noise, 0.0)
    covariance = (axes[:, 8 - k :] * excess) @ axes[:, 8 - k :].T + noise * np.eye(8)
    expected = multivariate_normal(X.mean(axis=0), covariance).logpdf(X)
    np.testing.assert_allclose(vae.score_samples(X), expected, atol=0.02, rtol=1e-3)
    posterior = noise / (noise + excess)
    means = (1 - posterior) * values[8 - k :] / (excess + noise)
    kl = 0.5 * (posterior + means - 1.0 - np.log(posterior))
    expected = np.sort(np.append(kl, np.zeros(n_components - k)))[::-1]
    np.testing.assert_allclose(vae.kl_, expected, atol=1e-3)


# Factor analysis ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shrink", [True, False])
@as_formats
def test_a_vae_begins_as_factor_analysis(shrink, as_format):
    init = FactorAnalysisInit(shrink=shrink)
    vae = VAETransformer(3, init=init, **TINY_FLOOR, **AS_THEY_ARE).fit(as_format(X))
    start = init.fit(start_rows(X, scaling=None), 3, "gaussian", 0)
    loadings, noise = start.decode.T, start.noise_variance
    covariance = loadings @ loadings.T + np.diag(noise)
    expected = multivariate_normal(X.mean(axis=0), covariance).logpdf(X)
    np.testing.assert_allclose(vae.score_samples(as_format(X)), expected, rtol=1e-4, atol=1e-3)
    # The posterior of a Gaussian factor, whose precision is diagonal.
    precision = np.eye(3) + loadings.T @ (loadings / noise[:, None])
    variance = np.diag(np.linalg.inv(precision))
    np.testing.assert_allclose(precision, np.diag(1 / variance), atol=1e-6 * precision.max())
    mean = (X - X.mean(axis=0)) @ (loadings / noise[:, None]) * variance
    kl = 0.5 * (variance + np.square(mean).mean(axis=0) - 1.0 - np.log(variance))
    np.testing.assert_allclose(vae.kl_, np.sort(kl)[::-1], rtol=1e-4)


def test_without_shrinkage_it_is_the_factor_analysis_of_scikit_learn():
    vae = VAETransformer(3, init=FactorAnalysisInit(shrink=False), **TINY_FLOOR, **AS_THEY_ARE)
    analysis = FactorAnalysis(3, tol=1e-10, max_iter=20_000).fit(X)
    assert vae.fit(X).score(X) == pytest.approx(analysis.score(X), abs=2e-3)


def test_shrinkage_helps_new_rows_where_there_are_few():
    rng = np.random.default_rng(0)
    loadings = rng.normal(size=(2, 40))
    table = rng.normal(size=(2_050, 2)) @ loadings + rng.normal(size=(2_050, 40))
    few, new = table[:50], table[50:]
    shrunk, not_shrunk = (
        VAETransformer(10, init=FactorAnalysisInit(shrink=shrink), **STILL).fit(few)
        for shrink in (True, False)
    )
    assert shrunk.score(new) > not_shrunk.score(new) + 1.0
    assert (shrunk.kl_ > 0.05).sum() == 2  # the others are noise, and known as such


@pytest.mark.parametrize("g", [0.0, 0.1, 1.0, 5.0])
def test_shrinkage_has_its_limits(g):
    edge = (1 + np.sqrt(g)) ** 2
    assert _shrunk(np.array([0.0, 0.5 * edge, edge]), g) == pytest.approx(1.0)
    large = np.array([1e6])
    # A large spike e is seen as e + g, at an angle that hardly takes of it: e - g on new rows.
    assert _shrunk(large, g) == pytest.approx(large - 2 * g, rel=1e-6)
    values = np.array([1.5, 3.0, 20.0])
    np.testing.assert_allclose(_shrunk(values, 0.0), values)


@given(
    st.floats(0.0, 10.0),
    st.lists(st.floats(0.0, 1e4), min_size=2, max_size=6).map(sorted),
)
def test_shrinkage_keeps_the_order_and_never_adds(g, values):
    values = np.array(values)
    found = _shrunk(values, g)
    assert (found >= 1.0).all()
    assert (found <= np.maximum(values, 1.0) * (1 + 1e-9)).all()
    assert (np.diff(found) >= -1e-9 * found[1:]).all()
    assert (_shrunk(values, g + 0.1) <= found * (1 + 1e-9)).all()


def test_shrinkage_is_what_new_rows_show_in_the_spiked_model():
    rng, spike, n_rows, n_columns = np.random.default_rng(0), 4.0, 1_000, 500
    table = rng.normal(size=(n_rows, n_columns))
    table[:, 0] *= np.sqrt(spike)
    values, vectors = np.linalg.eigh(table.T @ table / n_rows)
    on_new = 1.0 + (spike - 1.0) * vectors[0, -1] ** 2
    assert _shrunk(values[-1:], n_columns / n_rows)[0] == pytest.approx(on_new, rel=0.1)
    assert _shrunk(values[-2:-1], n_columns / n_rows)[0] < 1.2


def test_a_column_of_few_large_values_is_not_believed_to_be_known():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(60, 6))
    table[:, 1] = table[:, 0] = rng.normal(size=60) * (rng.uniform(size=60) < 0.05)
    rows = start_rows(table)
    known, believed = (
        FactorAnalysisInit(shrink=shrink).fit(rows, 1, "gaussian", 0).noise_variance[0]
        for shrink in (False, True)
    )
    assert believed > 2 * known


def test_other_codes_are_projections_on_the_factors():
    start = FactorAnalysisInit().fit(start_rows(X), 3, "plain", 0)
    np.testing.assert_allclose(start.decode @ start.encode, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(start.decode, axis=1), 1.0)


# Co-occurrence ------------------------------------------------------------------------------------


def dense_features(X, weight, n_contexts):
    """Return the features of rows as the docstring has them, of dense arrays and loops."""
    n_rows, n_columns = X.shape
    weight = weight / weight.mean()
    n_with = weight @ (X > 0)
    rarity = np.log((1 + n_rows) / (1 + n_with)) + 1
    T = np.where(X > 0, 1 + np.log(np.maximum(X, 1)), 0) * rarity
    T = T / np.maximum(np.linalg.norm(T, axis=1, keepdims=True), 1e-300)
    contexts = np.sort(np.argsort(-n_with, kind="stable")[:n_contexts])
    M = np.zeros((n_columns, n_contexts))
    for i in range(n_columns):
        for j, context in enumerate(contexts):
            M[i, j] = 0 if i == context else (weight * T[:, i] * T[:, context]).sum()
    expected = M.sum(axis=1)[:, None] * M.sum(axis=0) / M.sum()
    n_effective = weight.sum() ** 2 / (weight**2).sum()
    least = 40_000 / n_effective * M.sum() / M.size
    U, size, _ = np.linalg.svd(np.log1p(M / (expected + least)), full_matrices=False)
    return normalised(T @ (U * size)), weight


def normalised(rows):
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array])
def test_features_are_those_of_the_formulas(weighted, as_format, monkeypatch):
    monkeypatch.setattr(cooccurrence, "_MOST_CONTEXTS", 7)
    table = counts(60, 12, 0.6)
    table[0] = 0.0  # an empty row
    weight = np.random.default_rng(0).uniform(0.5, 2.0, 60) if weighted else np.ones(60)
    rows = start_rows(as_format(table), weight if weighted else None)
    words = CooccurrenceInit().fit(rows, 2, "plain", 0).words
    table, weight = table[rows.index], rows.weight
    summed, weight = dense_features(table, weight, 7)
    filled = weight * (table.sum(axis=1) > 0)
    features = normalised(summed - filled @ summed / filled.sum())
    features = features - weight @ features / weight.sum()
    features = features / np.sqrt((weight @ features**2 / weight.sum()).mean())
    found = words.features(words.weighted(rows.stored))
    # Vectors are known but for an orthogonal map.
    np.testing.assert_allclose(found @ found.T, features @ features.T, atol=1e-3)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("scaling", [None, "fourth_moment", "max"])
def test_features_in_torch_are_those_of_the_start(whole, scaling):
    table = counts(80, 12, 0.4) * (1.0 if whole else 0.3)
    columns = summarise_columns(table, np.arange(80), None)
    words = CooccurrenceInit().fit(start_rows(table), 2, "plain", 0).words
    table[:10] *= 0.7  # new rows are not whole, where there is noise
    expected = words.features(words.weighted(sp.csr_array(table)))
    for as_format in (np.asarray, sp.csr_array):
        rows = as_format(table)
        units = fit_scaling(scaling, columns, sp.issparse(rows))
        seen = rows.astype(np.float32)
        if units is not None:
            seen = (units.apply_csr if sp.issparse(rows) else units.apply)(rows)
        x = Csr.from_scipy(seen) if sp.issparse(rows) else torch.tensor(seen, dtype=torch.float32)
        found = WordFeatures(words, units)(x)
        np.testing.assert_allclose(found, expected, atol=2e-4)


def test_an_autoencoder_of_texts_begins_at_components_of_the_features():
    table, topic = texts()
    autoencoder = AutoencoderTransformer(2, **STILL)
    codes = autoencoder.fit_transform(table)
    words = CooccurrenceInit().fit(start_rows(table), 2, "plain", 0).words
    features = words.features(words.weighted(sp.csr_array(table)))
    np.testing.assert_allclose(abs(codes), abs(PCA(2).fit_transform(features)), atol=1e-2)
    # Rows of one topic lie together.
    centres = np.stack([codes[topic == t].mean(axis=0) for t in range(3)])
    nearest = np.linalg.norm(codes[:, None] - centres, axis=2).argmin(axis=1)
    assert (nearest == topic).mean() > 0.95


def test_encoder_of_texts_learns_from_features_alone():
    table, _ = texts()
    settings = {"max_iter": 3, "random_state": 0}
    one = AutoencoderTransformer(2, likelihood="poisson", **settings).fit(table)
    other = AutoencoderTransformer(2, likelihood="multinomial", **settings).fit(table)
    assert one.history_["features"] == other.history_["features"]
    assert one.history_["features"][-1] < one.history_["features"][0]
    assert one.score(table) != other.score(table)


@pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array])
def test_where_nothing_occurs_together_another_start_is_taken(as_format):
    one_of_many = as_format(np.eye(120)[np.random.default_rng(0).integers(120, size=600)])
    rows = start_rows(one_of_many)
    assert CooccurrenceInit().fit(rows, 3, "plain", 0) is None
    assert AutoInit().fit(rows, 3, "plain", 0).words is None
    assert AutoInit(linear=False).fit(rows, 3, "plain", 0) is None
    empty = start_rows(as_format(np.zeros((100, 100))))
    assert AutoInit(linear=False).fit(empty, 3, "plain", 0) is None


def with_empty_columns(table, n_more=200):
    """Return a table among columns that nothing is in."""
    wider = np.zeros((len(table), table.shape[1] + n_more))
    wider[:, : table.shape[1]] = table
    return wider


@pytest.mark.parametrize("init", ["auto", "cooccurrence"])
def test_empty_columns_change_nothing_of_texts(init):
    table, _ = texts()
    one, other = (
        AutoencoderTransformer(2, init=init, **STILL).fit_transform(sp.csr_array(X))
        for X in (table, with_empty_columns(table))
    )
    np.testing.assert_allclose(one, other, atol=1e-3)


def test_what_is_no_text_is_none_beside_empty_columns():
    table = counts(200, 90, 0.6)
    assert AutoInit().fit(start_rows(with_empty_columns(table, 1_000)), 2, "plain", 0).words is None


def test_vectors_are_the_same_where_products_are_dense(monkeypatch):
    found = []
    for most_sparse in (0.0, 1.0):
        monkeypatch.setattr(cooccurrence, "_MOST_SPARSE", most_sparse)
        found.append(CooccurrenceInit().fit(start_rows(texts()[0]), 2, "plain", 0).words.vectors)
    np.testing.assert_allclose(*found, atol=1e-3 * np.abs(found[0]).max())


@pytest.mark.parametrize("n_cells", [1, 70])
def test_a_start_of_texts_does_not_depend_on_blocks(n_cells):
    rows = start_rows(texts()[0])
    usual = CooccurrenceInit().fit(rows, 2, "plain", 0)
    with cells_at_once(n_cells):
        found = CooccurrenceInit().fit(rows, 2, "plain", 0)
    for name in ("mean", "scale"):
        whole, parts = (getattr(one.words, name) for one in (usual, found))
        np.testing.assert_allclose(whole, parts, rtol=1e-2, atol=1e-3 * np.abs(whole).max())
    np.testing.assert_allclose(found.decode, usual.decode, atol=1e-3 * np.abs(usual.decode).max())


def test_rows_without_words_have_no_features_where_columns_are_centred():
    table = counts(80, 20, 0.3)
    table[3:9] = 0.0
    still = {"learning_rate_init": 1e-30, "max_iter": 1, "early_stopping": False, "random_state": 0}
    texts = AutoencoderTransformer(2, init="cooccurrence", **still)
    dense, csr = (texts.fit(rows).transform(rows) for rows in (table, sp.csr_array(table)))
    np.testing.assert_allclose(dense, csr, atol=1e-4 * np.abs(csr).max())


def test_features_of_all_rows_are_never_there_at_once():
    n_rows, n_components = 20_000, 64
    rng = np.random.default_rng(0)
    entries = rng.integers(300, size=(n_rows, 4)).ravel()
    cells = np.ones(entries.size), entries, np.arange(n_rows + 1) * 4
    table = sp.csr_array(cells, shape=(n_rows, 300))
    table.sum_duplicates()
    rows = start_rows(table)
    tracemalloc.start()
    words = CooccurrenceInit().fit(rows, n_components, "plain", 0).words
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert words.n_vectors == 4 * n_components
    assert peak < n_rows * words.n_vectors * 8


def test_texts_are_told_by_their_values():
    table, _ = texts()

    def takes_words(table):
        return AutoInit().fit(start_rows(table), 2, "plain", 0).words is not None

    assert takes_words(table)
    assert takes_words(sp.csr_array(table))
    assert not takes_words(-table)
    assert not takes_words(table + 1.0)
    assert not takes_words(table[:99])
    assert not takes_words(table[:, :99])


def test_words_that_are_stored_as_zeros_are_not_there():
    table, _ = texts()
    stored = sp.csr_array(table)
    stored.data[::7] = 0.0
    without = stored.copy()
    without.eliminate_zeros()
    one, other = (CooccurrenceInit().fit(start_rows(x), 2, "plain", 0) for x in (stored, without))
    np.testing.assert_allclose(one.words.vectors, other.words.vectors)


# Laws ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(set(INITS) - {"random"}))
@pytest.mark.parametrize("n_components", [3, 12, 20])
@pytest.mark.parametrize("n_rows", [1, 2, 30])
def test_starts_are_finite_and_of_their_shape(name, n_components, n_rows):
    table = counts(30, 12, 0.7)[:n_rows]
    table[:, 3], table[:, 4], table[1:2] = 2.0, 0.0, 0.0
    start = INITS[name]().fit(start_rows(table), n_components, "plain", 0)
    if start is None:
        return
    n_inputs = 12 if start.words is None else start.words.n_vectors
    assert start.encode.shape == (n_inputs, n_components)
    assert start.decode.shape == (n_components, 12)
    assert start.noise_variance.shape == (12,)
    assert all(np.isfinite(values).all() for values in start[:5])
    assert (start.noise_variance >= 0).all()


@every_linear
@pytest.mark.parametrize("n_components", [1, 12, 20])
def test_starts_of_posteriors_are_finite(kind, n_components):
    table = low_rank(30, 12)
    table[:, 3], table[:, 4] = 2.0, 0.0
    for rows in (table, table[:1], table[:2]):
        start = kind().fit(start_rows(rows), n_components, "gaussian", 0)
        assert ((start.posterior_variance > 0) & (start.posterior_variance <= 1)).all()
        assert (start.noise_variance > 0).all()
        vae = VAETransformer(n_components, init=kind(), max_iter=2, random_state=0)
        assert np.isfinite(vae.fit(rows).score_samples(table)).all()


@pytest.mark.parametrize("name", sorted(set(INITS) - {"random"}))
@pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array])
def test_weights_are_rows_given_as_often(name, as_format):
    table = counts(40, 12, 0.7)
    weight = np.random.default_rng(0).integers(0, 4, 40)
    weighted = INITS[name]().fit(start_rows(as_format(table), weight), 3, "plain", 0)
    repeated = INITS[name]().fit(
        start_rows(as_format(np.repeat(table, weight, axis=0))), 3, "plain", 0
    )
    for one, other in zip(weighted[:5], repeated[:5], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", sorted(set(INITS) - {"random"}))
@pytest.mark.parametrize("wide", [False, True])
def test_dense_and_csr_have_one_start(name, wide, monkeypatch):
    if wide:
        monkeypatch.setattr(rows_module, "_MOST_COLUMNS", 5)
        monkeypatch.setattr(rows_module, "_MOST_EXACT", 5)
    table = counts(100, 12, np.linspace(0.1, 2.0, 12))
    dense = INITS[name]().fit(start_rows(table, scaling="max"), 2, "plain", 0)
    csr = INITS[name]().fit(start_rows(sp.csr_array(table), scaling="max"), 2, "plain", 0)
    for one, other in zip(dense[:5], csr[:5], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-8)


def test_only_what_is_random_depends_on_the_seed(monkeypatch):
    monkeypatch.setattr(rows_module, "_MOST_EXACT", 5)
    rows = start_rows(X)
    one, same, other = (PCAInit().fit(rows, 2, "plain", seed).encode for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    np.testing.assert_allclose(one, other, atol=1e-3)


@pytest.mark.parametrize("Estimator", [VAETransformer, SparseAutoencoderTransformer])
def test_cooccurrence_is_for_plain_codes(Estimator):
    with pytest.raises(ValueError, match=r"init=.cooccurrence. is for Autoencoder.*init=.auto."):
        Estimator(2, init="cooccurrence").fit(counts())


def test_cooccurrence_is_for_values_that_are_not_below_zero():
    with pytest.raises(ValueError, match=r"without negative values.*Got -2 instead.*init='auto'"):
        AutoencoderTransformer(2, init="cooccurrence").fit(np.array([[-2.0, 1.0], [3.0, 4.0]]))


@pytest.mark.parametrize("init", ["pca", FactorAnalysisInit()])
def test_networks_without_a_linear_path_refuse_a_start(init):
    network = CustomNetwork(nn.Linear, nn.Linear)
    with pytest.raises(ValueError, match="needs a linear path, which CustomNetwork does not have"):
        AutoencoderTransformer(2, network=network, init=init).fit(X)
    for init in ("auto", "random"):
        AutoencoderTransformer(2, network=network, init=init, max_iter=1).fit(X)


def test_what_a_model_starts_at_is_a_part_of_it():
    autoencoder = AutoencoderTransformer(2, warm_start=True, max_iter=1, random_state=0).fit(X)
    with pytest.raises(ValueError, match="init"):
        autoencoder.set_params(init="random").fit(X)


def test_a_random_start_has_no_linear_path():
    autoencoder = AutoencoderTransformer(2, hidden_layer_sizes=(5,), init="random", max_iter=1)
    assert len(autoencoder.fit(X).module_.encoder[0].weight) == 5


def test_what_was_found_once_is_not_pickled():
    autoencoder = AutoencoderTransformer(2, **STILL).fit(X)
    assert b"LinearStart" not in pickle.dumps(autoencoder)
    again = pickle.loads(pickle.dumps(autoencoder))
    np.testing.assert_array_equal(again.transform(X), autoencoder.transform(X))


@pytest.mark.parametrize(
    ("likelihood", "init", "share"),
    [
        ("gaussian", "auto", 0.0),
        ("gaussian", "random", 0.25),
        ("bernoulli", "auto", 0.25),
        ("bernoulli", "pca", 0.25),  # the encoder alone has a start
    ],
)
def test_the_kl_term_comes_in_slowly_where_there_is_no_model_yet(likelihood, init, share):
    vae = VAETransformer(2, likelihood=likelihood, init=init, max_iter=1, random_state=0)
    vae.fit((X > 0).astype(float))
    warmup = vae.module_.bottleneck.warmup
    assert warmup(share + 1e-6) == 1.0
    assert warmup(share / 2) == pytest.approx(0.5 if share else 1.0)
