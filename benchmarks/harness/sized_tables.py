"""Tables of known size: 40 that are drawn, and for each seed base 40 others of the same kinds.

The size is the number of latent variables that a table was made of, all of which count alike:
linear maps, mild and strong curves (one layer of tanh, whose gain is set by how much of the signal
the first axes hold), flags, and counts of topics.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product

import numpy as np

#: The share of the signal that the first k principal axes hold, by kind.
SHARES = {"mild": (0.85, 0.98), "strong": (0.55, 0.84)}
#: Sizes and columns of the 12 tables of either; 20 axes of 20 columns would be all of them.
CURVED = [(k, n_columns) for k, n_columns in product((2, 5, 10, 20), (20, 50, 100)) if k < 20]
CURVED += [(20, 50), (20, 100), (20, 100)]
N_ROWS = (1000, 5000)
LOWEST_SNR, HIGHEST_SNR = 10.0, 100.0
N_HIDDEN = 200
N_PROBE = 4000  # rows on which a map is measured


@dataclass(frozen=True, eq=False)
class SizedTable:
    """A table that is made when its rows are asked for.

    Attributes
    ----------
    name, kind : str
        The kind is "mild", "strong", "linear", "binary" or "topics".
    k : int
        The size.
    n_rows, n_columns : int
    likelihood : str
        What the entries are drawn from.
    X : ndarray of shape (n_rows, n_columns)
    """

    name: str
    kind: str
    k: int
    n_rows: int
    n_columns: int
    likelihood: str
    _seed: tuple[int, int] = field(repr=False)
    _make: Callable = field(repr=False)

    @cached_property
    def X(self):
        return self._make(np.random.default_rng(self._seed), self)


def tables(seed_base, kinds=None):
    """Return the tables of a seed base, a list of `SizedTable`, all kinds or some of them.

    Another seed base has other maps and other rows, and pairs sizes and columns otherwise with the
    number of rows (for linear maps also sizes with columns): a twin that was not seen.
    """
    rng = np.random.default_rng([seed_base, 2**31])
    specs = [
        *(("mild", *each, "gaussian", curved) for each in _with_rows(CURVED, rng)),
        *(("strong", *each, "gaussian", curved) for each in _with_rows(CURVED, rng)),
        *(("linear", *each, "gaussian", linear) for each in _with_rows(_linear_pairs(rng), rng)),
        *(("binary", *each, "bernoulli", binary) for each in _few((3, 5), rng)),
        *(("topics", *each, "multinomial", topics) for each in _few((4, 9), rng)),
    ]
    found = []
    for place, (kind, k, n_columns, n_rows, likelihood, make) in enumerate(specs):
        name = f"{place:02d} {kind} {k} of {n_columns}, n = {n_rows}"
        seed = (seed_base, place)
        found.append(SizedTable(name, kind, k, n_rows, n_columns, likelihood, seed, make))
    return [table for table in found if kinds is None or table.kind in kinds]


def _with_rows(pairs, rng):
    """Give each pair of size and columns one of the numbers of rows, to half of them each."""
    rows = rng.permutation(np.resize(N_ROWS, len(pairs)))
    return [(k, n_columns, int(n)) for (k, n_columns), n in zip(pairs, rows, strict=True)]


def _linear_pairs(rng):
    columns = rng.permutation(np.resize((50, 100), 6))
    # Two tables of each size; those of 20 have more columns than 20.
    small, large = [20, *columns[:5]], [50, 100]
    sizes = [2, 2, 5, 5, 10, 10]
    return [*zip(sizes, map(int, rng.permutation(small)), strict=True), *((20, c) for c in large)]


def _few(sizes, rng):
    """Return four tables: each size with both numbers of rows, on 50 and 100 columns."""
    columns = rng.permutation([50, 50, 100, 100])
    return [(k, int(c), n) for (k, n), c in zip(product(sizes, N_ROWS), columns, strict=True)]


def _drawer(rng):
    """Return the normal or the uniform distribution, as a function of rows and size."""
    if rng.random() < 0.5:
        return lambda n, k: rng.normal(size=(n, k))
    return lambda n, k: rng.uniform(-(3**0.5), 3**0.5, size=(n, k))


def _evenly(rng, n_rows, n_columns):
    """Return a random matrix with orthogonal columns, whose rows have length one on average."""
    left, _, right = np.linalg.svd(rng.normal(size=(n_rows, n_columns)), full_matrices=False)
    return left @ right * np.sqrt(n_rows / n_columns)


def _noisy(rng, signal, probe):
    """Return the signal in columns of variance one, with noise by a ratio of their own."""
    snr = np.exp(rng.uniform(np.log(LOWEST_SNR), np.log(HIGHEST_SNR), size=signal.shape[1]))
    scaled = (signal - probe.mean(axis=0)) / probe.std(axis=0)
    return scaled + rng.normal(size=signal.shape) / np.sqrt(snr)


def linear(rng, table):
    """Return rows near a subspace."""
    draw, weights = _drawer(rng), _evenly(rng, table.n_columns, table.k)
    signal = draw(table.n_rows, table.k) @ weights.T
    return _noisy(rng, signal, signal)


def curved(rng, table):
    """Return rows near a curved surface, whose first axes hold a share drawn from `SHARES`."""
    draw, share = _drawer(rng), rng.uniform(*SHARES[table.kind])
    first, last = _evenly(rng, N_HIDDEN, table.k), rng.normal(size=(N_HIDDEN, table.n_columns))
    offsets = rng.normal(size=N_HIDDEN)

    def signal(z, gain):
        return np.tanh(gain * (z @ first.T + offsets)) @ last

    probe = draw(N_PROBE, table.k)
    gain = _gain(lambda gain: share_of_first(signal(probe, gain), table.k), share)
    return _noisy(rng, signal(draw(table.n_rows, table.k), gain), signal(probe, gain))


def share_of_first(signal, k):
    """Return the share of the variance of columns of unit variance that the first k axes hold."""
    values = np.linalg.eigvalsh(np.corrcoef(signal, rowvar=False))[::-1]
    return values[:k].sum() / values.sum()


def _gain(share_at, share):
    """Return the gain at which the first axes hold a share, which falls with the gain."""
    low, high = 0.01, 30.0
    for _ in range(25):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if share_at(middle) > share else (low, middle)
    return high


def binary(rng, table):
    """Return flags whose log-odds are linear in the latents, each column with an offset."""
    draw, weights = _drawer(rng), _evenly(rng, table.n_columns, table.k)
    offsets = rng.normal(scale=0.5, size=table.n_columns)
    odds = 3.0 * draw(table.n_rows, table.k) @ weights.T + offsets
    return (rng.random(odds.shape) < 1.0 / (1.0 + np.exp(-odds))).astype(float)


def topics(rng, table):
    """Return counts of words: each row a mixture of one topic more than the size."""
    words = rng.dirichlet(np.full(table.n_columns, 0.2), size=table.k + 1)
    mixtures = rng.dirichlet(np.full(table.k + 1, 0.5), size=table.n_rows)
    lengths = rng.poisson(200, size=table.n_rows)
    return rng.multinomial(lengths, mixtures @ words).astype(float)
