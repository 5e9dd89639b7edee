"""What a likelihood declares, and what it must give."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from skae._validation import Component

# Of single precision, after a few steps (a scaler and its inverse, say).
_ROUNDING, _MOST_ROUNDING = 1e-6, 0.25


class Likelihood(Component):
    """Base of all likelihoods: what a subclass declares, and what it must give.

    What `parameters_at_start` and `buffers_at_start` return comes back as keyword arguments of all
    methods that take ``**parameters``.
    """

    declares = ("parameters_at_start", "buffers_at_start")
    instead = "Keep what its formulas need as arguments of its constructor, or as buffers."

    #: Raw decoder outputs that one feature takes.
    n_outputs: int = 1
    #: Words for the support, as they stand in the error for a value outside it.
    support: str = "real numbers"
    #: True when the distribution of ``(x - shift) / scale`` is of the same family as that of x: the
    #: network then works on scaled data, and the log-probability gets the log-determinant.
    location_scale: bool = False
    #: Type of the values of `sample`; None stands for float64.
    sample_dtype: type | None = None
    #: Whether the total of a row is data, not something to be predicted: `log_prob`,
    #: `log_prob_zero`, `log_prob_entry`, `mean` and `sample` then take a keyword ``total`` of shape
    #: (n_rows, 1), and the mean of a row is proportional to it.
    given_total: bool = False
    #: Whether the columns are coupled by a softmax: the log-probability of a row is then the sum of
    #: `log_prob_entry` over its entries, less ``total * logsumexp(raw)``.
    softmax: bool = False
    #: Whether errors are squared and weighed by ``noise_variance(**parameters)``, of shape
    #: (n_features,) or (1,): sparse rows then take a way of their own through the Gram matrix of
    #: the network.
    squared_error: bool = False
    #: Decay of the weights that ``alpha="auto"`` stands for.
    decay: float = 1e-4
    #: Whether a zero has a probability, and not a density.
    has_zeros: bool = False
    #: Distance from the support, in the units of X, that is rounding however small a value is.
    resolution: float = 1e-9
    #: What may help where a new row lies a little outside; words that follow those of the error.
    remedy: str = ""

    def nearest(self, values: np.ndarray) -> np.ndarray:
        """Return the value of the support that is nearest to each of ``values``, all finite.

        A value inside comes back as it is. The default stands for a support of all real numbers,
        and for one that has only `inside` to tell it by.
        """
        return values

    def inside(self, values: np.ndarray) -> np.ndarray:
        """Return which of ``values`` lie in the support: the finite ones that `nearest` keeps."""
        return np.isfinite(values) & (values == self.nearest(values))

    def settled(self, values: np.ndarray) -> np.ndarray:
        """Return ``values``, with the nearest inside for those within rounding of the support.

        Rounding is a millionth of the value or `resolution`, whichever is more, and never more than
        a quarter: 1234567.5 is no whole number. Values farther outside come back as they are.
        """
        nearest = self.nearest(values)
        slack = (_ROUNDING * np.abs(values)).clip(self.resolution, _MOST_ROUNDING)
        with np.errstate(invalid="ignore"):  # infinity is not near anything
            return np.where(np.abs(values - nearest) <= slack, nearest, values)

    def default_scaling(self, sparse: bool) -> str | None:
        """Return the ``input_scaling`` that "auto" stands for, for dense or sparse X."""
        return None

    def raw_from_mean(self, mean: Tensor) -> Tensor:
        """Return the raw output whose distribution has this mean (the link function).

        Where the total of a row is given, it is the mean of a row whose total is ``mean.sum()``.
        """
        raise NotImplementedError

    def first_raw(self, mean: Tensor, used: Tensor) -> Tensor:
        """Return the raw output that the decoder starts at.

        ``mean`` and ``used`` of shape (n_features,) are the mean of each column, in the units that
        the network sees, and the share of its values that are not zero.
        """
        return self.raw_from_mean(mean)

    def parameters_at_start(self, mean: Tensor, variance: Tensor) -> dict[str, Tensor]:
        """Return starting values of the free parameters, each of shape (n_features,) or (1,).

        ``mean`` and ``variance`` of shape (n_features,) are those of the training columns, in the
        units that the network sees.
        """
        return {}

    def buffers_at_start(self, mean: Tensor, variance: Tensor) -> dict[str, Tensor]:
        """Return what is kept beside them and stays as it is, of the same shapes."""
        return {}

    def role(self, name: str) -> str:
        """Return "logarithm": the free parameters of a likelihood are."""
        return "logarithm"

    def log_prob(self, x: Tensor, raw: Tensor, **parameters: Tensor) -> Tensor:
        """Return log p(x_j | r_j) for every entry, of shape (n_rows, n_features), in nats.

        Summed over features it is the log-probability of the row.
        """
        raise NotImplementedError

    def log_prob_zero(self, raw: Tensor, **parameters: Tensor) -> Tensor:
        """Return log p(0 | r_j) for every entry, of shape (n_rows, n_features).

        It is for sparse rows, and not called where there is a `softmax`. Like `log_prob_entry` it
        looks at no entry but the one it is for, so it also takes a list of entries in the place of
        a row: ``raw`` of shape (1, n_outputs * n_entries), with the free parameters of the column
        of each entry, of shape (n_entries,), and the total of its row, of shape (1, n_entries).
        """
        zeros = raw.new_zeros(1, raw.shape[1] // self.n_outputs)
        return self.log_prob(zeros, raw, **parameters)

    def log_prob_entry(self, x: Tensor, raw: Tensor, **parameters: Tensor) -> Tensor:
        """Return what an entry adds to the log-probability of a row of zeros.

        The sum over all entries that are not zero, plus the sum of `log_prob_zero` over all
        columns, is the log-probability of the row.
        """
        return self.log_prob(x, raw, **parameters) - self.log_prob_zero(raw, **parameters)

    def prob_nonzero(self, raw: Tensor, **parameters: Tensor) -> Tensor:
        """Return the probability of each entry not to be zero, where zeros have one."""
        return -torch.expm1(self.log_prob_zero(raw, **parameters))

    def gradient_scale(self, **parameters: Tensor) -> Tensor | None:
        """Return factors of shape (n_features,) for the gradient with respect to raw, or None.

        With them an error counts alike in every scaled column, however well the column is known.
        """
        return None

    def mean(self, raw: Tensor, **parameters: Tensor) -> Tensor:
        """Return the mean of x given the raw output, of shape (n_rows, n_features)."""
        raise NotImplementedError

    def sample(self, raw: Tensor, generator: torch.Generator, **parameters: Tensor) -> Tensor:
        """Return one draw of x given each row of raw output, of shape (n_rows, n_features)."""
        raise NotImplementedError
