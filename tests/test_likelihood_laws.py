"""Is every likelihood a distribution? Each entry of LIKELIHOODS is held to the same laws."""

import itertools

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy import stats
from scipy.special import expit, gammaln

from skae._scaling import SCALINGS
from skae._training.auto import default_alpha, default_scaling
from skae._validation import within_support
from skae.exceptions import SupportError
from skae.likelihoods import (
    LIKELIHOODS,
    Bernoulli,
    Gaussian,
    Likelihood,
    Poisson,
    ZeroInflatedLogNormal,
)
from tests.helpers import (
    LIKELIHOOD_VARIANTS,
    cells_at_once,
    generator,
    global_generators_untouched,
    normal,
)

N_FEATURES, N_DRAWS = 3, 40_000

# Total of a row where it is given, small enough for all rows of counts to be enumerated.
TOTAL = 6.0


def zero_and_logarithmic_grid():
    """Return an atom at zero, and values above it that are even in their logarithm."""
    log_x, step = np.linspace(-40.0, 40.0, 8_001, retstep=True)
    return np.append(0.0, np.exp(log_x)), np.append(1.0, step * np.exp(log_x))


# Points of the support for a likelihood that the two rules of `support_grid` do not serve:
# class -> (values, width of the cell of each).
GRIDS: dict = {ZeroInflatedLogNormal: zero_and_logarithmic_grid()}

# Values outside the support, besides those that no likelihood accepts.
NEVER_INSIDE = [np.nan, np.inf, -np.inf]
NO_COUNTS = [-1.0, -1e-9, 0.5, 1.0 + 1e-9, 1e6 + 0.5]
OUTSIDE = {
    "bernoulli": [-0.5, -1e-9, 1.0 + 1e-9, 2.0],
    "poisson": NO_COUNTS,
    "negative_binomial": NO_COUNTS,
    "zero_inflated_negative_binomial": NO_COUNTS,
    "multinomial": NO_COUNTS,
    "zero_inflated_lognormal": [-1.0, -1e-9],
}

laws = pytest.mark.parametrize("likelihood", LIKELIHOOD_VARIANTS, ids=str)


def support_grid(likelihood):
    """Return values that cover the support, and what each stands for in a sum or an integral."""
    if type(likelihood) in GRIDS:
        return GRIDS[type(likelihood)]
    if likelihood.sample_dtype is None:
        values, width = np.linspace(-50.0, 50.0, 10_001), 0.01
    else:
        values, width = np.arange(20_000.0), 1.0
    return values[likelihood.inside(values)], width


def rows_of_counts(total):
    """Return every row of counts with this total, of shape (n_rows, N_FEATURES)."""
    rows = itertools.product(np.arange(total + 1), repeat=N_FEATURES)
    return np.array([row for row in rows if sum(row) == total])


def n_orders(rows):
    """Return in how many orders the items of each row can come."""
    return np.exp(gammaln(rows.sum(axis=1) + 1) - gammaln(rows + 1).sum(axis=1))


def column_moments():
    """Return means inside every support, and variances, as training columns could have them."""
    return torch.tensor([0.2, 0.5, 0.7]).double(), torch.tensor([0.3, 1.0, 2.0]).double()


def some_free(likelihood):
    """Return free parameters near their start."""
    start = likelihood.parameters_at_start(*column_moments())
    return {name: value + 0.3 * normal(*value.shape) for name, value in start.items()}


def totals(likelihood, *total):
    """Return the totals of rows as a keyword, where the likelihood takes them."""
    return (
        {"total": torch.tensor(total).double()[:, None]} if likelihood.conditional_on_total else {}
    )


def some_parameters(likelihood, n_rows=1):
    """Return all that is given besides raw output: free parameters, and totals of rows."""
    return some_free(likelihood) | totals(likelihood, *np.full(n_rows, TOTAL))


def of_rows(parameters, rows):
    """Return the parameters for some of the rows."""
    return {key: p[rows] if key == "total" else p for key, p in parameters.items()}


def some_raw(likelihood, n_rows=1, seed=1):
    return normal(n_rows, likelihood.n_outputs * N_FEATURES, seed=seed)


def on_grid(likelihood, raw, parameters):
    """Return grid values, their probabilities and their log-probabilities, a column a feature.

    Where columns are coupled, the grid is that of all rows, and a probability is that of its row.
    """
    if likelihood.structure == "softmax":
        return on_all_rows(likelihood, raw, parameters)
    values, width = support_grid(likelihood)
    x = torch.from_numpy(values)[:, None].expand(-1, N_FEATURES)
    log_prob = likelihood.log_prob(x, raw.expand(len(x), -1), **parameters)
    return x, torch.as_tensor(width).reshape(-1, 1) * log_prob.exp(), log_prob


