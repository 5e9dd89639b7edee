"""How good are k-sparse codes as features, beside pixels, PCA and a denoising autoencoder?

MNIST, pixels in [0, 1], --units units, --active of them active a row. A transformer learns from all
training rows, without labels; a multinomial logistic regression on its codes (all multiplied by one
number) is fitted to all training rows but the last sixth, on which C is chosen, and then to all.
Nothing is chosen on the test rows.

Sides: pixels; 100 principal components; a denoising autoencoder with one layer of as many logistic
units (a quarter of the pixels masked); "topk" as it comes, all other parameters at their defaults;
and the recipe: linear encoder and tied decoder on raw pixels, half of the units dropped in each
step, 20 epochs, with as many units active and with twice as many. Codes are those of `transform` as
it comes and, of the same fit, those of every unit whose input is above zero ("all").

Prints for each, over the seeds: error of test rows in per cent, mean and standard deviation; error
of the rows that C was chosen on; active units a row; and the processor time of the fit in seconds.
Published for 1,000 units (Makhzani and Frey 2014): 1.35 with "topk", 1.95 denoising.

Run: python benchmarks/ksparse.py FOLDER [--seeds 3] [--rows 20000] [--only recipe ...]
     [--active 25] [--units 1000] [--set mnist]
"""

from dataclasses import replace
from functools import partial

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer
from torch import nn

from harness import data
from harness.command import argument_parser, folder, start
from harness.report import Table
from harness.timing import Stopwatch
from skae import DenoisingAETransformer, SparseAutoencoderTransformer
from skae.networks import CustomNetwork, TiedMLP

COLUMNS = {"test, %": ".2f", "+-": ".2f", "chosen on, %": ".2f", "active": ".0f", "s": ".0f"}
# For rows of a mean squared length of 50.
GRID = (0.3, 1.0, 3.0)
RECIPE = {
    "network": TiedMLP(),
    "hidden_layer_sizes": (),
    "input_scaling": None,
    "code_dropout": 0.5,
    "max_iter": 20,
}


def logistic_layer(n_inputs, n_outputs):
    return nn.Sequential(nn.Linear(n_inputs, n_outputs), nn.Sigmoid())


def denoising(n_units, seed):
    """Return a denoising autoencoder of one layer of logistic units."""
    return DenoisingAETransformer(
        n_units,
        network=CustomNetwork(logistic_layer, nn.Linear),
        likelihood="bernoulli",
        noise="masking",
        noise_level=0.25,
        max_iter=20,
        random_state=seed,
    )


def makers(n_units, n_active, n_principal):
    """Return each side by name, as a function of a seed."""
    topk = partial(SparseAutoencoderTransformer, n_units, sparsity="topk")
    return {
        "pixels": lambda seed: FunctionTransformer(),
        "PCA": lambda seed: PCA(n_principal, random_state=seed),
        "denoising": partial(denoising, n_units),
        "topk": lambda seed: topk(n_active=n_active, random_state=seed),
        "recipe": lambda seed: topk(n_active=n_active, **RECIPE, random_state=seed),
        "recipe, twice": lambda seed: topk(n_active=2 * n_active, **RECIPE, random_state=seed),
    }


def rows_of(path, name, n_rows):
    """Return training and test rows, the largest number one."""
    train, test = data.split(data.of(path, name))
    train = train.take(slice(n_rows))
    largest = train.X.max()
    return [replace(part, X=(part.X / largest).astype(np.float32)) for part in (train, test)]


def errors(codes, labels):
    """Return the errors of test rows and of those that C is chosen on, in per cent.

    `codes` and `labels` are pairs, of training and of test rows.
    """
    size = np.sqrt(np.square(codes[0]).sum(axis=1).mean() / 50)
    train, test = (part / size for part in codes)
    y, n_fitted = labels[0], len(train) - len(train) // 6

    def error(C, n, rows, truth):
        classifier = LogisticRegression(C=C, max_iter=300, tol=1e-5).fit(train[:n], y[:n])
        return 100 * (1 - classifier.score(rows, truth))

    found = {C: error(C, n_fitted, train[n_fitted:], y[n_fitted:]) for C in GRID}
    best = min(found, key=found.get)
    return error(best, len(train), test, labels[1]), found[best]


def measured(transformer, train, test):
    """Return what there is to print of a side with one seed, by what codes are kept."""
    with Stopwatch() as watch:
        transformer.fit(train.X)
    found, sparse = {}, isinstance(transformer, SparseAutoencoderTransformer)
    for kept in (None, "all") if sparse else (None,):
        if sparse:
            transformer.set_params(transform_n_active=kept)
        codes = [transformer.transform(part.X) for part in (train, test)]
        active = (codes[1] != 0).sum(axis=1).mean()
        found[kept] = [*errors(codes, [train.y, test.y]), active, watch.cpu]
    return found


def main():
    parser = argument_parser(__doc__, seeds=3)
    parser.add_argument("folder", type=folder)
    parser.add_argument("--set", default="mnist")
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--units", type=int, default=1000)
    parser.add_argument("--active", type=int, default=25)
    parser.add_argument("--only", nargs="+")
    arguments = start(parser)
    train, test = rows_of(arguments.folder, arguments.set, arguments.rows)
    table = Table(f"{arguments.set}, {len(train.X)} rows", COLUMNS)
    sides = makers(arguments.units, arguments.active, min(100, train.X.shape[1]))
    for name in arguments.only or sides:
        n_seeds = 1 if name in ("pixels", "PCA") else arguments.seeds
        found = [measured(sides[name](seed), train, test) for seed in range(n_seeds)]
        for kept in found[0]:
            rows = np.array([of_seed[kept] for of_seed in found])
            error, *others = rows.mean(axis=0)
            spread = rows[:, 0].std(ddof=1) if n_seeds > 1 else None
            table.row(f"{name}{', all' if kept else ''}", [error, spread, *others])


if __name__ == "__main__":
    main()
