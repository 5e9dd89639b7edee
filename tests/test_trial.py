"""Is what a module does with rows found out without a trace, and are its errors told?"""

import pickle
import threading

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import clone
from torch import nn
from torch.nn.utils import parametrizations

from skae import AutoencoderTransformer, SparseAutoencoderTransformer
from skae._modules import unit_answers
from skae._trial import try_out
from skae.networks import CustomNetwork, Layout, Network
from tests.helpers import counts, global_generators_untouched, weights_of

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

N_FEATURES, N_UNITS = 9, 3
LAYOUT = Layout(N_FEATURES, N_UNITS, (), "relu")
QUICK = {"n_components": N_UNITS, "max_iter": 2, "batch_size": 20, "random_state": 0}
X = np.random.RandomState(0).normal(5.0, 1.0, size=(60, N_FEATURES))


def make(network, seed=0):
    return network.make(LAYOUT, N_UNITS, N_FEATURES, seed)[:2]


def fit(encoder, decoder=nn.Linear, rows=X, **more):
    network = CustomNetwork(encoder, decoder)
    return AutoencoderTransformer(network=network, **{**QUICK, **more}).fit(rows)


# Layers that take their shape, or their start, from the first rows that they see.


def lazy_encoder(n_inputs, n_outputs):
    return nn.Sequential(
        nn.LazyLinear(6), nn.LazyBatchNorm1d(), nn.Dropout(0.2), nn.ReLU(), nn.LazyLinear(n_outputs)
    )


def lazy_decoder(n_inputs, n_outputs):
    return nn.Sequential(nn.Unflatten(1, (1, -1)), nn.LazyConv1d(4, 3), nn.Flatten()).append(
        nn.LazyLinear(n_outputs)
    )


class Lazy(Network):
    takes_layer_sizes = False

    def build(self, layout, n_encoder_outputs, n_decoder_outputs, seed):
        return lazy_encoder(0, n_encoder_outputs), lazy_decoder(0, n_decoder_outputs)


LAZY = {
    "modules": CustomNetwork(lazy_encoder(0, N_UNITS), lazy_decoder(0, N_FEATURES)),
    "functions": CustomNetwork(lazy_encoder, lazy_decoder),
    "class": Lazy(),
}


@pytest.mark.parametrize("network", LAZY.values(), ids=LAZY)
def test_lazy_layers_are_those_of_the_seed(network):
    estimator = AutoencoderTransformer(network=network, **QUICK)
    with global_generators_untouched():
        first, again = (clone(estimator).fit(X) for _ in range(2))
        other = clone(estimator).set_params(random_state=1).fit(X)
    np.testing.assert_array_equal(weights_of(first), weights_of(again))
    encoder, decoder = first.module_.encoder, first.module_.decoder
    assert (encoder[0].in_features, decoder[3].in_features) == (N_FEATURES, 4 * (N_UNITS - 2))
    for here, there in ((encoder[0], other.module_.encoder[0]), (decoder[1], encoder[4])):
        assert here.weight.shape != there.weight.shape or not torch.equal(here.weight, there.weight)
    loaded = pickle.loads(pickle.dumps(first))
    np.testing.assert_array_equal(loaded.transform(X), first.transform(X))


@pytest.mark.parametrize("network", LAZY.values(), ids=LAZY)
def test_lazy_layers_learn_and_their_running_means_are_those_of_the_rows(network):
    encoder, decoder = make(network)
    norm = encoder[1]
    assert not norm.running_mean.any()
    assert norm.training
    for module in (encoder, decoder):
        assert all(parameter.requires_grad for parameter in module.parameters())
        assert not any(part._forward_pre_hooks for part in module.modules())


def test_lazy_linear_layers_take_csr_rows():
    rows = sp.csr_array(counts(60, 600))
    lazy = [nn.Sequential(nn.LazyLinear(n)) for n in (N_UNITS, 600)]
    fitted = fit(*lazy, rows=rows, sparse_method="exact", likelihood="poisson")
    assert fitted.sparse_method_ == "exact"


def test_lazy_layer_that_is_not_called_is_named():
    class Unused(nn.Linear):
        def __init__(self, n_inputs, n_outputs):
            super().__init__(n_inputs, n_outputs)
            self.unused = nn.LazyLinear(3)

    with pytest.raises(ValueError, match=r"encoder of CustomNetwork .* lazy layer 'unused'"):
        fit(Unused)


