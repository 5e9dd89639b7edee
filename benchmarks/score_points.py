"""How far off is the score of a VAE that looks at few points of the posterior?

Reads npz files of CSR matrices, keeps the most frequent columns, fits on 3,000 rows (--rows)
and scores 300 others at 2 to 32 points and at 512. Prints, in nats a row, the mean score, and for
each number of points the mean absolute and the mean difference from 512.

Run: python benchmarks/score_points.py FILE [FILE ...] [--columns 10000] [--components 16]
     [--rows 3000]
"""

import numpy as np

from harness import data
from harness.command import argument_parser, file, start
from harness.report import Table
from skae import VAETransformer
from skae._training.bottlenecks.points import cubature_points

MOST_POINTS = 512


def scores_of(train, test, n_components):
    """Return the scores of the test rows by number of points."""
    vae = VAETransformer(n_components, likelihood="multinomial", max_iter=15, random_state=0)
    vae.fit(train)
    scores = {}
    for n_points in (2, 4, 8, 16, 32, MOST_POINTS):
        vae.module_.bottleneck.points = cubature_points(n_components, n_points, seed=7)
        scores[n_points] = vae.score_samples(test)
    return scores


def main():
    parser = argument_parser(__doc__)
    parser.add_argument("files", nargs="+", type=file)
    parser.add_argument("--columns", type=int, default=10_000)
    parser.add_argument("--components", type=int, default=16)
    parser.add_argument("--rows", type=int, default=3000, help="training rows")
    arguments = start(parser)
    n = arguments.rows
    for path in arguments.files:
        X = data.most_frequent(data.csr_rows(path), arguments.columns)
        scores = scores_of(X[:n], X[n : n + 300], arguments.components)
        reference = scores.pop(MOST_POINTS)
        print(
            f"\n{path}: {X.shape[1]} columns, {reference.mean():.1f} nats a row at {MOST_POINTS} "
            "points"
        )
        table = Table("points", {"off": ".3f", "on average": "+.3f"}, title_width=8)
        for n_points, found in scores.items():
            table.row(n_points, [np.abs(found - reference).mean(), (found - reference).mean()])


if __name__ == "__main__":
    main()