def on_all_rows(likelihood, raw, parameters):
    rows = rows_of_counts(int(TOTAL))
    log_prob = likelihood.log_prob(torch.from_numpy(rows), raw.expand(len(rows), -1), **parameters)
    # Without the coefficient it is the probability of one order of the items.
    counted = 1.0 if likelihood.coefficient else torch.from_numpy(n_orders(rows))
    probability = counted * log_prob.sum(dim=1).exp()
    return torch.from_numpy(rows), probability[:, None].expand(-1, N_FEATURES), log_prob


def draws_of(likelihood, raw, parameters, seed=2):
    return likelihood.sample(raw.expand(N_DRAWS, -1), generator(seed), **parameters)


@laws
def test_probabilities_sum_to_one(likelihood):
    _, probability, _ = on_grid(likelihood, some_raw(likelihood), some_parameters(likelihood))
    np.testing.assert_allclose(probability.sum(dim=0), np.ones(N_FEATURES), rtol=1e-6)


@laws
def test_mean_is_the_mean_of_the_distribution(likelihood):
    raw, parameters = some_raw(likelihood), some_parameters(likelihood)
    x, probability, _ = on_grid(likelihood, raw, parameters)
    np.testing.assert_allclose(
        likelihood.mean(raw, **parameters)[0], (x * probability).sum(dim=0), rtol=1e-6, atol=1e-9
    )


@laws
def test_draws_have_the_moments_and_the_entropy_of_the_distribution(likelihood):
    raw, parameters = some_raw(likelihood), some_parameters(likelihood)
    x, probability, log_prob = on_grid(likelihood, raw, parameters)
    draws = draws_of(likelihood, raw, parameters)
    of_draws = likelihood.log_prob(draws, raw.expand(N_DRAWS, -1), **parameters)
    # The logarithm of a probability of zero stands nowhere in the mean.
    log_prob = torch.where(probability > 0, log_prob, torch.zeros_like(log_prob))
    for found, exact in ((draws, x), (draws**2, x**2), (of_draws, log_prob)):
        expected = (exact * probability).sum(dim=0)
        standard_error = found.std(dim=0) / N_DRAWS**0.5
        assert ((found.mean(dim=0) - expected).abs() < 4.5 * standard_error + 1e-9).all()


@laws
def test_draws_lie_in_the_support_and_keep_their_value_in_their_type(likelihood):
    raw, parameters = some_raw(likelihood, 500), some_parameters(likelihood)
    draws = likelihood.sample(raw, generator(), **parameters).numpy()
    assert draws.shape == (500, N_FEATURES)
    assert likelihood.inside(draws).all()
    np.testing.assert_array_equal(draws.astype(likelihood.sample_dtype or np.float64), draws)


@laws
def test_draws_come_from_the_generator_alone(likelihood):
    raw, parameters = some_raw(likelihood, 50), some_parameters(likelihood)
    with global_generators_untouched():
        first, again, other = (
            likelihood.sample(raw, generator(seed), **parameters) for seed in (3, 3, 4)
        )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@laws
def test_raw_from_mean_is_the_inverse_of_the_mean(likelihood):
    mean, parameters = column_moments()[0], some_parameters(likelihood)
    raw = likelihood.raw_from_mean(mean)
    assert raw.shape == (likelihood.n_outputs * N_FEATURES,)
    found = likelihood.mean(raw[None], **parameters | totals(likelihood, float(mean.sum())))
    np.testing.assert_allclose(found[0], mean, rtol=1e-6)


@laws
def test_raw_from_mean_is_finite_for_a_column_of_zeros(likelihood):
    for mean in (torch.zeros(N_FEATURES), torch.tensor([0.0, 0.5, 0.7])):
        assert torch.isfinite(likelihood.raw_from_mean(mean)).all()


@laws
def test_gradient_of_log_prob_agrees_with_differences(likelihood):
    raw, parameters = some_raw(likelihood, 4), some_free(likelihood)
    given = totals(likelihood, 0.0, 1.0, TOTAL, 50.0)
    x = likelihood.sample(some_raw(likelihood, 4, seed=5), generator(), **parameters, **given)
    inputs = [raw, *parameters.values()]

    def log_prob(raw, *values):
        free = dict(zip(parameters, values, strict=True))
        return likelihood.log_prob(x, raw, **free, **given)

    assert torch.autograd.gradcheck(log_prob, [value.requires_grad_() for value in inputs])


