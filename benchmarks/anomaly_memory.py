"""How much memory and time does the anomaly detector take on a wide sparse table?

Rows are drawn like one-hot encoded ones: every row has the same number of ones, in columns whose
frequencies fall like those of words. The table is made, fitted and scored in a process of its own.
Prints the seconds of `fit`, of `score_samples` of all rows and of `score_features` of 1,000 rows
(on the clock and of CPU), and the largest resident memory during each above that before it, in MiB.
With --dense the rows are dense and normal instead; try 1,000,000 rows and 10 columns.

Run: python benchmarks/anomaly_memory.py [--rows 100000] [--columns 20000] [--nonzeros 30]
     [--training-rows N] [--dense] [--contamination SHARE] [--threads 1]
Needs Linux with glibc: the kernel keeps the peak and lets it be reset.
"""

import multiprocessing

import numpy as np

from harness.command import argument_parser, set_threads, start
from harness.made_up import one_hot_rows
from harness.memory import PeakMemory, size
from harness.report import Table
from harness.timing import Stopwatch
from skae import AutoencoderOutlierDetector


def run(arguments):
    """Make a table and measure the three calls on it."""
    set_threads(arguments.threads)
    shape = arguments.rows, arguments.columns
    if arguments.dense:
        X = np.random.RandomState(0).normal(size=shape)
    else:
        X = one_hot_rows(*shape, arguments.nonzeros)
    print(f"{shape[0]} rows, {shape[1]} columns, {size(X):.0f} MiB")
    train = X[: arguments.training_rows]
    # What torch and scikit-learn load at their first use is not the detector's.
    warm = AutoencoderOutlierDetector(random_state=0).fit(train[:100, :50])
    warm.score_samples(train[:20, :50])
    share = arguments.contamination or "auto"
    detector = AutoencoderOutlierDetector(contamination=share, random_state=0)
    calls = {"fit": train, "score_samples": X, "score_features": X[:1000]}
    table = Table("", {"rows": "d", "wall, s": ".1f", "CPU, s": ".1f", "peak, MiB": ".0f"})
    for name, rows in calls.items():
        with PeakMemory() as peak, Stopwatch() as watch:
            getattr(detector, name)(rows)
        table.row(name, [rows.shape[0], watch.wall, watch.cpu, peak.mib])


def main():
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--columns", type=int, default=20_000)
    parser.add_argument("--nonzeros", type=int, default=30)
    parser.add_argument("--training-rows", type=int, help="the first so many rows only")
    parser.add_argument("--dense", action="store_true")
    parser.add_argument("--contamination", type=float, help="for the robust detector")
    arguments = start(parser)
    process = multiprocessing.get_context("spawn").Process(target=run, args=(arguments,))
    process.start()
    process.join()
    raise SystemExit(process.exitcode)


if __name__ == "__main__":
    main()
