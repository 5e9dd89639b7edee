"""Does a VAE describe new rows of small tables better than PCA and factor analysis, at any size?

Reads a folder of data sets: mean held-out log-likelihood a row, in nats, of a VAE called with
n_components and random_state alone (its score is a bound), beside FactorAnalysis and PCA. Of a
table at most 1,000 rows are drawn with the seed, without those marked as anomalies, and cut into
halves; each half is scored by a model of the other. For all sides alike, columns are standardised
on the training half, so that densities are in those units; columns constant in the training half
are left out, of the test half, too.

Tables, all by default: wine, breast_cancer, diabetes and digits of scikit-learn; file_bytes
(logarithms of counts), adbench/letter, adbench/satellite and adbench/Ionosphere of the folder.
--tables takes others, also by pattern ('adbench/*').

Every side is fitted with an eighth, a quarter, half and all of the number of columns (PCA and
factor analysis with one less than columns or rows, where that is fewer), the VAE also with four
times its best size, however many columns there are. Prints for each table the score of each
side at its best size, with that size; of the VAE at the fourfold size; in nats a column, the VAE
less the better of the others, with the standard error over halves, and what the fourfold size
costs; and the seconds of a fit. A score that is not a finite number loses against any other. Then:
on how many tables the VAE is at least as good but for 0.01 nats a column, on how many better, and
on how many the fourfold size costs at most 0.02 nats a column.

Run: python benchmarks/held_out_score.py FOLDER [--tables NAME ...] [--seeds 3]

From Python another model takes the place of the VAE: compare(folder, maker), where a maker takes
the number of components and a seed and returns an estimator with fit and score.
"""

from typing import NamedTuple

import numpy as np
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.preprocessing import StandardScaler

from harness import data
from harness.command import argument_parser, folder, start
from harness.report import Table, paired
from harness.timing import Stopwatch
from skae import VAETransformer

MOST_ROWS = 1_000
SHARES = (1 / 8, 1 / 4, 1 / 2, 1)  # components by columns
AS_GOOD, LITTLE = 0.01, 0.02  # nats a column
OTHERS = {
    "FA": lambda k, seed: FactorAnalysis(k, random_state=seed),
    "PCA": lambda k, seed: PCA(k, random_state=seed),
}
TABLES = (
    *("wine", "breast_cancer", "diabetes", "digits", "file_bytes"),
    *("adbench/letter", "adbench/satellite", "adbench/Ionosphere"),
)


def plain_vae(k, seed):
    """Return the VAE with all other parameters at their defaults."""
    return VAETransformer(n_components=k, random_state=seed)


def tables(folder, patterns):
    """Give name and rows of each table, without the rows marked as anomalies."""
    for pattern in patterns:
        if pattern in data.SKLEARN:
            yield pattern, data.of_sklearn(pattern).X
            continue
        paths = sorted(folder.glob(f"{pattern}.npz"))
        if not paths:
            raise FileNotFoundError(f"Found no table {pattern!r} in {folder}.")
        for path in paths:
            name = path.relative_to(folder).with_suffix("").as_posix()
            found = data.anomalies(path)
            yield name, data.of(folder, name).X if found is None else found.X[found.y == 0]


class Half(NamedTuple):
    """Rows of both halves in the units of the training half, and the seed of what is fitted."""

    train: np.ndarray
    test: np.ndarray
    seed: int


def halves(X, n_seeds):
    """Return the two halves of each seed, each once the training rows."""
    found = []
    for seed in range(n_seeds):
        rows = np.random.RandomState(seed).permutation(len(X))[:MOST_ROWS]
        for first in (0, 1):
            train, test = X[rows[first::2]], X[rows[1 - first :: 2]]
            varies = np.ptp(train, axis=0) > 0
            scaler = StandardScaler().fit(train[:, varies])
            parts = [scaler.transform(part[:, varies]) for part in (train, test)]
            found.append(Half(*parts, seed))
    return found


