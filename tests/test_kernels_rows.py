"""Are products, sums and optimiser steps on CSR rows what they are on dense ones?"""

import copy
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skae._kernels import csr as csr_file
from skae._kernels import optimizer as optimizer_file
from skae._kernels.csr import Csr
from skae._kernels.input import InputLayer
from skae._kernels.optimizer import SGD, AdamW, RowAdamW
from skae._kernels.rows import row_gradient
from tests.helpers import generator, normal

INDEX_TYPES = (torch.int32, torch.int64)
index_types = pytest.mark.parametrize("index_type", INDEX_TYPES, ids=str)


def sparse_table(n_rows=9, n_features=7, density=0.3, seed=0):
    """Return dense rows, most of them zeros, in double precision."""
    x = normal(n_rows, n_features, seed=seed)
    return x * (torch.rand(x.shape, generator=generator(seed + 1)) < density)


def csr_of(dense, index_type=torch.int32):
    """Return dense rows as CSR."""
    X = sp.csr_array(dense.numpy())
    indptr, indices = (torch.as_tensor(part, dtype=index_type) for part in (X.indptr, X.indices))
    return Csr(indptr, indices, torch.as_tensor(X.data), X.shape[1])


@st.composite
def tables(draw):
    """Draw dense rows: also none stored, empty rows, one row, one column, full."""
    n_rows, n_features = draw(st.integers(1, 8)), draw(st.integers(1, 6))
    density = draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    return sparse_table(n_rows, n_features, density, seed=draw(st.integers(0, 999)))


def every_table(test):
    """Run a test on many tables with both types of indices."""
    test = given(dense=tables(), index_type=st.sampled_from(INDEX_TYPES), data=st.data())(test)
    return settings(max_examples=60, deadline=None, derandomize=True, database=None)(test)


def same(one, other):
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


# The rows.


@every_table
def test_rows_come_from_scipy_and_from_entries_as_they_are(dense, index_type, data):
    x = csr_of(dense, index_type)
    assert x.shape == tuple(dense.shape)
    assert len(x) == len(dense)
    assert x.indices.dtype == x.indptr.dtype == index_type
    assert torch.equal(x.dense(), dense)
    assert torch.equal(x.rows, dense.nonzero()[:, 0])
    row, column = dense.nonzero(as_tuple=True)
    again = Csr.from_entries(row, column, dense[row, column], tuple(dense.shape))
    assert torch.equal(again.dense(), dense)
    assert again.rows is row
    worked_out = Csr(again.indptr, again.indices, again.values, again.n_features)
    assert torch.equal(worked_out.rows, row)


@pytest.mark.parametrize("numpy_type", [np.int32, np.int64])
@pytest.mark.parametrize("kind", [sp.csr_array, sp.csr_matrix])
def test_rows_of_scipy_keep_their_type_of_indices_and_lose_precision(kind, numpy_type):
    X = kind(sparse_table().numpy())
    X.indices, X.indptr = X.indices.astype(numpy_type), X.indptr.astype(numpy_type)
    x = Csr.from_scipy(X)
    assert x.indices.numpy().dtype == x.indptr.numpy().dtype == numpy_type
    assert x.values.dtype == torch.float32
    np.testing.assert_array_equal(x.dense(), X.toarray().astype(np.float32))


@every_table
def test_rows_are_taken_in_any_order_and_number(dense, index_type, data):
    n = len(dense)
    index = torch.tensor(data.draw(st.lists(st.integers(0, n - 1), max_size=10)), dtype=torch.int64)
    taken = csr_of(dense, index_type).take(index)
    assert torch.equal(taken.dense(), dense[index])
    assert taken.indptr.dtype == index_type


@every_table
def test_rows_are_split_without_copies_of_their_entries(dense, index_type, data):
    first = data.draw(st.integers(0, len(dense)))
    sizes, x = [first, len(dense) - first], csr_of(dense, index_type)
    for part, expected in zip(x.split(sizes), dense.split(sizes), strict=True):
        assert torch.equal(part.dense(), expected)
        storage = part.values.untyped_storage().data_ptr()
        assert storage == x.values.untyped_storage().data_ptr()


@every_table
def test_empty_rows_are_put_at_the_end(dense, index_type, data):
    missing = data.draw(st.integers(0, 3))
    found = csr_of(dense, index_type).filled_up(len(dense) + missing)
    assert torch.equal(found.dense(), nn.functional.pad(dense, (0, 0, 0, missing)))


