"""How well does the anomaly detector find anomalies, beside simple ones and PyOD's?

Reads a folder of npz files with X and y (1 marks an anomaly), such as those of ADBench. The clean
one-class protocol: at most 50,000 rows of a set are drawn, half of the normal ones, shuffled with
the seed, are the training rows, all others the test rows; columns are standardised on the training
rows. Seeds 0 to 4, or 0 alone for sets of more than 20,000 rows. Prints for each set the
area under the ROC curve and the average precision of each method, in per cent; then for each method
the means over sets, the differences from the mean distance to 5 neighbours with their standard
errors over sets, on how many sets they are more than 0.05, and the seconds (of processor time, fit
and score together) that all sets take once.

With --unsupervised all rows are training and test rows at once, at most 20,000 of them; a method
gets the expected share of anomalies, 0.1, for all sets. With --ablation parts of the detector are
left out one at a time, those of the robust one together with --unsupervised.

Run: python benchmarks/anomaly.py FOLDER [--ablation] [--unsupervised] [--seeds 5] [--only NAME ...]
Needs PyOD for its AutoEncoder and VAE (--pyod).
"""

import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.preprocessing import StandardScaler

from harness import data
from harness.command import argument_parser, folder, start
from harness.detectors import Factor, Neighbours, OfPyOD, PCAReconstruction
from harness.report import Table, paired
from harness.timing import Stopwatch
from skae import AutoencoderOutlierDetector
from skae.outliers import NeighboursAndNetwork, RobustNeighboursAndNetwork

MOST_ROWS, MOST_ROWS_FOR_SEEDS, MOST_ROWS_UNSUPERVISED = 50_000, 20_000, 20_000
EXPECTED_SHARE = 0.1
ANCHOR = "5 neighbours"


def split_clean(X, y, seed):
    """Return training rows, test rows and the labels of the test rows."""
    rng = np.random.RandomState(seed)
    if len(X) > MOST_ROWS:
        drawn = rng.permutation(len(X))[:MOST_ROWS]
        X, y = X[drawn], y[drawn]
    normal = rng.permutation(np.flatnonzero(y == 0))
    half = len(normal) // 2
    rest = np.concatenate([normal[half:], np.flatnonzero(y == 1)])
    scaler = StandardScaler().fit(X[normal[:half]])
    return scaler.transform(X[normal[:half]]), scaler.transform(X[rest]), y[rest]


def split_unsupervised(X, y, seed):
    """Return the same rows for training and test, and their labels."""
    drawn = np.random.RandomState(seed).permutation(len(X))[:MOST_ROWS_UNSUPERVISED]
    rows = StandardScaler().fit_transform(X[drawn])
    return rows, rows, y[drawn]


ABLATIONS = {
    "without nearest row": NeighboursAndNetwork(weights=(0, 1, 0.3)),
    "without combination": NeighboursAndNetwork(weights=(1, 0, 0.3)),
    "without network": NeighboursAndNetwork(weights=(1, 1, 0)),
    "network alone": NeighboursAndNetwork(weights=(0, 0, 1), locality=0),
    "without locality": NeighboursAndNetwork(locality=0),
}
ROBUST_ABLATIONS = {
    "without network": RobustNeighboursAndNetwork(weights=(1, 0)),
    "network alone": RobustNeighboursAndNetwork(weights=(0, 1)),
    "20 neighbours, not a tenth": RobustNeighboursAndNetwork(share=1e-9),
    "10,000 references": RobustNeighboursAndNetwork(n_references=10_000),
}


