"""Progress bars for what takes long."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tqdm.auto import tqdm


class Tracker:
    """Shows how far the work on some parts is, if it takes more than a second.

    Parameters
    ----------
    verbose : int
        0 shows nothing.
    prefix : str
        First words of each description.
    """

    def __init__(self, verbose: int, prefix: str):
        self.verbose, self.prefix = verbose, prefix

    def __call__(self, parts: Iterable, n_parts: int, description: str) -> Iterator[Any]:
        """Yield the parts.

        Parameters
        ----------
        parts : iterable
            Things that are worked out while they are yielded, rows or blocks of them.
        n_parts : int
            How many, about, or the number of rows where parts have ``rows``.
        description : str
        """
        bar = tqdm(
            total=n_parts,
            desc=f"{self.prefix}: {description}",
            delay=1.0,
            leave=False,
            disable=not self.verbose,
        )
        with bar:
            for part in parts:
                yield part
                bar.update(len(getattr(part, "rows", [0])))
