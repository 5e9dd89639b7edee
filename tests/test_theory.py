"""Where the answer is known in closed form, a fit or a score must give it."""

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA, FactorAnalysis
from torch import nn

from skae import (
    AutoencoderTransformer,
    DenoisingAETransformer,
    SparseAutoencoderTransformer,
    VAETransformer,
)
from skae.likelihoods import Gaussian
from skae.networks import CustomNetwork, linear_layers
from tests.helpers import low_rank

# The linear model on X as it is, trained to the end of a schedule that no stopping rule cuts short:
# what is compared with theory is the optimum, not how soon one is content.
LAYERS = ("hidden_layer_sizes", "activation")
LINEAR = {
    "hidden_layer_sizes": (),
    "activation": "identity",
    "input_scaling": None,
    "alpha": 0.0,
    "tol": 0.0,
    "n_iter_no_change": 10_000,
    "learning_rate_init": 2e-2,
    "random_state": 0,
}
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# A floor that no noise of these data comes near.
SHARED = Gaussian(variance="shared", variance_floor=1e-6)
PER_FEATURE = Gaussian(variance="per_feature", variance_floor=1e-6)


def factors(n_rows, noise, seed):
    """Rows of a two-factor model with orthogonal loadings of length 3 and 1.5, of mean zero."""
    loadings = np.linalg.qr(np.random.RandomState(0).normal(size=(6, 2)))[0] * [3.0, 1.5]
    rng = np.random.RandomState(seed)
    return rng.normal(size=(n_rows, 2)) @ loadings.T + noise * rng.normal(size=(n_rows, 6))


EQUAL_NOISE, UNEQUAL_NOISE = np.full(6, 0.8), np.linspace(0.6, 1.4, 6)


def last_linear(module):
    """Weight and bias of the last linear layer, in double precision."""
    layer = linear_layers(module)[-1]
    weight = layer.weight.detach().double().numpy()
    return weight, 0.0 if layer.bias is None else layer.bias.detach().double().numpy()


def noise_variance(estimator):
    """The learned variance of the Gaussian, in the units of the network."""
    observation = estimator.module_.observation
    variance = observation.likelihood.noise_variance(**observation.state.tensors())
    return variance.detach().double().numpy()


# The linear autoencoder is PCA (Baldi and Hornik 1989).


@pytest.fixture(scope="module")
def linear_autoencoder():
    X = low_rank(n_rows=300)
    estimator = AutoencoderTransformer(n_components=3, likelihood=SHARED, max_iter=200, **LINEAR)
    return X, estimator.fit(X), PCA(3).fit(X)


def test_linear_decoder_spans_the_pca_subspace(linear_autoencoder):
    _, estimator, pca = linear_autoencoder
    weight, _ = last_linear(estimator.module_.decoder)
    assert np.degrees(subspace_angles(weight, pca.components_.T)).max() < 1.0


def test_linear_autoencoder_reconstructs_as_well_as_pca(linear_autoencoder):
    X, estimator, pca = linear_autoencoder
    ours = np.square(X - estimator.reconstruct(X)).sum()
    best = np.square(X - pca.inverse_transform(pca.transform(X))).sum()
    assert 1 - 1e-5 < ours / best < 1.01


def test_linear_autoencoder_learns_the_variance_of_what_pca_leaves(linear_autoencoder):
    X, estimator, pca = linear_autoencoder
    left = np.square(X - pca.inverse_transform(pca.transform(X))).mean()
    np.testing.assert_allclose(noise_variance(estimator), left, rtol=0.02)


# The linear Gaussian VAE is probabilistic PCA or factor analysis (Lucas et al. 2019).


def largest_ppca_likelihood(X, n_components):
    """Mean log-likelihood of a row at the maximum (Tipping and Bishop 1999, equations 5 and 8)."""
    eigenvalues = np.linalg.eigvalsh(np.cov(X.T, bias=True))[::-1]
    kept, left = eigenvalues[:n_components], eigenvalues[n_components:]
    log_determinant = np.log(kept).sum() + len(left) * np.log(left.mean())
    return -0.5 * (X.shape[1] * (np.log(2 * np.pi) + 1) + log_determinant)


def fit_linear_vae(X, likelihood, **parameters):
    settings = {"n_components": 2, "kl_warmup": 0.0, "batch_size": 100, "max_iter": 300}
    return VAETransformer(likelihood=likelihood, **{**LINEAR, **settings, **parameters}).fit(X)


def test_linear_vae_reaches_probabilistic_pca():
    train, test = factors(400, EQUAL_NOISE, seed=1), factors(400, EQUAL_NOISE, seed=2)
    vae, pca = fit_linear_vae(train, SHARED), PCA(2).fit(train)
    assert vae.score(train) == pytest.approx(pca.score(train), abs=0.01)
    assert vae.score(test) == pytest.approx(pca.score(test), abs=0.02)
    assert vae.score(train) <= largest_ppca_likelihood(train, 2) + 1e-5


