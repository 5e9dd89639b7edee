"""Do the kinds with a threshold keep what their papers promise, and every kind its target?"""

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

import skae._duplicates
import skae.estimators.sparse
from skae import SparseAutoencoderTransformer
from skae._training.bottlenecks import SparseBottleneck, Step
from skae.sparsity import SPARSITIES, BatchTopK, JumpReLU
from tests.helpers import QUIET, AtStart, generator, low_rank, normal, one_hot

pytestmark = QUIET

N_ROWS, N_UNITS = 40, 6


def at_start(kind, n_active=2.0):
    return AtStart(kind, n_components=N_UNITS, n_active=n_active, generator=generator())


# BatchTopK.


@pytest.mark.parametrize("n_active", [0.5, 1.0, 1.7, 2.0])
def test_batch_keeps_exactly_its_budget_and_rows_share_it(n_active):
    pre = normal(N_ROWS, N_UNITS)
    code = at_start(BatchTopK()).activate_in_training(pre, None, n_active)
    kept = code > 0
    assert kept.sum() == n_active * N_ROWS
    assert pre[kept].min() > pre[~kept].max()
    assert len(set(kept.sum(dim=1).tolist())) > 1
    assert torch.equal(code[kept], pre[kept])


def test_batch_keeps_no_more_than_is_above_zero_and_all_where_the_budget_is_large():
    kind = at_start(BatchTopK())
    pre = normal(N_ROWS, N_UNITS)
    assert torch.equal(kind.activate_in_training(pre, None, 5.9), pre.relu())
    above = pre.abs() + 0.1
    assert torch.equal(kind.activate_in_training(above, None, N_UNITS), above)
    for row_weight in (None, torch.ones(N_ROWS, dtype=torch.float64)):
        code = kind.activate_in_training(above, row_weight, 2 * N_UNITS)
        assert torch.equal(code, above)


def test_weight_of_two_uses_and_brings_as_much_of_the_budget_as_two_rows():
    kind, pre = at_start(BatchTopK()), normal(9, N_UNITS)
    copies = torch.tensor([2, 1, 1, 3, 1, 1, 1, 1, 2])
    weight = copies.double() * len(copies) / copies.sum()
    repeated = torch.repeat_interleave(torch.arange(9), copies)
    for n_active in (0.3, 1.0, 2.5):
        weighted = kind.activate_in_training(pre, weight, n_active)
        rows = kind.activate_in_training(pre[repeated], None, n_active)
        assert torch.equal(weighted[repeated], rows)
        assert weight @ (weighted > 0).double().sum(dim=1) <= n_active * weight.sum() + 1e-9


def test_threshold_of_new_rows_lies_between_what_batches_kept_and_what_not():
    kind, n_active = at_start(BatchTopK()), 1.5
    edges = []
    for seed in range(30):
        pre = normal(N_ROWS, N_UNITS, seed=seed)
        code = kind.activate_in_training(pre, None, n_active)
        edges.append((code[code > 0].min() + pre[code == 0].max()) / 2)
        kind = kind.after(pre=pre, code=code, row_weight=None, n_active=n_active)
    # So far the mean of all batches; later ones count more.
    torch.testing.assert_close(kind.threshold(pre, n_active), torch.stack(edges).mean())
    for seed in range(400):
        pre = 10 * normal(N_ROWS, N_UNITS, seed=seed)
        code = kind.activate_in_training(pre, None, n_active)
        kind = kind.after(pre=pre, code=code, row_weight=None, n_active=n_active)
    new = 10 * normal(4000, N_UNITS, seed=1000)
    rate = (kind.activate(new, n_active) > 0).double().sum(dim=1).mean()
    assert rate == pytest.approx(n_active, rel=0.03)


@pytest.mark.parametrize("empty", [-1.0, 0.0])
def test_batch_without_an_active_unit_leaves_a_finite_threshold(empty):
    kind, pre = at_start(BatchTopK()), torch.full((3, N_UNITS), empty).double()
    code = kind.activate_in_training(pre, None, 1.0)
    assert not code.any()
    after = kind.after(pre=pre, code=code, row_weight=None, n_active=1.0)
    assert after.threshold(pre, 1.0) == 0.0


# JumpReLU.


def jump(bandwidth=0.5, spread=2.0, threshold=1.0):
    """Return a kind whose units have this threshold and spread of input."""
    kind = at_start(JumpReLU(bandwidth))
    logarithm = torch.full((N_UNITS,), threshold / spread, dtype=torch.float64).log()
    kind.state["log_threshold"] = logarithm.requires_grad_()
    kind.state["spread"] = torch.full((N_UNITS,), spread, dtype=torch.float64)
    return kind, kind.state["log_threshold"]


