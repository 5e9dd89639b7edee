"""How a training leaves its start, how long it is, and on which axes its codes come out."""

import io
from contextlib import redirect_stdout
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from skorch.callbacks import Callback
from torch import nn

from skae import (
    AutoencoderTransformer,
    DenoisingAETransformer,
    SparseAutoencoderTransformer,
    VAETransformer,
)
from skae._training import trainer
from skae._training.bottlenecks.plain import PlainBottleneck
from skae._training.callbacks import Averaging
from skae._training.rules import Repeat, Trial
from skae.exceptions import NonFiniteLossError
from skae.inits import Init
from skae.likelihoods import Gaussian
from skae.networks import MLP, Affine, Layout
from skae.schedules import Constant, Cosine, LinearWarmup
from tests.choices import ShiftedNormal
from tests.helpers import QUIET, low_rank, weights_of

pytestmark = QUIET

X = low_rank(150, 8, 3)
STILL = {"learning_rate_init": 1e-30, "max_iter": 1, "random_state": 0, "early_stopping": False}


def curved(n_rows=400, seed=0):
    """Return rows about a curve, of which a linear model leaves much unexplained."""
    rng = np.random.default_rng(seed)
    t = rng.uniform(-2, 2, size=(n_rows, 1))
    return np.hstack([t, t**2, np.sin(2 * t), t**3]) + 0.1 * rng.normal(size=(n_rows, 4))


# The linear path ----------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [(), (7,), (7, 5)])
def test_networks_contain_a_linear_model(hidden):
    layout = Layout(6, 3, hidden, "silu", linear_path=True)
    network = MLP()
    encoder, decoder, _ = network.make(layout, 3, 6, seed=0)
    rng = torch.Generator().manual_seed(0)
    first = Affine(torch.randn(3, 6, generator=rng), torch.randn(3, generator=rng))
    last = Affine(torch.randn(6, 3, generator=rng), torch.randn(6, generator=rng))
    network.start_linear(encoder, decoder, first, last)
    x, z = torch.randn(9, 6, generator=rng), torch.randn(9, 3, generator=rng)
    torch.testing.assert_close(encoder(x), x @ first.weight.T + first.bias)
    torch.testing.assert_close(decoder(z), z @ last.weight.T + last.bias)


def test_all_weights_are_trained():
    # What stands beside the linear path is zero through its last layer alone.
    settings = {"hidden_layer_sizes": (7, 5), "random_state": 0, "early_stopping": False}
    still = AutoencoderTransformer(2, **{**settings, **STILL}).fit(curved())
    moved = AutoencoderTransformer(2, max_iter=2, batch_size=50, **settings).fit(curved())
    pairs = zip(still.module_.named_parameters(), moved.module_.parameters(), strict=True)
    for (name, before), after in pairs:
        changed = (before != after).any(dim=-1)
        if (
            name == "encoder.0.weight"
        ):  # the linear path is filled up with rows that nobody looks at
            changed = torch.cat([changed[:2], changed[-7:]])
        assert changed.all(), name


def test_the_correction_learns_what_is_not_linear():
    linear = AutoencoderTransformer(1, hidden_layer_sizes=(), random_state=0).fit(curved())
    curve = AutoencoderTransformer(1, random_state=0).fit(curved())
    new = curved(seed=1)
    errors = [np.square(each.reconstruct(new) - new).mean() for each in (curve, linear)]
    assert errors[0] < 0.5 * errors[1]


# How long a training is ---------------------------------------------------------------------------


def observed(rule, values):
    """Return how many values a rule wants to see."""
    for n, value in enumerate(values, start=1):
        rule.observe(value)
        if rule.is_over:
            return n
    return len(values)


def test_a_trial_counts_the_epochs_before_the_best():
    rule = Trial(Constant(), 100, patience=3)
    assert observed(rule, [5.0, 4.0, 3.0, 3.5, 3.0, 4.0, 1.0]) == 6
    assert rule.best_epoch == 2
    start = Trial(Constant(), 100, patience=3)
    assert observed(start, [1.0, 2.0, np.nan, 2.0, 0.0]) == 4
    assert start.best_epoch == 0


@given(
    st.lists(st.floats(-1e6, 1e6) | st.just(np.nan) | st.just(np.inf), min_size=1, max_size=30),
    st.integers(1, 10),
)
def test_a_trial_finds_the_first_of_the_lowest_that_it_sees(values, patience):
    rule = Trial(Constant(), len(values), patience)
    seen = [value if np.isfinite(value) else np.inf for value in values[: observed(rule, values)]]
    assert rule.best_epoch == int(np.argmin(seen))


