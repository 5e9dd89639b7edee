"""Where do new codes come from when there is no prior? Densities fitted on the training codes.

A sampler is fitted on codes after training and draws new ones; it knows nothing of the network,
so each works with every autoencoder. To add one: one class here and one line in `SAMPLERS`.

Shapes: ``codes`` is a dense ndarray of shape (n_rows, n_components).
"""

from __future__ import annotations

from abc import abstractmethod
from numbers import Integral, Real

import numpy as np

from skae._validation import Component
from skae.constraints import Interval


class Sampler(Component):
    """Base of all samplers of codes."""

    instead = (
        "A sampler learns from the codes after the training: let fit keep what it finds, in "
        "attributes that end in an underscore."
    )

    @abstractmethod
    def fit(self, codes: np.ndarray, random_state: np.random.RandomState):
        """Fit the density on the training codes; return self."""

    @abstractmethod
    def sample(self, n_samples: int, random_state: np.random.RandomState) -> np.ndarray:
        """Return new codes, of shape (n_samples, n_components)."""


class GaussianMixtureSampler(Sampler):
    """Mixture of Gaussians with full covariances (scikit-learn's), fitted by EM.

    Parameters
    ----------
    n_mixtures : int, default=10
        Number of Gaussians; never more than one for every five training rows.

    References
    ----------
    Ghosh et al. (2020), "From variational to deterministic autoencoders", section 4: a mixture
    fitted after training is as good as a prior for drawing samples.
    """

    _parameter_constraints: dict = {"n_mixtures": [Interval(Integral, 1, None, closed="left")]}

    def __init__(self, n_mixtures=10):
        self.n_mixtures = n_mixtures

    def fit(self, codes, random_state):
        """Fit the mixture."""
        # Late: with it come most of scikit-learn's parts, and many fits never sample.
        from sklearn.mixture import GaussianMixture

        # The floor of the variances follows the spread of the codes, so that their unit is free.
        floor = 1e-6 * max(float(codes.var()), np.finfo(codes.dtype).tiny ** 0.5)
        n_mixtures = max(1, min(self.n_mixtures, len(codes) // 5))
        if len(codes) == 1:  # a density of one point: EM needs two rows
            codes = np.repeat(codes, 2, axis=0)
        self.mixture_ = GaussianMixture(
            n_mixtures, reg_covar=floor, random_state=random_state, max_iter=100, tol=1e-2
        ).fit(codes)
        return self

    def sample(self, n_samples, random_state):
        """Draw from the mixture, the rows in random order."""
        self.mixture_.set_params(random_state=random_state)
        codes, _ = self.mixture_.sample(n_samples)
        return codes[random_state.permutation(n_samples)]


class KernelSampler(Sampler):
    """A training code drawn at random, its non-zero entries shaken by a Gaussian kernel.

    Zeros stay zeros and values keep their sign, so sparse, non-negative codes give sparse,
    non-negative codes: the default where codes are sparse.

    Parameters
    ----------
    bandwidth : float >= 0, default=0.1
        Standard deviation of the kernel, in units of the spread of each component over the rows
        where it is not zero.
    """

    _parameter_constraints: dict = {"bandwidth": [Interval(Real, 0, None, closed="left")]}

    def __init__(self, bandwidth=0.1):
        self.bandwidth = bandwidth

    def fit(self, codes, random_state):
        """Keep the codes and the spread of each component."""
        active = codes != 0
        count = np.maximum(active.sum(axis=0), 1)
        mean = codes.sum(axis=0) / count
        self.codes_ = codes
        self.spread_ = np.sqrt((active * (codes - mean) ** 2).sum(axis=0) / count)
        return self

    def sample(self, n_samples, random_state):
        """Draw training codes and shake them."""
        codes = self.codes_[random_state.randint(len(self.codes_), size=n_samples)]
        shaken = codes + self.bandwidth * self.spread_ * random_state.normal(size=codes.shape)
        return np.where(shaken * codes > 0, shaken, codes)


SAMPLERS: dict[str, type[Sampler]] = {
    "gaussian_mixture": GaussianMixtureSampler,
    "kernel": KernelSampler,
}
