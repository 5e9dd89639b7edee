"""The start of texts and other sparse tables of counts: what columns occur together tells."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp

from skae._blocks import row_blocks
from skae.inits.base import Init, LinearStart
from skae.inits.rows import StartRows, _signed
from skae.inits.words import Words, unit

_MOST_CONTEXTS = 2_000
_FEWEST_VECTORS, _VECTORS_A_COMPONENT = 128, 4
# How many rows, over their number, a co-occurrence is discounted by.
_DISCOUNT = 40_000.0
_POWER_ITERATIONS, _OVERSAMPLING = 4, 10
# Where more of a matrix is filled, products with it are faster dense, a block of rows at a time.
_MOST_SPARSE = 0.2
# Variances of features of no more than this (features have the length one), and parts of the
# largest, are rounding.
_ROUNDING = 1e-20, 1e-10
_NOTHING = (np.zeros((0, 0)), np.zeros(0), np.zeros(0), 1.0, np.zeros((0, 0)))


class CooccurrenceInit(Init):
    r"""What occurs together, for texts and other tables without negative values, mostly zero.

    Rows are sums of vectors of their columns (words, items, genes), and the vectors come from how
    often two columns are filled in one row. With :math:`T` the rows of length one, their entries
    weighted by :math:`1 + \log x` and the logarithm of one over the frequency of the column if all
    are whole numbers, and :math:`M = T' T` without its diagonal, whose columns are the 2,000 most
    frequent ones, the vectors are the first left singular vectors, times the singular values, of

    .. math:: \log \left(1 + \frac{M_{ij}}{M_{i \cdot} M_{\cdot j} / M_{\cdot \cdot} + c}\right)

    a discounted, positive variant of the log-ratios of co-occurrence that Levy and Goldberg (2014)
    factorise. The constant c keeps pairs that were hardly seen from counting; it falls with the
    number of rows. There are four vectors for each component, at least 128 and at most as many as
    columns.

    The features of a row are the sum of its vectors, of length one, centred, and of length one
    again. The encoder looks at them alone; it starts at their principal components and is trained
    to reconstruct them (squared errors, the term "features" of ``history_``). The decoder has the
    likelihood asked for, and learns from codes that it does not change. Columns whose mean is more
    than their standard deviation, which are filled in most rows, do not count. Where no two columns
    are filled in one row, the training starts at random.

    For `skae.AutoencoderTransformer` and `skae.DenoisingAETransformer`.

    Raises
    ------
    ValueError
        By `fit`: a value is below zero, or codes may not have any sign and size.

    References
    ----------
    Levy and Goldberg (2014), "Neural word embedding as implicit matrix factorization".

    Halko, Martinsson and Tropp (2011), "Finding structure with randomness".

    Examples
    --------
    >>> import numpy as np
    >>> from skae import AutoencoderTransformer
    >>> X = np.random.default_rng(0).poisson(0.3, size=(50, 20))
    >>> autoencoder = AutoencoderTransformer(
    ...     2, init="cooccurrence", tol=0.1, random_state=0
    ... )
    >>> sorted(autoencoder.fit(X).history_)[:2]
    ['features', 'loss']
    """

    def fit(self, rows, n_components, code, seed):
        """Return the features of rows, and their principal components; see `Init.fit`."""
        X = rows.stored
        _check(X, code)
        whole = bool((X.data == np.floor(X.data)).all())
        words = Words(whole, _rarity(X, rows.weight, whole) * ~rows.far_from_zero, *_NOTHING)
        T = words.weighted(X)
        T.eliminate_zeros()  # of columns that do not count
        n_vectors = max(_FEWEST_VECTORS, _VECTORS_A_COMPONENT * n_components)
        vectors = _word_vectors(T, rows, n_vectors, seed)
        if not vectors.any():
            return None
        words = _centred(words._replace(vectors=vectors), T, rows.weight)
        return _start(words, T, rows, n_components)


def _check(X, code: str) -> None:
    if code != "plain":
        raise ValueError(
            "init='cooccurrence' is for AutoencoderTransformer and DenoisingAETransformer, "
            f"whose codes may have any sign and size. Got {code} codes instead. Choose "
            "init='auto'."
        )
    if X.nnz and X.data.min() < 0:
        raise ValueError(
            "init='cooccurrence' is for tables without negative values, such as counts. Got "
            f"{X.data.min():.3g} instead. Choose init='auto'."
        )


def _rarity(X, weight: np.ndarray, whole: bool) -> np.ndarray:
    """Return the weight of each column: for counts the logarithm of one over its frequency."""
    if not whole:
        return np.ones(X.shape[1])
    n_rows = X.shape[0]
    return np.log((1.0 + n_rows) / (1.0 + _n_with(X, weight * n_rows))) + 1.0


def _n_with(X, weight: np.ndarray) -> np.ndarray:
    """Return the weight of the rows with an entry in each column."""
    return np.bincount(X.indices, np.repeat(weight, np.diff(X.indptr)), X.shape[1])


def _word_vectors(T, rows: StartRows, n_vectors: int, seed: int) -> np.ndarray:
    """Return a vector for each column, from discounted log-ratios of co-occurrence."""
    weight = rows.weight * T.shape[0]
    n_with = _n_with(T, weight)
    most_used = np.argsort(-n_with, kind="stable")[:_MOST_CONTEXTS]
    contexts = np.sort(most_used[n_with[most_used] > 0])
    P = _log_ratios(T, contexts, weight, _DISCOUNT / rows.n_rows)
    right = _right_vectors(P, min(n_vectors, *P.shape), seed)
    return np.concatenate([part @ right for part in _parts(P)])


def _parts(P) -> Iterator:
    """Yield the rows of a CSR matrix in the form that is multiplied faster: as it is, or dense."""
    if P.nnz <= _MOST_SPARSE * P.shape[0] * P.shape[1]:
        yield P
        return
    for block in row_blocks(*P.shape):
        yield P[block].toarray()


def _right_vectors(P, k: int, seed: int) -> np.ndarray:
    """Return the first k right singular vectors of the log-ratios, (n_contexts, k).

    By subspace iteration (Halko, Martinsson and Tropp 2011, algorithm 4.4), on the side of the
    contexts: the columns may be so many that all else of a fit is small beside some vectors each.
    """

    def squared(basis: np.ndarray) -> np.ndarray:
        return sum(part.T @ (part @ basis) for part in _parts(P))

    n_tried = min(k + _OVERSAMPLING, P.shape[1])
    basis = np.random.default_rng(seed).normal(size=(P.shape[1], n_tried)).astype(P.dtype)
    for _ in range(_POWER_ITERATIONS):
        basis = np.linalg.qr(squared(basis))[0]
    turn = np.linalg.eigh((basis.T @ squared(basis)).astype(np.float64))[1][:, ::-1]
    return _signed((basis @ turn)[:, :k]).astype(P.dtype)


def _log_ratios(T, contexts: np.ndarray, weight: np.ndarray, discount: float) -> sp.csr_array:
    """Return the discounted log-ratios of all columns and some, (n_features, n_contexts).

    A block of columns at a time, for co-occurrences in double precision are several times as large.
    """
    n_features, C = T.shape[1], T[:, contexts]
    weighted = sp.csc_array(sp.diags_array(weight) @ T)
    own = weight @ C.power(2)  # a column with itself does not count
    of_row = weighted.T @ C.sum(axis=1)
    of_row[contexts] -= own
    of_column = C.T @ weighted.sum(axis=1) - own
    total = max(of_row.sum(), np.finfo(np.float64).tiny)
    n_pairs = np.count_nonzero(np.diff(weighted.indptr)) * len(contexts)  # of columns in use
    least = discount * total / max(n_pairs, 1)
    blocks = []
    for block in row_blocks(n_features, len(contexts)):
        M = sp.coo_array(weighted[:, block].T @ C)
        other = M.row + block.start != contexts[M.col]
        row, column, value = M.row[other], M.col[other], M.data[other]
        expected = of_row[row + block.start] * of_column[column] / total
        ratio = np.log1p(value / (expected + least)).astype(np.float32)
        blocks.append(sp.csr_array((ratio, (row, column)), shape=M.shape))
    return sp.csr_array(sp.vstack(blocks))


def _centred(words: Words, T, weight: np.ndarray) -> Words:
    """Return words that know the mean of the normalised sums of their vectors."""
    centre, total = np.zeros(words.n_vectors), 0.0
    for block in row_blocks(T.shape[0], words.n_vectors):
        summed = unit(T[block] @ words.vectors)
        filled = weight[block] * np.any(summed, axis=1)
        centre += filled @ summed
        total += filled.sum()
    return words._replace(centre=centre / max(total, np.finfo(np.float64).tiny))


def _start(words: Words, T, rows: StartRows, n_components: int) -> LinearStart:
    """Return the principal components of features, and the regression of the columns on them.

    The features, several numbers for each component of each row, are made a block at a time.
    """
    words, covariance = _standardised(words, T, rows.weight)
    values, axes = np.linalg.eigh(covariance)
    k = min(n_components, len(values))
    values, axes = values[::-1][:k], axes[:, ::-1][:, :k]
    told = values > max(_ROUNDING[0], _ROUNDING[1] * values[0])
    more = n_components - k
    axes = np.pad(np.where(told, axes, 0.0), ((0, 0), (0, more)))
    values = np.pad(np.where(told, values, 1.0), (0, more), constant_values=1.0)
    blocks = row_blocks(T.shape[0], words.n_vectors)
    codes = np.concatenate([words.features(T[block]) @ axes for block in blocks])
    decode = rows.loadings(codes) / values[:, None]
    noise = np.maximum(rows.variance - values @ np.square(decode), 0.0)
    words = words._replace(axes=axes)
    return LinearStart(rows.mean, axes, decode, noise, np.ones(n_components), words)


def _standardised(words: Words, T, weight: np.ndarray) -> tuple[Words, np.ndarray]:
    """Return words whose features have mean zero and, over all, variance one; their covariance."""
    mean, second = np.zeros(words.n_vectors), np.zeros((words.n_vectors, words.n_vectors))
    words = words._replace(mean=np.zeros(words.n_vectors), scale=1.0)  # no mean that grows below
    for block in row_blocks(T.shape[0], words.n_vectors):
        features = words.features(T[block])
        weighted = features.T * weight[block]
        mean += weighted.sum(axis=1)
        second += weighted @ features
    covariance = second - np.outer(mean, mean)
    variance = covariance.trace() / words.n_vectors
    scale = 1.0 / np.sqrt(variance) if variance > _ROUNDING[0] else 1.0
    return words._replace(mean=mean, scale=scale), covariance * scale**2
