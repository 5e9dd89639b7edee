"""Do models of CSR rows answer with CSR rows like those they learned, and never densify a table?"""

import contextlib
import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.special import expit
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from skae import AutoencoderTransformer, VAETransformer
from skae.likelihoods import LIKELIHOODS, Multinomial
from tests.helpers import ESTIMATORS, QUICK

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::skae.exceptions.PosteriorCollapseWarning"),
]

COUNTS = [name for name, kind in LIKELIHOODS.items() if kind.conditional_on_total]
of_counts = pytest.mark.parametrize("likelihood", COUNTS)
every_estimator = pytest.mark.parametrize("Estimator", ESTIMATORS)


def documents(n_rows=300, n_features=40, seed=0):
    """Return counts of words by two topics in rows of different length; the first is empty."""
    rng = np.random.RandomState(seed)
    topics = rng.dirichlet(np.full(n_features, 0.2), size=2)
    share = rng.uniform(size=(n_rows, 1))
    mean = share * topics[0] + (1 - share) * topics[1]
    X = rng.poisson(mean * rng.gamma(4.0, 5.0, size=(n_rows, 1))).astype(float)
    X[0] = 0.0
    return X


X = documents()
CSR = sp.csr_array(X)


@pytest.fixture(scope="module", params=LIKELIHOODS)
def fitted(request):
    """A model of documents by each likelihood, for the Bernoulli of the presence of words."""
    rows = CSR.sign() if request.param == "bernoulli" else CSR
    settings = {**QUICK, "max_iter": 60, "learning_rate_init": 1e-2, "likelihood": request.param}
    return VAETransformer(sparse_method="exact", **settings).fit(rows), rows


# New rows.


def test_drawn_rows_are_csr_like_those_of_the_training(fitted):
    estimator, rows = fitted
    drawn = estimator.sample(2000, random_state=0)
    assert sp.issparse(drawn)
    assert drawn.format == "csr"
    assert drawn.shape == (2000, 40)
    likelihood = estimator.likelihood_
    assert likelihood.inside(drawn.data).all()
    assert drawn.dtype == (likelihood.sample_dtype or np.float64)
    if not likelihood.has_zero_mass:
        return
    assert drawn.nnz == drawn.count_nonzero()  # zeros are not stored
    share, expected = (table.nnz / np.prod(table.shape) for table in (drawn, rows))
    assert share == pytest.approx(expected, rel=0.2)
    means = (np.asarray(table.mean(axis=0)).ravel() for table in (drawn, rows))
    np.testing.assert_allclose(*means, rtol=0.2, atol=0.1)


def test_totals_of_drawn_rows_follow_those_of_the_training(fitted):
    estimator, rows = fitted
    if not estimator.likelihood_.conditional_on_total:
        pytest.skip("totals are predicted")
    drawn = estimator.sample(4000, random_state=0)
    found, expected = (table.toarray().sum(axis=1) for table in (drawn, rows))
    assert found.mean() == pytest.approx(expected.mean(), rel=0.1)
    assert np.median(found) == pytest.approx(np.median(expected), rel=0.2)
    if isinstance(estimator.likelihood_, Multinomial):
        assert set(found) <= set(expected)
        assert found.std() == pytest.approx(expected.std(), rel=0.1)


def test_model_of_dense_rows_draws_dense_rows():
    estimator = AutoencoderTransformer(likelihood="poisson", **QUICK).fit(X)
    assert isinstance(estimator.sample(3), np.ndarray)


# Reconstructions with their most likely entries.


def test_sparse_reconstruction_is_the_dense_one_at_the_entries_that_are_kept(fitted):
    estimator, rows = fitted
    dense, sparse = (estimator.reconstruct(rows, sparse_output=s) for s in (False, True))
    codes = estimator.transform(rows)
    for full, some in (
        (dense, sparse),
        (
            estimator.inverse_transform(codes),
            estimator.inverse_transform(codes, sparse_output=True),
        ),
    ):
        assert isinstance(full, np.ndarray)
        assert some.format == "csr"
        assert some.shape == full.shape
        assert some.dtype == full.dtype
        at = some.nonzero()
        np.testing.assert_array_equal(some.toarray()[at], full[at])
        assert 0 < some.nnz < full.size


