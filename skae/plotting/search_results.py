"""What a search found, by the number of components: from ``cv_results_`` to points of a curve."""

from __future__ import annotations

import re
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skae.plotting.steps import last_of

_NAME = "n_components"


class Points(NamedTuple):
    """Points of curves: a size, its score, and the setting of other parameters as a text."""

    n_components: np.ndarray
    score: np.ndarray
    standard_error: np.ndarray | None
    setting: np.ndarray | None


class SearchResults:
    """The candidates of a fitted search that name a number of components.

    Parameters
    ----------
    search : GridSearchCV, RandomizedSearchCV or the like
        With ``cv_results_``.
    param : str or None
        Name of the parameter that is the size; None is the only one that is called
        ``n_components``, or ends with ``__n_components``.
    metric : str or None
        Name of the score; None is the one by which the search chose.

    Raises
    ------
    NotFittedError
        The search is not fitted.
    ValueError
        It is no search, or there is no such parameter or score, or more than one.
    """

    def __init__(self, search, param: str | None, metric: str | None):
        check_is_fitted(search)
        if not hasattr(search, "cv_results_"):
            raise ValueError(
                f"{type(search).__name__} is no search: it has no cv_results_. An estimator that "
                "was fitted with n_components='auto' is drawn by SizeDisplay.from_estimator."
            )
        self.search, self.results = search, search.cv_results_
        self.params = [
            key.removeprefix("param_") for key in self.results if key.startswith("param_")
        ]
        self.param = self._size_param(param)
        self.metric = self._metric(metric)
        self.scores = np.asarray(self.results[f"mean_test_{self.metric}"], dtype=float)
        self.sizes = self._sizes()

    def points(self, by: str | None) -> Points:
        """Return the best candidate of each size, for each value of the parameter ``by``."""
        setting = self._settings(by)
        best: dict[tuple, int] = {}
        usable = np.isfinite(self.sizes) & np.isfinite(self.scores)
        for place in np.flatnonzero(usable).tolist():
            key = setting[place], self.sizes[place]
            if key not in best or self.scores[place] > self.scores[best[key]]:
                best[key] = place
        if not best:
            raise ValueError(
                f"No candidate of the search has both a number for {self.param!r} and a score: "
                "every fit failed (error_score='raise' shows why), or none names it."
            )
        order = np.array(sorted(best.values(), key=lambda place: self.sizes[place]))
        error = self._standard_errors()
        return Points(
            self.sizes[order],
            self.scores[order],
            None if error is None else error[order],
            np.array([setting[place] for place in order]) if any(setting) else None,
        )

    def chosen(self) -> float | None:
        """Return the size that the search chose; where it was not to choose, the best."""
        if hasattr(self.search, "best_params_"):
            return self.search.best_params_.get(self.param)
        return float(self.sizes[np.nanargmax(np.where(np.isnan(self.sizes), np.nan, self.scores))])

    def others(self) -> list[str]:
        """Return the other parameters that were varied, as short as can be told apart."""
        varied = [
            name
            for name in self.params
            if name != self.param and len({repr(value) for value in self._tried(name)}) > 1
        ]
        short = [name.rpartition("__")[2] for name in varied]
        return short if len(set(short)) == len(short) else varied

    def _size_param(self, param: str | None) -> str:
        """Return the name of the parameter that is the size."""
        if param is not None:
            return self._known(param, "param")
        found = [name for name in self.params if re.fullmatch(rf"(.*__)?{_NAME}", name)]
        if len(found) != 1:
            raise ValueError(
                f"The search varies {'no' if not found else 'more than one'} {_NAME}: it has "
                f"{self.params}. Say which is the size, such as param={(found or self.params)[0]!r}"
                "."
            )
        return found[0]

    def _known(self, name: str, argument: str) -> str:
        """Return the full name of a parameter, of which the last part may be given."""
        found = [one for one in self.params if name in (one, one.rpartition("__")[2])]
        if len(found) != 1:
            raise ValueError(
                f"{argument} must name one of the parameters that were searched, {self.params}. "
                f"Got {name!r}."
            )
        return found[0]

    def _metric(self, metric: str | None) -> str:
        names = [key.removeprefix("mean_test_") for key in self.results if "mean_test_" in key]
        refit = getattr(self.search, "refit", None)
        if metric is None and len(names) == 1:
            return names[0]
        if metric is None and refit in names:
            return str(refit)
        if metric is None or metric not in names:
            raise ValueError(f"metric must be one of {names}. Got {metric!r}.")
        return metric

    def _tried(self, name: str) -> list:
        """Return the value of each candidate; None where it does not name the parameter."""
        values = self.results[f"param_{name}"]
        given = np.ma.getdata(values).astype(object)
        given[np.ma.getmaskarray(values)] = None
        return given.tolist()

    def _sizes(self) -> np.ndarray:
        values = self._tried(self.param)
        odd = [value for value in values if not (value is None or isinstance(value, Real))]
        if odd:
            raise ValueError(
                f"Sizes must be numbers. The search tried {self.param}={odd[0]!r}, which has no "
                "place among them. Leave it out of the search; SizeDisplay.from_estimator draws a "
                "fit with n_components='auto'."
            )
        return np.array([np.nan if value is None else value for value in values], dtype=float)

    def _settings(self, by: str | None) -> list[str]:
        """Return what a candidate is told apart by, as a text.

        Scores on different numbers of rows, as of successive halving, are never one curve.
        """
        texts: list[list[str]] = [[] for _ in self.scores]
        if by is not None:
            for text, value in zip(texts, self._tried(self._known(by, "by")), strict=True):
                text.append(f"{by}={'default' if value is None else value}")
        if len(set(np.asarray(self.results.get("n_resources", [0])).tolist())) > 1:
            for text, value in zip(texts, self.results["n_resources"], strict=True):
                text.append(f"{self.search.resource}={value}")
        return [", ".join(text) for text in texts]

    def _standard_errors(self) -> np.ndarray | None:
        """Return the standard error of the mean over folds; None where there is but one."""
        name = re.compile(rf"split\d+_test_{re.escape(self.metric)}")
        folds = [values for key, values in self.results.items() if name.fullmatch(key)]
        if len(folds) < 2:
            return None
        return np.std(folds, axis=0, ddof=1) / np.sqrt(len(folds))


def name_of_score(search, metric: str) -> str | None:
    """Return the name of the score of a search; None where it is a log-likelihood of rows."""
    scoring: Any = search.scoring
    if isinstance(scoring, dict):
        return metric.replace("_", " ")
    if scoring is None:
        # That is what `score` of a density of rows is the mean of.
        last = last_of(search.estimator)
        is_density = hasattr(type(last), "score_samples") and hasattr(type(last), "transform")
        return None if is_density else "score"
    if not isinstance(scoring, str):
        if metric != "score":
            return metric.replace("_", " ")
        scoring = getattr(scoring, "__name__", "score")
    return scoring.strip("_").replace("_", " ")
