"""What does a training step on sparse rows cost, and how does it grow with the columns?

Rows have about 75 stored entries whatever their width, in columns whose frequency follows Zipf's
law. For each width the sides run the same network in one process, in turns:

- skae: a step of `AutoencoderTransformer.fit`, by the way that ``sparse_method="auto"`` chooses
  (--method forces one);
- usual: what one writes by hand: the batch made dense by ``toarray``, ``nn.Linear``, fused AdamW
  (up to the width --most-dense). At large widths it spends much of its time on fresh pages; start
  the process with MALLOC_MMAP_THRESHOLD_=2000000000 and the same MALLOC_TRIM_THRESHOLD_ to have it
  without that.

Prints the median time of a step, rows per second, and ratios: of the usual step in the same round,
and to skae's step at the width --reference. With one thread it is processor time.

With --optimizer it times Adam alone over all rows of a weight and over some of them (the threshold
in ``skae/_kernels/optimizer.py``), and ``torch.optim.SparseAdam`` over the same rows. With --memory
it fits one large table, transforms and scores it, and prints seconds and peak memory over that
before each call (Linux).

Run: python benchmarks/sparse_scaling.py [--widths 2000 20000 50000 200000 1000000]
     python benchmarks/sparse_scaling.py --optimizer
     python benchmarks/sparse_scaling.py --memory [--rows 100000 --columns 200000 --stored 100]
"""

from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from harness.command import argument_parser, start
from harness.made_up import zipf_rows
from harness.memory import PeakMemory
from harness.report import Table
from harness.timing import Stopwatch, clock_of, epoch_seconds, in_turns, ratio
from skae import AutoencoderTransformer
from skae._kernels import optimizer as skae_optimizer
from skae._kernels.optimizer import RowAdamW
from skae._kernels.rows import row_gradient

N_COMPONENTS, USUAL_STEPS, ADAM_STEPS = 32, 5, 15


def skae_estimator(arguments):
    """Return an estimator of which each fit is one epoch more."""
    return AutoencoderTransformer(
        N_COMPONENTS,
        hidden_layer_sizes=(arguments.hidden,),
        activation="relu",
        likelihood=arguments.likelihood,
        sparse_method=arguments.method,
        batch_size=arguments.batch_size,
        init="random",  # the network of the other side
        max_iter=1,
        warm_start=True,
        random_state=0,
    )


class Usual(nn.Module):
    """The network of the usual way, with the loss of Poisson counts or squared errors."""

    def __init__(self, n_features, n_hidden, likelihood):
        super().__init__()
        sizes = [n_features, n_hidden, N_COMPONENTS, n_hidden, n_features]
        layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
        self.net = nn.Sequential(layers[0], nn.ReLU(), layers[1], layers[2], nn.ReLU(), layers[3])
        self.squared = likelihood == "gaussian"

    def forward(self, x):
        raw = self.net(torch.log1p(x))
        if self.squared:
            return (x - raw).square().sum(dim=1).mean()
        mean = x.sum(dim=1, keepdim=True) * raw.exp()
        return (mean - x * raw).sum(dim=1).mean()


def usual_epoch(X, arguments, clock):
    """Return a function that runs some steps of the usual way and returns their seconds."""
    torch.manual_seed(0)
    net = Usual(X.shape[1], arguments.hidden, arguments.likelihood)
    with torch.no_grad():
        net.net[-1].bias.fill_(-np.log(X.shape[1]))
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)

    def epoch():
        order = np.random.default_rng(0).permutation(X.shape[0])
        start = clock()
        for i in range(USUAL_STEPS):
            rows = X[order[i * arguments.batch_size : (i + 1) * arguments.batch_size]]
            optimizer.zero_grad()
            net(torch.from_numpy(rows.toarray())).backward()
            optimizer.step()
        return clock() - start

    return epoch


def time_steps(arguments):
    """Return {width: (seconds of skae's step, of the usual one or None, way of skae)}."""
    clock = clock_of(arguments.threads)
    estimators = {width: skae_estimator(arguments) for width in arguments.widths}
    sides = {}
    for width, estimator in estimators.items():
        X = zipf_rows(arguments.steps * arguments.batch_size, width, arguments.stored)
        sides[width, "skae"] = partial(epoch_seconds, estimator, X, clock)
        if width <= arguments.most_dense:
            sides[width, "usual"] = usual_epoch(X, arguments, clock)
    times = in_turns(sides, arguments.rounds)
    steps = {}
    for width, estimator in estimators.items():
        usual = times.get((width, "usual"))
        usual = None if usual is None else usual / USUAL_STEPS
        ours = times[width, "skae"] / arguments.steps
        steps[width] = ours, usual, estimator.sparse_method_
    return steps


