"""How much of a `partial_fit` keeps the way back after an error?

Sparse rows of two batches are trained on, over and over. Where a call fails, weights and moments
are put back as they were (``skae/_training/moments.py``), which has to be kept before they change.

Prints for each width the processor time of a call, that of keeping, and its share: medians over
--rounds calls.

Run: python benchmarks/partial_fit.py [--widths 50000 --method dense]
"""

import time

import numpy as np

from harness.command import argument_parser, start
from harness.made_up import zipf_rows
from harness.report import Table
from skae import AutoencoderTransformer
from skae._training.moments import Moment

BATCH_SIZE, STORED = 256, 75


class Watch:
    """Processor time spent within methods of a class, from outside of it."""

    def __init__(self, kind, names):
        self.seconds, self.depth = 0.0, 0
        for name in names:
            setattr(kind, name, self._timed(getattr(kind, name)))

    def _timed(self, function):
        def timed(*args, **kwargs):
            start, self.depth = time.process_time(), self.depth + 1
            try:
                return function(*args, **kwargs)
            finally:
                self.depth -= 1
                if not self.depth:
                    self.seconds += time.process_time() - start

        return timed


def seconds_of_calls(width, arguments, watch):
    """Return the seconds of each call and of keeping in it, and the way rows went."""
    X = zipf_rows(2 * BATCH_SIZE, width, STORED)
    estimator = AutoencoderTransformer(
        32,
        likelihood="poisson",
        sparse_method=arguments.method,
        batch_size=BATCH_SIZE,
        random_state=0,
    ).partial_fit(X)
    times = []
    for _ in range(arguments.rounds):
        watch.seconds, before = 0.0, time.process_time()
        estimator.partial_fit(X)
        times.append((time.process_time() - before, watch.seconds))
    return times, estimator.sparse_method_


def main():
    parser = argument_parser(__doc__, rounds=7)
    parser.add_argument("--widths", type=int, nargs="+", default=[50_000])
    parser.add_argument("--method", default="auto")
    arguments = start(parser)
    watch = Watch(Moment, ("__init__", "renew", "about_to_change", "growth", "go_back"))
    heads = {"way": "", "partial_fit, s": ".3f", "keeping, s": ".3f", "share": ".2f"}
    table = Table("columns", heads, title_width=9)
    for width in arguments.widths:
        times, way = seconds_of_calls(width, arguments, watch)
        whole, keeping = np.median(times, axis=0)
        table.row(width, [way, whole, keeping, keeping / whole])


if __name__ == "__main__":
    main()
