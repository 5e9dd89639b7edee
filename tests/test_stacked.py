"""The stack: what it computes, by theory."""

import itertools
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.spatial.distance import pdist
from sklearn.base import clone
from sklearn.datasets import load_digits
from skorch.callbacks import Callback
from torch import nn

from skae import (
    AutoencoderTransformer,
    DenoisingAETransformer,
    SparseAutoencoderTransformer,
    StackedAutoencoderTransformer,
    VAETransformer,
)
from skae.networks import CustomNetwork
from skae.noise import Noise
from skae.sparsity import SPARSITIES, Sparsity

from .helpers import QUIET, assert_rounding_apart, counts, low_rank

pytestmark = QUIET

X = low_rank(200, 12, 5)
BRIEF = {"max_iter": 5, "random_state": 0}
LINEAR = AutoencoderTransformer(hidden_layer_sizes=())
PLAIN = AutoencoderTransformer(hidden_layer_sizes=(8,), max_iter=5)
TOP_K = SparseAutoencoderTransformer(sparsity="topk", hidden_layer_sizes=(), max_iter=10)
FOUR = {
    "plain": PLAIN,
    "sparse": TOP_K,
    "denoising": DenoisingAETransformer(hidden_layer_sizes=(8,), max_iter=5),
    "variational": VAETransformer(hidden_layer_sizes=(8,), max_iter=5),
}


def stack(estimator=PLAIN, layer_sizes=(6, 3), **settings):
    if "levels" in settings:
        return StackedAutoencoderTransformer(**{**BRIEF, **settings})
    settings = {"layer_sizes": layer_sizes, **BRIEF, **settings}
    return StackedAutoencoderTransformer(estimator=clone(estimator), **settings)


def squared_error(fitted, rows=X):
    return float(np.square(fitted.reconstruct(rows) - rows).mean())


def one_after_another(levels, rows):
    """Return the codes of each level, found level by level."""
    steps = itertools.accumulate(levels, lambda codes, one: one.transform(codes), initial=rows)
    return list(steps)[1:]


# What a stack is.


def test_linear_levels_are_principal_components_of_the_smaller_size():
    found = stack(LINEAR, (6, 3), fine_tune=False).fit(X)
    pca = clone(LINEAR).set_params(n_components=3, random_state=0).fit(X)
    assert squared_error(found) == pytest.approx(squared_error(pca), rel=2e-3)
    larger = clone(pca).set_params(n_components=2).fit(X)
    assert squared_error(larger) > 1.2 * squared_error(found)


@pytest.mark.parametrize("name", FOUR)
def test_untrained_whole_answers_as_its_levels_one_after_another(name):
    fitted = stack(FOUR[name], (8, 4, 3), fine_tune=False).fit(X)
    codes, expected = fitted.transform_levels(X), one_after_another(fitted.levels_, X)
    for found, one in zip(codes[:-1], expected, strict=False):
        assert_rounding_apart(found, one)
    assert_rounding_apart(np.abs(codes[-1]), np.abs(expected[-1]))  # the sign goes by columns of X
    rows = expected[-1]
    for level in reversed(fitted.levels_):
        rows = level.inverse_transform(rows)
    np.testing.assert_allclose(fitted.reconstruct(X), rows, rtol=1e-4, atol=1e-4)
    assert (fitted.n_iter_, fitted.loss_curve_) == (0, [])


@pytest.mark.parametrize("name", FOUR)
def test_top_of_the_levels_is_the_code_of_the_stack(name):
    fitted = stack(FOUR[name], (8, 4, 3)).fit(X)
    codes = fitted.transform_levels(X)
    assert [one.shape for one in codes] == [(200, 8), (200, 4), (200, 3)]
    np.testing.assert_array_equal(codes[-1], fitted.transform(X))
    assert fitted.n_components_ == 3
    assert len(fitted.get_feature_names_out()) == 3
    assert fitted.sample(4, random_state=0).shape == (4, 12)


@pytest.mark.parametrize("name", FOUR)
def test_training_together_makes_rows_more_likely(name):
    greedy = stack(FOUR[name], (8, 4), fine_tune=False).fit(X)
    fitted = stack(FOUR[name], (8, 4), max_iter=40).fit(X)
    assert fitted.score(X) > greedy.score(X)
    assert fitted.n_iter_ == len(fitted.loss_curve_) == 40
    for one, other in zip(greedy.levels_, fitted.levels_, strict=True):
        np.testing.assert_array_equal(
            one.module_.encoder[0].weight.detach().numpy(),
            other.module_.encoder[0].weight.detach().numpy(),
        )


