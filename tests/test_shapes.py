"""A component of a user's that returns another shape than it should is told, and not broadcast."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from skae import (
    AutoencoderTransformer,
    DenoisingAETransformer,
    SparseAutoencoderTransformer,
    VAETransformer,
)
from skae.likelihoods import Gaussian, Poisson
from skae.networks import MLP
from skae.noise import GaussianNoise, Masking
from skae.priors import StandardNormal
from skae.samplers import KernelSampler
from skae.sparsity import L1
from tests.helpers import QUICK, low_rank
from tests.test_state import Mixture

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::skae.exceptions.PosteriorCollapseWarning"),
]

X = low_rank(40)
COUNTS = sp.csr_array(np.random.RandomState(0).poisson(0.5, size=(40, 10)).astype(float))


def wrong(kind, method, change):
    """Return an object of a class whose method returns what it should, changed."""

    def changed(self, *args, **kwargs):
        return change(getattr(kind, method)(self, *args, **kwargs))

    return type("Wrong", (kind,), {method: changed})()


def as_column(of_rows):
    return of_rows[:, None]


def first_row(of_rows):
    return of_rows[:1]


def row_sums(of_entries):
    return of_entries.sum(dim=1, keepdim=True)


def fit(estimator, rows=X):
    return estimator.fit(rows)


def score(estimator, rows=X):
    return estimator.fit(rows).score_samples(rows)


def sample(estimator, rows=X):
    return estimator.fit(rows).sample(5, random_state=0)


def sparse(estimator):
    return estimator.set_params(sparse_method="exact").fit(COUNTS)


def sparse_answer(estimator):
    return estimator.fit(COUNTS).reconstruct(COUNTS, sparse_output=True)


CASES = {
    "density of a prior, in a bound of several draws": (
        VAETransformer(prior=wrong(StandardNormal, "log_prob", as_column), n_importance_samples=3),
        score,
        r"log_prob of Wrong must return the shape \((\d+),\) here. Got \(\1, 1\) instead",
    ),
    "density of a prior, in a divergence": (
        VAETransformer(prior=wrong(Mixture, "log_prob", as_column)),
        fit,
        "log_prob of Wrong",
    ),
    "draws of a prior": (
        VAETransformer(prior=wrong(StandardNormal, "sample", first_row)),
        sample,
        "sample of Wrong",
    ),
    "draws of a sampler": (
        AutoencoderTransformer(sampler=wrong(KernelSampler, "sample", first_row)),
        sample,
        r"sample of Wrong must return the shape \(5, 3\) here. Got \(1, 3\)",
    ),
    "log-probabilities": (
        AutoencoderTransformer(likelihood=wrong(Gaussian, "log_prob", row_sums)),
        fit,
        r"log_prob of Wrong must return the shape \(40, 10\) here. Got \(40, 1\)",
    ),
    "mean": (
        AutoencoderTransformer(likelihood=wrong(Gaussian, "mean", row_sums)),
        lambda estimator: fit(estimator).reconstruct(X),
        "mean of Wrong",
    ),
    "draws of a likelihood": (
        AutoencoderTransformer(likelihood=wrong(Gaussian, "sample", row_sums)),
        sample,
        "sample of Wrong",
    ),
    "start of the decoder": (
        AutoencoderTransformer(likelihood=wrong(Gaussian, "raw_from_mean", torch.mean)),
        fit,
        r"first_raw \(or raw_from_mean\) of Wrong must return the shape \(10,\) here. Got \(\)",
    ),
    "log-probabilities of entries": (
        AutoencoderTransformer(likelihood=wrong(Poisson, "log_prob_entry", row_sums)),
        sparse,
        "log_prob_entry of Wrong",
    ),
    "log-probabilities of zeros": (
        AutoencoderTransformer(likelihood=wrong(Poisson, "log_prob_zero", row_sums)),
        sparse,
        "log_prob_zero of Wrong",
    ),
    "probabilities of zeros": (
        AutoencoderTransformer(likelihood=wrong(Poisson, "nonzero_mass", row_sums)),
        sparse_answer,
        "nonzero_mass of Wrong",
    ),
    "codes": (
        SparseAutoencoderTransformer(sparsity=wrong(L1, "activate", first_row)),
        fit,
        "activate_in_training of Wrong",
    ),
    "penalty of each row": (
        SparseAutoencoderTransformer(sparsity=wrong(L1, "penalty", lambda p: p.expand(40))),
        fit,
        r"penalty of Wrong must return the shape \(\) here. Got \(40,\)",
    ),
    "penalty that is no tensor": (
        SparseAutoencoderTransformer(sparsity=wrong(L1, "penalty", lambda p: 0.0)),
        fit,
        "penalty of Wrong.*Got float",
    ),
    "threshold": (
        SparseAutoencoderTransformer(
            sparsity=wrong(L1, "threshold", lambda level: torch.zeros(2, 1, 1) + level)
        ),
        fit,
        r"threshold, broadcast to pre, of Wrong .*\(40, 3\) here. Got \(2, 40, 3\)",
    ),
    "noisy rows": (
        DenoisingAETransformer(noise=wrong(GaussianNoise, "corrupt", first_row)),
        fit,
        r"corrupt of Wrong must return the shape \(40, 10\) here. Got \(1, 10\)",
    ),
    "noisy sparse rows": (
        DenoisingAETransformer(
            noise=wrong(Masking, "corrupt_entries", lambda x: x.take(torch.arange(3)))
        ),
        sparse,
        "corrupt_entries of Wrong",
    ),
    "gains": (
        SparseAutoencoderTransformer(network=wrong(MLP, "gains", as_column)),
        fit,
        r"gains of Wrong must return the shape \(3,\) here. Got \(3, 1\)",
    ),
}


@pytest.mark.parametrize(("estimator", "ask", "words"), CASES.values(), ids=CASES)
def test_another_shape_than_the_base_class_says_is_an_error(estimator, ask, words):
    with pytest.raises(ValueError, match=words):
        ask(estimator.set_params(**QUICK))
