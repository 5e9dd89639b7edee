"""What does the plain autoencoder of flags and of counts gain from where it starts?

AutoencoderTransformer with --components and a likelihood, all else at its default, beside the same
with init="random", which no row held out tells how long to train. Half of the rows of each table
(whole groups, where it has such) are trained on, the others scored, at most --rows of each. Tables:
digits (pixels above half as flags; grey levels as counts), a9a, adbench/celeba (flags) and
file_bytes (counts) of the folder, and flags and counts of topics that are made up.

Prints by table: score of new rows (nats a row, the code given), accuracy of a logistic regression
on codes (in per cent, where there are labels), epochs and processor time of both sides. Then on how
many tables the default has the better score, and the better accuracy.

Run: python benchmarks/plain_starts.py FOLDER [--rows 4000] [--components 16] [--seeds 1]
"""

from dataclasses import replace

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from harness import data
from harness.command import argument_parser, folder, start
from harness.report import Table
from harness.sized_tables import tables
from harness.timing import Stopwatch
from skae import AutoencoderTransformer

SIDES = {"auto": {}, "random": {"init": "random"}}
COLUMNS = {"score": ".2f", "accuracy": ".1f", "epochs": "d", "s": ".1f"}


def sets(path):
    """Give likelihood and rows, labels and groups of each table."""
    digits = data.of_sklearn("digits")
    yield "bernoulli", replace(digits, name="digits, flags", X=(digits.X > 8).astype(float))
    yield "negative_binomial", replace(digits, name="digits, counts")
    flags = data.load(path, "a9a")
    yield "bernoulli", replace(flags, X=flags.X.toarray(), test=None)
    yield "bernoulli", replace(data.anomalies(path / "adbench" / "celeba.npz"), y=None)
    counts = data.load(path, "file_bytes")
    for likelihood in ("negative_binomial", "multinomial"):
        yield likelihood, replace(counts, name=f"bytes, {likelihood}")
    for made in tables(500):
        if made.kind in ("binary", "topics"):
            yield made.likelihood, data.DataSet(made.name, made.X)


def accuracy(model, train, new):
    """Return the accuracy of a classifier of codes on new rows, in per cent."""
    if train.y is None:
        return np.nan
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    classifier.fit(model.transform(train.X), train.y)
    return 100 * classifier.score(model.transform(new.X), new.y)


def main():
    parser = argument_parser(__doc__, seeds=1)
    parser.add_argument("folder", type=folder)
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--components", type=int, default=16)
    arguments = start(parser)
    table = Table("table, init, seed", COLUMNS, title_width=44)
    wins = []
    for seed in range(arguments.seeds):
        for likelihood, whole in sets(arguments.folder):
            halves = data.split(whole, seed, test_size=0.5)
            train, new = (data.at_most(half, arguments.rows, seed) for half in halves)
            figures = {}
            for side, settings in SIDES.items():
                model = AutoencoderTransformer(
                    arguments.components, likelihood=likelihood, random_state=seed, **settings
                )
                with Stopwatch() as watch:
                    model.fit(train.X)
                figures[side] = [model.score(new.X), accuracy(model, train, new)]
                table.row(
                    f"{whole.name}, {side}, {seed}", [*figures[side], model.n_iter_, watch.cpu]
                )
            wins.append(np.subtract(figures["auto"], figures["random"]))
    score, accuracies = np.transpose(wins)
    judged = accuracies[np.isfinite(accuracies)]
    print(f"better with auto: score {(score > 0).sum()} of {len(score)}", end=", ")
    print(f"accuracy {(judged > 0).sum()} of {len(judged)}, by {judged.mean():+.1f} on average")


if __name__ == "__main__":
    main()