def methods(seed, arguments):
    """Return every method to be run, by name."""
    share = EXPECTED_SHARE if arguments.unsupervised else "auto"
    result = {
        ANCHOR: Neighbours(5),
        "skae": AutoencoderOutlierDetector(contamination=share, random_state=seed),
    }
    if arguments.ablation and arguments.unsupervised:
        result["IsolationForest"] = IsolationForest(random_state=seed)
        return result | _ablated(ROBUST_ABLATIONS, share, seed)
    if arguments.ablation:
        result["1 neighbour"] = Neighbours(1)
        return result | _ablated(ABLATIONS, share, seed)
    if arguments.unsupervised:
        result["skae, auto"] = AutoencoderOutlierDetector(random_state=seed)
    result["LOF(20)"] = Factor()
    result["IsolationForest"] = IsolationForest(random_state=seed)
    result["PCA"] = PCAReconstruction()
    if arguments.pyod:
        result |= {f"PyOD {name}": OfPyOD(name, seed) for name in ("AutoEncoder", "VAE")}
    return result


def _ablated(ablations, share, seed):
    return {
        name: AutoencoderOutlierDetector(
            contamination=share, criterion=criterion, random_state=seed
        )
        for name, criterion in ablations.items()
    }


def measure(method, train, test, y):
    """Return area under the ROC curve, average precision, both in per cent, and seconds."""
    with Stopwatch() as watch:
        score = -method.fit(train).score_samples(test)
    return 100 * roc_auc_score(y, score), 100 * average_precision_score(y, score), watch.cpu


def run_set(found, arguments):
    """Return (n_methods, 3), the means over seeds of what `measure` returns; None: no anomalies."""
    split = split_unsupervised if arguments.unsupervised else split_clean
    n_seeds = arguments.seeds if len(found.X) <= MOST_ROWS_FOR_SEEDS else 1
    runs = []
    for seed in range(n_seeds):
        rows = split(found.X, found.y, seed)
        if rows[-1].any():
            runs.append([measure(each, *rows) for each in methods(seed, arguments).values()])
    return np.mean(runs, axis=0) if runs else None


def print_sets(names, arguments):
    """Print a line for each set, and one for each half of them; return (n_sets, n_methods, 3)."""
    table = Table("AUROC / AP", dict.fromkeys(names, ""), title_width=14, narrowest=13)

    def print_row(name, figures):
        table.row(name[:14], [f"{auroc:.2f} / {ap:5.2f}" for auroc, ap, _ in figures])

    results = []
    for path in data.files([arguments.folder], arguments.only):
        found = data.anomalies(path)
        figures = None if found is None else run_set(found, arguments)
        if figures is not None:
            results.append(figures)
            print_row(path.stem, figures)
    half = len(results) // 2
    if half:
        print_row(f"first {half}", np.mean(results[:half], axis=0))
        print_row(f"last {len(results) - half}", np.mean(results[half:], axis=0))
    return np.array(results)


def summarise(names, results):
    """Print a line for each method: means over sets, and how it does beside the anchor."""
    print(f"\nmeans over {len(results)} sets, and differences from {ANCHOR!r}")
    figures = {"": ".2f", " diff": "+.2f", " +-": ".2f", " won": "d", " lost": "d"}
    heads = {measure + part: spec for measure in ("AUROC", "AP") for part, spec in figures.items()}
    table = Table("method", heads | {"seconds": ".1f"}, title_width=26, narrowest=5)
    anchor = results[:, names.index(ANCHOR)]
    for place, name in enumerate(names):
        cells = []
        for of in (0, 1):
            ours = results[:, place, of]
            cells += [ours.mean(), *paired(ours, anchor[:, of], margin=0.05)]
        table.row(name, [*cells, results[:, place, 2].sum()])


def main():
    parser = argument_parser(__doc__, seeds=5)
    parser.add_argument("folder", type=folder)
    parser.add_argument("--ablation", action="store_true")
    parser.add_argument("--unsupervised", action="store_true")
    parser.add_argument("--pyod", action="store_true")
    parser.add_argument("--only", nargs="*", help="names of sets")
    arguments = start(parser)
    names = list(methods(0, arguments))
    results = print_sets(names, arguments)
    if not len(results):
        raise SystemExit(f"Found no set with X, y and anomalies in {arguments.folder}.")
    summarise(names, results)


if __name__ == "__main__":
    main()
