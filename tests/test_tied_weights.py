"""Are weights that stand in two places one weight, wherever networks are copied and trained?"""

import copy
import functools
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from torch import nn

from skae import AutoencoderTransformer
from skae.networks import CustomNetwork, Layout, Network, TiedMLP
from tests.helpers import counts, low_rank, normal

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

N_FEATURES, N_UNITS = 9, 3
QUICK = {"n_components": N_UNITS, "max_iter": 3, "batch_size": 20, "random_state": 0}
X = normal(60, N_FEATURES).numpy()


class Transposed(nn.Module):
    """A decoder with the weight of a linear layer."""

    def __init__(self, layer):
        super().__init__()
        self.weight = layer.weight
        self.bias = nn.Parameter(torch.zeros(layer.in_features))

    def forward(self, code):
        return code @ self.weight + self.bias


class Hiding(nn.Module):
    """The same, with the layer where torch does not look for layers."""

    def __init__(self, layer):
        super().__init__()
        self.layers = [{"first": layer}]

    @property
    def weight(self):
        return self.layers[0]["first"].weight

    def forward(self, code):
        return code @ self.weight


class Pair:
    """Makes an encoder, and then a decoder that knows it."""

    def encoder(self, n_inputs, n_outputs):
        self.made = nn.Linear(n_inputs, n_outputs)
        return self.made

    def decoder(self, n_inputs, n_outputs):
        return Transposed(self.made)


def transposed_of(layer, n_inputs, n_outputs):
    return Transposed(layer)


class Own(Network):
    """Modules as parameters of a class of one's own."""

    takes_layer_sizes = False

    def __init__(self, encoder, decoder):
        self.encoder = encoder
        self.decoder = decoder

    def build(self, layout, n_encoder_outputs, n_decoder_outputs, seed):
        return copy.deepcopy((self.encoder, self.decoder))


def networks():
    layer, pair = nn.Linear(N_FEATURES, N_UNITS), Pair()
    return {
        "weight": CustomNetwork(layer, Transposed(layer)),
        "layer": CustomNetwork(layer, Hiding(layer)),
        "function": CustomNetwork(layer, functools.partial(transposed_of, layer)),
        "pair": CustomNetwork(pair.encoder, pair.decoder),
        "class": Own(layer, Transposed(layer)),
    }


def searched(estimator):
    return GridSearchCV(estimator, {"alpha": [1e-4, 1e-3]}, cv=2).fit(X).best_estimator_


def searched_over_networks(estimator):
    grid = {"network": [estimator.network]}
    return GridSearchCV(estimator.set_params(network=None), grid, cv=2).fit(X).best_estimator_


def set_later(estimator):
    return AutoencoderTransformer(**QUICK).set_params(network=estimator.network).fit(X)


