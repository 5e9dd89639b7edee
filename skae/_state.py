"""An estimator as it was before a call that failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def restored_on_error(estimator) -> Iterator[None]:
    """Give an estimator its attributes back where the block ends with an error, or with Ctrl-C.

    The block may set and delete attributes. What they held is not copied: the block makes new
    objects, and changes none.
    """
    before = estimator.__dict__.copy()
    try:
        yield
    except BaseException:
        estimator.__dict__ = before
        raise
