"""How many dimensions do rows have? Simple estimates, beside which a search has to stand."""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

N_SHUFFLES = 10


def parallel_analysis(X, seed=0):
    """Return how many eigenvalues are above those of rows whose columns are shuffled, the mean.

    Horn (1965), "A rationale and test for the number of factors in factor analysis", Psychometrika
    30, with shuffled columns for normal ones (Buja and Eyuboglu 1992), so that flags and counts
    keep their distribution.
    """
    rng = np.random.default_rng(seed)
    X = X[:, np.ptp(X, axis=0) > 0]  # a word that no row has says nothing
    by_chance = [_eigenvalues(rng.permuted(X, axis=0)) for _ in range(N_SHUFFLES)]
    below = _eigenvalues(X) <= np.mean(by_chance, axis=0)
    return int(below.argmax()) if below.any() else len(below)


def _eigenvalues(X):
    return np.linalg.eigvalsh(np.corrcoef(X, rowvar=False))[::-1]


def two_nn(X):
    """Return the dimension by how much farther the second neighbour is than the first.

    Facco et al. (2017), "Estimating the intrinsic dimension of datasets by a minimal neighborhood
    information", Scientific Reports 7: the ratio mu of the two distances has the distribution
    function 1 - mu^-d. The slope of a line through zero, without the largest tenth.
    """
    scaled = np.unique(StandardScaler().fit_transform(X), axis=0)  # rows that are alike say nothing
    distances = NearestNeighbors(n_neighbors=3).fit(scaled).kneighbors()[0]
    first, second = distances[distances[:, 0] > 0, :2].T
    x = np.sort(np.log(second / first))
    kept = int(0.9 * len(x))
    y = -np.log1p(-np.arange(1, len(x) + 1)[:kept] / len(x))
    return max(1, round(x[:kept] @ y / (x[:kept] @ x[:kept])))


def pca_95(X):
    """Return how many axes hold 95 per cent of the variance of standardised columns."""
    return PCA(0.95).fit(StandardScaler().fit_transform(X)).n_components_
