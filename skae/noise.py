r"""How is the input of a denoising autoencoder corrupted? Noise for the training step.

A noise maps a batch to a corrupted copy; the target of the reconstruction stays clean, and
nothing is corrupted outside training. ``level`` is always the *effective* one: the share of
entries that really changed (for `GaussianNoise`: the standard deviation). To add one: one class
here and one line in `NOISES`.

Shapes: ``x`` is (n_rows, n_features), in the units that the network sees: for a Gaussian
likelihood the scaled columns (where zero is the column's mean if they were centred), else X itself.
"""

from __future__ import annotations

import torch
from torch import Tensor

from skae._validation import Component


class Noise(Component):
    """Base of all noises."""

    #: Largest level that makes sense; shares end at one.
    largest_level: float = 1.0

    def check_level(self, level: float) -> None:
        """Raise ``ValueError`` where the level is out of the range of this noise."""
        if not 0.0 <= level <= self.largest_level:
            raise ValueError(
                f"noise_level must lie in [0, {self.largest_level:g}] for {type(self).__name__}. "
                f"Got {level!r} instead."
            )

    def corrupt(self, x: Tensor, level: float, generator: torch.Generator) -> Tensor:
        """Return a corrupted copy of a batch of clean rows."""
        raise NotImplementedError


class Masking(Noise):
    """Sets a share of the non-zero entries to zero, each with probability ``level``.

    Zero is "nothing known": the mean of a column that was centred, absence in one that was not.

    References
    ----------
    Vincent et al. (2010), "Stacked denoising autoencoders", section 3.3.
    """

    def corrupt(self, x, level, generator):
        """Return x with entries dropped."""
        return x * (_uniform(x, generator) >= level)


class GaussianNoise(Noise):
    """Adds Gaussian noise to every entry; ``level`` is its standard deviation.

    For a Gaussian likelihood with standardised columns the unit is the standard deviation of the
    column. A linear autoencoder trained with it computes the Wiener filter
    ``C (C + level**2 I)^-1`` with C the covariance of the columns.

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

    References
    ----------
    Vincent et al. (2010), "Stacked denoising autoencoders", section 3.3.
    """

    def corrupt(self, x, level, generator):
        """Return x with extremes in the place of some entries."""
        high = _uniform(x, generator) < 0.5
        proposal = torch.where(high, x.amax(dim=0), x.amin(dim=0))
        return _replace(x, proposal, level, torch.ones_like(x, dtype=torch.bool), generator)


class Swap(Noise):
    """Replaces entries by the value of the same column in another row of the batch.

    Every cell has a donor row of its own. A donor with the same value changes nothing and does not
    count: ``level`` is the share of the *non-zero* entries that really changed. On data that are
    mostly zeros the zeros change as well, at the rate at which their column is non-zero, so that
    the density of a column stays what it is.

    References
    ----------
    Jahrer (2018), winning entry of the Porto Seguro contest, where "swap noise" was introduced.
    """

    def corrupt(self, x, level, generator):
        """Return x with values of other rows in some entries."""
        donor = torch.randint(0, len(x), x.shape, generator=generator, device=x.device)
        return _replace(x, x.gather(0, donor), level, x != 0, generator)


class SwapGaussian(Noise):
    """Swaps a few or many entries of a row, and adds Gaussian noise to all of them.

    Each row draws a rate of its own, uniform between 0 and 1.5 times ``level`` (at most 1); each of
    its entries takes the value of the same column in another row of the batch with that
    probability. Then Gaussian noise with standard deviation ``level`` is added. Rows with few
    changes teach how columns go together in detail, rows with many what the whole table is like:
    the noise of the default network of `skae.AutoencoderOutlierDetector`.
    """

    largest_level = float("inf")

    def corrupt(self, x, level, generator):
        """Return x with values of other rows in some entries, plus noise."""
        rate = 1.5 * level * _uniform(x[:, :1], generator)
        donor = torch.randint(0, len(x), x.shape, generator=generator, device=x.device)
        swapped = torch.where(_uniform(x, generator) < rate, x.gather(0, donor), x)
        return swapped + level * torch.empty_like(x).normal_(generator=generator)


def _uniform(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return uniform draws in [0, 1) of the shape of x."""
    return torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype)


def _replace(
    x: Tensor, proposal: Tensor, level: float, counted: Tensor, generator: torch.Generator
) -> Tensor:
    """Take the proposal in such entries that a share ``level`` of the counted ones changes.

    Only proposals that differ from x can change it. Where a share d of the counted entries has
    one, each is taken with probability ``level / d``, and with certainty where that passes one.
    """
    differs = proposal != x
    reachable = (differs & counted).sum()
    probability = level * counted.sum() / reachable.clamp_min(1)
    taken = differs & (_uniform(x, generator) < probability)
    return torch.where(taken, proposal, x)


NOISES: dict[str, type[Noise]] = {
    "masking": Masking,
    "gaussian": GaussianNoise,
    "salt_and_pepper": SaltAndPepper,
    "swap": Swap,
    "swap_gaussian": SwapGaussian,
}