@given(st.integers(0, 30), st.floats(0, 31))
def test_a_repeat_goes_as_fast_as_the_trial(best_epoch, epoch):
    trial, repeat = Trial(Cosine(), 30, 5), Repeat(Cosine(), 30, best_epoch)
    assert repeat.factor(epoch) == trial.factor(epoch)
    assert repeat.horizon == trial.horizon == 31
    assert trial.factor(0.99) == 0.0  # the still epoch
    assert Trial(Constant(), 30, 5).factor(1.0) == 1.0
    assert observed(repeat, np.zeros(99)) == best_epoch + 1 == repeat.n_epochs


@pytest.mark.parametrize(("values", "ended"), [([3.0, 2.0, 2.5, 2.5], True), ([3.0, 2.0], False)])
def test_a_repeat_came_to_an_end_where_the_trial_did(values, ended):
    trial = Trial(Constant(), len(values) - 1, patience=2)
    observed(trial, values)
    repeat = trial.repeat()
    observed(repeat, np.zeros(99))
    assert repeat.came_to_an_end == ended


class Nowhere(Init):
    """A start that finds nothing in any rows."""

    def fit(self, rows, n_components, code, seed):
        """Return None."""
        return None


def test_a_start_that_finds_nothing_is_a_random_one():
    found, random = (
        VAETransformer(2, init=init, max_iter="auto", tol=0.3, random_state=0).fit(X)
        for init in (Nowhere(), "random")
    )
    np.testing.assert_array_equal(weights_of(found), weights_of(random))
    # The KL term comes in, for nothing is known that a training without it would leave.
    history = {name: values[0] for name, values in found.history_.items()}
    assert history["loss"] == pytest.approx(history["reconstruction"], rel=1e-6)
    assert history["kl"] > 1e-3 * history["loss"]
    n_epochs = found.n_iter_
    assert found.partial_fit(X).n_iter_ == n_epochs + 1


def test_where_no_epoch_helps_the_start_is_kept():
    vae = VAETransformer(2, learning_rate_init=0.3, random_state=0).fit(X)
    assert vae.n_iter_ == 1
    still = VAETransformer(2, **STILL).fit(X)
    np.testing.assert_allclose(weights_of(vae), weights_of(still), atol=1e-20)


def test_where_epochs_help_they_are_made():
    vae = VAETransformer(2, random_state=0).fit(curved())
    assert vae.n_iter_ > 1
    new = curved(seed=1)
    assert vae.score(new) > VAETransformer(2, **STILL).fit(curved()).score(new) + 0.5
    again = VAETransformer(2, random_state=0).fit(curved())
    np.testing.assert_array_equal(weights_of(again), weights_of(vae))


def test_a_length_that_is_found_does_not_hang_on_rounding():
    """At principal components the gradient of the encoder is rounding: no step is made of it."""
    rows = curved()
    one = AutoencoderTransformer(2, random_state=0).fit(rows)
    other = AutoencoderTransformer(2, random_state=0).fit(rows.astype(np.float32))
    assert one.n_iter_ == other.n_iter_ > 5
    np.testing.assert_allclose(one.transform(rows), other.transform(rows), atol=1e-3)


def test_the_length_does_not_depend_on_copies_of_rows():
    weight = np.random.default_rng(0).integers(1, 3, len(X))
    weighted = VAETransformer(2, random_state=0).fit(X, sample_weight=weight)
    repeated = VAETransformer(2, random_state=0).fit(np.repeat(X, weight, axis=0))
    np.testing.assert_array_equal(weights_of(weighted), weights_of(repeated))


@pytest.mark.parametrize(
    ("settings", "n_rows"),
    [
        ({"early_stopping": False}, 100),
        ({"init": "random"}, 100),
        ({"optimizer": "sgd"}, 100),
        ({"init": "factor_analysis", "optimizer": "sgd"}, 100),
        ({"max_iter": 2}, 100),
        ({"likelihood": "bernoulli"}, 100),
        ({}, 39),
    ],
)
def test_elsewhere_auto_holds_no_rows_out(settings, n_rows, monkeypatch):
    monkeypatch.setattr(trainer, "find_length", lambda *_: pytest.fail("rows were held out"))
    flags = (X[:n_rows] > 0).astype(float)
    rows = flags if "likelihood" in settings else X[:n_rows]
    for Estimator in (VAETransformer, AutoencoderTransformer):
        Estimator(2, **{"tol": 0.1, "random_state": 0, **settings}).fit(rows)
    AutoencoderTransformer(2, noise="masking", init="pca", tol=0.1, random_state=0).fit(X[:100])
    VAETransformer(2, random_state=0).partial_fit(X)


