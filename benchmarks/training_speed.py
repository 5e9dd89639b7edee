"""How long does a training step of skae take, beside plain PyTorch and plain skorch?

Three sides do the same arithmetic (a Gaussian likelihood with a noise variance for each feature,
fused AdamW, a new order of rows in every epoch) in one process, in turns:

- torch: a hand-written loop;
- skae: the epochs of `AutoencoderTransformer.fit`, all callbacks and the history included;
- skorch: a ``NeuralNet`` with its usual data loader and a fused optimiser.

Prints, for each setting, the median time of an epoch and of a step, and the ratio of each round to
the torch loop's in the same round (median, lowest, highest). With one thread it is processor time,
with more of them time on the wall.

Run: python benchmarks/training_speed.py [--rounds 9] [--threads 1]
"""

from functools import partial

import numpy as np
import torch
from skorch import NeuralNet
from torch import nn

from harness.command import argument_parser, start
from harness.report import Table
from harness.timing import clock_of, epoch_seconds, in_turns, ratio
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
    """Return a function that runs one epoch of the hand-written loop."""
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

    return epoch


def skae_estimator(sizes, batch_size):
    """Return an estimator of which each fit is one epoch more."""
    return AutoencoderTransformer(
        sizes[1],
        hidden_layer_sizes=sizes[:1],
        batch_size=batch_size,
        init="random",  # the network of the other side
        max_iter=1,
        warm_start=True,
        random_state=0,
    )


class _Same(nn.Module):
    """Hands the loss that the network computed to skorch."""

    def forward(self, loss, _):
        return loss


def skorch_epoch(X, sizes, batch_size):
    """Return a function that runs one epoch of plain skorch."""
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
    return partial(net.partial_fit, X, y)


def seconds_of(run, clock):
    """Return the seconds of a call."""
    start = clock()
    run()
    return clock() - start


def compare(name, rounds, clock):
    """Time the three sides in turns and print their medians and ratios."""
    n_rows, n_features, *sizes, batch_size = SETTINGS[name]
    X = np.random.RandomState(0).normal(size=(n_rows, n_features)).astype(np.float32)
    ours = skae_estimator(sizes, batch_size)
    sides = {
        "torch": partial(seconds_of, torch_epoch(X, sizes, batch_size), clock),
        "skae": partial(epoch_seconds, ours, X, clock),
        "skorch": partial(seconds_of, skorch_epoch(X, sizes, batch_size), clock),
    }
    times = in_turns(sides, rounds)
    n_steps = -(-n_rows // batch_size)
    print(f"\n{name}, {n_rows} rows ({n_steps} steps an epoch)")
    heads = {"epoch, ms": ".1f", "step, us": ".0f"}
    table = Table("", heads | dict.fromkeys(("ratio", "lowest", "highest"), ".2f"), title_width=8)
    for side, seconds in times.items():
        median = np.median(seconds)
        table.row(side, [1e3 * median, 1e6 * median / n_steps, *ratio(seconds, times["torch"])])


def main():
    arguments = start(argument_parser(__doc__, rounds=9))
    for setting in SETTINGS:
        compare(setting, arguments.rounds, clock_of(arguments.threads))


if __name__ == "__main__":
    main()