def test_linear_vae_with_a_variance_for_each_feature_reaches_factor_analysis():
    train, test = factors(400, UNEQUAL_NOISE, seed=1), factors(400, UNEQUAL_NOISE, seed=2)
    vae = fit_linear_vae(train, PER_FEATURE)
    analysis = FactorAnalysis(2, tol=1e-6, max_iter=5000).fit(train)
    assert vae.score(train) == pytest.approx(analysis.score(train), abs=0.01)
    assert vae.score(test) == pytest.approx(analysis.score(test), abs=0.02)
    assert vae.score(train) <= analysis.score(train) + 1e-3  # EM stops a little below the maximum


def test_linear_vae_reaches_factor_analysis_from_strong_signals():
    # Columns of this spread throw a posterior whose width starts at random into overflow.
    loadings = np.random.RandomState(3).normal(size=(1, 6)) * 4.0
    rng = np.random.RandomState(0)
    X = rng.normal(size=(400, 1)) @ loadings + UNEQUAL_NOISE * rng.normal(size=(400, 6))
    vae = fit_linear_vae(X, PER_FEATURE, n_components=1, max_iter=400)
    analysis = FactorAnalysis(1, tol=1e-6, max_iter=5000).fit(X)
    assert vae.score(X) == pytest.approx(analysis.score(X), abs=0.05)


def test_score_does_not_depend_on_the_units_of_the_network():
    # The same model in the units of X and in those of the network; the density changes with them.
    scaled = factors(400, UNEQUAL_NOISE, seed=2)
    scaled = (scaled - scaled.mean(axis=0)) / scaled.std(axis=0)
    units = np.array([1, 10, 0.1, 1, 100, 1])
    X = scaled * units + 50.0
    vae = fit_linear_vae(X, PER_FEATURE, input_scaling="standard")
    analysis = FactorAnalysis(2, tol=1e-6, max_iter=5000).fit(scaled)
    expected = analysis.score(scaled) - np.log(units).sum()
    assert vae.score(X) == pytest.approx(expected, abs=0.02)
    plain = fit_linear_vae(scaled, PER_FEATURE, input_scaling="standard").score(scaled)
    assert vae.score(X) == pytest.approx(plain - np.log(units).sum(), abs=1e-3)


# The score of a VAE.


def exact_elbo(vae, X):
    """The evidence lower bound of a linear encoder and decoder, from the weights."""
    weight, bias = last_linear(vae.module_.encoder)
    mean, log_std = np.split(X @ weight.T + bias, 2, axis=1)
    weight, bias = last_linear(vae.module_.decoder)
    v = np.broadcast_to(noise_variance(vae), X.shape[1])
    spread = np.exp(2 * log_std)
    squares = np.square(X - mean @ weight.T - bias) + spread @ np.square(weight.T)
    kl = 0.5 * (np.square(mean) + spread - 1) - log_std
    return -0.5 * (np.log(2 * np.pi * v) + squares / v).sum(axis=1) - kl.sum(axis=1)


@pytest.mark.parametrize("n_components", [1, 2, 5, 16])
def test_elbo_of_a_linear_decoder_is_exact(n_components):
    # At weights that are no optimum, so that nothing cancels.
    X = low_rank(n_rows=50)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    vae = fit_linear_vae(X, PER_FEATURE, n_components=n_components, max_iter=2)
    np.testing.assert_allclose(vae.score_samples(X), exact_elbo(vae, X), rtol=1e-4)


def test_elbo_of_more_than_sixteen_components_is_near_the_exact_one():
    X = low_rank(n_rows=50)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    vae = fit_linear_vae(X, PER_FEATURE, n_components=30, max_iter=2)
    np.testing.assert_allclose(vae.score(X), exact_elbo(vae, X).mean(), rtol=0.1)


def test_score_is_a_bound_of_the_likelihood_of_each_row():
    # log p(x) of the fitted linear model, from its own weights: N(b, W W' + diag v).
    X = factors(400, UNEQUAL_NOISE, seed=1)
    vae = fit_linear_vae(X, PER_FEATURE, max_iter=20)
    weight, bias = last_linear(vae.module_.decoder)
    covariance = weight @ weight.T + np.diag(noise_variance(vae))
    away = np.linalg.solve(covariance, (X - bias).T).T * (X - bias)
    log_p = -0.5 * (np.linalg.slogdet(2 * np.pi * covariance)[1] + away.sum(axis=1))
    assert np.all(vae.score_samples(X) <= log_p + 1e-4)


def test_importance_weighted_score_is_the_tighter_bound():
    # The same weights, scored in several ways. With beta=2 the posterior is too wide, which leaves
    # room between the bound and log p(x), and weights that a few samples can estimate.
    X = factors(400, UNEQUAL_NOISE, seed=1)
    settings = {"n_components": 2, "hidden_layer_sizes": (16,), "beta": 2.0, "max_iter": 50}
    elbo, few, many, more = (
        VAETransformer(n_importance_samples=n, tol=0.0, random_state=0, **settings).fit(X).score(X)
        for n in (1, 20, 300, 3000)
    )
    assert elbo + 0.01 < few
    assert elbo + 0.03 < many
    assert many == pytest.approx(more, abs=0.005)


