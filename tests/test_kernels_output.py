"""Is the loss of CSR rows that of dense ones, with all its gradients, for every likelihood?"""

import itertools
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from skae._kernels import gram, last_layer, output
from skae._kernels.columns import Columns
from skae._kernels.last_layer import LastLayerInputs, LossOptions
from skae._kernels.output import csr_log_likelihood, csr_loss
from skae.likelihoods import Gaussian, Likelihood
from tests.helpers import LIKELIHOOD_VARIANTS, assert_rounding_apart, generator, normal
from tests.test_kernels_rows import csr_of

every_likelihood = pytest.mark.parametrize("likelihood", LIKELIHOOD_VARIANTS, ids=str)
N_FEATURES, N_HIDDEN = 11, 4


class Case(NamedTuple):
    """Rows, and what their likelihood depends on, in double precision."""

    x: torch.Tensor
    hidden: torch.Tensor
    layer: nn.Linear
    likelihood: Likelihood
    free: dict

    def parameters(self):
        return [self.hidden, *self.layer.parameters(), *self.free.values()]

    def total(self):
        return self.x.sum(dim=1, keepdim=True) if self.likelihood.conditional_on_total else None

    def inputs(self):
        return LastLayerInputs(self.hidden, self.layer, self.likelihood, self.free, self.total())

    def csr(self):
        return csr_of(self.x)

    def gradients(self, value):
        found = torch.autograd.grad(value, self.parameters(), allow_unused=True)
        return [
            torch.zeros_like(parameter) if g is None else g.to_dense() if g.is_sparse else g
            for parameter, g in zip(self.parameters(), found, strict=True)
        ]


ROWS = {
    "some": lambda x: x,
    "with empty rows": lambda x: x * torch.tensor([[1.0], [0.0]]).double().repeat(5, 1)[: len(x)],
    "nothing stored": torch.zeros_like,
    "one": lambda x: x[:1],
    "one entry": lambda x: torch.zeros_like(x).index_put_(
        (torch.tensor(2), torch.tensor(5)), torch.tensor(1.0).double()
    ),
    "full": lambda x: x + (x == 0),
}


def make_case(likelihood, rows="some", n_features=N_FEATURES, seed=0, n_rows=9):
    x = torch.poisson(torch.full((n_rows, n_features), 0.5).double(), generator=generator(seed))
    if not likelihood.inside(np.array(2.0)):
        x = x.clamp_max(1)
    elif likelihood.inside(np.array(0.5)):
        x = x * normal(*x.shape, seed=seed + 1).exp()  # amounts
    if likelihood.inside(np.array(-1.0)):
        x = x * normal(*x.shape, seed=seed + 2).sign()
    x = ROWS[rows](x)
    start = likelihood.parameters_at_start(
        torch.linspace(0.2, 0.8, n_features).double(), torch.linspace(0.5, 2.0, n_features).double()
    )
    free = {
        name: (value + 0.3 * normal(*value.shape, seed=seed + 3)).requires_grad_()
        for name, value in start.items()
    }
    layer = nn.Linear(N_HIDDEN, likelihood.n_outputs * n_features).double()
    with torch.no_grad():
        layer.weight.copy_(0.5 * normal(*layer.weight.shape, seed=seed + 4))
        layer.bias.copy_(0.5 * normal(*layer.bias.shape, seed=seed + 5))
    hidden = normal(len(x), N_HIDDEN, seed=seed + 6).requires_grad_()
    return Case(x, hidden, layer, likelihood, free)


def dense_log_likelihood(case, variance_weighted=False):
    """Return what the formulas give for dense rows, with gradients through all of them."""
    raw = case.layer(case.hidden)
    scale = case.likelihood.variance_weight(**case.free) if variance_weighted else None
    if scale is not None:
        raw.register_hook(lambda gradient: gradient * scale)
    given = {"total": case.total()} if case.likelihood.conditional_on_total else {}
    return case.likelihood.log_prob(case.x, raw, **case.free, **given).sum(dim=1)


