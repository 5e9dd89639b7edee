"""What all displays share: axes to draw on, and colours."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

# Okabe and Ito (2008), "Color universal design": told apart by the colour-blind. Yellow, which can
# hardly be seen on white, is left out.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#666666"

_LONGEST = 18  # letters of the name of a column


class Display(ABC):
    """Base of the displays: plain data, and a method that draws them.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Where it was drawn last.
    figure_ : matplotlib.figure.Figure
        The figure of these axes.
    """

    ax_: Any
    figure_: Any
    _is_own: bool  # whether the figure was made for this display

    @abstractmethod
    def plot(self, ax=None):
        """Draw on axes, or on a new figure; return self."""

    def _begin(self, ax, figsize: tuple[float, float]):
        """Return axes to draw on. Called once the data are known to be sound: no figure is left."""
        plt = pyplot(type(self))
        self._is_own = ax is None
        if ax is None:
            # Small: letters of the usual size can be read when it is projected.
            _, ax = plt.subplots(figsize=figsize, layout="constrained")
            ax.spines[["top", "right"]].set_visible(False)
        self.ax_, self.figure_ = ax, ax.figure
        return ax

    def _place_legend(self, **settings) -> None:
        """Add a legend: beside the axes of an own figure, inside those that were given."""
        if self._is_own:
            beside = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0), "borderaxespad": 0.3}
            self.ax_.legend(**{"frameon": False, **beside, **settings})
        else:
            self.ax_.legend(**{"framealpha": 0.8, **settings})


def pyplot(owner: type) -> Any:
    """Return matplotlib.pyplot.

    Raises
    ------
    ImportError
        It is not installed.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f"{owner.__name__} draws with matplotlib, which is not installed. Install it (pip "
            "install matplotlib), or skae with its extra 'plots'."
        ) from error
    return plt


def check_axes(ax, owner: type) -> None:
    """Raise where nothing can be drawn: no matplotlib, or ``ax`` that is no axes."""
    pyplot(owner)
    from matplotlib.axes import Axes

    if not (ax is None or isinstance(ax, Axes)):
        hint = " Give one of them, such as axes[0]." if isinstance(ax, np.ndarray) else ""
        raise TypeError(f"ax must be a matplotlib Axes or None. Got {type(ax).__name__}.{hint}")


def vector(values, name: str) -> np.ndarray:
    """Return a one-dimensional array of numbers, at least one.

    Raises
    ------
    ValueError
        It is something else.
    """
    found = np.asarray(values, dtype=float)
    if found.ndim != 1 or not len(found):
        raise ValueError(
            f"{name} must be one-dimensional with at least one entry. Got the shape {found.shape}."
        )
    return found


def same_length(n_expected: int, of: str, **given) -> None:
    """Raise ``ValueError`` where an array that is given is not as long as it should be."""
    for name, values in given.items():
        if values is not None and len(values) != n_expected:
            raise ValueError(
                f"{name} must have one entry for each of {of}, {n_expected} in all. Got "
                f"{len(values)}."
            )


def shortened(name: str) -> str:
    """Return the name of a column, cut where it is too long to be drawn."""
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def whole_numbers(axis) -> None:
    """Let the ticks of an axis be whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
