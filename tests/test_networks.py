"""Do networks have the shapes and the weights that were asked for, and nothing but the seed's?"""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from skae.networks import (
    ACTIVATIONS,
    MLP,
    NETWORKS,
    CustomNetwork,
    Layout,
    decoder_gains,
    linear_layers,
)
from tests.helpers import global_generators_untouched, normal

LAYOUT = Layout(n_features=9, n_components=3, hidden_layer_sizes=(7, 5), activation="relu")
N_ENCODER_OUTPUTS, N_DECODER_OUTPUTS = 6, 18

laws = pytest.mark.parametrize("name", NETWORKS)


def build(network, layout=LAYOUT, seed=0):
    encoder, decoder, _ = network.make(layout, N_ENCODER_OUTPUTS, N_DECODER_OUTPUTS, seed)
    return encoder, decoder


def custom(encoder=None, decoder=None, layout=LAYOUT):
    """Return a network whose modules fit, where none is given."""
    return CustomNetwork(
        encoder or nn.Linear(layout.n_features, N_ENCODER_OUTPUTS),
        decoder or nn.Linear(layout.n_components, N_DECODER_OUTPUTS),
    )


def weights(modules):
    return torch.cat([p.detach().ravel() for module in modules for p in module.parameters()])


def sizes(module):
    layers = linear_layers(module)
    return [layers[0].in_features, *(layer.out_features for layer in layers)]


# Every network of the vocabulary.


@laws
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", [(), (4,), (7, 5)], ids=str)
def test_network_laws_shapes(name, activation, hidden):
    encoder, decoder = build(NETWORKS[name](), Layout(9, 3, hidden, activation))
    assert encoder(torch.zeros(4, 9)).shape == (4, N_ENCODER_OUTPUTS)
    assert decoder(torch.zeros(4, 3)).shape == (4, N_DECODER_OUTPUTS)
    assert {p.dtype for module in (encoder, decoder) for p in module.parameters()} == {
        torch.float32
    }


