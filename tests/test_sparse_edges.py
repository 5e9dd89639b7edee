"""Do fits on CSR rows hold where something is unusual? Frozen layers, huge totals, far columns."""

import itertools

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import nn

from skae import AutoencoderTransformer, DenoisingAETransformer, VAETransformer
from skae._kernels.rows import ColumnSquares
from skae._training.batches import Batch, to_csr
from skae.likelihoods import ZeroInflatedNegativeBinomial
from skae.networks import CustomNetwork, decoder_gains
from skae.noise import Noise
from tests.helpers import QUICK, counts, generator, normal

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::skae.exceptions.PosteriorCollapseWarning"),
]

FLAGS = sp.csr_array((counts(60, 30, rate=0.3) > 0).astype(float))
# So many columns that "auto" trains on them as they are.
WIDE_FLAGS = sp.csr_array((counts(40, 600, rate=0.05) > 0).astype(float))
QUICK_EXACT = {**QUICK, "max_iter": 2, "sparse_method": "exact"}
#: The same beside a network of its own, which has no layers to give a size.
EXACT = {name: value for name, value in QUICK_EXACT.items() if name != "hidden_layer_sizes"}


# The user's own parts.


def frozen(n_inputs, n_outputs):
    first = nn.Linear(n_inputs, 5)
    first.requires_grad_(False)
    return nn.Sequential(first, nn.Tanh(), nn.Linear(5, n_outputs))


def hooked(n_inputs, n_outputs):
    first = nn.Linear(n_inputs, n_outputs)
    first.register_forward_hook(lambda module, inputs, output: 2 * output)
    return nn.Sequential(first)


def decoder(n_inputs, n_outputs):
    return nn.Sequential(nn.Linear(n_inputs, n_outputs))


def test_frozen_first_layer_stays_as_it_is():
    network = CustomNetwork(frozen, decoder)
    before = AutoencoderTransformer(network=network, **EXACT).fit(FLAGS)
    after = AutoencoderTransformer(network=network, **{**EXACT, "max_iter": 9}).fit(FLAGS)
    assert after.sparse_method_ == "exact"
    first, second = (one.module_.encoder[0] for one in (before, after))
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(first.bias, second.bias)


def test_layer_with_a_hook_is_not_replaced():
    network = CustomNetwork(hooked, decoder)
    with pytest.raises(ValueError, match="its encoder begins with Linear that has hooks"):
        AutoencoderTransformer(network=network, **EXACT).fit(FLAGS)
    fitted = AutoencoderTransformer(network=network, **{**EXACT, "sparse_method": "auto"})
    assert fitted.fit(WIDE_FLAGS).sparse_method_ == "dense"


class OnlyDense(Noise):
    """Knows dense rows alone."""

    def corrupt(self, x, level, generator):
        return torch.zeros_like(x)


def test_noise_that_knows_dense_rows_alone_gets_them():
    fitted = DenoisingAETransformer(noise=OnlyDense(), **{**QUICK_EXACT, "sparse_method": "auto"})
    assert fitted.fit(WIDE_FLAGS).sparse_method_ == "dense"
    # Were it not for the noise, they would be trained on as they are.
    assert fitted.set_params(noise="masking").fit(WIDE_FLAGS).sparse_method_ == "exact"


# Numbers that single precision loses.


@pytest.mark.parametrize(
    ("mean", "input_scaling", "expected"),
    [
        (2000.0, "auto", "exact"),
        (2000.0, None, "dense"),
        (2000.0, "max", "dense"),
        (20.0, None, "exact"),
    ],
)
def test_columns_far_from_zero_are_trained_on_dense_batches_unless_centred(
    mean, input_scaling, expected
):
    rng = np.random.RandomState(0)
    near = sp.random_array((50, 600), density=0.05, format="csr", rng=rng)
    rows = sp.hstack([near, sp.csr_array(mean + rng.normal(size=(50, 1)))], format="csr")
    settings = {**QUICK, "max_iter": 1, "input_scaling": input_scaling}
    assert AutoencoderTransformer(**settings).fit(rows).sparse_method_ == expected


