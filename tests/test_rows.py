"""Do rows reach the network once each, in the right units, with their weights?

Merging of equal rows, hold-out, scaling of columns, batches, and blocks of new rows.
"""

import itertools
import warnings
from collections import defaultdict

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from sklearn.preprocessing import MaxAbsScaler, StandardScaler
from torch import nn

from skae._duplicates import merge_duplicates
from skae._scaling import SCALINGS, Scaling, fit_scaling, summarise_columns
from skae._training.batches import BatchIterator, DenseRows, make_rows, split_rows, to_tensor
from skae._training.inference import map_rows
from skae.likelihoods import Gaussian
from tests.helpers import (
    assert_rounding_apart,
    cells_at_once,
    normal,
)

formats = pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array, sp.csr_matrix])
weighting = pytest.mark.parametrize("weighted", [False, True])


def table(n_rows=60, n_features=4, seed=0):
    """Return rows with many zeros, the number of the row in the first column."""
    rng = np.random.RandomState(seed)
    X = rng.normal(size=(n_rows, n_features)) * (rng.uniform(size=(n_rows, n_features)) < 0.6)
    X[:, 0] = np.arange(n_rows)
    return X


def weights(n_rows, weighted=True, seed=1):
    return np.random.RandomState(seed).uniform(0.5, 2.0, size=n_rows) if weighted else None


# Equal rows.


def merged(X, weight):
    """Return the weight of each distinct row after merging, by row."""
    rows, summed = merge_duplicates(X, weight)
    assert len(set(rows)) == len(rows)
    dense = X.toarray() if sp.issparse(X) else X
    summed = np.ones(len(rows)) if summed is None else summed
    found = {tuple(dense[i] + 0.0): w for i, w in zip(rows, summed, strict=True)}
    assert len(found) == len(rows)  # no distinct row stands twice
    return found


def counted(X, weight):
    """Return the same by counting, with weights of mean one over the distinct rows."""
    totals = defaultdict(float)
    for row, w in zip(X + 0.0, np.ones(len(X)) if weight is None else weight, strict=True):
        if w > 0:
            totals[tuple(row)] += w
    mean = sum(totals.values()) / len(totals)
    return {row: total / mean for row, total in totals.items()}


small_tables = st.integers(1, 4).flatmap(
    lambda n_features: hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 12), st.just(n_features)),
        elements=st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.5, 1e-300]),
    )
)


def with_explicit_zeros(X):
    """Return CSR in which every entry is stored, the zeros as well."""
    n_rows, n_features = X.shape
    indptr = np.arange(0, X.size + 1, n_features)
    return sp.csr_array((X.ravel(), np.tile(np.arange(n_features), n_rows), indptr), X.shape)


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(X=small_tables, data=st.data())
def test_merging_keeps_the_weight_of_every_distinct_row(X, data):
    choices = st.sampled_from([0.0, 0.5, 1.0, 3.0])
    weight = data.draw(st.none() | hnp.arrays(np.float64, len(X), elements=choices))
    if weight is not None:
        weight[0] = 1.0  # some row counts
    expected = counted(X, weight)
    order = np.random.RandomState(0).permutation(len(X))
    shuffled = None if weight is None else weight[order]
    half_explicit = sp.vstack([sp.csr_array(X), with_explicit_zeros(X)], format="csr")
    for given_X, given_weight in (
        (X, weight),
        (X[order], shuffled),
        (X.astype(np.float32), weight) if 1e-300 not in X else (X, weight),
        (sp.csr_array(X), weight),
        (with_explicit_zeros(X), weight),
        (half_explicit, None if weight is None else np.tile(weight, 2)),
    ):
        assert merged(given_X, given_weight) == pytest.approx(expected)


@formats
def test_rows_come_in_an_order_that_depends_on_them_alone(as_format):
    X = np.random.RandomState(0).randint(3, size=(50, 4)).astype(float)
    order = np.random.RandomState(1).permutation(50)
    first, first_weight = merge_duplicates(as_format(X), None)
    again, again_weight = merge_duplicates(as_format(X[order]), None)
    np.testing.assert_array_equal(X[first], X[order][again])
    np.testing.assert_allclose(first_weight, again_weight)


