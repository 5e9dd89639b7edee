"""What "auto" stands for where the likelihood decides, by what it declares of itself.

A likelihood of the user's own gets the same defaults as those of its kind.
"""

from __future__ import annotations

from skae.likelihoods import Likelihood

# Where many columns are rare, as among counts, they are overfitted with less decay.
_ALPHA, _ALPHA_OF_COUNTS = 1e-4, 0.3


def default_alpha(likelihood: Likelihood) -> float:
    """Return the decay of the weights that ``alpha="auto"`` stands for."""
    return _ALPHA_OF_COUNTS if likelihood.conditional_on_total else _ALPHA


def default_scaling(likelihood: Likelihood) -> str | None:
    """Return the ``input_scaling`` that "auto" stands for."""
    if likelihood.location_scale:
        return "fourth_moment"
    if likelihood.conditional_on_total:
        return "log1p"
    if likelihood.has_zero_mass and likelihood.sample_dtype is None:
        return "max"  # amounts among zeros: it keeps the zeros, and brings columns into [0, 1]
    return None
