"""`describe_units`: is what it says of each unit what codes and decoder say?"""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from sklearn.exceptions import NotFittedError
from torch import nn
from torch.autograd.function import once_differentiable

from skae import (
    AutoencoderTransformer,
    SparseAutoencoderTransformer,
    StackedAutoencoderTransformer,
)
from skae._scaling import SCALINGS
from skae.constraints import InvalidParameterError
from skae.networks import CustomNetwork
from skae.sparsity import SPARSITIES
from tests.helpers import LIKELIHOODS, QUICK, QUIET, counts, every_estimator, low_rank

pytestmark = QUIET

X = low_rank(n_rows=120, n_features=9)
LINEAR = {**QUICK, "n_components": 6, "hidden_layer_sizes": ()}
DEEP = {**LINEAR, "hidden_layer_sizes": (12,)}
COLUMNS = ["rate", "activation", "features", "weights", "rows"]


def sparse(**settings):
    return SparseAutoencoderTransformer(**{**LINEAR, "n_active": 2, **settings})


def slopes(model, code, unit):
    """Return the slope of the mean of X along a unit at one code, by the public decoder alone."""
    # Single precision leaves a relative error of 1e-7 of the mean: the step is a large one.
    step = 1e-2 * max(abs(code[unit]), 1e-3)
    ends = np.tile(code.astype(float), (2, 1))
    ends[0, unit] += step
    ends[1, unit] -= step
    above, below = model.inverse_transform(ends)
    return (above - below) / (2 * step)


def of_names(row):
    """Return the weights of a unit in the order of the columns."""
    return pd.Series(row["weights"], row["features"])[[f"x{i}" for i in range(9)]].to_numpy()


# The laws.


@pytest.mark.parametrize("name", SPARSITIES)
def test_rates_and_rows_are_those_of_transform(name):
    model = sparse(sparsity=name).fit(X)
    codes, units = model.transform(X), model.describe_units(X)
    assert units.columns.tolist() == COLUMNS
    assert (units.index == np.arange(6)).all()
    active = codes > 0
    np.testing.assert_allclose(units["rate"], active.mean(axis=0))
    assert np.isclose(units["rate"].sum(), active.sum(axis=1).mean())
    for unit, row in units.iterrows():
        mine = codes[active[:, unit], unit]
        np.testing.assert_allclose(row["activation"], mine.mean() if len(mine) else np.nan)
        assert (
            row["rows"] == np.argsort(-codes[:, unit], kind="stable")[: min(3, len(mine))].tolist()
        )


@pytest.mark.parametrize("name", SPARSITIES)
def test_features_of_a_linear_decoder_are_its_largest_weights(name):
    model = sparse(sparsity=name).fit(X)
    weight = model.module_.decoder[-1].weight.detach().numpy()
    units = model.describe_units(X)
    for unit, row in units[units["rate"] > 0].iterrows():
        largest = np.argsort(-np.abs(weight[:, unit]))[:5]
        assert row["features"] == [f"x{i}" for i in largest]
        np.testing.assert_allclose(row["weights"], weight[largest, unit], rtol=1e-5)


@pytest.mark.parametrize("scaling", [None, *(one for one in SCALINGS if one != "log1p")])
def test_in_units_of_x_weights_are_what_one_more_of_a_unit_adds(scaling):
    model = sparse(input_scaling=scaling).fit(X)
    units = model.describe_units(n_features=None, scaled=False)
    for unit, row in units[units["rate"] > 0].iterrows():
        added = slopes(model, np.eye(6)[unit], unit)
        np.testing.assert_allclose(of_names(row), added, rtol=2e-3, atol=2e-3 * np.abs(added).max())


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_weights_of_other_decoders_are_the_mean_slope_over_active_rows(likelihood):
    rows = counts(n_rows=60, n_features=9, rate=0.8)
    rows = rows.clip(0, 1) if likelihood == "bernoulli" else rows
    model = sparse(**{**DEEP, "activation": "tanh", "max_iter": 20}, likelihood=likelihood).fit(
        rows
    )
    codes = model.transform(rows)
    units = model.describe_units(rows, n_features=None, scaled=False)
    for unit, row in units[units["rate"] > 0].iterrows():
        mine = codes[codes[:, unit] > 0]
        expected = np.mean([slopes(model, code, unit) for code in mine[:64]], axis=0)
        np.testing.assert_allclose(
            of_names(row), expected, rtol=0.02, atol=0.02 * np.abs(expected).max()
        )


def test_slopes_are_those_of_rows_on_which_the_unit_is_active():
    """A relu of the decoder that a unit turns on: at codes without the unit it has no slope."""
    decoder = nn.Sequential(nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 9))
    with torch.no_grad():
        decoder[0].weight.copy_(torch.tensor([[1.0, 0.0]]))
        decoder[0].bias.fill_(-1e-9)
    network = CustomNetwork(nn.Linear(9, 2), decoder)
    still = {"max_iter": 1, "learning_rate_init": 1e-9}
    model = SparseAutoencoderTransformer(2, network=network, n_active=1, random_state=0, **still)
    codes = model.fit(X).transform(X)
    assert (codes[:, 0] == 0).any()
    found = of_names(model.describe_units(X, n_features=None).loc[0])
    layer = model.module_.decoder[2].weight.detach().numpy()[:, 0]
    np.testing.assert_allclose(found, layer * model.module_.decoder[0].weight[0, 0].item(), 1e-4)


