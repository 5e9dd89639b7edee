"""Does a sparse autoencoder find the features that rows were made of, beside dictionary learning?

Rows are sums of 8 of 512 unit-norm directions in 128 dimensions (8 on average; amounts uniform
between 0.5 and 1.5) and a little noise. Which ones is drawn independently, all alike or by Zipf's
law, with no direction on more than half of the rows.

For each side: mean over true features of the largest cosine with a learned one, the share of
features with one above 0.9, the share of units that no row uses (of dictionaries: none of 1,000
rows), active ones a row, seconds, and rows a second (each row counts once an epoch). The networks
are one linear layer each way, columns divided by one number, without a linear start. Then
scikit-learn's `MiniBatchDictionaryLearning`, for ten times the seconds of the slowest kind, and
`DictionaryLearning` on the first rows, both with codes of one sign as ours.

Run: python benchmarks/dictionary_recovery.py [--rows 200000] [--seeds 3] [--units 512 1024]
     [--kinds topk ...] [--laws alike zipf] [--epochs 20] [--alpha 0.3] [--subset 2000] [--alone]
"""

import time

import numpy as np
from sklearn.decomposition import DictionaryLearning, MiniBatchDictionaryLearning

from harness.command import argument_parser, start
from harness.report import Table
from harness.timing import Stopwatch
from skae import SparseAutoencoderTransformer
from skae.sparsity import SPARSITIES

N_FEATURES, N_DIMENSIONS, N_ACTIVE, NOISE = 512, 128, 8, 0.01
ROWS_A_BATCH = 256
COLUMNS = {
    "cosine": ".3f",
    "found %": ".1f",
    "dead %": ".1f",
    "active": ".1f",
    "s": ".0f",
    "rows/s": ".0f",
}
SECONDS = list(COLUMNS).index("s")


def rates(law):
    """Return on what share of rows each feature is there; they add up to `N_ACTIVE`."""
    if law == "alike":
        return np.full(N_FEATURES, N_ACTIVE / N_FEATURES)
    weight = 1 / np.arange(1, N_FEATURES + 1)
    rate = weight * N_ACTIVE / weight.sum()
    while abs(rate.sum() - N_ACTIVE) > 1e-6 or rate.max() > 0.5:
        rate = np.minimum(rate, 0.5)
        free = rate < 0.5
        rate[free] *= (N_ACTIVE - rate[~free].sum()) / rate[free].sum()
    return rate


def made(law, n_rows, rng):
    """Return true features (512, 128) and rows made of them."""
    features = rng.standard_normal((N_FEATURES, N_DIMENSIONS)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    X, rate = np.empty((n_rows, N_DIMENSIONS), np.float32), rates(law)
    for first in range(0, n_rows, 10_000):
        part = X[first : first + 10_000]
        there = rng.random((len(part), N_FEATURES), dtype=np.float32) < rate
        amounts = there * rng.uniform(0.5, 1.5, there.shape).astype(np.float32)
        part[:] = amounts @ features + NOISE * rng.standard_normal(part.shape)
    return features, X


def recovery(features, learned):
    """Return the mean of the largest cosines, and the share of them above 0.9 in per cent."""
    norms = np.linalg.norm(learned, axis=1, keepdims=True)
    nearest = (features @ (learned / np.maximum(norms, 1e-12)).T).max(axis=1)
    return nearest.mean(), 100 * (nearest > 0.9).mean()


def of_network(features, X, n_units, kind, n_epochs, seed):
    """Return the figures of an autoencoder."""
    estimator = SparseAutoencoderTransformer(
        n_units,
        sparsity=kind,
        n_active=N_ACTIVE,
        hidden_layer_sizes=(),
        input_scaling="common",
        init="random",
        max_iter=n_epochs,
        tol=0.0,
        random_state=seed,
    )
    with Stopwatch() as watch:
        estimator.fit(X)
    units = np.eye(n_units, dtype=np.float32)
    learned = estimator.inverse_transform(units) - estimator.inverse_transform(0 * units[:1])
    dead, active = 100 * estimator.n_dead_ / n_units, estimator.n_active_
    speed = len(X) * estimator.n_iter_ / watch.cpu
    return [*recovery(features, learned), dead, active, watch.cpu, speed]


def of_codes(model, features, X, seconds, n_seen):
    """Return the figures of a dictionary of scikit-learn's."""
    X = X[:1000].astype(model.components_.dtype)
    codes = model.set_params(transform_algorithm="lasso_cd").transform(X)
    dead = 100 * (codes == 0).all(axis=0).mean()
    active = (codes != 0).sum(axis=1).mean()
    return [*recovery(features, model.components_), dead, active, seconds, n_seen / seconds]


def of_batches(features, X, n_units, alpha, seconds, seed):
    """Return the figures of dictionary learning on batches for so many seconds."""
    model = MiniBatchDictionaryLearning(
        n_units,
        alpha=alpha,
        fit_algorithm="cd",
        batch_size=ROWS_A_BATCH,
        positive_code=True,
        random_state=seed,
    )
    began, n_seen = time.process_time(), 0
    while time.process_time() - began < seconds:
        first = n_seen % (len(X) - ROWS_A_BATCH + 1)
        model.partial_fit(X[first : first + ROWS_A_BATCH])
        n_seen += ROWS_A_BATCH
    return of_codes(model, features, X, time.process_time() - began, n_seen)


def of_subset(features, X, n_units, alpha, seed):
    """Return the figures of dictionary learning on all of few rows, which looks at each often."""
    model = DictionaryLearning(
        n_units, alpha=alpha, fit_algorithm="cd", positive_code=True, max_iter=20, random_state=seed
    )
    with Stopwatch() as watch:
        model.fit(X.astype(np.float64))  # its descent takes no other
    return of_codes(model, features, X, watch.cpu, len(X) * model.n_iter_)


def main():
    parser = argument_parser(__doc__, seeds=3)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--units", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--kinds", nargs="+", default=["topk", "batch_topk", "jumprelu", "l1"])
    parser.add_argument("--laws", nargs="+", default=["alike", "zipf"])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--alpha", type=float, default=0.3)
    parser.add_argument("--subset", type=int, default=2000)
    parser.add_argument("--alone", action="store_true", help="the networks alone")
    arguments = start(parser)
    unknown = set(arguments.kinds) - set(SPARSITIES)
    if unknown:
        parser.error(f"unknown kinds {sorted(unknown)}; there are {list(SPARSITIES)}")
    table = Table("law, units, side", COLUMNS, title_width=34)
    for seed in range(arguments.seeds):
        for law in arguments.laws:
            features, X = made(law, arguments.rows, np.random.default_rng(seed))
            for n_units in arguments.units:
                compare(table, f"{law} {n_units}", features, X, n_units, seed, arguments)


def compare(table, name, features, X, n_units, seed, arguments):
    """Print a row for each side."""
    slowest, alpha = 0.0, arguments.alpha
    for kind in arguments.kinds:
        found = of_network(features, X, n_units, kind, arguments.epochs, seed)
        slowest = max(slowest, found[SECONDS])
        table.row(f"{name} {kind}", found)
    if not arguments.alone:
        found = of_batches(features, X, n_units, alpha, 10 * slowest, seed)
        table.row(f"{name} MiniBatchDL", found)
        found = of_subset(features, X[: arguments.subset], n_units, alpha, seed)
        table.row(f"{name} DL of {arguments.subset}", found)


if __name__ == "__main__":
    main()
