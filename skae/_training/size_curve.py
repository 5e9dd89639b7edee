"""What a search for the number of latents found, and which number it comes to. Numpy alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: A latent of fewer nats (its mean KL over rows) is not in use.
IN_USE = 0.1
# A latent of so many times the next one's KL, and of so large a share of the largest, stands before
# a drop.
_DROP, _SHARE = 2.0, 1 / 3
_MOST_COMPARED = 16  # sizes
_WORST = 0.1  # share of the rows that has no say
_ONE = 1.0 + 1e-9  # within rounding


class SizeCurve(NamedTuple):
    """How well rows held out are described by some numbers of latents.

    Parameters
    ----------
    n_components : ndarray of shape (n_sizes,)
        The numbers of latents that were compared, increasing.
    score : ndarray of shape (n_sizes,)
        Lower bound of log p(x), nats in the units of X: mean over the rows held out but for the
        tenth that is described worst, of which one far outside would decide alone.
    standard_error : ndarray of shape (n_sizes,)
        Of the difference from the best one.
    kl : ndarray
        Mean KL of each latent of the network, nats, the largest first; of fits of the largest.
    of_fits : bool, default=False
        Whether ordinary fits were compared, and not the first latents of one network.
    """

    n_components: np.ndarray
    score: np.ndarray
    standard_error: np.ndarray
    kl: np.ndarray
    of_fits: bool = False

    @property
    def chosen(self) -> int:
        """The size that is taken."""
        return int(self.n_components[self.place])

    @property
    def place(self) -> int:
        """The place of the smallest size that is within a standard error of the best.

        Or that, of one network, loses no more than `IN_USE` nats for each latent that it is
        smaller.
        """
        best = self.score.argmax()
        fewer = self.n_components[best] - self.n_components
        price = 0.0 if self.of_fits else IN_USE
        allowed = np.maximum(self.standard_error, price * fewer)
        return int((self.score[best] - self.score <= allowed).argmax())

    def told(self) -> dict:
        """Return what users are told."""
        return {
            "n_components": self.n_components,
            "score": self.score,
            "standard_error": self.standard_error,
            "kl": self.kl,
            "chosen": self.chosen,
        }

    @property
    def has_drop(self) -> bool:
        """Whether the KL of the last latent chosen is far from that of the next."""
        last = self.kl[self.chosen - 1]
        after = self.kl[self.chosen] if len(self.kl) > self.chosen else 0.0
        return bool(last >= max(_DROP * after, _DROP * IN_USE, _SHARE * self.kl[0]))


def sizes_in_doubt(fewest: int, most: int) -> np.ndarray:
    """Return the sizes to compare: all if they are few, else some in even ratios."""
    if most - fewest < _MOST_COMPARED:
        return np.arange(fewest, most + 1)
    return np.unique(np.geomspace(fewest, most, _MOST_COMPARED).round().astype(int))


def size_curve(
    sizes: np.ndarray,
    scores: np.ndarray,
    weight: np.ndarray | None,
    kl: np.ndarray,
    of_fits: bool = False,
) -> SizeCurve:
    """Return the curve of some sizes.

    Parameters
    ----------
    sizes : ndarray of shape (n_sizes,)
    scores : ndarray of shape (n_sizes, n_rows)
        Of the same rows for all sizes.
    weight : ndarray of shape (n_rows,) or None
    kl : ndarray
    of_fits : bool, default=False
    """
    share = typical(scores, weight)
    mean = scores @ share
    lost = scores[mean.argmax()] - scores
    spread = np.square(lost - (lost @ share)[:, None]) @ share
    n_rows = 1.0 / np.square(share).sum()  # that count alike and say as much
    # Of one row nobody knows an error: all may be as good.
    error = np.sqrt(spread / (n_rows - 1.0)) if n_rows > _ONE else mean.max() - mean
    return SizeCurve(sizes, mean, error, np.sort(kl)[::-1], of_fits)


def typical(scores: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """Return the share of each row in a mean: none of the rows that are described worst.

    Parameters
    ----------
    scores : ndarray of shape (n_models, n_rows)
    weight : ndarray of shape (n_rows,) or None

    Returns
    -------
    share : ndarray of shape (n_rows,)
        Their sum is one.
    """
    share = np.ones(scores.shape[1]) if weight is None else weight
    share = share / share.sum()
    worst_first = scores.mean(axis=0).argsort(kind="stable")
    left_out = worst_first[share[worst_first].cumsum() <= _ONE * _WORST]
    share[left_out] = 0.0
    return share / share.sum()