@every_table
def test_sums_of_rows_and_of_columns_in_use(dense, index_type, data):
    x = csr_of(dense, index_type)
    same(x.totals(), dense.sum(dim=1, keepdim=True))
    same(x.row_sums(x.values.square()), dense.square().sum(dim=1))
    used = (dense != 0).any(dim=0).nonzero()[:, 0]
    assert torch.equal(x.by_column.columns, used)
    same(x.column_sums(x.values.square()), dense.square().sum(dim=0)[used])


@every_table
def test_entries_by_column_are_those_by_row_in_another_order(dense, index_type, data):
    x = csr_of(dense, index_type)
    columns, offsets, order, rows = x.by_column
    column, row = dense.T.nonzero(as_tuple=True)
    assert torch.equal(columns.repeat_interleave(offsets.diff()), column)
    assert torch.equal(rows, row)
    assert torch.equal(x.values[order], dense[row, column])


@every_table
def test_products_are_those_of_dense_rows(dense, index_type, data):
    x, k = csr_of(dense, index_type), data.draw(st.integers(1, 4))
    left, right = normal(len(dense), k, seed=3), normal(x.n_features, k, seed=4)
    same(x.product(right), dense @ right)
    same(x.transposed_product(left), (dense.T @ left)[x.by_column.columns])
    dots = (left @ right.T)[dense != 0]
    same(x.dots(left, right), dots)
    same(csr_file._gathered_dots(x, left, right), dots)
    same(csr_file._gathered_dots(x, left, right, n_at_once=2), dots)


@index_types
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_products_do_not_listen_to_gradients_and_keep_the_precision(index_type, dtype):
    x = csr_of(sparse_table(), index_type)
    x = x.with_values(x.values.to(dtype))
    left = normal(9, 3).to(dtype).requires_grad_()
    right = normal(7, 3).to(dtype).requires_grad_()
    for found in (x.product(right), x.transposed_product(left), x.dots(left, right)):
        assert found.dtype == dtype
        assert not found.requires_grad


def test_dots_without_the_library_are_gathered(monkeypatch):
    x, left, right = csr_of(sparse_table()), normal(9, 3), normal(7, 3)
    expected = x.dots(left, right)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    monkeypatch.setattr(csr_file, "_sampled_product", None)
    same(x.dots(left, right), expected)


def test_other_values_in_the_same_places_share_what_is_known_of_them():
    x = csr_of(sparse_table())
    before = x.with_values(-x.values)  # where nothing was known yet
    known = before.by_column, before.rows
    other = x.with_values(2 * x.values)
    for rows in (x, other):
        assert rows.by_column is known[0]
        assert rows.rows is known[1]
    assert torch.equal(other.dense(), 2 * x.dense())
    assert torch.equal(
        other.transposed_product(torch.ones(9, 1).double())[:, 0], 2 * x.column_sums(x.values)
    )


def test_rows_on_their_device_are_the_same_object():
    x = csr_of(sparse_table())
    assert x.to("cpu") is x
    assert x.to("meta").device.type == "meta"


# Gradients of some rows.


@pytest.mark.parametrize("sparse", [False, True])
def test_gradient_of_some_rows_is_sparse_where_the_optimiser_takes_one(sparse):
    rows, values = torch.arange(14) * 6, normal(14, 3)
    found = row_gradient(rows, values, 100, sparse)
    assert found.is_sparse == sparse
    dense = found.to_dense() if sparse else found
    expected = torch.zeros(100, 3).double()
    expected[rows] = values
    assert torch.equal(dense, expected)


# The first layer.


def gradients(layer, output, upstream):
    """Return the gradients of weight and bias, dense."""
    layer.zero_grad()
    output.backward(upstream)
    found = [p.grad for p in (layer.weight, layer.bias) if p is not None]
    return [g.to_dense() if g.is_sparse else g for g in found]


@every_table
def test_first_layer_on_csr_is_the_linear_layer_on_dense_rows(dense, index_type, data):
    linear = nn.Linear(dense.shape[1], 3, bias=data.draw(st.booleans())).double()
    row_gradients = data.draw(st.booleans())
    layer = InputLayer.from_linear(linear, row_gradients)
    upstream = normal(len(dense), 3, seed=5)
    expected = linear(dense)
    expected_gradients = gradients(linear, expected, upstream)
    for x in (dense, csr_of(dense, index_type)):
        found = layer(x)
        same(found, expected)
        weight, *bias = gradients(layer, found, upstream)
        same([weight.T, *bias], expected_gradients)


