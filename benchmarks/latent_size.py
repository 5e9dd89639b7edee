"""How many latents do rows need, does n_components="auto" find it, and at what cost?

Without FOLDER: tables of known size k that are drawn (harness/sized_tables.py), 40 for each seed
base. All of them are fitted. Prints for each table what is found by

auto      VAETransformer("auto"). The same search serves the other transformers, which come to the
          same number (the sparse one to four units for each), so that one is enough
parallel  parallel analysis
TwoNN     ratios of distances to two neighbours
PCA 95 %  the axes that hold 95 per cent of the variance
grid      with --grid alone: VAEs of k - 1, k, k + 1 and 2 k latents, fitted on two thirds of the
          rows and scored on the others; the smallest within a standard error of the best

whether "auto" warned that the size is unclear, and the processor seconds of "auto", of the default
fit that is told k, their ratio, and those of the grid. Then, by kind of table, the share of tables
whose k was found exactly, and the mean error; and the cost of "auto" by the number of rows, as the
mean of the ratios and as the ratio of the sums. --kinds takes some kinds alone, --rows tables of
that many rows at most.

The default seed base is one that nothing was chosen by. Base 0 served for the development.

With FOLDER: real tables, of which nobody knows the size. Wine, breast cancer and digits of
scikit-learn, and a9a (flags), worm_neuron_counts (counts of the 200 genes of most cells) and
file_bytes (logarithms) of the folder: at most 2,100 rows to fit and 900 others to score. Real
columns are standardised by the training rows. Prints for each table and seed what "auto" finds, its
held-out score, the best of 1, 2, 4, 8, 12, 16, 24 and 32 latents, their score with its standard
error over test rows, the difference with that of its own, and the processor seconds of "auto" and
of all fits of the grid. The best of the grid is chosen on the rows that it is scored on, which
favours it. Then: on how many tables "auto" is not behind by more than a standard error of the best
score, and of the difference, means over seeds. --tables takes some alone.

Run: python benchmarks/latent_size.py [--seed-base 101] [--kinds linear mild] [--rows 1000] [--grid]
     python benchmarks/latent_size.py FOLDER [--tables wine a9a] [--seeds 2]
"""

import warnings
from functools import partial
from typing import NamedTuple

import numpy as np
from sklearn.preprocessing import StandardScaler

from harness import data, sized_tables
from harness.command import argument_parser, folder, start
from harness.dimensions import parallel_analysis, pca_95, two_nn
from harness.report import Table
from harness.timing import Stopwatch
from skae import VAETransformer
from skae.exceptions import UnclearSizeWarning

KINDS = ("mild", "strong", "linear", "binary", "topics")
SIMPLE = {"parallel": parallel_analysis, "TwoNN": two_nn, "PCA 95 %": pca_95}
MOST_TRAIN, MOST_TEST = 2_100, 900
SIZES = (1, 2, 4, 8, 12, 16, 24, 32)
#: Real tables and what their entries are.
REAL = {
    "wine": "gaussian",
    "breast_cancer": "gaussian",
    "digits": "gaussian",
    "a9a": "bernoulli",
    "worm_neuron_counts": "negative_binomial",
    "file_bytes": "gaussian",
}
N_GENES = 200


class Fit(NamedTuple):
    """A fitted VAE, the processor seconds that it took, and whether it found the size unclear."""

    model: VAETransformer
    seconds: float
    unclear: bool


def fit(X, n_components, likelihood, seed=0):
    """Fit a VAE with all other parameters at their defaults."""
    model = VAETransformer(n_components, likelihood=likelihood, random_state=seed)
    with warnings.catch_warnings(record=True) as caught, Stopwatch() as watch:
        warnings.simplefilter("always", UnclearSizeWarning)
        model.fit(X)
    unclear = any(issubclass(each.category, UnclearSizeWarning) for each in caught)
    return Fit(model, watch.cpu, unclear)