WAYS = {
    "fit": lambda estimator: estimator.fit(X),
    "clone": lambda estimator: clone(clone(estimator)).fit(X),
    "pickle": lambda estimator: pickle.loads(pickle.dumps(estimator)).fit(X),
    "pickle of the fitted": lambda estimator: pickle.loads(pickle.dumps(estimator.fit(X))),
    "clone of the fitted": lambda estimator: clone(estimator.fit(X)).fit(X),
    "search": searched,
    "search over networks": searched_over_networks,
    "set_params": set_later,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("name", networks())
def test_weight_of_both_stays_one(name, way):
    estimator = AutoencoderTransformer(network=networks()[name], **QUICK)
    module = way(estimator).partial_fit(X).module_
    assert module.decoder.weight is module.encoder.weight
    assert sum(p is module.encoder.weight for p in module.parameters()) == 1


def weights_of(layers):
    return [id(layer.weight) for layer in layers if hasattr(layer, "weight")]


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_weights_of_a_tied_network_stay_one_at_every_layer(way):
    estimator = AutoencoderTransformer(network=TiedMLP(), **QUICK)
    module = way(estimator).partial_fit(X).module_
    assert weights_of(module.encoder) == weights_of(module.decoder)[::-1]
    assert len({id(p) for p in module.parameters() if p.dim() == 2}) == 2  # of one hidden layer


@pytest.mark.parametrize("hidden", [(), (7, 5)], ids=str)
@pytest.mark.parametrize("n_outputs", [N_UNITS, 2 * N_UNITS], ids=["code", "posterior"])
def test_a_tied_decoder_multiplies_by_the_transposed_weights(hidden, n_outputs):
    layout = Layout(N_FEATURES, N_UNITS, hidden, "tanh")
    encoder, decoder, cost = TiedMLP().make(layout, n_outputs, N_FEATURES, seed=0)
    code = normal(4, N_UNITS).float()
    weights = [layer.weight for layer in encoder if isinstance(layer, nn.Linear)]
    expected = code @ weights.pop()[:N_UNITS]
    while weights:
        expected = torch.tanh(expected) @ weights.pop()
    torch.testing.assert_close(decoder(code), expected)
    assert cost.width == max(N_FEATURES, n_outputs, *hidden)


def test_a_tied_network_starts_at_the_means_of_the_columns():
    _, decoder, _ = TiedMLP().make(Layout(N_FEATURES, N_UNITS, (5,), "relu"), 3, N_FEATURES, 0)
    means = torch.arange(9.0)
    TiedMLP().start_at(decoder, means)
    torch.testing.assert_close(decoder(torch.zeros(1, N_UNITS)), means[None])


def test_a_tied_linear_network_learns_the_principal_subspace():
    rows = low_rank(200, N_FEATURES, rank=N_UNITS)
    settings = {"hidden_layer_sizes": (), "input_scaling": "common", "random_state": 0}
    settings["learning_rate_init"] = 0.01
    fit = AutoencoderTransformer(N_UNITS, network=TiedMLP(), **settings).fit(rows)
    left = ((fit.reconstruct(rows) - rows) ** 2).sum()
    of_pca = PCA(N_UNITS).fit(rows)
    best = ((of_pca.inverse_transform(of_pca.transform(rows)) - rows) ** 2).sum()
    assert left < 1.01 * best


def test_a_likelihood_of_several_outputs_a_column_is_an_error_of_tied_weights():
    estimator = AutoencoderTransformer(
        network=TiedMLP(), likelihood="zero_inflated_negative_binomial", **QUICK
    )
    with pytest.raises(ValueError, match=r"TiedMLP gives one raw output .* network at None"):
        estimator.fit(counts(40, N_FEATURES))


def test_rows_stay_no_csr_with_tied_weights():
    rows = sp.csr_array(counts(40, 600))
    estimator = AutoencoderTransformer(network=TiedMLP(), likelihood="poisson", **QUICK)
    assert estimator.fit(rows).sparse_method_ == "dense"


def test_modules_of_the_user_stay_as_they_are():
    network = networks()["weight"]
    before = network.encoder.weight.clone()
    AutoencoderTransformer(network=network, **QUICK).fit(X)
    assert torch.equal(network.encoder.weight, before)
    assert network.decoder.weight is network.encoder.weight


def test_parameters_in_one_place_of_the_memory_are_an_error():
    encoder, decoder = nn.Linear(N_FEATURES, N_UNITS), nn.Linear(N_UNITS, N_FEATURES)
    decoder.weight = nn.Parameter(encoder.weight.T)
    estimator = AutoencoderTransformer(network=CustomNetwork(encoder, decoder), **QUICK)
    for way in (clone, lambda one: one.fit(X)):
        with pytest.raises(ValueError, match=r"coder\.weight and .*coder\.weight .*one nn\.Param"):
            way(estimator)
    decoder.weight = nn.Parameter(encoder.weight.T.clone())
    assert estimator.fit(X).transform(X).shape == (60, N_UNITS)


def parts_of_one(whole, of_encoder, of_decoder):
    """Return a network whose weights are views of one array."""
    encoder, decoder = nn.Linear(N_FEATURES, N_UNITS), nn.Linear(N_UNITS, N_FEATURES)
    encoder.weight = nn.Parameter(of_encoder(whole).reshape_as(encoder.weight))
    decoder.weight = nn.Parameter(of_decoder(whole).reshape_as(decoder.weight))
    return AutoencoderTransformer(network=CustomNetwork(encoder, decoder), **QUICK)


SIZE = N_FEATURES * N_UNITS


@pytest.mark.parametrize("start", [1, SIZE // 2, SIZE - 1, SIZE])
def test_parameters_that_overlap_by_a_part_are_an_error(start):
    vector = torch.randn(2 * SIZE, generator=torch.Generator().manual_seed(0))
    estimator = parts_of_one(vector, lambda v: v[:SIZE], lambda v: v[start : start + SIZE])
    for way in (clone, lambda one: one.fit(X)):
        if start < SIZE:
            with pytest.raises(ValueError, match=r"coder\.weight and .*coder\.weight .*in one "):
                way(estimator)
        else:
            way(estimator)


def test_columns_of_one_array_do_not_overlap():
    table = torch.randn((N_FEATURES, 2 * N_UNITS), generator=torch.Generator().manual_seed(0))
    estimator = parts_of_one(table, lambda t: t[:, :N_UNITS].T, lambda t: t[:, N_UNITS:])
    assert estimator.fit(X).transform(X).shape == (60, N_UNITS)


def test_parameters_of_one_vector_that_do_not_overlap_are_fine():
    encoder, decoder = nn.Linear(N_FEATURES, N_UNITS), nn.Linear(N_UNITS, N_FEATURES)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    vector = nn.utils.parameters_to_vector(parameters)
    nn.utils.vector_to_parameters(vector, parameters)
    fitted = AutoencoderTransformer(network=CustomNetwork(encoder, decoder), **QUICK).fit(X)
    assert fitted.transform(X).shape == (60, N_UNITS)


# The first layer has another form where rows stay CSR.


def square(n_inputs, n_outputs):
    layer = nn.Linear(n_inputs, n_inputs)
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Linear(n_inputs, n_outputs))


def same_weight(n_inputs, n_outputs):
    made = square(n_inputs, n_outputs)
    made[2] = nn.Linear(n_inputs, n_inputs)
    made[2].weight = made[0].weight
    return made


def same_memory(n_inputs, n_outputs):
    made = square(n_inputs, n_outputs)
    made[2] = nn.Linear(n_inputs, n_inputs)
    made[2].weight = nn.Parameter(made[0].weight.T)
    return made


def hidden_layer(n_inputs, n_outputs):
    layer = nn.Linear(n_inputs, n_outputs)
    return nn.Sequential(layer, Hiding(layer), nn.Linear(n_inputs, n_outputs))


def plain_decoder(n_inputs, n_outputs):
    return nn.Sequential(nn.Linear(n_inputs, n_outputs))


def both_tied(n_features):
    layer = nn.Linear(n_features, N_UNITS)
    decoder = nn.Sequential(Transposed(layer), nn.Linear(n_features, n_features))
    return CustomNetwork(nn.Sequential(layer), decoder)


TWICE = {
    "a layer called twice": CustomNetwork(square, plain_decoder),
    "a weight": CustomNetwork(same_weight, plain_decoder),
    "a memory": CustomNetwork(same_memory, plain_decoder),
    "a hidden layer": CustomNetwork(hidden_layer, plain_decoder),
    "the decoder": both_tied(600),
}


@pytest.mark.parametrize("network", TWICE.values(), ids=TWICE)
def test_first_layer_that_is_used_elsewhere_keeps_rows_from_staying_csr(network):
    rows = sp.csr_array(counts(40, 600))
    settings = {**QUICK, "likelihood": "poisson", "max_iter": 1}
    estimator = AutoencoderTransformer(network=network, **settings)
    assert estimator.fit(rows).sparse_method_ == "dense"
    with pytest.raises(ValueError, match="used in another place"):
        estimator.set_params(sparse_method="exact").fit(rows)


def test_last_layer_that_is_used_elsewhere_is_trained_as_on_dense_rows():
    def shared():
        last = nn.Linear(N_UNITS, 600)
        first, narrow = nn.Linear(600, N_UNITS), nn.Linear(600, N_UNITS)
        encoder = nn.Sequential(first, nn.Tanh(), last, nn.Tanh(), narrow)
        return CustomNetwork(encoder, nn.Sequential(nn.Linear(N_UNITS, N_UNITS), last))

    rows, network = sp.csr_array(counts(40, 600)), shared()
    codes = [
        AutoencoderTransformer(
            network=network, likelihood="poisson", sparse_method=method, **QUICK
        ).fit(rows)
        for method in ("dense", "exact")
    ]
    found, expected = (one.transform(rows) for one in codes)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
