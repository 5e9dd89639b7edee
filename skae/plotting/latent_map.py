"""Where do the rows lie? Two components, or a projection of all, coloured by what is known."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.base import clone

from skae.plotting.display import (
    COLOURS,
    MARKERS,
    Display,
    check_axes,
    same_length,
)
from skae.plotting.steps import codes_of

_MOST_WHOLE = 10  # different whole numbers that are taken for categories
_MOST_NAMED = 24  # categories with a colour and a marker of their own


class LatentMapDisplay(Display):
    """Rows as points on a plane of codes, coloured by what is known of them.

    Parameters
    ----------
    points : array-like of shape (n_samples, 2)
        Where the rows lie.
    y : array-like of shape (n_samples,), default=None
        What they are coloured by. Texts, categories, truth values and at most 10 different whole
        numbers are categories, with a legend; other numbers have a colour bar. Missing values are
        grey. Of more than 24 categories the rarer ones are one.
    axis_names : (str, str), default=("component 0", "component 1")
        Labels of the axes.
    y_name : str, default=None
        Title of the legend, or label of the colour bar.

    Attributes
    ----------
    scatters_ : list of matplotlib.collections.PathCollection
        The points: those of each category, those with a number, and last the missing ones.
    colorbar_ : matplotlib.colorbar.Colorbar or None
        The colour bar of numbers.
    ax_, figure_ : matplotlib.axes.Axes, matplotlib.figure.Figure
        Where they were drawn.

    See Also
    --------
    LatentMapDisplay.from_estimator : Of the codes of a fitted estimator.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skae import VAETransformer
    >>> from skae.plotting import LatentMapDisplay
    >>> X, y = load_wine(return_X_y=True)
    >>> vae = VAETransformer(4, max_iter=20, tol=0.1, random_state=0).fit(X)
    >>> display = LatentMapDisplay.from_estimator(vae, X, y)
    >>> display.axis_names
    ('component 0', 'component 1')
    """

    def __init__(self, *, points, y=None, axis_names=("component 0", "component 1"), y_name=None):
        self.points = points
        self.y = y
        self.axis_names = axis_names
        self.y_name = y_name

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        y=None,
        *,
        components=(0, 1),
        projection=None,
        y_name=None,
        ax=None,
        colorbar=True,
        scatter_kw=None,
    ):
        """Draw the codes of rows.

        Parameters
        ----------
        estimator : estimator, Pipeline or search
            Fitted, with ``transform``.
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,), default=None
            What they are coloured by: categories or numbers.
        components : (int, int), default=(0, 1)
            The two components that are drawn, counted from 0; a negative number counts from the
            end. Without meaning beside ``projection``.
        projection : object, default=None
            Something with ``fit_transform`` that makes two columns of all codes, such as
            `sklearn.manifold.TSNE`. It is cloned.
        y_name : str, default=None
            Title of the legend, or label of the colour bar; None is the name of ``y``, if it has
            one.
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None is a new figure.
        colorbar : bool, default=True
            Whether numbers get a colour bar.
        scatter_kw : dict, default=None
            Settings of the points, for ``Axes.scatter``.

        Returns
        -------
        display : LatentMapDisplay

        Raises
        ------
        NotFittedError
            The estimator is not fitted.
        ValueError
            There are no such components, or the projection has not two columns.
        """
        check_axes(ax, cls)
        codes, _ = codes_of(estimator, X, cls)
        if projection is None:
            points, names = _two(codes, components)
        else:
            points, names = _projected(codes, projection)
        y_name = getattr(y, "name", None) if y_name is None else y_name
        display = cls(points=points, y=y, axis_names=names, y_name=y_name)
        return display.plot(ax, colorbar=colorbar, scatter_kw=scatter_kw)

    def plot(self, ax=None, *, colorbar=True, scatter_kw=None):
        """Draw the points.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None is a new figure.
        colorbar : bool, default=True
            Whether numbers get a colour bar, which takes a part of the axes.
        scatter_kw : dict, default=None
            Settings of the points, for ``Axes.scatter``.

        Returns
        -------
        self : LatentMapDisplay

        Raises
        ------
        ValueError
            ``points`` has not two columns, or ``y`` another length.
        """
        check_axes(ax, type(self))
        points = np.asarray(self.points, dtype=float)
        if points.ndim != 2 or points.shape[1] != 2:
            raise ValueError(f"points must have the shape (n_samples, 2). Got {points.shape}.")
        groups = list(self._groups(len(points)))
        ax = self._begin(ax, (6.2, 4.2))
        style = {**_style(len(points)), **(scatter_kw or {})}
        self.scatters_ = [ax.scatter(*points[part].T, **{**own, **style}) for part, own in groups]
        ax.set(xlabel=self.axis_names[0], ylabel=self.axis_names[1])
        self.colorbar_ = None
        numbers = [points for points in self.scatters_ if points.get_array() is not None]
        if numbers and colorbar:
            self.colorbar_ = ax.figure.colorbar(numbers[0], ax=ax, label=self.y_name or "y")
            self.colorbar_.solids.set_alpha(1)
        if ax.get_legend_handles_labels()[0]:
            larger = max(1.0, 5 / np.sqrt(style["s"]))
            title = self.y_name if not numbers else None
            self._place_legend(title=title, markerscale=larger)
        return self

    def _groups(self, n_samples: int) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
        """Yield the rows that are drawn alike, and how."""
        if self.y is None:
            yield np.arange(n_samples), {"color": COLOURS[0]}
            return
        y = _one_column(self.y)
        same_length(n_samples, "points", y=y)
        if _is_numbers(y):
            values = np.asarray(y, dtype=float)
            there = np.isfinite(values)
            yield np.flatnonzero(there), {"c": values[there], "cmap": "viridis"}
        else:
            codes, names = _categories(y)
            yield from _by_category(codes, names)
            there = codes >= 0
        if not there.all():
            yield np.flatnonzero(~there), {"color": "#BBBBBB", "marker": "x", "label": "missing"}


def _two(codes, components) -> tuple[np.ndarray, tuple[str, str]]:
    n_components = codes.shape[1]
    pair = tuple(components) if np.iterable(components) else (components,)
    fits = [isinstance(one, Integral) and -n_components <= one < n_components for one in pair]
    if len(pair) != 2 or not all(fits):
        raise ValueError(
            f"components must be two of the {n_components} components, counted from 0. Got "
            f"{components!r}. (A projection is a parameter of its own.)"
        )
    two = codes[:, list(pair)]
    first, second = (int(one) % n_components for one in pair)
    names = f"component {first}", f"component {second}"
    return (two.toarray() if sp.issparse(two) else two), names


def _projected(codes, projection) -> tuple[np.ndarray, tuple[str, str]]:
    if not hasattr(projection, "fit_transform"):
        raise ValueError(
            f"projection must have fit_transform, as sklearn.manifold.TSNE. Got {projection!r}."
        )
    kind = type(projection).__name__
    points = np.asarray(clone(projection, safe=False).fit_transform(codes))
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(
            f"projection must make two columns of the codes. {kind} made the shape "
            f"{points.shape}; set its n_components=2."
        )
    return points, (f"{kind} 0", f"{kind} 1")


def _one_column(y) -> Any:
    """Return y as a pandas Series, which knows categories and missing values."""
    values = y if isinstance(y, pd.Series | pd.Categorical) else np.asarray(y)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise ValueError(
            f"y must have one entry a row. Got the shape {values.shape}. Choose one of its columns."
        )
    return pd.Series(values).reset_index(drop=True)


def _is_numbers(y: pd.Series) -> bool:
    """Return whether values are numbers on a scale, and no names of categories."""
    if not pd.api.types.is_numeric_dtype(y) or pd.api.types.is_bool_dtype(y):
        return False
    values = y.dropna().unique()
    return len(values) > _MOST_WHOLE or bool((values != np.round(values)).any())


def _categories(y: pd.Series) -> tuple[np.ndarray, list[str]]:
    """Return the category of each value, -1 for none, and their names; the rarest may be one."""
    found = pd.Categorical(y).remove_unused_categories()
    names = [str(name) for name in found.categories]
    if len(names) <= _MOST_NAMED:
        return found.codes, names
    count = np.bincount(found.codes[found.codes >= 0], minlength=len(names))
    kept = np.sort(np.argsort(-count, kind="stable")[: _MOST_NAMED - 1])
    new = np.full(len(names) + 1, len(kept))  # the last entry is that of the code -1
    new[kept], new[-1] = np.arange(len(kept)), -1
    rest = f"{len(names) - len(kept)} others"
    return new[found.codes], [*(names[place] for place in kept), rest]


def _by_category(codes: np.ndarray, names: list[str]) -> Iterator[tuple[np.ndarray, dict]]:
    for place, name in enumerate(names):
        marker = MARKERS[place // len(COLOURS) % len(MARKERS)]
        own = {"color": COLOURS[place % len(COLOURS)], "marker": marker, "label": name}
        yield np.flatnonzero(codes == place), own


def _style(n_samples: int) -> dict[str, Any]:
    """Return the size and transparency of so many points; files of thousands stay small."""
    size, alpha = (28, 0.8) if n_samples < 500 else (14, 0.7) if n_samples < 5000 else (5, 0.5)
    return {"s": size, "alpha": alpha, "linewidths": 0, "rasterized": n_samples >= 5000}
