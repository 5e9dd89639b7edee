"""scikit-learn's own checks, over every public estimator, none expected to fail."""

from sklearn.utils.estimator_checks import parametrize_with_checks

from skae import AutoencoderOutlierDetector
from tests.helpers import ESTIMATORS


@parametrize_with_checks([Estimator() for Estimator in [*ESTIMATORS, AutoencoderOutlierDetector]])
def test_common_checks_of_scikit_learn(estimator, check):
    check(estimator)
