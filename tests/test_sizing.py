"""Does "auto" find how many latents there are, and is what it fits a model like any other?"""

import pickle
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from torch import nn

from skae import SparseAutoencoderTransformer, VAETransformer
from skae._state import State
from skae._training import fit
from skae._training.bottlenecks.sizing import SizingBottleneck
from skae._training.size_curve import SizeCurve, size_curve, sizes_in_doubt
from skae.exceptions import NonFiniteLossError, UnclearSizeWarning
from skae.networks import CustomNetwork
from tests.helpers import (
    LIKELIHOOD_VARIANTS,
    QUIET,
    every_estimator,
    generator,
    global_generators_untouched,
)

pytestmark = QUIET

FAST = {"n_components": "auto", "hidden_layer_sizes": (16,), "max_iter": 2, "random_state": 0}


def linear(n_rows=300, n_columns=12, k=3, noise=0.2, seed=0):
    """Return rows of k latents that count alike, and noise."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(n_columns, k)))[0]
    signal = rng.normal(size=(n_rows, k)) @ axes.T * np.sqrt(n_columns / k)
    return signal + noise * rng.normal(size=signal.shape)


def flags(n_rows=600, n_columns=40, seed=0):
    """Return flags of two latents, most of them zero."""
    rng = np.random.default_rng(seed)
    odds = 3.0 * rng.normal(size=(n_rows, 2)) @ rng.normal(size=(2, n_columns)) - 2.0
    return (rng.random(odds.shape) < 1.0 / (1.0 + np.exp(-odds))).astype(float)


X = linear()


@every_estimator
def test_the_size_of_a_linear_table_is_found(Estimator):
    fitted = Estimator(**FAST).fit(X)
    units = 4 if Estimator is SparseAutoencoderTransformer else 1
    assert fitted.n_components_ == 3 * units
    assert fitted.transform(X).shape == (300, 3 * units)
    assert len(fitted.get_feature_names_out()) == 3 * units


@pytest.mark.parametrize("k", [1, 6])
def test_other_sizes_are_found(k):
    wide = {**FAST, "hidden_layer_sizes": (64,)}
    assert VAETransformer(**wide).fit(linear(k=k, seed=k)).n_components_ == k


@pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array], ids=["dense", "csr"])
def test_the_size_of_flags_is_found(as_format):
    fitted = VAETransformer(**FAST, likelihood="bernoulli").fit(as_format(flags()))
    assert fitted.n_components_ == 2


def test_the_size_of_counts_is_found():
    rng = np.random.default_rng(0)
    topics = rng.dirichlet(np.full(30, 0.2), size=3)
    shares = rng.dirichlet(np.full(3, 0.5), size=500) @ topics
    counts = rng.multinomial(200, shares).astype(float)
    assert VAETransformer(**FAST, likelihood="multinomial").fit(counts).n_components_ == 2


def rows_of(likelihood, n_rows=800, n_columns=24):
    """Return rows of a likelihood whose raw outputs are those of two latents."""
    mean = torch.full((n_columns,), 0.4)
    state = {"total": torch.full((n_rows, 1), 100.0)} if likelihood.conditional_on_total else {}
    state |= State(likelihood, mean=mean, variance=mean).tensors()
    start, drawn = likelihood.first_raw(mean, mean), generator()
    latents, axes = (torch.randn(s, generator=drawn) for s in ((n_rows, 2), (2, len(start))))
    with torch.no_grad():
        return likelihood.sample(start + 1.2 * latents @ axes, drawn, **state).double().numpy()


@pytest.mark.parametrize("likelihood", LIKELIHOOD_VARIANTS, ids=str)
def test_sizing_laws_the_latents_of_every_likelihood_are_found(likelihood):
    settings = {**FAST, "hidden_layer_sizes": (32,), "likelihood": likelihood}
    if likelihood.location_scale:  # noise is alike in columns as they are
        settings["input_scaling"] = None
    rows = sp.csr_array(rows_of(likelihood))
    assert VAETransformer(**settings, sparse_method="exact").fit(rows).n_components_ == 2


def test_columns_that_are_hardly_used_do_not_raise_the_price():
    """Of a column without a single draw by chance, one entry would be worth all others."""
    rng = np.random.default_rng(0)
    topics = rng.dirichlet(np.full(300, 0.1), size=4)
    shares = rng.dirichlet(np.full(4, 0.3), size=600) @ topics
    texts = sp.csr_array(rng.multinomial(30, shares).astype(float))
    settings = {**FAST, "hidden_layer_sizes": (32,), "likelihood": "multinomial"}
    assert VAETransformer(**settings).fit(texts).n_components_ == 3


@pytest.mark.parametrize("likelihood", ["negative_binomial", "zero_inflated_lognormal"])
def test_rows_beyond_all_measure_leave_an_error_in_words(likelihood):
    rng = np.random.default_rng(0)
    wild = np.where(rng.random((200, 6)) < 0.5, 0.0, np.exp(20 * rng.normal(size=(200, 6))))
    estimator = VAETransformer(**FAST, likelihood=likelihood).fit(X[:, :6] > 0)
    before = estimator.transform(X[:, :6] > 0)
    with pytest.raises(NonFiniteLossError, match=r"latents was searched for .*n_components"):
        estimator.fit(np.floor(wild))
    np.testing.assert_array_equal(estimator.transform(X[:, :6] > 0), before)


def test_noise_is_worth_one_latent():
    noise = np.random.default_rng(0).normal(size=(300, 10))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnclearSizeWarning)
        assert VAETransformer(**FAST).fit(noise).n_components_ == 1


def test_more_latents_than_there_are_at_first_are_found():
    rows, layers = linear(n_rows=2000, n_columns=120, k=40, noise=0.1), (128,)
    fitted = VAETransformer(**{**FAST, "hidden_layer_sizes": layers}).fit(rows)
    assert fitted.n_components_ == 40


def test_the_number_of_active_units_is_that_of_the_dimensions():
    module = SparseAutoencoderTransformer(**FAST).fit(X).module_
    assert module.bottleneck.n_active == 3
    module = SparseAutoencoderTransformer(**FAST, n_active=20).fit(X).module_
    assert (module.bottleneck.n_active, module.bottleneck.n_components) == (20, 20)


@every_estimator
def test_a_fit_is_the_same_each_time_and_that_of_the_number_itself(Estimator):
    auto = Estimator(**FAST).fit(X)
    again = Estimator(**FAST).fit(X)
    told = Estimator(**{**FAST, "n_components": auto.n_components_}).fit(X)
    np.testing.assert_array_equal(auto.transform(X), again.transform(X))
    np.testing.assert_array_equal(auto.transform(X), told.transform(X))
    assert not hasattr(told, "size_curve_")


def test_the_curve_is_told_and_forgotten_by_the_next_fit():
    fitted = VAETransformer(**FAST).fit(X)
    curve = fitted.size_curve_
    assert set(curve) == {"n_components", "score", "standard_error", "kl", "chosen"}
    assert curve["n_components"][curve["score"].argmax()] == 3
    assert (np.diff(curve["n_components"]) > 0).all() and (curve["kl"][3:] < 0.1).all()
    fitted.set_params(n_components=2).fit(X)
    assert not hasattr(fitted, "size_curve_")


def test_the_curve_is_in_the_units_of_the_rows():
    one = VAETransformer(**FAST).fit(X).size_curve_
    large = VAETransformer(**FAST).fit(1024 * X).size_curve_
    lost = X.shape[1] * np.log(1024)
    np.testing.assert_allclose(large["score"] + lost, one["score"], rtol=1e-3, atol=1e-3)


def test_what_goes_on_keeps_the_size():
    fitted = VAETransformer(**FAST, warm_start=True).fit(X)
    curve = fitted.size_curve_
    fitted.fit(X).partial_fit(X[:100])
    assert fitted.n_components_ == 3
    np.testing.assert_array_equal(fitted.size_curve_["score"], curve["score"])
    first = VAETransformer(**FAST).partial_fit(X)
    assert first.partial_fit(X).n_components_ == 3


def test_it_is_pickled_and_cloned():
    fitted = VAETransformer(**FAST).fit(X)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.transform(X), fitted.transform(X))
    assert clone(fitted).n_components == "auto"


def test_it_stands_in_pipelines_and_searches():
    y = X[:, 0] > 0
    pipe = make_pipeline(VAETransformer(**FAST), LogisticRegression())
    assert cross_val_score(pipe, X, y, cv=2).mean() > 0.8
    search = GridSearchCV(VAETransformer(**FAST), {"n_components": [1, "auto"]}, cv=2).fit(X)
    assert search.best_params_ == {"n_components": "auto"}


def test_weights_count():
    """Rows of weight zero are not there, and a heavy half has a dimension less."""
    flat = X.copy()
    flat[150:] = linear(150, k=2, seed=5)
    weight = np.repeat([1e-3, 1.0], 150)
    alone = VAETransformer(**FAST).fit(flat[150:])
    weighed = VAETransformer(**FAST).fit(flat, sample_weight=weight)
    assert weighed.n_components_ == alone.n_components_ == 2


def test_the_batches_of_the_fit_are_not_those_of_the_search():
    """With single rows in a step an epoch would be longer than all of the search."""
    assert VAETransformer(**FAST, batch_size=1).fit(linear(600)).n_components_ == 3


def test_rows_held_out_by_the_fit_are_not_looked_at():
    wild = {**FAST, "early_stopping": True, "validation_fraction": 0.5}
    one = VAETransformer(**wild).fit(X).size_curve_
    assert not np.array_equal(one["score"], VAETransformer(**FAST).fit(X).size_curve_["score"])


@pytest.mark.parametrize("n_rows", [1, 2, 5])
def test_few_rows_are_enough(n_rows):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnclearSizeWarning)
        assert VAETransformer(**FAST).fit(X[:n_rows]).n_components_ >= 1


def test_a_spectrum_without_a_drop_is_told(monkeypatch):
    slope = curve([-9.0, -7.0, -5.0, -4.5], kl=[1.0, 0.8, 0.6, 0.5, 0.4])
    monkeypatch.setattr(fit, "find_size", lambda *_: slope)
    message = r"without a drop.* of the search .*: -9 of 1, -4.5 of 4\. .*takes 4; another"
    with pytest.warns(UnclearSizeWarning, match=message):
        VAETransformer(**FAST).fit(X)


def test_a_drop_is_no_matter_for_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnclearSizeWarning)
        VAETransformer(**FAST).fit(X)


def test_wrong_callbacks_are_an_error_before_the_search(monkeypatch):
    monkeypatch.setattr(fit, "find_size", lambda *_: pytest.fail("it was searched"))
    with pytest.raises(ValueError, match="callbacks must hold skorch callbacks"):
        VAETransformer(**FAST, callbacks=[3]).fit(X)


def test_modules_of_one_size_are_an_error():
    network = CustomNetwork(nn.Linear(12, 6), nn.Linear(3, 12))
    with pytest.raises(ValueError, match=r"modules of one.*n_components='auto'.*callables"):
        VAETransformer("auto", network=network).fit(X)


def test_networks_that_are_made_for_each_size_are_searched():
    network = CustomNetwork(nn.Linear, nn.Linear)
    assert VAETransformer("auto", network=network, max_iter=2, random_state=0).fit(X).n_components_


def test_batches_and_optimiser_of_the_user_are_for_the_fit_alone():
    def lbfgs(groups):
        return torch.optim.LBFGS([one for group in groups for one in group["params"]])

    usual = VAETransformer(**FAST).fit(X).size_curve_["score"]
    for settings in ({"batch_size": 1}, {"optimizer": lbfgs}):
        found = VAETransformer(**FAST, init="random", **settings).fit(X)
        np.testing.assert_array_equal(found.size_curve_["score"], usual)


def test_a_dropout_of_the_decoder_leaves_the_global_generators_alone():
    def decoder(n_inputs, n_outputs):
        return nn.Sequential(nn.Linear(n_inputs, 8), nn.Dropout(0.1), nn.Linear(8, n_outputs))

    network = CustomNetwork(nn.Linear, decoder)
    estimator = VAETransformer("auto", network=network, max_iter=2, random_state=0)
    with global_generators_untouched():
        first = estimator.fit(X).transform(X)
    torch.rand(1)
    np.testing.assert_array_equal(estimator.fit(X).transform(X), first)


class Unstable(nn.Linear):
    """A layer of whose training nothing comes."""

    def forward(self, x):
        return super().forward(x) * (torch.nan if self.training else 1.0)


class Interrupted(nn.Linear):
    """A layer that is stopped by Ctrl-C."""

    def forward(self, x):
        if self.training and x.requires_grad:
            raise KeyboardInterrupt
        return super().forward(x)


@pytest.mark.parametrize(
    ("layer", "error"), [(Unstable, NonFiniteLossError), (Interrupted, KeyboardInterrupt)]
)
def test_a_search_that_fails_leaves_what_was_there(layer, error):
    estimator = VAETransformer(3, network=CustomNetwork(nn.Linear, nn.Linear), max_iter=1)
    before = estimator.fit(X[:, :9]).transform(X[:, :9])
    estimator.set_params(n_components="auto", network=CustomNetwork(nn.Linear, layer))
    with pytest.raises(error):
        estimator.fit(X)
    np.testing.assert_array_equal(estimator.transform(X[:, :9]), before)
    with pytest.raises(error):
        clone(estimator).fit(X)


def test_without_a_drop_ordinary_fits_are_compared():
    """Latents that are worth less and less, of which each still helps to describe new rows."""
    axes = np.random.default_rng(0).normal(size=(30, 30)) * 0.8 ** np.arange(30)[:, None]
    rows = np.random.default_rng(1).normal(size=(1000, 30)) @ axes
    rows += 0.05 * np.random.default_rng(2).normal(size=rows.shape)
    small = {"hidden_layer_sizes": (16,), "random_state": 0}  # it cannot learn all by steps
    with pytest.warns(UnclearSizeWarning, match="without a drop"):
        fitted = VAETransformer("auto", **small).fit(rows)
    curve = fitted.size_curve_
    assert len(curve["n_components"]) == 2
    assert fitted.n_components_ == curve["chosen"] == curve["n_components"][curve["score"].argmax()]
    told = VAETransformer(curve["n_components"][0], **small).fit(rows)
    assert fitted.score(rows) > told.score(rows)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_was_learned_by_heart_is_left_to_ordinary_fits(seed):
    rows = linear(n_rows=60, n_columns=30, k=4, noise=0.5, seed=seed)
    fitted = VAETransformer(**{**FAST, "hidden_layer_sizes": (256,)}).fit(rows)
    assert 4 <= fitted.n_components_ <= 5


@pytest.mark.parametrize("n_rows", [2, 3, 5, 12])
def test_rows_have_fewer_latents_than_there_are_rows(n_rows):
    rows = linear(n_rows, n_columns=40, k=2)
    assert VAETransformer(**FAST).fit(rows).n_components_ <= max(1, n_rows - 1)


# The rule.


def curve(score, error=0.0, first=1, kl=(), of_fits=False):
    sizes = np.arange(first, first + len(score))
    return SizeCurve(sizes, np.asarray(score), np.full(len(score), error), np.asarray(kl), of_fits)


def test_the_smallest_of_what_is_as_good_is_chosen():
    assert curve([-5.0, -3.0, -2.95, -2.9]).chosen == 2  # a tenth of a nat for each latent
    assert curve([-5.0, -3.0, -2.7, -2.65]).chosen == 3
    assert curve([-5.0, -3.0, -2.7, -2.65], error=0.5).chosen == 2
    assert curve([-3.0, -2.0, -1.0], first=4).chosen == 6


def test_all_sizes_in_doubt_are_compared_or_some_in_even_ratios():
    assert sizes_in_doubt(5, 20).tolist() == list(range(5, 21))
    sizes = sizes_in_doubt(3, 150)
    assert (sizes[0], sizes[-1]) == (3, 150)
    assert len(sizes) <= 16
    assert (sizes[1:] <= 1.4 * sizes[:-1]).all()


def test_a_drop_is_seen_from_the_last_latent_that_is_chosen():
    assert curve([-9.0, -5.0, -5.0], kl=[2.0, 1.5, 0.05]).has_drop
    assert not curve([-9.0, -5.0, -5.0], kl=[2.0, 1.5, 0.9]).has_drop
    assert not curve([-9.0, -5.0, -5.0], kl=[0.3, 0.15, 0.05]).has_drop
    assert not curve([-9.0, -5.0, -5.0], kl=[2.0, 0.4, 0.05]).has_drop  # the end of a slope
    assert curve([-9.0, -5.0], kl=[2.0, 1.5]).has_drop


def test_errors_are_those_of_differences_between_the_same_rows():
    rng = np.random.default_rng(0)
    rows = 100.0 * rng.normal(size=400)  # of which all sizes have alike
    lost = 1.0 + rng.normal(size=400)
    told = (rows - lost / 2).argsort().argsort() >= 40  # all but the tenth told worst
    found = size_curve(np.array([1, 2]), np.stack([rows - lost, rows]), None, np.ones(2))
    expected = lost[told].std(ddof=1) / np.sqrt(told.sum())
    assert found.standard_error[0] == pytest.approx(expected, rel=1e-9)
    twice = np.repeat([1.0, 2.0], 200)
    weighed = size_curve(np.array([1, 2]), np.stack([rows - lost, rows]), twice, np.ones(2))
    again = np.repeat(np.stack([rows - lost, rows]), twice.astype(int), axis=1)
    repeated = size_curve(np.array([1, 2]), again, None, np.ones(2))
    one_row = np.abs(rows).max() / 500  # of two that are alike one may be left out
    np.testing.assert_allclose(weighed.score, repeated.score, rtol=0, atol=one_row)


def test_one_row_far_outside_does_not_decide_alone():
    rng = np.random.default_rng(0)
    gained = 1.0 + 0.1 * rng.normal(size=100)
    rows = np.stack([np.zeros(100), gained])
    rows[:, 0] = [-1e6, -1e6 - 500]
    found = size_curve(np.array([1, 2]), rows, None, np.ones(2), of_fits=True)
    assert found.chosen == 2


# The bottleneck.


def bottleneck(n_components=6, ordered_by=None):
    made = SizingBottleneck(n_components, seed=0)
    made.start_at(8.0)
    if ordered_by is not None:
        made.kl = torch.tensor(ordered_by)
        made.on_epoch_begin(0.9)
    return made


def test_the_price_falls_to_one():
    made, prices = bottleneck(), []
    for progress in (0.0, 0.24, 0.48, 0.6):
        made.on_epoch_begin(progress)
        prices.append(made.weight)
    assert prices == pytest.approx([8.0, 8.0**0.5, 1.0, 1.0])


def test_latents_that_are_not_kept_are_the_prior_and_unseen():
    made = bottleneck(4, [0.5, 2.0, 0.01, 1.0])
    assert (made.most, made.certain, made.fewest) == (3, 2, 1)
    made.kept = 2
    h = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(made.code(h) != 0, torch.tensor([False, True, False, True]).expand(5, 4))
    seen = []
    made.score(h, lambda code: seen.append(code) or torch.zeros(5))
    assert all((code[:, [0, 2]] == 0).all() for code in seen)
    kept = h[:, [1, 3, 5, 7]]
    two = SizingBottleneck(2, seed=0)
    zero = lambda code: torch.zeros(len(code))  # noqa: E731
    assert torch.allclose(made.score(h, zero), two.score(kept, zero))


def test_rows_keep_as_many_as_are_in_doubt():
    made = bottleneck(6, [3.0, 2.9, 2.8, 0.5, 0.3, 0.0])
    lengths = made.draw(4000, torch.Generator().manual_seed(0))[:, -1]
    sizes, n_rows = lengths.unique(return_counts=True)
    assert sizes.tolist() == [3, 4, 5]
    expected = torch.tensor([0.3 + 0.7 / 3, 0.7 / 3, 0.7 / 3])
    assert torch.allclose(n_rows / 4000, expected, atol=0.03)


def test_there_are_twice_as_many_once_most_are_used():
    made = SizingBottleneck(100, seed=0)
    made.on_epoch_begin(0.1)
    assert made.most == 32
    made.kl[:24] = 1.0
    made.on_epoch_begin(0.2)
    assert made.most == 64
    made.kl[:100] = 1.0
    made.on_epoch_begin(0.3)
    assert made.most == 100