def test_tables_of_equal_held_out_rows_are_no_exception():
    few = np.vstack([np.repeat(X[:45], 3, axis=0), np.repeat(X[:1], 100, axis=0)])
    assert np.isfinite(VAETransformer(2, random_state=0).fit(few).score(few))


class Counting(Callback):
    """Counts trainings and epochs."""

    def __init__(self):
        self.trainings = self.epochs = 0

    def on_train_begin(self, net, **kwargs):
        self.trainings += 1

    def on_epoch_end(self, net, **kwargs):
        self.epochs += 1


def test_callbacks_see_the_training_on_all_rows_alone():
    counting = Counting()
    vae = VAETransformer(2, random_state=0, callbacks=[counting]).fit(X)
    assert (counting.trainings, counting.epochs) == (1, vae.n_iter_)
    assert vae.n_iter_ == len(vae.loss_curve_)
    assert vae.validation_scores_ == []


def test_what_is_printed_is_of_the_training_on_all_rows_alone():
    said = io.StringIO()
    with redirect_stdout(said):
        vae = VAETransformer(2, random_state=0, verbose=2).fit(X)
    lines = [line for line in said.getvalue().splitlines() if line.strip()[:1].isdigit()]
    assert len(lines) == vae.n_iter_


SEEN: list[float] = []


class Noting(LinearWarmup):
    """Notes how far the training is."""

    def factor(self, progress):
        SEEN.append(progress)
        return super().factor(progress)


def test_schedules_go_as_in_the_search_for_the_length():
    SEEN.clear()
    vae = VAETransformer(2, random_state=0, kl_warmup=Noting(0.3)).fit(curved())
    assert vae.n_iter_ > 1
    assert SEEN[-vae.n_iter_ :] == SEEN[: vae.n_iter_]


def test_a_loss_that_is_not_finite_leaves_the_start():
    vae = VAETransformer(2, learning_rate_init=1e18, random_state=0)
    with pytest.raises(NonFiniteLossError, match=r"rows held out.*weights of the start are kept"):
        vae.fit(X)
    still = VAETransformer(2, **STILL).fit(X)
    np.testing.assert_array_equal(vae.score_samples(X), still.score_samples(X))
    assert vae.history_ == {}


