"""What does a training step on sparse rows cost, and how does it grow with the columns?

Rows have about 75 stored entries whatever their width, in columns whose frequency follows Zipf's
law. For each width the sides run the same network in one process, in turns:

- skae: a step of `AutoencoderTransformer.fit`, by the way that ``sparse_method="auto"`` chooses
  (--method forces one);
- usual: what one writes by hand: the batch made dense by ``toarray``, ``nn.Linear``, fused AdamW
  (up to the width --most-dense). At large widths it spends much of its time on fresh pages; start
  the process with MALLOC_MMAP_THRESHOLD_=2000000000 and the same MALLOC_TRIM_THRESHOLD_ to have it
  without that.

Prints the median time of a step, rows per second, and ratios: to the usual step in the same round,
and to skae's step at the width --reference.

With --optimizer it times Adam alone over all rows of a weight and over some of them: the threshold
in ``skae/_kernels/optimizer.py``. With --memory it fits one large table, transforms and scores it,
and prints seconds and peak memory over that before each call (Linux). With --partial-fit it prints,
for each width, the processor time of a `partial_fit` of two batches, and how much of it keeps the
way back after an error (``skae/_training/moments.py``): medians over --rounds calls.

Run: python benchmarks/sparse_scaling.py [--widths 2000 20000 50000 200000 1000000]
     python benchmarks/sparse_scaling.py --optimizer
     python benchmarks/sparse_scaling.py --memory [--rows 100000 --columns 200000 --stored 100]
     python benchmarks/sparse_scaling.py --partial-fit [--widths 50000 --method dense]
"""

import argparse
import itertools
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from skae import AutoencoderTransformer
from skae._kernels import optimizer as skae_optimizer
from skae._kernels.optimizer import RowAdamW
from skae._kernels.rows import row_gradient
from skae._training.moments import Moment

N_COMPONENTS = 32


def zipf_rows(n_rows, n_features, n_stored, seed=0):
    """Return CSR rows of small counts in columns whose frequency falls as 1 / (10 + rank)."""
    rng = np.random.default_rng(seed)
    ends = np.cumsum(1.0 / (10.0 + np.arange(n_features)))
    # Some draws meet: a few more than are to be stored.
    drawn = rng.random((n_rows, round(1.1 * n_stored))) * ends[-1]
    columns = rng.permutation(n_features)[np.searchsorted(ends, drawn).clip(max=n_features - 1)]
    rows = np.repeat(np.arange(n_rows), drawn.shape[1])
    X = sp.csr_array(
        (np.ones(rows.size), (rows, columns.ravel())), shape=(n_rows, n_features), dtype=np.float32
    )
    X.sum_duplicates()
    return X


def skae_step(X, arguments):
    """Return a function that fits for one epoch and returns the seconds of a step."""
    estimator = AutoencoderTransformer(
        N_COMPONENTS,
        hidden_layer_sizes=(arguments.hidden,),
        activation="relu",
        likelihood=arguments.likelihood,
        sparse_method=arguments.method,
        batch_size=arguments.batch_size,
        max_iter=1,
        warm_start=True,
        random_state=0,
    )
    n_batches = -(-X.shape[0] // arguments.batch_size)

    def step():
        return estimator.fit(X).net_.history[-1, "dur"] / n_batches

    step()
    return step, estimator.sparse_method_


class Usual(nn.Module):
    """The network of the usual way, with the loss of Poisson counts or squared errors."""

    def __init__(self, n_features, n_hidden, likelihood):
        super().__init__()
        sizes = [n_features, n_hidden, N_COMPONENTS, n_hidden, n_features]
        layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
        self.net = nn.Sequential(layers[0], nn.ReLU(), layers[1], layers[2], nn.ReLU(), layers[3])
        self.squared = likelihood == "gaussian"

    def forward(self, x):
        raw = self.net(torch.log1p(x))
        if self.squared:
            return (x - raw).square().sum(dim=1).mean()
        mean = x.sum(dim=1, keepdim=True) * raw.exp()
        return (mean - x * raw).sum(dim=1).mean()


def usual_step(X, arguments):
    """Return a function that runs some steps of the usual way and returns the seconds of one."""
    torch.manual_seed(0)
    net = Usual(X.shape[1], arguments.hidden, arguments.likelihood)
    with torch.no_grad():
        net.net[-1].bias.fill_(-np.log(X.shape[1]))
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)
    n_steps = 5

    def step():
        order = np.random.default_rng(0).permutation(X.shape[0])
        start = time.perf_counter()
        for i in range(n_steps):
            rows = X[order[i * arguments.batch_size : (i + 1) * arguments.batch_size]]
            optimizer.zero_grad()
            net(torch.from_numpy(rows.toarray())).backward()
            optimizer.step()
        return (time.perf_counter() - start) / n_steps

    step()
    return step


