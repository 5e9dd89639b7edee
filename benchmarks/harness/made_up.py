"""Sparse tables that are drawn: one-hot rows, rows of rare columns, documents of topics."""

from itertools import pairwise

import numpy as np
import scipy.sparse as sp


def classes(n_rows=2000, sizes=(4, 6, 3, 8, 12, 5), seed=0):
    """Return dense one-hot rows of categories that depend on a hidden one of three classes."""
    rng = np.random.RandomState(seed)
    kind = rng.randint(3, size=n_rows)
    columns = []
    for size in sizes:
        shares = rng.dirichlet(np.full(size, 0.35), size=3)
        columns.append(np.eye(size)[[rng.choice(size, p=shares[k]) for k in kind]])
    return np.hstack(columns)


def one_hot_rows(n_rows, n_columns, n_nonzeros, seed=0):
    """Return CSR rows of as many groups of columns as non-zeros, one column of each set to one.

    In each group the frequency of a column is as 1 / rank.
    """
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


def zipf_rows(n_rows, n_columns, n_stored, seed=0):
    """Return CSR rows of small counts in columns whose frequency falls as 1 / (10 + rank)."""
    rng = np.random.default_rng(seed)
    ends = np.cumsum(1.0 / (10.0 + np.arange(n_columns)))
    # Some draws meet: a few more than are to be stored.
    drawn = rng.random((n_rows, round(1.1 * n_stored))) * ends[-1]
    columns = rng.permutation(n_columns)[np.searchsorted(ends, drawn).clip(max=n_columns - 1)]
    rows = np.repeat(np.arange(n_rows), drawn.shape[1])
    return _counts(rows, columns.ravel(), (n_rows, n_columns), np.float32)


def topics(n_rows=8_500, n_words=100_000, n_topics=50, length=76, seed=0):
    """Return documents of made-up topics over words whose frequency follows Zipf's law."""
    rng = np.random.default_rng(seed)
    base = 1.0 / (10.0 + np.arange(n_words))
    shares = base * rng.gamma(0.1, size=(n_topics, n_words))
    ends = np.cumsum(shares / shares.sum(axis=1, keepdims=True), axis=1)
    mixtures = rng.dirichlet(np.full(n_topics, 0.05), size=n_rows)
    rows, columns = [], []
    for row, mixture in enumerate(mixtures):
        for topic, n in enumerate(rng.multinomial(length, mixture)):
            columns.append(np.searchsorted(ends[topic], rng.random(n)).clip(max=n_words - 1))
            rows.append(np.full(n, row))
    return _counts(np.concatenate(rows), np.concatenate(columns), (n_rows, n_words), np.float64)


def _counts(rows, columns, shape, dtype):
    """Return how often each cell was drawn."""
    X = sp.csr_array((np.ones(len(rows)), (rows, columns)), shape=shape, dtype=dtype)
    X.sum_duplicates()
    return X
