"""Does every kind of sparsity make codes with exact zeros, and charge for the rest as it says?"""

import numpy as np
import pytest
import torch
from scipy.special import rel_entr
from torch import nn

from skae.networks import MLP, Layout, decoder_gains, linear_layers
from skae.sparsity import KL, L1, L2, SPARSITIES, TopK
from tests.helpers import PENALTIES, AtStart, generator, normal

N_ROWS, N_UNITS = 40, 6

laws = pytest.mark.parametrize("name", SPARSITIES)
penalty_laws = pytest.mark.parametrize("name", PENALTIES)


def made(name):
    """Return a kind as its name makes it, beside the state that it starts with."""
    kind = SPARSITIES[name]()
    return AtStart(kind, n_components=N_UNITS, n_active=2.0, generator=generator())


def some_decoder():
    layout = Layout(5, N_UNITS, (7, 4), "relu")
    return MLP().build(layout, N_UNITS, 5, seed=0)[1].double()


def penalty_of(kind, pre, n_active, gains=1.0, row_weight=None):
    """Return the penalty where every recent batch was like this one."""
    code = kind.activate(pre, n_active)
    if isinstance(kind, AtStart):
        seen = {"pre": pre.detach().double(), "code": code.detach(), "row_weight": row_weight}
        kind = kind.after(**seen, n_active=n_active)
        code = kind.activate(pre, n_active)
    active = (code.detach() > 0).to(pre.dtype)
    rate = active.mean(dim=0) if row_weight is None else row_weight @ active / len(active)
    return kind.penalty(pre, code, gains, rate, row_weight, n_active)


def gradient_of(kind, pre, n_active, row_weight=None):
    pre = pre.clone().requires_grad_()
    penalty = penalty_of(kind, pre, n_active, row_weight=row_weight)
    return torch.autograd.grad(penalty, [pre], materialize_grads=True)[0]


def with_rate(rate, n_rows=50, n_units=4):
    """Return inputs of units of which each is above zero in a share ``rate`` of the rows."""
    pre = 0.1 + normal(n_rows, n_units).abs()
    above = torch.arange(n_rows)[:, None] < rate * n_rows - 1e-6
    return torch.where(above, pre, -pre)


# The code.


@laws
@pytest.mark.parametrize("n_active", [1, 2, 3.4, 100])
def test_codes_are_not_negative_and_have_exact_zeros(name, n_active):
    pre = normal(N_ROWS, N_UNITS)
    code = made(name).activate(pre, n_active)
    assert code.shape == pre.shape
    assert (code >= 0).all()
    assert (code[pre <= 0] == 0).all()
    # What is active is the encoder's output, unchanged.
    assert torch.equal(code[code > 0], pre[code > 0])


@laws
def test_rows_below_zero_have_empty_codes(name):
    assert not made(name).activate(-1 - normal(5, N_UNITS).abs(), 2).any()


@laws
def test_a_unit_is_active_where_it_passes_the_threshold(name):
    pre, kind = normal(N_ROWS, N_UNITS), made(name)
    active = kind.activate(pre, 2) > 0
    assert torch.equal(active, (pre >= kind.threshold(pre, 2)) & (pre > 0))


@laws
def test_gradient_reaches_active_units_alone(name):
    pre = normal(N_ROWS, N_UNITS).requires_grad_()
    code = made(name).activate(pre, 2)
    code.sum().backward()
    assert torch.equal(pre.grad, (code > 0).double())


@laws
def test_code_of_a_row_does_not_depend_on_the_rows_beside_it(name):
    pre, kind = normal(N_ROWS, N_UNITS), made(name)
    assert torch.equal(kind.activate(pre, 2)[:3], kind.activate(pre[:3], 2))


@pytest.mark.parametrize(("n_active", "kept"), [(0.2, 1), (1, 1), (2, 2), (2.6, 3), (6, 6), (9, 6)])
def test_topk_keeps_the_largest_units_and_no_more(n_active, kept):
    pre = 0.01 + normal(N_ROWS, N_UNITS).abs()
    code = TopK().activate(pre, n_active)
    assert ((code > 0).sum(dim=1) == kept).all()
    torch.testing.assert_close(code.topk(kept).values, pre.topk(kept).values)


def test_topk_keeps_no_more_where_units_are_equal():
    code = TopK().activate(torch.ones(4, N_UNITS), 2)
    assert ((code > 0).sum(dim=1) == 2).all()


