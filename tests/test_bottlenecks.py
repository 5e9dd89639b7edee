"""Does each bottleneck make the code, the terms and the score that its theory says?"""

import copy
import math

import pytest
import torch
from scipy import stats
from torch import nn

from skae._training.bottlenecks import (
    PlainBottleneck,
    SparseBottleneck,
    Step,
    VariationalBottleneck,
)
from skae._training.bottlenecks.points import choose_n_points, cubature_points, normal_points
from skae._training.bottlenecks.variational import bounded_posterior
from skae.priors import PRIORS, StandardNormal
from skae.schedules import Constant, LinearWarmup
from skae.sparsity import L1, SPARSITIES
from tests.helpers import PENALTIES, generator, global_generators_untouched, normal

N_ROWS, N_UNITS = 30, 4


def sparse(kind="l1", n_active=1.0, weight=None):
    """Return a bottleneck in the midst of a training of several epochs."""
    bottleneck = SparseBottleneck(N_UNITS, SPARSITIES[kind](), n_active, weight).train()
    bottleneck.on_train_begin(100)
    return bottleneck


def variational(k=3, *, beta=1.0, warmup=None, free_bits=0.0, n_importance_samples=1, seed=0):
    return VariationalBottleneck(
        k, StandardNormal(), beta, warmup or Constant(), free_bits, n_importance_samples, seed
    )


def step(bottleneck, h, row_weight=None, gains=1.0, seed=0):
    """Return the code that a step decodes, and the terms that the bottleneck adds."""
    decoded = []

    def reconstruction(code):
        decoded.append(code)
        return code.sum()

    given = Step(
        reconstruction,
        lambda code: code.sum(dim=1),
        torch.ones(len(h)),
        lambda: gains,
        row_weight,
        bottleneck.draw(len(h), generator(seed)),
    )
    bottleneck.begin_step()
    terms = bottleneck(h, given)
    bottleneck.end_step()
    (code,) = decoded
    assert torch.equal(terms.pop("reconstruction").value, code.sum())
    return code, terms


def doubled(n_rows):
    """Return weights of which some are two, with mean one, and the rows that they stand for."""
    copies = 1 + torch.arange(n_rows) % 2
    weight = copies * n_rows / copies.sum()
    return weight, torch.repeat_interleave(torch.arange(n_rows), copies)


# The code as it is.


def test_plain_code_is_the_output_of_the_encoder_and_adds_no_term():
    bottleneck, h = PlainBottleneck(3), normal(5, 3)
    code, terms = step(bottleneck, h)
    assert torch.equal(code, h)
    assert torch.equal(bottleneck.code(h), h)
    assert (terms, bottleneck.n_inputs) == ({}, 3)
    assert torch.equal(bottleneck.score(h, lambda z: z.sum(dim=1)), h.sum(dim=1))
    assert bottleneck.diagnostics(h) == {}  # there is no posterior


# Sparse codes.


@pytest.mark.parametrize("kind", SPARSITIES)
def test_code_of_training_is_that_of_transform(kind):
    bottleneck, h = sparse(kind), normal(N_ROWS, N_UNITS).float()
    step(bottleneck, h)  # running means are those of these rows
    code, _ = step(bottleneck, h)
    assert torch.equal(code, bottleneck.code(h))
    assert torch.equal(bottleneck.score(h, lambda z: z.sum(dim=1)), code.sum(dim=1))


@pytest.mark.parametrize("kind", PENALTIES)
def test_fixed_weight_stays_and_counts_in_the_objective(kind):
    bottleneck = sparse(kind, weight=0.3)
    for _ in range(5):
        _, terms = step(bottleneck, normal(N_ROWS, N_UNITS).float())
    term = terms["sparsity"]
    assert (float(term.weight), term.final_weight) == (0.3, 0.3)
    assert float(bottleneck.weight) == pytest.approx(0.3)


