"""Where does a training start? At random, or at the best linear model, found in closed form.

To add one: one class in a file here and one line in `INITS`.
"""

from skae.inits.auto import AutoInit
from skae.inits.base import Init, LinearStart, Random
from skae.inits.cooccurrence import CooccurrenceInit
from skae.inits.factor_analysis import FactorAnalysisInit
from skae.inits.pca import PCAInit
from skae.inits.rows import StartRows
from skae.inits.words import Words

#: Names for ``init``, beside "auto".
INITS: dict[str, type[Init]] = {
    "random": Random,
    "pca": PCAInit,
    "factor_analysis": FactorAnalysisInit,
    "cooccurrence": CooccurrenceInit,
}

__all__ = [
    "INITS",
    "AutoInit",
    "CooccurrenceInit",
    "FactorAnalysisInit",
    "Init",
    "LinearStart",
    "PCAInit",
    "Random",
    "StartRows",
    "Words",
]
