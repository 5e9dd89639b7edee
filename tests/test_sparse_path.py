"""Is a fit on CSR rows, by whichever way, the fit on the same rows made dense?"""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from skorch.callbacks import GradientNormClipping
from torch import nn

from skae import (
    AutoencoderTransformer,
    DenoisingAETransformer,
    SparseAutoencoderTransformer,
    VAETransformer,
)
from skae._kernels.input import InputLayer
from skae._scaling import summarise_columns
from skae._training import plan
from skae._training.plan import Plan, choose_plan
from skae.likelihoods import LIKELIHOODS, Bernoulli, Gaussian
from skae.networks import CustomNetwork
from tests.helpers import (
    QUICK,
    QUIET,
    counts,
    every_estimator,
    weights_of,
)

pytestmark = QUIET

SAMPLED = [name for name, kind in LIKELIHOODS.items() if kind.structure != "squared_error"]
by_sample = pytest.mark.parametrize("likelihood", SAMPLED)

# Ones and zeros lie in the support of every likelihood. Every batch uses most of the columns, so
# that no row of a weight stands still, and one row holds nothing.
FLAGS = (counts(60, 30, rate=0.3) > 0).astype(float)
FLAGS[7] = 0.0
X = sp.csr_array(FLAGS)
BATCHES = {**QUICK, "max_iter": 2, "batch_size": 20}


def settings_of(Estimator, **more):
    """Return quick settings; noise is drawn for each entry, and differs between the ways."""
    quiet = {"noise_level": 0.0} if Estimator is DenoisingAETransformer else {}
    return {**BATCHES, **quiet, **more}


def fit(Estimator, method, rows=X, weight=None, **more):
    estimator = Estimator(sparse_method=method, **settings_of(Estimator, **more))
    return estimator.fit(rows, sample_weight=weight)


def assert_alike(one, other, rows=X, rtol=1e-4):
    """Check that two models agree to what single precision leaves."""
    np.testing.assert_allclose(one.loss_curve_, other.loss_curve_, rtol=rtol)
    for method in ("transform", "score_samples", "reconstruct"):
        found, expected = getattr(one, method)(rows), getattr(other, method)(rows)
        np.testing.assert_allclose(found, expected, rtol=10 * rtol, atol=10 * rtol)


def both_ways(Estimator, rows=X, **more):
    exact, dense = (fit(Estimator, method, rows, **more) for method in ("exact", "dense"))
    assert (exact.sparse_method_, dense.sparse_method_) == ("exact", "dense")
    assert exact.module_.takes_csr
    assert not dense.module_.takes_csr
    return exact, dense


# Dense and exact.


@every_estimator
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_exact_is_dense(Estimator, likelihood):
    assert_alike(*both_ways(Estimator, likelihood=likelihood))