def test_gradients_of_the_threshold_are_the_pseudo_derivatives_of_the_paper():
    # Its equations 11 and 12, with a rectangle; the threshold is trained as its logarithm.
    kind, log_threshold = jump(bandwidth=0.25, spread=2.0, threshold=1.0)
    pre, width = normal(N_ROWS, N_UNITS) + 1.0, 0.25 * 2.0
    near = ((pre - 1.0).abs() < width / 2).double()
    assert 0 < near.sum() < near.numel() / 2
    slope = normal(N_ROWS, N_UNITS, seed=1)  # of the loss by the code
    (found,) = torch.autograd.grad((slope * kind.activate(pre, 2.0)).sum(), [log_threshold])
    by_threshold = -(1.0 / width) * (slope * near).sum(dim=0)
    torch.testing.assert_close(found, by_threshold * 1.0)

    penalty = kind.penalty(pre, kind.activate(pre, 2.0), 1.0, None, None, 2.0)
    assert penalty == (pre > 1.0).double().sum(dim=1).mean()
    (found,) = torch.autograd.grad(penalty, [log_threshold])
    torch.testing.assert_close(found, -near.mean(dim=0) / width * 1.0)


def test_gradient_of_the_number_is_near_that_of_the_expected_number():
    # That is minus the density of the input at the threshold.
    kind, log_threshold = jump(bandwidth=0.2, spread=1.0, threshold=0.5)
    pre = normal(40_000, N_UNITS)
    penalty = kind.penalty(pre, None, 1.0, None, None, 2.0)
    (found,) = torch.autograd.grad(penalty, [log_threshold])
    density = np.exp(-0.125) / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(found, -density * 0.5, rtol=0.05)


@pytest.mark.parametrize("factor", [1e-3, 50.0])
def test_neither_code_nor_gradient_depends_on_the_units_of_the_code(factor):
    codes, gradients = [], []
    for scale in (1.0, factor):
        kind, pre = at_start(JumpReLU()), scale * (normal(N_ROWS, N_UNITS) + 0.5)
        kind = kind.after(pre=pre, code=pre.relu(), row_weight=None, n_active=2.0)
        penalty = kind.penalty(pre, None, 1.0, None, None, 2.0)
        gradients.append(torch.autograd.grad(penalty, [kind.state["log_threshold"]])[0])
        codes.append(kind.activate(pre, 2.0).detach() / scale)
    torch.testing.assert_close(*codes)
    torch.testing.assert_close(*gradients)
    assert gradients[0].any()


def test_unit_whose_input_does_not_spread_has_no_gradient_that_is_not_finite():
    kind, log_threshold = jump(spread=2.0)
    kind.state["spread"] = torch.zeros(N_UNITS, dtype=torch.float64)
    pre = torch.zeros(5, N_UNITS).double().requires_grad_()
    loss = kind.activate(pre, 2.0).sum() + kind.penalty(pre, None, 1.0, None, None, 2.0)
    for gradient in torch.autograd.grad(loss, [log_threshold, pre]):
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("n_rows", [1, 4, 24])
def test_spread_is_that_of_all_rows_so_far_however_they_come_in_batches(n_rows):
    kind, rows = at_start(JumpReLU()), 3 * normal(24, N_UNITS) + 5
    for batch in rows.split(n_rows):
        kind = kind.after(pre=batch, code=batch.relu(), row_weight=None, n_active=2.0)
    torch.testing.assert_close(kind.state["spread"], rows.std(dim=0, correction=0))


@pytest.mark.parametrize("n_active", [1e-300, 1e-18, 1e-3, 1.0, N_UNITS])
def test_thresholds_start_at_a_number_however_few_or_many_units_are_to_be_active(n_active):
    for n_units in (N_UNITS, 10**6):
        start = JumpReLU().parameters_at_start(n_units, n_active, None)["log_threshold"]
        assert torch.isfinite(start).all()


# What rows lack, and a target far off.


def made(kind, n_active, n_units=N_UNITS):
    bottleneck = SparseBottleneck(n_units, SPARSITIES[kind](), n_active, None).train()
    bottleneck.on_train_begin(100)
    return bottleneck


def step(bottleneck, h, row_weight=None):
    given = Step(
        lambda code: code.sum(),
        lambda code: code.sum(dim=1),
        torch.ones(len(h)),
        lambda: 1.0,
        row_weight,
    )
    bottleneck.begin_step()
    terms = bottleneck(h, given)
    bottleneck.end_step()
    return terms


