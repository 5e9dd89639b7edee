"""What several test files need: the estimators, listed once, and small data."""

import contextlib

import numpy as np
import torch

from skae import (
    AutoencoderTransformer,
    DenoisingAETransformer,
    SparseAutoencoderTransformer,
    VAETransformer,
)
from skae.likelihoods import LIKELIHOODS, Gaussian, Likelihood
from skae.networks import NETWORKS, Network
from skae.noise import NOISES, Noise
from skae.priors import PRIORS, Prior
from skae.samplers import SAMPLERS, Sampler
from skae.schedules import SCHEDULES, Schedule
from skae.sparsity import SPARSITIES, Sparsity

ESTIMATORS = [
    AutoencoderTransformer,
    SparseAutoencoderTransformer,
    DenoisingAETransformer,
    VAETransformer,
]

#: Every dict of names that users choose from, with the base class of its entries.
VOCABULARIES = {
    "likelihood": (LIKELIHOODS, Likelihood),
    "network": (NETWORKS, Network),
    "noise": (NOISES, Noise),
    "prior": (PRIORS, Prior),
    "sampler": (SAMPLERS, Sampler),
    "schedule": (SCHEDULES, Schedule),
    "sparsity": (SPARSITIES, Sparsity),
}

#: Every likelihood as its name makes it, and settings of one that change its formulas.
LIKELIHOOD_VARIANTS = [
    *(kind() for kind in LIKELIHOODS.values()),
    Gaussian(variance="shared"),
    Gaussian(variance_floor=0.5),
]

#: The sparsities that add a term to the objective.
PENALTIES = {name: kind for name, kind in SPARSITIES.items() if kind.penalised}

#: Settings that make a fit quick where only its plumbing is tested.
QUICK = {"n_components": 3, "hidden_layer_sizes": (8,), "max_iter": 5, "random_state": 0}


def low_rank(n_rows=200, n_features=10, rank=3, noise=0.3, seed=0):
    """Return rows near a subspace of the given rank, with columns of different scale."""
    rng = np.random.RandomState(seed)
    loadings = rng.normal(size=(rank, n_features)) * np.linspace(0.5, 3.0, n_features)
    return rng.normal(size=(n_rows, rank)) @ loadings + noise * rng.normal(size=(n_rows, n_features))


def generator(seed=0):
    """Return a torch generator of its own."""
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    """Return a tensor of standard normal numbers, in double precision."""
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


@contextlib.contextmanager
def global_generators_untouched():
    """Fail where the block draws from, or seeds, a generator that the whole program shares."""
    numpy_before, torch_before = np.random.get_state(), torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert np.random.get_state()[2] == numpy_before[2]
    assert np.array_equal(np.random.get_state()[1], numpy_before[1])
