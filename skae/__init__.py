"""Autoencoders that behave like scikit-learn transformers."""

from skae.estimators import (
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    DenoisingAETransformer,
    SparseAutoencoderTransformer,
    VAETransformer,
)

__all__ = [
    "AutoencoderOutlierDetector",
    "AutoencoderTransformer",
    "DenoisingAETransformer",
    "SparseAutoencoderTransformer",
    "VAETransformer",
]

__version__ = "0.1.0"
