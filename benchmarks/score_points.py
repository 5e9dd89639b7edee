"""How far off is the score of a VAE that looks at few points of the posterior?

Reads npz files of CSR matrices, keeps the most frequent columns, fits on some rows and scores
others at 2 to 32 points and at 512. Prints, in nats a row, the mean score, and for each number of
points the mean absolute and the mean difference from 512.

Run: python benchmarks/score_points.py FILE [FILE ...] [--columns 10000] [--components 16]
"""

import argparse

import numpy as np
import scipy.sparse as sp
import torch

from skae import VAETransformer
from skae._training.bottlenecks.points import cubature_points


def rows_of(path, n_columns):
    """Return counts in the most frequent columns, rows with an entry alone."""
    with np.load(path) as file:
        parts = file["data"].astype(float), file["indices"], file["indptr"]
        X = sp.csr_array(parts, shape=tuple(file["shape"]))
    used = np.sort(np.argsort(-(X > 0).sum(axis=0), kind="stable")[:n_columns])
    X = X[:, used]
    return X[X.sum(axis=1) > 0]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("files", nargs="+")
    parser.add_argument("--columns", type=int, default=10_000)
    parser.add_argument("--components", type=int, default=16)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for path in arguments.files:
        X = rows_of(path, arguments.columns)
        vae = VAETransformer(
            arguments.components, likelihood="multinomial", max_iter=15, random_state=0
        ).fit(X[:3000])
        scores = {}
        for n_points in (2, 4, 8, 16, 32, 512):
            vae.module_.bottleneck.points = cubature_points(arguments.components, n_points, seed=7)
            scores[n_points] = vae.score_samples(X[3000:3300])
        reference = scores.pop(512)
        print(f"{path}: {X.shape[1]} columns, {reference.mean():.1f} nats a row at 512 points")
        for n_points, found in scores.items():
            off = found - reference
            print(
                f"  {n_points:3} points: {np.abs(off).mean():.3f} off, {off.mean():+.3f} on average"
            )


if __name__ == "__main__":
    main()
