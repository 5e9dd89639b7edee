"""Does training level by level help: beside a training from scratch of the same time?

One network, of levels of --sizes with a hidden layer of --hidden each, is trained in several ways
of the same processor time (--seconds), on --rows rows of a set; all is judged on rows that were not
seen. From scratch it starts at random or (the default of the estimator) at principal components;
greedy gives all time to the levels, one after another; together gives half of it to the levels, and
the other half to all of them as one network. Then the same with noise on what each level is given
(masking 0.25), beside one level of the first size. Epochs are set by the time of one, so that
schedules of the learning rate come to their end; a training that no longer improves ends before.

Prints for each way, over the seeds: squared error of a test row, summed over columns (pictures in
[0, 1]), and error of a logistic regression on codes in per cent, each mean and standard deviation;
squared error of a training row; and processor time in seconds. PCA has as many components.

Run: python benchmarks/stacks.py FOLDER mnist; python benchmarks/stacks.py FOLDER digits --seconds 5
--sizes 32 8 --hidden 128 64 --trial 40, where FOLDER may be any for a set of scikit-learn's.
"""

from dataclasses import replace

import numpy as np
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from harness.command import argument_parser, folder, start
from harness.data import SKLEARN, at_most, of, of_sklearn, split
from harness.report import Table
from harness.timing import Stopwatch
from skae import AutoencoderTransformer, DenoisingAETransformer, StackedAutoencoderTransformer

FIXED = {"early_stopping": False, "tol": 0.0}
NOISY = {"noise": "masking", "noise_level": 0.25}


def epochs(estimator, X, seconds, trial):
    """Return how many epochs of a training take so many seconds, at least one.

    Found by trainings of one and of `trial` epochs more, so that what a fit costs beside them does
    not count.
    """
    cost = []
    for n in (1, 1 + trial):
        with Stopwatch() as watch:
            clone(estimator).set_params(max_iter=n).fit(X)
        cost.append(watch.cpu)
    return max(1, round(seconds * trial / max(cost[1] - cost[0], 1e-9)))


class Ways:
    """The ways to train a network in the same time.

    Parameters
    ----------
    sizes, hidden : lists of int
        Codes of the levels, and the hidden layer of each.
    seconds : float
    X : ndarray
        Training rows.
    trial : int
        Epochs that one is timed by.
    """

    def __init__(self, sizes, hidden, seconds, X, trial):
        self.sizes, self.hidden, self.seconds = sizes, hidden, seconds
        self.X, self.trial = X, trial

    def from_scratch(self, kind, seed, **settings):
        """Return the whole as one estimator."""
        pairs = zip(self.hidden, self.sizes, strict=True)
        layers = [size for pair in pairs for size in pair][:-1]
        model = kind(self.sizes[-1], hidden_layer_sizes=layers, **FIXED, **settings)
        n = epochs(model, self.X, self.seconds, self.trial)
        return model.set_params(max_iter=n, random_state=seed)

    def levels(self, kind, seconds, **settings):
        """Return levels of which each has an equal part of the time."""
        rows, found = self.X, []
        for hidden, size in zip(self.hidden, self.sizes, strict=True):
            level = kind(size, hidden_layer_sizes=(hidden,), **FIXED, **settings)
            n = epochs(level, rows, seconds / len(self.sizes), self.trial)
            found.append(level.set_params(max_iter=n))
            rows = np.random.RandomState(0).normal(size=(len(rows), size))  # codes cost no other
        return found

    def greedy(self, kind, seed, **settings):
        """Return levels alone."""
        levels = self.levels(kind, self.seconds, **settings)
        return StackedAutoencoderTransformer(levels=levels, fine_tune=False, random_state=seed)

    def together(self, kind, seed, **settings):
        """Return levels, then all of them in the other half of the time."""
        levels = self.levels(kind, self.seconds / 2, **settings)
        brief = [clone(level).set_params(max_iter=1) for level in levels]
        whole = StackedAutoencoderTransformer(levels=brief, **FIXED, random_state=seed)
        n = epochs(whole, self.X, self.seconds / 2, self.trial)
        return whole.set_params(levels=levels, max_iter=n)

    def one_level(self, kind, seed, **settings):
        """Return the first level alone, in all of the time."""
        level = kind(self.sizes[0], hidden_layer_sizes=(self.hidden[0],), **FIXED, **settings)
        n = epochs(level, self.X, self.seconds, self.trial)
        return level.set_params(max_iter=n, random_state=seed)