def test_training_together_trains_the_weights_of_all_levels():
    greedy, fitted = (stack(PLAIN, (6, 4, 3), fine_tune=on).fit(X) for on in (False, True))
    before = dict(greedy.module_.named_parameters())
    for name, parameter in fitted.module_.named_parameters():
        if parameter.requires_grad:
            assert not torch.equal(parameter, before[name]), name
    assert sum(parameter.requires_grad for parameter in before.values()) > 20


def test_spread_about_reconstructions_is_that_of_the_stack():
    fitted = stack(LINEAR, (6, 1), fine_tune=False).fit(X)
    scale = fitted.levels_[0]._model.scaling.scale
    left = np.square((fitted.reconstruct(X) - X) / scale).mean(axis=0)
    likelihood = -0.5 * (np.log(2 * np.pi * left) + 1).sum() - np.log(scale).sum()
    assert fitted.score(X) == pytest.approx(likelihood, rel=1e-3)


# Levels.


class Noted(Noise):
    """Notes how wide the rows are that it is given, and changes nothing."""

    widths: set = set()

    def corrupt(self, x, level, generator):
        self.widths.add(x.shape[1])
        return x


def test_each_level_corrupts_what_it_is_given():
    Noted.widths.clear()
    stack(clone(PLAIN).set_params(noise=Noted(), noise_level=0.5), (6, 4, 3), fine_tune=False).fit(
        X
    )
    assert Noted.widths == {12, 6, 4}


def test_rows_alone_are_corrupted_in_the_training_together():
    noisy = clone(PLAIN).set_params(noise=Noted(), noise_level=0.5)
    fitted = stack(levels=[noisy, clone(PLAIN).set_params(n_components=3)]).fit(X)
    Noted.widths.clear()
    fitted.partial_fit(X)
    assert Noted.widths == {12}
    above = stack(levels=[PLAIN, noisy]).fit(X)
    Noted.widths.clear()
    above.partial_fit(X)
    assert Noted.widths == set()


def test_noise_makes_another_stack():
    scores = {
        level: stack(clone(FOUR["denoising"]).set_params(noise_level=level)).fit(X).score(X)
        for level in (0.0, 0.5)
    }
    assert scores[0.0] != pytest.approx(scores[0.5], rel=1e-6)


def test_levels_may_be_of_different_kinds():
    levels = [FOUR["denoising"], TOP_K, FOUR["variational"]]
    sized = [
        clone(one).set_params(n_components=n) for one, n in zip(levels, (8, 6, 2), strict=True)
    ]
    fitted = stack(levels=sized).fit(X)
    codes = fitted.transform_levels(X)
    assert (codes[1] > 0).sum(axis=1).max() <= 1  # a quarter of six
    assert "kl" in fitted.history_
    assert fitted.sample(5, random_state=0).shape == (5, 12)


def test_upper_levels_are_of_codes_in_one_unit_and_the_first_of_rows():
    rows = counts(150)
    fitted = stack(clone(PLAIN).set_params(likelihood="poisson"), (6, 3)).fit(rows)
    first, second = fitted.levels_
    assert type(first.likelihood_).__name__ == "Poisson"
    assert type(second.likelihood_).__name__ == "Gaussian"
    assert np.ptp(second._model.scaling.scale) == 0
    assert (fitted.sample(20, random_state=0) % 1 == 0).all()
    own = clone(PLAIN).set_params(input_scaling="standard", n_components=3)
    chosen = stack(levels=[PLAIN, own]).fit(X)
    assert np.ptp(chosen.levels_[1]._model.scaling.scale) > 0


def test_likelihood_of_a_level_may_be_chosen_by_its_codes():
    above = AutoencoderTransformer(4, likelihood="auto", hidden_layer_sizes=(), max_iter=5)
    fitted = stack(levels=[clone(TOP_K).set_params(n_components=16), above]).fit(X)
    assert type(fitted.levels_[1].likelihood_).__name__ == "ZeroInflatedLogNormal"
    assert np.isfinite(fitted.score(X))


def test_network_of_the_user_is_a_level():
    network = CustomNetwork(lambda n, k: nn.Sequential(nn.Linear(n, k), nn.Sigmoid()), nn.Linear)
    fitted = stack(AutoencoderTransformer(network=network, max_iter=5), (6, 3)).fit(X)
    assert len(fitted.transform_levels(X)) == 2
    assert np.isfinite(fitted.score(X))


