"""Autoencoders that behave like scikit-learn transformers."""

from skae.estimators import (
    AutoencoderTransformer,
    DenoisingAETransformer,
    SparseAutoencoderTransformer,
    VAETransformer,
)

__all__ = [
    "AutoencoderTransformer",
    "DenoisingAETransformer",
    "SparseAutoencoderTransformer",
    "VAETransformer",
]

__version__ = "0.1.0"