def makers(ways):
    """Return each way by name, as a function of a seed."""
    plain, noisy = AutoencoderTransformer, DenoisingAETransformer
    return {
        "from scratch, random": lambda seed: ways.from_scratch(plain, seed, init="random"),
        "from scratch, PCA": lambda seed: ways.from_scratch(plain, seed),
        "greedy": lambda seed: ways.greedy(plain, seed),
        "greedy, then together": lambda seed: ways.together(plain, seed),
        "noise: from scratch": lambda seed: ways.from_scratch(noisy, seed, **NOISY),
        "noise: one level": lambda seed: ways.one_level(noisy, seed, **NOISY),
        "noise: greedy": lambda seed: ways.greedy(noisy, seed, **NOISY),
        "noise: together": lambda seed: ways.together(noisy, seed, **NOISY),
    }


def squared_error(model, X):
    """Return the squared error of a row, summed over columns."""
    return float(np.square(model.inverse_transform(model.transform(X)) - X).sum(axis=1).mean())


def probe(model, train, test):
    """Return the error of a logistic regression on codes, in per cent."""
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    classifier.fit(model.transform(train.X), train.y)
    return 100 * (1 - classifier.score(model.transform(test.X), test.y))


def judged(model, train, test):
    """Return the figures of a way with one seed."""
    with Stopwatch() as watch:
        model.fit(train.X)
    errors = [squared_error(model, part.X) for part in (test, train)]
    return [errors[0], probe(model, train, test), errors[1], watch.cpu]


def rows_of(arguments, seed):
    """Return training and test rows in [0, 1] of pictures, else standardised by training rows."""
    name = arguments.set
    data = of_sklearn(name) if name in SKLEARN else of(arguments.folder, name)
    train, test = split(data, seed)
    train, test = at_most(train, arguments.rows, seed), at_most(test, arguments.rows, seed)
    if name in ("mnist", "digits"):
        low, high = 0.0, float(train.X.max())
    else:
        low, high = train.X.mean(axis=0), train.X.std(axis=0)
        high = np.where(high > 0, high, 1.0)
    return [replace(part, X=(part.X - low) / high) for part in (train, test)]


def main():
    parser = argument_parser(__doc__, seeds=3)
    parser.add_argument("folder", type=folder)
    parser.add_argument("set")
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 30])
    parser.add_argument("--hidden", type=int, nargs="+", default=[512, 256])
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--trial", type=int, default=5, help="epochs that one is timed by")
    parser.add_argument("--only", nargs="+")
    arguments = start(parser)
    heads = {
        "test": ".3f",
        "+-": ".3f",
        "probe, %": ".2f",
        "+- ": ".2f",
        "train": ".3f",
        "s": ".1f",
    }
    table = Table(arguments.set, heads, title_width=24)
    found = {}
    for seed in range(arguments.seeds):
        train, test = rows_of(arguments, seed)
        ways = Ways(arguments.sizes, arguments.hidden, arguments.seconds, train.X, arguments.trial)
        sides = makers(ways)
        for name in arguments.only or sides:
            found.setdefault(name, []).append(judged(sides[name](seed), train, test))
        pca = PCA(arguments.sizes[-1], random_state=seed)
        found.setdefault("PCA", []).append(judged(pca, train, test))
    for name, rows in found.items():
        mean, spread = np.mean(rows, axis=0), np.std(rows, axis=0, ddof=1 if len(rows) > 1 else 0)
        table.row(name, [mean[0], spread[0], mean[1], spread[1], mean[2], mean[3]])


if __name__ == "__main__":
    main()
