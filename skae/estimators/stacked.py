"""The stack: levels trained one upon another, then as one network."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.utils.metaestimators import available_if

from skae._tables import to_sparse_interface
from skae._training.fit import fit_model
from skae._training.plain_data import same
from skae._training.specification import TrainingSpec
from skae._training.stacking import answering, compose, rows_to_learn
from skae.constraints import Interval
from skae.estimators.autoencoder import AutoencoderTransformer
from skae.estimators.base import BaseAutoencoder, BaseTransformer
from skae.estimators.declaration import estimator, parameter
from skae.estimators.levels import (
    checked_levels,
    checked_sizes,
    fit_again_and_again,
    fit_level,
    on_codes,
    prepare,
    settle_likelihood,
    told_of,
)
from skae.estimators.parameters import TrainingParameters
from skae.estimators.specify import seed_of, training_spec

_LAYER_SIZES, _N_LEVELS = (64, 16), 3


@estimator
class StackedAutoencoderTransformer(TrainingParameters, BaseTransformer):
    r"""Stack of autoencoders: each level learns from the codes of the level below it.

    The levels are trained one after another, each on the codes of the one before; then all of them
    together as one network, whose encoder is all encoders in a row and whose decoder is all
    decoders in a row. Parameters of the training are those of the training together: each level
    has its own.

    Attributes
    ----------
    levels_ : list of estimators
        The levels as they were trained one upon another, the first one on rows. With ``shared`` the
        second stands there several times.

    See Also
    --------
    SparseAutoencoderTransformer : A level whose code is sparse.
    DenoisingAETransformer : A level that learns to undo noise on what it is given.

    Notes
    -----
    With :math:`z^0_i = x_i` and levels of encoders :math:`f_k` and decoders :math:`g_k`, level k
    minimises the objective of its class,

    .. math:: -\frac1n \sum_i \log p_k(z^{k-1}_i \mid g_k(f_k(z^{k-1}_i))), \qquad
        z^k_i = f_k(z^{k-1}_i)

    and what its class adds to that. The training together minimises

    .. math:: -\frac1n \sum_i \log p_1(x_i \mid g_1(\cdots g_K(f_K(\cdots f_1(x_i)))))

    from there on; with a `VAETransformer` at the top, the bound of log p(x) that this stands for.
    So the likelihood of the first level is that of the stack, and `score_samples` is that of a row
    given its code at the top. A decoder hands on the mean of the code below. Noise is on the input
    of each level while it is trained, and on rows in the training together.

    Codes that are sparse stay sparse in the training together, at every level. A hard rule, such as
    "topk", is in force. In the place of a penalty a threshold keeps the mean number of active units
    that the penalty had brought about: it is zero at first, and follows the codes.

    Levels do not start at "cooccurrence".

    References
    ----------
    Hinton and Salakhutdinov (2006), "Reducing the dimensionality of data with neural networks".

    Bengio, Lamblin, Popovici and Larochelle (2007), "Greedy layer-wise training of deep networks".

    Vincent et al. (2010), "Stacked denoising autoencoders: learning useful representations in a
    deep network with a local denoising criterion".

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import (
    ...     SparseAutoencoderTransformer,
    ...     StackedAutoencoderTransformer,
    ... )
    >>> X, _ = load_iris(return_X_y=True)
    >>> level = SparseAutoencoderTransformer(
    ...     sparsity="topk", max_iter=20, tol=0.1
    ... )
    >>> stack = StackedAutoencoderTransformer(
    ...     estimator=level,
    ...     layer_sizes=(16, 8, 4),
    ...     max_iter=20,
    ...     tol=0.1,
    ...     random_state=0,
    ... )
    >>> [codes.shape[1] for codes in stack.fit(X).transform_levels(X)]
    [16, 8, 4]
    """

    estimator: Any = parameter(
        None,
        [BaseAutoencoder, None],
        "estimator or None",
        """What every level is, but for its ``n_components``: one of the four transformers of one
        network; None is `AutoencoderTransformer`. Its ``likelihood``, ``input_scaling`` and
        ``sparse_method`` are for X; the levels above the first are given codes, and have a Gaussian
        likelihood.""",
    )
    layer_sizes: Any = parameter(
        _LAYER_SIZES,
        ["array-like", Interval(Integral, 1, None, closed="left")],
        "array-like of int",
        """``n_components`` of each level, the first on rows. An error beside ``levels`` or
        ``shared``.""",
    )
    levels: Any = parameter(
        None,
        [list, tuple, None],
        "list of estimators or None",
        """The levels one by one, instead of ``estimator`` and ``layer_sizes``: each one of the four
        transformers of one network. Each is what it says; ``input_scaling="auto"`` of a
        level on codes with a Gaussian likelihood is "common", for codes have sizes that mean
        something. Parameters are reached as ``levels__0__noise_level``.""",
    )
    shared: bool = parameter(
        False,
        ["boolean"],
        "bool",
        """Whether one level is applied again and again to its own codes: the first level maps rows
        to codes, and all others are a second one with one set of weights. Both are ``estimator``,
        whose ``n_components`` all codes have.""",
    )
    n_levels: Any = parameter(
        None,
        [Interval(Integral, 2, None, closed="left"), None],
        "int or None",
        """Number of levels with ``shared``, at least 2; None is 3. An error without ``shared``.""",
    )
    fine_tune: bool = parameter(
        True,
        ["boolean"],
        "bool",
        """Whether all levels are trained together once each was trained. Without it
        parameters of the training have no effect, and there is no `partial_fit`.""",
    )

    def transform(self, X):
        """Return the code of each row at the top.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        codes : ndarray or CSR of shape (n_samples, n_components)
            Of the kind that the level at the top has.
        """
        codes = super().transform(X)
        return _of_level(self.levels_[-1], codes, X)

    def transform_levels(self, X):
        """Return the codes of each row at all levels.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        codes : list of ndarray or CSR of shape (n_samples, n_components of the level)
            From the first level to the top, whose codes are those of `transform`.
        """
        rows, *_ = self._validate_rows(X)
        ends = np.cumsum([level.n_components_ for level in self.levels_])
        parts = np.split(self._model.codes_of_levels(rows), ends[:-1], axis=1)
        pairs = zip(self.levels_, parts, strict=True)
        return [_of_level(level, codes, X) for level, codes in pairs]

    @available_if(lambda self: self.fine_tune)
    def partial_fit(self, X, y=None, sample_weight=None):
        """Make one pass over the rows of X, at the learning rate ``learning_rate_init``.

        The first call makes a pass for each level, from the first to the top, before that for all
        of them together; later calls are a pass for all together alone.

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
        return super().partial_fit(X, y, sample_weight)

    def get_params(self, deep=True):
        """Return the parameters by name.

        Parameters
        ----------
        deep : bool, default=True
            Whether to return those of the levels as well.

        Returns
        -------
        params : dict
            Parameters by name.
        """
        found = super().get_params(deep)
        if deep:
            found.update(self._params_of_levels())
        return found

    def _params_of_levels(self) -> Iterator[tuple[str, Any]]:
        for place, level in enumerate(self._listed()):
            for name, value in level.get_params().items():
                yield f"levels__{place}__{name}", value

    def _listed(self) -> list[Any]:
        """Return the levels, if they are given as they should be: a fit says what is wrong."""
        given = self.levels if isinstance(self.levels, list | tuple) else []
        return list(given) if all(isinstance(one, BaseAutoencoder) for one in given) else []

    def set_params(self, **params):
        """Set parameters of this object, or with ``levels__0__parameter`` those of its levels.

        Parameters
        ----------
        **params : dict
            Parameters by name.

        Returns
        -------
        self : object
            The object.

        Raises
        ------
        ValueError
            There is no such parameter.
        """
        of_levels = {name: value for name, value in params.items() if name.startswith("levels__")}
        super().set_params(**{k: v for k, v in params.items() if k not in of_levels})
        for key, value in of_levels.items():
            _, place, *name = key.split("__", 2)
            there = [str(number) for number in range(len(self._listed()))]
            if place not in there or not name:
                raise ValueError(
                    f"Invalid parameter {key!r} for estimator {self}. Parameters of the "
                    f"{len(there)} levels are levels__0__n_components and so on."
                )
            self._listed()[int(place)].set_params(**{name[0]: value})
        return self

    # The levels, before there are rows.

    def _plan(self) -> list[Any]:
        """Return the levels as they are asked for, one for each set of weights."""
        if self.levels is not None:
            self._check_alone("levels", "estimator", "layer_sizes", "shared", "n_levels")
            return checked_levels(self.levels)
        level = AutoencoderTransformer() if self.estimator is None else self.estimator
        if self.shared:
            self._check_alone("shared", "layer_sizes")
            return [clone(level), on_codes(level)]
        if self.n_levels is not None:
            raise ValueError(
                "n_levels is the number of levels that share weights. Got n_levels="
                f"{self.n_levels!r} with shared=False. Give the size of each level in layer_sizes, "
                "or set shared=True."
            )
        first, *others = checked_sizes(self.layer_sizes)
        above = [on_codes(level).set_params(n_components=size) for size in others]
        return [clone(level).set_params(n_components=first), *above]

    def _check_alone(self, name: str, *others: str) -> None:
        """Raise ``ValueError`` where parameters are given that another one leaves no place for."""
        usual = {"estimator": None, "layer_sizes": _LAYER_SIZES, "shared": False, "n_levels": None}
        for other in others:
            if not same(getattr(self, other), usual[other]):
                raise ValueError(
                    f"{name} says what the levels are, so that {other} has no place. Got "
                    f"{other}={getattr(self, other)!r} beside {name}={getattr(self, name)!r}. "
                    f"Leave {other} at {usual[other]!r}, or {name} at its default."
                )

    @property
    def _given_likelihood(self):
        return self._plan()[0].likelihood

    # Training.

    _title = "StackedAutoencoderTransformer, all levels"

    def _goes_on(self):
        return hasattr(self, "net_") and self.fine_tune

    def _specifications(self, previous):
        """Return what the model is, if there is one, and how it is trained."""
        training = training_spec(self, seed_of(self.random_state, previous))
        if previous is None:
            return None, training
        now = self._plan()
        if not same(self._planned, now):
            raise ValueError(
                f"Training would go on with the levels {self._planned}. Got {now} instead. Set "
                "estimator, layer_sizes, levels, shared and n_levels back to go on, or start anew: "
                "call fit with warm_start=False, or clone the estimator."
            )
        return previous.spec, training

    def _trained(self, X, weight, spec, training, previous, one_epoch):
        """Return the model; see `BaseTransformer`."""
        if previous is None:
            learns = rows_to_learn(X, weight, training, whole=not self.fine_tune)
            self._fit_levels(*learns, training, one_epoch)
            previous = compose([level._model for level in self.levels_], training, *learns)
        if not self.fine_tune:
            return answering(previous, X, weight)
        return fit_model(X, weight, previous.spec, training, previous, self._feature_names)

    def _fit_levels(self, rows, weight, training: TrainingSpec, one_epoch: bool) -> None:
        """Train one level upon another, and keep them."""
        self._planned, levels = self._plan(), self._plan()
        n_times = (self.n_levels or _N_LEVELS) - 1 if self.shared else 1
        n_levels = len(levels) + n_times - 1
        for place, level in enumerate(levels):
            level._title = f"Level {place + 1} of {n_levels}, {type(level).__name__}"
            with told_of(level):
                prepare(level, place, training.seed, training.verbose)
                settle_likelihood(level, place, rows, self.likelihood_)
                if place and self.shared:
                    level.n_components = levels[0].n_components_
                    fit_again_and_again(level, rows, weight, n_times, one_epoch)
                else:
                    fit_level(level, rows, weight, one_epoch)
            level._title = None  # it may be trained alone later
            if place + 1 < len(levels):
                rows = level.transform(rows)
        if self._feature_names is not None:
            levels[0].feature_names_in_ = self._feature_names
        self.levels_ = [levels[0], *levels[1:] * n_times]


def _of_level(level: Any, codes: np.ndarray, X) -> Any:
    """Return codes of the kind that a level's own ``transform`` returns."""
    as_csr = getattr(level, "sparse_output", False)
    return to_sparse_interface(sp.csr_array(codes), X) if as_csr else codes
