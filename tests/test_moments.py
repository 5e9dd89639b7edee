"""A moment of a training is gone back to exactly, and costs no more than what changed since."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skae import AutoencoderTransformer, SparseAutoencoderTransformer, VAETransformer
from skae._kernels.optimizer import AdamW, RowAdamW
from skae._kernels.rows import row_gradient
from skae._training.callbacks import FiniteGuard
from skae._training.moments import Moment
from skae._training.net import AutoencoderNet
from skae.exceptions import NonFiniteLossError
from tests.helpers import ESTIMATORS, counts, generator, normal, weights_of

OPTIMIZERS = {
    "by rows": RowAdamW,
    "adam": AdamW,
    "momentum": lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9),
    "of the user": lambda weights: torch.optim.Rprop(weights, lr=0.1),
}


def make_net(kind="by rows", callbacks=()):
    module = nn.Sequential(nn.Linear(3, 40), nn.BatchNorm1d(40))
    optimizer = OPTIMIZERS[kind](module.parameters())
    return SimpleNamespace(
        module_=module, optimizer_=optimizer, callbacks=list(callbacks), lowest_losses={}
    )


def step(net, seed, share):
    """Change all buffers, and all weights but for some rows of the first."""
    module, rows = net.module_, torch.randperm(40, generator=generator(seed))[: round(40 * share)]
    rows = rows.sort().values
    sparse = isinstance(net.optimizer_, RowAdamW)
    for number, parameter in enumerate(module.parameters()):
        parameter.grad = normal(*parameter.shape, seed=seed + number).float()
    module[0].weight.grad = row_gradient(rows, normal(len(rows), 3, seed=seed).float(), 40, sparse)
    net.optimizer_.step()
    module(normal(7, 3, seed=seed).float())  # statistics of a batch


def memory_of(net):
    state = {name: value.clone() for name, value in net.module_.state_dict().items()}
    return state, copy.deepcopy(net.optimizer_.state_dict())


def assert_same_memory(found, expected):
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert_same_memory(found[name], value)
    elif isinstance(expected, list | tuple):
        for one, other in zip(found, expected, strict=True):
            assert_same_memory(one, other)
    else:
        np.testing.assert_array_equal(found, expected)


shares = st.lists(st.sampled_from([0.025, 0.1, 0.2, 0.6, 1.0]), max_size=5)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(OPTIMIZERS)), shares, shares, shares)
def test_going_back_restores_weights_buffers_and_optimizer(kind, before, between, after):
    net = make_net(kind)
    for seed, share in enumerate(before):
        step(net, seed, share)
    expected, start = memory_of(net), Moment(net, with_optimizer=True)
    epoch = Moment(net)
    for seed, share in enumerate(between, 100):
        step(net, seed, share)
    later, _ = memory_of(net)
    epoch.renew()
    for seed, share in enumerate(after, 200):
        step(net, seed, share)
    net.optimizer_.param_groups[0]["lr"] = 7.0
    epoch.go_back()
    assert_same_memory(net.module_.state_dict(), later)
    start.go_back()
    assert_same_memory((net.module_.state_dict(), net.optimizer_.state_dict()), expected)


def test_a_moment_of_few_rows_holds_these_alone():
    net = make_net()
    moment = Moment(net, with_optimizer=True)
    for seed in range(3):
        step(net, seed, 0.1)
    before = moment.before[net.module_[0].weight]
    assert not before.whole
    assert not before.wholes
    rows = torch.cat([rows for rows, _ in before.parts])
    assert len(rows) == len(rows.unique()) <= 12


def test_a_callback_of_the_user_may_change_any_row():
    net = make_net(callbacks=["any"])
    expected, moment = memory_of(net), Moment(net)
    with torch.no_grad():
        net.module_[0].weight.mul_(2.0)
    moment.go_back()
    assert_same_memory(net.module_.state_dict(), expected[0])


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize(
    ("then", "now", "growth"),
    [
        (0.5, 0.9, 0.9),
        (0.5, -30.0, 30.0),
        (-4.0, 8.0, 2.0),
        (1.0, -np.inf, np.inf),
        (1.0, np.nan, np.nan),
    ],
)
def test_growth_is_that_of_the_largest_value(kind, then, now, growth):
    net = make_net(kind)
    weight = net.module_[0].weight
    with torch.no_grad():
        weight[8, 1] = then
    moment = Moment(net)
    if kind == "by rows":
        net.optimizer_.before_change(weight, torch.tensor([3, 8]))
    with torch.no_grad():
        weight[8, 1] = now
    for parameter in net.module_[1].parameters():  # ones and zeros, which do not change
        parameter.data.clamp_(max=0.1)
    np.testing.assert_allclose(moment.growth(), growth)


def wide(seed=0):
    return sp.csr_array(counts(60, n_features=600, rate=0.01, seed=seed))


def sampled(Estimator, **settings):
    return Estimator(
        3,
        hidden_layer_sizes=(8,),
        likelihood="poisson",
        sparse_method="exact",
        batch_size=10,
        random_state=0,
        **settings,
    )


class Broken(Exception):
    """What goes wrong."""


@pytest.mark.parametrize(
    ("Estimator", "settings"),
    [
        (AutoencoderTransformer, {}),
        (SparseAutoencoderTransformer, {}),
        (SparseAutoencoderTransformer, {"l1_ratio": 0.5, "alpha": 0.1}),
        (VAETransformer, {}),
    ],
)
def test_training_by_rows_that_breaks_off_leaves_the_net_as_it_was(
    Estimator, settings, monkeypatch
):
    estimator = sampled(Estimator, **settings).partial_fit(wide())
    assert isinstance(estimator.net_.optimizer_, RowAdamW)
    expected = memory_of(estimator.net_)
    steps, usual_step = [], RowAdamW.step

    def breaks(optimizer, closure=None):
        result = usual_step(optimizer, closure)
        steps.append(result)
        if len(steps) == 4:
            raise Broken
        return result

    monkeypatch.setattr(RowAdamW, "step", breaks)
    with pytest.raises(Broken):
        estimator.partial_fit(wide(1))
    net = estimator.net_
    found = net.module_.state_dict(), net.optimizer_.state_dict()
    assert_same_memory(found, expected)


def test_training_by_rows_that_is_no_longer_finite_keeps_the_last_weights(monkeypatch):
    estimator = sampled(AutoencoderTransformer).partial_fit(wide())
    expected, _ = memory_of(estimator.net_)
    monkeypatch.setattr("skae._training.net._EpochRecord.means", lambda self: {"loss": np.nan})
    with pytest.raises(Exception, match="not finite"):
        estimator.partial_fit(wide(1))
    assert_same_memory(estimator.module_.state_dict(), expected)


@pytest.mark.parametrize("rows", [wide().toarray(), wide()], ids=["dense", "by rows"])
@pytest.mark.parametrize("Estimator", ESTIMATORS)
@pytest.mark.filterwarnings("ignore:Maximum iterations", "ignore:The posterior collapsed")
def test_training_goes_on_from_the_last_finite_epoch(Estimator, rows, monkeypatch):
    settings = {"max_iter": 4, "learning_rate": "constant", "warm_start": True}
    estimator = sampled(Estimator, **settings).fit(rows)
    assert isinstance(estimator.net_.optimizer_, RowAdamW) == sp.issparse(rows)
    ends, usual_loss = [], AutoencoderNet._loss
    usual_epoch = AutoencoderNet.run_single_epoch

    def epoch(net, iterator, training, *args, **kwargs):
        usual_epoch(net, iterator, training, *args, **kwargs)
        if training:
            ends.append(memory_of(net)[0])

    def loss(net, batch):
        total, terms = usual_loss(net, batch)
        return (np.nan * total if len(ends) == 2 else total), terms

    with monkeypatch.context() as patch:
        patch.setattr(AutoencoderNet, "run_single_epoch", epoch)
        patch.setattr(AutoencoderNet, "_loss", loss)
        with pytest.raises(NonFiniteLossError, match="in epoch 7"):
            estimator.fit(rows)
    assert_same_memory(estimator.module_.state_dict(), ends[1])
    with pytest.raises(AssertionError):
        assert_same_memory(ends[1], ends[0])
    # Numbers that are not finite, in what the optimiser knows, would spoil the next step.
    for method in (estimator.partial_fit, estimator.fit):
        method(rows)
        assert np.isfinite(weights_of(estimator)).all()
    assert estimator.net_.history[-1, "train_loss"] < estimator.net_.history[0, "train_loss"]


def test_what_nobody_will_come_back_to_is_not_kept(monkeypatch):
    renewed = []
    monkeypatch.setattr(Moment, "renew", lambda self: renewed.append(self))
    net = make_net()
    net.history = {(-1, "train_loss"): 1.0}
    guard = FiniteGuard(n_epochs=3)
    guard.on_train_begin(net)
    for _ in range(3):
        guard.on_epoch_end(net)
    assert len(renewed) == 2
