"""Which rows are odd, and why? The anomaly detector."""

from __future__ import annotations

import warnings
from numbers import Integral, Real

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.base import BaseEstimator, OutlierMixin, _fit_context, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from skae._hints import HintsMixin
from skae._random import derive_seed, draw_seed
from skae._tables import to_sparse_interface, validate_table
from skae.constraints import HasMethods, Interval, StrOptions
from skae.estimators.denoising import DenoisingAETransformer
from skae.outliers.conformal import benjamini_hochberg, conformal_p_values
from skae.outliers.deviations import (
    Deviations,
    Recipe,
    distinct_rows,
)

_AUTO_SHARE, _ROWS_FOR_OFFSET = 0.01, 10_000
_STEPS, _BATCH_SIZE = 500, 256


class AutoencoderOutlierDetector(HintsMixin, OutlierMixin, BaseEstimator):
    r"""Anomaly detector: deviations from the nearest rows and from what a network expects.

    Three deviations of a row are added up: from the nearest training row, from the combination of
    the ten nearest that comes closest to it, and from its reconstruction by a denoising
    autoencoder. The sum is divided by a small power of the same sum for the row's neighbours, so
    that it takes less to be odd where rows lie close. Because all deviations are squared errors of
    single columns, every score is a sum of shares of the columns.

    Parameters
    ----------
    estimator : estimator or None, default=None
        What reconstructs rows, cloned and fitted: any object with ``reconstruct`` (the four
        transformers of skae) or only ``score_samples``. None is a `DenoisingAETransformer` without
        a bottleneck and with "swap_gaussian" noise, trained for 500
        steps, fewer below 200 rows.
    contamination : "auto" or float, default="auto"
        Share of bad rows in the training set, in (0, 0.5]; it fixes ``offset_``. With a number,
        the detector is robust: the mean squared distance to the tenth of the training rows that is
        nearest (at least 20 rows, and that share of them if it is larger) takes the place of the
        distances to the nearest row and to the combination, and that share of the rows, the
        farthest from their tenth, is kept from the network. "auto" trusts all training rows and
        puts ``offset_`` where one in a hundred of them is below.
    criterion : {"auto", "combined", "log_likelihood"}, default="auto"
        "combined" is described above, "log_likelihood" is ``estimator.score_samples`` as it is;
        "auto" is "combined" wherever the estimator has ``reconstruct``.
    fdr : float or None, default=None
        If given, in (0, 1): `predict` raises alarms at this false-discovery rate over the rows it
        gets, instead of at ``offset_``.
    calibration_fraction : float, default=0.1
        Share of the training rows, in (0, 1), that is held out for `p_values`.
    n_references : int, default=10000
        Most training rows, at least 1, that rows are compared with: distinct ones, drawn at random.
        With a number for ``contamination`` at most 1,000, a row as often as it occurs.
    random_state : int, RandomState or None, default=None
        Source of all draws. An int gives the same detector every time.

    Attributes
    ----------
    estimator_ : estimator
        The fitted network.
    offset_ : float
        `decision_function` is `score_samples` minus this.
    calibration_scores_ : ndarray of shape (n_calibration,)
        Sorted scores of the rows held out.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns; only if all are strings.

    See Also
    --------
    DenoisingAETransformer : The network of the default.

    Notes
    -----
    In columns divided by their standard deviation (sparse ones by the fourth root of a third of
    their fourth moment), with :math:`n(x)` the nearest training row, :math:`c(x)` the combination
    of neighbours and :math:`r(x)` the reconstruction,

    .. math::

        d(x) = \frac{1}{2.3} \left[\frac{\|x - n(x)\|^2}{m_1} + \frac{\|x - c(x)\|^2}{m_2}
        + 0.3\, \frac{\sum_j (x_j - r_j(x))^2 / s_j^2}{m_3}\right], \qquad
        \text{score}(x) = -\frac{d(x)}{\max(t(x), 0.1)^{1/2}}

    with :math:`m` the medians over the training rows, :math:`s_j` the root mean square error of the
    network in column j, and :math:`t(x)` the mean of :math:`\sqrt d` over the ten neighbours. The
    combination is that of locally linear embedding. A training row that occurs once is no neighbour
    of itself: it is compared with the other rows, so `fit_predict` finds odd rows in the training
    set. Scores have no unit; about -1 is usual.

    With a number for ``contamination``, and N(x) the nearest tenth,

    .. math::

        \text{score}(x) = -\frac{1}{1.3} \left[\frac{\sum_{i \in N(x)} \|x - x_i\|^2 / |N(x)|}{m_1}
        + 0.3\, \frac{\sum_j (x_j - r_j(x))^2 / s_j^2}{m_3}\right]

    where :math:`s_j` leaves out the same share of the rows.

    References
    ----------
    Roweis and Saul (2000), "Nonlinear dimensionality reduction by locally linear embedding".

    Vincent et al. (2010), "Stacked denoising autoencoders".

    Bates et al. (2023), "Testing for outliers with conformal p-values".

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import AutoencoderOutlierDetector
    >>> X, _ = load_iris(return_X_y=True)
    >>> detector = AutoencoderOutlierDetector(random_state=0).fit(X)
    >>> detector.predict([[5.0, 3.4, 1.5, 0.2], [5.0, 3.4, 5.5, 0.2]])
    array([ 1, -1])
    """

    _parameter_constraints: dict = {
        "estimator": [HasMethods(["fit", "score_samples"]), None],
        "contamination": [StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")],
        "criterion": [StrOptions({"auto", "combined", "log_likelihood"})],
        "fdr": [Interval(Real, 0, 1, closed="neither"), None],
        "calibration_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_references": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    #: Weights of the deviations from the nearest row, from the combination, and of the network.
    _weights = (1.0, 1.0, 0.3)
    #: The same when the training set is contaminated, where anomalies have twins.
    _robust_weights = (1.0, 0.0, 0.3)
    _n_neighbors = 10
    _locality = 0.5
    #: Then near rows are a share of few references: more than a clump of anomalies can fill.
    _share_robust, _n_neighbors_robust, _n_references_robust = 0.1, 20, 1_000

    def __init__(
        self,
        estimator=None,
        contamination="auto",
        criterion="auto",
        fdr=None,
        calibration_fraction=0.1,
        n_references=10_000,
        random_state=None,
    ):
        self.estimator = estimator
        self.contamination = contamination
        self.criterion = criterion
        self.fdr = fdr
        self.calibration_fraction = calibration_fraction
        self.n_references = n_references
        self.random_state = random_state

    # Training -----------------------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None):
        """Learn what rows are like.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            Training rows: normal ones, or with a share ``contamination`` of others.
        y : None
            Ignored; there for pipelines.

        Returns
        -------
        self : object
            The fitted detector.
        """
        X = self._validate_rows(X, reset=True)
        seed = draw_seed(self.random_state)
        self._combined = self._choose_score()
        train, held_out = self._split(X.shape[0], seed)
        rows, counts = distinct_rows(X, train)
        if self._combined or self._robust:
            self._deviations = Deviations(X[rows], counts, self._recipe())
        if self._robust:
            train = train[self._deviations.trustworthy(X[train])]
        self._fit_network(X, train, len(rows), seed)
        if self._combined:
            self._deviations.add_network(self.estimator_.reconstruct)
        else:  # no more than what training rows were chosen by
            self.__dict__.pop("_deviations", None)
        self.calibration_scores_ = np.sort(self._scores(X[held_out]))
        self.offset_ = self._choose_offset(X, seed)
        return self

    @property
    def _robust(self) -> bool:
        return self.contamination != "auto"

    def _choose_score(self) -> bool:
        """Return whether the score is the combined one."""
        can_reconstruct = self.estimator is None or hasattr(self.estimator, "reconstruct")
        if self.criterion == "combined" and not can_reconstruct:
            raise ValueError(
                "criterion='combined' needs an estimator with a method reconstruct. "
                f"Got {self.estimator!r}. Set criterion='log_likelihood'."
            )
        return can_reconstruct and self.criterion != "log_likelihood"

    def _split(self, n_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows to train on, and those to calibrate p-values with."""
        order = np.random.RandomState(derive_seed(seed, 1) % 2**32).permutation(n_rows)
        n_held_out = min(n_rows - 1, round(self.calibration_fraction * n_rows))
        return np.sort(order[n_held_out:]), np.sort(order[:n_held_out])

    def _choose_offset(self, X, seed: int) -> float:
        """Return the score that the share of bad rows is below: exactly, where a share is given."""
        if self._robust:
            return float(np.percentile(self._scores(X), 100.0 * self.contamination))
        order = np.random.RandomState(derive_seed(seed, 3) % 2**32).permutation(X.shape[0])
        scores = self._scores(X[np.sort(order[:_ROWS_FOR_OFFSET])])
        return float(np.percentile(scores, 100.0 * _AUTO_SHARE))

    def _fit_network(self, X, train: np.ndarray, n_distinct: int, seed: int) -> None:
        if self.estimator is not None:
            self.estimator_ = clone(self.estimator).fit(X[train])
            return
        most = _STEPS * _BATCH_SIZE  # rows that the steps have room for
        if len(train) > most:
            state = np.random.RandomState(derive_seed(seed, 4) % 2**32)
            train = np.sort(state.permutation(train)[:most])
        n_batches = -(-min(n_distinct, most) // _BATCH_SIZE)
        network = DenoisingAETransformer(
            n_components=128,
            hidden_layer_sizes=(128,),
            noise="swap_gaussian",
            noise_level=0.2,
            input_scaling="fourth_moment" if sp.issparse(X) else "standard",
            alpha=0.0,
            batch_size=_BATCH_SIZE,
            max_iter=-(-min(_STEPS, 100 + 2 * n_distinct) // n_batches),
            tol=0.0,
            n_iter_no_change=_STEPS,
            random_state=derive_seed(seed, 2) % 2**31,
        )
        with warnings.catch_warnings():
            # A fixed number of steps is what is wanted.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.estimator_ = network.fit(X[train])

    def _recipe(self) -> Recipe:
        if not self._robust:
            return Recipe(self._weights, self.n_references, self._n_neighbors, self._locality)
        return Recipe(
            self._robust_weights,
            min(self.n_references, self._n_references_robust),
            self._n_neighbors_robust,
            share=max(self._share_robust, self.contamination),
            contamination=self.contamination,
        )

    # Answers ------------------------------------------------------------------------------------

    def score_samples(self, X):
        """Return how normal each row is.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            High is normal. With the combined score at most 0, and about -1 for a usual row.
        """
        return self._scores(self._validate_rows(X))

    def decision_function(self, X):
        """Return `score_samples` minus ``offset_``: below 0 for outliers.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        decision : ndarray of shape (n_samples,)
            Negative for outliers.
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X):
        """Return which rows are outliers.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            Rows. With ``fdr`` the answer for a row depends on which rows stand beside it.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            -1 for outliers, 1 for the others.
        """
        if self.fdr is None:
            odd = self.decision_function(X) < 0
        else:
            odd = benjamini_hochberg(self.p_values(X), self.fdr)
        return np.where(odd, -1, 1)

    def p_values(self, X):
        """Return the conformal p-value of each row, from the training rows held out.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        p : ndarray of shape (n_samples,)
            In (0, 1]. For a row drawn like the training rows, the probability of a p-value of at
            most t is at most t. The smallest is 1 / (1 + number of rows held out).

        Raises
        ------
        ValueError
            Too few training rows for one to be held out.
        """
        check_is_fitted(self)
        if not len(self.calibration_scores_):
            raise ValueError(
                f"calibration_fraction={self.calibration_fraction!r} of the training rows is less "
                "than one row, and p-values need rows held out. Raise calibration_fraction."
            )
        return conformal_p_values(self.score_samples(X), self.calibration_scores_)

    def score_features(self, X, return_rest=False):
        """Return the share of every feature in the score of each row.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            Rows.
        return_rest : bool, default=False
            Whether to return what is left out as well.

        Returns
        -------
        shares : ndarray or CSR of shape (n_samples, n_features)
            At most 0; the lower, the more the feature speaks against the row. CSR for sparse X:
            features that neither the row uses nor hold a thousandth of its score are left out.
        rest : ndarray of shape (n_samples,)
            What was left out, 0 for dense X: ``shares.sum(axis=1) + rest`` is `score_samples`. Only
            with ``return_rest``.

        Raises
        ------
        ValueError
            The score is a log-likelihood, which is not known feature by feature.
        """
        X = self._validate_rows(X)
        self._check_combined("score_features")
        shares, rest = self._deviations.shares(X)
        shares = to_sparse_interface(shares, X)
        return (shares, rest) if return_rest else shares

    def explain(self, x, n_reasons=5):
        """Return the features that speak most against a row.

        Parameters
        ----------
        x : array-like of shape (n_features,), or a table or sparse array of one row
            The row.
        n_reasons : int, default=5
            Most features to return, at least 1.

        Returns
        -------
        reasons : DataFrame of shape (n_reasons, 4)
            ``feature`` (its name, or x0, x1, ...), ``value`` in the row, ``expected`` (the mean of
            what the neighbours and the network say, in the units of X), ``share`` of the score, in
            [0, 1]; the largest share first.
        """
        check_is_fitted(self)  # before anything is said about the row
        X = self._validate_rows(_one_row(x))
        self._check_combined("explain")
        dense = np.asarray(X.toarray() if sp.issparse(X) else X, dtype=np.float64)[0]
        expected, shares = self._deviations.one(X)
        top = np.argsort(shares, kind="stable")[:n_reasons]
        names = getattr(self, "feature_names_in_", [f"x{j}" for j in range(len(dense))])
        return pd.DataFrame(
            {
                "feature": [names[j] for j in top],
                "value": dense[top],
                "expected": expected[top],
                "share": shares[top] / min(shares.sum(), -np.finfo(float).tiny),
            }
        )

    def _scores(self, X) -> np.ndarray:
        if not X.shape[0]:
            return np.empty(0)
        if not self._combined:
            return np.asarray(self.estimator_.score_samples(X), dtype=np.float64)
        return self._deviations.scores(X)

    def _check_combined(self, method: str) -> None:
        if not self._combined:
            raise ValueError(
                f"{method} needs criterion='combined': a log-likelihood of {self.estimator_!r} is "
                "not known feature by feature."
            )

    def _validate_rows(self, X, reset: bool = False):
        if not reset:
            check_is_fitted(self)
        return validate_table(self, X, reset)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _one_row(x):
    if sp.issparse(x) or isinstance(x, pd.DataFrame):
        rows = x
    elif isinstance(x, pd.Series):
        rows = x.to_frame().T
    else:
        rows = np.atleast_2d(np.asarray(x))
    if rows.shape[0] != 1:
        raise ValueError(f"explain takes one row. Got {rows.shape[0]} rows instead.")
    return rows
