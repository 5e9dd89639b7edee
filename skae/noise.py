r"""How is the input of a denoising autoencoder corrupted? Noise for the training step.

A noise maps a batch to a corrupted copy; the target of the reconstruction stays clean, and
nothing is corrupted outside training. ``level`` is always the *effective* one: the share of
entries that really changed (for `GaussianNoise`: the standard deviation). To add one: one class
here and one line in `NOISES`.

On sparse rows (`Csr`) a noise works on the stored entries, at a cost that grows with their number
alone: no array with a cell for each row and feature is built, and none with one for each feature.

Shapes: ``x`` is (n_rows, n_features), in the units that the network sees: for a Gaussian
likelihood the scaled columns (where zero is the column's mean if they were centred), else X itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from skae._kernels.csr import Csr
from skae._validation import Component

# A chance of one would need infinitely many donors; only zeros of columns with few of them meet it.
_ALMOST_ONE = 1.0 - 1e-6


class Noise(Component):
    """Base of all noises.

    What `buffers_at_start` declares comes back as keyword arguments of `corrupt` and
    `corrupt_entries`. It is told ``mean`` and ``variance`` of the training columns, of shape
    (n_features,), in the units of ``x``.
    """

    declares = ("buffers_at_start",)
    instead = (
        "A noise trains nothing, for all that it would learn is to be none. Keep what it needs as "
        "arguments of its constructor, or return it from buffers_at_start."
    )

    #: Largest level that makes sense; shares end at one.
    largest_level: float = 1.0

    def check_level(self, level: float) -> None:
        """Raise ``ValueError`` where the level is out of the range of this noise."""
        if not 0.0 <= level <= self.largest_level:
            raise ValueError(
                f"noise_level must lie in [0, {self.largest_level:g}] for {type(self).__name__}. "
                f"Got {level!r} instead."
            )

    @abstractmethod
    def corrupt(
        self, x: Tensor, level: float, generator: torch.Generator, **state: Tensor
    ) -> Tensor:
        """Return a corrupted copy of a batch of clean rows."""

    def corrupt_entries(
        self, x: Csr, level: float, generator: torch.Generator, **state: Tensor
    ) -> Csr:
        """Return a corrupted copy of a batch of clean sparse rows.

        Neither what is given nor what is returned holds a zero among its values. A noise that does
        not say what it does on sparse rows raises ``NotImplementedError``.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no method corrupt_entries, so it cannot be put on sparse "
            "rows. Write one, or pass dense rows."
        )

    @property
    def takes_csr(self) -> bool:
        """Whether the noise says what it does on sparse rows."""
        return type(self).corrupt_entries is not Noise.corrupt_entries


class _EachForItself(Noise, ABC):
    """Base of noises whose result for an entry depends on that entry alone.

    On sparse rows the zeros stay zeros.
    """

    def corrupt_entries(self, x, level, generator):
        """Return the stored entries as `corrupt` makes them; what became zero is left out."""
        return _with_values(x, self.corrupt(x.values, level, generator))


class Masking(_EachForItself):
    """Sets a share of the non-zero entries to zero, each with probability ``level``.

    Zero is "nothing known": the mean of a column that was centred, absence in one that was not.
    On sparse rows the distribution is the same: stored entries are dropped.

    References
    ----------
    Vincent et al. (2010), "Stacked denoising autoencoders", section 3.3.
    """

    def corrupt(self, x, level, generator):
        """Return x with entries dropped."""
        return x * (_uniform(x, generator) >= level)


class GaussianNoise(_EachForItself):
    """Adds Gaussian noise to every entry; ``level`` is its standard deviation.

    For a Gaussian likelihood with standardised columns the unit is the standard deviation of the
    column. A linear autoencoder trained with it computes the Wiener filter
    ``C (C + level**2 I)^-1`` with C the covariance of the columns.

    On sparse rows only the stored entries get noise, and zeros stay zeros: otherwise the rows would
    not be sparse. So a CSR matrix and the same rows as an array are *not* corrupted alike.

    References
    ----------
    Vincent et al. (2010), "Stacked denoising autoencoders", section 3.3.
    """

    largest_level = float("inf")

    def corrupt(self, x, level, generator):
        """Return x plus noise."""
        return x + level * torch.empty_like(x).normal_(generator=generator)