def test_of_many_active_rows_evenly_spaced_ones_are_looked_at(monkeypatch):
    model = sparse(**{**DEEP, "activation": "tanh"}, sparsity="l1", n_active=6).fit(X)
    few = model.describe_units(X, n_features=None)
    monkeypatch.setattr("skae._training.units._MOST_ROWS", 10_000)
    all_of_them = model.describe_units(X, n_features=None)
    assert few["rate"].max() * len(X) > 64
    for unit in range(6):
        some, every = of_names(few.loc[unit]), of_names(all_of_them.loc[unit])
        assert np.abs(some - every).max() < 0.1 * np.abs(every).max()
    assert any((of_names(few.loc[i]) != of_names(all_of_them.loc[i])).any() for i in range(6))


# Tables of other kinds.


def test_scaled_weights_do_not_depend_on_the_units_of_the_columns():
    units = 10.0 ** np.arange(-4, 5)
    one, other = sparse().fit(X), sparse().fit(X * units)
    scaled = [of_names(m.describe_units(n_features=None).loc[0]) for m in (one, other)]
    np.testing.assert_allclose(scaled[1], scaled[0], rtol=1e-2, atol=1e-3)
    raw = [of_names(m.describe_units(n_features=None, scaled=False).loc[0]) for m in (one, other)]
    np.testing.assert_allclose(raw[1] / units, raw[0], rtol=1e-2, atol=1e-3 * np.abs(raw[0]).max())


def test_scaled_weights_of_counts_are_in_standard_deviations():
    rows = np.concatenate([counts(n_features=5), counts(n_features=4, rate=50.0, seed=1)], axis=1)
    model = sparse(likelihood="poisson").fit(rows)
    scaled, raw = (
        of_names(model.describe_units(rows, n_features=None, scaled=how).loc[0])
        for how in (True, False)
    )
    np.testing.assert_allclose(raw, scaled * rows.std(axis=0), rtol=1e-5)


def test_a_column_of_zeros_is_written_by_nobody():
    rows = counts(n_features=9)
    rows[:, 4] = 0.0
    model = sparse(likelihood="poisson").fit(rows)
    written = np.array([of_names(row) for _, row in model.describe_units(None, None).iterrows()])
    assert np.isfinite(written).all()
    assert not written[:, 4].any()


def test_csr_rows_are_described_as_dense_ones():
    rows = counts(n_features=9)
    model = sparse(max_iter=20).fit(rows)
    dense, csr = model.describe_units(rows), model.describe_units(sp.csr_array(rows))
    pd.testing.assert_frame_equal(csr, dense, rtol=1e-4)


def test_rows_and_features_have_the_names_of_a_frame():
    frame = pd.DataFrame(X, index=[f"row {i}" for i in range(len(X))], columns=list("abcdefghi"))
    model = sparse().set_output(transform="pandas").fit(frame)
    named, plain = model.describe_units(frame), sparse().fit(X).describe_units(X)
    assert type(named) is pd.DataFrame
    for unit in range(6):
        assert named["rows"][unit] == [f"row {i}" for i in plain["rows"][unit]]
        assert named["features"][unit] == ["abcdefghi"[int(n[1:])] for n in plain["features"][unit]]
    assert sparse().fit(X).set_output(transform="pandas").describe_units(X).equals(plain)


def test_features_of_sparse_rows_are_called_what_the_user_calls_them():
    rows = sp.csr_array(counts(n_features=9))
    model = sparse().fit(rows)
    named, plain = (model.describe_units(rows, feature_names=n) for n in (list("abcdefghi"), None))
    for one, other in zip(named["features"], plain["features"], strict=True):
        assert one == ["abcdefghi"[int(name[1:])] for name in other]
    with pytest.raises(ValueError, match=r"each of the 9 features. Got the shape \(2,\)"):
        model.describe_units(rows, feature_names=["a", "b"])


def test_without_rows_the_training_rows_are_described_but_not_named():
    model = sparse(max_iter=20).fit(X)
    units, given = model.describe_units(), model.describe_units(X)
    pd.testing.assert_frame_equal(units, given[COLUMNS[:-1]], rtol=1e-4)
    weight = np.r_[np.full(40, 2.0), np.ones(80)]
    weighted = sparse(max_iter=20).fit(X, sample_weight=weight)
    rate = weight @ (weighted.transform(X) > 0) / weight.sum()
    np.testing.assert_allclose(weighted.describe_units()["rate"], rate, atol=2e-3)


