"""How much slower is work beside other busy processes than alone?

Each job runs in a fresh process with the threads that it takes by itself: alone, and beside as many
processes that count without end as there are cores, in turns. A job of one thread then has about
two thirds of a core. Threads that wait for each other have far less: the one that does the work
waits for its turn while the others spin. Prints the median seconds of both, on the wall, and the
median of their ratios.

Run: python benchmarks/busy_machine.py [--rounds 3] [--only JOB ...]
"""

import argparse
import os
import subprocess
import sys
from functools import partial

import numpy as np

from harness.command import argument_parser, start
from harness.made_up import zipf_rows
from harness.report import Table
from harness.timing import Stopwatch, in_turns, ratio
from skae import AutoencoderOutlierDetector, AutoencoderTransformer, VAETransformer


def detector():
    """Fit on 1,500 x 400 and score 4,000 rows."""
    X = np.random.RandomState(0).normal(size=(5500, 400))
    AutoencoderOutlierDetector(random_state=0).fit(X[:1500]).score_samples(X[1500:])


def dense_fit():
    """Train 784-128-16 on 4,000 rows for five epochs."""
    X = np.random.RandomState(0).normal(size=(4000, 784))
    AutoencoderTransformer(max_iter=5, random_state=0).fit(X)


def large_steps():
    """Train 784-512-256-32 on batches of 512 for five epochs."""
    X = np.random.RandomState(0).normal(size=(4096, 784))
    AutoencoderTransformer(
        n_components=32, hidden_layer_sizes=(512, 256), batch_size=512, max_iter=5, random_state=0
    ).fit(X)


def sparse_fit():
    """Train on 6,000 x 20,000 sparse counts, 80 in a row, for five epochs."""
    X = zipf_rows(6000, 20_000, 80)
    VAETransformer(likelihood="multinomial", max_iter=5, random_state=0).fit(X)


def inference():
    """Encode 100,000 x 100 rows."""
    X = np.random.RandomState(0).normal(size=(100_000, 100))
    AutoencoderTransformer(max_iter=1, random_state=0).fit(X[:500]).transform(X)


JOBS = {job.__name__: job for job in (detector, dense_fit, large_steps, sparse_fit, inference)}
N_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def seconds(name):
    """Return the wall seconds of a job in a process of its own, imports left out."""
    command = [sys.executable, __file__, "--job", name]
    return float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def seconds_beside(name):
    """Return the same beside as many busy processes as there are cores."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(N_CORES)]
    try:
        return seconds(name)
    finally:
        for process in busy:
            process.kill()
            process.wait()


def main():
    parser = argument_parser(__doc__, rounds=3, threads=None)
    parser.add_argument("--only", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    arguments = start(parser)
    if arguments.job:
        with Stopwatch() as watch:
            JOBS[arguments.job]()
        print(watch.wall)
        return
    table = Table(f"{N_CORES} cores", dict.fromkeys(("alone, s", "beside, s", "ratio"), ".2f"))
    for name in arguments.only:
        sides = {"alone": partial(seconds, name), "beside": partial(seconds_beside, name)}
        times = in_turns(sides, arguments.rounds, warm_up=False)
        medians = [np.median(each) for each in times.values()]
        table.row(name, [*medians, ratio(times["beside"], times["alone"]).median])


if __name__ == "__main__":
    main()