class SaltAndPepper(Noise):
    """Sets a share of all entries to the lowest or highest value of their column in the batch.

    Each extreme is proposed with probability one half; a proposal that would change nothing does
    not count, so that the share of changed entries is ``level`` (or the largest share that can be
    reached, where many entries are at an extreme already).

    On sparse rows ``level`` is the share of the *stored* entries that really changed: as a share of
    all cells, a small level would drown them in false ones. The extremes are the same (zero is one
    of them where a column with entries of one sign has a zero in the batch). A zero takes an
    extreme as often as an entry does in a column with no more zeros than entries, and more rarely,
    by the ratio of entries to zeros, in any other. There as many zeros become non-zero, in
    expectation, as entries become zero, and the density of the column stays. (One with values of
    both signs has no zero to put; it becomes denser.)

    References
    ----------
    Vincent et al. (2010), "Stacked denoising autoencoders", section 3.3.
    """

    def corrupt(self, x, level, generator):
        """Return x with extremes in the place of some entries."""
        high = _uniform(x, generator) < 0.5
        proposal = torch.where(high, x.amax(dim=0), x.amin(dim=0))
        everywhere = torch.ones_like(x, dtype=torch.bool)
        probability = _probability(proposal != x, everywhere, level)
        return _replace(x, proposal, probability, generator)

    def corrupt_entries(self, x, level, generator):
        """Return rows with extremes in the place of some, and some more in place of zeros."""
        count, low, high = _columns(x)
        value = x.values
        proposal = torch.where(_uniform(value, generator) < 0.5, high, low)
        probability = _probability_of_stored(x, proposal, level)
        replaced = _replace(value, proposal, probability, generator)
        balance = (count / (x.shape[0] - count).clamp_min(1)).clamp_max(1.0)
        differing = 0.5 * ((low != 0).to(value) + (high != 0).to(value))
        key, donor = _strike_zeros(x, probability * balance * differing, count, generator)
        to_low = (high == 0) | ((low != 0) & (_uniform(value, generator) < 0.5))
        return _merge(x, replaced, key, torch.where(to_low, low, high)[donor])


class Swap(Noise):
    """Replaces entries by the value of the same column in another row of the batch.

    Every cell has a donor row of its own. A donor with the same value changes nothing and does not
    count: ``level`` is the share of the *non-zero* entries that really changed. On data that are
    mostly zeros the zeros change as well, at the rate at which their column is non-zero, so that
    the density of a column stays what it is. On sparse rows the distribution is the same.

    References
    ----------
    Jahrer (2018), winning entry of the Porto Seguro contest, where "swap noise" was introduced.
    """

    def corrupt(self, x, level, generator):
        """Return x with values of other rows in some entries."""
        proposal = _of_other_rows(x, generator)
        probability = _probability(proposal != x, x != 0, level)
        return _replace(x, proposal, probability, generator)

    def corrupt_entries(self, x, level, generator):
        """Return rows with values of others in some entries, and some more in place of zeros."""
        proposal = _stored_of_other_rows(x, generator)
        probability = _probability_of_stored(x, proposal, level)
        rate = probability.expand(x.shape[0])
        return _swap_stored(x, proposal, rate, probability, generator)


class SwapGaussian(Noise):
    """Swaps a few or many entries of a row, and adds Gaussian noise to all of them.

    Each row draws a rate of its own, uniform between 0 and 1.5 times ``level`` (at most 1); each of
    its entries takes the value of the same column in another row of the batch with that
    probability. Then Gaussian noise with standard deviation ``level`` is added. Rows with few
    changes teach how columns go together in detail, rows with many what the whole table is like:
    the noise of the default network of `skae.AutoencoderOutlierDetector`.

    On sparse rows entries and zeros are swapped in the same way, and the density of a column stays.
    The Gaussian noise then stands on the non-zero entries only, as with `GaussianNoise`.
    """

    largest_level = float("inf")

    def corrupt(self, x, level, generator):
        """Return x with values of other rows in some entries, plus noise."""
        rate = 1.5 * level * _uniform(x[:, :1], generator)
        swapped = _replace(x, _of_other_rows(x, generator), rate, generator)
        return GaussianNoise().corrupt(swapped, level, generator)

    def corrupt_entries(self, x, level, generator):
        """Return rows of which some entries come from other rows, plus noise on all of them."""
        rows = x.values.new_empty(x.shape[0])
        rate = 1.5 * level * _uniform(rows, generator)
        proposal = _stored_of_other_rows(x, generator)
        swapped = _swap_stored(x, proposal, rate, min(1.5 * level, 1.0), generator)
        return GaussianNoise().corrupt_entries(swapped, level, generator)