def test_sparse_reconstruction_has_as_many_entries_as_are_expected(fitted):
    estimator, rows = fitted
    sparse = estimator.reconstruct(rows, sparse_output=True)
    n_kept = np.diff(sparse.indptr)
    if not estimator.likelihood_.has_zero_mass:
        # Those of the largest size, in the units of the network.
        assert (n_kept == round(rows.nnz / rows.shape[0])).all()
        size = np.abs(estimator.reconstruct(rows) / estimator._model.scaling.scale)
    else:
        with torch.no_grad():
            code = torch.from_numpy(estimator.transform(rows)).float()
            total = torch.from_numpy(rows.sum(axis=1)[:, None]).float()
            size = estimator.module_.nonzero_mass(code, total).numpy()
        assert np.abs(n_kept - size.sum(axis=1)).max() <= 0.51
        assert n_kept.sum() == pytest.approx(rows.nnz, rel=0.15)
    kept = sparse.toarray() != 0
    for row, of_row in zip(size, kept, strict=True):
        if of_row.any() and not of_row.all():
            assert row[of_row].min() >= row[~of_row].max() - 1e-5


@pytest.mark.parametrize(
    "likelihood",
    [
        name
        for name, kind in LIKELIHOODS.items()
        if kind.has_zero_mass and not kind.conditional_on_total
    ],
)
def test_a_row_in_which_nothing_is_expected_has_no_entry(likelihood):
    rows = np.random.default_rng(0).random(size=(200, 6)) < 0.02  # one row in eight has an entry
    estimator = AutoencoderTransformer(likelihood=likelihood, **QUICK).fit(sp.csr_array(1.0 * rows))
    code = torch.from_numpy(estimator.transform(rows)).float()
    with torch.no_grad():
        expected = estimator.module_.nonzero_mass(code, None).sum(dim=1)
    empty = expected.numpy() < 0.4
    assert empty.sum() > 100
    assert estimator.reconstruct(rows[empty], sparse_output=True).nnz == 0


def test_probability_of_an_entry_is_that_of_the_draws(fitted):
    estimator, _ = fitted
    likelihood, n_draws = estimator.likelihood_, 20_000
    if not likelihood.has_zero_mass:
        pytest.skip("no zeros")
    code, total = torch.zeros(n_draws, 3), torch.full((n_draws, 1), 20.0)
    with torch.no_grad():
        drawn = estimator.module_.draw(code, torch.Generator().manual_seed(0), total)
        expected = estimator.module_.nonzero_mass(code[:1], total[:1])
    found = (drawn != 0).float().mean(dim=0)
    torch.testing.assert_close(found, expected[0], rtol=0, atol=5 * 0.5 / n_draws**0.5)


def test_sparse_reconstruction_of_a_bernoulli_follows_its_probabilities():
    flags = np.zeros((40, 5))
    flags[:, 0], flags[::2, 1] = 1.0, 1.0
    estimator = AutoencoderTransformer(likelihood="bernoulli", **QUICK).fit(sp.csr_array(flags))
    with torch.no_grad():
        raw = estimator.module_.decoder(torch.zeros(1, 3)).numpy()
    found = estimator.inverse_transform(np.zeros((1, 3)), sparse_output=True)
    n_kept = round(expit(raw).sum())
    assert set(found.indices) == set(np.argsort(-raw[0])[:n_kept])


def test_sparse_reconstruction_of_a_centred_gaussian_keeps_the_rest_empty():
    # In the units of the network, zeros of X are far from zero.
    rows = X + 100.0 * (X > 0)
    estimator = AutoencoderTransformer(**QUICK).fit(rows)
    dense, sparse = (estimator.reconstruct(rows, sparse_output=s) for s in (False, True))
    assert (np.diff(sparse.indptr) == round((rows != 0).sum() / len(rows))).all()
    kept = sparse.toarray() != 0
    np.testing.assert_array_equal(sparse.toarray()[kept], dense[kept])
    for row, of_row in zip(np.abs(dense) / estimator._model.scaling.scale, kept, strict=True):
        assert row[of_row].min() >= row[~of_row].max() - 1e-5


