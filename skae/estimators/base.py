"""The life of an estimator: validate, build, train, record, and answer.

`BaseAutoencoder` owns the order of events and no hyper-parameter. A final class stores its
parameters and says what is its own: the bottleneck, the noise, where new codes come from.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from numbers import Integral, Real

import numpy as np
import scipy.sparse as sp
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    validate_data,
)

from skae._random import draw_seed
from skae._training.bottlenecks import Bottleneck
from skae._training.duplicates import merge_duplicates
from skae._training.model import build_model
from skae._training.optimizers import OPTIMIZERS
from skae._training.scaling import SCALINGS
from skae._training.trainer import Stopping, choose_n_epochs, train
from skae._validation import check_support, choice, resolve
from skae.exceptions import NonFiniteLossError
from skae.likelihoods import LIKELIHOODS, Likelihood
from skae.networks import ACTIVATIONS, NETWORKS, Layout, Network
from skae.samplers import SAMPLERS
from skae.schedules import SCHEDULES, Schedule

# A seeded choice of rows, for what is found out about a network once it is trained.
_ROWS_TO_LOOK_BACK_ON = 10_000

SHARED_CONSTRAINTS: dict = {
    "n_components": [Interval(Integral, 1, None, closed="left")],
    "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
    "activation": [StrOptions(set(ACTIVATIONS))],
    "network": choice(NETWORKS, Network),
    "likelihood": choice(LIKELIHOODS, Likelihood),
    "input_scaling": [StrOptions({*SCALINGS, "auto"}), None],
    "alpha": [Interval(Real, 0, None, closed="left")],
    "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "learning_rate": choice(SCHEDULES, Schedule),
    "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
    "optimizer": [StrOptions(set(OPTIMIZERS)), callable],
    "max_iter": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "tol": [Interval(Real, 0, None, closed="left")],
    "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "warm_start": ["boolean"],
    "device": [str],
    "callbacks": [list, tuple, None],
    "verbose": ["verbose"],
    "random_state": ["random_state"],
}


class BaseAutoencoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Base of the four transformers."""

    # What a final class says of its own --------------------------------------------------------

    def _make_bottleneck(self) -> Callable[..., Bottleneck]:
        """Return what makes the bottleneck, given ``n_components`` and ``seed``."""
        raise NotImplementedError

    def _draw_codes(self, n_samples: int, seed: int) -> np.ndarray:
        """Return new codes for `sample`."""
        raise NotImplementedError

    def _noise(self) -> dict:
        """Return the noise of the training step and its level, as arguments of the module."""
        return {}

    def _weight_decay(self) -> tuple[float, tuple]:
        """Return the decay of weights, and callbacks for what a decay cannot do."""
        return self.alpha, ()

    def _watched_from(self) -> float:
        """Return the share of the training before which convergence is not looked at."""
        return 0.0

    def _after_fit(self, X) -> None:
        """Look back on the training rows once the network is trained."""

    # Training -----------------------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Train the network on the rows of X.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            Training rows, within the support of the likelihood. Sparse rows are made dense one
            batch at a time.
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

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, sample_weight=None):
        """Make one pass over the rows of X, at the learning rate ``learning_rate_init``.

        The first call builds the network; the scaling of the columns is fixed then. Parameters are
        those of `fit`.

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
        before = vars(self).copy()
        try:
            X, weight = self._validate_training_rows(X, sample_weight, reset=not resume)
            index, weight = merge_duplicates(X, weight)
            if not resume:
                self._build(X, index, weight)
            self._train(X, index, weight, one_epoch)
        except NonFiniteLossError:
            raise
        except Exception:
            vars(self).clear()
            vars(self).update(before)
            raise
        self._after_fit(X[index[:_ROWS_TO_LOOK_BACK_ON]])
        return self

    def _build(self, X, index, weight) -> None:
        """Make a model with its first weights."""
        self._seed = draw_seed(self.random_state)
        self.n_components_ = self.n_components
        self._model = build_model(
            X,
            index,
            weight,
            likelihood=resolve(self.likelihood, LIKELIHOODS),
            input_scaling=self.input_scaling,
            network=resolve(self.network, NETWORKS),
            make_bottleneck=self._make_bottleneck(),
            layout=self._layout(),
            **self._noise(),
            device=self.device,
            optimizer=self.optimizer,
            learning_rate=self.learning_rate_init,
            weight_decay=self._weight_decay()[0],
            callbacks=list(self.callbacks or ()),
            verbose=int(self.verbose),
            seed=self._seed,
        )
        self.net_ = self._model.net

    def _layout(self) -> Layout:
        hidden = self.hidden_layer_sizes
        hidden = (hidden,) if isinstance(hidden, Integral) else tuple(hidden)
        if not all(isinstance(size, Integral) and size >= 1 for size in hidden):
            raise ValueError(
                f"hidden_layer_sizes must hold whole numbers of at least 1. Got {hidden!r} instead."
            )
        return Layout(self.n_features_in_, self.n_components, hidden, self.activation)

    def _train(self, X, index, weight, one_epoch: bool) -> None:
        """Run the training, and record how it went."""
        hold_out = self.early_stopping and not one_epoch
        if hold_out and len(index) < 2:
            raise ValueError(
                f"early_stopping=True holds rows out and needs 2 distinct ones. Got {len(index)} "
                "instead. Set early_stopping=False."
            )
        n_epochs = 1 if one_epoch else choose_n_epochs(self.max_iter, len(index), self.batch_size)
        stopping = Stopping(
            self.tol,
            self.n_iter_no_change,
            self._watched_from(),
            self.validation_fraction if hold_out else None,
        )
        try:
            ended = train(
                self.net_,
                X,
                index,
                weight,
                self._model.scaling,
                batch_size=self.batch_size,
                n_epochs=n_epochs,
                schedule=resolve("constant" if one_epoch else self.learning_rate, SCHEDULES),
                stopping=stopping,
                extra_callbacks=self._weight_decay()[1],
                description=type(self).__name__,
            )
        finally:
            self._record()
        if not ended and not one_epoch and self.max_iter != "auto":
            warnings.warn(
                f"Maximum iterations ({n_epochs}) reached and the objective is still improving. "
                "Raise max_iter, or leave it at 'auto'.",
                ConvergenceWarning,
                stacklevel=5,
            )

    def _record(self) -> None:
        """Set the fitted attributes that tell how the training went."""
        history = self.net_.history
        names = [k for k in (history[-1] if history else {}) if k.startswith(("train_", "valid_"))]
        names = [k for k in names if not k.endswith("batch_count")]
        self.history_ = {
            name.removeprefix("train_"): [row.get(name, np.nan) for row in history]
            for name in names
        }
        self.n_iter_ = len(history)
        self.loss_curve_ = self.history_.get("objective", [])
        self.validation_scores_ = [-value for value in self.history_.get("valid_objective", [])]

    # Answers ------------------------------------------------------------------------------------

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
        return self._model.codes(self._validate_rows(X))

    def inverse_transform(self, X):
        """Return the mean of the reconstruction of each code, in the units of the training rows.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_components)
            Codes.

        Returns
        -------
        rows : ndarray of shape (n_samples, n_features)
            Reconstructed rows.
        """
        check_is_fitted(self)
        codes = check_array(X, accept_sparse="csr", dtype=[np.float64, np.float32])
        if codes.shape[1] != self.n_components_:
            raise ValueError(
                f"X has {codes.shape[1]} features, but inverse_transform of {type(self).__name__} "
                f"is expecting {self.n_components_} features (n_components) as input."
            )
        return self._model.decode(codes)

    def reconstruct(self, X):
        """Return the reconstruction of each row: ``inverse_transform(transform(X))``.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        rows : ndarray of shape (n_samples, n_features)
            Reconstructed rows, in the units of X.
        """
        return self._model.decode(self._model.codes(self._validate_rows(X)))

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
        return self._model.sample(self._draw_codes(int(n_samples), seed), seed)

    def score_samples(self, X):
        """Return the log-likelihood of each row, in nats, with every normalising constant.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Higher is better. In the units of X, so that models of any size, scaling and likelihood
            for the same columns can be compared.
        """
        return self._model.scores(self._validate_rows(X))

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

    def _validate_rows(self, X, reset: bool = False):
        if not reset:
            check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=[np.float64, np.float32], reset=reset)
        if sp.issparse(X) and not X.has_canonical_format:
            X = X.copy()
            X.sum_duplicates()
        likelihood = resolve(self.likelihood, LIKELIHOODS)
        names = getattr(self, "feature_names_in_", None)
        check_support(X, likelihood.inside, type(likelihood).__name__, likelihood.support, names)
        return X

    def _validate_training_rows(self, X, sample_weight, reset: bool):
        X = self._validate_rows(X, reset)
        if sample_weight is None:
            return X, None
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if not weight.any():
            raise ValueError("Sample weights must contain at least one non-zero number.")
        return X, weight


class SampledCodesMixin:
    """New codes from a density fitted on the training codes, for estimators without a prior."""

    def _after_fit(self, X) -> None:
        """Keep codes of training rows; the density is fitted when rows are first drawn."""
        self._training_codes = self._model.codes(X)
        self._sampler = None

    def _draw_codes(self, n_samples: int, seed: int) -> np.ndarray:
        if self._sampler is None:
            state = np.random.RandomState(self._seed)
            self._sampler = resolve(self.sampler, SAMPLERS).fit(self._training_codes, state)
        return self._sampler.sample(n_samples, np.random.RandomState(seed))
