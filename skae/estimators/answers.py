"""What a fitted estimator answers: codes, reconstructions, scores, new rows."""

from __future__ import annotations

from numbers import Integral

import numpy as np
import scipy.sparse as sp
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from skae._random import draw_seed
from skae._tables import to_sparse_interface, validate_table
from skae._training.model import Model
from skae._validation import check_support, resolve
from skae.likelihoods import LIKELIHOODS, Likelihood, choose_likelihood
from skae.samplers import SAMPLERS, Sampler


class AnswersMixin(ClassNamePrefixFeaturesOutMixin, TransformerMixin):
    """The methods of a fitted autoencoder; `_model` answers, in numpy."""

    _model: Model
    _fitted_on: np.ndarray | sp.csr_array | sp.csr_matrix
    n_components_: int
    likelihood: str | Likelihood

    def _draw_codes(self, n_samples: int, seed: int) -> np.ndarray:
        """Return new codes for `sample`."""
        raise NotImplementedError

    def transform(self, X):
        """Return the code of each row.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        codes : ndarray of shape (n_samples, n_components)
            The same for a row whichever rows stand beside it.
        """
        rows = self._validate_rows(X)
        return self._model.codes(rows)

    def inverse_transform(self, X, sparse_output=False):
        """Return the mean of the reconstruction of each code, in the units of the training rows.

        For counts, rows have the mean total of the training rows.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_components)
            Codes.
        sparse_output : bool, default=False
            Whether to return CSR (of the kind that scikit-learn's setting ``sparse_interface``
            names), in which a row holds the entries that are most likely not to be
            zero, as many as are expected not to be (for a Gaussian likelihood, which knows no
            zeros: the largest, as many as training rows have), and the mean of each.

        Returns
        -------
        rows : ndarray or CSR of shape (n_samples, n_features)
            Reconstructed rows.
        """
        check_is_fitted(self)
        codes = check_array(X, accept_sparse="csr", dtype=[np.float64, np.float32])
        if codes.shape[1] != self.n_components_:
            raise ValueError(
                f"X has {codes.shape[1]} features, but inverse_transform of {type(self).__name__} "
                f"is expecting {self.n_components_} features (n_components) as input."
            )
        return to_sparse_interface(self._model.decode(codes, sparse=sparse_output), codes)

    def reconstruct(self, X, sparse_output=False):
        """Return the reconstruction of each row: ``inverse_transform(transform(X))``.

        For counts, the reconstruction of a row has the total of the row.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            Rows.
        sparse_output : bool, default=False
            Whether to return CSR, as `inverse_transform` does.

        Returns
        -------
        rows : ndarray or CSR of shape (n_samples, n_features)
            Reconstructed rows, in the units of X.
        """
        rows = self._validate_rows(X)
        means = self._model.decode(self._model.codes(rows), rows, sparse_output)
        return to_sparse_interface(means, rows)

    def sample(self, n_samples=1, random_state=None):
        """Draw new rows.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows, at least 1.
        random_state : int, RandomState or None, default=None
            Source of the draws; None takes fresh entropy.

        Returns
        -------
        rows : ndarray or CSR of shape (n_samples, n_features)
            Rows in the support of the likelihood; CSR if the estimator was fitted on sparse rows.
        """
        check_is_fitted(self)
        if not isinstance(n_samples, Integral) or n_samples < 1:
            raise ValueError(f"n_samples must be an int of at least 1. Got {n_samples!r} instead.")
        seed = draw_seed(random_state)
        rows = self._model.sample(self._draw_codes(int(n_samples), seed), seed)
        return to_sparse_interface(rows, self._fitted_on)

    def score_samples(self, X):
        """Return the log-likelihood of each row, in nats, with every normalising constant.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Higher is better. In the units of X, whatever the scaling; for counts, given the total
            of the row. What the class says of its score decides whether models of different size
            can be compared by it; a density (Gaussian) and a probability (Bernoulli) never can.
        """
        rows = self._validate_rows(X)
        return self._model.scores(rows)

    def score(self, X, y=None):
        """Return the mean of `score_samples`.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            Rows.
        y : None
            Ignored; there for grid searches.

        Returns
        -------
        score : float
            Mean log-likelihood of a row, in nats.
        """
        return float(self.score_samples(X).mean())

    def _validate_rows(self, X):
        check_is_fitted(self)
        X = self._validate_format(X, reset=False)
        self._check_support(X)
        return X

    def _validate_format(self, X, reset: bool):
        X = validate_table(self, X, reset)
        if reset:
            self._fitted_on = X[:0]  # of the container that `sample` returns
        return X

    def _check_support(self, X) -> None:
        likelihood = self.likelihood_
        names = getattr(self, "feature_names_in_", None)
        check_support(X, likelihood.inside, type(likelihood).__name__, likelihood.support, names)

    def _choose_likelihood(self, X) -> Likelihood:
        auto = isinstance(self.likelihood, str) and self.likelihood == "auto"
        return resolve(choose_likelihood(X) if auto else self.likelihood, LIKELIHOODS)


class SampledCodesMixin:
    """New codes from a density fitted on the training codes, for estimators without a prior."""

    _model: Model
    _seed: int
    _sampler: Sampler
    sampler: str | Sampler

    def _after_fit(self, X) -> None:
        """Choose the density; it is fitted when rows are first drawn."""
        self._sampler, self._sampler_is_fitted = resolve(self.sampler, SAMPLERS), False

    def _draw_codes(self, n_samples: int, seed: int) -> np.ndarray:
        if not self._sampler_is_fitted:
            state = np.random.RandomState(self._seed)
            self._sampler.fit(self._model.training_codes, state)
            self._sampler_is_fitted = True
        return self._sampler.sample(n_samples, np.random.RandomState(seed))
