"""Which rows are odd, and why? The anomaly detector."""

from __future__ import annotations

import warnings
from numbers import Integral, Real

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.base import BaseEstimator, OutlierMixin, _fit_context, clone
from sklearn.utils.validation import check_is_fitted

from skae._hints import HintsMixin
from skae._random import derive_seed, draw_seed
from skae._tables import to_sparse_interface, validate_table
from skae.constraints import HasMethods, Interval, StrOptions
from skae.outliers.calibration import (
    conformal_p_values,
    extrapolated_p_values,
    fewest_odd,
    raise_alarms,
    threshold,
)
from skae.outliers.deviations import Deviations, Recipe, count_copies, distinct_rows
from skae.outliers.ensemble import Ensemble, Member
from skae.outliers.folds import Judges, deal_out
from skae.outliers.network import fit_network
from skae.outliers.one_row import one_row

_AUTO_SHARE, _MOST_CALIBRATION_ROWS = 0.01, 10_000


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
        a bottleneck and with "swap_gaussian" noise, trained for 350 steps, fewer below 125 rows.
    contamination : "auto" or float, default="auto"
        Share of bad rows in the training set, in (0, 0.5]; it fixes ``offset_``. With a number,
        the detector is robust: the mean squared distance to the tenth of the training rows that is
        nearest (at least 20 rows, and that share of them if it is larger) takes the place of the
        distances to the nearest row and to the combination, and that share of the rows, the
        farthest from their tenth, is kept from the network. "auto" trusts all training rows and
        puts ``offset_`` where one in a hundred rows like them is below. Either share is promised
        for new rows drawn like the training rows; with a number, for the training rows as well.
    criterion : {"auto", "combined", "log_likelihood"}, default="auto"
        "combined" is described above, "log_likelihood" is ``estimator.score_samples`` as it is;
        "auto" is "combined" wherever the estimator has ``reconstruct``.
    fdr : float or None, default=None
        If given, in (0, 1): `predict` raises alarms at this false-discovery rate over the rows it
        gets, instead of at ``offset_``. It warns where no row could be odd enough.
    cv : int or splitter, default=3
        Number of fits, at least 2, each without one fold of the training rows, whose scores fix
        ``offset_`` and `p_values`. Or a splitter of scikit-learn: ``ShuffleSplit(1,
        test_size=0.2)`` fits once and holds out a fifth. Time grows with the number of fits.
    n_references : int, default=10000
        Most training rows, at least 1, that each fit compares rows with: distinct ones, drawn at
        random. With a number for ``contamination`` at most 1,000, a row as often as it occurs.
    random_state : int, RandomState or None, default=None
        Source of all draws. An int gives the same detector every time.

    Attributes
    ----------
    estimators_ : list of estimators
        The fitted networks, one for each fold.
    offset_ : float
        `decision_function` is `score_samples` minus this.
    calibration_scores_ : ndarray of shape (n_calibration,)
        Sorted scores of training rows: of all with a number for ``contamination``, of at most
        10,000 with "auto".
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
    combination is that of locally linear embedding. Scores have no unit; about -1 is usual.

    Scales, networks and their errors are fitted once for each fold, without the rows of that fold.
    A training row is scored by the fit that has not learned from it, and compared with the *other*
    rows, unless it occurs more than once. A new row gets the mean of the scores of all fits. So
    training rows are scored as new rows drawn like them are, and `fit_predict` finds odd rows in
    the training set. A training row is known again by its values in single precision.

    With ``cv=ShuffleSplit(1, test_size=0.2)``, the p-value of a new row that is no copy of a
    training row is at most t with a probability of at most t, whatever the data are like. With
    several folds that is measured, not proved; the user guide has the figures.

    With a number for ``contamination``, and N(x) the nearest tenth,

    .. math::

        \text{score}(x) = -\frac{1}{1.3} \left[\frac{\sum_{i \in N(x)} \|x - x_i\|^2 / |N(x)|}{m_1}
        + 0.3\, \frac{\sum_j (x_j - r_j(x))^2 / s_j^2}{m_3}\right]

    where :math:`s_j` leaves out the same share of the rows.

    References
    ----------
    Roweis and Saul (2000), "Nonlinear dimensionality reduction by locally linear embedding".

    Vincent et al. (2010), "Stacked denoising autoencoders".

    Vovk (2015), "Cross-conformal predictors".

    Barber, Candès, Ramdas and Tibshirani (2021), "Predictive inference with the jackknife+".

    Bates et al. (2023), "Testing for outliers with conformal p-values".

    Pickands (1975), "Statistical inference using extreme order statistics".

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
        "cv": [Interval(Integral, 2, None, closed="left"), HasMethods(["split", "get_n_splits"])],
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
        cv=3,
        n_references=10_000,
        random_state=None,
    ):
        self.estimator = estimator
        self.contamination = contamination
        self.criterion = criterion
        self.fdr = fdr
        self.cv = cv
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
        held_out = deal_out(X, self.cv, derive_seed(seed, 1) % 2**32)
        references = distinct_rows(X, np.flatnonzero(~held_out.all(axis=1)))
        members = [
            self._fit_member(X, references, np.flatnonzero(~rows), derive_seed(seed, 2, k))
            for k, rows in enumerate(held_out.T)
        ]
        ensemble = Ensemble(members, Judges(X, held_out))
        calibration = self._choose_rows(np.flatnonzero(held_out.any(axis=1)), seed)
        scores = np.sort(ensemble.scores(X[calibration] if len(calibration) else X))
        self.offset_ = threshold(scores, self.contamination if self._robust else _AUTO_SHARE)
        self.calibration_scores_ = scores if len(calibration) else scores[:0]
        self.estimators_ = [member.estimator for member in members]
        self._ensemble = ensemble
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

    def _choose_rows(self, rows: np.ndarray, seed: int) -> np.ndarray:
        """Return the rows to calibrate with: all where a share of them is promised."""
        if self._robust or len(rows) <= _MOST_CALIBRATION_ROWS:
            return rows
        state = np.random.RandomState(derive_seed(seed, 3) % 2**32)
        return np.sort(state.permutation(rows)[:_MOST_CALIBRATION_ROWS])

    def _fit_member(self, X, references: tuple, train: np.ndarray, seed: int) -> Member:
        """Learn from some of the rows; others among the references are only compared with."""
        rows, counts = references
        learned = count_copies(X, rows, train)
        n_distinct = int(np.count_nonzero(learned))
        if not (self._combined or self._robust):
            return Member(self._fit_estimator(X, train, n_distinct, seed), None)
        deviations = Deviations(X[rows], counts, learned, self._recipe())
        if self._robust:
            train = train[deviations.trustworthy(X[train])]
        estimator = self._fit_estimator(X, train, n_distinct, seed)
        if not self._combined:  # the neighbours chose training rows, and no more
            return Member(estimator, None)
        deviations.add_network(estimator.reconstruct)
        return Member(estimator, deviations)

    def _fit_estimator(self, X, train: np.ndarray, n_distinct: int, seed: int):
        if self.estimator is None:
            return fit_network(X, train, n_distinct, seed)
        return clone(self.estimator).fit(X[train])

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
        return self._ensemble.scores(self._validate_rows(X))

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
            p_values = self.p_values(X, extrapolate=True)
            self._warn_if_nothing_can_be_found(len(p_values))
            odd = raise_alarms(p_values, self.fdr)
        return np.where(odd, -1, 1)

    def p_values(self, X, extrapolate=False):
        """Return how surprising each row is among the training rows.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            Rows.
        extrapolate : bool, default=False
            Whether rows odder than all calibration rows get smaller p-values, as for ``fdr``: from
            a Pareto distribution of the oddest tenth of at least 20 calibration scores.

        Returns
        -------
        p : ndarray of shape (n_samples,)
            In (0, 1]: (1 + number of calibration scores at or below the row's) / (1 + their
            number). The notes of the class say what is promised.

        Raises
        ------
        ValueError
            There is no row that was not learned from.
        """
        check_is_fitted(self)
        if not len(self.calibration_scores_):
            raise ValueError(
                "p-values need training rows that some network has not learned from. With "
                f"cv={self.cv!r} there is none: X needs at least 2 rows."
            )
        p_values = extrapolated_p_values if extrapolate else conformal_p_values
        return p_values(self.score_samples(X), self.calibration_scores_)

    def _warn_if_nothing_can_be_found(self, n_rows: int) -> None:
        n_odd = fewest_odd(n_rows, self.calibration_scores_, self.fdr)
        if n_odd > 1:
            n_calibration = len(self.calibration_scores_)
            warnings.warn(
                f"The smallest p-value is {1 / (1 + n_calibration):.2g}, from {n_calibration} "
                f"calibration rows: with fdr={self.fdr!r}, at least {n_odd} of these {n_rows} rows "
                "must be odd before one is an alarm. Fit on more rows, raise fdr, or judge fewer "
                "rows at once.",
                stacklevel=3,
            )

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
        shares, rest = self._ensemble.shares(X)
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
        X = self._validate_rows(one_row(x))
        self._check_combined("explain")
        dense = np.asarray(X.toarray() if sp.issparse(X) else X, dtype=np.float64)[0]
        expected, shares = self._ensemble.one(X)
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

    def _check_combined(self, method: str) -> None:
        if not self._combined:
            raise ValueError(
                f"{method} needs criterion='combined': a log-likelihood of {self.estimators_[0]!r} "
                "is not known feature by feature."
            )

    def _validate_rows(self, X, reset: bool = False):
        if not reset:
            check_is_fitted(self)
        return validate_table(self, X, reset)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
