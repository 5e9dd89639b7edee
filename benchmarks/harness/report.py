"""What is printed: tables, line by line as they are found, and differences of pairs."""

from typing import NamedTuple

import numpy as np


class Table:
    """A table whose head is printed at once and whose rows are printed as they come.

    Parameters
    ----------
    title : str
        What the rows are; stands above their names.
    columns : dict
        Format specification, such as ``".2f"``, by head. Columns are as wide as their head, at
        least `narrowest`, and two spaces apart.
    title_width : int, default=24
    narrowest : int, default=6
    """

    def __init__(self, title, columns, *, title_width=24, narrowest=6):
        self.title_width = title_width
        self.columns = [(max(len(head), narrowest) + 2, spec) for head, spec in columns.items()]
        self._print(title, columns)

    def row(self, name, values):
        """Print a row; None and NaN are printed as "-"."""
        specs = (spec for _, spec in self.columns)
        self._print(name, [_cell(*pair) for pair in zip(values, specs, strict=True)])

    def _print(self, name, cells):
        aligned = (f"{cell:>{width}}" for cell, (width, _) in zip(cells, self.columns, strict=True))
        print(f"{name!s:{self.title_width}}" + "".join(aligned), flush=True)


def _cell(value, spec):
    missing = value is None or value != value  # NaN alone differs from itself
    return "-" if missing else format(value, spec)


class Paired(NamedTuple):
    """How one side differs from another on the same sets, seeds or rows."""

    mean: float
    error: float
    won: int
    lost: int


def paired(ours, theirs, margin=0.0):
    """Compare figures of which each pair was found under the same conditions.

    Parameters
    ----------
    ours, theirs : array-likes of shape (n_pairs,)
        Larger is better.
    margin : float, default=0.0
        A pair is won, or lost, where the difference is larger than this.

    Returns
    -------
    Paired
        Mean of ours minus theirs, its standard error (NaN for a single pair), pairs won and lost.
    """
    difference = np.subtract(ours, theirs)
    n = len(difference)
    error = difference.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
    won, lost = (difference > margin).sum(), (difference < -margin).sum()
    return Paired(difference.mean(), error, int(won), int(lost))
