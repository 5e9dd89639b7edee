"""Which rows are odd, and why? The anomaly detector."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin, _fit_context
from sklearn.model_selection import check_cv

from skae._hints import HintsMixin
from skae._random import derive_seed, draw_seed
from skae._tables import validate_table
from skae.constraints import HasMethods, Interval, StrOptions
from skae.outliers.answers import AnswersMixin
from skae.outliers.calibration import threshold
from skae.outliers.containers import OwnEstimator, fit_own
from skae.outliers.deviations import Recipe, distinct_rows
from skae.outliers.ensemble import Ensemble, progress
from skae.outliers.fitting import fit_member, repeat_rows
from skae.outliers.folds import Judges, deal_out
from skae.outliers.network import fit_network

_AUTO_SHARE, _MOST_CALIBRATION_ROWS = 0.01, 10_000


@contextmanager
def _unchanged_on_error(detector):
    """Put the attributes of a detector back where something goes wrong, Ctrl-C too."""
    before = vars(detector).copy()
    try:
        yield
    except BaseException:
        vars(detector).clear()
        vars(detector).update(before)
        raise


class AutoencoderOutlierDetector(AnswersMixin, HintsMixin, OutlierMixin, BaseEstimator):
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
        transformers of skae) or only ``score_samples``. It is given DataFrames as the user gives
        them. None is a `DenoisingAETransformer` without a bottleneck and with "swap_gaussian"
        noise, trained for 500 steps, fewer below 200 rows.
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
    input_scaling : {"auto", "standard", "fourth_moment", "max"} or None, default="auto"
        How columns are scaled for the neighbours and for the default network, as in the
        transformers; "auto" is "standard" for dense X and "fourth_moment" for CSR. None takes them
        as they are, which is right where their sizes mean something (TF-IDF, one unit for all).
    cv : int, splitter or list of pairs, default=3
        The detector is fitted several times, each time without a part of the training rows, which
        are then scored as new rows are: `offset_` and `p_values` come from these scores. An int, at
        least 2, is the number of folds. A splitter of scikit-learn, or pairs of training and test
        rows, tell which rows: ``ShuffleSplit(1, test_size=0.2)`` fits once and holds out a fifth.
        Time grows with the number of fits, in `fit` and for new rows.
    n_references : int, default=10000
        Most training rows, at least 1, that each fit compares rows with: distinct ones, drawn at
        random. With a number for ``contamination`` at most 1,000, a row as often as it occurs.
    device : str, default="auto"
        Where the default network is trained, as in the transformers.
    callbacks : list of skorch callbacks or None, default=None
        Called in the training of each default network. An estimator of your own has its own
        ``device`` and ``callbacks``; these beside it are an error.
    verbose : int, default=0
        1 shows progress bars for fits and scores that take more than a second.
    random_state : int, RandomState or None, default=None
        Source of all draws. An int gives the same detector every time.

    Attributes
    ----------
    estimators_ : list of estimators
        The fitted networks or clones of ``estimator``, one for each fold.
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
    the training set. A training row is known again within rounding, in either format; of copies in
    several folds, the fits without one of them are averaged.

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
        "input_scaling": [StrOptions({"auto", "standard", "fourth_moment", "max"}), None],
        "cv": [
            Interval(Integral, 2, None, closed="left"),
            HasMethods(["split", "get_n_splits"]),
            list,
            tuple,
        ],
        "n_references": [Interval(Integral, 1, None, closed="left")],
        "device": [str],
        "callbacks": [list, tuple, None],
        "verbose": ["verbose"],
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
        input_scaling="auto",
        cv=3,
        n_references=10_000,
        device="auto",
        callbacks=None,
        verbose=0,
        random_state=None,
    ):
        self.estimator = estimator
        self.contamination = contamination
        self.criterion = criterion
        self.fdr = fdr
        self.input_scaling = input_scaling
        self.cv = cv
        self.n_references = n_references
        self.device = device
        self.callbacks = callbacks
        self.verbose = verbose
        self.random_state = random_state

    # Training -----------------------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, sample_weight=None):
        """Learn what rows are like.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            Training rows: normal ones, or with a share ``contamination`` of others.
        y : None
            Ignored; there for pipelines.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights, at least 0. With weight 2 a row counts as if it were there twice, with weight 0
            it is left out. Weights that are no whole numbers are brought to a mean of one, and
            rows repeated or left out such that a row stands for its weight rounded up or down.

        Returns
        -------
        self : object
            The fitted detector.

        Raises
        ------
        ValueError
            Among others: the scores of some training rows are no finite numbers.

        Notes
        -----
        A fit that fails or is interrupted leaves the detector as it was.
        """
        with _unchanged_on_error(self):
            return self._fit(X, sample_weight)

    def _fit(self, given, sample_weight):
        rows = validate_table(self, given, reset=True)
        seed = draw_seed(self.random_state)
        combined = self._choose_score()
        index = None if sample_weight is None else repeat_rows(rows, sample_weight)
        fit_estimator = self._choose_estimator(given, index)
        X = rows if index is None else rows[index]
        held_out = self._hold_out(rows, index, derive_seed(seed, 1) % 2**32)
        learn = partial(
            fit_member,
            references=distinct_rows(X, np.flatnonzero(~held_out.all(axis=1))),
            recipe=self._recipe(),
            combined=combined,
            fit_estimator=fit_estimator,
        )
        members = []
        with progress(bool(self.verbose), held_out.shape[1], "Fitting", "fit") as bar:
            for k, out in enumerate(held_out.T):
                members.append(learn(X, np.flatnonzero(~out), derive_seed(seed, 2, k)))
                bar.update()
        self._ensemble, self._combined = Ensemble(members, Judges(X, held_out)), combined
        self.estimators_ = [
            one.estimator.estimator if isinstance(one.estimator, OwnEstimator) else one.estimator
            for one in members
        ]
        self._calibrate(X, np.flatnonzero(held_out.any(axis=1)), seed)
        return self

    def _hold_out(self, rows, index: np.ndarray | None, seed: int) -> np.ndarray:
        """Return which rows each member does not learn from, a row as often as its weight says."""
        if isinstance(self.cv, Integral):
            return deal_out(rows if index is None else rows[index], self.cv, seed)
        held_out = deal_out(rows, check_cv(self.cv), seed)
        return held_out if index is None else held_out[index]

    def _calibrate(self, X, held_out: np.ndarray, seed: int) -> None:
        """Fix what is odd, by the scores of rows that were not learned from, where there are."""
        rows = self._choose_rows(held_out, seed)
        scores = self._ensemble.scores(X[rows] if len(rows) else X, bool(self.verbose))
        n_bad = np.count_nonzero(~np.isfinite(scores))
        if n_bad:
            raise ValueError(
                f"The scores of {n_bad} of {len(scores)} training rows are NaN or infinite, with "
                f"estimator={self.estimators_[0]!r}. Look for values of X that are too large, and "
                "at what the estimator makes of these rows."
            )
        scores = np.sort(scores)
        self.offset_ = threshold(scores, self.contamination if self._robust else _AUTO_SHARE)
        self.calibration_scores_ = scores if len(rows) else scores[:0]

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

    def _choose_estimator(self, given, index) -> Callable:
        """Return what fits the network, or the estimator given, to some rows."""
        settings = {"device": self.device, "callbacks": self.callbacks}
        if self.estimator is None:
            return partial(fit_network, input_scaling=self.input_scaling, **settings)
        for name, value in settings.items():
            if value not in ("auto", None):
                raise ValueError(
                    f"{name} is for the default network. Got {name}={value!r} beside "
                    f"{self.estimator!r}: give it to the estimator, or leave estimator at None."
                )
        return partial(fit_own, self.estimator, given, index=index)

    def _recipe(self) -> Recipe:
        if not self._robust:
            return Recipe(
                self._weights,
                self.n_references,
                self._n_neighbors,
                self._locality,
                input_scaling=self.input_scaling,
            )
        return Recipe(
            self._robust_weights,
            min(self.n_references, self._n_references_robust),
            self._n_neighbors_robust,
            share=max(self._share_robust, self.contamination),
            contamination=self.contamination,
            input_scaling=self.input_scaling,
        )

    def _example(self, name: str, own: str) -> str:
        if name == "estimator":
            return f", such as estimator=DenoisingAETransformer({own}=...)"
        return super()._example(name, own)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
