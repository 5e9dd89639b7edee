"""What users construct: one class a file."""

from skae.estimators.autoencoder import AutoencoderTransformer
from skae.estimators.denoising import DenoisingAETransformer
from skae.estimators.outlier import AutoencoderOutlierDetector
from skae.estimators.sparse import SparseAutoencoderTransformer
from skae.estimators.variational import VAETransformer

__all__ = [
    "AutoencoderOutlierDetector",
    "AutoencoderTransformer",
    "DenoisingAETransformer",
    "SparseAutoencoderTransformer",
    "VAETransformer",
]
