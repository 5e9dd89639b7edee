"""What does the code keep of a row? Rows beside their reconstruction."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any

import numpy as np

from skae.plotting.display import Display, check_axes, same_length, shortened
from skae.plotting.reconstructed import reconstructed


class ReconstructionDisplay(Display):
    """Rows beside their reconstruction: as images, or as strips of coloured cells.

    Parameters
    ----------
    rows, reconstructions : array-like of shape (n_rows, n_features)
        What was encoded, and what came of it.
    image_shape : tuple of int, default=None
        Height and width, and 3 for colours, if rows are images.
    feature_names : array-like of str of shape (n_features,), default=None
        Names of the columns; None are their numbers.
    row_names : array-like of shape (n_rows,), default=None
        Names of the rows; None are their numbers.
    scaled : bool, default=True
        Whether the colours of a table go from the least to the largest value of each column that is
        shown, for columns with units of their own; otherwise one scale is for all.
    max_features : int, default=25
        Columns of a table that are shown at most: those in which the rows differ most.

    Attributes
    ----------
    features_ : ndarray of shape (n_shown,)
        The columns that are shown, of a table.
    mesh_ : matplotlib.image.AxesImage or matplotlib.collections.QuadMesh
        What was drawn.
    colorbar_ : matplotlib.colorbar.Colorbar or None
        The colour bar of a table.
    ax_, figure_ : matplotlib.axes.Axes, matplotlib.figure.Figure
        Where it was drawn.

    See Also
    --------
    ReconstructionDisplay.from_estimator : By a fitted estimator.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer
    >>> from skae.plotting import ReconstructionDisplay
    >>> X, _ = load_digits(return_X_y=True)
    >>> autoencoder = AutoencoderTransformer(8, max_iter=5, tol=0.1)
    >>> display = ReconstructionDisplay.from_estimator(
    ...     autoencoder.fit(X), X, n_rows=4, image_shape=(8, 8)
    ... )
    >>> display.rows.shape
    (4, 64)
    """

    def __init__(
        self,
        *,
        rows,
        reconstructions,
        image_shape=None,
        feature_names=None,
        row_names=None,
        scaled=True,
        max_features=25,
    ):
        self.rows = rows
        self.reconstructions = reconstructions
        self.image_shape = image_shape
        self.feature_names = feature_names
        self.row_names = row_names
        self.scaled = scaled
        self.max_features = max_features

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        n_rows=6,
        *,
        image_shape=None,
        feature_names=None,
        scaled=None,
        max_features=25,
        ax=None,
        colorbar=True,
    ):
        """Draw some rows beside what a fitted estimator makes of them.

        Only the rows that are shown are encoded, so X may be large. Of a pipeline, rows are shown
        in the units of X, if they are numbers there and every step can go back; otherwise as they
        are after the last step that cannot.

        Parameters
        ----------
        estimator : estimator, Pipeline or search
            Fitted, with ``reconstruct``; or with ``transform`` and ``inverse_transform``, as
            `sklearn.decomposition.PCA`.
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            Rows.
        n_rows : int, default=6
            How many are shown, evenly spaced over X.
        image_shape : tuple of int, default=None
            Height and width, and 3 for colours, if rows are images.
        feature_names : array-like of str, default=None
            Names of the columns that are shown; None are those of a DataFrame or of a step of the
            pipeline, else numbers.
        scaled : bool, default=None
            Whether each column has a scale of its own. None is so but for sparse rows.
        max_features : int, default=25
            Columns of a table that are shown at most: those in which the rows differ most.
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None is a new figure.
        colorbar : bool, default=True
            Whether a table gets a colour bar.

        Returns
        -------
        display : ReconstructionDisplay

        Raises
        ------
        NotFittedError
            The estimator is not fitted.
        ValueError
            It cannot reconstruct, or a shape does not fit.
        """
        check_axes(ax, cls)
        _at_least_one(n_rows, "n_rows")
        found = reconstructed(estimator, X, int(n_rows), cls)
        display = cls(
            rows=found.rows,
            reconstructions=found.reconstructions,
            image_shape=image_shape,
            feature_names=found.names if feature_names is None else feature_names,
            row_names=found.places,
            scaled=not found.sparse if scaled is None else scaled,
            max_features=max_features,
        )
        return display.plot(ax, colorbar=colorbar)

    def plot(self, ax=None, *, colorbar=True):
        """Draw the rows.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None is a new figure.
        colorbar : bool, default=True
            Whether a table gets a colour bar, which takes a part of the axes.

        Returns
        -------
        self : ReconstructionDisplay

        Raises
        ------
        ValueError
            The shapes do not fit each other.
        """
        check_axes(ax, type(self))
        rows, made = self._checked()
        self.colorbar_ = None
        if self.image_shape is None:
            self._draw_table(ax, rows, made, colorbar)
        else:
            self._draw_images(ax, rows, made)
        return self

    def _checked(self) -> tuple[np.ndarray, np.ndarray]:
        rows, made = np.asarray(self.rows, float), np.asarray(self.reconstructions, float)
        if rows.ndim != 2 or rows.shape != made.shape or not rows.size:
            raise ValueError(
                "rows and reconstructions must have one shape (n_rows, n_features). Got "
                f"{rows.shape} and {made.shape}."
            )
        same_length(len(rows), "the rows", row_names=self.row_names)
        same_length(rows.shape[1], "the columns", feature_names=self.feature_names)
        _at_least_one(self.max_features, "max_features")
        shape = self.image_shape
        fits = shape is None or (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3))
        if shape is not None and (not fits or math.prod(shape) != rows.shape[1]):
            raise ValueError(
                "image_shape must be (height, width), or (height, width, 3) for colours, and have "
                f"as many cells as a row has columns, {rows.shape[1]}. Got {tuple(shape)}."
            )
        return rows, made

    def _names(self) -> list[str]:
        names = np.arange(len(self.rows)) if self.row_names is None else self.row_names
        return [str(name) for name in names]

    def _draw_images(self, ax, rows: np.ndarray, made: np.ndarray) -> None:
        """Draw images in one line and their reconstructions below, as one large image."""
        height, width, *colours = self.image_shape
        across = 1.3 + max(0.8 * len(rows), 2.4)
        ax = self._begin(ax, (across, 0.6 + 2.1 * (across - 1.3) / len(rows) * height / width))
        least, largest = np.nanmin(rows), np.nanmax(rows)
        gap = max(1, round(0.12 * width))
        canvas = np.full((2 * height + gap, len(rows) * (width + gap) - gap, *colours), np.nan)
        for place, pair in enumerate(zip(rows, made, strict=True)):
            left = place * (width + gap)
            for top, image in zip((0, height + gap), pair, strict=True):
                part = slice(top, top + height), slice(left, left + width)
                canvas[part] = image.reshape(self.image_shape)
        canvas = np.clip((canvas - least) / ((largest - least) or 1.0), 0, 1)
        canvas = np.nan_to_num(canvas, nan=1.0) if colours else np.ma.masked_invalid(canvas)
        self.mesh_ = ax.imshow(canvas, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        centres = np.arange(len(rows)) * (width + gap) + (width - 1) / 2
        middle = (height - 1) / 2
        ax.set_xticks(centres, self._names())
        ax.set_xlabel("row")
        ax.set_yticks([middle, middle + height + gap], ["X", "reconstruction"])
        _no_frame(ax)

    def _draw_table(self, ax, rows: np.ndarray, made: np.ndarray, colorbar: bool) -> None:
        """Draw two strips for each row, one below the other."""
        self.features_ = _most_telling(rows, made, self.scaled, int(self.max_features))
        rows, made = rows[:, self.features_], made[:, self.features_]
        ax = self._begin(ax, (3.2 + 0.24 * rows.shape[1], 1.6 + 0.5 * len(rows)))
        cells, edges = _strips(rows, made)
        if self.scaled:
            cells = _to_unit(cells)
        columns = np.arange(rows.shape[1] + 1) - 0.5
        self.mesh_ = ax.pcolormesh(columns, edges, np.ma.masked_invalid(cells), cmap="viridis")
        middles = (edges[:-1] + edges[1:]) / 2
        labels = [text for name in self._names() for text in (f"row {name}", "reconstruction")]
        strips = np.arange(len(cells)) % 3 < 2
        ax.set_yticks(middles[strips], labels)
        ax.invert_yaxis()
        ax.set_xticks(
            np.arange(rows.shape[1]),
            self._column_names(),
            rotation=45,
            ha="right",
            rotation_mode="anchor",
        )
        _no_frame(ax)
        if colorbar:
            label = (
                "value, from least (0) to\nlargest (1) of its column" if self.scaled else "value"
            )
            self.colorbar_ = ax.figure.colorbar(self.mesh_, ax=ax, label=label)

    def _column_names(self) -> list[str]:
        if self.feature_names is None:
            return [str(column) for column in self.features_]
        return [shortened(str(name)) for name in np.asarray(self.feature_names)[self.features_]]


def _at_least_one(value: Any, name: str) -> None:
    if not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} must be an int of at least 1. Got {value!r}.")


def _no_frame(ax) -> None:
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)


def _most_telling(rows: np.ndarray, made: np.ndarray, scaled: bool, n_most: int) -> np.ndarray:
    """Return the columns in which rows and reconstructions differ most, in their order."""
    if rows.shape[1] <= n_most:
        return np.arange(rows.shape[1])
    spread = np.ptp(np.concatenate([rows, made]), axis=0)
    return np.sort(np.argsort(-np.nan_to_num(spread), kind="stable")[:n_most])


def _strips(rows: np.ndarray, made: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return strips from above, of which each third is a gap, and where their edges are."""
    gap = np.full_like(rows, np.nan)
    cells = np.stack([rows, made, gap], axis=1).reshape(-1, rows.shape[1])[:-1]
    heights = np.tile([1.0, 1.0, 0.35], len(rows))[:-1]
    return cells, np.concatenate([[0.0], np.cumsum(heights)])


def _to_unit(cells: np.ndarray) -> np.ndarray:
    """Return cells between the least (0) and largest (1) of their column; one half if all equal."""
    least = np.nanmin(cells, axis=0)
    width = np.nanmax(cells, axis=0) - least
    return np.where(width > 0, (cells - least) / np.where(width > 0, width, 1.0), cells * 0 + 0.5)
