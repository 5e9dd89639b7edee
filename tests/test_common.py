"""scikit-learn's own checks, over every public estimator, none expected to fail."""

from sklearn.utils.estimator_checks import parametrize_with_checks

from skae import AutoencoderOutlierDetector, StackedAutoencoderTransformer
from tests.helpers import ESTIMATORS

PUBLIC = [*ESTIMATORS, StackedAutoencoderTransformer, AutoencoderOutlierDetector]


@parametrize_with_checks([Estimator() for Estimator in PUBLIC])
def test_common_checks_of_scikit_learn(estimator, check):
    check(estimator)
