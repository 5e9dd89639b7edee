r"""How do the data scatter about a reconstruction? Likelihoods: raw decoder output to distribution.

A likelihood turns the raw output :math:`r` of a decoder into a distribution of a row x. It says
which values of X it can explain, how many raw outputs a feature takes, which free parameters it
has (they are trained with the network by the same optimiser), and gives the log-probability, the
mean and random draws. To add one: one class in the file of its kind of columns, and one line in
`LIKELIHOODS`.

Shapes: ``x`` is (n_rows, n_features); ``raw`` is (n_rows, n_outputs * n_features), the first output
of all features before the second of all; free parameters are tensors whose last axis is n_features;
``total``, for likelihoods of counts, is (n_rows, 1). All log-probabilities are in nats and hold
every normalising constant.
"""

from skae.likelihoods.base import Likelihood
from skae.likelihoods.binary import Bernoulli
from skae.likelihoods.choice import choose_likelihood
from skae.likelihoods.counts import (
    Multinomial,
    NegativeBinomial,
    Poisson,
    ZeroInflatedNegativeBinomial,
)
from skae.likelihoods.real import Gaussian, ZeroInflatedLogNormal

__all__ = [
    "LIKELIHOODS",
    "Bernoulli",
    "Gaussian",
    "Likelihood",
    "Multinomial",
    "NegativeBinomial",
    "Poisson",
    "ZeroInflatedLogNormal",
    "ZeroInflatedNegativeBinomial",
    "choose_likelihood",
]

LIKELIHOODS: dict[str, type[Likelihood]] = {
    "gaussian": Gaussian,
    "bernoulli": Bernoulli,
    "poisson": Poisson,
    "negative_binomial": NegativeBinomial,
    "zero_inflated_negative_binomial": ZeroInflatedNegativeBinomial,
    "multinomial": Multinomial,
    "zero_inflated_lognormal": ZeroInflatedLogNormal,
}
