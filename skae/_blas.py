"""One thread for the matrix products of numpy and scipy."""

from __future__ import annotations

import functools

from threadpoolctl import ThreadpoolController


@functools.cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()  # to look for the libraries takes long enough to do it once


def one_blas_thread():
    """Return a context in which matrix products of numpy and scipy take one thread.

    Those of a block of rows are too small for two to win much, and where other programs want the
    cores too, a thread that waits spinning for another costs many times the product
    (``benchmarks/busy_machine.py``).
    """
    return _controller().limit(limits=1, user_api="blas")
