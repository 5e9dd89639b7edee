"""From the encoder's output to the code: as it is, sparse, or a posterior.

A bottleneck is the one part of the network in which the estimators differ: `base.py` says what it
gives, and each kind stands in a file of its own, beside the plain data that make it.
"""

from skae._training.bottlenecks.base import (
    Bottleneck,
    BottleneckSpec,
    Gains,
    LogLikelihood,
    Step,
    Term,
    Terms,
)
from skae._training.bottlenecks.plain import PlainBottleneck, PlainCode
from skae._training.bottlenecks.sizing import SizingBottleneck, SizingCode
from skae._training.bottlenecks.sparse import SparseBottleneck, SparseCode
from skae._training.bottlenecks.variational import GaussianCode, VariationalBottleneck

__all__ = [
    "Bottleneck",
    "BottleneckSpec",
    "Gains",
    "GaussianCode",
    "LogLikelihood",
    "PlainBottleneck",
    "PlainCode",
    "SizingBottleneck",
    "SizingCode",
    "SparseBottleneck",
    "SparseCode",
    "Step",
    "Term",
    "Terms",
    "VariationalBottleneck",
]
