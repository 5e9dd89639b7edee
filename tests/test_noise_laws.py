"""Does every noise change as much as its level says, and nothing that it should not?

Data and tests are in the units in which `level` is defined: a share of the entries that count for
the noise, or a standard deviation where there is no largest level. Every noise is put on dense
rows and on the stored entries of sparse ones.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from skae._kernels.csr import Csr
from skae.noise import (
    NOISES,
    GaussianNoise,
    Masking,
    Noise,
    SaltAndPepper,
    Swap,
    Thinning,
)
from tests.helpers import generator, global_generators_untouched, normal

N_ROWS, N_FEATURES = 2500, 40

laws = pytest.mark.parametrize("name", NOISES)
# The level of a noise without a largest one is no share.
share_laws = pytest.mark.parametrize(
    "name", [name for name, kind in NOISES.items() if kind.largest_level <= 1]
)

# Noises whose level is the share of the non-zero entries; for any other it is that of all entries.
OF_NON_ZEROS = ("masking", "swap")
# Noises whose level is the share of items: an entry of x has x of them, one below zero has none.
OF_ITEMS = ("thinning",)


def binary(density, seed=0):
    uniform = torch.rand(N_ROWS, N_FEATURES, generator=generator(seed), dtype=torch.float64)
    return (uniform < density).double()


DATA = {
    "continuous": normal(N_ROWS, N_FEATURES),
    "binary 2 %": binary(0.02),
    "binary 10 %": binary(0.10),
    "binary 50 %": binary(0.50),
}
on_data = pytest.mark.parametrize("x", DATA.values(), ids=DATA)


def corrupted(name, x, level, seed=1):
    return NOISES[name]().corrupt(x, level, generator(seed))


def share_of_change(name, x, result, counted):
    """Return how much of what counts was changed, and how many independent draws that is."""
    if name in OF_ITEMS:
        items = x.clamp_min(0)
        rest = items - items.floor()  # stays or goes at once, with a weight below that of an item
        n_draws = items.sum() ** 2 / (items.floor() + rest**2).sum()
        return (x - result).sum() / items.sum(), n_draws
    return (result != x)[counted].double().mean(), counted.sum()


def within_errors(found, expected, standard_error, errors=4):
    return abs(float(found) - expected) < errors * float(standard_error)


@laws
@on_data
def test_level_zero_changes_nothing(name, x):
    assert torch.equal(corrupted(name, x, 0.0), x)


@laws
@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_input_is_not_touched_and_not_shared(name, level):
    x = normal(30, 5)
    before = x.clone()
    result = corrupted(name, x, level)
    result.fill_(7.0)
    assert torch.equal(x, before)


@share_laws
@on_data
@pytest.mark.parametrize("level", [0.05, 0.15, 0.4])
def test_share_of_changed_entries_is_the_level(name, x, level):
    counted = x != 0 if name in OF_NON_ZEROS else torch.ones_like(x, dtype=torch.bool)
    share, n_draws = share_of_change(name, x, corrupted(name, x, level), counted)
    assert within_errors(share, level, (level * (1 - level) / n_draws).sqrt())


@share_laws
@on_data
def test_level_beyond_reach_changes_all_that_can_be_changed(name, x):
    counted = x != 0 if name in OF_NON_ZEROS else torch.ones_like(x, dtype=torch.bool)
    low, high = (
        share_of_change(name, x, corrupted(name, x, level), counted)[0] for level in (0.4, 1.0)
    )
    # A proposal drawn from the column differs from the entry in one half of the cases at least.
    assert high > 0.45
    assert high > low


@laws
def test_same_generator_same_noise(name):
    x = DATA["continuous"][:50]
    with global_generators_untouched():
        first, again, other = (corrupted(name, x, 0.3, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@laws
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_precision_and_shape_stay(name, dtype):
    result = corrupted(name, DATA["binary 10 %"][:7].to(dtype), 0.5)
    assert (result.dtype, result.shape) == (dtype, (7, N_FEATURES))


@laws
@pytest.mark.parametrize(
    "x", [torch.zeros(6, 3), torch.ones(6, 3), torch.ones(1, 3)], ids=["zeros", "constant", "row"]
)
def test_rows_without_variety_stay_finite(name, x):
    assert torch.isfinite(corrupted(name, x, 0.5)).all()


@laws
def test_level_out_of_range_is_named(name):
    noise = NOISES[name]()
    beyond = [] if np.isinf(noise.largest_level) else [noise.largest_level + 0.01, 2.0, np.inf]
    for level in [-0.01, np.nan, -np.inf, *beyond]:
        with pytest.raises(ValueError, match="noise_level must lie in") as error:
            noise.check_level(level)
        for words in (f"[0, {noise.largest_level:g}]", type(noise).__name__, f"Got {level!r}"):
            assert words in str(error.value)


@laws
def test_level_at_the_ends_of_its_range_is_accepted(name):
    noise = NOISES[name]()
    for level in (0.0, 0.5, min(noise.largest_level, 10.0)):
        noise.check_level(level)


# Each noise for itself.


@on_data
def test_masking_puts_zeros_only(x):
    result = Masking().corrupt(x, 0.4, generator())
    changed = result != x
    assert (result[changed] == 0).all()


def test_masking_at_level_one_hides_everything():
    assert not Masking().corrupt(DATA["continuous"], 1.0, generator()).any()


@pytest.mark.parametrize("level", [0.1, 2.0])
def test_gaussian_noise_has_the_level_as_standard_deviation(level):
    x = DATA["continuous"]
    noise = GaussianNoise().corrupt(x, level, generator(5)) - x
    assert within_errors(noise.std(), level, level / (2 * x.numel()) ** 0.5)
    assert within_errors(noise.mean(), 0.0, level / x.numel() ** 0.5)
    # One draw an entry, not one a row or a column.
    assert len(noise.unique()) > 0.99 * x.numel()


@on_data
def test_salt_and_pepper_puts_the_extremes_of_the_column(x):
    x = x * torch.arange(1, N_FEATURES + 1)  # extremes of their own in every column
    result = SaltAndPepper().corrupt(x, 0.3, generator())
    changed = result != x
    is_high = result == x.amax(dim=0)
    assert (is_high | (result == x.amin(dim=0)))[changed].all()


def test_salt_and_pepper_proposes_both_extremes_alike():
    x = DATA["continuous"]
    result = SaltAndPepper().corrupt(x, 0.3, generator())
    changed = result != x
    share = (result == x.amax(dim=0))[changed].double().mean()
    assert within_errors(share, 0.5, 0.5 / changed.sum().sqrt())


def test_swap_takes_values_of_the_same_column():
    x = torch.arange(60.0).reshape(12, 5)
    result = Swap().corrupt(x, 0.8, generator())
    for column in range(5):
        assert set(result[:, column].tolist()) <= set(x[:, column].tolist())


def test_swap_has_a_donor_for_each_cell():
    rows = torch.arange(400.0)[:, None]
    donor = Swap().corrupt(rows.expand(-1, 30), 0.5, generator())
    changed = donor != rows
    distinct = [len(set(row[at].tolist())) for row, at in zip(donor, changed, strict=True)]
    # 15 cells with 400 donors to choose from: one pair in four rows falls on the same one.
    assert np.sum(distinct) > 0.95 * changed.sum()


@pytest.mark.parametrize("density", [0.02, 0.10, 0.50])
def test_swap_keeps_the_density(density):
    x = binary(density)
    result = Swap().corrupt(x, 0.4, generator())
    changed = (result != x).sum()
    # Ones that go and ones that come are equally likely: a random walk of as many steps.
    assert within_errors(result.sum() - x.sum(), 0.0, changed.double().sqrt())
    assert ((result - x) > 0).any()


def test_swap_changes_zeros_at_the_rate_at_which_their_column_is_not_zero():
    x = torch.cat([binary(0.02, seed=3), binary(0.30, seed=4)], dim=1)
    came = (Swap().corrupt(x, 0.4, generator()) - x) > 0
    zeros = x == 0
    rare, common = (
        came[:, part][zeros[:, part]].double().mean()
        for part in (slice(0, N_FEATURES), slice(N_FEATURES, None))
    )
    assert float(common / rare) == pytest.approx(0.30 / 0.02, rel=0.2)


def test_swap_and_salt_do_not_divide_by_zero_where_nothing_can_change():
    for x in (torch.zeros(5, 2), torch.ones(5, 2)):
        assert torch.equal(Swap().corrupt(x, 0.9, generator()), x)
        assert torch.equal(SaltAndPepper().corrupt(x, 0.9, generator()), x)


# Thinning is binomial.


def thinned(x, level=0.3):
    return Thinning().corrupt(x, level, generator(7))


def counts(mean, size=200_000):
    return torch.poisson(torch.full((size,), mean, dtype=torch.float64), generator=generator(8))


def chi_square(x, distribution):
    """Return how probable a distance from the distribution like that of these counts is."""
    top = int(distribution.ppf(0.999))
    found = np.bincount(np.minimum(x.numpy().astype(int), top), minlength=top + 1)
    expected = distribution.pmf(np.arange(top + 1))
    expected[top] = distribution.sf(top - 1)
    return stats.chisquare(found, expected * len(x)).pvalue


@pytest.mark.parametrize("n_items", [1, 3, 40, 1000])
@pytest.mark.parametrize("level", [0.05, 0.5, 0.95])
def test_thinning_is_binomial(n_items, level):
    kept = thinned(torch.full((50_000,), float(n_items), dtype=torch.float64), level)
    variance = n_items * level * (1 - level)
    assert within_errors(kept.mean(), n_items * (1 - level), (variance / len(kept)) ** 0.5)
    fourth_moment = float(stats.binom.stats(n_items, 1 - level, moments="k")) + 3
    error = variance * ((fourth_moment - 1) / len(kept)) ** 0.5
    # With one item the variance is a function of the mean, whose error is then the larger one.
    assert within_errors(kept.var(), variance, max(error, variance / len(kept) ** 0.5))
    if n_items <= 40:
        assert chi_square(kept, stats.binom(n_items, 1 - level)) > 1e-4


@pytest.mark.parametrize("level", [0.2, 0.7])
def test_thinned_poisson_is_poisson_and_independent_of_what_was_dropped(level):
    x = counts(4.0)
    kept = thinned(x, level)
    assert chi_square(kept, stats.poisson(4.0 * (1 - level))) > 1e-4
    assert chi_square(x - kept, stats.poisson(4.0 * level)) > 1e-4
    correlation = np.corrcoef(kept, x - kept)[0, 1]
    assert within_errors(correlation, 0.0, len(x) ** -0.5)


def test_thinning_of_a_fraction_keeps_the_mean():
    x = torch.full((100_000,), 2.75, dtype=torch.float64)
    kept = thinned(x)
    assert set(kept.unique().tolist()) == {0.0, 1.0, 2.0, 0.75, 1.75, 2.75}
    variance = (2 + 0.75**2) * 0.3 * 0.7
    assert within_errors(kept.mean(), 0.7 * 2.75, (variance / len(x)) ** 0.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_thinning_at_the_ends(dtype):
    x = torch.tensor([0.0, 1.0, 7.3, 0.1, -2.5, 3e7, 1e12], dtype=dtype)
    assert torch.equal(thinned(x, 0.0), x)
    assert torch.equal(thinned(x, 1.0), x.clamp_max(0))


# Sparse rows. Tests turn them into arrays and back; the noise never does.


def stored(x):
    """Return an array as sparse rows."""
    row, column = x.nonzero(as_tuple=True)
    return Csr.from_entries(row, column, x[row, column], tuple(x.shape))


def corrupted_entries(name, x, level, seed=1):
    return NOISES[name]().corrupt_entries(stored(x), level, generator(seed))


def corrupted_sparse(name, x, level, seed=1):
    """Return the rows of an array after the noise for sparse rows, as an array."""
    return corrupted_entries(name, x, level, seed).dense()


def parts(x):
    return x.indptr, x.indices, x.values


def assert_same(found, expected):
    assert found.shape == expected.shape
    for one, other in zip(parts(found), parts(expected), strict=True):
        assert torch.equal(one, other)


def assert_contract(x):
    row, column, value, (n_rows, n_features) = x.rows, x.indices, x.values, x.shape
    assert x.indptr.dtype == row.dtype == column.dtype == torch.int64
    assert row.shape == column.shape == value.shape
    assert (value != 0).all()
    assert torch.isfinite(value).all()
    assert ((row >= 0) & (row < n_rows) & (column >= 0) & (column < n_features)).all()
    assert (torch.diff(row * n_features + column) > 0).all()
    assert torch.equal(x.indptr, torch.searchsorted(row, torch.arange(n_rows + 1)))


def of_counts(*means):
    """Return columns of Poisson counts, one for each mean."""
    return torch.stack([counts(mean, N_ROWS).roll(31 * at) for at, mean in enumerate(means)], 1)


SPARSE_DATA = {
    "binary 2 %": binary(0.02),
    "binary 50 %": binary(0.50),
    "counts": of_counts(*np.linspace(0.02, 3.0, N_FEATURES)),
    "both signs": binary(0.3, seed=2) * normal(N_ROWS, N_FEATURES),
    "full": DATA["continuous"],
}
on_sparse_data = pytest.mark.parametrize("x", SPARSE_DATA.values(), ids=SPARSE_DATA)

ODD = {
    "no row": torch.zeros(0, 4),
    "no column": torch.zeros(4, 0),
    "zeros": torch.zeros(6, 3),
    "one row": torch.tensor([[0.0, 2.0, 3.0, -1.0]]),
    "one column": torch.tensor([[0.0], [2.0], [0.0], [3.0]]),
    "one entry": torch.tensor([[0.0, 0.0], [0.0, 5.0]]),
    "full and constant": torch.ones(6, 3),
    "full": torch.arange(1.0, 13.0).reshape(4, 3),
    "rows without entries": torch.tensor([[0.0, 0.0], [1.0, 2.0], [0.0, 0.0], [3.0, 0.0]]),
    "full column beside an empty one": torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]]),
}
on_odd_rows = pytest.mark.parametrize("x", ODD.values(), ids=ODD)

small_tables = st.integers(1, 6).flatmap(
    lambda n_columns: st.lists(
        st.lists(st.sampled_from([0, 0, 0, 1, 2, 2.5, -1]), min_size=n_columns, max_size=n_columns),
        min_size=1,
        max_size=8,
    )
)


@laws
@on_sparse_data
def test_sparse_level_zero_changes_nothing(name, x):
    assert_same(corrupted_entries(name, x, 0.0), stored(x))


@laws
@on_odd_rows
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_sparse_result_is_sorted_without_duplicates_and_zeros_on_odd_rows(name, x, level):
    for seed in range(20):
        result = corrupted_entries(name, x, level, seed)
        assert result.shape == x.shape
        assert_contract(result)


@laws
@given(rows=small_tables, level=st.floats(0.0, 1.0), seed=st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_sparse_result_is_sorted_without_duplicates_and_zeros(name, rows, level, seed):
    assert_contract(corrupted_entries(name, torch.tensor(rows, dtype=torch.float64), level, seed))


@laws
@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_entries_are_not_touched_and_not_shared(name, level):
    given_entries, before = (stored(SPARSE_DATA["counts"][:30]) for _ in range(2))
    for tensor in parts(NOISES[name]().corrupt_entries(given_entries, level, generator())):
        tensor.fill_(7)
    assert_same(given_entries, before)


@laws
def test_same_generator_same_noise_on_sparse_rows(name):
    x = SPARSE_DATA["counts"][:200]
    with global_generators_untouched():
        first, again, other = (corrupted_entries(name, x, 0.3, seed) for seed in (1, 1, 2))
    assert_same(first, again)
    assert not torch.equal(first.dense(), other.dense())


@laws
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_precision_stays_on_sparse_rows(name, dtype):
    x = SPARSE_DATA["counts"][:50].to(dtype)
    assert corrupted_entries(name, x, 0.5).values.dtype == dtype


@share_laws
@on_sparse_data
@pytest.mark.parametrize("level", [0.05, 0.15, 0.4])
def test_share_of_changed_stored_entries_is_the_level(name, x, level):
    share, n_draws = share_of_change(name, x, corrupted_sparse(name, x, level), x != 0)
    assert within_errors(share, level, (level * (1 - level) / n_draws).sqrt())


@share_laws
@on_sparse_data
def test_sparse_level_beyond_reach_changes_all_that_can_be_changed(name, x):
    low, high = (
        share_of_change(name, x, corrupted_sparse(name, x, level), x != 0)[0]
        for level in (0.4, 1.0)
    )
    assert high > 0.45
    assert high > low


@laws
def test_cost_grows_with_the_entries_alone(name):
    # An array with one cell for each feature would not fit into any memory.
    n_rows, n_features = 50, 10**15
    column = torch.randint(0, 20, (400,), generator=generator()) * (n_features // 20)
    row = torch.randint(0, n_rows, (400,), generator=generator(1))
    row, column = torch.stack([row, column]).unique(dim=1)
    entries = Csr.from_entries(row, column, torch.full(row.shape, 3.0), (n_rows, n_features))
    result = NOISES[name]().corrupt_entries(entries, 0.4, generator())
    assert_contract(result)
    assert len(result.values) < 2 * len(row)


def test_a_noise_that_leaves_sparse_rows_out_names_itself_and_a_remedy():
    class Mine(Noise):
        def corrupt(self, x, level, generator):
            return x

    with pytest.raises(NotImplementedError, match=r"Mine has no method corrupt_entries.*dense"):
        Mine().corrupt_entries(stored(torch.ones(2, 2)), 0.1, generator())


# Both methods of a noise have the same distribution, where it does not say otherwise.

SMALL = torch.tensor(
    [
        [0.0, 1.0, 0.0, 4.0, 0.0],
        [0.0, 1.0, 2.0, 1.0, 0.0],
        [0.0, 1.0, 0.0, 0.0, 3.0],
        [0.0, 1.0, 1.0, 2.0, 0.0],
        [0.0, 3.0, 0.0, 3.0, 0.0],
        [0.0, 5.0, 0.0, 2.0, 0.0],
        [0.0, 1.0, 0.0, 2.0, 0.0],
    ]
)
FULL = SMALL + 1
SIGNED = SMALL * torch.tensor([[1.0], [-1.0], [1.0], [1.0], [-1.0], [1.0], [-1.0]])


def moments(result, x):
    """Return cells, changes, and squares and products of the sums of them over rows and columns."""
    changed = (result != x).double()
    sums = [changed.sum(0), changed.sum(1), (result != 0).double().sum(0)]
    cells = [result.flatten(), changed.flatten(), (result**2).flatten()]
    return torch.cat([*cells, *sums, *(one**2 for one in sums)])


def assert_alike(draw, other_draw, x, n_draws=1500):
    """Compare the moments of two noises, in standard errors of their difference."""
    first, second = (
        torch.stack([moments(one(seed).double(), x) for seed in range(start, start + n_draws)])
        for one, start in ((draw, 0), (other_draw, n_draws))
    )
    error = ((first.var(0) + second.var(0)) / n_draws).sqrt()
    difference = (first.mean(0) - second.mean(0)).abs()
    # About a hundred numbers are compared; what no noise changes is the same without error.
    assert (difference <= 4.8 * error + 1e-9).all()


@pytest.mark.parametrize("name", ["masking", "swap", "thinning"])
@pytest.mark.parametrize("level", [0.3, 0.9])
@pytest.mark.parametrize("x", [SMALL, FULL, SIGNED], ids=["small", "full", "signed"])
def test_sparse_rows_are_corrupted_like_dense_ones(name, x, level):
    assert_alike(
        lambda seed: corrupted(name, x, level, seed),
        lambda seed: corrupted_sparse(name, x, level, seed),
        x,
    )


def test_sparse_rows_are_swapped_like_dense_ones_before_gaussian_noise():
    # The values are so far from each other that they can be told under the noise.
    def without_gaussian(result):
        return (result / 100).round()

    assert_alike(
        lambda seed: without_gaussian(corrupted("swap_gaussian", 100 * SMALL, 0.9, seed)),
        lambda seed: without_gaussian(corrupted_sparse("swap_gaussian", 100 * SMALL, 0.9, seed)),
        SMALL,
    )


@pytest.mark.parametrize("x", [FULL, -FULL], ids=["positive", "negative"])
def test_full_sparse_rows_get_salt_and_pepper_like_dense_ones(x):
    assert_alike(
        lambda seed: corrupted("salt_and_pepper", x, 0.3, seed),
        lambda seed: corrupted_sparse("salt_and_pepper", x, 0.3, seed),
        x,
    )


@pytest.mark.parametrize("signs", ["positive", "negative", "both"])
def test_columns_with_few_zeros_get_salt_and_pepper_like_dense_ones(signs):
    x = binary(0.75, seed=5)[:60, :4] * normal(60, 4).round(decimals=1)
    x = {"positive": x.abs(), "negative": -x.abs(), "both": x}[signs]
    assert ((x != 0).double().mean(0) > 0.5).all()
    # Only the shares that the level counts differ: here is a level for each that makes changes
    # of proposals equally frequent. Each extreme is proposed to each cell in half of the cases.
    reachable = 0.5 * ((x != x.amin(0)).double() + (x != x.amax(0)).double())
    dense_level, level = 0.4 * reachable.mean(), 0.4 * reachable[x != 0].mean()
    assert_alike(
        lambda seed: corrupted("salt_and_pepper", x, dense_level, seed),
        lambda seed: corrupted_sparse("salt_and_pepper", x, level, seed),
        x,
    )


# Each noise for itself, on sparse rows.


@pytest.mark.parametrize("name", ["masking", "gaussian", "thinning"])
@on_sparse_data
def test_zeros_stay_zeros(name, x):
    assert not corrupted_sparse(name, x, 0.7)[x == 0].any()


def test_gaussian_noise_on_stored_entries_has_the_level_as_standard_deviation():
    x = SPARSE_DATA["counts"]
    noise = (corrupted_sparse("gaussian", x, 0.2) - x)[x != 0]
    assert within_errors(noise.std(), 0.2, 0.2 / (2 * len(noise)) ** 0.5)
    assert within_errors(noise.mean(), 0.0, 0.2 / len(noise) ** 0.5)


@pytest.mark.parametrize("name", ["swap", "swap_gaussian"])
@pytest.mark.parametrize("density", [0.02, 0.10, 0.50, 0.95])
@pytest.mark.parametrize("level", [0.1, 0.4, 1.0])
def test_swap_keeps_the_density_of_sparse_columns(name, density, level):
    x = binary(density).repeat(3, 1)
    came = (corrupted_sparse(name, x, level) != 0).double() - x
    changed = came.abs().sum()
    assert within_errors(came.sum(), 0.0, changed.sqrt())
    assert changed > 0.1 * level * (1 - density) * x.sum()
    # And each column of its own: sums of as many steps that go up or down.
    z = came.sum(0) / came.abs().sum(0).clamp_min(1).sqrt()
    assert z.abs().max() < 4.5


def test_swap_puts_values_of_the_same_column_into_zeros():
    x = SPARSE_DATA["both signs"][:, :5]
    result = corrupted_sparse("swap", x, 0.4)
    came = (x == 0) & (result != 0)
    assert came.sum() > 500
    for column in range(5):
        new = result[:, column][came[:, column]]
        assert set(new.tolist()) <= set(x[:, column].tolist())
        # Many donors, each as likely as any other: few come twice as often as the mean.
        assert len(new.unique()) > 0.6 * min(len(new), int((x[:, column] != 0).sum()))


def test_swap_rate_of_sparse_rows_differs_from_row_to_row():
    x = binary(0.5).repeat(1, 10)
    result = corrupted_sparse("swap_gaussian", 100 * x, 0.4)
    share = ((result / 100).round() != x).double().mean(1)
    # Half of the donors differ: shares are uniform between 0 and 0.3.
    assert within_errors(share.mean(), 0.15, 0.3 / (12 * N_ROWS) ** 0.5)
    assert float(share.std()) == pytest.approx(0.3 / 12**0.5, rel=0.1)


def false_and_lost(x, level):
    """Return, for each column, how many zeros salt and pepper fills, and how many entries go."""
    result = corrupted_sparse("salt_and_pepper", x, level)
    return ((x == 0) & (result != 0)).double().sum(0), ((x != 0) & (result == 0)).double().sum(0)


def test_salt_and_pepper_fills_as_many_zeros_of_sparse_columns_as_it_empties_entries():
    x = torch.cat([binary(0.02, seed=3), binary(0.3, seed=4), binary(0.5, seed=5)], dim=1)
    x = x[:, (x.mean(0) <= 0.5)] * 2.0
    false, lost = false_and_lost(x, 0.3)
    assert ((false - lost).abs() < 4.5 * (false + lost).clamp_min(1).sqrt()).all()
    # All entries are at the highest, so that all that change become zero.
    assert within_errors(false.sum(), float(0.3 * (x != 0).sum()), false.sum().sqrt())


def test_salt_and_pepper_fills_zeros_of_dense_columns_as_often_as_it_empties_entries():
    x = binary(0.8, seed=6)
    false, lost = (one.sum() for one in false_and_lost(x, 0.3))
    share, lost_share = false / (x == 0).sum(), lost / (x != 0).sum()
    assert within_errors(share, 0.3, (0.3 * 0.7 / (x == 0).sum()).sqrt())
    assert within_errors(lost_share, 0.3, (0.3 * 0.7 / (x != 0).sum()).sqrt())


@on_sparse_data
def test_salt_and_pepper_puts_the_extremes_of_sparse_columns(x):
    x = x * torch.arange(1, N_FEATURES + 1)
    result = corrupted_sparse("salt_and_pepper", x, 0.3)
    changed = result != x
    is_extreme = (result == x.amax(0)) | (result == x.amin(0))
    assert changed.any()
    assert is_extreme[changed].all()


def test_salt_and_pepper_puts_both_extremes_into_zeros_of_columns_with_both_signs():
    x = SPARSE_DATA["both signs"]
    result = corrupted_sparse("salt_and_pepper", x, 0.3)
    came = (x == 0) & (result != 0)
    share = (result > 0)[came].double().mean()
    assert within_errors(share, 0.5, 0.5 / came.sum().sqrt())