class Grid(NamedTuple):
    """Scores of test rows by size, and the processor seconds of all fits."""

    sizes: list
    scores: np.ndarray  # (n_sizes, n_rows)
    seconds: float

    @property
    def best(self):
        """The place of the best size."""
        return int(self.scores.mean(axis=1).argmax())

    def smallest_as_good(self):
        """Return the smallest size within a standard error of the best."""
        lost = self.scores[self.best] - self.scores
        return self.sizes[int((lost.mean(axis=1) <= standard_error(lost)).argmax())]


def standard_error(differences):
    """Return the standard error of the mean over the last axis."""
    return differences.std(axis=-1, ddof=1) / np.sqrt(differences.shape[-1])


def grid_of(train, test, sizes, likelihood, seed=0):
    """Fit a VAE of each size and score the test rows."""
    fits = [fit(train, k, likelihood, seed) for k in sizes]
    scores = np.array([one.model.score_samples(test) for one in fits])
    return Grid(list(sizes), scores, sum(one.seconds for one in fits))


# Tables of known size.


class Outcome(NamedTuple):
    """What was found of a table, by side, and the seconds of "auto" and of the fit of its size."""

    table: sized_tables.SizedTable
    found: dict
    auto: float
    right: float


def run_table(printed, table, with_grid):
    """Print the line of a table; return its `Outcome`."""
    X, k = table.X, table.k
    auto, right = (fit(X, size, table.likelihood) for size in ("auto", k))
    found = {"auto": auto.model.n_components_}
    found |= {name: estimate(X) for name, estimate in SIMPLE.items()}
    seconds = [auto.seconds, right.seconds, auto.seconds / right.seconds]
    if with_grid:
        cut = 2 * len(X) // 3  # rows are drawn independently: no need to shuffle
        sizes = sorted({max(1, k - 1), k, k + 1, 2 * k})
        grid = grid_of(X[:cut], X[cut:], sizes, table.likelihood)
        found["grid"] = grid.smallest_as_good()
        seconds.append(grid.seconds)
    printed.row(table.name, [k, *found.values(), "yes" if auto.unclear else "", *seconds])
    return Outcome(table, found, auto.seconds, right.seconds)


def summarise(outcomes):
    """Print by kind how often each side was exact, and its mean error; then what "auto" costs."""
    sides = list(outcomes[0].found)
    print()
    printed = Table("exact / mean error", dict.fromkeys(sides, ""), title_width=32, narrowest=12)
    kinds = list(dict.fromkeys(each.table.kind for each in outcomes))
    for kind in [*kinds, "all"]:
        some = [each for each in outcomes if kind in (each.table.kind, "all")]
        cells = [
            _hits(np.array([each.found[side] - each.table.k for each in some])) for side in sides
        ]
        printed.row(f"{kind} ({len(some)} tables)", cells)
    print()
    heads = {"mean ratio": ".2f", "ratio of sums": ".2f", "s, auto": ".1f", "s, k told": ".1f"}
    printed = Table('cost of "auto"', heads, title_width=32)
    rows = sorted({each.table.n_rows for each in outcomes})
    for n in [*rows, None]:
        some = [each for each in outcomes if n in (each.table.n_rows, None)]
        auto, right = np.transpose([(each.auto, each.right) for each in some])
        cells = [np.mean(auto / right), auto.sum() / right.sum(), auto.mean(), right.mean()]
        printed.row(f"n = {n} ({len(some)} tables)" if n else "all", cells)


def _hits(off):
    return f"{np.mean(off == 0):.2f} / {np.abs(off).mean():.2f}"


def compare_known(seed_base=101, kinds=KINDS, *, most_rows=None, with_grid=False):
    """Print what is found of tables of known size; return a list of `Outcome`.

    Parameters
    ----------
    seed_base : int
    kinds : iterable of str
    most_rows : int or None
        Leave out tables of more rows.
    with_grid : bool
    """
    heads = {"k": "d", "auto": "d", **dict.fromkeys(SIMPLE, "d")}
    heads |= {"grid": "d"} if with_grid else {}
    heads |= {"unclear": "", "s, auto": ".1f", "s, k told": ".1f", "ratio": ".2f"}
    heads |= {"s, grid": ".1f"} if with_grid else {}
    printed = Table("table", heads, title_width=32)
    some = sized_tables.tables(seed_base, kinds)
    some = [table for table in some if most_rows is None or table.n_rows <= most_rows]
    outcomes = [run_table(printed, table, with_grid) for table in some]
    summarise(outcomes)
    return outcomes