# Sparse at every level.


@pytest.mark.parametrize("name", SPARSITIES)
def test_codes_are_sparse_at_every_level_after_the_training_together(name):
    level = SparseAutoencoderTransformer(sparsity=name, hidden_layer_sizes=(), max_iter=100)
    rows = low_rank(600, 12, 5)
    fitted = stack(level, (24, 16, 12), max_iter=60).fit(rows)
    codes = fitted.transform_levels(rows)
    for one, code in zip(fitted.levels_, codes, strict=True):
        assert (code >= 0).all()
        assert one.n_active_ < 0.5 * one.n_components
        n_active = (code > 0).sum(axis=1).mean()
        if name == "jumprelu":  # whose own thresholds let the number fall
            assert 0.75 * one.n_active_ < n_active < 1.1 * one.n_active_
        else:
            assert n_active == pytest.approx(one.n_active_, rel=0.1)
    assert squared_error(fitted, rows) < squared_error(
        stack(level, (24, 16, 12), fine_tune=False).fit(rows), rows
    )


def test_hard_rule_holds_for_every_row_of_every_level():
    codes = (
        stack(TOP_K, (24, 16, 8), max_iter=30).fit(X).transform_levels(low_rank(50, 12, 5, seed=1))
    )
    assert [int((code > 0).sum(axis=1).max()) for code in codes] == [6, 4, 2]


class Shifted(Sparsity):
    """A trained threshold for each unit, and the number of steps."""

    penalised = False

    def parameters_at_start(self, n_components, n_active, generator):
        return {"level": torch.full((n_components,), 0.1)}

    def buffers_at_start(self, n_components, n_active, generator):
        return {"n_steps": torch.zeros(())}

    def activate(self, pre, n_active, level, n_steps):
        return (pre - level).relu()

    def buffers_after_step(self, pre, code, row_weight, n_active, level, n_steps):
        return {"n_steps": n_steps + 1}


class Penalised(Shifted):
    """The same with a penalty."""

    penalised = True

    def penalty(self, pre, code, gains, recent_rate, row_weight, n_active, level, n_steps):
        return code.mean()


@pytest.mark.parametrize("sparsity", [Shifted(), Penalised()])
def test_what_a_rule_trains_and_keeps_goes_on_at_every_level(sparsity):
    """But for what is trained against a penalty, which there is no more."""
    level = clone(TOP_K).set_params(sparsity=sparsity)
    greedy, fitted = (stack(level, (8, 6), fine_tune=on).fit(X) for on in (False, True))

    def states(one):
        module = one.module_
        found = dict([*module.named_parameters(), *module.named_buffers()])
        return [
            (name, value) for name, value in found.items() if name.endswith(("level", "n_steps"))
        ]

    assert len(states(fitted)) == 4
    for (name, before), (_, after) in zip(states(greedy), states(fitted), strict=True):
        stands = sparsity.penalised and name.endswith("level")
        assert torch.equal(before, after) == stands, name
    assert [int(value) for name, value in states(greedy) if name.endswith("n_steps")] == [20, 20]
    assert [int(value) for name, value in states(fitted) if name.endswith("n_steps")] == [30, 30]


def test_sparse_output_is_that_of_each_level():
    level = clone(TOP_K).set_params(sparse_output=True)
    fitted = stack(level, (16, 8)).fit(X)
    assert all(sp.issparse(codes) for codes in fitted.transform_levels(X))
    assert sp.issparse(fitted.transform(X))
    assert not sp.issparse(stack(TOP_K, (16, 8)).fit(X).transform(X))


# Shared weights.


def shared(level=TOP_K, **settings):
    level = clone(level).set_params(n_components=8)
    return StackedAutoencoderTransformer(estimator=level, shared=True, **{**BRIEF, **settings})


def n_weights(fitted):
    return sum(p.numel() for p in fitted.module_.parameters() if p.requires_grad)


def test_shared_levels_have_one_set_of_weights():
    found = [n_weights(shared(n_levels=n).fit(X)) for n in (2, 3, 5)]
    assert found[0] == found[1] == found[2]
    apart = [n_weights(stack(TOP_K, (8,) * n).fit(X)) for n in (2, 3)]
    assert apart[0] == found[0] < apart[1]


