"""What do units stand for? What each of them writes: features with bars, or images."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any

import numpy as np

from skae.plotting.display import COLOURS, Display, check_axes, same_length, shortened
from skae.plotting.reconstructed import names_after
from skae.plotting.steps import needs, parts_of

_ADDS, _TAKES = COLOURS[0], COLOURS[4]
# A unit's place is one wide: names end, and bars begin, in the middle of it.
_MIDDLE, _LONGEST_BAR = 0.52, 0.42


class UnitsDisplay(Display):
    """What some units write, with the share of rows on which each is active.

    Features with a bar each: blue adds, vermilion takes away. Or images of what a unit adds (red)
    and takes away (blue), each from its own least to its own largest weight.

    Parameters
    ----------
    units : array-like of shape (n_units,)
        Numbers or names of the units.
    rates : array-like of shape (n_units,)
        Share of rows on which each is active.
    weights : list of array-like
        What one more of each unit adds to its features: as many as it has ``features``; of images
        all, in the order of the cells.
    features : list of list of str, default=None
        Names of the features of each unit, in the order of its weights. Not needed for images.
    image_shape : tuple of int, default=None
        Height and width, and 3 for colours, if weights are images.

    Attributes
    ----------
    bars_ : list of matplotlib.container.BarContainer
        The bars of each unit, but for images.
    mesh_ : matplotlib.image.AxesImage or None
        The images, as a large one.
    ax_, figure_ : matplotlib.axes.Axes, matplotlib.figure.Figure
        Where they were drawn.

    See Also
    --------
    UnitsDisplay.from_estimator : Of a fitted estimator.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skae import SparseAutoencoderTransformer
    >>> from skae.plotting import UnitsDisplay
    >>> X = load_wine(as_frame=True).data
    >>> sparse = SparseAutoencoderTransformer(
    ...     8,
    ...     sparsity="topk",
    ...     n_active=2,
    ...     hidden_layer_sizes=(),
    ...     max_iter=20,
    ...     tol=0.1,
    ...     random_state=0,
    ... ).fit(X)
    >>> display = UnitsDisplay.from_estimator(sparse, X, n_units=4)
    >>> len(display.features), len(display.features[0])
    (4, 5)
    """

    def __init__(self, *, units, rates, weights, features=None, image_shape=None):
        self.units = units
        self.rates = rates
        self.weights = weights
        self.features = features
        self.image_shape = image_shape

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X=None,
        n_units=6,
        *,
        units=None,
        n_features=5,
        image_shape=None,
        feature_names=None,
        scaled=True,
        ax=None,
    ):
        """Draw units of a fitted estimator.

        Parameters
        ----------
        estimator : estimator, Pipeline or search
            Fitted, with ``describe_units``. Of a pipeline, features are those that its last step
            sees.
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features), default=None
            Rows; None are the training rows.
        n_units : int, default=6
            How many units are shown, at least 1: those that are active on most rows.
        units : array-like of int, default=None
            The numbers of the units that are shown, instead of ``n_units``.
        n_features : int, default=5
            How many features are named for each unit.
        image_shape : tuple of int, default=None
            Height and width, and 3 for colours, if rows are images. Weights are then in the units
            of X, whatever ``scaled``.
        feature_names : array-like of str, default=None
            Names of the columns; None are those of a DataFrame or of a step of the pipeline, else
            "x0" and so on.
        scaled : bool, default=True
            Whether columns are divided by their scale, so that they can be compared.
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None is a new figure.

        Returns
        -------
        display : UnitsDisplay

        Raises
        ------
        NotFittedError
            The estimator is not fitted.
        ValueError
            It has no ``describe_units``, there is no such unit, or a shape does not fit.
        """
        check_axes(ax, cls)
        before, last = parts_of(estimator)
        needs(last, ("describe_units",), cls)
        names = names_after(X, before) if feature_names is None else feature_names
        for step in before if X is not None else ():
            X = step.transform(X)
        asked = {"n_features": n_features, "scaled": scaled, "feature_names": names}
        if image_shape is not None:  # all weights, by their places
            places = np.arange(last.n_features_in_)
            asked = {"n_features": None, "scaled": False, "feature_names": places}
        table = last.describe_units(X, n_rows=0, **asked)
        table = table.iloc[_chosen(table["rate"].to_numpy(), n_units, units)]
        features, weights = table["features"].tolist(), table["weights"].tolist()
        if image_shape is not None:
            pairs = zip(features, weights, strict=True)
            features, weights = None, [_in_order(*pair, len(places)) for pair in pairs]
        return cls(
            units=table.index.to_numpy(),
            rates=table["rate"].to_numpy(),
            weights=weights,
            features=features,
            image_shape=image_shape,
        ).plot(ax)

    def plot(self, ax=None):
        """Draw the units.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None is a new figure.

        Returns
        -------
        self : UnitsDisplay

        Raises
        ------
        ValueError
            The shapes do not fit each other.
        """
        check_axes(ax, type(self))
        weights = self._checked()
        self.bars_, self.mesh_ = [], None
        if self.image_shape is None:
            self._draw_bars(ax, weights)
        else:
            self._draw_images(ax, weights)
        self.ax_.set(xticks=[], yticks=[])
        self.ax_.spines[:].set_visible(False)
        return self

    def _checked(self) -> list[np.ndarray]:
        weights = [np.asarray(one, float) for one in self.weights]
        same_length(len(weights), "the units", units=self.units, rates=self.rates)
        if not weights:
            raise ValueError("weights must have one entry for each unit, and at least one. Got 0.")
        shape = self.image_shape
        if shape is not None:
            fits = len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)
            sizes = {one.size for one in weights}
            if not fits or sizes != {math.prod(shape)}:
                raise ValueError(
                    "image_shape must be (height, width), or (height, width, 3) for colours, and "
                    f"have as many cells as a unit has weights, {max(sizes)}. Got {tuple(shape)}."
                )
            return weights
        if self.features is None:
            raise ValueError("features must be the names of the features of each unit. Got None.")
        same_length(len(weights), "the units", features=self.features)
        for names, one in zip(self.features, weights, strict=True):
            same_length(len(one), "the weights of a unit", features=names)
        return weights

    def _titles(self, long: bool) -> list[str]:
        """Return what stands above each unit."""
        of = "unit {}, on {} of rows" if long else "{}\n{}"
        return [
            of.format(*pair) for pair in zip(self.units, map(_percent, self.rates), strict=True)
        ]

    def _draw_bars(self, ax, weights: list[np.ndarray]) -> None:
        """Draw the features of each unit one below the other, a few units beside each other."""
        lines = max(1, *(len(one) for one in weights)) + 2  # a title, and a gap
        across = min(3, len(weights))
        down = math.ceil(len(weights) / across)
        ax = self._begin(ax, (3.1 * across, 0.3 + 0.21 * lines * down))
        for place, (one, title) in enumerate(zip(weights, self._titles(long=True), strict=True)):
            left, top = place % across, place // across * lines
            ax.text(left + _MIDDLE, top, title, ha="center", va="center", weight="bold", size=9)
            self.bars_.append(_bars(ax, left + _MIDDLE, top, one, self.features[place]))
        ax.set(xlim=(0, across), ylim=(down * lines - 1.3, -0.8))
        if any((one < 0).any() for one in weights):
            ax.set_xlabel("blue adds, vermilion takes away")

    def _draw_images(self, ax, weights: list[np.ndarray]) -> None:
        """Draw the images of units in lines, as one large image."""
        height, width, *colours = self.image_shape
        across = min(8, len(weights))
        down = math.ceil(len(weights) / across)
        gap, title = max(1, round(0.12 * width)), 0.42 * width
        cell = (round(height + title), width + gap)
        canvas = np.full((down * cell[0], across * cell[1] - gap, *colours), np.nan)
        ax = self._begin(ax, (0.2 + 0.95 * across, 0.2 + 0.95 * down * cell[0] / cell[1]))
        for place, (one, text) in enumerate(zip(weights, self._titles(long=False), strict=True)):
            top, left = place // across * cell[0] + cell[0] - height, place % across * cell[1]
            largest = np.abs(one).max() or 1.0
            canvas[top : top + height, left : left + width] = (
                one.reshape(self.image_shape) / largest
            )
            middle = left + (width - 1) / 2
            ax.text(middle, top - 0.7, text, ha="center", va="bottom", size=7.5, linespacing=0.95)
        shown = (
            np.nan_to_num((canvas + 1) / 2, nan=1.0) if colours else np.ma.masked_invalid(canvas)
        )
        self.mesh_ = ax.imshow(shown, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        if not colours:
            ax.set_xlabel("red adds, blue takes away")


def _bars(ax, left: float, top: float, weights: np.ndarray, names) -> Any:
    """Draw the bars of a unit, as long as weights are large, with their names before them."""
    places = top + 1 + np.arange(len(weights))
    largest = np.abs(weights).max(initial=0.0) or 1.0
    for place, name in zip(places, names, strict=True):
        ax.text(left - 0.02, place, shortened(str(name)), ha="right", va="center", size=8.5)
    return ax.barh(
        places,
        _LONGEST_BAR * np.abs(weights) / largest,
        left=left,
        height=0.75,
        color=np.where(weights < 0, _TAKES, _ADDS).tolist(),
    )


def _percent(rate: float) -> str:
    return f"{100 * rate:.2g} %" if rate < 0.995 else f"{100 * rate:.0f} %"


def _chosen(rate: np.ndarray, n_units: Any, units: Any) -> np.ndarray:
    """Return the numbers of the units to show."""
    if units is None:
        if not isinstance(n_units, Integral) or n_units < 1:
            raise ValueError(f"n_units must be an int of at least 1. Got {n_units!r}.")
        return np.argsort(-rate, kind="stable")[:n_units]
    chosen = np.atleast_1d(units)
    there = chosen.ndim == 1 and chosen.size and np.issubdtype(chosen.dtype, np.integer)
    if not there or chosen.min() < 0 or chosen.max() >= len(rate):
        raise ValueError(f"units must be numbers of the {len(rate)} units, from 0. Got {units!r}.")
    return chosen


def _in_order(places: list[int], weights: list[float], n_features: int) -> np.ndarray:
    """Return weights in the order of the columns; zeros of a unit that writes nothing."""
    found = np.zeros(n_features)
    found[places] = weights
    return found
