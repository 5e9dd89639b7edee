"""Threads of torch for the work at hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

# Below this many floating-point operations in a step, handing parts of it to other threads costs
# more than they save; and where other programs want the cores too, it costs many times the step.
_WORTH_SHARING = 1e8


@contextmanager
def threads_for(module: nn.Module, n_rows: int) -> Iterator[None]:
    """Use one thread inside the block where a pass of ``n_rows`` through the module is small.

    The number of threads is put back afterwards.
    """
    before = torch.get_num_threads()
    n_weights = sum(parameter.numel() for parameter in module.parameters())
    if 6 * n_rows * n_weights < _WORTH_SHARING:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