@pytest.mark.parametrize("gate", [-8.0, 2.0, 8.0])
@pytest.mark.parametrize("log_share", [-16.0, -3.0, 2.0])
def test_zeros_behind_a_gate_keep_their_digits(gate, log_share):
    likelihood = ZeroInflatedNegativeBinomial()

    def values(dtype):
        raw = torch.tensor([[log_share, gate]], dtype=dtype)
        given = {"total": torch.tensor([[100.0]], dtype=dtype), "log_theta": raw.new_zeros(1)}
        return torch.stack(
            [likelihood.log_prob_zero(raw, **given), likelihood.nonzero_mass(raw, **given)]
        )

    torch.testing.assert_close(
        values(torch.float32).double(), values(torch.float64), rtol=1e-5, atol=0
    )


# Totals and weights.


def test_row_of_a_huge_total_counts_as_ten_medians():
    rows = counts(40, 20, rate=1.0)
    rows[3] *= 1000
    fitted = VAETransformer(likelihood="poisson", **QUICK_EXACT).fit(sp.csr_array(rows))
    module, share = fitted.module_.train(), []
    for x in (torch.from_numpy(rows).float(), to_csr(sp.csr_array(rows), None, "cpu")):
        share.append(module._share_of_rows(x, None) * 40)
    module.eval()
    assert torch.equal(*share)
    most = 10 * np.median(rows.sum(axis=1)) / rows.sum(axis=1)
    np.testing.assert_allclose(share[0], np.minimum(1.0, most), rtol=1e-6)
    assert (module._share_of_rows(x, None) == 1 / 40).all()


def test_rows_of_weight_zero_do_not_choose_the_likelihood():
    rows = FLAGS.toarray()
    rows[0, 0] = -3.5
    weight = np.ones(60)
    for weight[0], expected in ((1.0, "Gaussian"), (0.0, "Bernoulli")):
        fitted = AutoencoderTransformer(likelihood="auto", **QUICK_EXACT)
        fitted.fit(sp.csr_array(rows[1:] if weight[0] == 0 else rows))
        assert type(fitted.likelihood_).__name__ == expected
    with_weight = AutoencoderTransformer(likelihood="auto", **QUICK_EXACT)
    rows[0, 0] = 0.5
    with_weight.fit(sp.csr_array(rows), sample_weight=weight)
    assert type(with_weight.likelihood_).__name__ == "Bernoulli"


# Parts of the objective.


def test_loss_without_gradients_is_the_same():
    for likelihood in ("gaussian", "bernoulli", "multinomial"):
        fitted = AutoencoderTransformer(likelihood=likelihood, **QUICK_EXACT).fit(FLAGS)
        batch = Batch(to_csr(FLAGS, None, "cpu"), torch.rand(60, generator=generator()))
        with_gradients = fitted.module_(batch)["reconstruction"].value
        with torch.no_grad():
            without = fitted.module_(batch)["reconstruction"].value
        torch.testing.assert_close(with_gradients.detach(), without)


def test_norms_of_a_layer_estimated_from_drawn_rows_are_right_on_average():
    weight = normal(6, 3).requires_grad_()
    found, gradients = [], []
    # Every pair of rows is drawn as often as any other: each row counts three times.
    for pair in itertools.combinations(range(6), 2):
        rows, row_weight = torch.tensor(pair), torch.full((2,), 3.0).double()
        for sparse in (False, True):
            squares = ColumnSquares.apply(weight, rows, row_weight, sparse)
            (gradient,) = torch.autograd.grad(squares.sum(), [weight])
            assert gradient.is_sparse == sparse
            gradient = gradient.to_dense()
        found.append(squares.detach())
        gradients.append(gradient)
    torch.testing.assert_close(torch.stack(found).mean(dim=0), weight.detach().square().sum(dim=0))
    torch.testing.assert_close(torch.stack(gradients).mean(dim=0), 2 * weight.detach())


@pytest.mark.parametrize("sizes", [(3, 6), (3, 4, 6)])
def test_gains_from_squares_are_the_gains(sizes):
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
    module = nn.Sequential(*layers)
    squares = layers[-1].weight.square().sum(dim=0)
    torch.testing.assert_close(decoder_gains(module, squares), decoder_gains(module))
