"""Do alarms keep their promise on new rows? Shares flagged, false discoveries, gross errors found.

Reads folders of npz files: with X and y, where 1 marks an anomaly (those of ADBench; the normal
rows are taken), or a CSR matrix (all rows are taken); beside them come tables of scikit-learn and a
small one-hot table. Half of the rows of a table, 500 at most (--rows), are the training rows, 1,000
others at most the new ones, drawn anew for each seed. Nothing new is odd, so what is flagged are
false alarms:

    auto     per cent of new rows flagged with the default contamination (promised: 1)
    0.05     the same with contamination=0.05, beside IsolationForest and LOF (promised: 5)
    null     per cent of batches of 100 new rows with an alarm at fdr=0.1 (promised: 10 at most)

In other batches one cell in each of 3 rows is spoilt: 50 standard deviations are added to it, in a
CSR row 50 times the largest value of the table.

    FDP      mean share of false alarms among all at fdr=0.1, in per cent (promised: 10 at most)
    found    per cent of spoilt rows that are alarms

The last column is the standard error of a share of 5 per cent, from training rows and new ones.

Run: python benchmarks/alarms.py FOLDER [FOLDER ...] [--rows 500] [--seeds 5] [--only NAME ...]
"""

import warnings

import numpy as np
import scipy.sparse as sp
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor

from harness import data, made_up
from harness.command import argument_parser, folder, start
from harness.report import Table
from skae import AutoencoderOutlierDetector

FDR, SHARE, BATCH, N_SPOILT, N_BATCHES, MOST_NEW = 0.1, 0.05, 100, 3, 20, 1000
FIGURES = ("auto", "0.05", "IF", "LOF", "null", "FDP", "found", "error")


def tables(folders):
    """Yield names and normal rows."""
    cancer, digits = data.of_sklearn("breast_cancer"), data.of_sklearn("digits")
    yield "wine (sklearn)", data.of_sklearn("wine").X
    yield "breast cancer", cancer.X[cancer.y == 1]
    yield "digits 0", digits.X[digits.y == 0]
    yield "one-hot", made_up.classes()
    yield "one-hot, CSR", sp.csr_array(made_up.classes())
    for path in data.files(folders):
        found = data.anomalies(path)
        X = data.csr_rows(path) if found is None else found.X[found.y == 0]
        if X is not None:
            yield path.stem, X


def spoil(rows, spread, rng):
    """Return the rows, one cell of each of the first few far off."""
    spoilt = sp.lil_array(rows) if sp.issparse(rows) else rows.copy()
    columns = rng.choice(np.flatnonzero(spread), N_SPOILT)
    for row, column in enumerate(columns):
        spoilt[row, column] += 50 * spread[column]
    return sp.csr_array(spoilt) if sp.issparse(rows) else spoilt


def false_discoveries(detector, new, spread, rng):
    """Return the share of batches with a false alarm, of false alarms, and of spoilt rows found."""
    null, false, found = [], [], []
    for _ in range(N_BATCHES):
        batch = new[rng.choice(new.shape[0], min(BATCH, new.shape[0]), replace=False)]
        null.append((detector.predict(batch) == -1).any())
        alarm = detector.predict(spoil(batch, spread, rng)) == -1
        false.append(alarm[N_SPOILT:].sum() / max(1, alarm.sum()))
        found.append(alarm[:N_SPOILT].mean())
    return np.mean(null), np.mean(false), np.mean(found)


def measure(X, seed, n_train):
    """Return all figures of one split, in per cent."""
    rng = np.random.RandomState(seed)
    order = rng.permutation(X.shape[0])
    train, new = X[order[:n_train]], X[order[n_train:][:MOST_NEW]]
    if sp.issparse(X):
        spread = abs(train).max() * (train.count_nonzero(axis=0) > 0)
    else:
        spread = train.std(axis=0)
    trusting = AutoencoderOutlierDetector(fdr=FDR, random_state=seed).fit(train)
    others = [
        AutoencoderOutlierDetector(contamination=SHARE, random_state=seed),
        IsolationForest(contamination=SHARE, random_state=seed),
        LocalOutlierFactor(novelty=True, contamination=SHARE),
    ]
    shares = [np.mean(trusting.decision_function(new) < 0)]
    shares += [np.mean(other.fit(train).predict(new) == -1) for other in others]
    error = np.sqrt(SHARE * (1 - SHARE) * (1 / n_train + 1 / new.shape[0]))
    return 100 * np.array([*shares, *false_discoveries(trusting, new, spread, rng), error])


def main():
    parser = argument_parser(__doc__, seeds=5)
    parser.add_argument("folders", nargs="+", type=folder)
    parser.add_argument("--rows", type=int, default=500, help="training rows at most")
    parser.add_argument("--only", nargs="+", help="names of tables, files without their ending")
    arguments = start(parser)
    warnings.simplefilter("ignore")  # LOF's of duplicates, ours of few rows
    table = Table("per cent", {"rows": "d"} | dict.fromkeys(FIGURES, ".1f"))
    means = []
    for name, X in tables(arguments.folders):
        if arguments.only and name not in arguments.only:
            continue
        n_train = min(arguments.rows, X.shape[0] // 2)
        runs = np.array([measure(X, seed, n_train) for seed in range(arguments.seeds)])
        figures = runs.mean(axis=0)
        figures[-1] /= np.sqrt(len(runs))
        means.append(figures)
        table.row(name, [n_train, *figures])
    table.row("mean", [None, *np.mean(means, axis=0)])


if __name__ == "__main__":
    main()