@pytest.mark.parametrize("kind", SPARSITIES)
def test_rows_with_too_few_active_units_are_given_those_that_are_nearest(kind):
    bottleneck = made(kind, n_active=2.0)
    h = torch.tensor([[3.0, -0.1, -1.0, -2.0, -3.0, -4.0], [-5.0, -1.0, -0.2, 3.0, -4.0, -3.0]])
    h = h.requires_grad_()
    assert not step(bottleneck, h)["shortage"].value  # it is not known yet
    bottleneck.on_epoch_begin(0.9)
    bottleneck.dead.zero_()
    weights = []
    for _ in range(5):
        term = step(bottleneck, h)["shortage"]
        weights.append(float(term.weight))
    term.value.backward()
    assert (h.grad < 0).nonzero().tolist() == [[0, 1], [1, 2]]
    assert not (h.grad > 0).any()
    assert weights == sorted(weights)
    assert term.final_weight == 0.0


def test_units_are_not_drawn_up_where_enough_are_active_nor_with_a_weight_of_the_user():
    h = torch.tensor([[1.0, 1.0, -1.0, -1.0, -1.0, -1.0]]).repeat(5, 1)
    enough = made("topk", n_active=2.0)
    for progress in (0.8, 0.9):
        enough.on_epoch_begin(progress)
        assert not step(enough, h)["shortage"].value
    fixed = SparseBottleneck(N_UNITS, SPARSITIES["l1"](), 2.0, 0.1).train()
    assert "shortage" not in step(fixed, h)


def test_units_that_come_up_together_do_not_take_the_budget_of_a_batch():
    h = torch.cat([torch.tensor([[3.0, 2.0]]), -torch.arange(1.0, 11.0)[None]], dim=1)
    drawn = {}
    for kind in ("topk", "batch_topk"):
        bottleneck, rows = made(kind, 2.0, 12), h.repeat(5, 1).requires_grad_()
        bottleneck.on_epoch_begin(0.5)
        step(bottleneck, rows)
        bottleneck.on_epoch_begin(0.6)
        step(bottleneck, rows)["revival"].value.backward()
        drawn[kind] = (rows.grad < 0).sum(dim=1).tolist()
    assert drawn == {"topk": [10] * 5, "batch_topk": [2] * 5}


# Whole fits.


DIGITS = load_digits().data


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array], ids=["dense", "csr"])
@pytest.mark.parametrize("kind", SPARSITIES)
def test_target_is_met_on_training_rows_and_new_ones_and_no_unit_is_dead(kind, form):
    train, new = form(DIGITS[:1200]), form(DIGITS[1200:])
    model = SparseAutoencoderTransformer(48, sparsity=kind, max_iter=60, tol=0.0, random_state=0)
    model.fit(train)
    assert model.n_active_ == pytest.approx(12.0, rel=0.05)
    active = (model.transform(new) > 0).sum(axis=1).mean()
    assert active == pytest.approx(12.0, rel=0.1)
    assert model.n_dead_ == 0


def test_thresholds_that_rows_of_flags_do_not_pass_are_no_reason_for_too_few_active_units():
    rows = one_hot(600, (3, 5, 4, 6, 8, 5, 4))
    model = SparseAutoencoderTransformer(
        40, sparsity="jumprelu", n_active=8, tol=0.0, random_state=0
    ).fit(rows)
    assert model.n_active_ == pytest.approx(8.0, rel=0.05)


def test_dead_units_are_warned_of_with_the_remedy():
    rows = low_rank(40)
    model = SparseAutoencoderTransformer(
        64, sparsity="topk", n_active=1, max_iter=2, tol=10.0, random_state=0
    )
    with pytest.warns(ConvergenceWarning, match=r"\d+ of 64 units are active on no.*n_active"):
        model.fit(rows)
    assert model.n_dead_ == 64 - (model.transform(rows) > 0).any(axis=0).sum() > 0


def test_unit_that_only_rows_beyond_those_looked_back_on_use_is_not_dead(monkeypatch):
    for module in (skae._duplicates, skae.estimators.sparse):
        monkeypatch.setattr(module, "ROWS_TO_LOOK_BACK_ON", 5)
    rows = low_rank(400)
    model = SparseAutoencoderTransformer(16, sparsity="topk", n_active=1, random_state=0).fit(rows)
    assert len(model._model.training_codes) == 5
    used = (model.transform(rows) > 0).any(axis=0).sum()
    assert used > 5
    assert model.n_dead_ <= 16 - used


def test_dead_units_are_those_of_the_rows_whatever_their_weights():
    rows = load_digits().data[:60]
    weighed = SparseAutoencoderTransformer(64, sparsity="topk", n_active=2, max_iter=3)
    weighed.set_params(random_state=0).fit(rows, sample_weight=np.linspace(1, 2, 60))
    assert weighed.n_dead_ == (weighed.transform(rows) == 0).all(axis=0).sum()


def test_a_call_of_few_rows_does_not_make_units_dead():
    rows = load_digits().data[:600]
    model = SparseAutoencoderTransformer(32, sparsity="topk", n_active=4, random_state=0)
    assert model.fit(rows).n_dead_ == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model.partial_fit(rows[:20])
    assert model.n_dead_ == 0
