"""The life of an estimator: validate, build, train, record.

`BaseAutoencoder` owns the order of events and no hyper-parameter. A final class stores its
parameters and says what is its own: the bottleneck, the noise, where new codes come from. What a
fitted estimator answers stands in ``answers.py``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from skae._duplicates import merge_duplicates, representatives
from skae._hints import HintsMixin
from skae._random import draw_seed
from skae._sklearn import fit_context
from skae._training.bottlenecks import Bottleneck
from skae._training.callbacks import SoftThreshold
from skae._training.diagnosis import advice
from skae._training.model import build_model
from skae._training.surroundings import usual_torch
from skae._training.trainer import Stopping, choose_n_epochs, train, unchanged_on_error
from skae._validation import resolve, restored_on_error
from skae.estimators.answers import AnswersMixin
from skae.estimators.parameters import default_of
from skae.exceptions import NonFiniteLossError
from skae.networks import NETWORKS, Layout, Network
from skae.noise import NOISES
from skae.schedules import SCHEDULES


class BaseAutoencoder(AnswersMixin, HintsMixin, BaseEstimator):
    """Base of the four transformers."""

    # What a final class says of its own --------------------------------------------------------

    def _make_bottleneck(self) -> Callable[..., Bottleneck]:
        """Return what makes the bottleneck, given ``n_components`` and ``seed``."""
        raise NotImplementedError

    def _watched_from(self) -> float:
        """Return the share of the training before which convergence is not looked at."""
        return 0.0

    # Training -----------------------------------------------------------------------------------

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
        kept = [self, self._model] if hasattr(self, "_model") else [self]
        # The last finite weights are worth keeping.
        with restored_on_error(*kept, but=(NonFiniteLossError,)):
            X, weight = self._validate_training_rows(X, sample_weight, reset=not resume)
            index, weight = merge_duplicates(X, weight)
            with usual_torch(training=True):
                if resume:
                    self._check_same_layout()
                else:
                    self._build(X, index, weight)
                with unchanged_on_error(self.net_):
                    self._train(X, index, weight, one_epoch, resume)
        return self

    def _check_same_layout(self) -> None:
        """Raise ``ValueError`` where a parameter that shapes the network is not that of the fit."""
        fitted, wanted = self.net_.module__layout, self._layout()
        if fitted != wanted:
            raise ValueError(
                f"Training would go on from a network of {fitted}. Got parameters for {wanted} "
                "instead. Clone the estimator, or set warm_start=False, to start anew."
            )

    def _build(self, X, index, weight) -> None:
        """Make a model with its first weights."""
        self._seed = draw_seed(self.random_state)
        self.n_components_ = self.n_components
        self._model = build_model(
            X,
            index,
            weight,
            likelihood=self.likelihood_,
            input_scaling=self.input_scaling,
            sparse_method=self.sparse_method,
            network=self._network(),
            make_bottleneck=self._make_bottleneck(),
            layout=self._layout(),
            **self._noise(),
            device=self.device,
            optimizer=self.optimizer,
            learning_rate=self.learning_rate_init,
            weight_decay=self._alpha() * (1.0 - self.l1_ratio),
            callbacks=list(self.callbacks or ()),
            verbose=int(self.verbose),
            seed=self._seed,
        )
        self.net_ = self._model.net
        self.sparse_method_ = self._model.plan.method if self.module_.takes_csr else "dense"

    def _alpha(self) -> float:
        return self.likelihood_.decay if self.alpha == "auto" else self.alpha

    def _noise(self) -> dict:
        """Return the noise of the training step and its level, as arguments of the module."""
        if self.noise is None:
            return {}
        noise = resolve(self.noise, NOISES)
        noise.check_level(self.noise_level)
        return {"noise": noise, "noise_level": self.noise_level}

    def _network(self) -> Network:
        """Return the network; layer sizes beside one that does not look at them are an error."""
        network = resolve("mlp" if self.network is None else self.network, NETWORKS)
        layout = self._layout()
        for name in ("hidden_layer_sizes", "activation"):
            default = default_of(name)
            if not network.takes_layer_sizes and getattr(layout, name) != default:
                raise ValueError(
                    f"{name} shapes the default network; {type(network).__name__} does not look at "
                    f"it. Got {name}={getattr(self, name)!r} beside it. Leave "
                    f"{name} at {default!r}, or network at None."
                )
        return network

    def _layout(self) -> Layout:
        sizes = self.hidden_layer_sizes
        sizes = (sizes,) if isinstance(sizes, Integral) else tuple(sizes)
        if not all(isinstance(size, Integral) and int(size) >= 1 for size in sizes):
            raise ValueError(
                f"hidden_layer_sizes must hold whole numbers of at least 1. Got {sizes!r} instead."
            )
        return Layout(self.n_features_in_, self.n_components, sizes, self.activation)

    def _train(self, X, index, weight, one_epoch: bool, resumed: bool) -> None:
        """Run the training, and record how it went."""
        stopping = self._stopping(len(index), one_epoch)
        amount = self._alpha() * self.l1_ratio
        try:
            ended = train(
                self.net_,
                X,
                index,
                weight,
                self._model.scaling,
                self._model.plan,
                batch_size=self.batch_size,
                schedule=resolve("constant" if one_epoch else self.learning_rate, SCHEDULES),
                stopping=stopping,
                extra_callbacks=(SoftThreshold(amount),) if amount else (),
                description=f"{type(self).__name__} ({self.sparse_method_} batches)",
            )
        except NonFiniteLossError as error:
            self._look_back(X, index, weight)
            likely = advice(
                X,
                index,
                self._model.scaling,
                self.module_.encoder_units,
                names=getattr(self, "feature_names_in_", None),
                rate=self.net_.lr,
                input_scaling=self.input_scaling,
                resumed=resumed,
            )
            raise NonFiniteLossError(f"{error} {likely}") from None
        self._look_back(X, index, weight)
        if not (ended or one_epoch or self.max_iter == "auto"):
            warnings.warn(
                f"Maximum iterations ({self.max_iter}) reached and the objective is still "
                "improving. Raise max_iter, or leave it at 'auto'.",
                ConvergenceWarning,
                stacklevel=5,
            )

    def _stopping(self, n_rows: int, one_epoch: bool) -> Stopping:
        hold_out = self.early_stopping and not one_epoch
        if hold_out and n_rows < 2:
            raise ValueError(
                f"early_stopping=True holds rows out and needs 2 distinct ones. Got {n_rows} "
                "instead. Set early_stopping=False."
            )
        csr = self.module_.takes_csr
        n_epochs = choose_n_epochs(self.max_iter, n_rows, self.batch_size, csr)
        return Stopping(
            1 if one_epoch else n_epochs,
            self.tol,
            self.n_iter_no_change,
            self._watched_from(),
            self.validation_fraction if hold_out else None,
        )

    def _look_back(self, X, index, weight) -> None:
        """Set the fitted attributes that tell how the training went, and what came of it."""
        history = self.net_.history
        names = [name for row in history for name in row if name.startswith(("train_", "valid_"))]
        self.history_ = {
            name.removeprefix("train_"): [row.get(name, np.nan) for row in history]
            for name in dict.fromkeys(names)
            if not name.endswith(("batch_count", "loss_best"))
        }
        self.n_iter_ = len(history)
        self.loss_curve_ = self.history_.get("objective", [])
        held_out = self.history_.get("valid_objective", [])
        self.validation_scores_ = [-value for value in held_out if not np.isnan(value)]
        rows = X[representatives(index, weight)]
        self._model.remember(rows)
        self._after_fit(rows)

    def _validate_training_rows(self, X, sample_weight, reset: bool):
        X, weight = self._weighed_rows(self._validate_format(X, reset), sample_weight)
        if reset:
            self._choose_likelihood(X)
        return self._training_rows_inside_support(X), weight

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