@formats
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_order_is_the_same_for_every_format_and_precision(as_format, dtype):
    X = np.random.RandomState(0).randint(-2, 3, size=(50, 3)) / 4  # exact in single precision
    X[X == 0] = -0.0
    rows, weight = merge_duplicates(as_format(X.astype(dtype)), None)
    expected, expected_weight = merge_duplicates(X, None)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(weight, expected_weight)


@formats
def test_weight_of_two_is_the_row_twice(as_format):
    X, copies = table(20), np.random.RandomState(0).randint(1, 4, size=20)
    rows, by_copies = merge_duplicates(as_format(np.repeat(X, copies, axis=0)), None)
    again, by_weight = merge_duplicates(as_format(X), copies.astype(float))
    np.testing.assert_array_equal(np.repeat(X, copies, axis=0)[rows], X[again])
    np.testing.assert_allclose(by_copies, by_weight)
    assert by_weight.mean() == pytest.approx(1.0)


@formats
def test_weights_that_are_all_equal_are_none(as_format):
    rows, weight = merge_duplicates(as_format(table(10)), np.full(10, 0.3))
    assert weight is None
    assert sorted(rows) == list(range(10))


@formats
def test_rows_of_weight_zero_are_left_out(as_format):
    weight = np.array([0.0, 1.0, 1.0, 0.0])
    rows, _ = merge_duplicates(as_format(table(4)), weight)
    assert sorted(rows) == [1, 2]


def test_a_value_in_another_column_is_another_row():
    # Also where value and column change places.
    X = sp.csr_array(np.array([[0.0, 0, 3, 0], [0, 0, 0, 2], [0, 0, 2, 0], [0, 0, 3, 2]]))
    for typed in (X, X.astype(np.float32), X.astype(np.int64)):
        assert len(merge_duplicates(typed, None)[0]) == 4


@pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array])
def test_rows_in_different_blocks_are_merged(as_format):
    X = as_format(np.tile(table(5), (4, 1)))
    with cells_at_once(3):
        rows, weight = merge_duplicates(X, None)
    assert sorted(rows) == list(range(5))
    assert weight is None


# The hold-out.


@pytest.mark.parametrize("n_rows", [2, 3, 10, 101])
@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.99])
def test_hold_out_is_disjoint_and_complete_and_of_its_size(n_rows, fraction):
    index = 7 + 3 * np.arange(n_rows)
    (train, _), (held_out, _) = split_rows(index, None, fraction, seed=0, most=10**6)
    assert sorted([*train, *held_out]) == index.tolist()
    assert len(held_out) == np.clip(round(fraction * n_rows), 1, n_rows - 1)


def test_no_more_rows_are_held_out_than_are_looked_at():
    index = np.arange(100)
    (train, _), (held_out, _) = split_rows(index, None, 0.3, seed=0, most=7)
    assert (len(train), len(held_out)) == (93, 7)


