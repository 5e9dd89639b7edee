"""Is a step one step? However often an optimiser looks at the loss, and however few rows it has."""

import copy

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import clone
from torch import nn

from skae import AutoencoderTransformer, SparseAutoencoderTransformer, VAETransformer
from skae._training.bottlenecks import SparseBottleneck, Step
from skae.networks import CustomNetwork
from skae.sparsity import L1, Sparsity
from tests.helpers import ESTIMATORS, QUICK, low_rank, weights_of
from tests.test_state import MovingNormal, RunningThreshold

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::skae.exceptions.PosteriorCollapseWarning"),
]

X = low_rank(120)

# Optimisers that look at a loss more than once.


class Once(torch.optim.SGD):
    """Plain gradient descent."""

    def __init__(self, groups):
        super().__init__(groups, lr=0.05)


class Thrice(Once):
    """Looks three times before it makes the same step."""

    def step(self, closure=None):
        losses = [float(closure()) for _ in range(3)]
        assert losses[0] == losses[1] == losses[2]
        return super().step()


def lbfgs(groups):
    """Takes a single group, and decides itself how often it looks."""
    parameters = [parameter for group in groups for parameter in group["params"]]
    return torch.optim.LBFGS(parameters, lr=0.3, max_iter=5, line_search_fn="strong_wolfe")


LOOKED_AT = {
    **{kind.__name__: kind(**QUICK, noise="masking") for kind in ESTIMATORS},
    "running threshold": SparseAutoencoderTransformer(sparsity=RunningThreshold(), **QUICK),
    "running centre": VAETransformer(prior=MovingNormal(), **QUICK),
}


@pytest.mark.parametrize("rows", [X, sp.csr_array(np.where(X > 0, X, 0.0))], ids=["dense", "csr"])
@pytest.mark.parametrize("estimator", LOOKED_AT.values(), ids=LOOKED_AT)
def test_looking_again_changes_nothing(estimator, rows):
    settings = {"batch_size": 40, "sparse_method": "exact" if sp.issparse(rows) else "auto"}
    estimator = clone(estimator).set_params(**settings, noise_level=0.3)
    once, thrice = (clone(estimator).set_params(optimizer=kind) for kind in (Once, Thrice))
    once.fit(rows)
    thrice.fit(rows)
    np.testing.assert_array_equal(weights_of(thrice), weights_of(once))
    assert thrice.history_ == once.history_
    buffers = dict(thrice.module_.named_buffers())
    for name, buffer in once.module_.named_buffers():
        assert torch.equal(buffers[name], buffer), name


@pytest.mark.parametrize("Estimator", [AutoencoderTransformer, VAETransformer])
def test_an_optimiser_of_a_single_group_that_searches_along_lines_trains(Estimator):
    estimator = Estimator(**QUICK, init="random")
    estimator.set_params(optimizer=lbfgs, max_iter=15, batch_size=60)
    estimator.set_params(learning_rate="cosine", warm_start=True).fit(X)
    reconstruction = estimator.history_["reconstruction"]
    assert reconstruction[-1] < reconstruction[0] - 1.0
    estimator.fit(X)
    assert np.isfinite(estimator.score(X))


class Doubled(nn.Module):
    """Twice the rows, in their place or not."""

    def __init__(self, inplace):
        super().__init__()
        self.inplace = inplace

    def forward(self, x):
        return x.mul_(2.0) if self.inplace else 2.0 * x


IN_PLACE = {"relu": nn.ReLU, "dropout": lambda inplace: nn.Dropout(0.5, inplace), "own": Doubled}


@pytest.mark.parametrize("noise", [None, "masking"])
@pytest.mark.parametrize("first", IN_PLACE)
def test_layer_that_writes_into_its_input_changes_no_row(first, noise):
    def scores(inplace):
        def encoder(n_inputs, n_outputs):
            return nn.Sequential(IN_PLACE[first](inplace), nn.Linear(n_inputs, n_outputs))

        settings = {"n_components": 3, "max_iter": 5, "random_state": 0, "batch_size": 40}
        settings |= {"noise": noise, "noise_level": 0.3}
        settings["optimizer"] = Once if first == "dropout" else Thrice
        network = CustomNetwork(encoder, nn.Linear)
        return AutoencoderTransformer(network=network, **settings).fit(X).score_samples(X)

    np.testing.assert_array_equal(scores(inplace=True), scores(inplace=False))


