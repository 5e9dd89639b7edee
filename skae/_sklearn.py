"""What scikit-learn keeps private and skae needs: the only file that imports it.

None of these has a public counterpart in the versions that are supported. Where a new version moves
one, it is mended here.
"""

# Checks parameters before a method, and once for an estimator and those inside it.
from sklearn.base import _fit_context as fit_context

# Some rows of whatever a user's estimator is given: arrays, DataFrames of any library.
from sklearn.utils import _safe_indexing as safe_indexing

# Constraints of parameters, with the errors that scikit-learn's users know (`constraints.py`).
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    InvalidParameterError,
    StrOptions,
    validate_parameter_constraints,
    validate_params,
)

# Weights of rows, with the errors that scikit-learn's checks of estimators ask for.
from sklearn.utils.validation import _check_sample_weight as check_sample_weight

__all__ = [
    "HasMethods",
    "Interval",
    "InvalidParameterError",
    "StrOptions",
    "check_sample_weight",
    "fit_context",
    "safe_indexing",
    "validate_parameter_constraints",
    "validate_params",
]
