"""How did the training go? The terms of the loss, epoch by epoch."""

from __future__ import annotations

import numpy as np

from skae.plotting.display import (
    COLOURS,
    GREY,
    Display,
    check_axes,
    vector,
    whole_numbers,
)
from skae.plotting.steps import parts_of

# What is drawn if nobody says what: the objective, and those of its parts that have its unit.
_IN_NATS = ("objective", "reconstruction", "kl")
_FEW = 15  # epochs, each of which then has a dot: a line of one epoch is none


class LossCurveDisplay(Display):
    """The loss of each epoch by its named terms, of training rows and of rows held out.

    Lower is better: what `validation_scores_` of an estimator has with the opposite sign is drawn
    as a loss here. Values are those of the columns as they were scaled for the network, so they
    differ from ``-score(X)`` by a constant.

    Parameters
    ----------
    terms : dict of str to array-like of shape (n_epochs,)
        The terms on the training rows.
    held_out : dict of str to array-like of shape (n_epochs,), default=None
        Those on rows held out, by the same names; NaN for an epoch without.
    unit : str or None, default="nats a row"
        What the values are, for the label of the y axis.

    Attributes
    ----------
    lines_ : list of matplotlib.lines.Line2D
        The curves, in the order of the legend.
    ax_, figure_ : matplotlib.axes.Axes, matplotlib.figure.Figure
        Where they were drawn.

    See Also
    --------
    LossCurveDisplay.from_estimator : Of a fitted estimator.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skae import VAETransformer
    >>> from skae.plotting import LossCurveDisplay
    >>> X, _ = load_wine(return_X_y=True)
    >>> vae = VAETransformer(4, early_stopping=True, tol=0.1, random_state=0)
    >>> display = LossCurveDisplay.from_estimator(vae.fit(X))
    >>> sorted(display.terms)
    ['kl', 'objective', 'reconstruction']
    """

    def __init__(self, *, terms, held_out=None, unit="nats a row"):
        self.terms = terms
        self.held_out = held_out
        self.unit = unit

    @classmethod
    def from_estimator(cls, estimator, *, terms=None, ax=None, line_kw=None):
        """Draw the training of a fitted estimator.

        Parameters
        ----------
        estimator : estimator, Pipeline or search
            With `history_`, or at least `loss_curve_`.
        terms : sequence of str, default=None
            Names in `history_`. None is the objective and those of its parts that are nats:
            "reconstruction" and "kl", where they are not the objective itself. Others, such as
            "sparsity", are unweighted and have units of their own.
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None is a new figure.
        line_kw : dict, default=None
            Settings of all lines, for ``Axes.plot``.

        Returns
        -------
        display : LossCurveDisplay

        Raises
        ------
        NotFittedError
            The estimator is not fitted.
        ValueError
            It kept no losses, or none of that name.
        """
        check_axes(ax, cls)
        _, last = parts_of(estimator)
        history = _history(last, cls)
        names = _names(history, terms)
        held_out = {name: history[f"valid_{name}"] for name in names if f"valid_{name}" in history}
        curves = {name: np.asarray(history[name], dtype=float) for name in names}
        display = cls(
            terms=curves,
            held_out={name: np.asarray(values, dtype=float) for name, values in held_out.items()},
            unit=_unit(names),
        )
        return display.plot(ax, line_kw=line_kw)

    def plot(self, ax=None, *, line_kw=None):
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None is a new figure.
        line_kw : dict, default=None
            Settings of all lines, for ``Axes.plot``.

        Returns
        -------
        self : LossCurveDisplay

        Raises
        ------
        ValueError
            A term is no one-dimensional array, or held-out terms have other names or lengths.
        """
        check_axes(ax, type(self))
        terms, held_out = self._checked()
        ax = self._begin(ax, (7.4, 3.8))
        self.lines_ = []
        for place, (name, values) in enumerate(terms.items()):
            settings = {"color": COLOURS[place % len(COLOURS)], **(line_kw or {})}
            self._line(values, name, "-", settings)
            if name in held_out:
                self._line(held_out[name], f"{name}, held out", "--", settings)
        self._mark_lowest(held_out)
        ax.set(xlabel="epoch", ylabel=f"loss ({self.unit})" if self.unit else "loss")
        whole_numbers(ax.xaxis)
        self._add_legend()
        return self

    def _add_legend(self) -> None:
        """Name each term once: rows held out are dashed in all of them."""
        from matplotlib.lines import Line2D

        of_terms = [line for line in self.lines_ if not line.get_label().endswith(", held out")]
        ring = [line for line in of_terms if line.get_label() not in self.terms]
        handles = [line for line in of_terms if line not in ring]
        if len(of_terms) < len(self.lines_):
            handles.append(Line2D([], [], color=GREY, linestyle="--", label="rows held out"))
        self._place_legend(handles=handles + ring)

    def _checked(self) -> tuple[dict, dict]:
        terms = {name: vector(values, f"terms[{name!r}]") for name, values in self.terms.items()}
        if not terms:
            raise ValueError("terms must name at least one term. Got an empty dict.")
        held_out = dict(self.held_out or {})
        for name, values in held_out.items():
            held_out[name] = vector(values, f"held_out[{name!r}]")
            if name not in terms or len(held_out[name]) != len(terms[name]):
                raise ValueError(
                    f"held_out[{name!r}] must have a term of its name and length beside it. Got "
                    f"{len(held_out[name])} epochs, and terms with "
                    f"{ {key: len(value) for key, value in terms.items()} } epochs."
                )
        return terms, held_out

    def _line(self, values: np.ndarray, label: str, style: str, settings: dict) -> None:
        marker = "." if len(values) <= _FEW else ""
        settings = {"marker": marker, "linestyle": style, **settings}
        epochs = np.arange(1, len(values) + 1)
        self.lines_ += self.ax_.plot(epochs, values, label=label, **settings)

    def _mark_lowest(self, held_out: dict) -> None:
        """Put a ring where the objective of rows held out is lowest."""
        values = held_out.get("objective")
        if values is None or np.isnan(values).all():
            return
        best = int(np.nanargmin(values))
        label = f"lowest held out: epoch {best + 1}"
        ring = {"markerfacecolor": "none", "markersize": 9, "markeredgewidth": 1.5}
        self.lines_ += self.ax_.plot(
            best + 1, values[best], "o", color=COLOURS[0], label=label, zorder=3, **ring
        )


def _history(estimator, owner: type) -> dict:
    """Return the losses of each epoch by name."""
    history = getattr(estimator, "history_", None)
    if not isinstance(history, dict):
        curve = getattr(estimator, "loss_curve_", None)
        history = {} if curve is None else {"loss": curve}
    if not any(len(values) for values in history.values()):
        raise ValueError(
            f"{owner.__name__} draws history_ or loss_curve_ of an estimator. "
            f"{type(estimator).__name__} has kept neither. Where it is the last step of a "
            "pipeline, after the autoencoder, leave it out: pipeline[:-1]."
        )
    return history


def _names(history: dict, terms) -> list[str]:
    """Return the terms to draw."""
    known = [name for name in history if not name.startswith("valid_")]
    if terms is None:
        same = [
            name for name in _IN_NATS[1:] if _is_same(history.get(name), history.get("objective"))
        ]
        return [name for name in _IN_NATS if name in known and name not in same] or known
    names = [terms] if isinstance(terms, str) else list(terms)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ValueError(f"terms must be some of {known}. Got {terms!r}.")
    return names


def _unit(names: list[str]) -> str | None:
    if set(names) <= set(_IN_NATS):
        return "nats a row"
    return "each term in its own unit" if len(names) > 1 else None


def _is_same(values, objective) -> bool:
    """Return whether a term is all there is of the objective: two lines would be one."""
    if values is None or objective is None:
        return False
    return np.allclose(values, objective, rtol=1e-6, equal_nan=True)
