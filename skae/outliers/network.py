"""What the detector lets learn: the network of those who name none, or the user's estimator."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import has_fit_parameter

from skae.estimators.denoising import DenoisingAETransformer
from skae.outliers.rows import Rows

STEPS = 500
_BATCH_SIZE = 256


def scaling_of(input_scaling: str | None, sparse: bool) -> str | None:
    """Return the scaling that "auto" stands for."""
    if input_scaling != "auto":
        return input_scaling
    return "fourth_moment" if sparse else "standard"


def fit_network(X, counts: np.ndarray, seed: int, **settings) -> DenoisingAETransformer:
    """Return a denoising autoencoder without a bottleneck, trained for a fixed number of steps.

    Parameters
    ----------
    X : ndarray or CSR of shape (n_distinct, n_features)
        Distinct rows, in random order. Of more than the steps have room for, the first are taken;
        few are learned in fewer steps.
    counts : ndarray of shape (n_distinct,)
        The weight of each.
    seed : int
    **settings : dict
        Further parameters of the network.
    """
    n_rows = min(X.shape[0], STEPS * _BATCH_SIZE)
    X, counts = X[:n_rows], counts[:n_rows]
    n_batches = -(-n_rows // _BATCH_SIZE)
    network = DenoisingAETransformer(
        n_components=128,
        hidden_layer_sizes=(128,),
        noise="swap_gaussian",
        noise_level=0.2,
        init="random",  # where `benchmarks/anomaly.py` measured what is promised
        alpha=0.0,
        batch_size=_BATCH_SIZE,
        max_iter=-(-min(STEPS, 100 + 2 * n_rows) // n_batches),
        tol=0.0,
        n_iter_no_change=STEPS,
        random_state=seed,
        **settings,
    )
    with warnings.catch_warnings():
        # A fixed number of steps is what is wanted.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return network.fit(X, sample_weight=None if (counts == counts[0]).all() else counts)


def fit_estimator(estimator, rows: Rows, weight: np.ndarray):
    """Return a clone of the user's estimator, fitted on rows as the user gave them.

    It is given the weights if it takes them and some are not one. One that takes none is given each
    row as often as its weight says: rounded up or down, such that the sum of the weights of any
    rows in a sequence is right within one.
    """
    estimator = clone(estimator)
    if (weight == 1).all():
        return estimator.fit(rows.given)
    if has_fit_parameter(estimator, "sample_weight"):
        return estimator.fit(rows.given, sample_weight=weight)
    copies = np.diff(np.rint(np.cumsum(weight)), prepend=0.0).astype(np.int64)
    return estimator.fit(rows.take(np.repeat(np.arange(len(weight)), copies)).given)


def can_reconstruct(estimator) -> bool:
    """Return whether an estimator, or the network of the default, reconstructs rows."""
    return estimator is None or hasattr(estimator, "reconstruct")
