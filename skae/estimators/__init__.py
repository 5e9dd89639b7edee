"""What users construct: one class a file."""

from skae.estimators.autoencoder import AutoencoderTransformer
from skae.estimators.denoising import DenoisingAETransformer
from skae.estimators.sparse import SparseAutoencoderTransformer
from skae.estimators.stacked import StackedAutoencoderTransformer
from skae.estimators.variational import VAETransformer

__all__ = [
    "AutoencoderTransformer",
    "DenoisingAETransformer",
    "SparseAutoencoderTransformer",
    "StackedAutoencoderTransformer",
    "VAETransformer",
]