# The total of a row is given.


@of_counts
@pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array])
def test_reconstruction_has_the_total_of_its_row(likelihood, as_format):
    settings = {**QUICK, "max_iter": 60, "learning_rate_init": 1e-2, "likelihood": likelihood}
    estimator = AutoencoderTransformer(**settings, sparse_method="exact").fit(as_format(X))
    scores = estimator.score_samples(as_format(X))
    assert np.isfinite(scores).all()
    assert scores[0] == pytest.approx(0.0, abs=1e-4)  # all that an empty row can be
    once, twice = (estimator.reconstruct(as_format(factor * X)) for factor in (1, 2))
    # The encoder sees the logarithm of counts, and so not quite the same.
    np.testing.assert_allclose(twice.sum(axis=1), 2 * once.sum(axis=1), rtol=0.1)
    error = np.abs(once.sum(axis=1) - X.sum(axis=1))
    # A softmax has it exactly; the others learn it.
    assert error.max() < 1e-4 * 60 if likelihood == "multinomial" else error.mean() < 1.5
    assert not once[0].any()
    kept = estimator.reconstruct(as_format(X), sparse_output=True).toarray().sum(axis=1)
    # What is left out are the many small means.
    assert (kept <= once.sum(axis=1) * (1 + 1e-5)).all()
    assert kept.sum() > 0.7 * once.sum()
    plain = estimator.inverse_transform(estimator.transform(as_format(X)))
    mean_total = X.sum(axis=1).mean()
    positive = X.sum(axis=1) > 0
    np.testing.assert_allclose(
        plain[positive], once[positive] * (mean_total / X.sum(axis=1)[positive])[:, None], rtol=1e-3
    )


@of_counts
def test_reconstruction_of_a_row_twice_as_large_is_twice_as_large(likelihood):
    # Without a scaling the encoder sees rows of one length, and so the same.
    settings = {**QUICK, "likelihood": likelihood, "input_scaling": None}
    for rows in (X, CSR):
        estimator = AutoencoderTransformer(sparse_method="exact", **settings).fit(rows)
        codes, of_twice = estimator.transform(rows), estimator.transform(2 * rows)
        np.testing.assert_allclose(of_twice, codes, atol=1e-5)
        once, twice = estimator.reconstruct(rows), estimator.reconstruct(2 * rows)
        np.testing.assert_allclose(twice, 2 * once, rtol=1e-4, atol=1e-6)


# The likelihood that is chosen.

RNG = np.random.RandomState(0)
KINDS = {
    "binary": ((X > 0).astype(float), "Bernoulli"),
    "counts": (X, "NegativeBinomial"),
    "tf-idf": (RNG.gamma(2.0, size=X.shape) * (X > 0), "ZeroInflatedLogNormal"),
    "real": (RNG.normal(size=X.shape), "Gaussian"),
}


@pytest.mark.parametrize(("rows", "expected"), KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array])
def test_likelihood_is_chosen_for_the_kind_of_data(rows, expected, as_format):
    estimator = AutoencoderTransformer(likelihood="auto", **QUICK).fit(as_format(rows))
    assert type(estimator.likelihood_).__name__ == expected
    assert repr(estimator.likelihood_) == f"{expected}()"
    assert estimator.likelihood == "auto"
    assert "likelihood='auto'" in repr(estimator)
    assert np.isfinite(estimator.score(as_format(rows)))


def test_likelihood_stays_that_of_the_first_rows():
    estimator = AutoencoderTransformer(likelihood="auto", **QUICK).partial_fit(X)
    chosen = estimator.likelihood_
    estimator.partial_fit((X > 0).astype(float))
    assert estimator.likelihood_ is chosen
    with pytest.raises(ValueError, match="whole numbers"):
        estimator.partial_fit(X + 0.5)


# Nothing of the size of a table is ever made.


