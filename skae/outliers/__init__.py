"""Which rows are odd, and why? The anomaly detector and its parts, one question a file."""

from skae.outliers.criteria import (
    CRITERIA,
    Criterion,
    LogLikelihood,
    NeighboursAndNetwork,
    RobustNeighboursAndNetwork,
)
from skae.outliers.detector import AutoencoderOutlierDetector

__all__ = [
    "CRITERIA",
    "AutoencoderOutlierDetector",
    "Criterion",
    "LogLikelihood",
    "NeighboursAndNetwork",
    "RobustNeighboursAndNetwork",
]
