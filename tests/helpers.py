"""What several test files need: the estimators, listed once, and small data."""

import numpy as np

from skae import (
    AutoencoderTransformer,
    DenoisingAETransformer,
    SparseAutoencoderTransformer,
    VAETransformer,
)

ESTIMATORS = [
    AutoencoderTransformer,
    SparseAutoencoderTransformer,
    DenoisingAETransformer,
    VAETransformer,
]

#: Settings that make a fit quick where only its plumbing is tested.
QUICK = {"n_components": 3, "hidden_layer_sizes": (8,), "max_iter": 5, "random_state": 0}


def low_rank(n_rows=200, n_features=10, rank=3, noise=0.3, seed=0):
    """Return rows near a subspace of the given rank, with columns of different scale."""
    rng = np.random.RandomState(seed)
    loadings = rng.normal(size=(rank, n_features)) * np.linspace(0.5, 3.0, n_features)
    return rng.normal(size=(n_rows, rank)) @ loadings + noise * rng.normal(size=(n_rows, n_features))
