"""What must change nothing changes nothing; what is a choice changes something.

Models are equal to the last bit, where the same numbers are worked out in the same order. Answers
for a row beside other rows are equal but for rounding.
"""

import contextlib
import io
import itertools

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skae import (
    AutoencoderTransformer,
    DenoisingAETransformer,
    SparseAutoencoderTransformer,
    VAETransformer,
)
from skae._kernels import last_layer
from skae.likelihoods import LIKELIHOODS
from skae.networks import CustomNetwork, linear_layers
from skae.noise import NOISES
from tests.choices import ANSWERS, CHOICES, LOW_RANK, PAIRS, TABLES, ShiftedNormal
from tests.helpers import (
    ESTIMATORS,
    QUICK,
    QUIET,
    assert_rounding_apart,
    counts,
    every_estimator,
    global_generators_untouched,
    low_rank,
    weights_of,
)

pytestmark = QUIET

formats = pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array])

X = counts(n_rows=120, n_features=4, rate=0.8)  # holds equal rows
#: Several batches a pass, so that their order matters.
BATCHES = {**QUICK, "batch_size": 32}


def assert_same_model(one, other):
    np.testing.assert_array_equal(weights_of(one), weights_of(other))
    assert one.loss_curve_ == other.loss_curve_


def test_data_hold_equal_rows():
    assert len(np.unique(X, axis=0)) < len(X)


# One seed, one model.


@every_estimator
@formats
def test_one_seed_gives_one_model(Estimator, as_format):
    rows = as_format(X)
    assert_same_model(Estimator(**BATCHES).fit(rows), Estimator(**BATCHES).fit(rows))


@every_estimator
def test_seeds_differ(Estimator):
    first, second = (Estimator(**{**BATCHES, "random_state": seed}).fit(X) for seed in (0, 1))
    assert not np.isclose(weights_of(first), weights_of(second)).all()


@every_estimator
def test_no_seed_gives_a_new_model_each_time(Estimator):
    first, second = (Estimator(**{**BATCHES, "random_state": None}).fit(X) for _ in range(2))
    assert not np.isclose(weights_of(first), weights_of(second)).all()


@every_estimator
def test_random_state_object_is_advanced_by_each_fit(Estimator):
    def two_fits():
        estimator = Estimator(**{**BATCHES, "random_state": np.random.RandomState(0)})
        return weights_of(estimator.fit(X)), weights_of(estimator.fit(X))

    first, second = two_fits()
    assert not np.isclose(first, second).all()
    np.testing.assert_array_equal((first, second), two_fits())


@every_estimator
def test_passes_of_partial_fit_follow_the_seed_and_are_not_all_alike(Estimator):
    one, other = (Estimator(**BATCHES) for _ in range(2))
    for _ in range(3):
        one.partial_fit(X)
        other.partial_fit(X)
    assert_same_model(one, other)


@every_estimator
@pytest.mark.parametrize("random_state", [None, 0])
def test_global_generators_are_as_before(Estimator, random_state):
    estimator = Estimator(**{**BATCHES, "random_state": random_state})
    with global_generators_untouched():
        estimator.fit(X)
        estimator.partial_fit(X)
        estimator.transform(X)
        estimator.reconstruct(X)
        estimator.score_samples(X)
        estimator.sample(3, random_state=random_state)


@every_estimator
@pytest.mark.parametrize("random_state", [None, 0])
def test_global_generators_are_as_before_with_modules_that_draw_from_them(Estimator, random_state):
    def encoder(n_inputs, n_outputs):
        return nn.Sequential(nn.Dropout(0.5), nn.Linear(n_inputs, n_outputs))

    network = CustomNetwork(encoder, nn.Linear)
    settings = {**BATCHES, "random_state": random_state, "hidden_layer_sizes": (128,)}
    with global_generators_untouched():
        Estimator(**settings, network=network).fit(X)


@every_estimator
def test_global_generators_are_not_listened_to(Estimator):
    first = Estimator(**BATCHES).fit(X)
    np.random.rand(7)  # noqa: NPY002
    assert_same_model(first, Estimator(**BATCHES).fit(X))


# The company of a row.


@pytest.fixture(scope="module", params=ESTIMATORS, ids=lambda kind: kind.__name__)
def fitted(request):
    # Wide enough for matrix products to take their different paths.
    rows = low_rank(200, n_features=37)
    return request.param(n_components=5, max_iter=3, random_state=0).fit(rows), rows