def test_penalty_is_that_of_the_sparsity_with_the_gains_of_the_decoder():
    gains = torch.arange(1.0, N_UNITS + 1)
    h = normal(N_ROWS, N_UNITS).float()
    _, terms = step(sparse("l1", weight=1.0), h, gains=gains)
    torch.testing.assert_close(terms["sparsity"].value, (h.relu().mean(dim=0) * gains).sum())


@pytest.mark.parametrize("kind", [name for name in SPARSITIES if name not in PENALTIES])
def test_hard_rule_has_no_penalty(kind):
    _, terms = step(sparse(kind), normal(N_ROWS, N_UNITS).float())
    assert "sparsity" not in terms


@pytest.mark.parametrize("kind", PENALTIES)
@pytest.mark.parametrize(("n_active", "rises"), [(0.5, True), (3.9, False)])
def test_steered_weight_rises_while_too_many_units_are_active_and_falls_after(
    kind, n_active, rises
):
    bottleneck, h = sparse(kind, n_active), normal(N_ROWS, N_UNITS).float()  # about two active
    values = []
    for _ in range(3):
        _, terms = step(bottleneck, h)
        values.append(float(terms["sparsity"].weight))
    assert values == sorted(values, reverse=not rises)
    assert values[0] != values[-1]
    assert terms["sparsity"].final_weight == 0.0


def test_steered_weight_rests_at_the_target_and_outside_training():
    h = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(1, 2)  # two units on every row
    bottleneck = sparse(n_active=2.0)
    before = bottleneck.weight.clone()
    step(bottleneck, h)
    assert torch.equal(bottleneck.weight, before)
    away = sparse(n_active=0.5).eval()
    step(away, h)
    assert torch.equal(away.weight, before)


def test_steering_is_faster_in_a_short_training_within_bounds():
    bottleneck, gains = sparse(), []
    for n_steps in (1, 100, 1000, 5000, 10**6):
        bottleneck.on_train_begin(n_steps)
        gains.append(bottleneck.gain)
    assert gains == sorted(gains, reverse=True)
    assert gains[0] == gains[1] > gains[2] > gains[3] > gains[4] > 0


def test_rates_of_activity_are_means_over_recent_batches_of_training():
    bottleneck = sparse("kl", n_active=2.0, weight=1.0)
    often = torch.tensor([[1.0, 1.0, -1.0, -1.0]]).repeat(8, 1)
    values = [float(step(bottleneck, often)[1]["sparsity"].value) for _ in range(200)]
    # From the target, half of the rows, the rates go to where they are: all rows or none.
    torch.testing.assert_close(bottleneck.recent_rate, often[0].relu(), atol=1e-3, rtol=0)
    assert values == sorted(values)
    assert values[-1] > 100 * values[0]
    # One other batch moves them a little, and nothing moves them outside training.
    step(bottleneck, -often)
    moved = bottleneck.recent_rate.clone()
    assert ((moved - often[0].relu()).abs() < 0.1).all()
    assert not torch.allclose(moved, often[0].relu(), atol=1e-2)
    step(bottleneck.eval(), often)
    assert torch.equal(bottleneck.recent_rate, moved)


def test_units_that_an_epoch_does_not_use_are_dead_and_those_it_uses_again_are_not():
    bottleneck = sparse()
    h = torch.tensor([[1.0, -1.0, 1.0, -1.0]]).repeat(5, 1)
    bottleneck.on_epoch_begin(0.0)
    assert not bottleneck.dead.any()  # nothing is known before the first epoch
    step(bottleneck, h)
    step(bottleneck, h * torch.tensor([1.0, 1.0, -1.0, 1.0]))
    bottleneck.on_epoch_begin(0.1)
    assert bottleneck.dead.tolist() == [0, 1, 0, 1]
    step(bottleneck, -h)
    bottleneck.on_epoch_begin(0.2)
    assert bottleneck.dead.tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("kind", SPARSITIES)