def compare(arguments):
    """Print a line for each width."""
    print(
        f"{arguments.likelihood}, batch {arguments.batch_size}, {arguments.hidden} hidden units, "
        f"{torch.get_num_threads()} threads"
    )
    print(
        f"{'columns':>9}{'way':>9}{'step, ms':>10}{'rows/s':>9}{'usual, ms':>11}"
        f"{'times faster':>14}   to reference"
    )
    sides = {}
    for width in arguments.widths:
        X = zipf_rows(arguments.steps * arguments.batch_size, width, arguments.stored)
        step, method = skae_step(X, arguments)
        usual = usual_step(X, arguments) if width <= arguments.most_dense else None
        sides[width] = (step, method, usual)
    times = {width: ([], []) for width in sides}
    for _ in range(arguments.rounds):
        for width, (step, _, usual) in sides.items():
            times[width][0].append(step())
            times[width][1].append(usual() if usual else np.nan)
    reference = times.get(arguments.reference, next(iter(times.values())))[0]
    for width, (ours, usual) in times.items():
        ours, usual = np.array(ours), np.array(usual)
        print(
            f"{width:>9}{sides[width][1]:>9}{1e3 * np.median(ours):10.1f}"
            f"{arguments.batch_size / np.median(ours):9.0f}{1e3 * np.median(usual):11.1f}"
            f"{np.median(usual / ours):14.1f}{np.median(ours / np.array(reference)):13.2f}"
        )


def optimizer_alone():
    """Print the time of an Adam step over all rows and over a share of them."""
    print(f"{'rows':>9}{'share':>7}{'all, ms':>9}{'some, ms':>10}")
    for n_rows in (20_000, 200_000):
        weight = nn.Parameter(torch.zeros(n_rows, 128))
        optimizer = RowAdamW([weight], fused=True)
        for share in (0.02, 0.05, 0.1, 0.15, 0.2, 0.3):
            n = round(share * n_rows)
            rows = torch.randperm(n_rows)[:n].sort().values
            values = torch.randn(n, 128)
            some = row_gradient(rows, values, n_rows, sparse=True)

            times = []
            for most in (0.0, 1.0):  # all rows, whatever the share; and never all
                skae_optimizer.MOST_ROWS = most
                seconds = []
                for _ in range(15):
                    weight.grad = some
                    start = time.perf_counter()
                    optimizer.step()
                    seconds.append(time.perf_counter() - start)
                times.append(1e3 * np.median(seconds))
            print(f"{n_rows:>9}{share:7.2f}{times[0]:9.1f}{times[1]:10.1f}")


class Stopwatch:
    """Processor time spent within functions that are looked up in a class, from outside of it."""

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


def partial_fit(arguments):
    """Print the time of a `partial_fit` of two batches, and that of keeping the weights."""
    watch = Stopwatch(Moment, ("__init__", "renew", "about_to_change", "growth", "go_back"))
    print(f"{'columns':>9}{'way':>9}{'partial_fit, s':>16}{'keeping, s':>12}{'share':>8}")
    for width in arguments.widths:
        X = zipf_rows(2 * arguments.batch_size, width, arguments.stored)
        estimator = AutoencoderTransformer(
            N_COMPONENTS,
            likelihood=arguments.likelihood,
            sparse_method=arguments.method,
            batch_size=arguments.batch_size,
            random_state=0,
        ).partial_fit(X)
        times = []
        for _ in range(arguments.rounds):
            watch.seconds, start = 0.0, time.process_time()
            estimator.partial_fit(X)
            times.append((time.process_time() - start, watch.seconds))
        whole, keeping = np.median(times, axis=0)
        way = estimator.sparse_method_
        print(f"{width:>9}{way:>9}{whole:16.3f}{keeping:12.3f}{keeping / whole:8.2f}")


class Peak:
    """Largest resident memory of this process while a block runs, over that before it, in MB."""

    def __enter__(self):
        self.before = self.most = self._now()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        self.start = time.perf_counter()
        return self

    def __exit__(self, *_):
        self.seconds = time.perf_counter() - self.start
        self.ended.set()
        self.thread.join()
        self.megabytes = (self.most - self.before) / 2**20

    @staticmethod
    def _now():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    def _watch(self):
        while not self.ended.wait(0.005):
            self.most = max(self.most, self._now())


def memory(arguments):
    """Print seconds and peak memory of fit, transform and score_samples of one large table."""
    X = zipf_rows(arguments.rows, arguments.columns, arguments.stored)
    estimator = AutoencoderTransformer(
        N_COMPONENTS,
        hidden_layer_sizes=(arguments.hidden, arguments.hidden),
        likelihood=arguments.likelihood,
        sparse_method=arguments.method,
        max_iter=arguments.epochs,
        random_state=0,
    )
    weights = 8e-6 * arguments.columns * arguments.hidden * 4
    print(
        f"{X.shape[0]} x {X.shape[1]}, {X.nnz / np.prod(X.shape):.3%} stored; first and last "
        f"layer with gradients and moments {weights:.0f} MB"
    )
    for name in ("fit", "transform", "score_samples"):
        with Peak() as peak:
            getattr(estimator, name)(X)
        print(f"{name:14} {peak.seconds:8.1f} s {peak.megabytes:8.0f} MB", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--widths", type=int, nargs="*", default=[2_000, 20_000, 50_000, 200_000, 1_000_000]
    )
    parser.add_argument("--reference", type=int, default=20_000)
    parser.add_argument("--most-dense", type=int, default=50_000)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=200, help="steps in an epoch")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--stored", type=int, default=75)
    parser.add_argument("--likelihood", default="poisson")
    parser.add_argument("--method", default="auto")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--optimizer", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--partial-fit", action="store_true")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--columns", type=int, default=200_000)
    parser.add_argument("--epochs", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore", ConvergenceWarning)
    if arguments.optimizer:
        optimizer_alone()
    elif arguments.memory:
        memory(arguments)
    elif arguments.partial_fit:
        partial_fit(arguments)
    else:
        compare(arguments)


if __name__ == "__main__":
    main()