@pytest.fixture(
    scope="module", params=itertools.product(ESTIMATORS, ["gaussian", "negative_binomial"]), ids=str
)
def fitted_on_csr(request):
    """An estimator that takes CSR rows as they are, and more rows than are mapped at once."""
    Estimator, likelihood = request.param
    rows = sp.csr_array(counts(700, n_features=301, rate=0.05))
    settings = {"n_components": 5, "max_iter": 1, "random_state": 0, "likelihood": likelihood}
    if Estimator is VAETransformer:
        settings["n_importance_samples"] = 2
    estimator = Estimator(sparse_method="exact", **settings).fit(rows)
    assert estimator.module_.takes_csr
    return estimator, rows


@pytest.mark.parametrize("chunk", [100, 4096])
def test_answers_for_a_csr_row_do_not_depend_on_the_other_rows(fitted_on_csr, chunk, monkeypatch):
    monkeypatch.setattr(last_layer, "_COLUMNS_PER_CHUNK", chunk)
    estimator, rows = fitted_on_csr
    order = np.random.RandomState(0).permutation(700)
    for method in ("transform", "score_samples"):
        whole = getattr(estimator, method)(rows)
        for chosen in ([3], [699], order[:7], order[:40], order[:300], order):
            answer = getattr(estimator, method)(rows[chosen])
            assert_rounding_apart(answer, whole[chosen])


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 199), max_size=6), st.randoms(use_true_random=False), st.booleans())
def test_answers_for_a_row_do_not_depend_on_the_other_rows(fitted, cuts, shuffler, sparse):
    estimator, rows = fitted
    order = list(range(200))
    shuffler.shuffle(order)
    given_rows = sp.csr_array(rows)[order] if sparse else rows[order]
    cuts = [0, *sorted(set(cuts)), 200]
    for method in ("transform", "score_samples", "reconstruct"):
        whole = getattr(estimator, method)(rows)
        parts = [
            getattr(estimator, method)(given_rows[start:end])
            for start, end in itertools.pairwise(cuts)
        ]
        assert_rounding_apart(np.concatenate(parts), whole[order])


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array])
def test_answers_of_every_likelihood_do_not_depend_on_the_other_rows(likelihood, as_format):
    # An odd number of columns, so that blocks of few rows fill no vectors.
    rows = as_format((counts(300, n_features=37) > 0).astype(float))
    settings = {"n_components": 5, "max_iter": 1, "random_state": 0, "sparse_method": "exact"}
    estimator = AutoencoderTransformer(likelihood=likelihood, **settings).fit(rows)
    for method in ("transform", "score_samples"):
        answer = getattr(estimator, method)
        for size in (1, 16, 47):
            parts = [answer(rows[start : start + size]) for start in range(0, 200, size)]
            found = np.concatenate(parts)
            assert_rounding_apart(found, answer(rows)[: len(found)])


def test_each_row_alone_gets_what_it_gets_among_all(fitted):
    estimator, rows = fitted
    for method in ("transform", "score_samples"):
        alone = np.concatenate([getattr(estimator, method)(rows[[i]]) for i in range(40)])
        assert_rounding_apart(alone, getattr(estimator, method)(rows)[:40])


@every_estimator
@formats
@pytest.mark.parametrize("early_stopping", [False, True])
def test_order_of_rows_does_not_matter(Estimator, as_format, early_stopping):
    order = np.random.RandomState(1).permutation(len(X))
    settings = {**BATCHES, "early_stopping": early_stopping}
    first = Estimator(**settings).fit(as_format(X))
    assert_same_model(first, Estimator(**settings).fit(as_format(X[order])))


@every_estimator
@formats
@pytest.mark.parametrize("early_stopping", [False, True])
def test_weight_is_how_often_a_row_is_given(Estimator, as_format, early_stopping):
    # Weight 2 is the row twice, weight 0 is the row left out.
    weight = np.random.RandomState(1).randint(0, 4, size=len(X))
    settings = {**BATCHES, "early_stopping": early_stopping}
    weighted = Estimator(**settings).fit(as_format(X), sample_weight=weight)
    repeated = Estimator(**settings).fit(as_format(np.repeat(X, weight, axis=0)))
    assert_same_model(weighted, repeated)
    assert not np.array_equal(
        weights_of(weighted), weights_of(Estimator(**settings).fit(as_format(X)))
    )


