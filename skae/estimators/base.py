"""The life of an estimator: validate, hand a specification to the engine, record, answer.

`BaseTransformer` owns the order of events and no hyper-parameter, and `BaseAutoencoder` adds how
one network is specified. A final class stores its parameters and says what is its own: the
bottleneck, and what it records of a fit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning

from skae._hints import HintsMixin
from skae._sklearn import fit_context
from skae._tables import validate_table, weighed_rows
from skae._training.bottlenecks import BottleneckSpec
from skae._training.fit import fit_model
from skae._training.fitted import FittedModel
from skae._training.going_on import check_can_go_on
from skae._training.specification import TrainingSpec
from skae._training.trainer import unchanged_on_error
from skae._validation import restored_on_error, within_support
from skae._warnings import warn
from skae.estimators.answers import AnswersMixin
from skae.estimators.specify import (
    choose_likelihood_for,
    is_auto,
    model_spec,
    seed_of,
    training_spec,
)
from skae.exceptions import NonFiniteLossError, UnclearSizeWarning
from skae.inits import Init
from skae.likelihoods import Likelihood


class BaseTransformer(AnswersMixin, HintsMixin, BaseEstimator, ABC):
    """Base of all transformers: the order of events."""

    #: What progress is of; None: the class.
    _title: str | None = None

    # What a class says of its own.

    @abstractmethod
    def _specifications(self, previous: FittedModel | None) -> tuple[Any, TrainingSpec]:
        """Return what the model is, and how it is trained, once its likelihood is chosen.

        Of a model that is yet to be made it may be None.
        """

    @abstractmethod
    def _trained(
        self,
        X,
        weight: np.ndarray | None,
        spec: Any,
        training: TrainingSpec,
        previous: FittedModel | None,
        one_epoch: bool,
    ) -> FittedModel:
        """Return a model trained on rows, or ``previous`` trained further."""

    @property
    def _given_likelihood(self) -> Any:
        """The likelihood of the rows that is asked for."""
        return self.likelihood

    def _goes_on(self) -> bool:
        """Return whether there is something that a further training goes on from."""
        return hasattr(self, "net_")

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
        ValueError
            A parameter of the model is not what it was, with ``warm_start``.
        SupportError
            A value lies outside the support of the likelihood.
        NonFiniteLossError
            The loss or a weight stopped being finite. The last finite weights stay; where it was in
            the search for ``n_components="auto"``, the estimator as it was before.
        """
        resume = self.warm_start and self._goes_on()
        return self._fit(X, sample_weight, resume, one_epoch=False)

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, sample_weight=None):
        """Make one pass over the rows of X, at the learning rate ``learning_rate_init``.

        The first call builds the network and fixes the scaling of the columns by its rows. Each
        call is one epoch, whatever ``max_iter``; nothing is held out, and no schedule applies.
        Parameters of the training may change between calls.

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

        Raises
        ------
        ValueError
            A parameter of the model is not what it was at the first call.
        """
        return self._fit(X, sample_weight, resume=self._goes_on(), one_epoch=True)

    def _fit(self, X, sample_weight, resume: bool, one_epoch: bool):
        previous = self._model if resume else None
        specs = self._specifications(previous) if previous else None
        if previous and specs:  # before anything is said about the rows
            check_can_go_on(previous, *specs)
        with restored_on_error(self, unless=_had_a_model), unchanged_on_error(previous):
            X, weight = self._validate_training_rows(X, sample_weight, reset=not resume)
            spec, training = specs or self._specifications(previous)
            training = training.single_pass() if one_epoch else training
            try:
                model = self._trained(X, weight, spec, training, previous, one_epoch)
            except NonFiniteLossError as error:
                if error.model is not None:  # else the search for its size failed
                    self._record(error.model)
                raise
            complaint = self._record(model)
        if previous is None:
            self._warn(_unclear_size(model))
        self._warn(complaint)  # where the training failed, the error says all
        if not (model.converged or one_epoch or self.max_iter == "auto"):
            self._warn(
                ConvergenceWarning(
                    f"Maximum iterations ({self.max_iter}) reached and the objective is still "
                    "improving. Raise max_iter, or leave it at 'auto'."
                )
            )
        return self

    def _warn(self, warning: Warning | None) -> None:
        """Warn, and say of which part of a stack where it is one."""
        if warning is not None and self._title is not None:
            warning = type(warning)(f"{self._title}: {warning}")
        warn(warning)

    def _record(self, model: FittedModel) -> Warning | None:
        """Set the fitted attributes that tell how the training went; return what to warn of."""
        self._model, self.net_ = model, model.net
        self.n_components_, self.sparse_method_ = model.spec.size, model.sparse_method
        self.__dict__.pop("size_curve_", None)  # of a fit before
        if model.size_curve is not None:
            self.size_curve_ = model.size_curve.told()
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
        if self._chose_likelihood:  # until a call that names one has been whole
            advice = "(likelihood='auto' took the present one by the rows of the first call.)"
        self._chose_likelihood = self._chose_likelihood and is_auto(self._given_likelihood)
        return within_support(X, self.likelihood_, self._feature_names, advice), weight

    @property
    def _feature_names(self) -> Any:
        return getattr(self, "feature_names_in_", None)

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class BaseAutoencoder(BaseTransformer):
    """Base of the four transformers that are one network."""

    #: What ``sampler="auto"`` stands for; None where the estimator has a prior to draw from.
    _auto_sampler: str | None = "gaussian_mixture"

    @abstractmethod
    def _bottleneck(self) -> BottleneckSpec:
        """Return what lies between encoder and decoder."""

    @abstractmethod
    def _auto_init(self, likelihood: Likelihood) -> Init:
        """Return what ``init="auto"`` is."""

    def _specifications(self, previous):
        """Return what the model is, and how it is trained; see `BaseTransformer`."""
        seed = seed_of(self.random_state, previous)
        return model_spec(self, previous), training_spec(self, seed)

    def _trained(self, X, weight, spec, training, previous, one_epoch):
        """Return the model; see `BaseTransformer`."""
        spec = spec.for_parts() if one_epoch and previous is None else spec
        return fit_model(X, weight, spec, training, previous, self._feature_names)


def _had_a_model(error: BaseException) -> bool:
    """Return whether an error came with a model, whose last finite weights are worth keeping.

    It then lets go of it, for an error may be sent to another process.
    """
    if not isinstance(error, NonFiniteLossError) or error.model is None:
        return False
    error.model = None
    return True


def _unclear_size(model: FittedModel) -> Warning | None:
    """Return what to warn of where "the" number of latents is a matter of taste."""
    curve = model.size_curve
    if curve is None or curve.has_drop:
        return None
    places = sorted({0, curve.place, len(curve.score) - 1})
    compared = ", ".join(f"{curve.score[i]:.4g} of {curve.n_components[i]}" for i in places)
    by = "ordinary fits with so many in use" if curve.of_fits else "the search with so many"
    return UnclearSizeWarning(
        "The KL of the latents falls without a drop, so that no size stands out. Nats a row held "
        f"out, of {by}: {compared}. n_components='auto' takes {curve.chosen}; another number may "
        "suit you better: compare some by a score of what the codes are for."
    )