def some_weights(case):
    weight = 0.5 + torch.rand(len(case.x), generator=generator(7), dtype=torch.float64)
    return weight / weight.sum()


def close(one, other, tolerance=1e-9):
    torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def chunks_of(monkeypatch, n_columns):
    monkeypatch.setattr(last_layer, "_COLUMNS_PER_CHUNK", n_columns)
    monkeypatch.setattr(gram, "_CELLS_PER_CHUNK", n_columns * N_HIDDEN)


# All columns.


@every_likelihood
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("chunk", [4, 1000])
@pytest.mark.parametrize("variance_weighted", [False, True])
def test_loss_and_every_gradient_are_those_of_dense_rows(
    likelihood, rows, chunk, variance_weighted, monkeypatch
):
    chunks_of(monkeypatch, chunk)
    case = make_case(likelihood, rows)
    weight = some_weights(case)
    expected = -(dense_log_likelihood(case, variance_weighted) @ weight)
    found = csr_loss(
        case.csr(), case.inputs(), LossOptions(weight, variance_weighted=variance_weighted)
    )
    assert found.shape == ()
    close(found, expected)
    close(case.gradients(3 * found), case.gradients(3 * expected))


@every_likelihood
@pytest.mark.parametrize("n_features", [1, 2])
def test_tables_of_one_column_are_no_exception(likelihood, n_features):
    case = make_case(likelihood, n_features=n_features)
    weight = some_weights(case)
    found = csr_loss(case.csr(), case.inputs(), LossOptions(weight))
    expected = -(dense_log_likelihood(case) @ weight)
    close(found, expected)
    close(case.gradients(found), case.gradients(expected))


@every_likelihood
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("chunk", [1, 4, 1000])
def test_log_likelihood_of_each_row_is_that_of_dense_rows(likelihood, rows, chunk, monkeypatch):
    chunks_of(monkeypatch, chunk)
    case = make_case(likelihood, rows)
    found = csr_log_likelihood(case.csr(), case.inputs())
    assert not found.requires_grad
    close(found, dense_log_likelihood(case).detach())


@every_likelihood
@pytest.mark.parametrize("chunk", [64, 1000])
def test_log_likelihood_of_a_row_does_not_depend_on_the_rows_beside_it(
    likelihood, chunk, monkeypatch
):
    chunks_of(monkeypatch, chunk)
    case = make_case(likelihood, n_features=301, n_rows=112)
    x = csr_of(case.x.float())
    free = {name: value.detach().float() for name, value in case.free.items()}
    hidden, total = case.hidden.detach().float(), case.total()

    def answers(rows):
        of_rows = None if total is None else total.float()[rows]
        given = LastLayerInputs(hidden[rows], case.layer.float(), likelihood, free, of_rows)
        return csr_log_likelihood(x.take(rows), given)

    together = answers(torch.arange(112))
    for rows in torch.arange(112).split([1, 15, 32, 64]):
        assert_rounding_apart(answers(rows), together[rows])


@pytest.mark.parametrize("variance_weighted", [False, True])
@pytest.mark.parametrize("variance", ["per_feature", "shared"])
@pytest.mark.parametrize("rows", ROWS)
def test_squared_errors_through_the_gram_matrix_are_those_of_every_cell(
    variance_weighted, variance, rows, monkeypatch
):
    case = make_case(Gaussian(variance), rows)
    weight = some_weights(case)
    answers = []
    for structure in ("squared_error", "independent"):
        monkeypatch.setattr(Gaussian, "structure", structure)
        loss = csr_loss(
            case.csr(), case.inputs(), LossOptions(weight, variance_weighted=variance_weighted)
        )
        answers.append([loss.detach(), *case.gradients(loss)])
    close(*answers)


def test_gram_way_is_taken_for_squared_errors_and_for_nothing_else(monkeypatch):
    taken = []
    original = output.gaussian_loss
    monkeypatch.setattr(output, "gaussian_loss", lambda *a: taken.append(1) or original(*a))
    for likelihood in LIKELIHOOD_VARIANTS:
        case = make_case(likelihood)
        csr_loss(case.csr(), case.inputs(), LossOptions(some_weights(case)))
    assert len(taken) == sum(isinstance(one, Gaussian) for one in LIKELIHOOD_VARIANTS)


