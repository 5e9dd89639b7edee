"""Which rows are odd, and why? The anomaly detector and its parts, one question a file."""

from skae.outliers.detector import AutoencoderOutlierDetector

__all__ = ["AutoencoderOutlierDetector"]
