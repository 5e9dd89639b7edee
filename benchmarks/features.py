"""Are the codes of a plain autoencoder better features than those of TruncatedSVD, NMF and PCA?

Reads a folder of data sets; docstrings (of installed packages), digits, breast_cancer and wine need
none. Sets, all by default: docstrings (1,800 training rows of 2,000 words, split by file),
newsgroups20 (3,000 training messages, 2,000 test, 2,500 words), debian_packages (2,800 x 1,650,
split by source package), cora_words (1,895 x 1,433, binary); digits, file_bytes (logarithms of
counts, at most 3,000 rows, split by folder), breast_cancer, wine. --sets takes any other set with
labels. Rows are drawn and split with the seed; the columns of texts are the words in most training
rows. Sparse tables are given as sublinear TF-IDF, dense ones as they are; PCA standardises columns.
A size is at most half of the columns. --whole: newsgroups20 at full size (11,314 x 10,000), at 32
components alone.

Accuracies on test rows: "LR" of a logistic regression on standardised codes, "one scale" on codes
that keep their variances, "10-NN" of the 10 nearest training rows by the cosine of centred codes.
The estimators are called with n_components and random_state alone. Prints for each set and size the
three accuracies of each method, the differences from the best of the simple methods (for each
accuracy the one with the largest mean over seeds), and the seconds of a fit; then, for sparse and
for dense tables, the mean difference with its standard error over fits, and how many cells (set and
size) and fits are won.

Run: python benchmarks/features.py FOLDER [--sets NAME ...] [--sizes 16 32 64] [--seeds 3]
     [--estimators AutoencoderTransformer ...] [--whole]

From Python another method takes the place of skae's: compare(folder, {name: maker}), where a maker
takes the number of components and a seed and returns a transformer.
"""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

import skae
from harness import data
from harness.command import argument_parser, folder, start
from harness.features import OF_DENSE, OF_TEXTS, PROBES, tfidf
from harness.report import Table, paired
from harness.timing import Stopwatch


class Cut(NamedTuple):
    """How much of a set is used; None for all of it."""

    train: int | None = 3_000
    test: int | None = 2_000
    columns: int | None = None


CUTS = {
    "docstrings": Cut(1_800, columns=2_000),
    "newsgroups20": Cut(columns=2_500),
    "debian_packages": Cut(2_800, columns=1_650),
    "cora_words": Cut(),
    "digits": Cut(),
    "file_bytes": Cut(),
    "breast_cancer": Cut(),
    "wine": Cut(),
}
WHOLE = {"newsgroups20": Cut(None, None)}
SIZES = (16, 32, 64)
ESTIMATORS = [name for name in skae.__all__ if name.endswith("Transformer")]


def plain(name):
    """Return a maker of skae's estimator of that name, all other parameters at their defaults."""
    return lambda k, seed: getattr(skae, name)(n_components=k, random_state=seed)


def draw(found, cut, seed):
    """Return training and test rows, in the units that all methods are given."""
    train, test = data.split(found, seed)
    train, test = data.at_most(train, cut.train, seed), data.at_most(test, cut.test, seed)
    X = train.X, test.X
    if cut.columns is not None:
        used = data.most_used(train.X, cut.columns)
        X = [rows[:, used] for rows in X]
    if sp.issparse(train.X):
        X = tfidf(*X)
    return (X[0], train.y), (X[1], test.y)


def measure(transformer, train, test):
    """Return the accuracies of `PROBES`, in their order, and the seconds of the fit."""
    with Stopwatch() as watch:
        transformer.fit(train[0])
    codes, test_codes = (transformer.transform(X) for X, _ in (train, test))
    fitted = [probe().fit(codes, train[1]) for probe in PROBES.values()]
    return [*(probe.score(test_codes, test[1]) for probe in fitted), watch.cpu]


class Cell(NamedTuple):
    """What was found on one set at one size."""

    name: str
    size: int
    sparse: bool
    ours: dict  # (n_seeds, 4), what `measure` returns, by method
    simple: dict

    def gains(self, method):
        """Return (n_seeds, 3): ours less the best of the simple methods by their means."""
        simple = np.array(list(self.simple.values()))[:, :, :-1]
        best = simple.mean(axis=1).argmax(axis=0)
        theirs = [simple[place, :, probe] for probe, place in enumerate(best)]
        return self.ours[method][:, :-1] - np.transpose(theirs)


