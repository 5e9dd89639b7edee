"""Does every noise change as much as its level says, and nothing that it should not?

Data and tests are in the units in which `level` is defined: a share of the entries that count for
the noise, or a standard deviation where there is no largest level.
"""

import numpy as np
import pytest
import torch

from skae.noise import NOISES, GaussianNoise, Masking, SaltAndPepper, Swap
from tests.helpers import generator, global_generators_untouched, normal

N_ROWS, N_FEATURES = 2500, 40

laws = pytest.mark.parametrize("name", NOISES)
# The level of a noise without a largest one is no share.
share_laws = pytest.mark.parametrize(
    "name", [name for name, kind in NOISES.items() if kind.largest_level <= 1]
)

# Noises whose level is the share of the non-zero entries; for any other it is that of all entries.
OF_NON_ZEROS = ("masking", "swap")


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
    share = (corrupted(name, x, level) != x)[counted].double().mean()
    error = (level * (1 - level) / counted.sum()).sqrt()
    assert within_errors(share, level, error)


@share_laws
@on_data
def test_level_beyond_reach_changes_all_that_can_be_changed(name, x):
    counted = x != 0 if name in OF_NON_ZEROS else torch.ones_like(x, dtype=torch.bool)
    low, high = ((corrupted(name, x, level) != x)[counted].double().mean() for level in (0.4, 1.0))
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
