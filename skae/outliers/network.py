"""The network of a detector whose user names none."""

from __future__ import annotations

import warnings

import numpy as np
import scipy.sparse as sp
from sklearn.exceptions import ConvergenceWarning

from skae._random import derive_seed
from skae.estimators.denoising import DenoisingAETransformer

STEPS = 500
_BATCH_SIZE = 256


def fit_network(
    X,
    train: np.ndarray,
    n_distinct: int,
    seed: int,
    *,
    input_scaling: str | None = "auto",
    device: str = "auto",
    callbacks=None,
) -> DenoisingAETransformer:
    """Return a denoising autoencoder without a bottleneck, trained for a fixed number of steps.

    Parameters
    ----------
    X : ndarray or CSR of shape (n_samples, n_features)
    train : ndarray of int
        Rows to learn from; no more of them than the steps have room for.
    n_distinct : int
        How many of them are distinct. Few are learned in fewer steps.
    seed : int
    input_scaling, device, callbacks
        As in `DenoisingAETransformer`, but "auto" scaling is that of the neighbours.
    """
    most = STEPS * _BATCH_SIZE
    if len(train) > most:
        state = np.random.RandomState(derive_seed(seed, 1) % 2**32)
        train = np.sort(state.permutation(train)[:most])
    n_batches = -(-min(n_distinct, most) // _BATCH_SIZE)
    if input_scaling == "auto":
        input_scaling = "fourth_moment" if sp.issparse(X) else "standard"
    network = DenoisingAETransformer(
        n_components=128,
        hidden_layer_sizes=(128,),
        noise="swap_gaussian",
        noise_level=0.2,
        input_scaling=input_scaling,
        alpha=0.0,
        batch_size=_BATCH_SIZE,
        max_iter=-(-min(STEPS, 100 + 2 * n_distinct) // n_batches),
        tol=0.0,
        n_iter_no_change=STEPS,
        device=device,
        callbacks=callbacks,
        random_state=derive_seed(seed, 2) % 2**31,
    )
    with warnings.catch_warnings():
        # A fixed number of steps is what is wanted.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return network.fit(X[train])