def test_dead_units_are_pulled_up_and_no_other(kind):
    bottleneck = sparse(kind, n_active=2.0)
    h = torch.tensor([[3.0, 2.0, -1.0, -2.0]]).repeat(5, 1).requires_grad_()
    bottleneck.on_epoch_begin(0.0)
    step(bottleneck, h)
    bottleneck.on_epoch_begin(0.1)
    _, terms = step(bottleneck, h)
    terms["revival"].value.backward()
    assert (h.grad[:, 2:] < 0).all()
    assert not h.grad[:, 0].any()
    assert terms["revival"].weight > 0
    assert terms["revival"].final_weight == 0.0


def test_dead_units_are_pulled_up_the_harder_the_fewer_others_there_are():
    weights = []
    for signs in ([1, 1, 1, 1], [1, 1, 1, -1], [1, -1, -1, -1], [-1, -1, -1, -1]):
        bottleneck, h = sparse(n_active=2.0), torch.tensor([signs]).float().repeat(5, 1)
        bottleneck.on_epoch_begin(0.0)
        step(bottleneck, h)
        bottleneck.on_epoch_begin(0.1)
        weights.append(float(step(bottleneck, h)[1]["revival"].weight))
    assert weights == sorted(weights)
    assert weights[0] == pytest.approx(bottleneck.REVIVAL_WEIGHT)
    assert weights[-1] == 1.0


def test_dead_units_are_neither_counted_nor_revived_outside_training():
    bottleneck = sparse()
    bottleneck.on_epoch_begin(0.0)
    bottleneck.eval()
    _, terms = step(bottleneck, torch.ones(3, N_UNITS))
    bottleneck.on_epoch_begin(0.5)
    assert "revival" not in terms
    assert not bottleneck.uses.any()
    assert not bottleneck.dead.any()


@pytest.mark.parametrize("kind", SPARSITIES)
def test_weight_of_two_is_the_row_twice_in_every_sparse_term(kind):
    weight, rows = doubled(10)
    h = normal(10, N_UNITS, seed=3).float()
    h[:, 0] = -h[:, 0].abs()  # a dead unit
    found = []
    for given, row_weight in ((h, weight), (h[rows], None)):
        bottleneck = sparse(kind)
        for progress in (0.0, 0.1):
            bottleneck.on_epoch_begin(progress)
            _, terms = step(bottleneck, given, row_weight)
        found.append({name: (t.value, torch.as_tensor(t.weight)) for name, t in terms.items()})
    torch.testing.assert_close(*found)


# A posterior.


def test_encoder_gives_means_and_log_standard_deviations():
    bottleneck, h = variational(k=3), normal(6, 6)
    assert bottleneck.n_inputs == 6
    assert torch.equal(bottleneck.code(h), h[:, :3])
    expected = StandardNormal().divergence(h[:, :3], h[:, 3:], h[:, :3])
    torch.testing.assert_close(bottleneck.diagnostics(h)["kl"], expected)


def test_every_posterior_starts_as_wide_as_the_prior():
    bottleneck, encoder = variational(k=3), nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 6))
    mean = encoder(torch.ones(2, 5))[:, :3].detach()
    bottleneck.init_encoder(encoder)
    h = encoder(torch.ones(2, 5)).detach()
    assert not h[:, 3:].any()
    assert torch.equal(h[:, :3], mean)
    # A gradient moves the widths from there.
    step(bottleneck, encoder(torch.ones(2, 5)))[0].square().sum().backward()
    assert encoder[1].weight.grad[3:].any()


def test_an_encoder_without_a_fitting_last_layer_starts_as_it_is():
    for encoder in (nn.Identity(), nn.Linear(5, 2)):
        before = copy.deepcopy(encoder.state_dict())
        variational(k=3).init_encoder(encoder)
        for name, value in encoder.state_dict().items():
            assert torch.equal(value, before[name])
    without_bias = nn.Linear(5, 6, bias=False)
    variational(k=3).init_encoder(without_bias)
    assert not without_bias.weight[3:].any()