def test_topk_cuts_what_is_below_zero_although_it_is_among_the_largest():
    code = TopK().activate(torch.tensor([[3.0, -1.0, -2.0]]), 2)
    assert code.tolist() == [[3.0, 0.0, 0.0]]


# The penalty.


@penalty_laws
def test_kind_whose_penalty_does_not_look_at_gains_says_so(name):
    kind, pre = made(name), normal(N_ROWS, N_UNITS)
    found, other = (penalty_of(kind, pre, 2, gains=factor) for factor in (1.0, 3.0))
    assert bool(found != other) == SPARSITIES[name].uses_gains


@penalty_laws
def test_penalty_is_a_scalar_and_grows_with_activity_above_the_target(name):
    kind, pre = made(name), normal(N_ROWS, N_UNITS)
    values = [penalty_of(kind, pre + shift, n_active=1) for shift in (0.0, 0.5, 1.0)]
    assert all(value.ndim == 0 for value in values)
    assert values[0] < values[1] < values[2]


@penalty_laws
@pytest.mark.parametrize("n_active", [0.01, 1, 3, N_UNITS])
def test_gradient_of_the_penalty_is_finite(name, n_active):
    pre = normal(N_ROWS, N_UNITS)
    cases = [pre, 0 * pre, -pre.abs(), pre.abs(), 1e4 * pre, torch.ones_like(pre), pre[:1]]
    for case in cases:
        for dtype in (torch.float32, torch.float64):
            gradient = gradient_of(made(name), case.to(dtype), n_active)
            assert torch.isfinite(gradient).all()


@penalty_laws
@pytest.mark.parametrize("factor", [1e-3, 50.0])
def test_scaling_the_code_up_and_the_decoder_down_does_not_escape_the_penalty(name, factor):
    kind, decoder, pre = made(name), some_decoder(), normal(N_ROWS, N_UNITS)
    before = penalty_of(kind, pre, 2, decoder_gains(decoder))
    with torch.no_grad():
        linear_layers(decoder)[0].weight /= factor
    after = penalty_of(kind, factor * pre, 2, decoder_gains(decoder))
    torch.testing.assert_close(after, before)


@penalty_laws
@pytest.mark.parametrize("layers", [(0, 1), (0, 2), (1, 2)])
def test_moving_a_factor_between_decoder_layers_does_not_escape_the_penalty(name, layers):
    kind, decoder, pre = made(name), some_decoder(), normal(N_ROWS, N_UNITS)
    before = penalty_of(kind, pre, 2, decoder_gains(decoder))
    with torch.no_grad():
        linear_layers(decoder)[layers[0]].weight *= 20.0
        linear_layers(decoder)[layers[1]].weight /= 20.0
    after = penalty_of(kind, pre, 2, decoder_gains(decoder))
    torch.testing.assert_close(after, before)


@pytest.mark.parametrize("kind", [L1(), L2()], ids=str)
def test_stronger_decoder_pays_more(kind):
    pre = normal(N_ROWS, N_UNITS)
    gains = decoder_gains(some_decoder())
    assert penalty_of(kind, pre, 2, 3 * gains) > penalty_of(kind, pre, 2, gains) > 0


@penalty_laws
def test_weight_of_two_is_the_row_twice(name):
    kind, pre = made(name), normal(9, N_UNITS)
    copies = torch.tensor([2, 1, 1, 3, 1, 1, 1, 1, 2])
    weight = copies.double() * len(copies) / copies.sum()
    repeated = torch.repeat_interleave(torch.arange(9), copies)

    weighted = penalty_of(kind, pre, 2, row_weight=weight)
    torch.testing.assert_close(weighted, penalty_of(kind, pre[repeated], 2))
    # The copies of a row share its gradient.
    of_copies = torch.zeros_like(pre).index_add(0, repeated, gradient_of(kind, pre[repeated], 2))
    torch.testing.assert_close(gradient_of(kind, pre, 2, row_weight=weight), of_copies)


@penalty_laws
def test_penalty_does_not_depend_on_how_many_rows_a_batch_has(name):
    kind, pre = made(name), normal(N_ROWS, N_UNITS)
    torch.testing.assert_close(penalty_of(kind, pre, 2), penalty_of(kind, pre.repeat(3, 1), 2))


def test_l1_is_the_mean_sum_of_activations_times_gains():
    pre = torch.tensor([[1.0, 2.0], [3.0, -4.0]])
    assert float(penalty_of(L1(), pre, 1, torch.tensor([10.0, 1.0]))) == (10 + 2 + 30) / 2


