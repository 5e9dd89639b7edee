"""The life of an estimator: validate, hand a specification to the engine, record, answer.

`BaseAutoencoder` owns the order of events and no hyper-parameter. A final class stores its
parameters and says what is its own: the bottleneck, and what it records of a fit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from numbers import Integral

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from skae._hints import HintsMixin
from skae._random import draw_seed
from skae._sklearn import fit_context
from skae._tables import to_sparse_interface, validate_table, weighed_rows
from skae._training.bottlenecks import BottleneckSpec
from skae._training.fit import fit_model
from skae._training.fitted import FittedModel
from skae._training.trainer import unchanged_on_error
from skae._validation import restored_on_error, within_support
from skae._warnings import warn
from skae.estimators.specify import choose_likelihood_for, model_spec, training_spec
from skae.exceptions import NonFiniteLossError
from skae.likelihoods.choice import brought_inside


class BaseAutoencoder(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, HintsMixin, BaseEstimator, ABC
):
    """Base of the four transformers."""

    #: What ``sampler="auto"`` stands for; None where the estimator has a prior to draw from.
    _auto_sampler: str | None = "gaussian_mixture"

    # What a final class says of its own.

    @abstractmethod
    def _bottleneck(self) -> BottleneckSpec:
        """Return what lies between encoder and decoder."""

    def _record_own(self) -> Warning | None:
        """Set the fitted attributes of this class alone; return what to warn of, if anything."""

    # Training.

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Train the network on the rows of X.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            Training rows, within the support of the likelihood. Sparse rows are never made dense
            as a whole; ``sparse_method`` says how they are trained on.
        y : None
            Ignored; there for pipelines.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights, not negative. A weight of 2 is the same as the row given twice.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        SupportError
            A value lies outside the support of the likelihood.
        NonFiniteLossError
            The loss or a weight stopped being finite. The last finite weights stay.
        """
        resume = self.warm_start and hasattr(self, "net_")
        return self._fit(X, sample_weight, resume, one_epoch=False)

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, sample_weight=None):
        """Make one pass over the rows of X, at the learning rate ``learning_rate_init``.

        The first call builds the network and fixes the scaling of the columns by its rows. Each
        call is one epoch, whatever ``max_iter``; nothing is held out, and no schedule applies.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            Training rows.
        y : None
            Ignored; there for pipelines.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights, not negative.

        Returns
        -------
        self : object
            The estimator.
        """
        return self._fit(X, sample_weight, resume=hasattr(self, "net_"), one_epoch=True)

    def _fit(self, X, sample_weight, resume: bool, one_epoch: bool):
        previous = self._model if resume else None
        # The last finite weights are worth keeping.
        with restored_on_error(self, but=(NonFiniteLossError,)), unchanged_on_error(previous):
            X, weight = self._validate_training_rows(X, sample_weight, reset=not resume)
            seed = previous.net.seed if previous else draw_seed(self.random_state)
            training = training_spec(self, seed)
            training = training.single_pass() if one_epoch else training
            names = getattr(self, "feature_names_in_", None)
            try:
                model = fit_model(X, weight, model_spec(self), training, previous, names)
            except NonFiniteLossError as error:
                self._record(error.model)
                error.model = None  # an error may be sent to another process
                raise
            complaint = self._record(model)
        warn(complaint)  # where the training failed, the error says all
        if not (model.converged or one_epoch or self.max_iter == "auto"):
            warn(
                ConvergenceWarning(
                    f"Maximum iterations ({self.max_iter}) reached and the objective is still "
                    "improving. Raise max_iter, or leave it at 'auto'."
                )
            )
        return self

    def _record(self, model: FittedModel) -> Warning | None:
        """Set the fitted attributes that tell how the training went; return what to warn of."""
        self._model, self.net_ = model, model.net
        self.n_components_, self.sparse_method_ = model.spec.n_components, model.sparse_method
        self.history_ = model.history()
        self.n_iter_ = len(model.net.history)
        self.loss_curve_ = self.history_.get("objective", [])
        held_out = self.history_.get("valid_objective", [])
        self.validation_scores_ = [-value for value in held_out if not np.isnan(value)]
        return self._record_own()

    def _validate_training_rows(self, X, sample_weight, reset: bool):
        X, weight = weighed_rows(validate_table(self, X, reset), sample_weight)
        if reset:
            self._fitted_on = X[:0]  # of the container that `sample` returns
            self.likelihood_, self._chose_likelihood = choose_likelihood_for(self, X)
        advice = ""
        if self._chose_likelihood:
            advice = "(likelihood='auto' took the present one by the rows of the first call.)"
        names = getattr(self, "feature_names_in_", None)
        return within_support(X, self.likelihood_, names, advice), weight

    # Answers.

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
        rows, *_ = self._validate_rows(X)
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
        rows, *_ = self._validate_rows(X)
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
        rows = self._model.sample(int(n_samples), draw_seed(random_state))
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
        rows, cost, _ = self._validate_rows(X)
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
        rows, cost, weight = self._validate_rows(X, sample_weight)
        return float(np.average(self._model.scores(rows) - cost, weights=weight))

    def _validate_rows(self, X, sample_weight=None) -> tuple:
        """Return rows in the support of the likelihood, what each score loses by that, weights."""
        check_is_fitted(self)
        X, weight = weighed_rows(validate_table(self, X, reset=False), sample_weight)
        if self._chose_likelihood:
            return *brought_inside(X, self.likelihood_), weight
        names = getattr(self, "feature_names_in_", None)
        return within_support(X, self.likelihood_, names, self.likelihood_.remedy), 0.0, weight

    @property
    def module_(self):
        """The torch module: encoder, bottleneck, decoder and likelihood."""
        check_is_fitted(self)
        return self.net_.module_

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