@laws
def test_log_prob_has_an_entry_for_each_cell_in_the_precision_of_the_network(likelihood):
    raw = some_raw(likelihood, 4).float()
    parameters = {name: value.float() for name, value in some_parameters(likelihood, 4).items()}
    x = likelihood.sample(raw, generator(), **parameters)
    for found in (
        x,
        likelihood.mean(raw, **parameters),
        likelihood.log_prob(x, raw, **parameters),
        likelihood.log_prob_entry(x, raw, **parameters),
        likelihood.log_prob_zero(raw, **parameters).expand(4, -1),
    ):
        assert (found.shape, found.dtype) == ((4, N_FEATURES), torch.float32)


@laws
def test_log_prob_of_a_row_does_not_depend_on_the_rows_beside_it(likelihood):
    raw, parameters = some_raw(likelihood, 5), some_free(likelihood)
    parameters |= totals(likelihood, 0.0, 1.0, 2.0, TOTAL, 50.0)
    x = likelihood.sample(raw, generator(), **parameters)
    together = likelihood.log_prob(x, raw, **parameters)
    alone = [likelihood.log_prob(x[[i]], raw[[i]], **of_rows(parameters, [i])) for i in range(5)]
    torch.testing.assert_close(together, torch.cat(alone))


@laws
@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_a_row_of_zeros_has_a_finite_log_prob_and_gradient(likelihood, precision):
    given = {k: v.to(precision) for k, v in totals(likelihood, 0.0, 0.0).items()}
    free = {k: v.to(precision).requires_grad_() for k, v in some_free(likelihood).items()}
    raw = some_raw(likelihood, 2).to(precision).requires_grad_()
    x = torch.zeros(2, N_FEATURES, dtype=precision)
    log_prob = likelihood.log_prob(x, raw, **free, **given)
    log_prob.sum().backward()
    for found in (log_prob, raw.grad, *(value.grad for value in free.values())):
        assert torch.isfinite(found).all()
    if given:  # nothing else can come of nothing
        torch.testing.assert_close(log_prob, torch.zeros_like(log_prob))
        assert not likelihood.mean(raw, **free, **given).any()
        assert not likelihood.sample(raw.detach(), generator(), **free, **given).any()


# Sparse rows: the sum over all columns, as if all were zero, plus what the entries add.


def some_rows(likelihood, n_rows=6):
    """Return rows with zeros and entries, raw output and parameters."""
    raw, parameters = some_raw(likelihood, n_rows), some_free(likelihood)
    raw[:, :N_FEATURES] -= 1.0  # more zeros
    parameters |= totals(likelihood, *np.arange(0.0, 2 * n_rows, 2))
    x = likelihood.sample(some_raw(likelihood, n_rows, seed=7), generator(3), **parameters)
    x[1::2, 0] = 0.0
    if likelihood.conditional_on_total:
        parameters["total"] = x.sum(dim=1, keepdim=True)
    return x, raw, parameters


def at_entries(x, raw, parameters):
    """Return the entries that are not zero, in a list: their rows, and x, raw and parameters."""
    rows, columns = x.nonzero(as_tuple=True)
    outputs = raw.reshape(len(x), -1, N_FEATURES)[rows, :, columns]  # (n_entries, n_outputs)
    listed = {
        key: value[rows].T if key == "total" else value.expand(N_FEATURES)[columns]
        for key, value in parameters.items()
    }
    return rows, x[rows, columns][None], outputs.T.reshape(1, -1), listed


@laws
def test_log_prob_zero_is_the_log_prob_of_a_zero(likelihood):
    raw, parameters = some_raw(likelihood, 5), some_free(likelihood)
    parameters |= totals(likelihood, 0.0, 1.0, 2.0, TOTAL, 50.0)
    if likelihood.structure == "softmax":  # a zero alone has no probability
        return
    expected = likelihood.log_prob(torch.zeros(5, N_FEATURES).double(), raw, **parameters)
    found = likelihood.log_prob_zero(raw, **parameters)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@laws