@pytest.mark.parametrize("row_gradients", [False, True])
def test_first_layer_has_a_gradient_of_the_columns_in_use(row_gradients):
    x = csr_of(nn.functional.pad(sparse_table(), (0, 93)))
    layer = InputLayer.from_linear(nn.Linear(100, 3).double(), row_gradients)
    layer(x).sum().backward()
    gradient = layer.weight.grad
    assert gradient.is_sparse == row_gradients
    if row_gradients:
        assert torch.equal(gradient.coalesce().indices()[0], x.by_column.columns)


def test_first_layer_is_a_copy():
    linear = nn.Linear(7, 3)
    layer = InputLayer.from_linear(linear)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
    assert linear.weight.all()
    assert linear.bias.all()


# Adam on some rows.

SETTINGS = {"lr": 0.1, "weight_decay": 0.3, "betas": (0.8, 0.95), "eps": 1e-6}
fused = pytest.mark.parametrize("fused", [False, True])


def as_sparse(gradient, rows):
    values = gradient[rows]
    return torch.sparse_coo_tensor(rows[None], values, gradient.shape, check_invariants=True)


def step(optimizer, parameter, gradient):
    parameter.grad = gradient
    optimizer.step()


@pytest.fixture
def any_share(monkeypatch):
    """Let the optimiser go row by row, however many rows there are."""
    monkeypatch.setattr(optimizer_file, "MOST_ROWS", 1.0)


@fused
@pytest.mark.parametrize("kind", [AdamW, RowAdamW])
def test_groups_take_the_steps_of_torch(kind, fused):
    """Groups that differ in decay alone, in the rate, or lack a gradient for a while."""
    start = [normal(4, 3, seed=n) for n in range(5)]
    settings = [{"weight_decay": 0.3}, {"weight_decay": 0.0}, {"lr": 0.5, "weight_decay": 0.1}]
    trained = []
    for Optimizer in (kind, torch.optim.AdamW):
        parameters = [nn.Parameter(value.clone()) for value in start]
        parts = (parameters[:2], parameters[2:4], parameters[4:])
        groups = [{"params": part, **own} for part, own in zip(parts, settings, strict=True)]
        optimizer = Optimizer(groups, lr=0.1, betas=(0.8, 0.95), eps=1e-6, fused=fused)
        for number in range(6):
            for place, parameter in enumerate(parameters):
                gone = place == 1 and number in (0, 3)
                parameter.grad = None if gone else normal(4, 3, seed=7 * number + place)
            assert optimizer.step(lambda: 5.0) == 5.0
        trained.append(parameters)
    for one, other, before in zip(*trained, start, strict=True):
        same(one.data, other.data)
        assert not torch.allclose(one.data, before)


@pytest.mark.parametrize("kind", [AdamW, RowAdamW, SGD])
def test_gradients_are_taken_away_or_set_to_zero(kind):
    parameters = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))]
    optimizer = kind([{"params": [one]} for one in parameters], lr=0.1)
    for set_to_none in (False, True):
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        optimizer.zero_grad(set_to_none=set_to_none)
        for parameter in parameters:
            assert (parameter.grad is None) == set_to_none
            assert set_to_none or not parameter.grad.any()


@fused
@pytest.mark.parametrize("most_rows", [0.5, 1.0])
def test_rows_that_are_all_touched_are_those_of_adamw(fused, most_rows, monkeypatch):
    monkeypatch.setattr(optimizer_file, "MOST_ROWS", most_rows)
    start = normal(6, 3)
    one, other = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    ours = RowAdamW([one], fused=fused, **SETTINGS)
    theirs = torch.optim.AdamW([other], fused=fused, **SETTINGS)
    for number in range(6):
        gradient = normal(6, 3, seed=number)
        # Dense and sparse gradients take turns, and rows come in any order.
        rows = torch.randperm(6, generator=generator(number))
        step(ours, one, as_sparse(gradient, rows) if number % 2 else gradient.clone())
        step(theirs, other, gradient)
        same(one.data, other.data)
    assert not torch.allclose(one.data, start)


@fused
def test_rows_that_are_not_touched_stand_still_to_the_last_bit(fused, any_share):
    parameter = nn.Parameter(normal(6, 3))
    optimizer = RowAdamW([parameter], fused=fused, **SETTINGS)
    for gradient in (normal(6, 3, seed=1), as_sparse(normal(6, 3, seed=2), torch.tensor([4, 1]))):
        state = optimizer.state[parameter]
        names = ("exp_avg", "exp_avg_sq") if state else ()
        before = copy.deepcopy([parameter.data, *(state[name] for name in names)])
        step(optimizer, parameter, gradient)
    after = [parameter.data, *(state[name] for name in names)]
    assert len(before) == len(after) == 3
    for old, new in zip(before, after, strict=True):
        assert torch.equal(new[[0, 2, 3, 5]], old[[0, 2, 3, 5]])
        assert (new[[1, 4]] != old[[1, 4]]).all()
    assert float(optimizer.state[parameter]["step"]) == 2


