"""What a fitted estimator answers: codes, reconstructions, new rows, log-likelihoods."""

from __future__ import annotations

from numbers import Integral

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from skae._random import draw_seed
from skae._tables import to_sparse_interface, validate_table, weighed_rows
from skae._training.fitted import FittedModel
from skae._training.net import AutoencoderNet
from skae._validation import within_support
from skae.estimators.units import check_units_asked, names_of_features, table_of_units
from skae.likelihoods import Likelihood
from skae.likelihoods.choice import brought_inside


class AnswersMixin(ClassNamePrefixFeaturesOutMixin, TransformerMixin):
    """The methods of a fitted estimator; its model answers."""

    # scikit-learn lets `set_output` act on a ``transform`` that stands in a TransformerMixin.

    net_: AutoencoderNet
    likelihood_: Likelihood
    n_components_: int
    n_features_in_: int
    _model: FittedModel
    _fitted_on: object
    _chose_likelihood: bool

    def transform(self, X):
        """Return the code of each row.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        codes : ndarray of shape (n_samples, n_components)
            The same for a row whichever rows stand beside it. Codes without a prior lie on their
            principal axes, of mean zero over the training rows and the largest variance first, but
            for sparse ones; latents of a prior are ordered by what they tell. The column that a
            code goes with most goes up with it. So it is after the first fit; later ones keep axes.
        """
        rows, *_ = self._validate_rows(X)
        return self._model.codes(rows)

    def inverse_transform(self, X, sparse_output=False):
        """Return the mean of the reconstruction of each code, in the units of the training rows.

        For counts, rows have the mean total of the training rows.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_components)
            Codes.
        sparse_output : bool, default=False
            Whether to return CSR (of the kind that scikit-learn's setting ``sparse_interface``
            names), in which a row holds the entries that are most likely not to be
            zero, as many as are expected not to be (for a Gaussian likelihood, which knows no
            zeros: the largest, as many as training rows have), and the mean of each.

        Returns
        -------
        rows : ndarray or CSR of shape (n_samples, n_features)
            Reconstructed rows.
        """
        check_is_fitted(self)
        codes = check_array(X, accept_sparse="csr", dtype=[np.float64, np.float32])
        if codes.shape[1] != self.n_components_:
            raise ValueError(
                f"X has {codes.shape[1]} features, but inverse_transform of {type(self).__name__} "
                f"is expecting {self.n_components_} features (n_components) as input."
            )
        return to_sparse_interface(self._model.decode(codes, sparse=sparse_output), codes)

    def reconstruct(self, X, sparse_output=False):
        """Return the reconstruction of each row: ``inverse_transform(transform(X))``.

        For counts, the reconstruction of a row has the total of the row.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            Rows.
        sparse_output : bool, default=False
            Whether to return CSR, as `inverse_transform` does.

        Returns
        -------
        rows : ndarray or CSR of shape (n_samples, n_features)
            Reconstructed rows, in the units of X.
        """
        rows, *_ = self._validate_rows(X)
        means = self._model.decode(self._model.codes(rows), rows, sparse_output)
        return to_sparse_interface(means, rows)

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
        rows = self._model.sample(int(n_samples), draw_seed(random_state))
        return to_sparse_interface(rows, self._fitted_on)

    def score_samples(self, X):
        """Return the log-likelihood of each row, in nats, with every normalising constant.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Higher is better. In the units of X, whatever the scaling; for counts, given the total
            of the row. What the class says of its score decides whether models of different size
            can be compared by it; a density (Gaussian) and a probability (Bernoulli) never can.

            Scores are finite however far out a row is. With ``likelihood="auto"`` each value
            outside the support that was chosen costs 1,000 nats and the logarithm of one plus its
            distance, and stands for the nearest value inside otherwise.
        """
        rows, cost, _ = self._validate_rows(X)
        return self._model.scores(rows) - cost

    def score(self, X, y=None, sample_weight=None):
        """Return the mean of `score_samples`.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            Rows.
        y : None
            Ignored; there for grid searches.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights, not negative. A row of weight 0 is not looked at.

        Returns
        -------
        score : float
            Weighted mean of the log-likelihoods of the rows, in nats.
        """
        rows, cost, weight = self._validate_rows(X, sample_weight)
        return float(np.average(self._model.scores(rows) - cost, weights=weight))

    def describe_units(self, X=None, n_features=5, n_rows=3, *, scaled=True, feature_names=None):
        """Return what each unit of the code stands for: how often, what it writes, on which rows.

        A unit is active on a row where its code is not zero. Sparse codes have units to read;
        those of other transformers are active on all rows, and have two ends.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features), default=None
            Rows to look at. None are the training rows, of which codes are kept (10,000 at most,
            each as often as it weighs), but not where they stood: the table then has no "rows".
        n_features : int or None, default=5
            How many features are named for each unit, at least 1; None is all.
        n_rows : int, default=3
            How many rows are named for each unit, at least 0.
        scaled : bool, default=True
            Whether weights are in units in which features can be compared: each feature divided by
            its scale (of ``input_scaling``) or, where the likelihood takes rows as they are, by its
            standard deviation. With False they are in the units of X, and those of large numbers
            come first: right for images and the like.
        feature_names : array-like of shape (`n_features_in_`,), default=None
            What features are called, for sparse rows carry no names. None is `feature_names_in_`,
            or "x0", "x1" and so on.

        Returns
        -------
        units : DataFrame of shape (n_components, 5)
            A row for each unit, in the order of the codes, whatever `set_output` says, with columns

            - "rate": the share of rows on which the unit is active;
            - "activation": the mean size of its code over these rows, NaN for a unit without any;
            - "features": the names of the features that it writes most, as a list, the largest
              weight in size first;
            - "weights": the weights of these features, as a list: what one more of the unit adds to
              the mean of the feature. With one linear layer as decoder (``hidden_layer_sizes=()``)
              and a Gaussian likelihood that is the weight of the layer; otherwise the mean of the
              slope over rows on which the unit is active, over 64 of them if there are more. For
              likelihoods that are given totals, of a row with the mean total;
            - "rows": the rows on which its code is largest, as a list of labels of a DataFrame's
              index, or of positions.

            Both lists of a unit that is active on no row are empty.

        Raises
        ------
        InvalidParameterError
            ``n_features``, ``n_rows`` or ``scaled`` is not one of the values above.
        ValueError
            There is not one name for each feature.
        """
        check_is_fitted(self)
        asked = {"n_features": n_features, "n_rows": n_rows, "scaled": scaled}
        check_units_asked(**asked)
        codes, labels = self._model.training_codes, None
        if X is not None:
            rows, *_ = self._validate_rows(X)
            codes = self._model.codes(rows)
            labels = X.index if hasattr(X, "iloc") else np.arange(len(codes))
        own = getattr(self, "feature_names_in_", None)
        names = names_of_features(feature_names, own, self.n_features_in_)
        return table_of_units(self._model, codes, names, labels, **asked)

    def _validate_rows(self, X, sample_weight=None) -> tuple:
        """Return rows in the support of the likelihood, what each score loses by that, weights."""
        check_is_fitted(self)
        X, weight = weighed_rows(validate_table(self, X, reset=False), sample_weight)
        if self._chose_likelihood:
            return *brought_inside(X, self.likelihood_), weight
        names = getattr(self, "feature_names_in_", None)
        return within_support(X, self.likelihood_, names, self.likelihood_.remedy), 0.0, weight

    @property
    def weight_density_(self):
        """Share of weights, of those that ``alpha`` acts on, that are not exactly zero."""
        check_is_fitted(self)
        return self._model.weight_density

    @property
    def module_(self):
        """The torch module: encoder, bottleneck, decoder and likelihood."""
        check_is_fitted(self)
        return self.net_.module_
