"""Threads of torch for the work at hand."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Below this many floating-point operations in a step other threads are not taken. On two cores two
# of them save a seventh of a step of some 10^8 operations and a third of one of 3 10^9; but where
# other programs want the cores too, each product waits for a thread that has lost its turn, and a
# step of any size takes half a second (`benchmarks/busy_machine.py`).
_WORTH_SHARING = 2e10

# The number is the whole process's: with fits in several threads the first one lowers it, and the
# last one puts it back.
_lock = threading.Lock()
_users = 0
_before = 1


@contextmanager
def threads_for(n_operations: float) -> Iterator[None]:
    """Use one thread inside the block where a step of so many operations is small.

    The number of threads is put back afterwards.
    """
    if n_operations >= _WORTH_SHARING:
        yield
        return
    _lower()
    try:
        yield
    finally:
        _put_back()


def _lower() -> None:
    global _users, _before
    with _lock:
        if _users == 0:
            _before = torch.get_num_threads()
        torch.set_num_threads(1)
        _users += 1


def _put_back() -> None:
    global _users
    with _lock:
        _users -= 1
        if _users == 0:
            torch.set_num_threads(_before)