@laws
def test_network_laws_weights_are_those_of_the_seed(name):
    first, again, other = (weights(build(NETWORKS[name](), seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.isclose(first, other).any()


@laws
def test_network_laws_nothing_is_drawn_from_the_global_generator(name):
    if NETWORKS[name].uses_global_generator:
        pytest.skip("says of itself that it draws from the global generator")
    with global_generators_untouched():
        build(NETWORKS[name]())
    with torch.random.fork_rng():
        torch.manual_seed(1)
        first = weights(build(NETWORKS[name]()))
        torch.manual_seed(2)
        assert torch.equal(weights(build(NETWORKS[name]())), first)


@laws
def test_network_laws_encoder_and_decoder_share_no_weight(name):
    encoder, decoder = build(NETWORKS[name]())
    places = [p.data_ptr() for module in (encoder, decoder) for p in module.parameters()]
    assert len(set(places)) == len(places)


@laws
def test_network_laws_the_last_layer_is_not_activated(name):
    encoder, decoder = build(NETWORKS[name]())
    assert (encoder(100 * normal(50, 9).float()) < 0).any()
    assert (decoder(100 * normal(50, 3).float()) < 0).any()


# Fully connected layers.


def test_decoder_mirrors_the_encoder():
    encoder, decoder = build(MLP())
    assert sizes(encoder) == [9, 7, 5, N_ENCODER_OUTPUTS]
    assert sizes(decoder) == [3, 5, 7, N_DECODER_OUTPUTS]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_stands_between_layers_and_not_behind_the_last(activation):
    encoder, _ = build(MLP(), LAYOUT._replace(activation=activation))
    kinds = [type(layer) for layer in encoder]
    assert kinds == [nn.Linear, ACTIVATIONS[activation]] * 2 + [nn.Linear]


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("identity", lambda x: x),
        ("logistic", lambda x: 1 / (1 + np.exp(-x))),
        ("tanh", np.tanh),
        ("relu", lambda x: np.maximum(x, 0)),
    ],
)
def test_activations_of_scikit_learn_have_its_names(activation, function):
    x = np.linspace(-3, 3, 13)
    found = ACTIVATIONS[activation]()(torch.from_numpy(x))
    np.testing.assert_allclose(found, function(x), atol=1e-12)


def test_without_hidden_layers_both_are_linear():
    for module in build(MLP(), LAYOUT._replace(hidden_layer_sizes=())):
        assert [type(layer) for layer in module] == [nn.Linear]


def test_weights_are_uniform_within_the_bound_of_their_layer():
    encoder, decoder = build(MLP(), Layout(400, 3, (300,), "relu"))
    layers = linear_layers(encoder) + linear_layers(decoder)
    for layer in layers:
        bound = layer.in_features**-0.5
        values = torch.cat([layer.weight.ravel(), layer.bias]).detach()
        assert values.abs().max() <= bound
        assert float(values.std()) == pytest.approx(bound / 3**0.5, rel=0.1)


# Modules of the user.


def test_instances_are_copied_and_not_changed():
    given = custom()
    before = weights((given.encoder, given.decoder))
    built = build(given)
    assert torch.equal(weights(built), before)
    with torch.no_grad():
        for module in built:
            for parameter in module.parameters():
                parameter.zero_()
    assert torch.equal(weights((given.encoder, given.decoder)), before)


def test_factories_are_called_with_the_sizes():
    calls = []

    def factory(n_inputs, n_outputs):
        calls.append((n_inputs, n_outputs))
        return nn.Linear(n_inputs, n_outputs)

    build(CustomNetwork(factory, factory))
    assert calls == [(9, N_ENCODER_OUTPUTS), (3, N_DECODER_OUTPUTS)]


def test_weights_of_factories_are_those_of_the_seed_and_the_global_generator_stays():
    network = CustomNetwork(nn.Linear, nn.Linear)
    with global_generators_untouched():
        first, again, other = (weights(build(network, seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("part", "n_inputs", "n_outputs"),
    [("encoder", 9, N_ENCODER_OUTPUTS), ("decoder", 3, N_DECODER_OUTPUTS)],
)
@pytest.mark.parametrize("as_factory", [False, True])
def test_wrong_output_shape_is_told_with_the_right_one(part, n_inputs, n_outputs, as_factory):
    wrong = nn.Linear(n_inputs, 4)
    network = custom(**{part: (lambda *_: wrong) if as_factory else wrong})
    with pytest.raises(ValueError) as error:
        build(network)
    for words in (
        f"The {part} of CustomNetwork",
        f"(n_rows, {n_inputs})",
        f"(n_rows, {n_outputs})",
        "returned shape (2, 4)",
        "Change its last layer",
    ):
        assert words in str(error.value)


@pytest.mark.parametrize("training", [True, False])
def test_looking_at_the_shapes_leaves_no_trace(training):
    stack = nn.Sequential(nn.BatchNorm1d(9), nn.Dropout(), nn.Linear(9, N_ENCODER_OUTPUTS))
    network = custom(encoder=stack.train(training))
    state = copy.deepcopy(stack.state_dict())
    with global_generators_untouched():
        encoder, _ = build(network)
    assert encoder.training == training
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, state[name])
    assert all(parameter.grad is None for parameter in encoder.parameters())


def test_looking_at_the_shapes_of_a_module_that_always_draws_leaves_the_generator_alone():
    class Noisy(nn.Linear):
        def forward(self, x):
            return super().forward(x + torch.rand(x.shape))

    network = custom(encoder=Noisy(9, N_ENCODER_OUTPUTS))
    with global_generators_untouched():
        build(network)


# How strongly a decoder answers to a unit.


def test_linear_layers_come_in_order():
    first, second = nn.Linear(2, 3), nn.Linear(3, 4)
    module = nn.Sequential(first, nn.Sequential(nn.ReLU(), second))
    assert linear_layers(module) == [first, second]


def test_gains_of_one_layer_are_the_norms_of_its_columns():
    decoder = nn.Linear(2, 3)
    with torch.no_grad():
        decoder.weight.copy_(torch.tensor([[3.0, 0.0], [4.0, 0.0], [0.0, 2.0]]))
    torch.testing.assert_close(decoder_gains(decoder), torch.tensor([5.0, 2.0]))


def test_gains_of_a_deep_decoder_follow_the_closed_form():
    _, decoder = build(MLP())
    first, second, third = (layer.weight.detach() for layer in linear_layers(decoder))
    expected = first.norm(dim=0) * second.norm() / 5**0.5 * third.norm() / 7**0.5
    torch.testing.assert_close(decoder_gains(decoder).detach(), expected)


@pytest.mark.parametrize(("n_inputs", "n_outputs"), [(4, 8), (8, 4), (5, 5)])
def test_orthonormal_layers_add_nothing_to_the_gains(n_inputs, n_outputs):
    decoder = nn.Sequential(nn.Linear(2, n_inputs), nn.Linear(n_inputs, n_outputs)).double()
    tall = torch.linalg.qr(normal(max(n_inputs, n_outputs), min(n_inputs, n_outputs)))[0]
    with torch.no_grad():
        decoder[1].weight.copy_(tall if n_outputs >= n_inputs else tall.T)
    torch.testing.assert_close(decoder_gains(decoder), decoder[0].weight.norm(dim=0))


def test_gains_pass_gradients_to_every_layer():
    _, decoder = build(MLP())
    decoder_gains(decoder).sum().backward()
    assert all(layer.weight.grad.any() for layer in linear_layers(decoder))
