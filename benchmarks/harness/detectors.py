"""Detectors of anomalies beside which skae's is measured, with `fit` and `score_samples`.

Rows that are both trained on and scored are the same object: then a row is not its own neighbour.
"""

from sklearn.decomposition import PCA
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors


class Neighbours:
    """Mean distance to the nearest training rows."""

    def __init__(self, n_neighbors):
        self.n_neighbors = n_neighbors

    def fit(self, X):
        self.X, self.near = X, NearestNeighbors(n_neighbors=self.n_neighbors).fit(X)
        return self

    def score_samples(self, X):
        distance, _ = self.near.kneighbors(None if X is self.X else X)
        return -distance.mean(axis=1)


class Factor:
    """Local outlier factor, for new rows and for training rows."""

    def fit(self, X):
        self.X, self.factor = X, LocalOutlierFactor(n_neighbors=20, novelty=True).fit(X)
        return self

    def score_samples(self, X):
        if X is self.X:
            return self.factor.negative_outlier_factor_
        return self.factor.score_samples(X)


class PCAReconstruction:
    """Squared error of a reconstruction from the components that hold 90 % of the variance."""

    def fit(self, X):
        self.pca = PCA(0.9, svd_solver="full").fit(X)
        return self

    def score_samples(self, X):
        return -((X - self.pca.inverse_transform(self.pca.transform(X))) ** 2).sum(axis=1)


class OfPyOD:
    """A detector of PyOD, whose scores have the opposite sign."""

    def __init__(self, name, seed):
        self.name, self.seed = name, seed

    def fit(self, X):
        from pyod.models.auto_encoder import AutoEncoder
        from pyod.models.vae import VAE

        kind = {"AutoEncoder": AutoEncoder, "VAE": VAE}[self.name]
        self.detector = kind(random_state=self.seed, verbose=0).fit(X)
        return self

    def score_samples(self, X):
        return -self.detector.decision_function(X)
