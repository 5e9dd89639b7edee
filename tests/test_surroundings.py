"""Whatever the program around has set, answers are the same, and in the container it wants."""

import contextlib
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn
import torch

from skae import AutoencoderOutlierDetector, SparseAutoencoderTransformer, VAETransformer
from skae._tables import to_sparse_interface
from skae.networks import CustomNetwork
from skae.priors import StandardNormal
from skae.samplers import GaussianMixtureSampler, KernelSampler
from tests.helpers import ESTIMATORS, QUICK, counts, low_rank, weights_of

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::skae.exceptions.PosteriorCollapseWarning"),
]

every_estimator = pytest.mark.parametrize("Estimator", ESTIMATORS)
X = low_rank(60)
COUNTS = counts(60)
TEXTS = counts(120, 120, rate=0.05)
DEFAULT_SIZES = {"hidden_layer_sizes": (128,)}  # beside modules that do not look at them


# torch


@contextlib.contextmanager
def default_device():
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextlib.contextmanager
def default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


MODES = {
    "default device": default_device,
    "device": lambda: torch.device("meta"),
    "inference": torch.inference_mode,
    "no gradients": torch.no_grad,
    "gradients off": lambda: torch.set_grad_enabled(False),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "double": default_dtype,
}
every_mode = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)


def life(estimator, rows):
    """Do all that an estimator can do; return what came out, and its weights."""
    codes = estimator.fit(rows).transform(rows)
    found = [codes, estimator.score_samples(rows), estimator.reconstruct(rows)]
    found += [estimator.inverse_transform(codes), estimator.sample(3, random_state=0)]
    loaded = pickle.loads(pickle.dumps(estimator.partial_fit(rows)))
    loaded.set_params(warm_start=True).partial_fit(rows).fit(rows)
    found += [loaded.transform(rows), weights_of(loaded)]
    return [one.toarray() if sp.issparse(one) else one for one in found]


@every_mode
@pytest.mark.parametrize(
    ("rows", "settings"),
    [
        (X, {}),
        (sp.csr_array(X), {}),
        (sp.csr_array(COUNTS), {"likelihood": "multinomial", "sparse_method": "sampled"}),
        (sp.csr_array(COUNTS), {"likelihood": "poisson", "sparse_method": "exact"}),
        (sp.csr_array(TEXTS), {"likelihood": "poisson"}),
        (X, {"network": CustomNetwork(torch.nn.Linear, torch.nn.Linear), **DEFAULT_SIZES}),
    ],
    ids=["dense", "CSR", "sampled", "exact", "texts", "own modules"],
)
@every_estimator
def test_modes_of_torch_change_nothing(Estimator, mode, rows, settings):
    if mode is default_dtype and "network" in settings:
        pytest.skip("the modules are the user's, and so is their dtype")
    estimator = Estimator(**{**QUICK, **settings}, device="cpu")
    expected = life(sklearn.clone(estimator), rows)
    with mode():
        found = life(sklearn.clone(estimator), rows)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@every_mode
@pytest.mark.parametrize("settings", [{}, {"contamination": 0.1}, {"fdr": 0.1}])
def test_modes_of_torch_do_not_change_the_detector(mode, settings):
    expected = AutoencoderOutlierDetector(**settings, random_state=0).fit(X)
    with mode():
        detector = AutoencoderOutlierDetector(**settings, random_state=0).fit(X)
        scores, labels = detector.score_samples(X), detector.predict(X)
    np.testing.assert_array_equal(scores, expected.score_samples(X))
    np.testing.assert_array_equal(labels, expected.predict(X))


class Wide(StandardNormal):
    """A prior of a user's, who names no device."""

    def sample(self, shape, generator):
        return 3 * torch.randn(shape, generator=generator, dtype=torch.float32)


@every_mode
def test_modes_of_torch_do_not_matter_to_components_of_users(mode):
    expected = VAETransformer(prior=Wide(), **QUICK).fit(X).sample(5, random_state=0)
    with mode():
        found = VAETransformer(prior=Wide(), **QUICK).fit(X).sample(5, random_state=0)
    np.testing.assert_array_equal(found, expected)


@every_mode
def test_the_mode_is_as_it_was_afterwards(mode):
    def look():
        return (
            torch.empty(0).device.type,
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.is_autocast_enabled("cpu"),
            torch.get_default_dtype(),
        )

    with mode():
        before = look()
        VAETransformer(**QUICK).fit(X).sample(2)
        assert look() == before


# scikit-learn

has_setting = pytest.mark.skipif(
    "sparse_interface" not in sklearn.get_config(), reason="scikit-learn has no such setting"
)
INTERFACES = {"spmatrix": sp.csr_matrix, "sparray": sp.csr_array}


def sparse_answers(rows):
    model = SparseAutoencoderTransformer(**QUICK, sparse_output=True).fit(rows)
    codes = model.transform(rows)
    return {
        "transform": codes,
        "fit_transform": SparseAutoencoderTransformer(**QUICK, sparse_output=True).fit_transform(
            rows
        ),
        "inverse_transform": model.inverse_transform(codes, sparse_output=True),
        "reconstruct": model.reconstruct(rows, sparse_output=True),
        "sample": model.sample(3, random_state=0),
        "score_features": AutoencoderOutlierDetector(ESTIMATORS[0](**QUICK), random_state=0)
        .fit(rows)
        .score_features(rows),
    }


@has_setting
@pytest.mark.parametrize("given", [sp.csr_matrix, sp.csr_array, sp.csc_matrix, sp.coo_array])
@pytest.mark.parametrize(("interface", "kind"), INTERFACES.items())
def test_sparse_answers_follow_the_setting(interface, kind, given):
    with sklearn.config_context(sparse_interface=interface):
        for name, answer in sparse_answers(given(COUNTS)).items():
            assert type(answer) is kind, name


@pytest.mark.parametrize("given", [sp.csr_matrix, sp.csr_array])
def test_without_the_setting_answers_are_of_the_kind_of_the_rows(given, monkeypatch):
    monkeypatch.setattr("skae._tables.get_config", dict)
    for name, answer in sparse_answers(given(COUNTS)).items():
        assert type(answer) is given, name
    assert to_sparse_interface(sp.csr_array(COUNTS)).shape == COUNTS.shape


# The estimator's own parameters


@pytest.mark.parametrize("drawn_before", [False, True])
@pytest.mark.parametrize("Estimator", ESTIMATORS[:3])
def test_sampler_is_fixed_by_fit(Estimator, drawn_before):
    first, later = KernelSampler(bandwidth=0.3), GaussianMixtureSampler()
    estimator = Estimator(sampler=first, **QUICK).fit(X)
    expected = Estimator(sampler=KernelSampler(bandwidth=0.3), **QUICK).fit(X)
    if drawn_before:
        estimator.sample(2, random_state=1)
    first.bandwidth = 5.0  # the object is the user's, and its changes are not for this fit
    estimator.set_params(sampler=later)
    np.testing.assert_array_equal(
        estimator.sample(5, random_state=0), expected.sample(5, random_state=0)
    )
    estimator.fit(X)
    assert not np.array_equal(
        estimator.sample(5, random_state=0), expected.sample(5, random_state=0)
    )


def test_sampler_out_of_its_range_is_refused_by_fit():
    estimator = ESTIMATORS[0](sampler=KernelSampler(bandwidth=-1.0), **QUICK)
    with pytest.raises(ValueError, match=r"bandwidth.*-1\.0"):
        estimator.fit(X)
