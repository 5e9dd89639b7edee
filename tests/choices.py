"""Two values of every parameter of every estimator, and what must differ between them."""

import inspect
from typing import Any, NamedTuple

import scipy.sparse as sp
from skorch.callbacks import EarlyStopping
from torch import nn

from skae.likelihoods import Gaussian
from skae.networks import CustomNetwork
from skae.priors import StandardNormal
from tests.helpers import ESTIMATORS, counts, low_rank


class ShiftedNormal(StandardNormal):
    """A normal prior about 2 instead of 0."""

    def divergence(self, mean, log_std, code):
        return super().divergence(mean - 2.0, log_std, code - 2.0)

    def log_prob(self, code):
        return super().log_prob(code - 2.0)

    def sample(self, shape, generator):
        return super().sample(shape, generator) + 2.0


class Choice(NamedTuple):
    """Two values of a parameter, the settings beside them, and what must differ."""

    one: Any
    other: Any
    beside: dict = {}
    answer: str = "scores"
    on: str = "low rank"


ANSWERS = {
    "scores": lambda estimator, rows: estimator.score_samples(rows),
    "codes": lambda estimator, rows: estimator.transform(rows),
    "kind of codes": lambda estimator, rows: sp.issparse(estimator.transform(rows)),
    "samples": lambda estimator, rows: estimator.sample(20, random_state=0),
    "epochs": lambda estimator, rows: estimator.n_iter_,
}
LOW_RANK = low_rank(100)
TABLES = {
    "low rank": LOW_RANK,
    "flags": (LOW_RANK > 0).astype(float),
    # More columns than are drawn.
    "wide flags": sp.csr_array(counts(60, 2500, rate=0.01) > 0).astype(float),
}
STOPS_AT_ONCE = [EarlyStopping(monitor="train_objective", patience=1, threshold=1e9)]
IMPATIENT = {"tol": 1e3, "n_iter_no_change": 1, "max_iter": 20}

CHOICES = {
    # Shared by all.
    "n_components": Choice(2, 3),
    "hidden_layer_sizes": Choice((8,), (8, 4)),
    "activation": Choice("relu", "tanh"),
    "network": Choice(None, CustomNetwork(nn.Linear, nn.Linear), {"hidden_layer_sizes": (128,)}),
    "init": Choice("random", "pca"),
    "likelihood": Choice("gaussian", Gaussian(variance="shared")),
    "input_scaling": Choice("standard", "max"),
    "sparse_method": Choice("exact", "sampled", {"likelihood": "bernoulli"}, on="wide flags"),
    "alpha": Choice(0.0, 10.0),
    "batch_size": Choice(25, 50),
    "learning_rate": Choice("constant", "cosine"),
    "learning_rate_init": Choice(1e-3, 1e-2),
    "optimizer": Choice("adam", "sgd", {"learning_rate_init": 1e-4}),
    "max_iter": Choice(3, 5),
    # So fast that the objective still falls when it is watched, whatever the seed.
    "tol": Choice(
        0.0,
        1e3,
        {**IMPATIENT, "init": "random", "n_iter_no_change": 3, "learning_rate_init": 3e-2},
        "epochs",
    ),
    "n_iter_no_change": Choice(1, 4, {**IMPATIENT}, "epochs"),
    "early_stopping": Choice(False, True),
    "validation_fraction": Choice(0.1, 0.5, {"early_stopping": True}),
    "warm_start": Choice(False, True, {}, "second fit"),
    "device": Choice("auto", "cpu", {}, "nothing"),
    # Where the objective is above zero, so that the threshold stops it.
    "callbacks": Choice(None, STOPS_AT_ONCE, {"init": "random"}, "epochs"),
    "verbose": Choice(0, 2, {}, "output"),
    "random_state": Choice(0, 1),
    # Of codes without a prior.
    "sampler": Choice("gaussian_mixture", "kernel", {}, "samples"),
    # Of the sparse autoencoder.
    "sparsity": Choice("l1", "topk"),
    "n_active": Choice(1, 2, {"sparsity": "topk"}),
    "sparsity_weight": Choice(0.0, 10.0),
    "l1_ratio": Choice(0.0, 1.0, {"alpha": 10.0}),
    "code_dropout": Choice(0.0, 0.5, {"sparsity": "topk"}),
    "transform_n_active": Choice(None, "all", {"sparsity": "topk"}, "codes"),
    "sparse_output": Choice(False, True, {}, "kind of codes"),
    # Of the denoising autoencoder.
    "noise": Choice("masking", "gaussian"),
    "noise_level": Choice(0.0, 0.5, {"noise": "masking"}),
    # Of the variational autoencoder.
    "beta": Choice(0.0, 5.0),
    "kl_warmup": Choice(0.0, 1.0),
    "free_bits": Choice(0.0, 1.0, {"n_components": 8, "alpha": 0.0}),
    "prior": Choice("standard_normal", ShiftedNormal()),
    "n_importance_samples": Choice(1, 10),
}


def parameters(Estimator):
    return [name for name in inspect.signature(Estimator.__init__).parameters if name != "self"]


PAIRS = [(Estimator, name) for Estimator in ESTIMATORS for name in parameters(Estimator)]
