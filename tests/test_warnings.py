"""Does a warning stand at the line of the program, and never in the place of an error?"""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import (
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    SparseAutoencoderTransformer,
    VAETransformer,
)
from skae.exceptions import NonFiniteLossError, PosteriorCollapseWarning
from skae.sparsity import L1
from tests.helpers import QUICK, low_rank

X = low_rank(60)


class Off(L1):
    """Switches every unit off."""

    def activate(self, pre, n_active):
        return 0.0 * pre


CASES = {
    "unfinished": (AutoencoderTransformer(**QUICK), ConvergenceWarning, "Maximum iterations"),
    "dead": (
        SparseAutoencoderTransformer(sparsity=Off(), **{**QUICK, "max_iter": "auto"}, tol=1e9),
        ConvergenceWarning,
        "No unit is active",
    ),
    "collapse": (
        VAETransformer(
            beta=1e4, kl_warmup=0.0, init="random", **{**QUICK, "max_iter": "auto"}, tol=1e9
        ),
        PosteriorCollapseWarning,
        "The posterior collapsed",
    ),
}
WAYS = {
    "fit": lambda estimator: estimator.fit(X),
    "fit_transform": lambda estimator: estimator.fit_transform(X),
    "pipeline": lambda estimator: make_pipeline(StandardScaler(), estimator).fit(X),
    "search": lambda estimator: GridSearchCV(estimator, {"alpha": [0.0]}, cv=2).fit(X),
}


@pytest.mark.parametrize(("estimator", "kind", "words"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_warning_stands_at_the_line_that_called(way, estimator, kind, words):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        way(estimator)
    found = [one for one in caught if one.category is kind and words in str(one.message)]
    assert found
    assert {one.filename for one in found} == {__file__}


def test_warning_of_the_detector_stands_at_the_line_that_called():
    detector = AutoencoderOutlierDetector(
        AutoencoderTransformer(**QUICK), fdr=0.1, cv=2, random_state=0
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        detector.fit(X[:15]).predict(X)
    (found,) = (one for one in caught if "smallest p-value" in str(one.message))
    assert found.filename == __file__


def test_warnings_that_are_errors_do_not_replace_the_error_of_a_training():
    estimator = SparseAutoencoderTransformer(sparsity=Off(), **QUICK)
    estimator.set_params(optimizer="sgd", learning_rate_init=1e12, max_iter=50)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(NonFiniteLossError):
            estimator.fit(X)
    assert np.isfinite(estimator.transform(X)).all()
