"""A fitted module on rows of any number: numpy in, numpy out, a block at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from skae._kernels.csr import Csr
from skae._scaling import Scaling
from skae._training.batches import to_csr, to_tensor
from skae._training.threads import threads_for

# Blocks have this many rows, or fewer where dense rows are so wide that a block would have more
# cells; never fewer than the least. With 128 rows a dense network of 784-256-32 is as fast as with
# thousands, and a single row takes a millisecond.
_MOST_ROWS, _LEAST_ROWS, _CELLS_PER_BLOCK = 128, 32, 2**22


@torch.inference_mode()
def map_rows(
    function: Callable[[Tensor | Csr], Tensor],
    X,
    module: nn.Module,
    scaling: Scaling | None = None,
    *,
    width: int,
    operations: float = 0.0,
    csr: bool = False,
    farthest: float | None = None,
) -> Iterator[np.ndarray]:
    """Yield ``function`` of the rows of a dense or CSR X, block by block.

    All blocks have one shape, which depends on ``width`` alone, the most numbers that stand for a
    row on its way (columns, or what feature maps hold): the last is filled up with rows of zeros.
    Kernels choose their way, and with it their rounding, by the shape, so that a row is worked on
    alike beside any others. (What is left is the place of a row in its block, which may change a
    last bit on some processors.)
    With ``csr`` a CSR X stays so. ``operations`` is what a row costs (see `threads_for`).
    Numbers farther from zero than ``farthest``, in the units of the network, are clipped to it: one
    absurd cell is no reason for a batch to have no answer.
    """
    module.eval()
    device = next(module.parameters()).device
    csr = csr and sp.issparse(X)
    # CSR rows are worked on in chunks of columns, and take no memory for their width.
    size = _MOST_ROWS if csr else _rows_per_block(width)
    to_rows = to_csr if csr else to_tensor
    with threads_for(size * operations):
        for start in range(0, X.shape[0], size):
            rows = to_rows(X[start : start + size], scaling, device, farthest)
            yield function(_filled_up(rows, size))[: len(rows)].cpu().numpy()


def _rows_per_block(width: int) -> int:
    """Return a multiple of 32, so that loops over vectors have no rest to do in another way."""
    size = _CELLS_PER_BLOCK // (width * _LEAST_ROWS) * _LEAST_ROWS
    return min(max(size, _LEAST_ROWS), _MOST_ROWS)


def _filled_up(rows: Tensor | Csr, size: int) -> Tensor | Csr:
    if isinstance(rows, Csr):
        return rows.filled_up(size)
    return nn.functional.pad(rows, (0, 0, 0, size - len(rows)))