@pytest.mark.parametrize("name", FOUR)
def test_shared_level_is_applied_to_its_own_codes(name):
    fitted = shared(FOUR[name], n_levels=4, fine_tune=False).fit(X)
    assert fitted.levels_[1] is fitted.levels_[2] is fitted.levels_[3]
    *below, top = fitted.transform_levels(X)
    *expected, last = one_after_another(fitted.levels_, X)
    for found, one in zip(below, expected, strict=True):
        assert_rounding_apart(found, one)
    # Codes of the top that are not sparse are turned to axes of their own.
    apart = [pdist(codes - codes.mean(axis=0)) for codes in (top, last)]
    np.testing.assert_allclose(*apart, rtol=1e-3, atol=1e-4 * np.abs(last).max())
    if name == "sparse":
        assert_rounding_apart(top, last)


def test_shared_stack_equals_one_of_copies():
    fitted = shared(n_levels=4).fit(X)
    encoder, decoder = (list(getattr(fitted.module_, name)) for name in ("encoder", "decoder"))
    copies = pickle.loads(pickle.dumps(fitted))
    for name, parts in (("encoder", encoder), ("decoder", decoder)):
        apart = [pickle.loads(pickle.dumps(part)) for part in parts]
        setattr(copies.module_, name, nn.Sequential(*apart))
    np.testing.assert_array_equal(copies.transform(X), fitted.transform(X))
    assert n_weights(copies) > n_weights(fitted)


def test_shared_level_learns_from_its_own_codes_as_well():
    few, more = (shared(n_levels=n, fine_tune=False).fit(X).levels_[1] for n in (2, 4))
    assert (few.n_iter_, more.n_iter_) == (10, 30)


def test_state_of_a_shared_rule_is_one():
    fitted = shared(clone(TOP_K).set_params(sparsity=Shifted()), n_levels=4).fit(X)
    names = {name for name, _ in fitted.module_.named_parameters() if name.endswith("level")}
    assert len(names) == 2  # of the first level, and of all others
    assert fitted.n_iter_ == 5


def test_shared_level_takes_the_size_that_the_first_found():
    level = AutoencoderTransformer("auto", hidden_layer_sizes=(8,), max_iter=5)
    fitted = StackedAutoencoderTransformer(estimator=level, shared=True, **BRIEF).fit(X)
    sizes = {one.n_components_ for one in fitted.levels_}
    assert sizes == {fitted.n_components_}


# The net.


def test_net_has_no_first_weights_to_go_back_to():
    fitted = stack().fit(X)
    with pytest.raises(ValueError, match=r"Call fit\(X\) of the estimator"):
        fitted.net_.initialize()


class Seen(Callback):
    """Notes the layers of each net that it sees."""

    def __init__(self):
        self.n_layers = []

    def on_train_begin(self, net, **kwargs):
        self.n_layers.append(len(list(net.module_.encoder)))


def test_callbacks_of_the_stack_see_the_training_together_alone():
    seen = Seen()
    stack(TOP_K, (8, 6), callbacks=[seen]).fit(X)
    assert seen.n_layers == [4]


@pytest.mark.parametrize("sparsity", ["l1", "batch_topk"])
def test_the_number_that_is_kept_is_that_of_the_weighted_rows(sparsity):
    """Rows that hardly count have large codes, which an unweighted number would be spent on."""
    small, large = 0.15 * load_digits().data[:200], 3.0 * load_digits().data[200:400]
    rows, weight = np.vstack([small, large]), np.repeat([1.0, 0.02], 200)
    level = SparseAutoencoderTransformer(
        sparsity=sparsity, n_active=6, input_scaling=None, max_iter=60
    )
    stack = StackedAutoencoderTransformer(
        estimator=level, layer_sizes=(32, 24), max_iter=60, random_state=0
    ).fit(rows, sample_weight=weight)
    for codes, of in zip(stack.transform_levels(rows), stack.levels_, strict=True):
        n_active = np.average((codes > 0).sum(axis=1), weights=weight)
        assert n_active == pytest.approx(of.n_active_, rel=0.1)


def test_weight_density_is_that_of_all_levels():
    level = SparseAutoencoderTransformer(hidden_layer_sizes=(), max_iter=2, random_state=0)
    settings = {"layer_sizes": (6, 4), "max_iter": 20, "alpha": 10.0, "random_state": 0}
    stack = StackedAutoencoderTransformer(estimator=level, l1_ratio=1.0, **settings).fit(X)
    weights = [one for one in stack.module_.parameters() if one.ndim == 2]
    assert len(weights) == 4
    share = sum(int((one != 0).sum()) for one in weights) / sum(one.numel() for one in weights)
    assert stack.weight_density_ == share < 1.0
