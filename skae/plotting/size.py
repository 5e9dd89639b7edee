"""How many components? The score by their number, of a search or of one fit that found it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from skae.plotting.display import (
    COLOURS,
    GREY,
    MARKERS,
    Display,
    check_axes,
    same_length,
    vector,
    whole_numbers,
)
from skae.plotting.search_results import SearchResults, name_of_score
from skae.plotting.steps import parts_of

_NATS = "log-likelihood of a held-out row (nats)"
_MANY = 20  # sizes; so many error bars need no caps, and no large dots
_UNEVEN = 5  # the widest step between sizes over the narrowest, from which their axis is a log one
_APART = 0.03  # share of the axis between two ticks, and for each digit


class SizeDisplay(Display):
    """The score by the number of components, with the chosen number marked.

    Parameters
    ----------
    n_components : array-like of shape (n_points,)
        Sizes, in any order.
    score : array-like of shape (n_points,)
        The score of each; higher is better.
    standard_error : array-like of shape (n_points,), default=None
        Standard error of each score.
    chosen : int, default=None
        The size to mark; None marks nothing.
    setting : array-like of str of shape (n_points,), default=None
        Points with one text make one line, and the text is its name. None is one line.
    name : str, default=None
        What is drawn, for the legend: in front of ``setting`` if both are given.
    score_name : str, default="log-likelihood of a held-out row (nats)"
        Label of the y axis.
    size_name : str, default="n_components"
        Label of the x axis.

    Attributes
    ----------
    errorbars_ : list of matplotlib.container.ErrorbarContainer
        The lines, with their standard errors.
    chosen_ : matplotlib.lines.Line2D or None
        The ring about the chosen size.
    ax_, figure_ : matplotlib.axes.Axes, matplotlib.figure.Figure
        Where they were drawn.

    See Also
    --------
    SizeDisplay.from_search : Of a grid search, or another search.
    SizeDisplay.from_estimator : Of a fit with ``n_components="auto"``.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.model_selection import GridSearchCV, KFold
    >>> from skae import VAETransformer
    >>> from skae.plotting import SizeDisplay
    >>> X, _ = load_wine(return_X_y=True)
    >>> search = GridSearchCV(
    ...     VAETransformer(max_iter=20, tol=0.1, random_state=0),
    ...     {"n_components": [1, 2, 4]},
    ...     cv=KFold(3, shuffle=True, random_state=0),
    ... )
    >>> display = SizeDisplay.from_search(search.fit(X))
    >>> display.n_components
    array([1., 2., 4.])
    """

    def __init__(
        self,
        *,
        n_components,
        score,
        standard_error=None,
        chosen=None,
        setting=None,
        name=None,
        score_name=_NATS,
        size_name="n_components",
    ):
        self.n_components = n_components
        self.score = score
        self.standard_error = standard_error
        self.chosen = chosen
        self.setting = setting
        self.name = name
        self.score_name = score_name
        self.size_name = size_name

    @classmethod
    def from_search(
        cls,
        search,
        *,
        param=None,
        by=None,
        metric=None,
        name=None,
        score_name=None,
        ax=None,
        line_kw=None,
    ):
        """Draw what a search found, with the standard error of the mean over its folds.

        Where other parameters were searched as well, each size stands for its best candidate, and
        the legend says so. A size whose fits failed is left out, and so is a candidate that names
        no size. Successive halving has a line for each number of rows.

        Parameters
        ----------
        search : GridSearchCV, RandomizedSearchCV or the like
            Fitted.
        param : str, default=None
            The parameter that is the size. None is the one called ``n_components``, of the
            estimator or of a step of a pipeline.
        by : str, default=None
            Another parameter, such as "beta", that gets a line for each of its values.
        metric : str, default=None
            One of several scores; None is the one by which the search chose.
        name : str, default=None
            Name of the line in the legend, such as that of the estimator.
        score_name : str, default=None
            Label of the y axis. None goes by ``scoring``.
        ax : matplotlib.axes.Axes, default=None
            Where to draw, beside what is there; None is a new figure.
        line_kw : dict, default=None
            Settings of the lines, for ``Axes.errorbar``.

        Returns
        -------
        display : SizeDisplay

        Raises
        ------
        NotFittedError
            The search is not fitted.
        ValueError
            It is no search, or has no such parameter or score, or a size is no number.
        """
        check_axes(ax, cls)
        results = SearchResults(search, param, metric)
        points = results.points(by)
        if name is None and points.setting is None and results.others():
            name = f"best over {', '.join(results.others())}"
        display = cls(
            **points._asdict(),
            chosen=results.chosen(),
            name=name,
            score_name=score_name or name_of_score(search, results.metric) or _NATS,
            size_name=results.param.rpartition("__")[2],
        )
        return display.plot(ax, line_kw=line_kw)

    @classmethod
    def from_estimator(cls, estimator, *, name=None, ax=None, line_kw=None):
        """Draw what a fit with ``n_components="auto"`` found.

        Parameters
        ----------
        estimator : estimator, Pipeline or search
            With `size_curve_`, a dict of the arrays ``n_components``, ``score`` and
            ``standard_error``, and the size ``chosen`` (else that is `n_components_`).
        name : str, default=None
            Name of the line in the legend.
        ax : matplotlib.axes.Axes, default=None
            Where to draw, beside what is there; None is a new figure.
        line_kw : dict, default=None
            Settings of the line, for ``Axes.errorbar``.

        Returns
        -------
        display : SizeDisplay

        Raises
        ------
        NotFittedError
            The estimator is not fitted.
        ValueError
            It knows no scores by size.
        """
        check_axes(ax, cls)
        _, last = parts_of(estimator)
        curve = getattr(last, "size_curve_", None)
        if not curve or not len(curve["n_components"]):
            given = getattr(last, "n_components", None)
            raise ValueError(
                f"{type(last).__name__} has no size_curve_, for it was fitted with n_components="
                f"{given!r}. Fit it with n_components='auto', or search the size and draw "
                "SizeDisplay.from_search(search)."
            )
        display = cls(
            n_components=np.asarray(curve["n_components"]),
            score=np.asarray(curve["score"]),
            standard_error=curve.get("standard_error"),
            chosen=curve.get("chosen", last.n_components_),
            name=name,
        )
        return display.plot(ax, line_kw=line_kw)

    def plot(self, ax=None, *, line_kw=None):
        """Draw the scores.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw, beside what is there: a second display takes another colour. None is a
            new figure.
        line_kw : dict, default=None
            Settings of the lines, for ``Axes.errorbar``.

        Returns
        -------
        self : SizeDisplay

        Raises
        ------
        ValueError
            The arrays are no vectors of one length.
        """
        check_axes(ax, type(self))
        sizes, score = vector(self.n_components, "n_components"), vector(self.score, "score")
        one_each = {name: getattr(self, name) for name in ("standard_error", "setting")}
        same_length(len(sizes), "n_components", score=score, **one_each)
        ax = self._begin(ax, (7.4, 3.8))
        lines = list(self._lines(sizes))
        chosen = self._place_chosen(sizes, score)
        self.errorbars_ = [
            self._line(sizes, score, part, self._label(name, chosen in part), line_kw or {})
            for name, part in lines
        ]
        self.chosen_ = self._mark_chosen(sizes, score, chosen)
        ax.set(xlabel=self.size_name, ylabel=self.score_name)
        _set_sizes(ax, _all_sizes(ax))
        handles, _ = ax.get_legend_handles_labels()
        title = None if self.standard_error is None else "± standard error"
        if handles or title:
            self._place_legend(handles=handles, title=title)
        return self

    def _lines(self, sizes: np.ndarray) -> Iterator[tuple[str | None, np.ndarray]]:
        """Yield the name of each line, and its points by size."""
        order = np.argsort(sizes, kind="stable")
        if self.setting is None:
            yield self.name, order
            return
        setting = np.asarray(self.setting)[order]
        for one in dict.fromkeys(setting.tolist()):
            yield ", ".join(filter(None, [self.name, one])), order[setting == one]

    def _label(self, name: str | None, is_chosen: bool) -> str | None:
        """Return the text of a line in the legend: its name, and which of its sizes was chosen."""
        return f"{name} (chosen: {self.chosen:g})" if name and is_chosen else name

    def _line(self, sizes, score, part, label, line_kw: dict) -> Any:
        error = self.standard_error
        place = len(self.ax_.containers)
        many = len(part) > _MANY
        settings = {
            "color": COLOURS[place % len(COLOURS)],
            "marker": MARKERS[place % len(MARKERS)],
            "markersize": 3 if many else 6,
            "capsize": 0 if many else 3,
            "label": label,
            **line_kw,
        }
        error = None if error is None else np.asarray(error, dtype=float)[part]
        return self.ax_.errorbar(sizes[part], score[part], error, **settings)

    def _place_chosen(self, sizes: np.ndarray, score: np.ndarray) -> int | None:
        """Return the best point of the chosen size; None if there is none."""
        there = np.where(sizes == self.chosen, score, np.nan)
        return None if np.isnan(there).all() else int(np.nanargmax(there))

    def _mark_chosen(self, sizes: np.ndarray, score: np.ndarray, place: int | None) -> Any:
        """Put a line through the chosen size, and a ring about its best point."""
        if self.chosen is None:
            return None
        self.ax_.axvline(self.chosen, color=GREY, linewidth=1, linestyle=":", zorder=0)
        if place is None:
            return None
        style = {"markerfacecolor": "none", "markersize": 13, "markeredgewidth": 1.5}
        if self.name is None and self.setting is None:  # no line whose name could say it
            style["label"] = f"chosen: {self.chosen:g}"
        (ring,) = self.ax_.plot(sizes[place], score[place], "o", color=GREY, **style)
        return ring


def _all_sizes(ax) -> np.ndarray:
    """Return the sizes of all displays on some axes."""
    return np.unique(np.concatenate([bars.lines[0].get_xdata() for bars in ax.containers]))


def _set_sizes(ax, sizes: np.ndarray) -> None:
    """Put ticks at the sizes, as many as there is room for, on a log axis if they are uneven."""
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    steps = np.diff(sizes)
    is_log = len(steps) > 1 and sizes[0] > 0 and steps.max() > _UNEVEN * steps.min()
    ax.set_xscale("log" if is_log else "linear")
    ax.xaxis.set_minor_locator(NullLocator())
    if len(sizes) > _MANY and not is_log:
        whole_numbers(ax.xaxis)
        return
    places = np.log(sizes) if is_log else sizes
    places = (places - places[0]) / (np.ptp(places) or 1.0)
    kept = [0]
    for tick in range(1, len(sizes)):
        if places[tick] - places[kept[-1]] >= _APART * (1 + len(f"{sizes[tick]:g}")) / 2:
            kept.append(tick)
    ax.xaxis.set_major_locator(FixedLocator(sizes[kept].tolist()))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
