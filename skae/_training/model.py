"""A net together with the scaling of its columns: rows in numpy or CSR in, numpy or CSR out."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import scipy.sparse as sp

from skae._random import torch_generator
from skae._training.inference import map_rows
from skae._training.net import AutoencoderNet
from skae._training.scaling import Scaling, fit_scaling, summarise_columns
from skae._training.trainer import make_net
from skae.likelihoods import Likelihood


class Model:
    """What a fitted estimator answers with.

    Parameters
    ----------
    net : AutoencoderNet
    scaling : Scaling or None
        Between the units of X and those of the network, for rows as for reconstructions.
    sparse : bool
        Whether new rows are drawn as CSR.
    """

    def __init__(self, net: AutoencoderNet, scaling: Scaling | None, sparse: bool):
        self.net, self.scaling, self.sparse = net, scaling, sparse

    def codes(self, X) -> np.ndarray:
        """Return the code of each row."""
        return self._map(self.net.module_.code, X, self.scaling).astype(X.dtype, copy=False)

    def scores(self, X) -> np.ndarray:
        """Return the log-likelihood of each row, in nats, in the units of X."""
        log_determinant = 0.0 if self.scaling is None else self.scaling.log_determinant
        scores = self._map(self.net.module_.score, X, self.scaling)
        return scores.astype(np.float64) + log_determinant

    def kl(self, X) -> np.ndarray:
        """Return the KL of each latent of each row, in nats."""
        return self._map(self.net.module_.kl, X, self.scaling)

    def decode(self, codes) -> np.ndarray:
        """Return the mean of the rows with these codes, in the units of X."""
        blocks = self._blocks(self.net.module_.mean, codes, None)
        return np.concatenate([self._undo(b).astype(codes.dtype, copy=False) for b in blocks])

    def sample(self, codes: np.ndarray, seed: int):
        """Return a drawn row for each code, of the type and format of the training rows."""
        module, likelihood = self.net.module_, self.net.module_.observation.likelihood
        device = next(module.parameters()).device
        generator = torch_generator(seed, device=device)
        blocks = self._blocks(lambda code: module.draw(code, generator), codes, None)
        finished = (self._undo(b).astype(likelihood.sample_dtype or np.float64) for b in blocks)
        if self.sparse:
            return sp.vstack([sp.csr_array(block) for block in finished], format="csr")
        return np.concatenate(list(finished))

    def _map(self, function: Callable, X, scaling: Scaling | None) -> np.ndarray:
        return np.concatenate(list(self._blocks(function, X, scaling)))

    def _blocks(self, function: Callable, X, scaling: Scaling | None) -> Iterator[np.ndarray]:
        layout = self.net.module__layout
        width = max(layout.n_features, layout.n_components)
        return map_rows(function, X, self.net.module_, scaling, width=width)

    def _undo(self, rows: np.ndarray) -> np.ndarray:
        return rows if self.scaling is None else self.scaling.undo(rows)


def build_model(
    X, index: np.ndarray, weight: np.ndarray | None, likelihood: Likelihood, input_scaling, **net
) -> Model:
    """Return a model with its first weights, its scaling fixed by the rows ``index`` of X.

    ``net`` holds the other arguments of `make_net`. A location-scale family is trained on scaled
    rows; for any other likelihood the target is X itself, and only what the encoder sees is scaled.
    """
    sparse = sp.issparse(X)
    if input_scaling == "auto":
        input_scaling = likelihood.default_scaling(sparse)
    columns = summarise_columns(X, index, weight)
    scaling = fit_scaling(input_scaling, columns, sparse)
    of_rows, of_encoder = (scaling, None) if likelihood.location_scale else (None, scaling)
    mean, variance = columns.mean, columns.variance
    if of_rows is not None:
        mean, variance = of_rows.apply(mean), variance / of_rows.scale**2
    made = make_net(
        likelihood=likelihood,
        column_mean=mean,
        column_variance=variance,
        encoder_scaling=of_encoder,
        **net,
    )
    return Model(made, of_rows, sparse)