class FromFirstRows(nn.Module):
    """Moves columns to where the first rows have them, as weights that start from data do."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(N_FEATURES))
        self.register_buffer("n_passes", torch.zeros(()))
        self.sizes = []

    def forward(self, x):
        if not self.sizes:
            self.shift.data.copy_(x.mean(dim=0))
        self.n_passes += 1
        self.sizes.append(len(x))
        return x - self.shift


@pytest.mark.parametrize("last", [nn.Linear(N_FEATURES, N_UNITS), nn.LazyLinear(N_UNITS)])
def test_what_starts_from_the_first_rows_sees_rows_of_x(last):
    encoder, _ = make(CustomNetwork(nn.Sequential(FromFirstRows(), last), nn.Linear))
    assert encoder[0].sizes == []
    assert encoder[0].n_passes == 0
    fitted = fit(nn.Sequential(FromFirstRows(), last), input_scaling=None, learning_rate_init=1e-9)
    shift = fitted.module_.encoder[0].shift.detach()
    assert (shift > 4.0).all()  # the columns are at 5, the rows of a trial at 0


def test_module_that_cannot_be_copied_is_tried_out_all_the_same():
    class Locked(nn.Linear):
        def __init__(self, n_inputs, n_outputs):
            super().__init__(n_inputs, n_outputs)
            self.lock = threading.Lock()

    assert fit(Locked).transform(X).shape == (60, N_UNITS)


def test_weight_that_is_worked_out_from_others_is_copied():
    def normed(n_inputs, n_outputs):
        layer = nn.Linear(n_inputs, n_outputs)
        with pytest.warns(FutureWarning):
            return nn.utils.weight_norm(layer)

    encoder, decoder = normed(N_FEATURES, N_UNITS), normed(N_UNITS, N_FEATURES)
    fitted = fit(encoder, decoder)
    assert not torch.equal(fitted.module_.encoder.weight_v, encoder.weight_v)
    assert clone(fitted).fit(X).transform(X) == pytest.approx(fitted.transform(X))


# The state of use.


class Merging(nn.Module):
    """Halves its weight for good where it is put to use, as layers do that are fused then."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(N_FEATURES, N_UNITS))

    def train(self, mode=True):
        if not mode:
            self.weight.data.mul_(0.5)
        return super().train(mode)

    def forward(self, code):
        return code @ self.weight.T


def test_eval_of_a_module_is_not_called_for_a_question():
    decoder = nn.Sequential(Merging(), nn.Dropout())
    unit_answers(decoder, torch.ones(4, N_UNITS))
    try_out(decoder, N_UNITS)
    assert torch.equal(decoder[0].weight, torch.ones(N_FEATURES, N_UNITS))
    assert all(part.training for part in decoder.modules())


# What a row costs where a weight is parametrised.

PARAMETRISED = {
    "spectral_norm": parametrizations.spectral_norm,
    "weight_norm": parametrizations.weight_norm,
    "orthogonal": parametrizations.orthogonal,
}


@pytest.mark.parametrize("name", PARAMETRISED)
@pytest.mark.parametrize("kind", ["linear", "convolution", "transposed"])
def test_parametrised_layer_costs_what_it_costs_without(name, kind):
    def layer():
        images = nn.Unflatten(1, (1, 20, 20))
        return {
            "linear": lambda: nn.Sequential(nn.Linear(400, 300)),
            "convolution": lambda: nn.Sequential(nn.Conv2d(1, 6, 3), images),
            "transposed": lambda: nn.Sequential(nn.ConvTranspose2d(1, 6, 3), images),
        }[kind]()[::-1]

    plain = try_out(layer(), 400)[1]
    made = layer()
    PARAMETRISED[name](made[-1])
    assert try_out(made, 400)[1] == plain


class LowRank(nn.Module):
    """A weight of few directions; what is trained is smaller than what multiplies."""

    def forward(self, left, right):
        return left @ right

    def right_inverse(self, weight):
        return weight[:, :2].clone(), weight[:2].clone()


def test_cost_of_a_weight_that_is_put_together_is_that_of_the_whole():
    layer = nn.Linear(40, 30)
    plain = try_out(nn.Linear(40, 30), 40)[1]
    nn.utils.parametrize.register_parametrization(layer, "weight", LowRank())
    assert try_out(layer, 40)[1] == plain


