"""What a fitted detector answers: scores, labels, p-values and reasons."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skae._tables import to_sparse_interface, validate_table
from skae.outliers.calibration import (
    conformal_p_values,
    extrapolated_p_values,
    fewest_odd,
    raise_alarms,
)
from skae.outliers.containers import as_rows, row_labels
from skae.outliers.ensemble import Ensemble
from skae.outliers.reasons import check_limits, column_names, reasons_table


class AnswersMixin:
    """The methods of a detector that ask what it has learned."""

    fdr: Any
    cv: Any
    verbose: int
    n_features_in_: int
    offset_: float
    calibration_scores_: np.ndarray
    estimators_: list
    _ensemble: Ensemble
    _combined: bool

    def score_samples(self, X):
        """Return how normal each row is.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            High is normal. With the combined score at most 0, and about -1 for a usual row. What
            would be NaN, or minus infinity, is the lowest number there is.
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
            Whether rows odder than all calibration rows get smaller p-values, from a Pareto
            distribution fitted to the oddest tenth of the calibration scores, as `predict` takes
            them with ``fdr``. For fewer than 20 calibration rows there is none.

        Returns
        -------
        p : ndarray of shape (n_samples,)
            In (0, 1]: (1 + number of calibration scores at or below the row's) / (1 + their
            number), so the smallest is 1 / (1 + number of calibration scores) unless extrapolated.
            See the notes of the class for what is promised.

        Raises
        ------
        ValueError
            There is no row that was not learned from.
        """
        check_is_fitted(self)
        if not len(self.calibration_scores_):
            raise ValueError(
                "p-values need calibration scores, those of training rows that some network has "
                f"not learned from. With cv={self.cv!r} there is none: X needs at least 2 "
                "rows."
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

    def explain(self, X, n_reasons=5, min_share=0.01, feature_names=None):
        """Return the features that speak most against a row, or against each of several.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features) or (n_features,)
            Rows, or one row.
        n_reasons : int, default=5
            Most features to return for a row, at least 1.
        min_share : float, default=0.01
            Features with a smaller share, in [0, 1], are left out; 0 leaves out none.
        feature_names : sequence of length n_features, default=None
            Names for the table, for sparse rows and arrays. None takes ``feature_names_in_``, or
            x0, x1, ... where there are none.

        Returns
        -------
        reasons : DataFrame
            ``feature`` (its name), ``value`` in the row, ``expected`` (the mean of what the
            neighbours and the network say, in the units of X), ``share`` of the score, in
            [0, 1]; the largest share of a row first. For several rows they stand below each other,
            with a first column ``row``: the label of the row in a DataFrame of pandas, or its
            number.
        """
        check_is_fitted(self)  # before anything is said about the row
        check_limits(n_reasons, min_share)
        given = as_rows(X)
        X = self._validate_rows(given)
        self._check_combined("explain")
        names = column_names(feature_names, self)
        labels = None if X.shape[0] == 1 else row_labels(given)
        return reasons_table(self._ensemble, X, names, labels, n_reasons, min_share)

    def _scores(self, X) -> np.ndarray:
        if not X.shape[0]:
            return np.empty(0)
        scores = self._ensemble.scores(X, bool(self.verbose))
        lowest = np.finfo(np.float64).min
        return np.maximum(np.where(np.isnan(scores), lowest, scores), lowest)

    def _check_combined(self, method: str) -> None:
        if not self._combined:
            raise ValueError(
                f"{method} needs criterion='combined': a log-likelihood of {self.estimators_[0]!r} "
                "is not known feature by feature."
            )

    def _validate_rows(self, X):
        check_is_fitted(self)
        return validate_table(self, X, reset=False)