@every_likelihood
@pytest.mark.parametrize("chunk", [1, 4, 1000])
def test_raw_outputs_are_never_made_for_more_columns_than_a_chunk_has(
    likelihood, chunk, monkeypatch
):
    chunks_of(monkeypatch, chunk)
    case, made = make_case(likelihood), []
    original = last_layer.LastLayer.raw
    monkeypatch.setattr(
        last_layer.LastLayer, "raw", lambda *a: made.append(original(*a)) or made[-1]
    )
    csr_loss(case.csr(), case.inputs(), LossOptions(some_weights(case)))
    csr_log_likelihood(case.csr(), case.inputs())
    n_columns = [len(raw.T) // likelihood.n_outputs for raw in made]
    assert max(n_columns) == min(chunk, N_FEATURES)


# Of each row, with a gradient.


@every_likelihood
@pytest.mark.parametrize("upstream", [[0.0] * 4, [0.5, 0.0, -2.0, 1.0]], ids=["zeros", "mixed"])
@pytest.mark.parametrize("frozen", [(), (0,), (1,), (2,), (1, 2), (3,)], ids=str)
def test_gradient_of_the_log_likelihood_of_each_row_is_that_of_dense_rows(
    likelihood, upstream, frozen
):
    case, upstream = make_case(likelihood, n_rows=4), torch.tensor(upstream).double()
    trained = []
    for place, parameter in enumerate(case.parameters()):
        parameter.requires_grad_(place not in frozen)
        trained += [parameter] * parameter.requires_grad
    options = LossOptions(torch.ones(4).double())
    found = csr_log_likelihood(case.csr(), case.inputs(), options)
    expected = dense_log_likelihood(case)
    close(found, expected)
    gradients = [
        torch.autograd.grad(value, trained, upstream, materialize_grads=True)
        for value in (found, expected)
    ]
    close(*gradients)


@every_likelihood
def test_a_second_derivative_is_refused_and_never_wrong(likelihood):
    case = make_case(likelihood)
    options = LossOptions(some_weights(case))
    losses = csr_loss, lambda *given: csr_log_likelihood(*given).sum()
    for loss in losses:
        value = loss(case.csr(), case.inputs(), options)
        (slope,) = torch.autograd.grad(value, [case.hidden], create_graph=True)
        with pytest.raises(RuntimeError, match=r"once_differentiable|does not require grad"):
            slope.sum().backward()


# Some columns for all.

SAMPLED = [one for one in LIKELIHOOD_VARIANTS if one.structure != "squared_error"]
by_sample = pytest.mark.parametrize("likelihood", SAMPLED, ids=str)
sums = pytest.mark.parametrize(
    "likelihood", [one for one in SAMPLED if one.structure == "independent"], ids=str
)


def columns_of(index, weight=None):
    index = torch.as_tensor(index)
    weight = torch.ones(len(index)) if weight is None else torch.as_tensor(weight)
    return Columns(index, weight.double())


@by_sample
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("row_gradients", [False, True])
def test_all_columns_drawn_with_certainty_are_the_exact_loss(likelihood, rows, row_gradients):
    case = make_case(likelihood, rows)
    weight = some_weights(case)
    exact = csr_loss(case.csr(), case.inputs(), LossOptions(weight))
    options = LossOptions(weight, columns_of(range(N_FEATURES)), row_gradients=row_gradients)
    sampled = csr_loss(case.csr(), case.inputs(), options)
    close(sampled, exact)
    close(case.gradients(sampled), case.gradients(exact))


@sums
@pytest.mark.parametrize("rows", ["some", "with empty rows", "nothing stored", "one"])
def test_sampled_loss_follows_its_formula(likelihood, rows):
    case = make_case(likelihood, rows)
    weight, index = some_weights(case), [1, 4, 8]
    of_columns = torch.tensor([1.0, 2.5, 4.0]).double()
    options = LossOptions(weight, columns_of(index, of_columns), row_gradients=True)
    found = csr_loss(case.csr(), case.inputs(), options)
    # What entries add over zeros, and zeros: of the row's own columns once, and of some columns
    # each so many times.
    given = {"total": case.total()} if likelihood.conditional_on_total else {}
    raw = case.layer(case.hidden)
    zeros = likelihood.log_prob_zero(raw, **case.free, **given)
    entries = likelihood.log_prob(case.x, raw, **case.free, **given) - zeros
    entries = entries[:, (case.x != 0).any(dim=0)].sum(dim=1)
    times = torch.zeros(N_FEATURES).double()
    times[index] = of_columns
    once = torch.where(case.x != 0, 1.0, times)
    expected = -(weight @ (entries + (zeros * once).sum(dim=1)))
    close(found, expected)
    close(case.gradients(found), case.gradients(expected))


@by_sample
def test_gradients_have_rows_for_the_columns_drawn_or_in_use_alone(likelihood):
    case = make_case(likelihood, n_features=200)
    rows = torch.arange(200) % 40 == 0
    case = case._replace(x=case.x * rows)
    used = case.csr().by_column.columns
    index = torch.tensor([3, 120])
    for row_gradients in (True, False):
        options = LossOptions(some_weights(case), columns_of(index), row_gradients=row_gradients)
        loss = csr_loss(case.csr(), case.inputs(), options)
        of_hidden, *others = torch.autograd.grad(loss, case.parameters())
        assert not of_hidden.is_sparse
        for gradient in others:
            assert gradient.is_sparse == row_gradients
            if row_gradients:
                expected = torch.cat([used, index]).unique()
                n_outputs = len(gradient) // 200
                expected = torch.cat([expected + 200 * i for i in range(n_outputs)])
                assert torch.equal(gradient.indices()[0], expected)


def every_sample(probability, n_tail, n_grid):
    """Yield (places, share) of all that systematic samples of a small tail can be.

    For every order of the tail and every start in the middle of a grid cell. The probabilities are
    multiples of 1 / n_grid, so all starts within a cell find the same columns.
    """
    orders = list(itertools.permutations(range(len(probability))))
    for order in orders:
        ends = np.cumsum(probability[list(order)])
        for cell in range(n_grid):
            points = (cell + 0.5) / n_grid + np.arange(n_tail)
            yield np.array(order)[np.searchsorted(ends, points)], 1 / (len(orders) * n_grid)


@sums
def test_sampled_loss_and_gradients_are_right_on_average(likelihood):
    n_features, head = 8, [0, 3, 6]
    case = make_case(likelihood, n_features=n_features, n_rows=3)
    tail = np.array([j for j in range(n_features) if j not in head])
    probability = np.array([0.1, 0.2, 0.3, 0.6, 0.8])
    weight, x, inputs = some_weights(case), case.csr(), case.inputs()
    exact = csr_loss(x, inputs, LossOptions(weight))
    expected = [exact.detach(), *case.gradients(exact)]
    shares = {}
    for places, share in every_sample(probability, 2, 10):
        key = tuple(sorted(places.tolist()))
        shares[key] = shares.get(key, 0.0) + share
    assert sum(shares.values()) == pytest.approx(1.0)
    mean = [torch.zeros_like(part) for part in expected]
    for places, share in shares.items():
        index = np.concatenate([head, tail[list(places)]])
        counts = np.concatenate([np.ones(3), 1 / probability[list(places)]])
        order = np.argsort(index)
        loss = csr_loss(x, inputs, LossOptions(weight, columns_of(index[order], counts[order])))
        for total, part in zip(mean, [loss.detach(), *case.gradients(loss)], strict=True):
            total += share * part
    close(mean, expected)
    assert len(shares) > 5


def test_loss_cannot_be_differentiated_twice():
    case = make_case(LIKELIHOOD_VARIANTS[1])
    loss = csr_loss(case.csr(), case.inputs(), LossOptions(some_weights(case)))
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once only"):
        loss.backward()