class Largest(TorchDispatchMode):
    """Notes the number of cells of the largest tensor that an operation gives."""

    def __init__(self):
        super().__init__()
        self.n_cells = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in tree_flatten(result)[0]:
            # Not of a sparse gradient, which has the shape of what it is a gradient of.
            if isinstance(value, torch.Tensor) and value.layout == torch.strided:
                self.n_cells = max(self.n_cells, value.untyped_storage().nbytes() // 4)
        return result


@contextlib.contextmanager
def guarded(most_cells, monkeypatch):
    """Fail where scipy, numpy or torch make more cells than that."""
    made = []
    with monkeypatch.context() as patch:
        for kind in (sp.csr_array, sp.csr_matrix, sp.csc_array, sp.coo_array):
            for method in ("toarray", "todense"):
                original = getattr(kind, method)
                patch.setattr(
                    kind,
                    method,
                    lambda self, *a, _original=original, **k: (
                        made.append(np.prod(self.shape)) or _original(self, *a, **k)
                    ),
                )
        tracemalloc.start()
        try:
            with Largest() as largest:
                yield
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert largest.n_cells < most_cells
    assert max(made, default=0) < most_cells
    assert peak < 8 * most_cells


N_ROWS, N_FEATURES = 400, 50_000


@pytest.fixture(scope="module")
def wide():
    """Counts of which each row has few, in many columns."""
    # What is imported at the first fit, or by torch to watch it, is no part of the memory that is
    # looked at.
    with Largest():
        AutoencoderTransformer(likelihood="auto", **QUICK).fit(CSR).sample(2)
    rng = np.random.RandomState(0)
    places = np.arange(N_ROWS).repeat(20), rng.randint(N_FEATURES, size=20 * N_ROWS)
    return sp.csr_array((np.ones(20 * N_ROWS), places), shape=(N_ROWS, N_FEATURES))


def test_guard_sees_what_is_made(wide, monkeypatch):
    for make in (
        lambda: wide[:10].toarray(),
        lambda: torch.zeros(10, N_FEATURES),
        lambda: np.ones((10, N_FEATURES)),
    ):
        with pytest.raises(AssertionError), guarded(9 * N_FEATURES, monkeypatch):
            make()


@pytest.mark.parametrize(
    ("Estimator", "likelihood", "method"),
    [
        *((Estimator, "bernoulli", "sampled") for Estimator in ESTIMATORS),
        (AutoencoderTransformer, "negative_binomial", "sampled"),
        (AutoencoderTransformer, "multinomial", "exact"),
        (AutoencoderTransformer, "gaussian", "exact"),
    ],
)
def test_fit_and_answers_never_make_a_dense_table(Estimator, likelihood, method, wide, monkeypatch):
    rows = wide.sign() if likelihood == "bernoulli" else wide
    settings = {"n_components": 2, "hidden_layer_sizes": (4,), "max_iter": 1, "random_state": 0}
    if Estimator is VAETransformer:
        settings["n_importance_samples"] = 2
    estimator = Estimator(likelihood=likelihood, sparse_method=method, **settings)
    # No more than a block of rows, where all columns are worked on.
    with guarded(0.6 * N_ROWS * N_FEATURES, monkeypatch):
        estimator.fit(rows)
        scores = estimator.score_samples(rows[:40])
        # Draws from a Gaussian have no zeros, in whatever format they come.
        n_drawn = 3 if likelihood == "gaussian" else N_ROWS
        drawn = estimator.sample(n_drawn, random_state=0)
        again = estimator.reconstruct(rows, sparse_output=True)
    assert estimator.sparse_method_ == method
    assert np.isfinite(scores).all()
    assert sp.issparse(drawn)
    assert drawn.shape == (n_drawn, N_FEATURES)
    assert again.shape == rows.shape
    # Here not even a few rows: weights have 4 cells a column and 16 of a linear path, the vectors
    # of words are neither copied nor looked through, and there are some sums of columns.
    with guarded(24 * N_FEATURES, monkeypatch):
        estimator.transform(rows)
        if method == "sampled":
            estimator.partial_fit(rows)