def test_hold_out_is_that_of_the_seed_and_is_shuffled():
    index = np.arange(100)
    first, again, other = (split_rows(index, None, 0.2, seed, 10**6)[1][0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert set(first) != set(other)
    assert np.ptp(first) > 50


def test_weights_stay_with_their_rows():
    index = np.arange(50)
    for rows, weight in split_rows(index, 10.0 * index, 0.3, seed=0, most=10**6):
        np.testing.assert_array_equal(weight, 10.0 * rows)


# Scaling.


def columns_of_every_kind(n_rows=400, seed=0):
    """Return normal, sparse, far from zero, rare flag, constant and empty columns."""
    rng = np.random.RandomState(seed)
    flag = (np.arange(n_rows) % 50 == 0).astype(float)
    sparse = rng.gamma(2.0, size=n_rows) * (rng.uniform(size=n_rows) < 0.3)
    far = 1e4 + rng.normal(size=n_rows)
    constant, empty = np.full(n_rows, 3.7), np.zeros(n_rows)
    return np.column_stack([rng.normal(size=n_rows), sparse, far, flag, constant, empty])


def columns_for(kind):
    """Return such columns, without negative values where the scaling is not for them."""
    return np.abs(columns_of_every_kind()) if kind == "log1p" else columns_of_every_kind()


def summary(X, as_format, weight=None):
    return summarise_columns(as_format(X), np.arange(len(X)), weight)


@formats
@weighting
@pytest.mark.parametrize("cells", [50, 2**20])
def test_moments_of_columns_agree_with_numpy(as_format, weighted, cells):
    X = columns_of_every_kind()
    weight = weights(len(X), weighted)
    with cells_at_once(cells):
        found = summary(X, as_format, weight)
    mean = np.average(X, axis=0, weights=weight)
    np.testing.assert_allclose(found.mean, mean)
    for moment, power in ((found.variance, 2), (found.fourth_moment, 4)):
        expected = np.average((X - mean) ** power, axis=0, weights=weight)
        np.testing.assert_allclose(moment, expected, rtol=1e-6, atol=1e-12)
    np.testing.assert_array_equal(found.largest, np.abs(X).max(axis=0))
    np.testing.assert_array_equal(found.smallest, X.min(axis=0))


@formats
def test_moments_are_those_of_the_chosen_rows(as_format):
    X, index = columns_of_every_kind(), np.arange(0, 400, 7)
    found = summarise_columns(as_format(X), index, None)
    np.testing.assert_allclose(found.mean, X[index].mean(axis=0))
    np.testing.assert_allclose(found.largest, np.abs(X[index]).max(axis=0))


@formats
@pytest.mark.parametrize("seed", range(6))
def test_constant_columns_are_told_whatever_the_weights(as_format, seed):
    X = columns_of_every_kind(300)
    columns = summary(X, as_format, weights(300, seed=seed))
    assert columns.constant.tolist() == [False] * 4 + [True] * 2
    assert (columns.variance >= 0).all()
    assert (columns.fourth_moment >= 0).all()


@formats
@weighting
@pytest.mark.parametrize("kind", SCALINGS)
def test_constant_columns_and_all_others_get_a_usable_scale(as_format, weighted, kind):
    X = columns_for(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = fit_scaling(kind, summary(X, as_format, weights(len(X), weighted)), False)
    assert np.isfinite(found.scale).all()
    assert (found.scale > 1e-3).all()
    assert np.abs(found.apply(X)[:, 4:]).max() <= 1


@weighting
def test_standard_scaling_is_that_of_scikit_learn(weighted):
    # With weights, scikit-learn finds a variance below zero for the constant column.
    X = columns_of_every_kind()[:, : 4 if weighted else 6]
    weight = weights(len(X), weighted)
    found = fit_scaling("standard", summary(X, np.asarray, weight), sparse=False)
    expected = StandardScaler().fit(X, sample_weight=weight)
    np.testing.assert_allclose(found.apply(X), expected.transform(X), atol=1e-8)


def test_sparse_columns_are_scaled_as_in_scikit_learn_and_centred_only_far_from_zero():
    X = columns_of_every_kind()
    found = fit_scaling("standard", summary(X, sp.csr_array), sparse=True)
    expected = StandardScaler(with_mean=False).fit(X).transform(X)
    centred = StandardScaler().fit(X).transform(X)
    far = np.abs(X.mean(axis=0)) > X.std(axis=0)
    assert far.tolist() == [False, False, True, False, True, False]
    np.testing.assert_array_equal(found.shift != 0, far)
    expected[:, far] = centred[:, far]
    np.testing.assert_allclose(found.apply(X), expected, atol=1e-8)


@formats
@weighting
def test_common_scaling_is_one_number_and_keeps_the_sizes_of_columns(as_format, weighted):
    X = columns_of_every_kind()
    weight = weights(len(X), weighted)
    found = fit_scaling("common", summary(X, as_format, weight), as_format is not np.asarray)
    spread = np.average((X - np.average(X, axis=0, weights=weight)) ** 2, axis=0, weights=weight)
    np.testing.assert_allclose(found.scale, np.sqrt(spread[:4].mean()))  # others are constant
    constant = fit_scaling("common", summary(np.ones((9, 2)), as_format), False)
    np.testing.assert_array_equal(constant.scale, 1.0)


@formats
def test_max_scaling_is_that_of_scikit_learn(as_format):
    X = columns_of_every_kind()
    found = fit_scaling("max", summary(X, as_format), sparse=as_format is not np.asarray)
    np.testing.assert_allclose(found.apply(X), MaxAbsScaler().fit_transform(X))


@weighting
def test_fourth_moment_scaling_follows_its_formula_and_keeps_zeros_near_zero(weighted):
    X = columns_of_every_kind()[:, :4]
    weight = weights(len(X), weighted)
    centred = X - np.average(X, axis=0, weights=weight)
    expected = (np.average(centred**4, axis=0, weights=weight) / 3) ** 0.25
    for as_format, sparse in ((np.asarray, False), (sp.csr_array, True)):
        found = fit_scaling("fourth_moment", summary(X, as_format, weight), sparse)
        np.testing.assert_allclose(found.scale, expected, rtol=1e-6)
        np.testing.assert_array_equal(found.shift != 0, [not sparse, not sparse, True, not sparse])


def test_fourth_moment_is_the_standard_deviation_of_a_gaussian_column():
    X = 3.0 * np.random.RandomState(0).normal(size=(100_000, 1))
    found = fit_scaling("fourth_moment", summary(X, np.asarray), sparse=False)
    assert found.scale[0] == pytest.approx(3.0, rel=0.01)


def test_fourth_moment_is_gentle_with_rare_flags():
    flag = (np.arange(10_000) % 1000 == 0).astype(float)[:, None]
    columns = summary(flag, np.asarray)
    standard, fourth = (
        fit_scaling(kind, columns, False).apply(flag).max()
        for kind in ("standard", "fourth_moment")
    )
    share = 1e-3
    assert standard == pytest.approx(share**-0.5, rel=0.01)
    assert fourth == pytest.approx((3 / share) ** 0.25, rel=0.01)


@pytest.mark.parametrize("kind", SCALINGS)
@pytest.mark.parametrize("sparse", [False, True])
def test_undo_is_the_inverse_of_apply(kind, sparse):
    X = columns_for(kind)
    found = fit_scaling(kind, summary(X, np.asarray), sparse)
    np.testing.assert_allclose(found.undo(found.apply(X)), X)
    if sparse:
        near = [0, 1, 3, 5] if found.shift is not None else slice(None)
        assert not found.apply(np.zeros((1, 6)))[:, near].any()


@formats
def test_log1p_is_the_logarithm_of_one_plus_x_and_keeps_zeros(as_format):
    X = columns_for("log1p")
    found = fit_scaling("log1p", summary(X, as_format), sparse=as_format is not np.asarray)
    constant = (np.ptp(X, axis=0) == 0) & (X[0] != 0)
    np.testing.assert_allclose(found.apply(X)[:, ~constant], np.log1p(X[:, ~constant]))
    np.testing.assert_allclose(found.apply(X)[:, constant], 1.0)
    assert not found.apply(np.zeros((1, 6))).any()


@formats
def test_log1p_refuses_columns_with_negative_values(as_format):
    X = np.array([[1.0, 0.0, 0.0], [0.0, -0.25, 3.0]])
    with pytest.raises(
        ValueError, match=r"'log1p' needs values >= 0, but column 1 .* holds -0\.25"
    ):
        fit_scaling("log1p", summary(X, as_format), sparse=False)


def test_no_scaling_is_none():
    assert fit_scaling(None, summary(table(), np.asarray), sparse=False) is None


def test_log_determinant_brings_the_density_to_the_units_of_x():
    x, mean, variance = np.array([3.0, -40.0]), np.array([2.0, -35.0]), 0.5
    scaled = Scaling(np.array([1.0, 10.0]), np.array([4.0, 100.0]))
    u, raw = (torch.from_numpy(scaled.apply(v))[None] for v in (x, mean))
    parameter = torch.full((2,), np.log(variance), dtype=torch.float64)
    found = Gaussian(variance_floor=1e-12).log_prob(u, raw, log_variance=parameter).sum()
    expected = stats.norm.logpdf(x, mean, variance**0.5 * scaled.scale).sum()
    assert float(found) + scaled.log_determinant == pytest.approx(expected)


# Batches.


def iterator(X, batch_size, *, weight=None, seed=0, epoch=0, index=None):
    index = np.arange(X.shape[0]) if index is None else index
    rows = make_rows(X, index, weight, None, "cpu")
    return BatchIterator(rows, batch_size, seed, epoch)


def numbers(iterator_):
    """Return the row numbers of one pass, in the order in which they come."""
    return torch.cat([batch.x[:, 0] for batch in iterator_]).int().tolist()


@formats
@pytest.mark.parametrize(("n_rows", "batch_size"), [(1, 1), (7, 7), (7, 3), (101, 10), (60, 1)])
def test_every_row_comes_once_in_batches_of_nearly_equal_size(as_format, n_rows, batch_size):
    batches_ = iterator(as_format(table(n_rows)), batch_size)
    sizes = [len(batch.x) for batch in batches_]
    assert sorted(numbers(batches_)) == list(range(n_rows))
    assert len(sizes) == len(batches_) == -(-n_rows // batch_size)
    assert max(sizes) <= batch_size
    # A batch of one row among large ones would weigh that row as much as a whole batch.
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("seed", [None, 3])
def test_dense_and_csr_rows_give_the_same_tensors(seed):
    X, weight = table(), weights(60)
    scaled = Scaling(None, np.arange(1.0, 5.0))
    passes = []
    for as_format in (np.asarray, sp.csr_array, sp.csr_matrix):
        rows = make_rows(as_format(X), np.arange(60), weight, scaled, "cpu")
        passes.append(list(BatchIterator(rows, 16, seed)))
    for dense, *others in zip(*passes, strict=True):
        for other in others:
            assert torch.equal(dense.x, other.x)
            assert torch.equal(dense.weight, other.weight)


@formats
def test_weights_have_mean_one_and_stay_with_their_rows(as_format):
    weight = weights(60)
    for batch in iterator(as_format(table()), 7, weight=weight):
        expected = weight[batch.x[:, 0].int()] / weight.mean()
        np.testing.assert_allclose(batch.weight, expected, rtol=1e-6)
    assert all(batch.weight is None for batch in iterator(as_format(table()), 7))


@formats
def test_rows_are_those_of_the_index_in_single_precision(as_format):
    X, index = table(), np.array([50, 3, 17, 4])
    (batch,) = iterator(as_format(X), 10, seed=None, index=index)
    assert batch.x.dtype == torch.float32
    np.testing.assert_array_equal(batch.x, X[index].astype(np.float32))


def test_order_is_new_in_each_epoch_and_that_of_seed_and_epoch():
    X = table()
    first = iterator(X, 8)
    orders = [numbers(first) for _ in range(3)]
    assert len(set(map(tuple, orders))) == 3
    again = iterator(X, 8)
    assert [numbers(again) for _ in range(3)] == orders
    assert numbers(iterator(X, 8, epoch=2)) == orders[2]
    assert numbers(iterator(X, 8, seed=1)) != orders[0]


def test_order_stays_without_a_seed():
    plain = iterator(table(), 8, seed=None)
    assert numbers(plain) == numbers(plain) == list(range(60))


def test_batches_are_slices_of_one_gather():
    first, second, *_ = iterator(table(), 8, weight=weights(60))
    for one, other in ((first.x, second.x), (first.weight, second.weight)):
        assert one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def test_dense_rows_are_converted_and_gathered_in_blocks():
    X, index = table(), np.arange(59, -1, -1)
    with cells_at_once(20 * X.shape[1]):
        rows = DenseRows(X, index, None, None, "cpu")
    assert rows.rows_at_once == 20
    np.testing.assert_array_equal(rows.x, X[index].astype(np.float32))
    assert sorted(numbers(BatchIterator(rows, 7, seed=0))) == list(range(60))


def test_scaling_is_done_before_precision_is_lost():
    X = 1e9 + np.arange(6.0)[:, None]
    scaled = to_tensor(X, Scaling(np.array([1e9]), np.array([2.0])), "cpu")
    np.testing.assert_array_equal(scaled[:, 0], np.arange(6.0) / 2)


def test_tensors_are_copies():
    X = table().astype(np.float32)
    before = X.copy()
    to_tensor(X, None, "cpu").zero_()
    np.testing.assert_array_equal(X, before)


# New rows in blocks.


def network(sizes, seed=0):
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
    for number, layer in enumerate(layers):
        layer.weight.data = normal(*layer.weight.shape, seed=seed + number).float()
        layer.bias.data = normal(*layer.bias.shape, seed=seed - number).float()
    return nn.Sequential(*(part for layer in layers for part in (layer, nn.Tanh())))


@pytest.fixture(params=[1, 2])
def n_threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("sizes", [(5, 3), (30, 128, 7), (300, 128, 64, 10)], ids=str)
def test_result_of_a_row_does_not_depend_on_the_rows_beside_it(sizes, n_threads):
    module, X = network(sizes), normal(1200, sizes[0]).numpy()
    together = np.concatenate(list(map_rows(module, X, module, width=X.shape[1])))
    for rows in (
        slice(0, 1),
        slice(7, 9),
        slice(3, 18),
        slice(0, 16),
        slice(5, 22),
        slice(90, 700),
    ):
        alone = np.concatenate(list(map_rows(module, X[rows], module, width=X.shape[1])))
        assert_rounding_apart(alone, together[rows])
    assert torch.get_num_threads() == n_threads


@pytest.mark.parametrize("width", [1, 784, 50_000, 10**7])
@pytest.mark.parametrize("csr", [False, True])
def test_every_block_has_the_shape_of_any_other(width, csr):
    shapes = set()

    def note(rows):
        shapes.add(rows.shape)
        return torch.zeros(len(rows), 1)

    for n_rows in (1, 31, 32, 33, 1000):
        rows = sp.csr_array((n_rows, 3))
        found = list(map_rows(note, rows, network((2, 2)), width=width, csr=csr))
        assert len(np.concatenate(found)) == n_rows
    ((size, n_columns),) = shapes
    assert n_columns == 3
    assert size % 32 == 0
    assert size <= 128


@formats
def test_blocks_cover_the_rows_in_order_and_are_bounded(as_format):
    X, lengths = table(9000, 2), []

    def double(rows):
        lengths.append(len(rows))
        return 2 * rows

    scaled = Scaling(np.array([1.0, 0.0]), np.array([2.0, 1.0]))
    found = list(map_rows(double, as_format(X), network((2, 2)), scaled, width=X.shape[1]))
    np.testing.assert_array_equal(np.concatenate(found), 2 * scaled.apply(X).astype(np.float32))
    assert len(found) > 1
    assert all(length % 32 == 0 for length in lengths)
    assert max(lengths) < 9000


def test_blocks_of_very_wide_rows_are_small():
    lengths = []

    def first_column(rows):
        lengths.append(len(rows))
        return rows[:, :1]

    assert (
        len(list(map_rows(first_column, sp.csr_array((40, 2**18)), network((2, 2)), width=2**18)))
        == 2
    )
    assert lengths == [32, 32]


def test_rows_are_mapped_with_dropout_off_and_without_gradients():
    module = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.9)).train()
    X = normal(20, 3).numpy()
    first, again = (next(map_rows(module, X, module, width=X.shape[1])) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not module.training
