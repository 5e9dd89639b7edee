"""What makes features, beside skae, and what is asked of them."""

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import NMF, PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

#: Makers of transformers from the number of components and a seed, by name.
OF_TEXTS = {
    "TruncatedSVD": lambda k, seed: TruncatedSVD(k, random_state=seed),
    "NMF": lambda k, seed: NMF(k, max_iter=400, random_state=seed),
}
OF_DENSE = {"PCA": lambda k, seed: make_pipeline(StandardScaler(), PCA(k, random_state=seed))}


def tfidf(train, test):
    """Return both in sublinear TF-IDF units, by the frequencies of the training rows."""
    weights = TfidfTransformer(sublinear_tf=True).fit(train)
    return [sp.csr_array(weights.transform(X)) for X in (train, test)]


class OneScale(TransformerMixin, BaseEstimator):
    """Columns to mean 0, and their mean square together to 1: what is larger stays larger."""

    def fit(self, X, y=None):
        self.mean_ = X.mean(axis=0)
        self.scale_ = np.sqrt(np.square(X - self.mean_).mean())
        return self

    def transform(self, X):
        return (X - self.mean_) / self.scale_


def logistic(scaler=None):
    """Return a logistic regression on columns of one variance, or scaled by another scaler."""
    return make_pipeline(scaler or StandardScaler(), LogisticRegression(max_iter=2000))


def neighbours():
    """Return the vote of the 10 nearest rows, by cosine from the mean of the training rows."""
    centred = StandardScaler(with_std=False)
    return make_pipeline(centred, KNeighborsClassifier(10, metric="cosine"))


#: Makers of the classifiers that features are judged by, by name.
PROBES = {"LR": logistic, "one scale": lambda: logistic(OneScale()), "10-NN": neighbours}
