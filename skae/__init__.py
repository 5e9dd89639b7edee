"""Autoencoders that behave like scikit-learn transformers."""

from skae._training.together import together
from skae.estimators import (
    AutoencoderTransformer,
    DenoisingAETransformer,
    SparseAutoencoderTransformer,
    StackedAutoencoderTransformer,
    VAETransformer,
)
from skae.outliers import AutoencoderOutlierDetector

__all__ = [
    "AutoencoderOutlierDetector",
    "AutoencoderTransformer",
    "DenoisingAETransformer",
    "SparseAutoencoderTransformer",
    "StackedAutoencoderTransformer",
    "VAETransformer",
    "together",
]

__version__ = "0.1.0"
