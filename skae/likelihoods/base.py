"""What a likelihood declares, and what it must give."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor

from skae._validation import Component

# Of single precision, after a few steps (a scaler and its inverse, say).
_ROUNDING, _MOST_ROUNDING = 1e-6, 0.25

#: How the log-probability of a row may be made up: see `Likelihood.structure`.
STRUCTURES = ("independent", "softmax", "squared_error")


class Support(ABC):  # noqa: B024 - `nearest` or `inside`, either is enough
    """The values that a likelihood can explain, told by `nearest` (or by `inside` alone)."""

    #: Words for the support, as they stand in the error for a value outside it.
    support: str = "real numbers"
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


class Likelihood(Support, Component):
    """Base of all likelihoods: what a subclass declares, and what it must give.

    What `parameters_at_start` and `buffers_at_start` return comes back as keyword arguments of all
    methods that take ``**parameters``.
    """

    declares = ("parameters_at_start", "buffers_at_start")
    also_given = ("total",)
    instead = "Keep what its formulas need as arguments of its constructor, or as buffers."

    #: Raw decoder outputs that one feature takes.
    n_outputs: int = 1
    #: True when the distribution of ``(x - shift) / scale`` is of the same family as that of x: the
    #: network then works on scaled data, and the log-probability gets the log-determinant.
    location_scale: bool = False
    #: Type of the values of `sample`; None stands for float64.
    sample_dtype: type | None = None
    #: Whether the distribution is conditional on the total of a row (its size factor), which is
    #: then data and not something to be predicted: `log_prob`, `log_prob_zero`, `log_prob_entry`,
    #: `mean` and `sample` take a keyword ``total`` of shape (n_rows, 1), and the mean of a row is
    #: proportional to it.
    conditional_on_total: bool = False
    #: How the log-probability of a row is made up, by which sparse rows are trained on:
    #: "independent", a sum of `log_prob` over columns; "softmax", the sum of `log_prob_entry` over
    #: the entries of the row, less ``total * logsumexp(raw)``, with one output a feature;
    #: "squared_error", independent columns whose squared errors are divided by
    #: ``noise_variance(**free)``, of shape (n_features,) or (1,): the loss then goes through the
    #: Gram matrix of the hidden rows.
    structure: str = "independent"
    #: Whether there is a point mass at zero: a zero has a probability, and not a density.
    has_zero_mass: bool = False

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if cls.structure not in STRUCTURES:
            raise TypeError(
                f"{cls.__name__}.structure must be one of {', '.join(STRUCTURES)}. Got "
                f"{cls.structure!r} instead."
            )
        if cls.structure == "softmax" and not (cls.conditional_on_total and cls.n_outputs == 1):
            raise TypeError(
                f"{cls.__name__}.structure is 'softmax', which shares out the total of a row among "
                "its columns: conditional_on_total must be True and n_outputs 1. Got "
                f"{cls.conditional_on_total!r} and {cls.n_outputs!r} instead."
            )

    @abstractmethod
    def raw_from_mean(self, mean: Tensor) -> Tensor:
        """Return the raw output whose distribution has this mean (the link function).

        Where the total of a row is given, it is the mean of a row whose total is ``mean.sum()``.
        """

    def first_raw(self, mean: Tensor, used: Tensor) -> Tensor:
        """Return the raw output that the decoder starts at.

        ``mean`` and ``used`` of shape (n_features,) are the mean of each column, in the units that
        the network sees, and the share of its values that are not zero.
        """
        return self.raw_from_mean(mean)

    def parameters_at_start(self, mean: Tensor, variance: Tensor) -> dict[str, Tensor]:
        """Return starting values of the free parameters, each of shape (n_features,) or (1,).

        ``mean`` and ``variance`` of shape (n_features,) are those of the training columns, in the
        units that the network sees; where a training starts at a linear model of them, the variance
        is what that leaves of it.
        """
        return {}

    def buffers_at_start(self, mean: Tensor, variance: Tensor) -> dict[str, Tensor]:
        """Return what is kept beside them and stays as it is, of the same shapes.

        ``mean`` and ``variance`` are always those of the columns.
        """
        return {}

    def role(self, name: str) -> str:
        """Return "logarithm": the free parameters of a likelihood are."""
        return "logarithm"

    @abstractmethod
    def log_prob(self, x: Tensor, raw: Tensor, **parameters: Tensor) -> Tensor:
        """Return log p(x_j | r_j) for every entry, of shape (n_rows, n_features), in nats.

        Summed over features it is the log-probability of the row.
        """

    def log_prob_zero(self, raw: Tensor, **parameters: Tensor) -> Tensor:
        """Return log p(0 | r_j) for every entry, of shape (n_rows, n_features).

        It is for sparse rows, and not called where the `structure` is "softmax". Like
        `log_prob_entry` it looks at no entry but the one it is for, so it also takes a list of
        entries in the place of a row: ``raw`` of shape (1, n_outputs * n_entries), with the free
        parameters of the column of each entry, of shape (n_entries,), and the total of its row, of
        shape (1, n_entries).
        """
        zeros = raw.new_zeros(1, raw.shape[1] // self.n_outputs)
        return self.log_prob(zeros, raw, **parameters)

    def log_prob_entry(self, x: Tensor, raw: Tensor, **parameters: Tensor) -> Tensor:
        """Return what an entry adds to the log-probability of a row of zeros.

        The sum over all entries that are not zero, plus the sum of `log_prob_zero` over all
        columns, is the log-probability of the row.
        """
        return self.log_prob(x, raw, **parameters) - self.log_prob_zero(raw, **parameters)

    def nonzero_mass(self, raw: Tensor, **parameters: Tensor) -> Tensor:
        """Return one less the point mass at zero, for each entry; see `has_zero_mass`."""
        return -torch.expm1(self.log_prob_zero(raw, **parameters))

    def variance_weight(self, **parameters: Tensor) -> Tensor | None:
        """Return factors of shape (n_features,) for the gradient with respect to raw, or None.

        They undo the division by the variance, so that an error counts alike in every scaled
        column, however well the column is known: the gradient of beta-NLL with beta = 1 for the
        mean (Seitzer et al. 2022, "On the pitfalls of heteroscedastic uncertainty estimation with
        probabilistic neural networks", section 4), here with one variance a column and divided by
        the mean of all. Free parameters keep the gradient of the log-likelihood.
        """
        return None

    @abstractmethod
    def mean(self, raw: Tensor, **parameters: Tensor) -> Tensor:
        """Return the mean of x given the raw output, of shape (n_rows, n_features)."""

    @abstractmethod
    def sample(self, raw: Tensor, generator: torch.Generator, **parameters: Tensor) -> Tensor:
        """Return one draw of x given each row of raw output, of shape (n_rows, n_features)."""
