"""The start of texts and other sparse tables of counts: what columns occur together tells."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from sklearn.utils.extmath import randomized_svd

from skae.inits.base import Init, LinearStart
from skae.inits.rows import StartRows
from skae.inits.words import Words, unit

_MOST_CONTEXTS = 2_000
_FEWEST_VECTORS, _VECTORS_A_COMPONENT = 128, 4
# How many rows, over their number, a co-occurrence is discounted by.
_DISCOUNT = 40_000.0
_POWER_ITERATIONS = 3


class CooccurrenceInit(Init):
    """Words."""

    def fit(self, rows, n_components, code, seed):
        """Return."""
        if code != "plain":
            raise ValueError(
                "init='cooccurrence' is for AutoencoderTransformer and DenoisingAETransformer, "
                f"whose codes may have any sign and size. Got {code} codes instead. Choose "
                "init='auto'."
            )
        X = rows.stored
        if X.nnz and X.data.min() < 0:
            raise ValueError(
                "init='cooccurrence' is for tables without negative values, such as counts. Got "
                f"{X.data.min():.3g} instead. Choose init='auto'."
            )
        whole = bool((X.data == np.floor(X.data)).all())
        words = Words(whole, _rarity(X, rows.weight, whole), *_NOTHING)
        T = words.weighted(X)
        n_vectors = max(_FEWEST_VECTORS, _VECTORS_A_COMPONENT * n_components)
        vectors = _word_vectors(T, rows, n_vectors, seed)
        summed = unit(T @ vectors)
        filled = rows.weight * np.any(summed, axis=1)
        centre = filled @ summed / filled.sum()
        features = unit(summed - centre)
        mean = rows.weight @ features
        scale = 1.0 / np.sqrt((rows.weight @ np.square(features - mean)).mean())
        words = words._replace(vectors=vectors, centre=centre, mean=mean, scale=scale)
        features = (features - mean) * scale
        covariance = (features.T * rows.weight) @ features
        values, axes = np.linalg.eigh(covariance)
        values, axes = values[::-1][:n_components], axes[:, ::-1][:, :n_components]
        words, codes = words._replace(axes=axes), features @ axes
        decode = rows.loadings(codes) / values[:, None]
        noise = np.maximum(rows.variance - values @ np.square(decode), 0.0)
        return LinearStart(rows.mean, axes, decode, noise, np.ones(len(values)), words)


_NOTHING = (np.zeros((0, 0)), np.zeros(0), np.zeros(0), 1.0, np.zeros((0, 0)))


def _rarity(X, weight: np.ndarray, whole: bool) -> np.ndarray:
    """Return the weight of each column: for counts the logarithm of one over its frequency."""
    if not whole:
        return np.ones(X.shape[1])
    n_rows = X.shape[0]
    entries = np.repeat(weight * n_rows, np.diff(X.indptr))
    n_with = np.bincount(X.indices, entries * (X.data != 0), X.shape[1])
    return np.log((1.0 + n_rows) / (1.0 + n_with)) + 1.0


def _word_vectors(T, rows: StartRows, n_vectors: int, seed: int) -> np.ndarray:
    """Return a vector for each column, from discounted log-ratios of co-occurrence."""
    n_rows, n_features = T.shape
    n_with = np.bincount(T.indices, minlength=n_features)
    contexts = np.sort(np.argsort(-n_with, kind="stable")[:_MOST_CONTEXTS])
    weighted = sp.diags_array(rows.weight * n_rows) @ T
    M = sp.csr_array(weighted.T @ T[:, contexts])
    M = M.tocoo()
    other = M.row != contexts[M.col]
    row, column, value = M.row[other], M.col[other], M.data[other]
    of_row = np.bincount(row, value, n_features)
    of_column = np.bincount(column, value, len(contexts))
    total = max(value.sum(), np.finfo(np.float64).tiny)
    expected = of_row[row] * of_column[column] / total
    discount = _DISCOUNT / rows.n_rows * total / (n_features * len(contexts))
    value = np.log1p(value / (expected + discount)).astype(np.float32)
    P = sp.csr_array((value, (row, column)), shape=(n_features, len(contexts)))
    n_vectors = min(n_vectors, min(P.shape) - 1)
    U, size, _ = randomized_svd(P, n_vectors, n_iter=_POWER_ITERATIONS, random_state=seed % 2**32)
    return U * size