def compare(arguments):
    """Print a line for each width."""
    steps = time_steps(arguments)
    print(
        f"{arguments.likelihood}, batch {arguments.batch_size}, {arguments.hidden} hidden units, "
        f"{arguments.threads} threads"
    )
    heads = {"way": "", "step, ms": ".1f", "rows/s": ".0f", "usual, ms": ".1f"}
    table = Table("columns", heads | {"times faster": ".1f", "to reference": ".2f"}, title_width=9)
    reference, *_ = steps.get(arguments.reference, next(iter(steps.values())))
    for width, (ours, usual, way) in steps.items():
        median = np.median(ours)
        cells = [way, 1e3 * median, arguments.batch_size / median]
        if usual is None:
            cells += [None, None]
        else:
            cells += [1e3 * np.median(usual), ratio(usual, ours).median]
        table.row(width, [*cells, ratio(ours, reference).median])


def adam_milliseconds(optimizer, weight, gradient, clock):
    """Return the median time of an Adam step."""
    seconds = []
    for _ in range(ADAM_STEPS):
        weight.grad = gradient
        start = clock()
        optimizer.step()
        seconds.append(clock() - start)
    return 1e3 * np.median(seconds)


def optimizer_alone(clock):
    """Print the time of an Adam step over all rows and over a share, and that of SparseAdam."""
    heads = {"all, ms": ".1f", "some, ms": ".1f", "SparseAdam, ms": ".1f"}
    table = Table("rows", {"share": ".2f"} | heads, title_width=9)
    for n_rows in (20_000, 200_000):
        weight = nn.Parameter(torch.zeros(n_rows, 128))
        ours, of_torch = RowAdamW([weight], fused=True), torch.optim.SparseAdam([weight])
        for share in (0.02, 0.05, 0.1, 0.15, 0.2, 0.3):
            n = round(share * n_rows)
            rows = torch.randperm(n_rows)[:n].sort().values
            some = row_gradient(rows, torch.randn(n, 128), n_rows, sparse=True)
            times = []
            # All rows, whatever the share; and never all.
            for optimizer, most in ((ours, 0.0), (ours, 1.0), (of_torch, 1.0)):
                skae_optimizer.MOST_ROWS = most
                times.append(adam_milliseconds(optimizer, weight, some, clock))
            table.row(n_rows, [share, *times])


def memory(arguments):
    """Print seconds and peak memory of fit, transform and score_samples of one large table."""
    X = zipf_rows(arguments.rows, arguments.columns, arguments.stored)
    estimator = AutoencoderTransformer(
        N_COMPONENTS,
        hidden_layer_sizes=(arguments.hidden, arguments.hidden),
        likelihood=arguments.likelihood,
        sparse_method=arguments.method,
        init="random",
        max_iter=arguments.epochs,
        random_state=0,
    )
    weights = 8e-6 * arguments.columns * arguments.hidden * 4
    print(
        f"{X.shape[0]} x {X.shape[1]}, {X.nnz / np.prod(X.shape):.3%} stored; first and last "
        f"layer with gradients and moments {weights:.0f} MB"
    )
    table = Table("", {"wall, s": ".1f", "CPU, s": ".1f", "peak, MiB": ".0f"}, title_width=14)
    for name in ("fit", "transform", "score_samples"):
        with PeakMemory() as peak, Stopwatch() as watch:
            getattr(estimator, name)(X)
        table.row(name, [watch.wall, watch.cpu, peak.mib])


def main():
    parser = argument_parser(__doc__, rounds=7)
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
    parser.add_argument("--optimizer", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--columns", type=int, default=200_000)
    parser.add_argument("--epochs", type=int, default=1)
    arguments = start(parser)
    if arguments.optimizer:
        optimizer_alone(clock_of(arguments.threads))
    elif arguments.memory:
        memory(arguments)
    else:
        compare(arguments)


if __name__ == "__main__":
    main()
