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

_CELLS_PER_BLOCK, _MOST_ROWS = 2**22, 4096
# CSR rows are worked on in chunks of columns, so that as many rows as are good for a matrix product
# can be taken at once, however wide they are.
_CSR_ROWS = 512

# Matrix products take another path through their kernels for a few rows than for many, with other
# rounding; and loops over vectors (up to 32 numbers at once) do the last few of all numbers in
# another way. Blocks are filled up to a multiple of this many rows, so that the result for a row is
# the same to the last bit whichever rows stand beside it.
_ROWS_MULTIPLE = 32


@torch.inference_mode()
def map_rows(
    function: Callable[[Tensor | Csr], Tensor],
    X,
    module: nn.Module,
    scaling: Scaling | None = None,
    *,
    width: int,
    csr: bool = False,
    farthest: float | None = None,
) -> Iterator[np.ndarray]:
    """Yield ``function`` of the rows of a dense or CSR X, block by block.

    The blocks are bounded in cells, so that memory does not grow with the rows of X. ``width`` is
    the largest number of columns that a row has on its way. With ``csr`` a CSR X stays so.
    Numbers farther from zero than ``farthest``, in the units of the network, are clipped to it: one
    absurd cell is no reason for a batch to have no answer.
    """
    module.eval()
    device = next(module.parameters()).device
    step = max(1, _CELLS_PER_BLOCK // (width * _ROWS_MULTIPLE)) * _ROWS_MULTIPLE
    csr = csr and sp.issparse(X)
    step = _CSR_ROWS if csr else min(step, _MOST_ROWS)
    with threads_for(module, min(step, X.shape[0])):
        for start in range(0, X.shape[0], step):
            block = X[start : start + step]
            rows = (to_csr if csr else to_tensor)(block, scaling, device, farthest)
            yield function(_fill_up(rows))[: len(rows)].cpu().numpy()


def _fill_up(rows: Tensor | Csr) -> Tensor | Csr:
    missing = -len(rows) % _ROWS_MULTIPLE
    if isinstance(rows, Csr):
        return rows.filled_up(len(rows) + missing)
    return nn.functional.pad(rows, (0, 0, 0, missing)) if missing else rows