def test_training_draws_codes_from_the_posterior():
    mean, std = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 2.0])
    h = torch.cat([mean, std.log()]).repeat(20_000, 1)
    with global_generators_untouched():
        first, again, other = (step(variational(k=2), h, seed=s)[0] for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.testing.assert_close(first.mean(dim=0), mean, atol=0.06, rtol=0)
    torch.testing.assert_close(first.std(dim=0), std, atol=0.0, rtol=0.03)


def test_gradient_passes_through_the_draw():
    h = normal(4, 6).requires_grad_()
    step(variational(k=3), h)[0].sum().backward()
    torch.testing.assert_close(h.grad[:, :3], torch.ones(4, 3).double())
    assert h.grad[:, 3:].all()


def test_kl_term_is_the_mean_over_rows_of_the_sum_over_latents_weighted_by_beta():
    bottleneck, h = variational(beta=2.5), normal(8, 6)
    term = step(bottleneck, h)[1]["kl"]
    torch.testing.assert_close(term.value, bottleneck.diagnostics(h)["kl"].sum(dim=1).mean())
    assert (term.weight, term.final_weight) == (2.5, 2.5)


def test_warm_up_weighs_the_kl_of_training_steps_alone():
    bottleneck, h = variational(beta=2.0, warmup=LinearWarmup(0.5)).train(), normal(8, 6)
    for progress, weight in ((0.0, 0.0), (0.25, 1.0), (0.5, 2.0), (1.0, 2.0)):
        bottleneck.on_epoch_begin(progress)
        term = step(bottleneck, h)[1]["kl"]
        assert (term.weight, term.final_weight) == (weight, 2.0)
    bottleneck.on_epoch_begin(0.0)
    assert step(bottleneck.eval(), h)[1]["kl"].weight == 2.0


def test_free_bits_are_the_least_that_a_latent_costs():
    h = torch.zeros(5, 4)
    h[:, 0] = 3.0  # KL of 4.5 for the first latent and 0 for the second
    assert float(step(variational(k=2), h)[1]["kl"].value) == pytest.approx(4.5)
    h.requires_grad_()
    cost = step(variational(k=2, free_bits=0.25), h)[1]["kl"].value
    assert cost.item() == pytest.approx(4.75)
    cost.backward()
    assert h.grad[:, 0].all()
    assert not h.grad[:, 1].any()


def test_weight_of_two_is_the_row_twice_in_the_kl():
    weight, rows = doubled(10)
    h = 0.3 * normal(10, 6).float()
    for free_bits in (0.0, 0.05):
        bottleneck = variational(free_bits=free_bits)
        weighted = step(bottleneck, h, weight)[1]["kl"].value
        torch.testing.assert_close(weighted, step(bottleneck, h[rows])[1]["kl"].value)


class LinearModel:
    """Rows Wz + b + noise, with orthogonal columns of W: the posterior has independent latents."""

    def __init__(self, k=3, n_features=7, variance=0.3):
        self.W = torch.linalg.qr(normal(n_features, k))[0] * torch.linspace(0.5, 2.0, k)
        self.b, self.variance = normal(n_features, seed=1), variance
        self.x = normal(20, n_features, seed=2)

    def posterior(self):
        """Return the exact one, as the output of an encoder."""
        precision = 1 + self.W.square().sum(dim=0) / self.variance
        mean = (self.x - self.b) @ self.W / self.variance / precision
        return torch.cat([mean, (-0.5 * precision.log()).expand_as(mean)], dim=1)

    def log_likelihood(self, code):
        density = torch.distributions.Normal(code @ self.W.T + self.b, self.variance**0.5)
        return density.log_prob(self.x).sum(dim=1)

    def log_marginal(self):
        covariance = self.W @ self.W.T + self.variance * torch.eye(len(self.b))
        density = stats.multivariate_normal(self.b.numpy(), covariance.numpy())
        return torch.from_numpy(density.logpdf(self.x.numpy()))

    def bound(self, h):
        """Return the closed form of the evidence lower bound."""
        mean, log_std = h.chunk(2, dim=1)
        spread = ((2 * log_std).exp() * self.W.square().sum(dim=0)).sum(dim=1)
        kl = StandardNormal().divergence(mean, log_std, mean).sum(dim=1)
        return self.log_likelihood(mean) - 0.5 * spread / self.variance - kl


@pytest.mark.parametrize("n_importance_samples", [1, 5])
def test_score_at_the_exact_posterior_is_the_log_marginal(n_importance_samples):
    model = LinearModel()
    bottleneck = variational(n_importance_samples=n_importance_samples)
    score = bottleneck.score(model.posterior(), model.log_likelihood)
    torch.testing.assert_close(score, model.log_marginal(), rtol=1e-5, atol=1e-4)


def test_score_is_the_bound_exactly_for_a_linear_decoder():
    model = LinearModel()
    h = model.posterior() + 0.3 * normal(20, 6, seed=5)
    score = variational().score(h, model.log_likelihood)
    torch.testing.assert_close(score, model.bound(h), rtol=1e-5, atol=1e-4)
    assert (score < model.log_marginal()).all()


def test_importance_samples_tighten_the_bound_and_never_pass_the_marginal_on_average():
    model = LinearModel()
    h = model.posterior() + 0.3 * normal(20, 6, seed=5)
    few, many = (
        torch.stack(
            [
                variational(n_importance_samples=n, seed=seed).score(h, model.log_likelihood)
                for seed in range(20)
            ]
        ).mean()
        for n in (5, 200)
    )
    assert model.bound(h).mean() < few < many < model.log_marginal().mean() + 0.05
    assert float(many) == pytest.approx(float(model.log_marginal().mean()), abs=0.2)


def test_score_draws_nothing():
    model, bottleneck = LinearModel(), variational(n_importance_samples=3)
    with global_generators_untouched():
        first = bottleneck.score(model.posterior(), model.log_likelihood)
        again = bottleneck.score(model.posterior(), model.log_likelihood)
    assert torch.equal(first, again)


@pytest.mark.parametrize("name", PRIORS)
def test_prior_laws_score_uses_the_prior(name):
    prior, h = PRIORS[name](), normal(5, 4)
    bottleneck = VariationalBottleneck(2, prior, 1.0, Constant(), 0.0, 1, 0)
    score = bottleneck.score(h, lambda code: torch.zeros(len(code), dtype=torch.float64))
    torch.testing.assert_close(score, -bottleneck.diagnostics(h)["kl"].sum(dim=1))
    mean, log_std = bounded_posterior(h)
    draws = mean + log_std.exp() * normal(20_000, 1, 2, seed=4)
    q = torch.distributions.Normal(mean, log_std.exp())
    state = bottleneck.state.tensors()
    ratios = prior.log_prob(draws.flatten(0, 1), **state).view(20_000, 5) - q.log_prob(draws).sum(
        dim=2
    )
    assert ((ratios.mean(dim=0) - score).abs() < 4 * ratios.std(dim=0) / 20_000**0.5).all()


# The points of the score.


@pytest.mark.parametrize("k", [1, 2, 5, 16])
def test_cubature_is_exact_for_polynomials_of_degree_three(k):
    points = cubature_points(k, most=32, seed=0).double()
    assert len(points) == 32 // (2 * k) * 2 * k  # whole spheres
    torch.testing.assert_close(
        points.T @ points / len(points), torch.eye(k).double(), atol=1e-6, rtol=0
    )
    assert points.mean(dim=0).abs().max() < 1e-6
    cubes = torch.einsum("ni,nj,nk->ijk", points, points, points)
    assert cubes.abs().max() < 1e-4


def test_cubature_of_few_dimensions_sees_the_tails():
    # The fourth moment of a normal variable is 3, that of points on one sphere 1.
    points = cubature_points(1, most=32, seed=0).double()
    assert 2.4 < points.pow(4).mean() < 3.0


@pytest.mark.parametrize(("k", "n_points"), [(16, 32), (17, 32), (100, 32)])
def testcubature_points_are_orthogonal_pairs_on_a_sphere(k, n_points):
    points = cubature_points(k, most=32, seed=0).double()
    assert len(points) == n_points
    half = points[: n_points // 2]
    torch.testing.assert_close(half, -points[n_points // 2 :])
    expected = k * torch.eye(len(half)).double()
    torch.testing.assert_close(half @ half.T, expected, atol=1e-4, rtol=0)


def test_cubature_of_a_part_of_the_directions_is_unbiased():
    k, n_seeds = 20, 400
    moments = torch.stack(
        [(p.T @ p / len(p)) for p in (cubature_points(k, 8, seed) for seed in range(n_seeds))]
    )
    error = moments.std(dim=0) / math.sqrt(n_seeds)
    assert ((moments.mean(dim=0) - torch.eye(k)).abs() < 5 * error).all()


@pytest.mark.parametrize("points", [normal_points, lambda n, k, s: cubature_points(k, n, s)])
def test_points_are_those_of_the_seed(points):
    with global_generators_untouched():
        first, again, other = (points(8, 5, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_importance_points_are_standard_normal():
    points = normal_points(20_000, 2, seed=0)
    assert points.mean(dim=0).abs().max() < 4 / 20_000**0.5
    torch.testing.assert_close(points.std(dim=0), torch.ones(2), rtol=0.02, atol=0)


@pytest.mark.parametrize("kind", SPARSITIES)
def test_steps_decode_without_a_share_of_the_units_and_scale_up_the_others(kind):
    h = normal(2000, N_UNITS).float()
    whole, half = (
        SparseBottleneck(N_UNITS, SPARSITIES[kind](), 2.0, None, 0, p) for p in (0, 0.75)
    )
    code, _ = step(whole.train(), h)
    decoded, _ = step(half.train(), h, seed=5)
    left = decoded != 0
    torch.testing.assert_close(decoded[left], 4 * code[left])
    assert left.sum() / (code > 0).sum() == pytest.approx(0.25, abs=0.03)
    again, _ = step(half, h, seed=1)
    assert not torch.equal(again != 0, left)


@pytest.mark.parametrize("kind", SPARSITIES)
def test_what_is_dropped_counts_as_active_and_nothing_is_dropped_outside_the_training(kind):
    h = normal(200, N_UNITS).float()
    pair = [SparseBottleneck(N_UNITS, SPARSITIES[kind](), 2.0, None, 0, p) for p in (0, 0.5)]
    for one in pair:
        step(one.train(), h)
    whole, half = (one.state_dict() for one in pair)
    assert whole.keys() == half.keys()
    assert all(torch.equal(whole[name], half[name]) for name in whole)
    decoded, _ = step(pair[1].eval(), h)
    assert torch.equal(decoded, pair[1].code(h))


def test_bottlenecks_of_a_sparse_code_can_be_saved_and_loaded():
    bottleneck, other = sparse(), SparseBottleneck(N_UNITS, L1(), 1.0, None).train()
    bottleneck.on_epoch_begin(0.0)
    step(bottleneck, normal(N_ROWS, N_UNITS).float())
    other.load_state_dict(bottleneck.state_dict())
    assert torch.equal(other.weight, bottleneck.weight)
    assert torch.equal(other.uses, bottleneck.uses)


def test_wide_tables_are_scored_at_fewer_points():
    found = [choose_n_points(n) for n in (1, 32_768, 65_536, 100_000, 10**7)]
    assert found == [32, 32, 16, 10, 4]
    # Fewer of a whole: opposite points still, so that the rule is exact for what is linear.
    few = VariationalBottleneck(16, StandardNormal(), 1.0, Constant(), 0.0, 1, 0, most_points=4)
    assert few.points.shape == (4, 16)
    torch.testing.assert_close(few.points.sum(dim=0), torch.zeros(16))