@every_estimator
def test_weight_is_how_often_a_row_is_given_in_partial_fit(Estimator):
    weight = np.random.RandomState(1).randint(0, 4, size=len(X))
    weighted, repeated = Estimator(**BATCHES), Estimator(**BATCHES)
    for _ in range(2):
        weighted.partial_fit(X, sample_weight=weight)
        repeated.partial_fit(np.repeat(X, weight, axis=0))
    assert_same_model(weighted, repeated)


@every_estimator
def test_unit_of_weights_does_not_matter(Estimator):
    weight = np.random.RandomState(1).randint(1, 4, size=len(X))
    first = Estimator(**BATCHES).fit(X, sample_weight=weight)
    assert_same_model(first, Estimator(**BATCHES).fit(X, sample_weight=weight * 8))


@every_estimator
def test_a_heavy_row_is_learned_better(Estimator):
    rows = low_rank(100)
    weight = np.ones(100)
    weight[0] = 100.0
    settings = {**QUICK, "n_components": 8, "max_iter": 60, "learning_rate_init": 1e-2}
    light, heavy = Estimator(**settings).fit(rows), Estimator(**settings).fit(rows, None, weight)
    error = [np.square(one.reconstruct(rows[:1]) - rows[0]).sum() for one in (light, heavy)]
    assert error[1] < error[0]


# Every parameter is alive.


def test_table_of_choices_is_complete():
    assert set(CHOICES) == {name for _, name in PAIRS}


@every_estimator
@pytest.mark.parametrize("method", ["dense", "exact", "sampled"])
def test_sparse_method_is_not_asked_for_dense_rows(Estimator, method):
    plain = Estimator(**QUICK).fit(LOW_RANK)
    assert_same_model(Estimator(**QUICK, sparse_method=method).fit(LOW_RANK), plain)


@every_estimator
def test_likelihood_that_is_chosen_is_that_of_the_values(Estimator):
    chosen = Estimator(**QUICK, likelihood="auto").fit(TABLES["flags"])
    assert_same_model(chosen, Estimator(**QUICK, likelihood="bernoulli").fit(TABLES["flags"]))


@pytest.mark.parametrize(("Estimator", "name"), PAIRS)
def test_every_parameter_makes_a_difference(Estimator, name):
    one, other, beside, answer, table = CHOICES[name]
    settings, rows = {**QUICK, "batch_size": 50, **beside}, TABLES[table]
    found = []
    for value in (one, other):
        estimator = Estimator(**{**settings, name: value})
        with contextlib.redirect_stdout(io.StringIO()) as output:
            estimator.fit(rows)
            if answer == "second fit":
                estimator.fit(rows)
        if answer == "output":
            found.append(output.getvalue())
        else:
            found.append(ANSWERS.get(answer, ANSWERS["scores"])(estimator, rows))
    assert np.array_equal(*found) == (answer == "nothing")


# The direction in which it does, where theory says one.


def kl_of(**parameters):
    settings = {"init": "random", "max_iter": 150, "learning_rate_init": 5e-3, "random_state": 0}
    vae = VAETransformer(n_components=4, **settings)
    vae.set_params(**parameters).fit(LOW_RANK)
    return vae.kl_.sum(), np.square(vae.reconstruct(LOW_RANK) - LOW_RANK).mean()


def test_beta_trades_kl_for_reconstruction():
    (kl, error), (small_kl, large_error) = kl_of(beta=0.2), kl_of(beta=5.0)
    assert small_kl < 0.7 * kl
    assert large_error > 1.1 * error


def test_beta_of_zero_leaves_the_posterior_free():
    assert kl_of(beta=0.0)[0] > 3 * kl_of(beta=1.0)[0]


def test_free_bits_keep_latents_from_collapse():
    noise = np.random.RandomState(0).normal(size=(100, 5))
    settings = {"n_components": 3, "max_iter": 150, "learning_rate_init": 5e-3, "random_state": 0}
    none, some, many = (
        VAETransformer(free_bits=bits, **settings).fit(noise).kl_ for bits in (0.0, 0.5, 1.5)
    )
    assert none.sum() < some.sum() < many.sum()
    assert some.min() > 0.25
    assert many.min() > 0.75


