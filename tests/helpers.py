"""What several test files need: the estimators, listed once, and small data."""

import contextlib
import functools

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn import config_context

from skae import (
    AutoencoderTransformer,
    DenoisingAETransformer,
    SparseAutoencoderTransformer,
    VAETransformer,
)
from skae._state import State
from skae.inits import INITS, Init
from skae.likelihoods import (
    LIKELIHOODS,
    Gaussian,
    Likelihood,
    Multinomial,
    ZeroInflatedLogNormal,
)
from skae.networks import NETWORKS, Network
from skae.noise import NOISES, Noise
from skae.outliers import CRITERIA, Criterion
from skae.priors import PRIORS, Prior
from skae.samplers import SAMPLERS, Sampler
from skae.schedules import SCHEDULES, Schedule
from skae.sparsity import SPARSITIES, Sparsity

ESTIMATORS = [
    AutoencoderTransformer,
    SparseAutoencoderTransformer,
    DenoisingAETransformer,
    VAETransformer,
]

every_estimator = pytest.mark.parametrize("Estimator", ESTIMATORS)

#: Marks of a file whose fits are too short to converge, and to use the code.
QUIET = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::skae.exceptions.PosteriorCollapseWarning"),
]

#: Every dict of names that users choose from, with the base class of its entries.
VOCABULARIES = {
    "criterion": (CRITERIA, Criterion),
    "init": (INITS, Init),
    "likelihood": (LIKELIHOODS, Likelihood),
    "network": (NETWORKS, Network),
    "noise": (NOISES, Noise),
    "prior": (PRIORS, Prior),
    "sampler": (SAMPLERS, Sampler),
    "schedule": (SCHEDULES, Schedule),
    "sparsity": (SPARSITIES, Sparsity),
}

#: Every likelihood as its name makes it, and settings of one that change its formulas.
LIKELIHOOD_VARIANTS = [
    *(kind() for kind in LIKELIHOODS.values()),
    Gaussian(variance="shared"),
    Gaussian(variance_floor=0.5),
    Multinomial(coefficient=False),
    ZeroInflatedLogNormal(variance_floor=0.5),
]

#: The sparsities that add a term to the objective.
PENALTIES = {name: kind for name, kind in SPARSITIES.items() if kind.penalised}

#: Settings that make a fit quick where only its plumbing is tested.
QUICK = {"n_components": 3, "hidden_layer_sizes": (8,), "max_iter": 5, "random_state": 0}


class AtStart:
    """A component beside the state that it starts with, in double precision: no method asks for it.

    Laws hold for classes that train or keep something as for those that do not.
    """

    def __init__(self, component, **given):
        self.component = component
        tensors = State(component, **given).tensors()
        self.state = {
            name: value.detach().double().requires_grad_(value.requires_grad)
            for name, value in tensors.items()
        }

    def after(self, **seen):
        """Return the component beside what it keeps after a step that saw this."""
        kept = {name: value.detach() for name, value in self.state.items()}
        changed = self.component.buffers_after_step(**seen, **kept)
        other = object.__new__(AtStart)
        other.component, other.state = self.component, {**self.state, **changed}
        return other

    def __getattr__(self, name):
        value = getattr(self.component, name)
        return functools.partial(value, **self.state) if self.state and callable(value) else value


def low_rank(n_rows=200, n_features=10, rank=3, noise=0.3, seed=0):
    """Return rows near a subspace of the given rank, with columns of different scale."""
    rng = np.random.RandomState(seed)
    loadings = rng.normal(size=(rank, n_features)) * np.linspace(0.5, 3.0, n_features)
    return rng.normal(size=(n_rows, rank)) @ loadings + noise * rng.normal(
        size=(n_rows, n_features)
    )


def cells_at_once(n_cells):
    """Return a context in which no block of rows has more cells, but for what it must have."""
    return config_context(working_memory=n_cells * 8 / 2**20)


def generator(seed=0):
    """Return a torch generator of its own."""
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    """Return a tensor of standard normal numbers, in double precision."""
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


@contextlib.contextmanager
def global_generators_untouched():
    """Fail where the block draws from, or seeds, a generator that the whole program shares."""
    numpy_before, torch_before = _numpy_state(), torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert _numpy_state() == numpy_before


def _numpy_state():
    """Return words and position of numpy's global generator, which is what is to be guarded."""
    _, words, position, *_ = np.random.get_state()  # noqa: NPY002
    return words.tolist(), position


#: Every format of sparse rows that estimators take, by name.
SPARSE_FORMATS = {
    f"{name}_{kind}": getattr(sp, f"{name}_{kind}")
    for name in ("csr", "csc", "coo")
    for kind in ("matrix", "array")
}


def counts(n_rows=200, n_features=12, rate=0.4, seed=0):
    """Return rows of small counts, most of them zero."""
    return np.random.RandomState(seed).poisson(rate, size=(n_rows, n_features)).astype(float)


def one_hot(n_rows=300, n_levels=(3, 5, 4), seed=0):
    """Return one-hot columns of categories that go together: each follows one hidden variable."""
    rng = np.random.RandomState(seed)
    hidden = rng.uniform(size=n_rows)
    levels = [
        np.floor(n * np.clip(hidden + 0.1 * rng.normal(size=n_rows), 0, 0.999)).astype(int)
        for n in n_levels
    ]
    return np.hstack([np.eye(n)[level] for n, level in zip(n_levels, levels, strict=True)])


def assert_rounding_apart(found, expected):
    """Fail where answers differ by more than is promised for other rows beside a row.

    That is 1e-5 of an answer, or 1e-6 of the largest: rounding in single precision.
    """
    expected = np.asarray(expected)
    atol = 1e-6 * np.abs(expected).max()
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-5, atol=atol)


def weights_of(estimator):
    """Return everything that a fitted network remembers, as one vector."""
    state = estimator.module_.state_dict()
    return np.concatenate([value.detach().double().numpy().ravel() for value in state.values()])