# Errors of modules.


class Returning(nn.Linear):
    """Returns what a function makes of the output."""

    def __init__(self, n_inputs, n_outputs, change):
        super().__init__(n_inputs, n_outputs)
        self.change = change

    def forward(self, x):
        return self.change(super().forward(x))


def returning(change):
    return lambda n_inputs, n_outputs: Returning(n_inputs, n_outputs, change)


def refuse(x):
    raise AssertionError("rows must be happy")


FAULTS = {
    "shape": (returning(lambda y: y[:, :2]), ["returned shape (2, 2)", "last layer"], None),
    "axes": (returning(lambda y: y[:, None]), ["returned shape (2, 1,"], None),
    "tuple": (returning(lambda y: (y, y)), ["returned a tuple", "return one tensor"], None),
    "nothing": (returning(lambda y: None), ["returned a NoneType", "return one tensor"], None),
    "complex": (returning(lambda y: y + 1j), ["torch.complex64", "torch.float32"], None),
    "whole": (returning(lambda y: y.long()), ["torch.int64", "torch.float32"], None),
    "double": (
        lambda n, m: nn.Sequential(nn.Linear(n, m).double()),
        ["0.weight is of torch.float64", "float()", "(2, "],
        RuntimeError,
    ),
    "meta": (lambda n, m: nn.Linear(n, m, device="meta"), ["device 'meta'", "CPU"], None),
    "input": (lambda n, m: nn.Linear(n + 1, m), ["RuntimeError", "what it takes in"], RuntimeError),
    "assert": (returning(refuse), ["AssertionError: rows must be happy"], AssertionError),
}


@pytest.mark.parametrize("part", ["encoder", "decoder"])
@pytest.mark.parametrize(("factory", "words", "cause"), FAULTS.values(), ids=FAULTS)
def test_module_that_does_something_else_is_named_with_the_remedy(part, factory, words, cause):
    n_inputs, n_outputs = {"encoder": (9, 3), "decoder": (3, 9)}[part]
    network = CustomNetwork(**{"encoder": nn.Linear, "decoder": nn.Linear, part: factory})
    with pytest.raises(ValueError, match=f"The {part} of CustomNetwork must map") as error:
        AutoencoderTransformer(network=network, **QUICK).fit(X)
    for word in (f"(n_rows, {n_inputs})", f"(n_rows, {n_outputs})", "callable", *words):
        assert word in str(error.value)
    if cause is not None:
        assert isinstance(error.value.__cause__, cause)


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_what_is_no_module_is_named(part):
    given = {"encoder": nn.Linear, "decoder": nn.Linear}
    for wrong, words in ((lambda *_: None, f"The {part} .*NoneType"), (5, f"'{part}' .*Got 5")):
        network = CustomNetwork(**{**given, part: wrong})
        with pytest.raises(ValueError, match=words):
            AutoencoderTransformer(network=network, **QUICK).fit(X)


def test_network_that_has_nothing_to_train_is_told_so():
    pair = [nn.Linear(N_FEATURES, N_UNITS), nn.Linear(N_UNITS, N_FEATURES)]
    for module in pair:
        module.requires_grad_(False)
    rows = (X > 5).astype(float)
    with pytest.raises(ValueError, match=r"nothing to train.*requires_grad_\(True\)"):
        fit(*pair, rows=rows, likelihood="bernoulli")
    fitted = fit(*pair, input_scaling=None)  # the noise of the columns is learned
    assert torch.equal(fitted.module_.encoder.weight, pair[0].weight)


# A penalty that does not look at gains does not ask for them.


@pytest.mark.parametrize(("sparsity", "asked"), [("kl", False), ("l1", True)])
def test_decoder_is_asked_for_gains_where_the_penalty_looks_at_them(sparsity, asked):
    sizes = []

    class Seen(nn.Linear):
        def forward(self, code):
            sizes.append(len(code))
            return super().forward(code)

    SparseAutoencoderTransformer(
        network=CustomNetwork(nn.Linear, Seen), sparsity=sparsity, n_active=1, **QUICK
    ).fit(X)
    assert (N_UNITS + 1 in sizes) == asked