class Follows(L1):
    """Keeps what it trains, as it is after the step."""

    def parameters_at_start(self, n_components, n_active, generator):
        return {"mine": torch.ones(n_components)}

    def buffers_at_start(self, n_components, n_active, generator):
        return {"kept": torch.zeros(n_components)}

    def activate(self, pre, n_active, *, mine, kept):
        return (pre * mine).relu()

    def threshold(self, pre, n_active, *, mine, kept):
        return 0.0

    def penalty(self, *args, mine, kept):
        return super().penalty(*args)

    def buffers_after_step(self, pre, code, row_weight, n_active, *, mine, kept):
        return {"kept": mine}


def test_buffers_change_after_the_step():
    estimator = SparseAutoencoderTransformer(sparsity=Follows(), **QUICK).fit(X)
    state = estimator.module_.bottleneck.state
    assert not (state.trained["mine"] == 1).any()
    assert torch.equal(state.kept.kept, state.trained["mine"])


# Single epochs.


def sparse(**settings):
    settings = {"n_components": 8, "n_active": 2, "batch_size": 30, "max_iter": 30, **settings}
    return SparseAutoencoderTransformer(random_state=0, **settings)


def test_single_epochs_steer_slowly_whatever_came_before():
    estimator = sparse(n_active=4, max_iter=3).fit(X)
    alike = copy.deepcopy(estimator)
    for one, rows in ((estimator, X), (alike, X[:90])):
        before = one.sparsity_weight_
        one.partial_fit(rows)
        n_steps = -(-len(rows) // 30)
        assert abs(np.log(one.sparsity_weight_ / before)) <= 0.01 * n_steps * (1 + 1e-4)


def test_units_that_few_rows_do_not_use_are_not_taken_for_dead():
    estimator = sparse()
    for start in range(0, 120, 5):
        estimator.partial_fit(X[start : start + 5])
    assert not np.any(estimator.history_["revival"])  # fewer than 400 rows: nothing is known yet


def test_dead_units_are_found_over_calls():
    bottleneck = SparseBottleneck(4, L1(), 1.0, None).train()
    h = torch.tensor([[1.0, 1.0, -1.0, -1.0]]).repeat(10, 1)
    rare = h.clone()
    rare[0, 2] = 1.0  # active on one row of two hundred
    found = []
    for call in range(81):
        bottleneck.on_train_begin(None)
        bottleneck.on_epoch_begin(1.0)
        found.append(bottleneck.dead.tolist())
        train_on(bottleneck, rare if call % 20 == 5 else h)
    # After 100 rows for each of the four times that a unit is active once.
    assert found[:40] == [[0, 0, 0, 0]] * 40
    assert found[40:] == [[0, 0, 0, 1]] * 41
    # An epoch of many begins anew: what a last call of few rows left says nothing.
    bottleneck.on_train_begin(100)
    bottleneck.on_epoch_begin(0.0)
    assert bottleneck.dead.tolist() == [0, 0, 0, 1]
    train_on(bottleneck, h)
    bottleneck.on_epoch_begin(0.1)
    assert bottleneck.dead.tolist() == [0, 0, 1, 1]


def train_on(bottleneck, h):
    step = Step(torch.sum, lambda code: code.sum(dim=1), torch.ones(len(h)), lambda: 1.0)
    bottleneck.begin_step()
    bottleneck(h, step)
    bottleneck.end_step()


# Weights of rows.


class Weighed(Sparsity):
    """Cuts off the mean of a batch, of which a row has its share."""

    penalised = False

    def activate_in_training(self, pre, row_weight, n_active):
        weight = torch.ones(len(pre)) if row_weight is None else row_weight
        return (pre - (weight @ pre) / weight.sum()).relu()


def test_a_row_that_counts_twice_is_there_twice_for_a_rule_that_looks_at_a_batch():
    copies = 1 + np.arange(120) % 2
    settings = {**QUICK, "sparsity": Weighed(), "batch_size": 500, "input_scaling": None}
    weighed = SparseAutoencoderTransformer(**settings).fit(X, sample_weight=copies)
    # A copy that differs by less than training sees, and is a row of its own all the same.
    twice = np.repeat(X, copies, axis=0)
    twice[1:] += 1e-6 * (np.diff(twice, axis=0) == 0).all(axis=1, keepdims=True)
    found = SparseAutoencoderTransformer(**settings).fit(twice)
    assert found.loss_curve_ == pytest.approx(weighed.loss_curve_, rel=1e-3)
    other = SparseAutoencoderTransformer(**settings).fit(X)
    assert other.loss_curve_ != pytest.approx(weighed.loss_curve_, rel=1e-3)
