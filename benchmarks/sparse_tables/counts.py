"""Do generated cells look like cells?

worm_neuron_counts, by likelihood: the share of zeros in generated cells, the correlation of their
column means (log1p) with those of held-out cells, their type, and held-out log-likelihood.
"""

import numpy as np
from sklearn.model_selection import train_test_split

from harness import data
from harness.report import Table
from harness.timing import Stopwatch
from skae import VAETransformer

LIKELIHOODS = ("poisson", "negative_binomial", "zero_inflated_negative_binomial")


def zeros(X):
    """Return the share of zeros of CSR rows."""
    return 1.0 - X.nnz / np.prod(X.shape)


def run(folder, arguments):
    X = data.load(folder, "worm_neuron_counts").X
    train, test = train_test_split(X, test_size=0.3, random_state=0)
    print(f"\nworm_neuron_counts: {zeros(test):.4%} zeros in held-out cells")
    heads = {"zeros": ".4%", "means corr.": ".4f", "smallest": ".0f", "type": ""}
    table = Table("", heads | {"score": ".1f", "CPU, s": ".0f"}, title_width=34, narrowest=10)
    for likelihood in LIKELIHOODS:
        vae = VAETransformer(16, likelihood=likelihood, random_state=0)
        with Stopwatch() as watch:
            vae.fit(train)
        drawn = vae.sample(test.shape[0], random_state=0)
        means = [np.log1p(rows.mean(axis=0)) for rows in (drawn, test)]
        correlation = np.corrcoef(*means)[0, 1]
        looks = zeros(drawn), correlation, drawn.min(), f"{drawn.format} {drawn.dtype}"
        table.row(likelihood, [*looks, vae.score(test), watch.cpu])
