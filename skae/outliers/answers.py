"""What a fitted detector answers: scores, labels, p-values, shares and reasons."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.utils.validation import check_is_fitted, validate_data

from skae._tables import to_sparse_interface, validate_table
from skae._warnings import warn
from skae.outliers.calibration import (
    conformal_p_values,
    extrapolated_p_values,
    fewest_odd,
    raise_alarms,
)
from skae.outliers.criteria import Criterion
from skae.outliers.ensemble import Ensemble
from skae.outliers.progress import Tracker
from skae.outliers.reasons import as_table, check_limits, names_of, reasons_of, row_labels
from skae.outliers.rows import Rows, holds_anything, is_frame, numbers_of


class AnswersMixin:
    """The methods of a fitted detector; `_ensemble` answers."""

    estimator: Any
    fdr: float | None
    cv: Any
    verbose: int
    offset_: float
    calibration_scores_: np.ndarray
    criterion_: Criterion
    estimators_: list
    n_features_in_: int
    _ensemble: Ensemble

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
        rows = self._validate_rows(X)
        return self._ensemble.scores(rows, self._tracker("Rows"))

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
            self._warn_if_nothing_can_be_found(len(p_values), self.fdr)
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

    def _warn_if_nothing_can_be_found(self, n_rows: int, fdr: float) -> None:
        n_odd = fewest_odd(n_rows, self.calibration_scores_, fdr)
        if n_odd > 1:
            n_calibration = len(self.calibration_scores_)
            warn(
                UserWarning(
                    f"The smallest p-value is {1 / (1 + n_calibration):.2g}, from {n_calibration} "
                    f"calibration rows: with fdr={fdr!r}, at least {n_odd} of these {n_rows} rows "
                    "must be odd before one is an alarm. Fit on more rows, raise fdr, or judge "
                    "fewer rows at once."
                )
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
        rows = self._validate_rows(X)
        self._check_has_shares("score_features")
        shares, rest = self._ensemble.shares(rows, self._tracker("Rows"))
        shares = to_sparse_interface(shares, rows.values)
        return (shares, rest) if return_rest else shares

    def explain(self, X, n_reasons=5, min_share=0.01, feature_names=None):
        """Return the features that speak most against rows.

        Parameters
        ----------
        X : array-like of shape (n_features,), or {array-like, sparse matrix or array} of shape \
                (n_samples, n_features)
            One row or several, in any container that `score_samples` takes.
        n_reasons : int, default=5
            Most features to return for a row, at least 1.
        min_share : float, default=0.01
            Features that hold less of the score, in [0, 1], are left out; the first never is.
        feature_names : sequence of str, default=None
            Names of all features, for rows without such, as sparse ones. None takes those of the
            training rows, or x0, x1, ...

        Returns
        -------
        reasons : DataFrame
            ``feature``, ``value`` in the row, ``expected`` (the mean of what the neighbours and the
            network say, in the units of X), ``share`` of the score, in [0, 1]; the largest share
            first. For several rows one below the other, with ``row`` as the first column: the label
            in the index of a DataFrame, else the number of the row.

        Raises
        ------
        ValueError
            The score is a log-likelihood, which is not known feature by feature; or the number of
            names is not that of the features.
        """
        check_is_fitted(self)  # before anything is said about the rows
        check_limits(n_reasons, min_share)
        X = as_table(X)
        rows = self._validate_rows(X)
        self._check_has_shares("explain")
        names = names_of(self, feature_names, self.n_features_in_)
        blocks = self._ensemble.reasons(rows, self._tracker("Rows"))
        tables = list(reasons_of(blocks, names, n_reasons, min_share))
        if len(tables) == 1:
            return tables[0]
        labels = row_labels(X, len(tables))
        for label, table in zip(labels, tables, strict=True):
            table.insert(0, "row", [label] * len(table))
        return pd.concat(tables, ignore_index=True)

    def _check_has_shares(self, method: str) -> None:
        if not self.criterion_.has_shares:
            raise ValueError(
                f"{method} needs criterion='combined': a log-likelihood of {self.estimators_[0]!r} "
                "is not known feature by feature."
            )

    def _validate_rows(self, X, reset: bool = False, numbers: bool = True) -> Rows:
        """Return rows as numbers, and as an estimator of the user's gets them.

        Without ``numbers`` tables may hold what the estimator alone understands.
        """
        if reset:
            self._takes_all = not numbers and holds_anything(X)
        else:
            check_is_fitted(self)
        if self._takes_all and not sp.issparse(X):
            validate_data(self, X, reset=reset, skip_check_array=True)
            return Rows(numbers_of(X), X)
        values = validate_table(self, X, reset)
        return Rows(values, X if is_frame(X) and self.estimator is not None else values)

    def _tracker(self, name: str) -> Tracker:
        return Tracker(int(self.verbose), name)
