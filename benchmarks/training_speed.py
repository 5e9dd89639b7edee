"""How long does a training step of skae take, beside plain PyTorch and plain skorch?

Three sides do the same arithmetic (a Gaussian likelihood with a noise variance for each feature,
fused AdamW, a new order of rows in every epoch) in one process, in turns:

- torch: a hand-written loop;
- skae: the epochs of `AutoencoderTransformer.fit`, all callbacks and the history included;
- skorch: a ``NeuralNet`` with its usual data loader and a fused optimiser.

Prints, for each setting, the median time of an epoch and of a step, and the ratio of each round to
the torch loop's in the same round (median, lowest, highest).

Run: python benchmarks/training_speed.py [--rounds 9] [--threads 1]
"""

import argparse
import time
import warnings
from functools import partial

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from skorch import NeuralNet
from torch import nn

from skae import AutoencoderTransformer

# name: (n_rows, n_features, n_hidden, n_components, batch_size)
SETTINGS = {
    "784-256-32, batch 128": (20_000, 784, 256, 32, 128),
    "784-256-32, batch 512": (20_000, 784, 256, 32, 512),
    "30-64-8, batch 64": (20_000, 30, 64, 8, 64),
}
FLOOR, RATE = 1e-2, 2e-3


class Plain(nn.Module):
    """The network and the loss of the hand-written loop."""

    def __init__(self, n_features, n_hidden, n_components):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(n_features, n_hidden), nn.SiLU(), nn.Linear(n_hidden, n_components)
        )
        self.decoder = nn.Sequential(
            nn.Linear(n_components, n_hidden), nn.SiLU(), nn.Linear(n_hidden, n_features)
        )
        self.log_variance = nn.Parameter(torch.zeros(n_features))

    def forward(self, x):
        variance = FLOOR + self.log_variance.exp()
        raw = self.decoder(self.encoder(x))
        scale = (variance / variance.mean()).detach()
        raw.register_hook(lambda gradient: gradient * scale)
        constant = -0.5 * (variance.log() + np.log(2 * np.pi))
        return -torch.addcmul(constant, (x - raw).square(), -0.5 / variance).sum(1).mean()


def torch_epoch(X, sizes, batch_size):
    """Return a function that runs one epoch of the hand-written loop and returns its seconds."""
    torch.manual_seed(0)
    net, x = Plain(X.shape[1], *sizes), torch.from_numpy(X)
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, fused=True)

    def epoch():
        losses = []
        for batch in x[torch.randperm(len(x))].split(batch_size):
            optimizer.zero_grad()
            loss = net(batch)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return float(torch.stack(losses).mean())

    return partial(timed, epoch)


def skae_epoch(X, sizes, batch_size):
    """Return a function that fits for one epoch and returns the seconds that the history says."""
    estimator = AutoencoderTransformer(
        sizes[1],
        hidden_layer_sizes=sizes[:1],
        batch_size=batch_size,
        max_iter=1,
        warm_start=True,
        random_state=0,
    )
    return lambda: estimator.fit(X).net_.history[-1, "dur"]


class _Same(nn.Module):
    """Hands the loss that the network computed to skorch."""

    def forward(self, loss, _):
        return loss


def skorch_epoch(X, sizes, batch_size):
    """Return a function that runs one epoch of plain skorch and returns its seconds."""
    net = NeuralNet(
        Plain,
        _Same,
        module__n_features=X.shape[1],
        module__n_hidden=sizes[0],
        module__n_components=sizes[1],
        optimizer=torch.optim.AdamW,
        optimizer__fused=True,
        lr=RATE,
        batch_size=batch_size,
        iterator_train__shuffle=True,
        train_split=None,
        max_epochs=1,
        verbose=0,
    ).initialize()
    y = np.zeros(len(X), dtype=np.float32)
    return partial(timed, partial(net.partial_fit, X, y))


def timed(run):
    """Return the seconds of a call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def compare(name, rounds):
    """Time the three sides in turns and print their medians and ratios."""
    n_rows, n_features, *sizes, batch_size = SETTINGS[name]
    X = np.random.RandomState(0).normal(size=(n_rows, n_features)).astype(np.float32)
    sides = {
        "torch": torch_epoch(X, sizes, batch_size),
        "skae": skae_epoch(X, sizes, batch_size),
        "skorch": skorch_epoch(X, sizes, batch_size),
    }
    for epoch in sides.values():
        epoch()  # first touches, not timed
    times = {side: [] for side in sides}
    for _ in range(rounds):
        for side, epoch in sides.items():
            times[side].append(epoch())
    n_batches = -(-n_rows // batch_size)
    print(f"\n{name}, {n_rows} rows ({n_batches} steps an epoch)")
    print(f"{'':8}{'epoch, ms':>11}{'step, us':>11}{'ratio':>8}   lowest  highest")
    for side, seconds in times.items():
        ratios = np.divide(seconds, times["torch"])
        median = np.median(seconds)
        print(
            f"{side:8}{1e3 * median:11.1f}{1e6 * median / n_batches:11.0f}"
            f"{np.median(ratios):8.2f}{ratios.min():9.2f}{ratios.max():9.2f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore", ConvergenceWarning)
    for setting in SETTINGS:
        compare(setting, arguments.rounds)
