"""What a fitted estimator answers: codes, reconstructions, scores, new rows."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from skae._random import Stream, draw_seed, numpy_generator
from skae._tables import check_weights, to_sparse_interface, validate_table
from skae._training.model import Model
from skae._validation import resolve, within_support
from skae.likelihoods import LIKELIHOODS, Likelihood, choose_likelihood
from skae.likelihoods.choice import brought_inside
from skae.samplers import SAMPLERS, Sampler


class AnswersMixin(ClassNamePrefixFeaturesOutMixin, TransformerMixin):
    """The methods of a fitted autoencoder; `_model` answers, in numpy."""

    _model: Model
    _seed: int
    _sampler: Any
    _fitted_on: np.ndarray | sp.csr_array | sp.csr_matrix
    n_components_: int
    likelihood: str | Likelihood
    likelihood_: Likelihood
    _chose_likelihood: bool  # rather than the user
    sampler: str | Sampler

    #: What ``sampler="auto"`` stands for; None where the estimator has a prior to draw from.
    _auto_sampler: str | None = "gaussian_mixture"

    def _after_fit(self, X) -> None:
        """Choose where new codes come from; the density is fitted when rows are first drawn."""
        chosen = self._auto_sampler if self.sampler == "auto" else self.sampler
        self._sampler = None if chosen is None else resolve(chosen, SAMPLERS)
        self._sampler_is_fitted = False

    def _draw_codes(self, n_samples: int, seed: int) -> np.ndarray:
        """Return new codes for `sample`."""
        if not self._sampler_is_fitted:
            state = numpy_generator(self._seed, Stream.DENSITY_OF_CODES)
            self._sampler.fit(self._model.training_codes, state)
            self._sampler_is_fitted = True
        return self._sampler.sample(n_samples, numpy_generator(seed, Stream.CODES))

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
        rows, _ = self._validate_rows(X)
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
        rows, _ = self._validate_rows(X)
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

            Scores are finite however far out a row is. With ``likelihood="auto"`` each value
            outside the support that was chosen costs 1,000 nats and the logarithm of one plus its
            distance, and stands for the nearest value inside otherwise.
        """
        rows, cost = self._validate_rows(X)
        return self._model.scores(rows) - cost

    def score(self, X, y=None, sample_weight=None):
        """Return the mean of `score_samples`.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            Rows.
        y : None
            Ignored; there for grid searches.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights, not negative. A row of weight 0 is not looked at.

        Returns
        -------
        score : float
            Weighted mean of the log-likelihoods of the rows, in nats.
        """
        check_is_fitted(self)
        X, weight = self._weighed_rows(self._validate_format(X, reset=False), sample_weight)
        rows, cost = self._inside_support(X)
        return float(np.average(self._model.scores(rows) - cost, weights=weight))

    def _validate_rows(self, X) -> tuple:
        """Return rows in the support of the likelihood, and what each score loses by that."""
        check_is_fitted(self)
        return self._inside_support(self._validate_format(X, reset=False))

    def _validate_format(self, X, reset: bool):
        X = validate_table(self, X, reset)
        if reset:
            self._fitted_on = X[:0]  # of the container that `sample` returns
        return X

    def _weighed_rows(self, X, sample_weight) -> tuple:
        """Return the rows of positive weight, and their weights; None for None."""
        if sample_weight is None:
            return X, None
        weight = check_weights(sample_weight, X)
        if weight.all():
            return X, weight
        kept = np.flatnonzero(weight)
        return X[kept], weight[kept]

    def _inside_support(self, X) -> tuple:
        """Return new rows in the support of the likelihood, and what each score loses by that."""
        if self._chose_likelihood:
            return brought_inside(X, self.likelihood_)
        names = getattr(self, "feature_names_in_", None)
        return within_support(X, self.likelihood_, names, self.likelihood_.remedy), 0.0

    def _training_rows_inside_support(self, X):
        names = getattr(self, "feature_names_in_", None)
        advice = ""
        if self._chose_likelihood:
            advice = "(likelihood='auto' took the present one by the rows of the first call.)"
        return within_support(X, self.likelihood_, names, advice)

    def _choose_likelihood(self, X) -> None:
        """Settle what the parameter ``likelihood`` stands for."""
        self._chose_likelihood = isinstance(self.likelihood, str) and self.likelihood == "auto"
        chosen = choose_likelihood(X) if self._chose_likelihood else self.likelihood
        self.likelihood_ = resolve(chosen, LIKELIHOODS)
