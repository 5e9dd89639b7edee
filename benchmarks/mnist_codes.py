"""How well do 30 numbers rebuild an image of MNIST?

Squared error of a test image, summed over its 784 pixels in [0, 1], of PCA, of the autoencoder's
default call, of the same with likelihood="bernoulli" (grey levels as shares), and of a network of
1024 and 512 hidden units with --epochs epochs: likelihood="bernoulli", columns centred and scaled
alike (input_scaling="common"), a start at principal components, a high learning rate for most of
the time, and decay 0.7. Nothing was chosen on test images: these settings were, on the last 10,000
training images. Published for 784-1000-500-250-30 (Hinton and Salakhutdinov 2006): 3.00.

Prints squared errors of test and of training images, epochs, and processor time, by seed.

Run: python benchmarks/mnist_codes.py FOLDER [--rows 60000] [--epochs 60] [--only NAME ...]
"""

import numpy as np
from sklearn.decomposition import PCA

from harness.command import argument_parser, folder, start
from harness.report import Table
from harness.timing import Stopwatch
from skae import AutoencoderTransformer

N_COMPONENTS = 30
N_LOOKED_AT = 10_000  # training images, for the error on them


def long_training(n_epochs):
    """Return the settings that are best for images."""
    return {
        "hidden_layer_sizes": (1024, 512),
        "likelihood": "bernoulli",
        "input_scaling": "common",
        "init": "pca",
        "learning_rate": "warmup_stable_decay",
        "alpha": 0.7,
        "max_iter": n_epochs,
        "tol": 0.0,
        "early_stopping": False,
    }


def sides(n_epochs):
    """Return each side by name, as a function of a seed."""

    def ours(**settings):
        return lambda seed: AutoencoderTransformer(N_COMPONENTS, random_state=seed, **settings)

    return {
        "PCA": lambda seed: PCA(N_COMPONENTS, random_state=seed),
        "default": ours(),
        "bernoulli": ours(likelihood="bernoulli"),
        "long": ours(**long_training(n_epochs)),
    }


def squared_error(model, X):
    """Return the mean over rows of the squared error, summed over columns."""
    return ((model.inverse_transform(model.transform(X)) - X) ** 2).sum(axis=1).mean()


def main():
    parser = argument_parser(__doc__, seeds=1)
    parser.add_argument("folder", type=folder)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--only", nargs="+", metavar="NAME")
    arguments = start(parser)
    with np.load(arguments.folder / "mnist.npz") as stored:
        train, test = (stored[f"X_{part}"].astype(np.float32) / 255 for part in ("train", "test"))
    train = train[: arguments.rows]
    table = Table("side, seed", {"test": ".3f", "train": ".3f", "epochs": "d", "s": ".0f"})
    found = sides(arguments.epochs)
    for seed in range(arguments.seeds):
        for name in arguments.only or found:
            with Stopwatch() as watch:
                model = found[name](seed).fit(train)
            errors = [squared_error(model, X) for X in (test, train[:N_LOOKED_AT])]
            table.row(f"{name}, {seed}", [*errors, getattr(model, "n_iter_", 0), watch.cpu])


if __name__ == "__main__":
    main()