def test_an_interrupt_of_the_search_leaves_no_half_a_fit(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    vae = VAETransformer(2, random_state=0)
    monkeypatch.setattr(Trial, "factor", interrupt)
    with pytest.raises(KeyboardInterrupt):
        vae.fit(X)
    assert not hasattr(vae, "net_")
    monkeypatch.undo()
    vae.fit(X)
    before = weights_of(vae)
    monkeypatch.setattr(Trial, "factor", interrupt)
    with pytest.raises(KeyboardInterrupt):
        vae.fit(X)
    np.testing.assert_array_equal(weights_of(vae), before)


# Averages -----------------------------------------------------------------------------------------


def a_net(values):
    module = nn.Linear(1, 1, bias=False)
    module.weight.data.fill_(values)
    return SimpleNamespace(module_=module, history=[])


@torch.no_grad()
def trained(callback, net, values):
    """Make an epoch of steps to these values."""
    for value in values:
        callback.on_batch_begin(net, training=True)
        net.module_.weight.fill_(value)
        callback.on_batch_end(net, training=True)


@pytest.mark.parametrize("n_steps", [5, 200])
def test_average_is_over_the_last_steps(n_steps):
    net, averaging = a_net(0.0), Averaging(decay=0.9)
    averaging.on_train_begin(net)
    values = np.random.default_rng(0).normal(size=n_steps)
    expected = 0.0
    for t, value in enumerate(values, start=1):
        share = max(0.1, 9 / (10 + t))
        expected += share * (value - expected)
    trained(averaging, net, values)
    averaging.on_batch_begin(net, training=False)
    assert net.module_.weight.item() == pytest.approx(expected, rel=1e-4)  # for rows held out
    net.history.append({})
    averaging.on_epoch_end(net)
    assert net.module_.weight.item() == pytest.approx(values[-1])  # goes on from here
    averaging.on_train_end(net)
    assert net.module_.weight.item() == pytest.approx(expected, rel=1e-4)


def test_average_keeps_exact_zeros():
    net, averaging = a_net(1.0), Averaging()
    averaging.on_train_begin(net)
    trained(averaging, net, [1.0, 0.5, 0.0])
    averaging.on_epoch_end(net)
    averaging.on_train_end(net)
    assert net.module_.weight.item() == 0.0


def test_average_of_an_epoch_that_went_wrong_is_not_kept():
    net, averaging = a_net(1.0), Averaging()
    averaging.on_train_begin(net)
    trained(averaging, net, [2.0])
    net.history.append({})
    averaging.on_epoch_end(net)
    trained(averaging, net, [np.nan])
    net.history.append({})
    averaging.on_epoch_end(net)
    with torch.no_grad():
        net.module_.weight.fill_(2.0)  # what the guard puts back
    del net.history[-1]
    averaging.on_train_end(net)
    assert net.module_.weight.item() == 2.0


def test_l1_draws_weights_to_exact_zeros_with_averages_too():
    vae = VAETransformer(2, alpha=0.3, l1_ratio=1.0, learning_rate_init=1e-2, random_state=0)
    vae.fit(curved())
    assert vae.n_iter_ > 1
    weights = torch.cat([one.flatten() for one in vae.module_.weights_to_decay()])
    assert (weights == 0).float().mean() > 0.3


# Axes of the codes --------------------------------------------------------------------------------

TURNED = [AutoencoderTransformer, DenoisingAETransformer]


@pytest.mark.parametrize("Estimator", TURNED)
@pytest.mark.parametrize("init", ["auto", "random"])
@pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array])
def test_codes_lie_on_their_principal_axes(Estimator, init, as_format):
    estimator = Estimator(3, init=init, max_iter=10, random_state=0).fit(as_format(X))
    codes = estimator.transform(as_format(X)).astype(float)
    np.testing.assert_allclose(codes.mean(axis=0), 0.0, atol=1e-4)
    covariance = np.cov(codes.T)
    variances = np.diag(covariance)
    np.testing.assert_allclose(covariance, np.diag(variances), atol=1e-4 * variances[0])
    assert (np.diff(variances) < 0).all()


@pytest.mark.parametrize("Estimator", [*TURNED, VAETransformer])
@pytest.mark.parametrize("init", ["auto", "random"])
def test_the_column_that_a_code_goes_with_most_goes_up(Estimator, init):
    mirrored = X * np.where(np.arange(8) % 2, -1.0, 1.0)
    for rows in (X, -X, mirrored):
        estimator = Estimator(3, init=init, max_iter=5, random_state=0).fit(rows)
        codes = estimator.transform(rows)
        scale = estimator._model.scaling.scale
        loadings = (codes - codes.mean(axis=0)).T @ (rows / scale)
        assert (loadings.max(axis=1) >= -loadings.min(axis=1)).all()


@pytest.mark.parametrize("Estimator", [*TURNED, VAETransformer, SparseAutoencoderTransformer])
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_the_way_back_undoes_the_turn(Estimator, likelihood):
    rows = X if likelihood == "gaussian" else (X > 0).astype(float)
    settings = {"max_iter": 5, "random_state": 0, "likelihood": likelihood}
    estimator = Estimator(3, **settings).fit(rows)
    there_and_back = estimator.inverse_transform(estimator.transform(rows))
    np.testing.assert_allclose(there_and_back, estimator.reconstruct(rows), rtol=1e-4, atol=1e-4)
    raw = estimator.module_.decoder(
        estimator.module_.bottleneck.inner(
            torch.tensor(estimator.transform(rows), dtype=torch.float32)
        )
    )
    assert torch.isfinite(raw).all()


@pytest.mark.parametrize("n_importance_samples", [1, 5])
def test_latents_come_in_the_order_of_their_use(n_importance_samples):
    settings = {"max_iter": 10, "random_state": 0, "n_importance_samples": n_importance_samples}
    for init in ("auto", "random"):
        vae = VAETransformer(5, init=init, **settings).fit(X)
        assert (np.diff(vae.kl_) <= 0).all()
        # What is left out last says most.
        codes = vae.transform(X)
        lost = [np.square(vae.inverse_transform(codes * keep) - X).sum() for keep in 1 - np.eye(5)]
        assert np.argmax(lost) in (0, 1)