def run_set(found, cut, ours, sizes, n_seeds):
    """Give the cell of each size."""
    rows = [draw(found, cut, seed) for seed in range(n_seeds)]
    X = rows[0][0][0]
    simple = OF_TEXTS if sp.issparse(X) else OF_DENSE

    def runs(maker, k):
        return np.array([measure(maker(k, seed), *rows[seed]) for seed in range(n_seeds)])

    for k in sorted({min(size, X.shape[1] // 2) for size in sizes}):
        sides = [{name: runs(maker, k) for name, maker in side.items()} for side in (ours, simple)]
        yield Cell(found.name, k, sp.issparse(X), *sides)


def compare(folder, ours, *, cuts=CUTS, sizes=SIZES, n_seeds=3):
    """Print and return the cells of all sets.

    Parameters
    ----------
    folder : Path
    ours : dict of makers by name
        Called with the number of components and a seed, a maker returns a transformer.
    cuts : dict of Cut by name of set
    sizes : iterable of int
    n_seeds : int
    """
    columns = [*ours, "SVD or PCA", "NMF"]
    heads = {f"{column:>18}": "" for column in columns}
    heads |= {f"less best, {name:>8}": "" for name in ours}
    heads |= {f"s, {column}": ".2f" for column in columns}
    print("accuracies: " + " / ".join(PROBES))
    table = Table("set, components", heads, title_width=20)
    cells = []
    for name, cut in cuts.items():
        for cell in run_set(data.of(folder, name), cut, ours, sizes, n_seeds):
            cells.append(cell)
            print_cell(table, cell)
    summarise(cells)
    return cells


def print_cell(table, cell):
    found = [*cell.ours.values(), *cell.simple.values()]
    means = [each.mean(axis=0) for each in found] + [None] * (len(OF_TEXTS) - len(cell.simple))
    accuracies = [None if mean is None else _joined(mean[:-1], ".3f") for mean in means]
    gains = [_joined(cell.gains(name).mean(axis=0), "+.3f") for name in cell.ours]
    seconds = [None if mean is None else mean[-1] for mean in means]
    table.row(f"{cell.name}, {cell.size}", [*accuracies, *gains, *seconds])


def _joined(figures, spec):
    return " / ".join(format(figure, spec).replace("0.", ".") for figure in figures)


def summarise(cells):
    """Print how each of ours does beside the best simple method, on sparse and on dense tables."""
    print("\ndifference from the best simple method")
    heads = {"mean": "+.4f", "+-": ".4f", "cells won": "d", "of": "d", "fits won": "d", "of ": "d"}
    table = Table("", heads, title_width=44)
    for kind, sparse in (("sparse", True), ("dense", False)):
        chosen = [cell for cell in cells if cell.sparse == sparse]
        for name in chosen[0].ours if chosen else ():
            gains = np.array([cell.gains(name) for cell in chosen])
            for place, probe in enumerate(PROBES):
                of_cells, of_fits = gains[:, :, place].mean(axis=1), gains[:, :, place].ravel()
                total = paired(of_fits, np.zeros_like(of_fits))
                won = [(of_cells > 0).sum(), len(of_cells), total.won, len(of_fits)]
                table.row(f"{kind}, {name}, {probe}", [total.mean, total.error, *won])


def main():
    parser = argument_parser(__doc__, seeds=3)
    parser.add_argument("folder", type=folder)
    parser.add_argument("--sets", nargs="+", default=list(CUTS), help="names of sets")
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES)
    parser.add_argument(
        "--estimators", nargs="+", default=["AutoencoderTransformer"], choices=ESTIMATORS
    )
    parser.add_argument("--whole", action="store_true")
    arguments = start(parser)
    ours = {name: plain(name) for name in arguments.estimators}
    cuts = {name: CUTS.get(name, Cut()) for name in arguments.sets}
    cuts, sizes = (WHOLE, [32]) if arguments.whole else (cuts, arguments.sizes)
    compare(arguments.folder, ours, cuts=cuts, sizes=sizes, n_seeds=arguments.seeds)


if __name__ == "__main__":
    main()
