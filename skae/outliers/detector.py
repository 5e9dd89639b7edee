"""Which rows are odd, and why? The anomaly detector."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator, OutlierMixin

from skae._blas import one_blas_thread
from skae._hints import HintsMixin
from skae._random import Stream, derive_seed, draw_seed, numpy_generator
from skae._sklearn import fit_context
from skae._tables import check_weights
from skae._validation import resolve, restored_on_error
from skae.constraints import HasMethods, Interval, Names, StrOptions
from skae.outliers.answers import AnswersMixin
from skae.outliers.calibration import spread_weights, threshold
from skae.outliers.criteria import CRITERIA, Criterion
from skae.outliers.ensemble import Ensemble
from skae.outliers.folds import Judges, deal_out
from skae.outliers.network import can_reconstruct, scaling_of
from skae.outliers.rows import Columns, Rows, is_frame
from skae.outliers.same_rows import SameRows
from skae.outliers.training import Settings, distinct_rows, fit_scores

_AUTO_SHARE, _MOST_CALIBRATION_ROWS = 0.01, 10_000
# "log1p" is for the input of a network alone: no distance is taken in it.
_SCALINGS = ("standard", "fourth_moment", "common", "max")


class AutoencoderOutlierDetector(HintsMixin, AnswersMixin, OutlierMixin, BaseEstimator):
    r"""Anomaly detector: neighbours and a network together.

    Three deviations of a row are added up: from the nearest training row, from the combination of
    the ten nearest that comes closest to it, and from its reconstruction by a denoising
    autoencoder. The sum is divided by a small power of the same sum for the row's neighbours, so
    that it takes less to be odd where rows lie close. Because all deviations are squared errors of
    single columns, every score is a sum of shares of the columns.

    Parameters
    ----------
    estimator : estimator or None, default=None
        What reconstructs rows, cloned and fitted: any object with ``reconstruct`` (the four
        transformers of skae) or only ``score_samples`` (such as a pipeline). It gets rows as they
        are given, a DataFrame as a DataFrame. None is a `DenoisingAETransformer` without a
        bottleneck and with "swap_gaussian" noise, trained for 500 steps, fewer below 200 rows.
    contamination : "auto" or float, default="auto"
        Share of bad rows in the training set, in (0, 0.5]; it fixes ``offset_``, and that share of
        the rows, the farthest from the tenth that is nearest to them, is kept from the network.
        "auto" trusts all training rows and puts ``offset_`` where one in a hundred rows like them
        is below. Either share is promised for new rows drawn like the training rows; with a number,
        for the training rows as well.
    criterion : str or Criterion, default="auto"
        "neighbours_and_network" is described above. "robust_neighbours_and_network" takes the mean
        squared distance to the tenth of the training rows that is nearest (at least 20 rows, and
        ``contamination`` if that is more) in the place of the distances to the nearest row and to
        the combination. "combined" is the robust one if ``contamination`` is a number, else the
        other. "log_likelihood" is ``estimator.score_samples`` as it is, with rows of whatever the
        estimator takes; "auto" is "combined" wherever the estimator has ``reconstruct``. Objects
        have parameters, the weights of the parts among them: see `NeighboursAndNetwork`.
    fdr : float or None, default=None
        If given, in (0, 1): `predict` raises alarms at this false-discovery rate over the rows it
        gets, instead of at ``offset_``. It warns where no row could be odd enough.
    input_scaling : {"auto", "standard", "fourth_moment", "common", "max"} or None, default="auto"
        How columns are scaled for the neighbours and for the default network, as in the
        transformers; "auto" is "standard" for dense X and "fourth_moment" for CSR. None takes them
        as they are, which is right where their sizes mean something (TF-IDF, one unit for all).
    cv : int, splitter or list of splits, default=3
        Number of fits, at least 2, each without one fold of the training rows, whose scores fix
        ``offset_`` and `p_values`. Or a splitter of scikit-learn: ``ShuffleSplit(1,
        test_size=0.2)`` fits once and holds out a fifth. Time grows with the number of fits.
    n_references : int, default=10000
        Most training rows, at least 1, that each fit compares rows with: distinct ones, drawn at
        random. The robust criterion takes at most 1,000, a row as often as it occurs.
    device : str, default="auto"
        Where the default network is trained, as in the transformers.
    callbacks : list of skorch callbacks or None, default=None
        Called in the training of each default network. An estimator of your own has its own
        ``device`` and ``callbacks``; these beside it are an error.
    verbose : int, default=0
        1 shows progress bars for work that takes more than a second, in `fit` and in whatever
        scores rows; 2 and more print a line for each epoch of the network of the default as well.
    random_state : int, RandomState or None, default=None
        Source of all draws. An int gives the same detector every time.

    Attributes
    ----------
    estimators_ : list of estimators
        The fitted networks, one for each fold; none where the network has no weight.
    criterion_ : Criterion
        The criterion of the fit: what a name came to.
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

        d(x) &= \frac{1}{2.3} \left[\frac{\|x - n(x)\|^2}{m_1} + \frac{\|x - c(x)\|^2}{m_2}
        + 0.3\, \frac{\sum_j (x_j - r_j(x))^2 / s_j^2}{m_3}\right] \\
        \text{score}(x) &= -\frac{d(x)}{\max(t(x), 0.1)^{1/2}}

    with :math:`m` the medians over the training rows, :math:`s_j` the root mean square error of the
    network in column j, and :math:`t(x)` the mean of :math:`\sqrt d` over the ten neighbours. The
    combination is that of locally linear embedding. Scores have no unit; about -1 is usual.

    Scales, networks and their errors are fitted once for each fold, without the rows of that fold.
    A training row is scored by the fit that has not learned from it, and compared with the *other*
    rows, unless it occurs more than once. A new row gets the mean of the scores of all fits. So
    training rows are scored as new rows drawn like them are, and `fit_predict` finds odd rows in
    the training set. A training row is known again within rounding: rows are the same where no
    cell differs by more than about 1e-6 of its size and of the usual deviation in its column, so
    that a row that was in a file or in single precision keeps its score. Right outside of that it
    is a new row, and the training row its neighbour.

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
        "criterion": [StrOptions(["auto", "combined"]), Names(CRITERIA), Criterion],
        "fdr": [Interval(Real, 0, 1, closed="neither"), None],
        "cv": [
            Interval(Integral, 2, None, closed="left"),
            HasMethods(["split", "get_n_splits"]),
            list,
            tuple,
        ],
        "n_references": [Interval(Integral, 1, None, closed="left")],
        "input_scaling": [StrOptions(["auto", *_SCALINGS]), None],
        "device": [str],
        "callbacks": [list, tuple, None],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

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

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, sample_weight=None):
        """Learn what rows are like.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            Training rows: normal ones, or with a share ``contamination`` of others.
        y : None
            Ignored; there for pipelines.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights, not negative. A weight of 2 is the row given twice, one of 0 the row left out.
            Weights that are no whole numbers are brought to a mean of one. An ``estimator`` gets
            them if its ``fit`` takes them, else each row as often as its weight, rounded, says.

        Returns
        -------
        self : object
            The fitted detector. Where anything fails, it is what it was before.

        Raises
        ------
        ValueError
            The estimator scores or reconstructs training rows by what is not a number.
        """
        with restored_on_error(self), one_blas_thread():
            self._fit(X, sample_weight)
        return self

    def _fit(self, X, sample_weight) -> None:
        criterion = self._choose_criterion()
        numbers = criterion.has_shares or self._robust or self.estimator is None
        rows = self._validate_rows(X, reset=True, numbers=numbers)
        weight = _weights(sample_weight, rows)
        self._check_settings_of_network()
        seed = draw_seed(self.random_state)
        held_out = deal_out(rows.values, weight, self.cv, derive_seed(seed, Stream.FOLDS, bits=32))
        kept = np.flatnonzero(weight)
        rows, weight, held_out = rows.take(kept), weight[kept], held_out[kept]
        same_rows = SameRows(rows.values)
        # Rows that no member learns from are not even compared with.
        learned = (held_out < weight[:, None]).any(axis=1)
        distinct = distinct_rows(rows, np.where(learned, weight, 0.0), same_rows)
        settings = self._settings(criterion, sp.issparse(rows.values))
        members = [
            fit_scores(
                rows,
                weight - held_out[:, k],
                distinct,
                same_rows,
                settings,
                derive_seed(seed, Stream.MEMBERS, k, bits=31),
                f"Fold {k + 1} of {held_out.shape[1]}",
            )
            for k in range(held_out.shape[1])
        ]
        columns = Columns(X) if rows.given is not rows.values and is_frame(X) else None
        judges = Judges(same_rows, held_out)
        ensemble = Ensemble(members, judges, sp.issparse(rows.values), columns)
        calibration = np.minimum(weight, held_out.sum(axis=1))
        scores = self._training_scores(ensemble, rows, weight, calibration, seed)
        self.offset_ = threshold(scores, self.contamination if self._robust else _AUTO_SHARE)
        self.calibration_scores_ = scores if calibration.any() else scores[:0]
        self.estimators_ = [m.estimator for m in members if m.estimator is not None]
        self.criterion_, self._ensemble = criterion, ensemble

    @property
    def _robust(self) -> bool:
        return self.contamination != "auto"

    def _choose_criterion(self) -> Criterion:
        name = self.criterion
        if isinstance(name, str) and name == "auto":
            name = "combined" if can_reconstruct(self.estimator) else "log_likelihood"
        if isinstance(name, str) and name == "combined":
            name = ("robust_" if self._robust else "") + "neighbours_and_network"
        criterion = resolve(name, CRITERIA)
        if criterion.needs_reconstruct() and not can_reconstruct(self.estimator):
            raise ValueError(
                f"criterion={self.criterion!r} needs an estimator with a method reconstruct. "
                f"Got {self.estimator!r}. Set criterion='log_likelihood'."
            )
        return criterion

    def _check_settings_of_network(self) -> None:
        for name, default in (("device", "auto"), ("callbacks", None)):
            value = getattr(self, name)
            if self.estimator is not None and not (value is default or value == default):
                raise ValueError(
                    f"{name} is for the default network. Got {name}={value!r} beside "
                    f"estimator={self.estimator!r}. Set it there."
                )

    def _settings(self, criterion: Criterion, sparse: bool) -> Settings:
        network = {
            "input_scaling": scaling_of(self.input_scaling, sparse),
            "device": self.device,
            "callbacks": self.callbacks,
            "verbose": self.verbose,
        }
        return Settings(
            criterion,
            self.estimator,
            self.contamination if self._robust else 0.0,
            self.n_references,
            self.input_scaling,
            network,
            int(self.verbose),
        )

    def _training_scores(self, ensemble, rows, weight, calibration, seed: int) -> np.ndarray:
        """Return the sorted scores of rows that are new to their judges, as often as they weigh.

        All where a share of them is promised. Where there are none, of all rows.
        """
        weight = calibration if calibration.any() else weight
        index = np.flatnonzero(weight)
        if not self._robust and len(index) > _MOST_CALIBRATION_ROWS:
            draws = numpy_generator(seed, Stream.CALIBRATION_ROWS)
            index = np.sort(draws.permutation(index)[:_MOST_CALIBRATION_ROWS])
        scores = ensemble.raw_scores(rows.take(index), self._tracker("Training rows"))
        n_bad = np.count_nonzero(~np.isfinite(scores))
        if n_bad:
            raise ValueError(
                f"The scores of {n_bad} of {len(scores)} training rows are NaN or infinite, with "
                f"estimator={ensemble.members[0].estimator!r}. Look for values of X that are too "
                "large, and at what the estimator makes of these rows."
            )
        return spread_weights(scores, weight[index])

    def _example(self, name: str, own: str) -> str:
        if name == "estimator":
            return f", such as estimator=DenoisingAETransformer({own}=...)"
        return super()._example(name, own)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _weights(sample_weight, rows: Rows) -> np.ndarray:
    """Return the weight of each row: whole numbers, or numbers with a mean of one."""
    weight = check_weights(sample_weight, rows.values)
    return weight if (weight == np.rint(weight)).all() else weight / weight[weight > 0].mean()
