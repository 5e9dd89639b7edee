"""How well does the anomaly detector find anomalies, beside simple ones and PyOD's?

Reads a folder of npz files with X and y (1 marks an anomaly), such as those of ADBench. The clean
one-class protocol: at most 50,000 rows of a set are drawn, half of the normal ones, shuffled with
the seed, are the training rows, all others the test rows; columns are standardised on the training
rows. Seeds 0 to 4, or 0 alone for sets of more than 20,000 rows. Prints for each set, and in the
mean over sets, the area under the ROC curve and the average precision in per cent, and the seconds
of fit and score together; then on how many sets each beats the mean distance to 5 neighbours.

With --unsupervised all rows are training and test rows at once, at most 20,000 of them; a method
gets the expected share of anomalies, 0.1, for all sets. With --ablation parts of the detector are
left out one at a time, those of the robust one together with --unsupervised.

Run: python benchmarks/anomaly.py FOLDER [--ablation] [--unsupervised] [--seeds 5] [--only NAME ...]
Needs PyOD for its AutoEncoder and VAE (--pyod).
"""

import argparse
import time
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.preprocessing import StandardScaler

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


class FiveNeighbours:
    """Mean distance to 5 training rows, other than the row itself where they are the test rows."""

    def fit(self, X):
        self.X, self.near = X, NearestNeighbors(n_neighbors=5).fit(X)
        return self

    def score_samples(self, X):
        distance, _ = self.near.kneighbors(None if X is self.X else X)
        return -distance.mean(axis=1)


class FirstNeighbour(FiveNeighbours):
    """Distance to the nearest training row."""

    def score_samples(self, X):
        distance, _ = self.near.kneighbors(None if X is self.X else X, n_neighbors=1)
        return -distance[:, 0]


class Factor(LocalOutlierFactor):
    """Local outlier factor, for new rows and for training rows."""

    def fit(self, X):
        self.X = X
        return super().fit(X)

    def score_samples(self, X):
        return self.negative_outlier_factor_ if X is self.X else super().score_samples(X)


class PCAReconstruction:
    """Squared error of a reconstruction from the components that hold 90 % of the variance."""

    def fit(self, X):
        self.pca = PCA(0.9, svd_solver="full").fit(X)
        return self

    def score_samples(self, X):
        return -((X - self.pca.inverse_transform(self.pca.transform(X))) ** 2).sum(axis=1)


class OfPyOD:
    """A detector of PyOD, whose scores have the opposite sign."""

    def __init__(self, name, seed):
        self.name, self.seed = name, seed

    def fit(self, X):
        from pyod.models.auto_encoder import AutoEncoder
        from pyod.models.vae import VAE

        kind = {"AutoEncoder": AutoEncoder, "VAE": VAE}[self.name]
        self.detector = kind(random_state=self.seed, verbose=0).fit(X)
        return self

    def score_samples(self, X):
        return -self.detector.decision_function(X)


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
        ANCHOR: FiveNeighbours(),
        "skae": AutoencoderOutlierDetector(contamination=share, random_state=seed),
    }
    if arguments.ablation and arguments.unsupervised:
        result["IsolationForest"] = IsolationForest(random_state=seed)
        return result | _ablated(ROBUST_ABLATIONS, share, seed)
    if arguments.ablation:
        result["1 neighbour"] = FirstNeighbour()
        return result | _ablated(ABLATIONS, share, seed)
    if arguments.unsupervised:
        result["skae, auto"] = AutoencoderOutlierDetector(random_state=seed)
    result["LOF(20)"] = Factor(n_neighbors=20, novelty=True)
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
    start = time.perf_counter()
    score = -method.fit(train).score_samples(test)
    seconds = time.perf_counter() - start
    return 100 * roc_auc_score(y, score), 100 * average_precision_score(y, score), seconds


def run_set(path, arguments):
    """Return {method: mean of (AUROC, AP, seconds) over seeds} of one set, and all its seconds."""
    with np.load(path, allow_pickle=True) as data:
        X, y = data["X"].astype(float), data["y"].astype(int).ravel()
    split = split_unsupervised if arguments.unsupervised else split_clean
    n_seeds = arguments.seeds if len(X) <= MOST_ROWS_FOR_SEEDS else 1
    found = {}
    for seed in range(n_seeds):
        rows = split(X, y, seed)
        if rows[2].sum() == 0:
            continue
        for name, method in methods(seed, arguments).items():
            found.setdefault(name, []).append(measure(method, *rows))
    return {name: np.mean(values, axis=0) for name, values in found.items()}, n_seeds


def print_row(name, values):
    cells = "  ".join(f"{auroc:6.2f} {ap:6.2f} {seconds:6.1f}" for auroc, ap, seconds in values)
    print(f"{name[:14]:14s}  {cells}", flush=True)


def summarise(results, seconds):
    names = list(next(iter(results.values())))
    table = np.array([[found[name] for name in names] for found in results.values()])
    half = len(table) // 2
    if half:
        print_row(f"first {half}", table[:half].mean(axis=0))
        print_row(f"last {len(table) - half}", table[half:].mean(axis=0))
    print_row("mean", table.mean(axis=0))
    anchor = table[:, names.index(ANCHOR), :2]
    print(f"\nsets won / lost against {ANCHOR} by more than 0.05, and seconds in total")
    for place, name in enumerate(names):
        gain = table[:, place, :2] - anchor
        won, lost = (gain > 0.05).sum(axis=0), (gain < -0.05).sum(axis=0)
        print(
            f"{name:26s} AUROC {won[0]:2d} / {lost[0]:2d}   AP {won[1]:2d} / {lost[1]:2d}   "
            f"{table[:, place, 2].sum():7.1f} s one seed, {seconds[place]:7.1f} s all seeds"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ablation", action="store_true")
    parser.add_argument("--unsupervised", action="store_true")
    parser.add_argument("--pyod", action="store_true")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="names of sets")
    arguments = parser.parse_args()
    paths = [
        path
        for path in sorted(arguments.folder.glob("*.npz"))
        if not arguments.only or path.stem in arguments.only
    ]
    results, seconds = {}, 0.0
    print("AUROC, average precision, seconds of:", ", ".join(methods(0, arguments)))
    for path in paths:
        found, n_seeds = run_set(path, arguments)
        if found:
            results[path.stem] = found
            seconds = seconds + n_seeds * np.array([value[2] for value in found.values()])
            print_row(path.stem, found.values())
    summarise(results, seconds)


if __name__ == "__main__":
    main()