@pytest.mark.parametrize("n_importance_samples", [1, 7])
def test_score_is_the_likelihood_where_the_posterior_is_exact(n_importance_samples):
    # One factor w, noise v, b = 0: the posterior is N(m, s^2) with s^2 = v / (v + w'w) and
    # m = s^2 w'x / v. With the weights set to it, the score is log N(x; 0, w w' + v I).
    w, v = torch.tensor([2.0, 1.0, -1.0]), 0.25
    s2 = v / (v + float(w @ w))
    X = np.random.RandomState(0).normal(size=(60, 3))
    vae = fit_linear_vae(
        X, SHARED, n_components=1, max_iter=1, n_importance_samples=n_importance_samples
    )
    (encoder,), (decoder,) = linear_layers(vae.module_.encoder), linear_layers(vae.module_.decoder)
    with torch.no_grad():
        encoder.weight.copy_(torch.stack([s2 * w / v, torch.zeros(3)]))
        encoder.bias.copy_(torch.tensor([0.0, 0.5 * np.log(s2)]))
        decoder.weight.copy_(w[:, None])
        decoder.bias.zero_()
        vae.module_.observation.state.trained["log_variance"].fill_(np.log(v - 1e-6))
    covariance = np.outer(w, w) + v * np.eye(3)
    away = np.linalg.solve(covariance, X.T).T * X
    log_p = -0.5 * (np.linalg.slogdet(2 * np.pi * covariance)[1] + away.sum(axis=1))
    np.testing.assert_allclose(vae.score_samples(X), log_p, rtol=1e-5)


# The linear denoiser is the Wiener filter.


@pytest.mark.parametrize("level", [0.5, 1.0])
@pytest.mark.parametrize("scaling", [None, "standard"])
def test_linear_denoiser_is_wiener_shrinkage(level, scaling):
    X = factors(400, UNEQUAL_NOISE, seed=1) + 2.0
    parameters = {**LINEAR, "input_scaling": scaling, "max_iter": 400, "batch_size": 400}
    denoiser = DenoisingAETransformer(
        n_components=6, noise="gaussian", noise_level=level, **parameters
    ).fit(X)
    # What the network does to deviations, in its own units.
    unit = np.ones(6) if scaling is None else X.std(axis=0)
    mean = X.mean(axis=0)
    answer = denoiser.reconstruct(mean + np.diag(unit)) - denoiser.reconstruct(mean[None])
    covariance = np.cov((X / unit).T, bias=True)
    wiener = np.linalg.solve(covariance + level**2 * np.eye(6), covariance)
    np.testing.assert_allclose(answer / unit, wiener, atol=0.02)
    np.testing.assert_allclose(denoiser.reconstruct(mean[None]) / unit, mean[None] / unit, atol=0.1)


# L1 under a fixed orthonormal decoder is the soft threshold.


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.0])
def test_l1_codes_are_soft_thresholds(weight):
    rng = np.random.RandomState(0)
    basis = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    codes = rng.exponential(size=(400, 8)) * (rng.uniform(size=(400, 8)) < 0.4)
    X = codes @ basis.T + 0.1 * rng.normal(size=(400, 8))
    # The best codes are unique, the encoder that gives them is found from nearby: a unit that
    # starts on the wrong side of zero may stay there.
    encoder, decoder = nn.Linear(8, 8), nn.Linear(8, 8, bias=False).requires_grad_(False)
    with torch.no_grad():
        encoder.weight.copy_(torch.from_numpy(basis.T + 0.2 * rng.normal(size=(8, 8))))
        decoder.weight.copy_(torch.from_numpy(basis))
    sparse = SparseAutoencoderTransformer(
        n_components=8,
        sparsity="l1",
        sparsity_weight=weight,
        network=CustomNetwork(encoder, decoder),
        # The floor, far above the noise of X, is where the variance ends: the threshold is known.
        likelihood=Gaussian(variance="shared", variance_floor=0.1),
        batch_size=400,
        max_iter=500,
        # A network of its own has no layers to give a size or an activation.
        **{name: value for name, value in LINEAR.items() if name not in LAYERS},
    ).fit(X)
    # The loss of a row is |x - Dz|^2 / (2 v) + weight * sum(z).
    threshold = weight * noise_variance(sparse)
    soft = np.maximum(X @ basis - threshold, 0.0)
    assert threshold == pytest.approx(0.1 * weight, rel=0.05)
    np.testing.assert_allclose(sparse.transform(X), soft, atol=0.01)
    assert sparse.n_active_ == pytest.approx((soft > 0).sum(axis=1).mean(), abs=0.05)
