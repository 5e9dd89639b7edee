"""How much memory and time does the anomaly detector take on a wide sparse table?

Rows are drawn like one-hot encoded ones: every row has the same number of ones, in columns whose
frequencies fall like those of words. The table is made, fitted and scored in a process of its own.
Prints the seconds of `fit`, of `score_samples` of all rows and of `score_features` of 1,000 rows
(on the clock and of CPU), and the largest resident memory during each above that before it, in MiB.
With --dense the rows are
dense and normal instead; try 1,000,000 rows and 10 columns.

Run: python benchmarks/anomaly_memory.py [--rows 100000] [--columns 20000] [--nonzeros 30]
     [--training-rows N] [--dense] [--contamination SHARE] [--threads 1]
Needs Linux with glibc: the kernel keeps the peak and lets it be reset.
"""

import argparse
import ctypes
import multiprocessing
import re
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from skae import AutoencoderOutlierDetector

PROCESS = Path("/proc/self")


def one_hot_rows(n_rows, n_columns, n_nonzeros, seed=0):
    """Return CSR rows of as many groups of columns as non-zeros, one column of each set to one."""
    rng = np.random.RandomState(seed)
    edges = np.linspace(0, n_columns, n_nonzeros + 1).astype(np.int64)
    columns = np.empty((n_rows, n_nonzeros), dtype=np.int32)
    for place, (first, last) in enumerate(pairwise(edges)):
        frequency = 1.0 / np.arange(1, last - first + 1)
        share = np.cumsum(frequency / frequency.sum())
        drawn = np.searchsorted(share, rng.uniform(size=n_rows))
        columns[:, place] = first + drawn.clip(max=last - first - 1)
    indptr = np.arange(n_rows + 1) * n_nonzeros
    ones = np.ones(columns.size)
    return sp.csr_matrix((ones, columns.ravel(), indptr), shape=(n_rows, n_columns))


def memory(field):
    """Return a line of the kernel's account of this process, in MiB."""
    status = (PROCESS / "status").read_text()
    return int(re.search(rf"{field}:\s+(\d+)", status)[1]) / 1024


def measure(name, call):
    """Run a call; print its seconds and its peak of resident memory above that before it."""
    # Memory that earlier calls freed, but the allocator kept, would hide what this one takes.
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    (PROCESS / "clear_refs").write_text("5")  # forgets the peak
    before, start, start_cpu = memory("VmRSS"), time.perf_counter(), time.process_time()
    call()
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    peak = memory("VmHWM") - before
    print(f"{name:28s} {seconds:8.1f} s {cpu:8.1f} s of CPU {peak:8.0f} MiB", flush=True)


def run(arguments):
    """Make a table and measure the three calls on it."""
    import torch

    torch.set_num_threads(arguments.threads)
    shape = arguments.rows, arguments.columns
    if arguments.dense:
        X = np.random.RandomState(0).normal(size=shape)
    else:
        X = one_hot_rows(*shape, arguments.nonzeros)
    size = X.nbytes if arguments.dense else X.data.nbytes + X.indices.nbytes + X.indptr.nbytes
    print(f"{shape[0]} rows, {shape[1]} columns, {size / 2**20:.0f} MiB")
    train = X[: arguments.training_rows]
    # What torch and scikit-learn load at their first use is not the detector's.
    warm = AutoencoderOutlierDetector(random_state=0).fit(train[:100, :50])
    warm.score_samples(train[:20, :50])
    share = arguments.contamination or "auto"
    detector = AutoencoderOutlierDetector(contamination=share, random_state=0)
    measure(f"fit, {train.shape[0]} rows", lambda: detector.fit(train))
    measure(f"score_samples, {X.shape[0]} rows", lambda: detector.score_samples(X))
    measure("score_features, 1000 rows", lambda: detector.score_features(X[:1000]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--columns", type=int, default=20_000)
    parser.add_argument("--nonzeros", type=int, default=30)
    parser.add_argument("--training-rows", type=int, help="the first so many rows only")
    parser.add_argument("--dense", action="store_true")
    parser.add_argument("--contamination", type=float, help="for the robust detector")
    parser.add_argument("--threads", type=int, default=1)
    process = multiprocessing.get_context("spawn").Process(target=run, args=(parser.parse_args(),))
    process.start()
    process.join()
    raise SystemExit(process.exitcode)


if __name__ == "__main__":
    main()