SETTINGS = [
    {"hidden_layer_sizes": ()},
    {"hidden_layer_sizes": (8, 6)},
    {"input_scaling": None},
    {"input_scaling": "standard"},
    {"input_scaling": "max"},
    {"alpha": 1.0},
    {"early_stopping": True, "validation_fraction": 0.3},
    {"optimizer": "sgd", "learning_rate_init": 1e-3},
    {"weight": np.random.RandomState(0).randint(1, 5, size=60)},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize(
    "likelihood", ["gaussian", "negative_binomial", "zero_inflated_lognormal", "multinomial"]
)
def test_exact_is_dense_with_any_setting(likelihood, settings):
    # From random weights: at a start that has found nothing in these flags, a column of which a
    # batch has just the usual share has no gradient but rounding, which Adam makes a step of.
    settings = {"likelihood": likelihood, "init": "random", **settings}
    exact, dense = both_ways(VAETransformer, **settings)
    assert_alike(exact, dense)
    np.testing.assert_allclose(exact.validation_scores_, dense.validation_scores_, rtol=1e-4)


def test_exact_is_dense_for_counts_that_the_encoder_sees_by_their_logarithm():
    rows = sp.csr_array(counts(60, 30, rate=1.0))
    for input_scaling in ("log1p", "auto", None):
        more = {"likelihood": "negative_binomial", "input_scaling": input_scaling}
        assert_alike(*both_ways(AutoencoderTransformer, rows, **more), rows)


def test_dense_rows_and_csr_rows_serve_one_model():
    exact = fit(AutoencoderTransformer, "exact")
    for method in ("transform", "score_samples", "reconstruct"):
        found, expected = getattr(exact, method)(FLAGS), getattr(exact, method)(X)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("later", [X, FLAGS], ids=["csr", "dense"])
def test_training_goes_on_with_rows_of_either_kind(later):
    estimators = []
    for method in ("exact", "dense"):
        estimator = AutoencoderTransformer(sparse_method=method, warm_start=True, **BATCHES)
        estimators.append(estimator.partial_fit(X).partial_fit(later).fit(later))
    assert estimators[0].n_iter_ == 4
    assert_alike(*estimators)


def test_training_that_began_with_dense_rows_goes_on_with_csr():
    estimators = [AutoencoderTransformer(sparse_method="exact", **BATCHES) for _ in range(2)]
    for estimator, later in zip(estimators, (X, FLAGS), strict=True):
        estimator.partial_fit(FLAGS).partial_fit(later)
        assert estimator.sparse_method_ == "dense"
    assert_alike(*estimators)


@pytest.mark.parametrize("method", ["exact", "sampled"])
def test_pickle_answers_and_goes_on_as_if_nothing_had_happened(method):
    estimator = fit(AutoencoderTransformer, method, likelihood="bernoulli")
    loaded = pickle.loads(pickle.dumps(estimator))
    for one in (estimator, loaded):
        one.partial_fit(X)
    np.testing.assert_array_equal(weights_of(loaded), weights_of(estimator))
    np.testing.assert_array_equal(loaded.score_samples(X), estimator.score_samples(X))


def test_share_of_l1_in_the_decay_reaches_the_first_layer():
    more = {"alpha": 3.0, "l1_ratio": 1.0, "max_iter": 20, "learning_rate_init": 1e-2}
    exact = fit(SparseAutoencoderTransformer, "exact", **more)
    assert isinstance(exact.module_.encoder[0], InputLayer)
    assert (exact.module_.encoder[0].weight == 0).any()


def test_noise_is_put_on_csr_rows():
    more = {"likelihood": "bernoulli", "max_iter": 60, "learning_rate_init": 1e-2}
    none, much = (
        fit(DenoisingAETransformer, "exact", noise_level=level, **more).loss_curve_[-1]
        for level in (0.0, 0.9)
    )
    assert much > none + 0.3


# Sampled.


@pytest.fixture
def few_columns(monkeypatch):
    """Let 40 columns of the head and 40 of the tail stand for all."""
    monkeypatch.setattr(plan, "_SAMPLED", (40, 40))


WIDE = sp.csr_array((counts(80, 200, rate=0.05) > 0).astype(float))
WIDER = sp.csr_array((counts(60, 600, rate=0.05) > 0).astype(float))


@every_estimator
@by_sample
def test_more_columns_drawn_than_there_are_is_exact(Estimator, likelihood):
    sampled, exact = (
        fit(Estimator, method, likelihood=likelihood) for method in ("sampled", "exact")
    )
    assert sampled.sparse_method_ == "sampled"
    assert_alike(sampled, exact)


@by_sample
def test_sampled_is_another_model_and_nearly_as_good(likelihood, few_columns):
    settings = {"likelihood": likelihood, "learning_rate_init": 3e-3}
    start = fit(AutoencoderTransformer, "exact", WIDE, **{**settings, "learning_rate_init": 1e-9})
    exact, sampled, again = (
        fit(AutoencoderTransformer, method, WIDE, max_iter=40, **settings)
        for method in ("exact", "sampled", "sampled")
    )
    np.testing.assert_array_equal(weights_of(sampled), weights_of(again))
    assert not np.allclose(weights_of(sampled), weights_of(exact))
    gain = exact.score(WIDE) - start.score(WIDE)
    assert sampled.score(WIDE) - start.score(WIDE) > 0.5 * gain > 0


def test_columns_are_drawn_from_the_seed(few_columns):
    one, other = (
        fit(AutoencoderTransformer, "sampled", WIDE, likelihood="bernoulli", random_state=seed)
        for seed in (0, 1)
    )
    assert not np.array_equal(weights_of(one), weights_of(other))


@pytest.mark.parametrize("early_stopping", [False, True])
def test_rows_held_out_are_judged_by_all_columns(few_columns, early_stopping):
    more = {"likelihood": "bernoulli", "early_stopping": early_stopping, "max_iter": 1}
    sampled = fit(AutoencoderTransformer, "sampled", WIDE, learning_rate_init=1e-9, **more)
    exact = fit(AutoencoderTransformer, "exact", WIDE, learning_rate_init=1e-9, **more)
    assert sampled.loss_curve_ != exact.loss_curve_
    np.testing.assert_allclose(sampled.validation_scores_, exact.validation_scores_, rtol=1e-5)
    np.testing.assert_allclose(sampled.score_samples(WIDE), exact.score_samples(WIDE), rtol=1e-4)


@pytest.mark.parametrize("optimizer", ["adam", "sgd", torch.optim.RMSprop])
def test_optimisers_get_gradients_that_they_take(optimizer, few_columns):
    settings = {"likelihood": "bernoulli", "optimizer": optimizer, "learning_rate_init": 1e-3}
    estimator = fit(AutoencoderTransformer, "sampled", WIDE, **settings)
    assert np.isfinite(weights_of(estimator)).all()
    assert estimator.module_.row_gradients == (optimizer == "adam")


def test_gradients_of_some_rows_can_be_clipped(few_columns):
    clip = GradientNormClipping(gradient_clip_value=1e-3)
    more = {"likelihood": "bernoulli", "callbacks": [clip], "batch_size": 5}
    assert np.isfinite(fit(AutoencoderTransformer, "sampled", WIDE, **more).loss_curve_).all()


@every_estimator
def test_sampled_is_refused_for_squared_errors(Estimator):
    with pytest.raises(ValueError, match=r"not for squared errors.*Choose sparse_method='exact'"):
        fit(Estimator, "sampled", likelihood="gaussian")


# The rule behind "auto".


def table(n_features, share=0.01, n_rows=100):
    n_stored = round(share * n_rows * n_features)
    cells = np.arange(n_stored) * (n_rows * n_features // n_stored)
    places = (cells // n_features, cells % n_features)
    return sp.csr_array((np.ones(n_stored), places), shape=(n_rows, n_features))


def plan_of(method, rows, likelihood, device="cpu"):
    columns = summarise_columns(rows, np.arange(rows.shape[0]), None)
    return choose_plan(method, rows, likelihood, columns, device)


@pytest.mark.parametrize(
    ("n_features", "share", "likelihood", "expected"),
    [
        (499, 0.01, Bernoulli(), "dense"),
        (500, 0.01, Bernoulli(), "exact"),
        (500, 0.5, Bernoulli(), "exact"),
        (500, 0.52, Bernoulli(), "dense"),
        (5000, 0.01, Bernoulli(), "exact"),
        (5001, 0.01, Bernoulli(), "sampled"),
        (499, 0.01, Gaussian(), "dense"),
        (5001, 0.01, Gaussian(), "exact"),
        (200_000, 0.001, Gaussian(), "exact"),
    ],
)
def test_way_is_chosen_by_columns_density_and_likelihood(n_features, share, likelihood, expected):
    rows = table(n_features, share)
    assert plan_of("auto", rows, likelihood).method == expected
    assert plan_of("auto", rows.toarray()[:2], likelihood) == Plan("dense")
    assert plan_of("auto", rows, likelihood, device="mps") == Plan("dense")
    with pytest.raises(ValueError, match=r"='exact'.* device 'mps'\. Choose .*'auto'"):
        plan_of("exact", rows, likelihood, device="mps")
    assert plan_of("exact", rows.toarray()[:2], likelihood, device="mps") == Plan("dense")


@pytest.mark.parametrize("method", ["dense", "exact"])
def test_way_that_is_asked_for_is_taken(method):
    for n_features in (10, 6000):
        assert plan_of(method, table(n_features, 0.1), Bernoulli()) == Plan(method)
    assert Plan(method).csr == (method != "dense")


@pytest.mark.parametrize("n_features", [5001, 500_000])
def test_as_many_columns_are_drawn_however_many_there_are(n_features):
    rows = table(n_features, 1e-4)
    assert plan_of("auto", rows, Bernoulli()) == Plan("sampled", (1024, 1024))


@pytest.mark.parametrize(("n_features", "expected"), [(40, "dense"), (600, "exact")])
def test_estimators_follow_the_rule_and_say_so(n_features, expected):
    estimator = AutoencoderTransformer(**BATCHES).fit(table(n_features, 0.05))
    assert estimator.sparse_method == "auto"
    assert estimator.sparse_method_ == expected
    assert AutoencoderTransformer(**BATCHES).fit(FLAGS).sparse_method_ == "dense"


# Networks of the user.


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class Reversed(nn.Sequential):
    def forward(self, x):
        return -super().forward(x)


def hidden(n_inputs, n_outputs, first=nn.Linear, last=nn.Linear, **of_last):
    return nn.Sequential(first(n_inputs, 8), nn.ReLU(), last(8, n_outputs, **of_last))


NETWORKS = {
    "layers": (hidden, hidden, True),
    "one layer": (lambda n, k: nn.Sequential(nn.Linear(n, k)), hidden, True),
    "first without bias": (
        lambda n, k: nn.Sequential(nn.Linear(n, 8, bias=False), nn.Tanh(), nn.Linear(8, k)),
        hidden,
        True,
    ),
    "layer alone": (nn.Linear, hidden, False),
    "decoder alone": (hidden, nn.Linear, False),
    "another begin": (lambda n, k: nn.Sequential(nn.Identity(), nn.Linear(n, k)), hidden, False),
    "another end": (hidden, lambda k, n: nn.Sequential(nn.Linear(k, n), nn.Identity()), False),
    "last without bias": (hidden, lambda k, n: hidden(k, n, bias=False), False),
    "own first layer": (lambda n, k: hidden(n, k, first=Doubled), hidden, False),
    "own last layer": (hidden, lambda k, n: hidden(k, n, last=Doubled), False),
    "own encoder": (lambda n, k: Reversed(*hidden(n, k)), hidden, False),
    "own decoder": (hidden, lambda k, n: Reversed(*hidden(k, n)), False),
    "weight norm": (
        lambda n, k: hidden(
            n, k, first=lambda *s: nn.utils.parametrizations.weight_norm(nn.Linear(*s))
        ),
        hidden,
        False,
    ),
}


@pytest.mark.parametrize(("encoder", "decoder", "takes_csr"), NETWORKS.values(), ids=NETWORKS)
def test_network_takes_csr_rows_if_it_begins_and_ends_with_a_linear_layer(
    encoder, decoder, takes_csr
):
    more = {"network": CustomNetwork(encoder, decoder), "hidden_layer_sizes": (128,)}
    dense = fit(AutoencoderTransformer, "dense", **more)
    assert not dense.module_.takes_csr
    if takes_csr:
        exact = fit(AutoencoderTransformer, "exact", **more)
        assert exact.module_.takes_csr
        assert exact.sparse_method_ == "exact"
        assert_alike(exact, dense)
        return
    for method in ("exact", "sampled"):
        with pytest.raises(ValueError, match=rf"='{method}'.* CustomNetwork .*Choose .*'auto'"):
            fit(AutoencoderTransformer, method, likelihood="bernoulli", **more)
    assert fit(AutoencoderTransformer, "auto", WIDER, **more).sparse_method_ == "dense"