def test_entries_that_are_not_zero_and_a_row_of_zeros_give_the_row(likelihood):
    x, raw, parameters = some_rows(likelihood)
    assert 0 < (x == 0).sum() < x.numel()
    rows, *entries, listed = at_entries(x, raw, parameters)
    of_entries = likelihood.log_prob_entry(*entries, **listed)
    assert of_entries.shape == (1, len(rows))
    if likelihood.structure == "softmax":
        of_zeros = -parameters["total"] * raw.logsumexp(dim=1, keepdim=True)
    else:
        of_zeros = likelihood.log_prob_zero(raw, **parameters)
    found = of_zeros.sum(dim=1).index_add(0, rows, of_entries[0])
    expected = likelihood.log_prob(x, raw, **parameters).sum(dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@laws
def test_entry_of_a_zero_adds_nothing(likelihood):
    raw, parameters = some_raw(likelihood, 4), some_parameters(likelihood, 4)
    zeros = torch.zeros(4, N_FEATURES).double()
    found = likelihood.log_prob_entry(zeros, raw, **parameters)
    torch.testing.assert_close(found, zeros, rtol=0, atol=1e-14)


@laws
def test_closed_forms_of_zeros_and_entries_are_what_the_base_would_give(likelihood):
    if likelihood.structure == "softmax":
        return
    x, raw, parameters = some_rows(likelihood)
    zero = Likelihood.log_prob_zero(likelihood, raw, **parameters)
    torch.testing.assert_close(likelihood.log_prob_zero(raw, **parameters), zero)
    entry = Likelihood.log_prob_entry(likelihood, x, raw, **parameters)
    torch.testing.assert_close(likelihood.log_prob_entry(x, raw, **parameters), entry)


@laws
def test_zeros_of_a_list_of_entries_are_those_of_their_cells(likelihood):
    if likelihood.structure == "softmax":
        return
    x, raw, parameters = some_rows(likelihood)
    rows, _, listed_raw, listed = at_entries(x, raw, parameters)
    columns = x.nonzero(as_tuple=True)[1]
    expected = likelihood.log_prob_zero(raw, **parameters)[rows, columns]
    found = likelihood.log_prob_zero(listed_raw, **listed)
    torch.testing.assert_close(found[0], expected, rtol=1e-12, atol=1e-12)


@laws
def test_free_parameters_are_finite_where_a_column_is_constant(likelihood):
    mean, variance = column_moments()
    parameters = likelihood.parameters_at_start(mean, 0 * variance)
    for value in parameters.values():
        assert torch.isfinite(value).all()
        assert value.shape[-1] in (1, N_FEATURES)


@laws
def test_scaled_gradient_counts_equal_errors_alike(likelihood):
    parameters = some_parameters(likelihood)
    scale = likelihood.variance_weight(**parameters)
    if scale is None:  # errors count as the likelihood says
        return
    raw = some_raw(likelihood).requires_grad_()
    likelihood.log_prob(raw.detach() + 0.5, raw, **parameters).sum().backward()
    scaled = raw.grad * scale
    torch.testing.assert_close(scaled, scaled[:, :1].expand_as(scaled))
    assert (scaled > 0).all()


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_values_outside_the_support_are_refused(name):
    likelihood = LIKELIHOODS[name]()
    values = np.array(NEVER_INSIDE + OUTSIDE.get(name, []))
    assert not likelihood.inside(values).any()


@laws
def test_auto_scaling_names_a_scaling(likelihood):
    assert default_scaling(likelihood) in (*SCALINGS, None)


def test_auto_stands_for_the_same_in_likelihoods_of_one_kind():
    class Laplace(Likelihood):
        raw_from_mean = log_prob = mean = sample = None
        location_scale = True

    class Borel(Laplace):
        location_scale, conditional_on_total, has_zero_mass = False, True, True

    for own, kind in ((Laplace(), Gaussian()), (Borel(), Poisson())):
        assert default_scaling(own) == default_scaling(kind)
        assert default_alpha(own) == default_alpha(kind)
    assert default_alpha(Poisson()) == 0.3
    assert default_alpha(Gaussian()) == default_alpha(ZeroInflatedLogNormal()) == 1e-4


def test_auto_scaling_is_for_real_numbers_and_not_for_binaries():
    assert default_scaling(Gaussian()) == "fourth_moment"
    assert default_scaling(Bernoulli()) is None


# The support of X.


@laws
@pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array, sp.csr_matrix])
def test_error_of_the_support_names_likelihood_column_and_value(likelihood, as_format):
    X = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, np.inf]])
    kind = type(likelihood).__name__
    # Few cells a block, so that the value stands in a later block than the first.
    with pytest.raises(SupportError) as error, cells_at_once(6):
        within_support(as_format(X), likelihood, ["alpha", "beta", "gamma"])
    for words in (f"likelihood {kind} needs {likelihood.support}", "column 2 ('gamma')", "inf"):
        assert words in str(error.value)


@pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array])
def test_first_value_outside_the_support_is_named(as_format):
    X = as_format(np.array([[0.0, 0.5, 1.0], [0.0, 7.0, -3.0]]))
    with pytest.raises(SupportError, match=r"column 1 of X holds 7\.0"):
        within_support(X, Bernoulli())


@pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array])
def test_rows_within_the_support_pass(as_format):
    X = as_format(np.array([[0.0, 1.0], [0.0, 0.0], [0.25, 1.0]]))
    assert within_support(X, Bernoulli()) is X


# Closed forms.


def test_gaussian_is_the_normal_density_of_scipy():
    x, raw, log_variance = normal(6, 3), normal(6, 3, seed=1), normal(3, seed=2)
    found = Gaussian(variance_floor=0.1).log_prob(x, raw, log_variance=log_variance)
    scale = (0.1 + log_variance.exp()).sqrt()
    expected = stats.norm.logpdf(x.numpy(), raw.numpy(), scale.numpy())
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("floor", [1e-4, 0.25])
def test_variance_floor_bounds_the_density_of_a_constant_column(floor):
    x = torch.zeros(1, 1, dtype=torch.float64)
    found = Gaussian(variance_floor=floor).log_prob(x, x, log_variance=torch.tensor([-1e3]))
    assert float(found) == pytest.approx(-0.5 * np.log(2 * np.pi * floor))


def test_noise_starts_near_the_variance_of_each_column():
    mean, variance = column_moments()
    likelihood = Gaussian(variance_floor=1e-3)
    found = likelihood.noise_variance(**likelihood.parameters_at_start(mean, variance))
    torch.testing.assert_close(found, variance, rtol=0.01, atol=0)


def test_shared_variance_is_one_parameter_for_all_columns():
    mean, variance = column_moments()
    shared = Gaussian(variance="shared").parameters_at_start(mean, variance)["log_variance"]
    each = Gaussian().parameters_at_start(mean, variance)["log_variance"]
    assert (shared.shape, each.shape) == ((1,), (3,))
    noise = Gaussian(variance="shared").noise_variance(shared)
    assert float(noise) == pytest.approx(float(variance.mean()))


def test_errors_count_by_the_variance_of_their_column_unless_it_is_shared():
    log_variance = torch.log(torch.tensor([1.0, 3.0]))
    scale = Gaussian(variance_floor=1e-9).variance_weight(log_variance=log_variance)
    torch.testing.assert_close(scale, torch.tensor([0.5, 1.5]))
    assert Gaussian(variance="shared").variance_weight(log_variance=log_variance[:1]) is None


def test_bernoulli_is_that_of_scipy():
    raw = normal(6, 3)
    for value in (0, 1):
        found = Bernoulli().log_prob(torch.full_like(raw, value), raw)
        expected = stats.bernoulli.logpmf(value, expit(raw.numpy()))
        np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_bernoulli_of_a_grey_level_is_the_cross_entropy():
    x, raw = torch.tensor([[0.3]]).double(), torch.tensor([[0.8]]).double()
    p = expit(0.8)
    expected = 0.3 * np.log(p) + 0.7 * np.log(1 - p)
    assert float(Bernoulli().log_prob(x, raw)) == pytest.approx(expected)


@pytest.mark.parametrize("raw", [-1e4, 1e4])
def test_bernoulli_stays_finite_far_out(raw):
    raw = torch.tensor([[raw]], requires_grad=True)
    log_prob = Bernoulli().log_prob((raw > 0).float(), raw)
    log_prob.backward()
    assert log_prob.item() == 0.0
    assert torch.isfinite(raw.grad).all()


def test_bernoulli_starts_at_a_finite_logit_where_a_column_is_all_ones():
    raw = Bernoulli().raw_from_mean(torch.tensor([0.0, 0.5, 1.0]))
    assert torch.isfinite(raw).all()
    torch.testing.assert_close(torch.sigmoid(raw), torch.tensor([0.0, 0.5, 1.0]), atol=1e-3, rtol=0)


# What a likelihood declares.


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"structure": "softmx"}, r"structure must be one of independent, softmax.* Got 'softmx'"),
        ({"structure": "softmax"}, r"conditional_on_total must be True and n_outputs 1. Got False"),
        (
            {"structure": "softmax", "conditional_on_total": True, "n_outputs": 2},
            r"n_outputs 1. Got True and 2 instead",
        ),
    ],
)
def test_a_structure_that_cannot_be_is_refused_with_the_class(declared, message):
    with pytest.raises(TypeError, match=message):
        type("Mine", (Likelihood,), declared)