def test_prior_is_where_codes_go_and_samples_come_from():
    settings = {"beta": 5.0, "max_iter": 100, "learning_rate_init": 1e-2, "random_state": 0}
    vae = VAETransformer(n_components=2, prior=ShiftedNormal(), **settings)
    codes = vae.fit_transform(LOW_RANK)
    np.testing.assert_allclose(codes.mean(axis=0), 2.0, atol=0.5)


@pytest.mark.parametrize("noise", NOISES)
def test_more_noise_makes_the_task_harder(noise):
    settings = {**QUICK, "max_iter": 100, "learning_rate_init": 1e-2, "noise": noise}
    none, some, much = (
        DenoisingAETransformer(noise_level=level, **settings)
        .fit(LOW_RANK)
        .history_["reconstruction"][-1]
        for level in (0.0, 0.3, 0.8)
    )
    assert none + 0.3 < some < much - 0.3


def test_no_noise_is_the_plain_autoencoder():
    denoiser = DenoisingAETransformer(noise_level=0.0, **QUICK).fit(LOW_RANK)
    plain = AutoencoderTransformer(**QUICK, init="random").fit(LOW_RANK)
    np.testing.assert_array_equal(weights_of(denoiser), weights_of(plain))


def sparse(**parameters):
    settings = {"n_components": 16, "hidden_layer_sizes": (16,), "max_iter": 100}
    settings |= {"batch_size": 20, "learning_rate_init": 2e-3, "random_state": 0}
    return SparseAutoencoderTransformer(**{**settings, **parameters}).fit(LOW_RANK)


@pytest.mark.parametrize("sparsity", ["l1", "l2"])
def test_heavier_penalty_leaves_fewer_units_active(sparsity):
    none, some, much = (
        sparse(sparsity=sparsity, sparsity_weight=weight).n_active_ for weight in (0.0, 0.5, 5.0)
    )
    assert none > some + 0.5 > much + 1.0


def test_heavier_penalty_on_rates_brings_them_nearer_to_the_target():
    none, some, much = (
        abs(sparse(sparsity="kl", n_active=2, sparsity_weight=weight).n_active_ - 2)
        for weight in (0.0, 1.0, 100.0)
    )
    assert none > some > much
    assert much < 1.0


@pytest.mark.parametrize("sparsity", ["l1", "l2", "kl", "topk"])
def test_n_active_up_more_units_active(sparsity):
    few, many = (sparse(sparsity=sparsity, n_active=n).n_active_ for n in (2, 6))
    assert few + 2 < many


def matrices(estimator):
    layers = linear_layers(estimator.module_)
    return np.concatenate([layer.weight.detach().numpy().ravel() for layer in layers])


@every_estimator
def test_more_decay_leaves_smaller_weights(Estimator):
    settings = {**QUICK, "max_iter": 40, "learning_rate_init": 1e-2}
    free, some, much = (
        np.square(matrices(Estimator(alpha=alpha, **settings).fit(LOW_RANK))).sum()
        for alpha in (0.0, 1.0, 10.0)
    )
    assert much < 0.5 * some < 0.5 * free


def test_share_of_l1_in_the_decay_gives_exact_zeros():
    settings = {**QUICK, "max_iter": 40, "learning_rate_init": 1e-2, "alpha": 2.0}
    no_share, half, all_of_it = (
        (matrices(SparseAutoencoderTransformer(l1_ratio=share, **settings).fit(LOW_RANK)) == 0)
        for share in (0.0, 0.5, 1.0)
    )
    assert no_share.sum() == 0
    assert 0.1 < half.mean() < all_of_it.mean()


# What came of a fit counts rows as often as their weights say.


def test_samples_follow_the_weights_of_rows():
    # Merged into two distinct rows, the ones are still 99 of 100.
    X = np.repeat([[1.0] * 4, [0.0] * 4], [990, 10], axis=0)
    estimator = AutoencoderTransformer(likelihood="bernoulli", **QUICK).fit(X)
    assert (estimator._model.training_codes == estimator._model.training_codes[0]).all(
        axis=1
    ).mean() in (
        pytest.approx(0.99, abs=0.01),
        pytest.approx(0.01, abs=0.01),
    )