def test_latents_of_another_prior_stay_where_it_says():
    class Together(ShiftedNormal):
        factorises = False

        def divergence(self, mean, log_std, code):
            return super().divergence(mean, log_std, code).sum(dim=1)

    for prior in (ShiftedNormal(), Together()):
        vae = VAETransformer(3, prior=prior, max_iter=10, random_state=0).fit(X)
        bottleneck = vae.module_.bottleneck
        codes = bottleneck.sample(2_000, torch.Generator().manual_seed(0))
        for one in (codes, bottleneck.inner(codes)):  # a sign would put them elsewhere
            assert one.mean(dim=0).numpy() == pytest.approx(2.0, abs=0.1)


def test_sparse_codes_stay_as_they_are():
    sparse = SparseAutoencoderTransformer(3, max_iter=3, random_state=0).fit(X)
    assert sparse.module_.bottleneck.turn is None
    assert (sparse.transform(X) >= 0).all()


@pytest.mark.parametrize("Estimator", [*TURNED, VAETransformer])
def test_codes_that_are_trained_on_keep_their_axes(Estimator):
    estimator = Estimator(3, max_iter=3, random_state=0, warm_start=True).fit(X)
    bottleneck = estimator.module_.bottleneck
    turn, centre, codes = bottleneck.turn.clone(), bottleneck.centre.clone(), estimator.transform(X)
    estimator.partial_fit(-3.0 * X[:50])
    estimator.fit(-3.0 * X[50:])
    assert torch.equal(bottleneck.turn, turn)
    assert torch.equal(bottleneck.centre, centre)
    estimator = Estimator(3, random_state=0).partial_fit(X)
    before = estimator.transform(X)
    after = estimator.set_params(learning_rate_init=1e-30).partial_fit(X).transform(X)
    np.testing.assert_allclose(after, before, atol=1e-6)
    assert codes.shape == after.shape


def test_a_turn_lies_where_the_codes_do():
    bottleneck = PlainBottleneck(2)
    bottleneck.turn_to(np.eye(2), np.zeros(2), torch.device("meta"))
    assert bottleneck.turn.device.type == bottleneck.centre.device.type == "meta"


# What reviews found ------------------------------------------------------------------------------


def test_texts_have_one_code_in_either_format_where_a_column_is_in_most_rows():
    rng = np.random.default_rng(0)
    rows = rng.poisson(0.05, size=(300, 120)).astype(float)
    rows[:, 0] = 1 + np.arange(300) % 3  # so that a third of it is its mean
    settings = {"init": "cooccurrence", "sparse_method": "exact", "max_iter": 3, "random_state": 0}
    fitted = AutoencoderTransformer(4, **settings).fit(sp.csr_array(rows))
    dense, sparse = fitted.transform(rows), fitted.transform(sp.csr_array(rows))
    np.testing.assert_allclose(dense, sparse, atol=1e-4)


def test_a_training_that_begins_in_parts_does_not_start_at_the_words_of_the_first():
    rng = np.random.default_rng(0)
    first, later = np.zeros((2, 200, 400))
    first[:, :200] = rng.poisson(0.05, size=(200, 200))
    later[:, 200:] = rng.poisson(0.05, size=(200, 200))
    autoencoder = AutoencoderTransformer(4, random_state=0).partial_fit(sp.csr_array(first))
    for _ in range(3):
        autoencoder.partial_fit(sp.csr_array(later))
    assert autoencoder.transform(sp.csr_array(later)).std(axis=0).max() > 1e-3


@pytest.mark.parametrize("yes", [True, np.True_])
def test_rows_held_out_are_not_known_beforehand(yes):
    rows = np.random.default_rng(0).normal(size=(200, 6))
    plain = {"max_iter": 1, "random_state": 0, "input_scaling": "standard"}
    fitted = VAETransformer(2, early_stopping=yes, validation_fraction=0.5, **plain).fit(rows)
    whole = VAETransformer(2, early_stopping=False, **plain).fit(rows)
    assert len(fitted.validation_scores_) == 1
    scales = [one._model.scaling.scale for one in (fitted, whole)]
    assert np.abs(scales[0] / scales[1] - 1).max() > 1e-3


def test_one_variance_for_all_columns_starts_at_probabilistic_pca():
    rows = np.random.default_rng(0).normal(size=(100, 6))
    likelihood = Gaussian(variance="shared")
    settings = {"likelihood": likelihood, "input_scaling": None, "max_iter": 1}
    settings |= {"learning_rate_init": 1e-12, "random_state": 0}
    vae = VAETransformer(2, **settings).fit(rows)
    assert vae.score(rows) == pytest.approx(PCA(2).fit(rows).score(rows), abs=1e-3)
