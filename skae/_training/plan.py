"""How are sparse rows trained on? The rule behind ``sparse_method``, and what it rests on."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from skae._scaling import ColumnSummary
from skae.likelihoods import Likelihood

#: Values of ``sparse_method`` besides "auto".
METHODS = ("dense", "exact", "sampled")

# `benchmarks/sparse_scaling.py` measures all three. Below this many columns a dense batch is made
# in no time, and above this share of stored entries dense products are faster than sparse ones.
_FEWEST_COLUMNS, _LARGEST_DENSITY = 500, 0.5
# Up to this many columns the loss of all of them costs little more than that of a sample, which
# learns as much in a step and no more (`benchmarks/sparse_quality.py speed`).
_MOST_EXACT = 5_000
# A scaled column whose mean is more standard deviations than this from zero loses digits in single
# precision where squared errors are put together from sums of squares (0.01 nats at this ratio).
# Only users who chose not to centre columns have such.
_FARTHEST = 200.0
# Columns of the head and of the tail that stand for all.
_SAMPLED = (1024, 1024)


class Plan(NamedTuple):
    """How rows are trained on."""

    method: str  # one of METHODS; "dense" for dense rows, too
    n_sampled: tuple[int, int] | None = None  # columns of the head and of the tail

    @property
    def csr(self) -> bool:
        """Whether batches stay CSR."""
        return self.method != "dense"


DENSE = Plan("dense")


def choose_plan(
    method: str, X, likelihood: Likelihood, columns: ColumnSummary, device: str
) -> Plan:
    """Return how to train on X; "auto" goes by the columns, the density and the likelihood.

    ``columns`` are those of the training rows in the units of the network. Network and noise have
    their say in `possible`.
    """
    if not sp.issparse(X):
        return DENSE
    chosen = _fastest(X, likelihood, columns) if method == "auto" else method
    if chosen == "sampled" and likelihood.structure == "squared_error":
        raise ValueError(
            "sparse_method='sampled' is not for squared errors, of which a sample of columns "
            f"teaches nothing. Got likelihood {likelihood}. Choose sparse_method='exact', whose "
            "cost hardly depends on the batch size there."
        )
    plan = Plan(chosen, _SAMPLED if chosen == "sampled" else None)
    lacks = f"torch lacks some of the sparse products on device {device!r}"
    return possible(plan, method, lambda: lacks if device.startswith("mps") else None)


def possible(plan: Plan, method: str, obstacle: Callable[[], str | None]) -> Plan:
    """Return a plan, or the dense one where ``obstacle()`` says what stands in its way.

    Raises
    ------
    ValueError
        Something does, and ``method``, which the user asked for, is not "auto".
    """
    reason = obstacle() if plan.csr else None
    if reason is None:
        return plan
    if method == "auto":
        return DENSE
    raise ValueError(
        f"sparse_method={method!r} trains on CSR rows as they are, and cannot be kept: {reason}. "
        "Choose sparse_method='auto' or 'dense': batches are then made dense."
    )


def _fastest(X, likelihood: Likelihood, columns: ColumnSummary) -> str:
    n_rows, n_features = X.shape
    if likelihood.structure == "squared_error" and _far_from_zero(columns):
        return "dense"
    if n_features < _FEWEST_COLUMNS or X.nnz > _LARGEST_DENSITY * n_rows * n_features:
        return "dense"
    if likelihood.structure == "squared_error" or n_features <= _MOST_EXACT:
        return "exact"
    return "sampled"


def _far_from_zero(columns: ColumnSummary) -> bool:
    spread = np.sqrt(columns.variance)
    return bool((np.abs(columns.mean) > _FARTHEST * spread)[~columns.constant].any())
