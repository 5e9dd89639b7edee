"""Pictures of fitted estimators, as scikit-learn's displays: data that can be drawn.

A display is made from an estimator or a search, draws itself, and keeps what it drew as plain
numbers. Estimators are known by their methods and attributes alone: where one has what a picture
needs, as `sklearn.decomposition.PCA` has codes and reconstructions, it can be drawn too. A pipeline
stands for its last step, a search for its best estimator. matplotlib is the extra "plots".
"""

from skae.plotting.latent_map import LatentMapDisplay
from skae.plotting.latent_use import LatentUseDisplay
from skae.plotting.loss_curve import LossCurveDisplay
from skae.plotting.reconstruction import ReconstructionDisplay
from skae.plotting.size import SizeDisplay
from skae.plotting.units import UnitsDisplay

__all__ = [
    "LatentMapDisplay",
    "LatentUseDisplay",
    "LossCurveDisplay",
    "ReconstructionDisplay",
    "SizeDisplay",
    "UnitsDisplay",
]