class Thinning(_EachForItself):
    """Drops items of counts: each of the x items of an entry stays with probability ``1 - level``.

    What stays is binomial with mean ``(1 - level) * x``, and ``level`` is the share of the items
    that are dropped: words of a text, reads of a gene, orders of a customer. A thinned Poisson
    count is Poisson. Zeros stay zeros, and on sparse rows the distribution is the same.

    It is meant for X that the network sees unscaled. Of a value that is not whole, the whole part
    is thinned and the rest stays or goes as one item does, which keeps the mean. Negative values
    stay as they are.

    References
    ----------
    Steutel and van Harn (1979), "Discrete analogues of self-decomposability and stability", where
    binomial thinning is defined. Neufeld et al. (2022), "Inference after latent variable estimation
    for single-cell RNA sequencing data", where counts are split by it.

    Examples
    --------
    >>> import torch
    >>> from skae.noise import Thinning
    >>> x = torch.full((1, 20_000), 10.0)
    >>> thinned = Thinning().corrupt(x, 0.3, torch.Generator().manual_seed(0))
    >>> print(f"mean {thinned.mean():.1f}, variance {thinned.var():.1f}")
    mean 7.0, variance 2.1
    """

    def corrupt(self, x, level, generator):
        """Return x with a share of its items dropped."""
        whole = x.clamp_min(0).floor()
        rest = x.clamp_min(0) - whole
        kept = torch.binomial(whole, torch.full_like(whole, 1.0 - level), generator=generator)
        kept += rest * (_uniform(x, generator) >= level)
        return kept + x.clamp_max(0)