class Side:
    """What a model scores on the halves, by the share of components."""

    def __init__(self, maker, halves, *, below_rank):
        self.maker, self.halves, self.below_rank = maker, halves, below_rank
        self.found = {share: self.measure(share) for share in SHARES}
        self.best = max(SHARES, key=lambda share: self.found[share][:, 0].mean())

    def size(self, share, half):
        """Return the number of components."""
        k = max(1, int(share * half.train.shape[1]))
        return min(k, min(half.train.shape) - 1) if self.below_rank else k

    def measure(self, share, times=1):
        """Return (n_halves, 2): mean log-likelihood a row, and the seconds of the fit."""
        found = []
        for half in self.halves:
            model = self.maker(times * self.size(share, half), half.seed)
            with Stopwatch() as watch:
                model.fit(half.train)
            score = model.score(half.test)
            found.append((score if np.isfinite(score) else -np.inf, watch.cpu))
        return np.array(found)

    @property
    def scores(self):
        return self.found[self.best][:, 0]

    def mean_size(self):
        """Return the best number of components: halves may have unequally many columns."""
        return np.mean([self.size(self.best, half) for half in self.halves])


class Verdict(NamedTuple):
    """In nats a column: ours less the better of the others, and what the fourfold size costs."""

    gain: float
    cost: float


def run_table(table, name, X, maker, n_seeds):
    """Print the line of a table and return its verdict."""
    parts = halves(X, n_seeds)
    columns = np.array([part.train.shape[1] for part in parts])
    others = [Side(other, parts, below_rank=True) for other in OTHERS.values()]
    ours = Side(maker, parts, below_rank=False)
    theirs = max((side.scores for side in others), key=np.mean)
    gain, error, *_ = paired(ours.scores / columns, theirs / columns)
    fourfold = ours.measure(ours.best, times=4)[:, 0]
    cost = paired(ours.scores / columns, fourfold / columns).mean
    sides = (*others, ours)
    found = [figure for side in sides for figure in (side.scores.mean(), side.mean_size())]
    seconds = [side.found[side.best][:, 1].mean() for side in sides]
    shape = f"{len(parts[0].train)} x {X.shape[1]}"
    table.row(f"{name}, {shape}", [*found, fourfold.mean(), gain, error, cost, *seconds])
    return Verdict(gain, cost)


def compare(folder, maker=plain_vae, *, names=TABLES, n_seeds=3):
    """Print how a model does beside PCA and factor analysis; return the verdicts by table.

    Parameters
    ----------
    folder : Path
    maker : function
        Called with the number of components and a seed, returns an estimator with fit and score.
    names : iterable of str
        Tables of `tables`.
    n_seeds : int
    """
    sides = [*OTHERS, "ours"]
    heads = {head: spec for side in sides for head, spec in ((side, ".2f"), (f"{side} at", ".0f"))}
    heads |= {"ours, 4 x": ".2f", "gain/column": "+.3f", "+-": ".3f", "4 x costs": "+.3f"}
    heads |= {f"s, {side}": ".2f" for side in sides}
    table = Table("table, training rows", heads, title_width=32)
    verdicts = {
        name: run_table(table, name, X, maker, n_seeds) for name, X in tables(folder, names)
    }
    summarise(verdicts.values())
    return verdicts


def summarise(verdicts):
    """Print on how many tables the model does well."""
    gains, costs = np.transpose(list(verdicts))
    n = len(gains)
    print(f"\nat least as good but for {AS_GOOD} nats a column: {(gains >= -AS_GOOD).sum()} of {n}")
    print(f"better than both: {(gains > 0).sum()} of {n}")
    cheap = (costs <= LITTLE).sum()
    print(f"four times the size costs at most {LITTLE} nats a column: {cheap} of {n}")


def main():
    parser = argument_parser(__doc__, seeds=3)
    parser.add_argument("folder", type=folder)
    parser.add_argument("--tables", nargs="+", default=TABLES, help="names or patterns")
    arguments = start(parser)
    compare(arguments.folder, names=arguments.tables, n_seeds=arguments.seeds)


if __name__ == "__main__":
    main()
