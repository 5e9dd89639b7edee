"""What is stored and loaded again is the same estimator, and goes on as if nothing had happened."""

import copy
import io
import pickle
import subprocess
import sys

import cloudpickle
import joblib
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import clone

from skae import (
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    DenoisingAETransformer,
    SparseAutoencoderTransformer,
    VAETransformer,
)
from skae.likelihoods import Gaussian, Multinomial
from skae.networks import CustomNetwork
from skae.noise import Masking
from skae.priors import StandardNormal
from skae.samplers import KernelSampler
from skae.schedules import Cosine, LinearWarmup
from skae.sparsity import KL
from tests.helpers import (
    ESTIMATORS,
    QUICK,
    QUIET,
    counts,
    every_estimator,
    low_rank,
    weights_of,
)

pytestmark = QUIET

X = low_rank(60)
FORMATS = [np.asarray, sp.csr_array]


def by_joblib(estimator):
    file = io.BytesIO()
    joblib.dump(estimator, file)
    file.seek(0)
    return joblib.load(file)


def by_skops(estimator):
    skops = pytest.importorskip("skops.io")
    data = skops.dumps(estimator)
    return skops.loads(data, trusted=skops.get_untrusted_types(data=data))


WAYS = {
    "pickle": lambda estimator: pickle.loads(pickle.dumps(estimator)),
    "joblib": by_joblib,
    "cloudpickle": lambda estimator: cloudpickle.loads(cloudpickle.dumps(estimator)),
    "skops": by_skops,
    "copy": copy.deepcopy,
}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)

# Every parameter that takes an object holds one.
WITH_OBJECTS = [
    AutoencoderTransformer(
        likelihood=Gaussian(variance="shared"),
        sampler=KernelSampler(bandwidth=0.2),
        learning_rate=Cosine(),
        **QUICK,
    ),
    AutoencoderTransformer(
        3, network=CustomNetwork(torch.nn.Linear, torch.nn.Linear), max_iter=5, random_state=0
    ),
    SparseAutoencoderTransformer(sparsity=KL(), sparse_output=True, **QUICK),
    DenoisingAETransformer(noise=Masking(), **QUICK),
    VAETransformer(prior=StandardNormal(), kl_warmup=LinearWarmup(0.5), **QUICK),
    VAETransformer(likelihood=Multinomial(), sparse_method="exact", **QUICK),
]


def answers(estimator, rows):
    found = {name: getattr(estimator, name)(rows) for name in ("transform", "score_samples")}
    found["reconstruct"] = estimator.reconstruct(rows)
    found["sample"] = estimator.sample(4, random_state=0)
    return {name: value.toarray() if sp.issparse(value) else value for name, value in found.items()}


def assert_same(one, other, rows):
    expected = answers(other, rows)
    for name, value in answers(one, rows).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    assert one.history_ == other.history_


@every_way
@pytest.mark.parametrize("as_format", FORMATS)
@every_estimator
def test_fitted_estimator_answers_and_goes_on_the_same(Estimator, as_format, way):
    rows = as_format(X)
    estimator = Estimator(**QUICK).fit(rows)
    loaded = way(estimator)
    assert_same(loaded, estimator, rows)
    for one in (estimator, loaded):
        one.partial_fit(rows)
        one.set_params(warm_start=True).fit(rows)
    np.testing.assert_array_equal(weights_of(loaded), weights_of(estimator))
    assert_same(loaded, estimator, rows)


@every_way
@pytest.mark.parametrize("estimator", WITH_OBJECTS, ids=lambda one: repr(one)[:60])
def test_objects_as_parameters_are_stored_too(estimator, way):
    rows = sp.csr_array(counts(60))
    loaded = way(clone(estimator))
    assert repr(loaded) == repr(estimator)
    fitted = clone(estimator).fit(rows)
    loaded_fitted = way(fitted)
    assert repr(loaded_fitted) == repr(estimator)
    assert_same(loaded_fitted, fitted, rows)
    np.testing.assert_array_equal(weights_of(loaded.fit(rows)), weights_of(fitted))


DETECTORS = {
    "default": AutoencoderOutlierDetector(random_state=0),
    "contaminated": AutoencoderOutlierDetector(contamination=0.1, random_state=0),
    "log-likelihood": AutoencoderOutlierDetector(
        VAETransformer(**QUICK), criterion="log_likelihood", random_state=0
    ),
    "alarms": AutoencoderOutlierDetector(AutoencoderTransformer(**QUICK), fdr=0.2, random_state=0),
}


@every_way
@pytest.mark.parametrize("as_format", FORMATS)
@pytest.mark.parametrize("detector", DETECTORS.values(), ids=DETECTORS)
def test_detector_answers_the_same(detector, as_format, way):
    rows = as_format(X)
    detector = clone(detector).fit(rows)
    loaded = way(detector)
    for name in ("score_samples", "predict", "p_values"):
        np.testing.assert_array_equal(getattr(loaded, name)(rows), getattr(detector, name)(rows))
    if detector.criterion == "auto":
        shares = [one.score_features(rows[:3]) for one in (loaded, detector)]
        shares = [one.toarray() if sp.issparse(one) else one for one in shares]
        np.testing.assert_array_equal(*shares)
        assert loaded.explain(rows[:1]).equals(detector.explain(rows[:1]))
    assert loaded.offset_ == detector.offset_


def test_skops_asks_for_trust_in_nothing_that_is_not_named():
    """The types are those of skae, of the libraries below it, and Python's own."""
    skops = pytest.importorskip("skops.io")
    for Estimator in ESTIMATORS:
        data = skops.dumps(Estimator(**QUICK).fit(X))
        owners = {name.partition(".")[0] for name in skops.get_untrusted_types(data=data)}
        assert owners <= {"skae", "skorch", "torch", "functools", "collections", "builtins"}


def test_another_process_answers_the_same(tmp_path):
    estimator = VAETransformer(**QUICK).fit(X)
    joblib.dump(estimator, tmp_path / "model.joblib")
    np.save(tmp_path / "rows.npy", X)
    code = (
        "import joblib, numpy as np\n"
        "model = joblib.load('model.joblib')\n"
        "np.save('scores.npy', model.score_samples(np.load('rows.npy')))\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    np.testing.assert_allclose(
        np.load(tmp_path / "scores.npy"), estimator.score_samples(X), rtol=1e-5
    )