def test_l2_is_the_square_of_the_mean_activation_times_gain():
    pre = torch.tensor([[1.0, 2.0], [3.0, -4.0]])
    assert float(penalty_of(L2(), pre, 1, torch.tensor([10.0, 1.0]))) == 20.0**2 + 1.0**2


def test_l2_prefers_few_strong_activations_at_the_same_energy():
    spread, rare = torch.ones(16, 1), torch.zeros(16, 1)
    rare[0] = 4.0
    assert spread.square().sum() == rare.square().sum()
    assert penalty_of(L2(), rare, 1) < penalty_of(L2(), spread, 1)


def test_l1_codes_of_an_orthonormal_decoder_are_soft_thresholds():
    n_features, amount = 8, 0.4
    decoder = nn.Linear(N_UNITS, n_features, bias=False).double()
    D = torch.linalg.qr(normal(n_features, N_UNITS))[0]
    with torch.no_grad():
        decoder.weight.copy_(D)
    x, kind = normal(N_ROWS, n_features, seed=1), L1()
    gains = decoder_gains(decoder).detach()

    pre = torch.ones(N_ROWS, N_UNITS, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([pre], lr=0.5 * N_ROWS)  # the loss is a mean over rows
    for _ in range(60):
        optimizer.zero_grad()
        error = 0.5 * (x - kind.activate(pre, 1) @ D.T).square().sum(dim=1).mean()
        (error + amount * penalty_of(kind, pre, 1, gains)).backward()
        optimizer.step()

    expected = (x @ D - amount).relu()
    assert 0.2 < (expected > 0).double().mean() < 0.8
    torch.testing.assert_close(kind.activate(pre.detach(), 1), expected)


@pytest.mark.parametrize("target", [0.02, 0.2, 0.5, 0.9])
def test_kl_is_zero_at_the_target_rate(target):
    found = penalty_of(KL(), with_rate(target), n_active=4 * target)
    assert float(found) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(("rate", "target"), [(0.2, 0.5), (0.6, 0.1), (0.98, 0.5)])
def test_kl_is_the_divergence_between_the_rates(rate, target):
    expected = 4 * (rel_entr(target, rate) + rel_entr(1 - target, 1 - rate))
    # The rates are kept a thousandth away from 0 and 1, hence the tolerance.
    assert float(penalty_of(KL(), with_rate(rate), 4 * target)) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("target", [0.1, 0.5])
def test_gradient_of_kl_drives_every_unit_to_the_target(target):
    for rate in (0.0, 0.02, 0.06):
        assert (gradient_of(KL(), with_rate(rate), 4 * target) < 0).all()
    for rate in (0.6, 0.96, 1.0):
        assert (gradient_of(KL(), with_rate(rate), 4 * target) > 0).all()


def test_gradient_of_kl_wakes_units_at_a_very_small_target_as_well():
    # One active unit in four thousand: a target below the margin that keeps the logarithms finite.
    n_units = 4000
    pre = -normal(50, n_units).abs()
    assert (gradient_of(KL(), pre, n_active=1) < 0).all()


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_gradient_of_kl_is_that_of_a_logistic_function_as_wide_as_the_input_spreads(scale):
    pre = scale * (0.7 + normal(N_ROWS, N_UNITS))
    width = pre.std(dim=0, correction=0)
    soft = torch.sigmoid(pre / width)
    slope = soft * (1 - soft) / width
    gradient = gradient_of(KL(), pre, n_active=2)
    # The factor of a unit, the slope of the divergence at its rate, is the same for all rows.
    factor = gradient.sum(dim=0) / slope.sum(dim=0)
    torch.testing.assert_close(gradient, factor * slope)
    rate = (pre > 0).double().mean(dim=0)
    of_rates = (-2 / N_UNITS / rate + (1 - 2 / N_UNITS) / (1 - rate)) / N_ROWS
    torch.testing.assert_close(factor, of_rates, rtol=0.02, atol=0)


def test_kl_counts_the_units_of_the_code_and_not_their_size():
    pre = with_rate(0.4)
    torch.testing.assert_close(penalty_of(KL(), pre, 1), penalty_of(KL(), 100 * pre, 1))


def test_kl_charges_each_unit_for_itself():
    balanced = with_rate(0.5, n_units=2)
    uneven = torch.cat([with_rate(1.0, n_units=1), with_rate(0.0, n_units=1)], dim=1)
    np.testing.assert_allclose((balanced > 0).sum(), (uneven > 0).sum())
    assert penalty_of(KL(), uneven, 1) > 1 > penalty_of(KL(), balanced, 1)
