"""How much slower is work beside other busy processes than alone?

Each job runs in a fresh process with the threads that it takes by itself: alone, and beside as many
processes that count without end as there are cores, in turns. A job of one thread then has about
two thirds of a core. Threads that wait for each other have far less: the one that does the work
waits for its turn while the others spin. Prints the median seconds of both and their ratio.

Run: python benchmarks/busy_machine.py [--rounds 3] [--only JOB ...]
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
import warnings

import numpy as np
import scipy.sparse as sp

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
    rng = np.random.RandomState(0)
    columns = (20_000 * rng.uniform(size=6000 * 80) ** 3).astype(int)
    rows = np.arange(6000).repeat(80)
    X = sp.csr_array((np.ones(len(rows)), (rows, columns)), shape=(6000, 20_000))
    VAETransformer(likelihood="multinomial", max_iter=5, random_state=0).fit(X)


def inference():
    """Encode 100,000 x 100 rows."""
    X = np.random.RandomState(0).normal(size=(100_000, 100))
    AutoencoderTransformer(max_iter=1, random_state=0).fit(X[:500]).transform(X)


JOBS = {job.__name__: job for job in (detector, dense_fit, large_steps, sparse_fit, inference)}


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


N_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        warnings.simplefilter("ignore")  # few epochs are meant
        start = time.perf_counter()
        JOBS[arguments.job]()
        print(time.perf_counter() - start)
        return
    print(f"{N_CORES} cores\n{'job':<12} {'alone':>8} {'beside':>8} {'ratio':>6}")
    for name in arguments.only:
        pairs = [(seconds(name), seconds_beside(name)) for _ in range(arguments.rounds)]
        alone, beside = (statistics.median(one) for one in zip(*pairs, strict=True))
        print(f"{name:<12} {alone:8.2f} {beside:8.2f} {beside / alone:6.2f}", flush=True)


if __name__ == "__main__":
    main()
