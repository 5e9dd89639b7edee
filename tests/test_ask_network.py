"""Are the answers about a network right for modules of any kind, convolutions above all?"""

import copy
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import nn

from skae import AutoencoderTransformer, SparseAutoencoderTransformer, VAETransformer
from skae._modules import as_in_use, unit_answers
from skae._training.bottlenecks.variational import bounded_posterior
from skae._trial import try_out
from skae.networks import MLP, CustomNetwork, Layout, Network, decoder_gains
from skae.sparsity import SPARSITIES
from tests.helpers import (
    PENALTIES,
    QUIET,
    AtStart,
    every_estimator,
    generator,
    global_generators_untouched,
    normal,
    weights_of,
)

pytestmark = QUIET

N_UNITS = 4


def encoder_of(n_inputs, n_outputs):
    """Return convolutions from square images to a code."""
    side = round(n_inputs**0.5)
    return nn.Sequential(
        nn.Unflatten(1, (1, side, side)),
        nn.Conv2d(1, 4, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * (-(-side // 2)) ** 2, n_outputs),
    )


def decoder_of(n_inputs, n_outputs):
    """Return transposed convolutions from a code to square images."""
    side = round(n_outputs**0.5) // 2
    return nn.Sequential(
        nn.Linear(n_inputs, 4 * side**2),
        nn.ReLU(),
        nn.Unflatten(1, (4, side, side)),
        nn.ConvTranspose2d(4, 3, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(3, 1, 3, padding=1),
        nn.Flatten(),
    )


class Images(Network):
    """The same as a class of its own, with a parameter; nothing but `build`."""

    takes_layer_sizes = False

    def __init__(self, slope=0.0):
        self.slope = slope

    def build(self, layout, n_encoder_outputs, n_decoder_outputs, seed):
        encoder = encoder_of(layout.n_features, n_encoder_outputs)
        encoder[2] = nn.LeakyReLU(self.slope)
        return encoder, decoder_of(layout.n_components, n_decoder_outputs)


def images(n_rows=60, side=8, seed=0):
    """Return images of one bright square each, at random places."""
    rng = np.random.RandomState(seed)
    X = np.zeros((n_rows, side, side))
    for image, row, column in zip(X, *rng.randint(0, side - 2, size=(2, n_rows)), strict=True):
        image[row : row + 3, column : column + 3] = 1.0
    return X.reshape(n_rows, -1)


KINDS = {"custom": CustomNetwork(encoder_of, decoder_of), "class": Images(0.1)}
QUICK = {"n_components": N_UNITS, "max_iter": 2, "batch_size": 20, "random_state": 0}

# A network for images, from fit to grid search.


@every_estimator
@pytest.mark.parametrize("network", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array], ids=["dense", "csr"])
def test_images_are_learned(Estimator, network, as_format):
    X = as_format(images())
    settings = {"network": network, "likelihood": "bernoulli", "learning_rate_init": 1e-2}
    early, late = (
        Estimator(**{**QUICK, **settings, "max_iter": n}).fit(X).score(X) for n in (1, 30)
    )
    assert late > early + 2.0


def test_way_that_is_chosen_for_images_in_csr_is_dense():
    X = sp.csr_array(images(40, 24))
    # CSR columns are not centred, so nothing is scaled here.
    estimator = AutoencoderTransformer(network=KINDS["custom"], input_scaling=None, **QUICK)
    assert clone(estimator).set_params(network=None).fit(X).sparse_method_ == "exact"
    assert estimator.fit(X).sparse_method_ == "dense"
    dense = clone(estimator).fit(X.toarray())
    np.testing.assert_allclose(estimator.transform(X), dense.transform(X), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["exact", "sampled"])
@pytest.mark.parametrize("network", KINDS.values(), ids=KINDS)
def test_way_that_convolutions_cannot_go_is_an_error(network, method):
    estimator = AutoencoderTransformer(
        network=network, likelihood="bernoulli", sparse_method=method, **QUICK
    )
    with pytest.raises(ValueError) as error:
        estimator.fit(sp.csr_array(images()))
    for words in (
        f"sparse_method={method!r}",
        f"network {type(network).__name__}",
        "its encoder begins with Unflatten",
        "Choose sparse_method='auto' or 'dense'",
    ):
        assert words in str(error.value)
    assert not hasattr(estimator, "net_")
    assert estimator.fit(images()).sparse_method_ == "dense"  # dense rows were never sparse


def hooked(module, place=None):
    target = module if place is None else module[place]
    target.register_forward_hook(lambda layer, inputs, output: output + 1.0)
    return module


def with_own_forward(module):
    module[0].forward = lambda x: x[:, :N_UNITS]
    return module


def stacks(n_features):
    return (
        nn.Sequential(nn.Linear(n_features, 5), nn.ReLU(), nn.Linear(5, N_UNITS)),
        nn.Sequential(nn.Linear(N_UNITS, 5), nn.ReLU(), nn.Linear(5, n_features)),
    )


OBSTACLES = {
    "hooks of the encoder": (lambda e, d: (hooked(e), d), "encoder is an nn.Sequential that has h"),
    "hooks of the decoder": (lambda e, d: (e, hooked(d)), "decoder is an nn.Sequential that has h"),
    "hooks of a layer": (
        lambda e, d: (hooked(e, 0), d),
        "begins with Linear that has hooks",
    ),
    "forward": (lambda e, d: (with_own_forward(e), d), "or a forward of its own"),
    "nothing": (lambda e, d: (nn.Sequential(), d), "encoder is an nn.Sequential without layers"),
    "class": (lambda e, d: (e[0], d), "encoder is a Linear, not an nn.Sequential that begins with"),
    "bias": (lambda e, d: (e, d.append(nn.Linear(9, 9, bias=False))), "that has no bias"),
    "none": (lambda e, d: (hooked(e, 1), hooked(d, 1)), None),
}


@pytest.mark.parametrize(("change", "words"), OBSTACLES.values(), ids=OBSTACLES)
def test_what_keeps_rows_from_staying_csr_is_said_without_contradiction(change, words):
    found = Images().csr_obstacle(*change(*stacks(9)))
    if words is None:
        assert found is None
        return
    assert words in found
    assert "Sequential, not an nn.Sequential" not in found


def test_way_without_hooks_is_told_where_they_keep_rows_from_staying_csr():
    X = sp.csr_array(images(40, 24))
    encoder, decoder = stacks(576)
    network = CustomNetwork(hooked(encoder), decoder)
    estimator = AutoencoderTransformer(network=network, sparse_method="exact", **QUICK)
    with pytest.raises(ValueError, match=r"Remove them, or register them on layers between"):
        estimator.fit(X)
    network = CustomNetwork(hooked(stacks(576)[0], 1), decoder)
    assert estimator.set_params(network=network).fit(X).sparse_method_ == "exact"


@pytest.mark.parametrize("network", KINDS.values(), ids=KINDS)
def test_network_for_images_is_cloned_pickled_and_trained_on(network):
    X = images()
    with global_generators_untouched():
        fitted = SparseAutoencoderTransformer(network=network, **QUICK).fit(X)
        again = clone(fitted).fit(X)
    np.testing.assert_array_equal(weights_of(again), weights_of(fitted))
    loaded = pickle.loads(pickle.dumps(fitted))
    for one in (fitted, loaded):
        one.partial_fit(X)
    np.testing.assert_array_equal(weights_of(loaded), weights_of(fitted))
    np.testing.assert_array_equal(loaded.transform(X), fitted.transform(X))


def test_network_for_images_is_searched_over():
    grid = {"network__slope": [0.0, 0.5], "n_components": [2, 3]}
    search = GridSearchCV(AutoencoderTransformer(network=Images(), **QUICK), grid, cv=2)
    search.fit(images())
    assert len({*search.cv_results_["mean_test_score"]}) == 4
    best = search.best_estimator_
    assert best.module_.encoder[2].negative_slope == search.best_params_["network__slope"]


def test_wrong_shape_of_a_network_of_ones_own_is_told():
    class Short(Images):
        def build(self, layout, n_encoder_outputs, n_decoder_outputs, seed):
            encoder, decoder = super().build(layout, n_encoder_outputs, n_decoder_outputs, seed)
            return encoder, nn.Sequential(decoder, nn.Linear(n_decoder_outputs, 5))

    with pytest.raises(ValueError, match=r"decoder of Short .*64\).*shape \(2, 5\)") as error:
        AutoencoderTransformer(network=Short(), **QUICK).fit(images())
    assert "callable" not in str(error.value)


# How strongly a decoder answers to each unit.


class Tripled(nn.Module):
    """A linear decoder that does not look like one."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, code):
        return 3.0 * code @ self.weight.T + 1.0


def codes(n_rows=30, seed=0):
    return normal(n_rows, N_UNITS, seed=seed).relu().float()


def conv_decoder(bias=True, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        decoder = decoder_of(N_UNITS, 64)
    if not bias:
        for layer in (decoder[0], decoder[3], decoder[5]):
            nn.init.zeros_(layer.bias)
    return decoder


def gains(decoder, code, *more):
    return Images().gains(decoder, code, *more)


def jacobian_norms(decoder, code):
    decoder, middle = copy.deepcopy(decoder).double(), code.double().mean(dim=0)
    jacobian = torch.autograd.functional.jacobian(decoder, middle[None])
    return jacobian[0, :, 0].norm(dim=0).float()


def test_gains_of_a_linear_decoder_are_the_norms_of_its_columns_whatever_it_looks_like():
    weight = normal(9, N_UNITS).float()
    expected = 3.0 * weight.norm(dim=0)
    torch.testing.assert_close(gains(Tripled(weight), codes()), expected, rtol=1e-3, atol=0)


def test_gains_of_one_transposed_convolution_are_the_norms_of_its_kernels():
    layer = nn.ConvTranspose2d(N_UNITS, 2, 5)
    decoder = nn.Sequential(nn.Unflatten(1, (N_UNITS, 1, 1)), layer, nn.Flatten())
    expected = layer.weight.detach().flatten(1).norm(dim=1)
    torch.testing.assert_close(gains(decoder, codes()).detach(), expected, rtol=1e-3, atol=0)


def test_gains_without_a_weight_are_those_of_the_function():
    for decoder, expected in ((nn.Identity(), 1.0), (nn.ConstantPad1d(2, 0.5), 1.0)):
        torch.testing.assert_close(
            gains(decoder, codes()), torch.full((N_UNITS,), expected), rtol=1e-3, atol=0
        )


@pytest.mark.parametrize("unit_size", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("smooth", [True, False])
def test_gains_are_the_norms_of_the_columns_of_the_jacobian_at_the_mean_code(smooth, unit_size):
    decoder, code = conv_decoder(), unit_size * codes()
    if smooth:
        decoder[1] = decoder[4] = nn.Tanh()
    with torch.no_grad():
        decoder[0].weight /= unit_size
    found = gains(decoder, code).detach()
    torch.testing.assert_close(found, jacobian_norms(decoder, code), rtol=0.03, atol=0)


def test_units_that_are_hardly_used_have_the_gains_of_the_others():
    weight, code = normal(9, N_UNITS).float(), codes()
    code[:, 1], code[:, 2] = 0.0, 1e-7 * code[:, 2]
    expected = 3.0 * weight.norm(dim=0)
    for used in (code, torch.zeros_like(code)):
        torch.testing.assert_close(gains(Tripled(weight), used), expected, rtol=1e-3, atol=0)


class Written(nn.Module):
    """A decoder whose forward pass is written out, with something done to the last output."""

    def __init__(self, last, finish=lambda raw: raw):
        super().__init__()
        self.first, self.last, self.finish = nn.Linear(N_UNITS, 6), last, finish

    def forward(self, code):
        return self.finish(self.last(torch.tanh(self.first(code))))


def convolution():
    return nn.Sequential(nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 3, 3), nn.Flatten())


LAST = {
    "linear": lambda: Written(nn.Linear(6, 9)),
    "convolution": lambda: Written(convolution()),
    "in a sequence": lambda: nn.Sequential(nn.Linear(N_UNITS, 6), nn.SELU(), nn.Linear(6, 9)),
    "reshaped": lambda: Written(nn.Linear(6, 9), lambda raw: raw.view(-1, 3, 3).flatten(1)),
}


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


def last_bias(decoder):
    return [parameter for name, parameter in decoder.named_parameters() if "bias" in name][-1]


@pytest.mark.parametrize("kind", LAST)
def test_a_large_bias_of_the_last_layer_drowns_no_gain_of_small_codes(kind):
    decoder, code = seeded(LAST[kind]), 1e-3 * codes()
    expected = jacobian_norms(copy.deepcopy(decoder).double(), code.double()).float()
    with torch.no_grad():
        last_bias(decoder).fill_(1e4)
    found = gains(decoder, code)
    torch.testing.assert_close(found.detach(), expected, rtol=0.02, atol=0)
    weights = [parameter for parameter in decoder.parameters() if parameter.ndim > 1]
    slopes = torch.autograd.grad(found.log().sum(), weights)
    # A gain grows with the last weight as fast as that does.
    torch.testing.assert_close((slopes[-1] * weights[-1]).sum().item(), float(N_UNITS))


FINISHES = {
    "softplus": nn.functional.softplus,
    "in place": lambda raw: raw.sigmoid_(),
    "times two": lambda raw: 2.0 * raw,
    "turned": lambda raw: raw.flip(1),
}


@pytest.mark.parametrize("finish", FINISHES)
def test_what_is_done_behind_the_last_layer_counts(finish):
    decoder = seeded(lambda: Written(nn.Linear(6, N_UNITS + 1), FINISHES[finish]))
    code = codes()
    expected = jacobian_norms(decoder, code)
    torch.testing.assert_close(gains(decoder, code).detach(), expected, rtol=0.05, atol=1e-5)


REPLACED = {
    "linear": lambda: nn.Sequential(nn.Linear(N_UNITS, 6), nn.Tanh(), nn.Linear(6, N_UNITS + 1)),
    "convolution": lambda: nn.Sequential(
        nn.Unflatten(1, (N_UNITS, 1)), nn.ConvTranspose1d(N_UNITS, 2, 4)
    ),
}


@pytest.mark.parametrize("kind", REPLACED)
@pytest.mark.parametrize("whole", [False, True])
def test_forward_that_was_replaced_on_the_object_counts(kind, whole):
    decoder, code = seeded(REPLACED[kind]), codes()
    module = decoder if whole else decoder[-1]
    usual = type(module).forward
    module.forward = lambda x: 2.0 * torch.sigmoid(usual(module, x))
    found = gains(decoder, code).detach()
    rows = torch.eye(N_UNITS) * 1e-3 + code.mean(dim=0)
    expected = (decoder(rows) - decoder(code.mean(dim=0)[None])).flatten(1).norm(dim=1) / 1e-3
    torch.testing.assert_close(found, expected.detach(), rtol=0.05, atol=1e-5)


def test_rows_that_stand_on_another_axis_in_the_last_layer_are_no_rows():
    class Turned(nn.Module):  # as many places of a sequence as rows
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(1, 1)

        def forward(self, code):
            steps = torch.arange(1.0, len(code) + 1)[:, None]
            return self.last((steps * code.square().sum(dim=1))[..., None])[..., 0].T

    decoder, code = seeded(Turned), 1.0 + codes()
    slopes = 2.0 * code.mean(dim=0) * torch.arange(1.0, N_UNITS + 2).norm()
    expected = (slopes * decoder.last.weight[0]).abs().detach()
    torch.testing.assert_close(gains(decoder, code).detach(), expected, rtol=0.03, atol=0)


@pytest.mark.parametrize("activation", ["identity", "relu"])
def test_closed_form_of_linear_layers_is_the_answer_of_orthonormal_ones(activation):
    # Wide layers that keep lengths; units that are all on go through a rectifier as they are.
    layout = Layout(40, N_UNITS, (6,), activation)
    _, decoder, _ = MLP().make(layout, N_UNITS, 40, seed=0)
    first, last = decoder[0], decoder[2]
    with torch.no_grad():
        first.weight.copy_(torch.eye(6)[:, :N_UNITS])
        first.weight *= torch.arange(1.0, N_UNITS + 1)
        first.bias.fill_(0.1)
        last.weight.copy_(torch.linalg.qr(normal(40, 6))[0])
        last.weight *= 5.0
    closed, found = MLP().gains(decoder, codes()), unit_answers(decoder, codes())
    torch.testing.assert_close(closed, 5.0 * torch.arange(1.0, N_UNITS + 1))
    torch.testing.assert_close(found, closed, rtol=1e-3, atol=0)


def test_closed_form_is_for_linear_layers_and_our_activations_alone():
    with torch.random.fork_rng():
        torch.manual_seed(0)  # not what the tests before have left
        layers = [nn.Linear(N_UNITS, 6), nn.ReLU(), nn.Linear(6, 9)]
    stack = nn.Sequential(*layers)
    assert torch.equal(gains(stack, codes()), decoder_gains(stack))
    for other in (
        nn.Sequential(layers[0], nn.LayerNorm(6), *layers[1:]),
        nn.Sequential(*layers, nn.Softmax(dim=1)),
        nn.Sequential(nn.Sequential(*layers), nn.Softmax(dim=1)),
    ):
        found = gains(other, codes()).detach()
        torch.testing.assert_close(found, jacobian_norms(other, codes()), rtol=0.05, atol=1e-5)


@pytest.mark.parametrize("place", [0, 3, 5])
def test_a_layer_a_hundred_times_as_strong_makes_gains_a_hundred_times_as_large(place):
    decoder, code = conv_decoder(bias=False), codes()
    before = gains(decoder, code).detach()
    with torch.no_grad():
        decoder[place].weight *= 100.0
    torch.testing.assert_close(gains(decoder, code).detach(), 100 * before, rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", PENALTIES)
@pytest.mark.parametrize("factor", [1e-2, 50.0])
def test_small_codes_and_a_strong_decoder_do_not_escape_the_penalty(name, factor):
    def penalty(decoder, code):
        rate = torch.full((N_UNITS,), 0.3)
        given = {"n_components": N_UNITS, "n_active": 1.0, "generator": generator()}
        kind = AtStart(SPARSITIES[name](), **given)
        kind = kind.after(pre=code.double(), code=code.double(), row_weight=None, n_active=1.0)
        return kind.penalty(code, code, gains(decoder, code), rate, None, 1.0).detach()

    decoder, code = conv_decoder(), codes()
    before = penalty(decoder, code)
    with torch.no_grad():
        decoder[0].weight /= factor
    torch.testing.assert_close(penalty(decoder, factor * code), before, rtol=1e-3, atol=0)


@pytest.mark.parametrize("places", [(0, 3), (0, 5), (3, 5)], ids=str)
def test_a_factor_that_moves_between_layers_changes_no_gain(places):
    decoder, code = conv_decoder(bias=False), codes()
    before = gains(decoder, code).detach()
    with torch.no_grad():
        decoder[places[0]].weight *= 20.0
        decoder[places[1]].weight /= 20.0
    torch.testing.assert_close(gains(decoder, code).detach(), before, rtol=1e-3, atol=0)


def test_gains_pass_gradients_to_every_weight_and_none_to_the_code():
    decoder, code = conv_decoder(), codes().requires_grad_()
    gains(decoder, code).sum().backward()
    assert all(decoder[place].weight.grad.any() for place in (0, 3, 5))
    assert code.grad is None
    # Twice the weight is twice the gain: the gradient along the weight is the gain.
    layer = decoder[5]
    along = (layer.weight.grad * layer.weight).sum()
    torch.testing.assert_close(along, gains(decoder, code).sum(), rtol=1e-2, atol=0)


def test_looking_at_gains_leaves_no_trace():
    decoder = nn.Sequential(
        nn.Linear(N_UNITS, 6), nn.BatchNorm1d(6), nn.Dropout(), nn.BatchNorm1d(6).eval()
    )
    flags = [part.training for part in decoder.modules()]
    state = {name: value.clone() for name, value in decoder.state_dict().items()}
    with global_generators_untouched():
        assert torch.equal(gains(decoder, codes()), gains(decoder, codes()))
    assert [part.training for part in decoder.modules()] == flags
    assert all(torch.equal(value, state[name]) for name, value in decoder.state_dict().items())


def test_flags_are_put_back_after_an_error():
    module = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
    with pytest.raises(KeyError), as_in_use(module):
        assert not module[0].training
        raise KeyError
    assert module.training
    assert module[0].training
    assert not module[1].training


def test_gains_from_a_sample_of_the_last_layer_follow_its_size():
    decoder = nn.Sequential(nn.Linear(N_UNITS, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 300))
    last, found = decoder[-1], []
    for _ in range(2):
        found.append(gains(decoder, codes(), last.weight.square().sum(dim=0)).detach())
        with torch.no_grad():
            last.weight *= 100.0
    torch.testing.assert_close(found[1], 100 * found[0], rtol=1e-3, atol=0)
    with torch.no_grad():
        last.weight /= 100.0**2
        last.weight.copy_(torch.linalg.qr(normal(300, 6))[0])
    found = gains(decoder, codes(), last.weight.square().sum(dim=0))
    torch.testing.assert_close(found, gains(decoder, codes()), rtol=1e-3, atol=0)


def test_sparse_codes_of_images_meet_their_target():
    settings = {**QUICK, "n_components": 8, "n_active": 2, "sparsity": "l1", "max_iter": 200}
    fitted = SparseAutoencoderTransformer(
        network=KINDS["custom"], likelihood="bernoulli", learning_rate_init=1e-2, **settings
    ).fit(images(100))
    assert (fitted.transform(images(100)) > 0).sum(axis=1).mean() == pytest.approx(2, abs=0.5)


# Decay.


def test_weights_that_decay_are_those_that_multiply():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(torch.ones(2, 3))
            self.my_bias = nn.Parameter(torch.ones(2, 3))

    encoder = nn.Sequential(nn.Conv2d(1, 2, 3), nn.LayerNorm((2, 3, 3)), nn.BatchNorm2d(2))
    decoder = nn.Sequential(encoder[0], nn.MultiheadAttention(4, 2), Own())
    attention = decoder[1]
    expected = [
        encoder[0].weight,
        attention.in_proj_weight,
        attention.out_proj.weight,
        decoder[2].table,
    ]
    found = Images().weights_to_decay(encoder, decoder)
    assert sorted(map(id, found)) == sorted(map(id, expected))  # what is shared stands once


@pytest.mark.parametrize(
    ("name", "shape", "decays"),
    [
        ("table", (2, 3), True),
        ("row", (1, 3), True),
        ("unbiased_weight", (2, 3), True),
        ("debiased", (2, 3), True),
        ("kernel", (4, 1, 3, 3), True),
        ("bias", (2, 3), False),
        ("bias_k", (1, 1, 3), False),
        ("biases", (2, 3), False),
        ("outputBias", (2, 3), False),
        ("scale", (1, 3, 1, 1), False),
        ("shift", (3, 1, 1), False),
        ("temperature", (1, 1, 1), False),
        ("vector", (3,), False),
    ],
)
def test_weights_of_ones_own_are_told_from_biases_and_scales(name, shape, decays):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_parameter(name, nn.Parameter(torch.ones(shape)))

    assert bool(Images().weights_to_decay(Own(), nn.Identity())) == decays


def test_kernels_of_convolutions_decay_whatever_their_shape():
    for layer in (nn.Conv1d(1, 1, 3), nn.Conv2d(1, 1, 1), nn.ConvTranspose2d(1, 1, 2)):
        assert Images().weights_to_decay(layer, nn.Identity()) == [layer.weight]


def test_parametrised_weights_decay_and_parametrised_biases_do_not():
    layer = nn.utils.parametrizations.spectral_norm(nn.Conv1d(1, 1, 3))
    nn.utils.parametrize.register_parametrization(layer, "bias", nn.Identity())
    found = Images().weights_to_decay(layer, nn.Identity())
    assert found == [layer.parametrizations.weight.original]


def test_share_of_l1_draws_weights_of_convolutions_to_zeros_and_leaves_frozen_ones():
    def frozen(n_inputs, n_outputs):
        encoder = encoder_of(n_inputs, n_outputs)
        encoder[1].requires_grad_(False)
        return encoder

    more = {**QUICK, "max_iter": 40, "learning_rate_init": 1e-2, "alpha": 3.0}
    network = CustomNetwork(frozen, decoder_of)
    for l1_ratio in (0.0, 1.0):
        fitted = AutoencoderTransformer(network=network, l1_ratio=l1_ratio, **more).fit(images())
        for layer in (fitted.module_.decoder[3], fitted.module_.decoder[5]):
            assert bool((layer.weight == 0).any()) == (l1_ratio == 1.0)
        assert fitted.module_.encoder[1].weight.all()


# The start.


def first_module(Estimator, network, **more):
    """Return a module as it is before training, but for a step of no size."""
    settings = {**QUICK, "max_iter": 1, "learning_rate_init": 1e-12, **more}
    return Estimator(network=network, **settings).fit(images()).module_


class Ends(Images):
    """A decoder that ends with a linear layer, and one that only registers such a layer last."""

    def __init__(self, visible=True):
        super().__init__()
        self.visible = visible

    def build(self, layout, n_encoder_outputs, n_decoder_outputs, seed):
        encoder, _ = super().build(layout, n_encoder_outputs, 64, seed)
        first = nn.Linear(layout.n_components, n_decoder_outputs)
        decoder = nn.Sequential(first, nn.Sequential(nn.Linear(*[n_decoder_outputs] * 2)))
        if not self.visible:
            decoder.append(nn.Tanh())
        return encoder, decoder


def test_decoder_that_ends_with_a_linear_layer_starts_at_the_column_means():
    means = images().mean(axis=0)
    for visible in (True, False):
        module = first_module(AutoencoderTransformer, Ends(visible), input_scaling=None)
        bias = linear_bias = module.decoder[1][0].bias.detach()
        assert np.allclose(bias, means, atol=1e-3) == visible
    assert linear_bias.any()
    module = first_module(AutoencoderTransformer, Images())
    assert torch.isfinite(module.decoder[5].bias).all()


def test_posterior_starts_as_wide_as_the_prior_where_the_encoder_ends_with_a_linear_layer():
    class Behind(Images):
        def build(self, layout, n_encoder_outputs, n_decoder_outputs, seed):
            encoder, decoder = super().build(layout, n_encoder_outputs, n_decoder_outputs, seed)
            return encoder.append(nn.Identity()), decoder

    for network, expected in ((Images(), True), (Behind(), False)):
        module = first_module(VAETransformer, network)
        h = module.encoder(module.encoder_input(torch.as_tensor(images()).float()))
        log_std = bounded_posterior(h)[1].detach()
        assert torch.allclose(log_std, torch.zeros_like(log_std), atol=1e-6) == expected


# What a row costs.


class Attends(nn.Module):
    """Attention among the columns of a row, taken in groups of 16."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x):
        x = x.unflatten(1, (-1, 16))
        return self.attention(x, x, x, need_weights=False)[0].flatten(1)


def by_hand(n_inputs, n_outputs, side):
    """Return multiplications and additions of a pass through `encoder_of` and `decoder_of`."""
    half = side // 2
    encoder = 9 * 4 * half**2 + 4 * half**2 * n_outputs
    decoder = n_outputs * 4 * half**2 + 4 * 3 * 16 * half**2 + 3 * 9 * side**2
    return 2 * encoder, 2 * decoder


COSTS = {
    "linear": (nn.Linear(30, 7), 30, 2 * 30 * 7),
    "convolutions": (encoder_of(256, 3), 256, by_hand(256, 3, 16)[0]),
    "transposed": (decoder_of(3, 256), 3, by_hand(256, 3, 16)[1]),
    # Four projections of 8 groups, then 64 scores and 64 weights of 16 products.
    "attention": (Attends(), 128, 2 * (4 * 8 * 16**2 + 2 * 64 * 16)),
    "applied twice": (nn.Sequential(*[nn.Linear(9, 9)] * 2), 9, 2 * 2 * 81),
    "groups": (
        nn.Sequential(nn.Unflatten(1, (4, 9)), nn.Conv1d(4, 4, 3, padding=1, groups=4)),
        36,
        2 * 4 * 3 * 9,
    ),
}


@pytest.mark.parametrize(("module", "n_inputs", "expected"), COSTS.values(), ids=COSTS)
def test_operations_are_those_counted_by_hand(module, n_inputs, expected):
    with global_generators_untouched():
        _, cost = try_out(module, n_inputs)
    assert 0.5 * expected < cost.operations / 3 < 2 * expected
    assert not any(part._forward_hooks for part in module.modules())


@pytest.mark.parametrize("hidden", [(), (8,), (30, 5)], ids=str)
def test_operations_and_width_of_linear_layers_are_those_found_by_trying_out(hidden):
    encoder, decoder, cost = MLP().make(Layout(20, 3, hidden, "relu"), 3, 40, seed=0)
    found = [try_out(encoder, 20)[1], try_out(decoder, 3)[1]]
    assert cost.width == max(one.width for one in found) == max((40, *hidden))
    assert sum(one.operations for one in found) == pytest.approx(cost.operations, rel=0.5)


def test_work_of_convolutions_is_seen_where_their_weights_are_few():
    fitted = AutoencoderTransformer(network=KINDS["custom"], **QUICK).fit(images(40, 24))
    module = fitted.module_
    assert module.operations / 3 == pytest.approx(sum(by_hand(576, N_UNITS, 24)), rel=0.01)
    assert module.cost.width == 3 * 24**2


def test_blocks_of_rows_are_small_where_feature_maps_are_wide():
    def wide(n_inputs, n_outputs):
        enlarged = [nn.Unflatten(1, (1, 8, 8)), nn.Upsample(scale_factor=45)]
        return nn.Sequential(*enlarged, nn.AdaptiveAvgPool2d(8), nn.Flatten(), nn.Linear(64, 4))

    sizes = set()
    fitted = AutoencoderTransformer(
        network=CustomNetwork(wide, nn.Linear), **{**QUICK, "max_iter": 1}
    ).fit(images(20))
    fitted.module_.encoder[1].register_forward_hook(
        lambda layer, inputs, output: sizes.add(len(output))
    )
    assert fitted.transform(images(70)).shape == (70, N_UNITS)
    assert sizes == {32}  # 2^22 cells hold 32 images of 360 x 360


def test_modules_that_draw_are_tried_out_without_a_trace():
    module = nn.Sequential(nn.Linear(5, 4), nn.Dropout(0.5), nn.RReLU())
    code = torch.randn(3, 5, generator=generator())
    with global_generators_untouched():
        try_out(module, 5)
    assert module.training
    assert module.eval()(code).shape == (3, 4)