def test_a_dead_unit_is_told_and_writes_nothing():
    model = sparse().fit(X)
    with torch.no_grad():
        model.module_.encoder[-1].weight[2] = 0.0
        model.module_.encoder[-1].bias[2] = -5.0
    row = model.describe_units(X).loc[2]
    assert row["rate"] == 0.0
    assert np.isnan(row["activation"])
    assert row["features"] == row["weights"] == row["rows"] == []


def test_sparse_output_changes_nothing():
    one, other = sparse().fit(X), sparse(sparse_output=True).fit(X)
    assert other.describe_units(X).equals(one.describe_units(X))


@every_estimator
def test_every_transformer_describes_its_code(Estimator):
    model = Estimator(**QUICK).fit(X)
    codes, units = model.transform(X), model.describe_units(X, n_rows=1)
    np.testing.assert_allclose(units["rate"], (codes != 0).mean(axis=0))
    alive = units["rate"] > 0
    assert [rows[0] for rows in units["rows"][alive]] == codes.argmax(axis=0)[alive].tolist()


def test_units_of_a_stack_are_those_of_the_top():
    level = SparseAutoencoderTransformer(sparsity="topk", **QUICK)
    stack = StackedAutoencoderTransformer(estimator=level, layer_sizes=(8, 6), max_iter=5).fit(X)
    codes, units = stack.transform(X), stack.describe_units(X, n_features=None, scaled=False)
    np.testing.assert_allclose(units["rate"], (codes > 0).mean(axis=0))
    unit = int(units["rate"].idxmax())
    mine = codes[codes[:, unit] > 0][:64]
    expected = np.mean([slopes(stack, code, unit) for code in mine], axis=0)
    found = of_names(units.loc[unit])
    assert np.abs(found - expected).max() < 0.2 * np.abs(expected).max()  # kinks of relu


# Edges.


class _Doubled(torch.autograd.Function):
    """An operation that knows its gradient, but not the gradient of that."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return 2 * grad


class _Doubling(nn.Module):
    def forward(self, x):
        return _Doubled.apply(x)


def test_operations_that_know_no_slope_are_described_by_differences():
    decoder = nn.Sequential(nn.Linear(4, 9), _Doubling())
    network = CustomNetwork(nn.Linear(9, 4), decoder)
    model = SparseAutoencoderTransformer(4, network=network, max_iter=5, random_state=0).fit(X)
    row = model.describe_units(X, n_features=None).loc[0]
    layer = 2 * model.module_.decoder[0].weight.detach().numpy()[:, 0]
    np.testing.assert_allclose(of_names(row), layer, rtol=1e-3, atol=1e-4 * np.abs(layer).max())


def test_the_program_around_may_compute_without_gradients():
    model = sparse(**DEEP).fit(X)
    expected = model.describe_units(X)
    with torch.inference_mode():
        assert model.describe_units(X).equals(expected)
    with torch.no_grad():
        assert model.describe_units(X).equals(expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"n_features": 0},
            r"'n_features' parameter of describe_units must be .*\[1, inf\).* Got 0",
        ),
        ({"n_features": 2.5}, "'n_features'"),
        ({"n_rows": -1}, r"'n_rows' .* Got -1"),
        ({"scaled": "yes"}, "'scaled' .* Got 'yes'"),
    ],
)
def test_what_cannot_be_asked_is_said(given, message):
    with pytest.raises(InvalidParameterError, match=message):
        sparse().fit(X).describe_units(X, **given)


def test_rows_are_looked_at_as_in_transform():
    with pytest.raises(NotFittedError):
        sparse().describe_units(X)
    with pytest.raises(ValueError, match="8 features"):
        sparse().fit(X).describe_units(X[:, :8])


def test_numbers_of_features_and_rows_are_those_asked_for():
    model = sparse(sparsity="l1", n_active=6).fit(X)
    units = model.describe_units(X, n_features=2, n_rows=0)
    assert set(map(len, units["features"])) == set(map(len, units["weights"])) == {2}
    assert set(map(len, units["rows"])) == {0}
    assert set(map(len, model.describe_units(X, n_features=20)["features"])) == {9}


def test_a_wide_table_of_many_units_takes_little_memory():
    rows = sp.random_array((400, 12_000), density=0.002, format="csr", random_state=0)
    model = AutoencoderTransformer(500, hidden_layer_sizes=(), max_iter=1, init="random").fit(rows)
    tracemalloc.start()
    model.describe_units(rows, n_features=3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 500 * 12_000 * 4  # of units by columns, of which numpy holds one at a time


def test_rows_are_labels_that_the_index_knows():
    table = pd.DataFrame(X, index=pd.date_range("2020-01-01", periods=len(X), freq="h", unit="ns"))
    table.columns = [f"c{place}" for place in range(X.shape[1])]
    units = sparse(sparsity="topk").fit(table).describe_units(table, n_rows=1)
    known = [label for labels in units["rows"] for label in labels]
    assert len(known) > 0
    assert table.loc[known].shape == (len(known), X.shape[1])