def _uniform(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return uniform draws in [0, 1) of the shape of x."""
    return torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype)


def _of_other_rows(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return, for each cell, the value of its column in a random row."""
    donor = torch.randint(0, len(x), x.shape, generator=generator, device=x.device)
    return x.gather(0, donor)


def _probability(differs: Tensor, counted: Tensor, level: float) -> Tensor:
    """Return how often to take a proposal so that a share ``level`` of the counted cells changes.

    Only proposals that differ can change anything. Where a share d of the counted cells has one,
    each is taken with probability ``level / d``, and with certainty where that passes one.
    """
    reachable = (differs & counted).sum()
    return (level * counted.sum() / reachable.clamp_min(1)).clamp_max(1.0)


def _replace(
    x: Tensor, proposal: Tensor, probability: Tensor, generator: torch.Generator
) -> Tensor:
    """Take the proposal in each cell with the given probability."""
    return torch.where(_uniform(x, generator) < probability, proposal, x)


# Sparse rows. A cell has the key ``row * n_features + column``, and entries are sorted by it.


def _keys(x: Csr) -> Tensor:
    return x.rows * x.shape[1] + x.indices


def _look_up(x: Csr, key: Tensor) -> tuple[Tensor, Tensor]:
    """Return where among the entries each key would stand, and whether it is one of them."""
    keys = _keys(x)
    at = torch.searchsorted(keys, key).clamp_max(len(keys) - 1)
    return at, keys[at] == key


def _with_values(x: Csr, value: Tensor) -> Csr:
    """Return rows with other values in the same places, without those that are zero."""
    return _without_zeros(x.rows, x.indices.long(), value, x.shape)


def _without_zeros(row: Tensor, column: Tensor, value: Tensor, shape: tuple[int, int]) -> Csr:
    stored = value != 0
    return Csr.from_entries(row[stored], column[stored], value[stored], shape)


def _merge(x: Csr, value: Tensor, key: Tensor, new_value: Tensor) -> Csr:
    """Return rows with other values, and new ones at cells that were zero."""
    keys, order = torch.cat([_keys(x), key]).sort()
    n_features = max(x.shape[1], 1)
    row = keys.div(n_features, rounding_mode="floor")
    column = keys - row * n_features
    return _without_zeros(row, column, torch.cat([value, new_value])[order], x.shape)


def _columns(x: Csr) -> tuple[Tensor, Tensor, Tensor]:
    """Return, for each entry, how many its column has, and the lowest and highest value of it.

    Zero is among the values of a column that has no entry in some row.
    """
    _, place, count = x.indices.unique(return_inverse=True, return_counts=True)
    # A full column has no zero; at infinity it has no say.
    start = torch.where(count < x.shape[0], 0.0, float("inf")).to(x.values)
    low = start.scatter_reduce(0, place, x.values, "amin")
    high = (-start).scatter_reduce(0, place, x.values, "amax")
    return count[place], low[place], high[place]


def _probability_of_stored(x: Csr, proposal: Tensor, level: float) -> Tensor:
    """Return `_probability` where the stored entries are counted."""
    everywhere = torch.ones_like(x.values, dtype=torch.bool)
    return _probability(proposal != x.values, everywhere, level)


def _random_rows(x: Csr, n_draws: int, generator: torch.Generator) -> Tensor:
    device = x.rows.device
    n_rows = max(x.shape[0], 1)  # without rows there are no draws either
    return torch.randint(0, n_rows, (n_draws,), generator=generator, device=device)


def _stored_of_other_rows(x: Csr, generator: torch.Generator) -> Tensor:
    """Return, for each entry, the value of its column in a random row; most often it is zero."""
    donor = _random_rows(x, len(x.rows), generator)
    at, found = _look_up(x, donor * x.shape[1] + x.indices)
    return torch.where(found, x.values[at], 0.0)


def _swap_stored(
    x: Csr,
    proposal: Tensor,
    rate: Tensor,
    largest_rate: Tensor | float,
    generator: torch.Generator,
) -> Csr:
    """Swap each cell with the rate of its row.

    A zero whose donor is an entry becomes non-zero: it has one with the share of entries in its
    column. Cells are struck at the largest rate of all, and those of other rows are thinned.
    """
    value = _replace(x.values, proposal, rate[x.rows], generator)
    count, _, _ = _columns(x)
    share = count / max(x.shape[0], 1)
    key, donor = _strike_zeros(x, largest_rate * share, count, generator)
    row = key.div(max(x.shape[1], 1), rounding_mode="floor")
    new_value = x.values[donor]
    struck = largest_rate * _uniform(new_value, generator) < rate[row]
    return _merge(x, value, key[struck], new_value[struck])


def _strike_zeros(
    x: Csr, probability: Tensor, count: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Strike each zero of a column with the probability that is given with its entries.

    Returns the keys of the cells and, for each, which entry of its column struck it, all of them
    with equal chances. To list the zeros would cost too much. Instead each entry throws a Poisson
    number of darts at random rows: then darts strike cells independently of each other, and a
    cell gets none with probability ``exp(-mean)``, which gives the mean that is needed.
    """
    n_rows, n_features = x.shape
    mean = -torch.log1p(-probability.clamp_max(_ALMOST_ONE))
    darts = torch.poisson((count < n_rows) * mean * n_rows / count, generator=generator)
    thrower = torch.arange(len(count), device=count.device).repeat_interleave(darts.long())
    # Of several darts in a cell the first one counts: in random order, none is preferred.
    order = torch.randperm(len(thrower), generator=generator, device=count.device)
    thrower = thrower[order]
    row = _random_rows(x, len(thrower), generator)
    key = row * n_features + x.indices[thrower]
    _, taken = _look_up(x, key)
    return _first_of_each(key[~taken], thrower[~taken])


def _first_of_each(key: Tensor, companion: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distinct keys, sorted, each with the companion of its first appearance."""
    key, order = key.sort(stable=True)
    first = torch.ones_like(key, dtype=torch.bool)
    first[1:] = key[1:] != key[:-1]
    return key[first], companion[order][first]


NOISES: dict[str, type[Noise]] = {
    "masking": Masking,
    "gaussian": GaussianNoise,
    "salt_and_pepper": SaltAndPepper,
    "swap": Swap,
    "swap_gaussian": SwapGaussian,
    "thinning": Thinning,
}
