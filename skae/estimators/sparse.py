"""The sparse autoencoder."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import scipy.sparse as sp
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from skae._duplicates import ROWS_TO_LOOK_BACK_ON
from skae._tables import to_sparse_interface
from skae._training.bottlenecks import SparseCode
from skae._training.bottlenecks.sparse import UNITS_AN_ACTIVE_ONE
from skae._validation import resolve
from skae.constraints import Interval, StrOptions
from skae.estimators.base import BaseAutoencoder
from skae.estimators.declaration import choices, estimator, parameter
from skae.estimators.parameters import SharedParameters
from skae.inits import Random
from skae.sparsity import SPARSITIES, Sparsity


@estimator
class SparseAutoencoderTransformer(SharedParameters, BaseAutoencoder):
    r"""Sparse autoencoder: non-negative codes of which few units are active on each row.

    A unit is active on a row where its code is above zero; all others are exactly zero. Every kind
    of sparsity is steered to the same target, the mean number of active units a row.

    Attributes
    ----------
    n_active_ : float
        Mean number of active units a row, on (at most 10,000) training rows, by the rule of the
        training whatever ``transform_n_active``.
    n_dead_ : int
        Units that were active on none of those rows nor, of a larger table, in the last epoch.
    sparsity_weight_ : float
        Weight of the penalty at the end of training.

    Warns
    -----
    ConvergenceWarning
        No unit is active on any row, or one in a hundred units or more on none.

    See Also
    --------
    AutoencoderTransformer : The same without sparsity.

    Notes
    -----
    With code :math:`z_i = f(x_i) \ge 0` the loss of a fit is

    .. math:: -\frac1n \sum_i \log p(x_i \mid g(z_i)) + \lambda \, \Omega(z_1, \dots, z_n)

    with a gradient that counts errors alike in every scaled column, as in `AutoencoderTransformer`,
    whose score this one's is. :math:`\Omega` is given with each class of `skae.sparsity` and sees
    how strongly the decoder answers to each unit; :math:`\lambda` is ``sparsity_weight``. Units
    that no row of an epoch switched on are revived: their input is drawn up to their threshold
    until one does (Conerly et al. 2025, "Dictionary learning optimization techniques"). For counts,
    every log p here is one given the total of the row.

    References
    ----------
    Ng (2011), "Sparse autoencoder", CS294A lecture notes.

    Makhzani and Frey (2014), "k-sparse autoencoders".

    Srivastava et al. (2014), "Dropout: a simple way to prevent neural networks from overfitting",
    on the code.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import SparseAutoencoderTransformer
    >>> X, _ = load_iris(return_X_y=True)
    >>> sparse = SparseAutoencoderTransformer(
    ...     n_components=8, sparsity="topk", n_active=2, tol=0.1, random_state=0
    ... )
    >>> int((sparse.fit_transform(X) > 0).sum(axis=1).max())
    2
    """

    sparsity: Any = choices(
        "l1",
        SPARSITIES,
        """What keeps units inactive: a penalty on the activations ("l1"), on the squared mean
        activations ("l2"), on the distance of the rates from a target rate ("kl") or on the number
        above a trained threshold ("jumprelu"); or a hard limit on their number in a row ("topk")
        or in a batch ("batch_topk").""",
        Sparsity,
    )
    n_active: Any = parameter(
        None,
        [Interval(Real, 0, None, closed="neither"), None],
        "float or None",
        """Mean number of active units a row, in (0, n_components]; None is a quarter of the units,
        at least 1. "topk" rounds it, and takes it as the most for each row, "batch_topk" as the
        most for the mean of a batch.""",
    )
    sparsity_weight: Any = parameter(
        "auto",
        [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        'float or "auto"',
        """Weight of the penalty in the objective, at least 0. "auto" steers it during training
        until ``n_active`` is met. "topk" and "batch_topk" have no penalty and need "auto".""",
    )
    code_dropout: float = parameter(
        0.0,
        [Interval(Real, 0, 1, closed="left")],
        "float",
        """Share of the units, in [0, 1), that a row is decoded without in a step of the training,
        drawn anew in each, while the others are scaled up for it. Units then learn to say something
        alone: better features for a classifier, and poorer reconstructions. Of the levels of a
        stack that are trained together, it is that of the top alone.""",
    )
    transform_n_active: Any = parameter(
        None,
        [Interval(Integral, 1, None, closed="left"), StrOptions({"all"}), None],
        'int, "all" or None',
        """Most active units a row in what `transform` returns, in [1, n_components]: so many of
        those above zero, the strongest. "all" keeps every unit whose input is above zero, which
        makes the better features for a classifier; None keeps what the rule of the training keeps.
        Read at each call, so that it can be set after the fit. Everything else (`reconstruct`,
        `sample`, `score_samples`, `n_active_`, `n_dead_`) goes by the rule of the training. To
        "l1", "l2" and "kl" None and "all" are the same.""",
    )
    sparse_output: bool = parameter(
        False, ["boolean"], "bool", "Whether `transform` returns codes as CSR."
    )

    # A mixture of Gaussians would draw codes that are seldom zero.
    _auto_sampler = "kernel"

    def transform(self, X):
        """Return the code of each row.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        codes : ndarray or CSR of shape (n_samples, n_components)
            Non-negative; CSR with ``sparse_output=True``. `inverse_transform` takes codes of any
            number of active units, but decodes only those of the training as `reconstruct` does.

        Raises
        ------
        ValueError
            ``transform_n_active`` is out of its range.
        """
        n_kept = self._n_kept()
        if n_kept is None:
            codes = super().transform(X)
        else:
            rows, *_ = self._validate_rows(X)
            codes = self._model.strongest_codes(rows, n_kept)
        return to_sparse_interface(sp.csr_array(codes), X) if self.sparse_output else codes

    def _n_kept(self) -> int | None:
        """Return how many units of a row `transform` keeps; None: those of the training."""
        check_is_fitted(self)
        if self.transform_n_active is None:
            return None
        self._validate_params()  # it may have been set since the fit
        self._check_within(self.n_components_)
        kept = self.transform_n_active
        return self.n_components_ if isinstance(kept, str) else int(kept)

    def _auto_init(self, likelihood):
        return Random()

    def _bottleneck(self):
        sparsity = resolve(self.sparsity, SPARSITIES)
        weight = self.sparsity_weight
        if weight != "auto" and not sparsity.penalised:
            raise ValueError(
                f"sparsity={type(sparsity).__name__} keeps its number of active units by a hard "
                f"rule and has no penalty to weigh. Got sparsity_weight={weight!r}; leave it at "
                "'auto'."
            )
        return SparseCode(sparsity, self._n_active(), weight, float(self.code_dropout))

    def _n_active(self) -> float | None:
        auto = isinstance(self.n_components, str)
        if not auto:
            self._check_within(self.n_components)
        if self.n_active is None:
            return None if auto else float(max(1, self.n_components // UNITS_AN_ACTIVE_ONE))
        return float(self.n_active)

    def _check_within(self, n_components: int) -> None:
        """Raise ``ValueError`` where a number of active units is more than there are."""
        for name in ("n_active", "transform_n_active"):
            value = getattr(self, name)
            if not isinstance(value, str | None) and value > n_components:
                raise ValueError(
                    f"{name} must lie in (0, n_components]. Got {name}={value!r} with "
                    f"n_components={n_components!r} instead."
                )

    def _record_own(self):
        active = self._model.training_codes > 0
        self.n_active_ = float(active.sum(axis=1).mean())
        bottleneck, used = self.module_.bottleneck, active.any(axis=0)
        goes_on = bottleneck.n_to_count > 1  # in calls, each of which may have few rows
        if goes_on or self._model.n_rows > ROWS_TO_LOOK_BACK_ON:  # others were seen
            used |= (bottleneck.uses > 0).cpu().numpy()
        if goes_on:
            used |= (bottleneck.dead == 0).cpu().numpy()
        self.n_dead_ = int((~used).sum())
        self.sparsity_weight_ = float(bottleneck.weight)
        if self.n_active_:
            return self._of_dead_units()
        rate = self._model.training.learning_rate_init
        return ConvergenceWarning(
            "No unit is active on any row, so that the codes say nothing about the rows. Lower "
            f"learning_rate_init (it is {rate!r}) or sparsity_weight (it is "
            f"{self.sparsity_weight!r}), or train longer."
        )

    def _of_dead_units(self):
        """Return what to warn of where units are wasted; None where nearly all are in use."""
        if self.n_dead_ < max(1, self.n_components_ / 100):
            return None
        return ConvergenceWarning(
            f"{self.n_dead_} of {self.n_components_} units are active on no training row "
            "(n_dead_). Let more units be active on a row (n_active), have fewer of them "
            "(n_components), or train longer (max_iter)."
        )