@fused
def test_row_touched_alone_goes_as_in_adamw(fused, any_share):
    # A row that is touched in every step goes where it goes in a table of its own.
    parameter, alone = nn.Parameter(normal(5, 2)), nn.Parameter(normal(5, 2)[[3]])
    ours = RowAdamW([parameter], fused=fused, **SETTINGS)
    theirs = torch.optim.AdamW([alone], fused=fused, **SETTINGS)
    for number in range(4):
        gradient = normal(5, 2, seed=number)
        step(ours, parameter, as_sparse(gradient, torch.tensor([3])))
        step(theirs, alone, gradient[[3]])
    same(parameter.data[[3]], alone.data)


def test_decay_shrinks_the_rows_that_are_touched(any_share):
    parameter = nn.Parameter(torch.ones(4, 2))
    optimizer = RowAdamW([parameter], lr=0.1, weight_decay=0.5)
    step(optimizer, parameter, as_sparse(torch.zeros(4, 2), torch.tensor([2])))
    assert parameter.data[[0, 1, 3]].eq(1).all()
    torch.testing.assert_close(parameter.data[2], torch.full((2,), 1 - 0.1 * 0.5))


def test_an_entry_of_a_gradient_given_twice_counts_twice(any_share):
    parameter, other = (nn.Parameter(torch.ones(3, 2).double()) for _ in range(2))
    twice = torch.sparse_coo_tensor(
        torch.tensor([[1, 1]]), normal(2, 2), (3, 2), check_invariants=True
    )
    step(RowAdamW([parameter], **SETTINGS), parameter, twice)
    step(RowAdamW([other], **SETTINGS), other, twice.coalesce())
    same(parameter.data, other.data)


def test_closures_are_called_with_gradients_on():
    parameter = nn.Parameter(torch.ones(4, 2))
    optimizer = RowAdamW([parameter], lr=0.1)

    def closure():
        assert torch.is_grad_enabled()
        parameter.grad = as_sparse(torch.ones(4, 2), torch.tensor([1]))
        return 7.0

    assert optimizer.step(closure) == 7.0
    assert (parameter.data[1] < 1).all()


@fused
@pytest.mark.parametrize("rows", [[], [2], [5, 0, 3, 1]], ids=str)
def test_many_rows_are_a_dense_gradient_and_the_limit_is_a_share(fused, rows, monkeypatch):
    # With zero in the rows that have no gradient, step after step.
    monkeypatch.setattr(optimizer_file, "MOST_ROWS", 0.5)
    one, other = (nn.Parameter(normal(6, 3)) for _ in range(2))
    ours = RowAdamW([one], fused=fused, **SETTINGS)
    theirs = torch.optim.AdamW([other], fused=fused, **SETTINGS)
    for number, touched in enumerate(([0, 1, 2, 4], [1, 2, 3, 5], rows)):
        gradient = torch.zeros(6, 3).double()
        gradient[touched] = normal(len(touched), 3, seed=number)
        before = one.data.clone()
        step(ours, one, as_sparse(gradient, torch.tensor(touched, dtype=torch.int64)))
        step(theirs, other, gradient)
    untouched = [row for row in range(6) if row not in rows]
    if len(rows) > 3:
        same(one.data, other.data)
    else:
        assert torch.equal(one.data[untouched], before[untouched])


@fused
@pytest.mark.parametrize("most_rows", [0.1, 1.0])
def test_state_goes_on_after_pickle_and_after_loading(fused, most_rows, monkeypatch):
    monkeypatch.setattr(optimizer_file, "MOST_ROWS", most_rows)
    parameter = nn.Parameter(normal(5, 2))
    optimizer = RowAdamW([parameter], fused=fused, **SETTINGS)
    rows = torch.tensor([0, 3])
    step(optimizer, parameter, as_sparse(normal(5, 2, seed=1), rows))
    parameter.grad = None
    loaded, of_loaded = pickle.loads(pickle.dumps((optimizer, parameter)))
    copied = nn.Parameter(parameter.detach().clone())
    of_state = RowAdamW([copied], fused=fused)
    of_state.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for opt, par in ((optimizer, parameter), (loaded, of_loaded), (of_state, copied)):
        step(opt, par, as_sparse(normal(5, 2, seed=2), rows))
        step(opt, par, normal(5, 2, seed=3))
        assert torch.equal(par.data, parameter.data)