# Real tables.


def rows_of(folder, name, seed):
    """Return training and test rows of a real table."""
    parts = data.split(data.of(folder, name), seed)
    limits = (MOST_TRAIN, MOST_TEST)
    train, test = (data.at_most(*each, seed).X for each in zip(parts, limits, strict=True))
    if REAL[name] == "negative_binomial":
        used = data.most_used(train, N_GENES)
        return train[:, used], test[:, used]
    if REAL[name] != "gaussian":
        return train, test
    varies = np.ptp(train, axis=0) > 0
    scaler = StandardScaler().fit(train[:, varies])
    return scaler.transform(train[:, varies]), scaler.transform(test[:, varies])


def run_real(printed, folder, name, seed, sizes):
    """Print the line of a table and seed; return the gain of "auto", its error, and the best's."""
    train, test = rows_of(folder, name, seed)
    auto = fit(train, "auto", REAL[name], seed)
    grid = grid_of(train, test, sizes, REAL[name], seed)
    ours, theirs = auto.model.score_samples(test), grid.scores[grid.best]
    gain, error = (ours - theirs).mean(), standard_error(ours - theirs)
    of_best = standard_error(theirs)
    figures = [auto.model.n_components_, "yes" if auto.unclear else "", ours.mean()]
    figures += [grid.sizes[grid.best], theirs.mean(), of_best, gain, error]
    figures += [auto.seconds, grid.seconds]
    printed.row(f"{name}, {train.shape[0]} x {train.shape[1]}", figures)
    return gain, error, of_best


def compare_real(folder, names=tuple(REAL), *, n_seeds=2, sizes=SIZES):
    """Print what "auto" scores beside the best of a grid; return by name the mean difference.

    Parameters
    ----------
    folder : Path
    names : iterable of str
        Of `REAL`.
    n_seeds : int
    sizes : sequence of int
        Of the grid.

    Returns
    -------
    gains : dict of str to ndarray
        By name: differences, their standard errors, and those of the best, means over seeds.
    """
    heads = {"auto": "d", "unclear": "", "score": ".2f", "grid": "d", "best": ".2f", "s.e.": ".2f"}
    heads |= {"gain": "+.2f", "+-": ".2f", "s, auto": ".1f", "s, grid": ".1f"}
    printed, gains = Table("table, training rows", heads, title_width=32), {}
    for name in names:
        run = partial(run_real, printed, folder, name, sizes=sizes)
        gains[name] = np.mean([run(seed) for seed in range(n_seeds)], axis=0)
    for place, error in ((2, "of the best score"), (1, "of the difference")):
        good = sum(each[0] >= -each[place] for each in gains.values())
        print(f"\nnot behind by more than a standard error {error}: {good} of {len(gains)}")
    return gains


def main():
    parser = argument_parser(__doc__, seeds=2)
    parser.add_argument("folder", type=folder, nargs="?")
    parser.add_argument("--tables", nargs="+", choices=REAL, default=tuple(REAL))
    parser.add_argument("--seed-base", type=int, default=101)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--rows", type=int, help="leave out tables of more rows")
    parser.add_argument("--grid", action="store_true", help="search the size with a grid, too")
    arguments = start(parser)
    if arguments.folder is not None:
        compare_real(arguments.folder, arguments.tables, n_seeds=arguments.seeds)
        return
    compare_known(
        arguments.seed_base,
        arguments.kinds,
        most_rows=arguments.rows,
        with_grid=arguments.grid,
    )


if __name__ == "__main__":
    main()
