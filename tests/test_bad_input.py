"""Bad input gets an error that says what was given and what to do; odd input that is allowed works.

And whatever goes wrong, an estimator that was fitted stays as it was.
"""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from sklearn.exceptions import NotFittedError
from skorch.callbacks import Callback

from skae import (
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    DenoisingAETransformer,
    SparseAutoencoderTransformer,
    VAETransformer,
)
from skae.constraints import InvalidParameterError
from skae.exceptions import NonFiniteLossError, SupportError
from skae.likelihoods import Gaussian
from tests.helpers import (
    ESTIMATORS,
    QUICK,
    QUIET,
    VOCABULARIES,
    every_estimator,
    low_rank,
    one_hot,
    weights_of,
)

pytestmark = QUIET

formats = pytest.mark.parametrize("as_format", [np.asarray, sp.csr_array])
X = low_rank(60)


def with_value(rows, value):
    """A copy of the rows with a value at row 4, column 2."""
    rows = rows.copy()
    rows[4, 2] = value
    return rows


# Values of X.


@every_estimator
@formats
@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "infinity")])
def test_values_that_are_not_finite_are_refused(Estimator, as_format, value, word):
    bad, estimator = as_format(with_value(X, value)), Estimator(**QUICK)
    for method in (estimator.fit, estimator.partial_fit):
        with pytest.raises(ValueError, match=f"Input X contains {word}"):
            method(bad)
    estimator.fit(X)
    for method in (estimator.transform, estimator.reconstruct, estimator.score_samples):
        with pytest.raises(ValueError, match=f"Input X contains {word}"):
            method(bad)


@every_estimator
@formats
def test_value_outside_the_support_is_named_with_its_column_and_a_remedy(Estimator, as_format):
    rows, estimator = one_hot(60), Estimator(likelihood="bernoulli", **QUICK)
    bad = as_format(with_value(rows, 7.0))
    message = r"Bernoulli needs values in \[0, 1\].*column 2 of X holds 7\.0.*'gaussian'"
    for method in (estimator.fit, estimator.partial_fit):
        with pytest.raises(SupportError, match=message):
            method(bad)
    estimator.fit(as_format(rows))
    for method in (estimator.transform, estimator.score_samples):
        with pytest.raises(SupportError, match=message):
            method(bad)


def test_column_outside_the_support_is_named_by_its_name():
    names = [f"level {i}" for i in range(12)]
    bad = pd.DataFrame(with_value(one_hot(60), -1.0), columns=names)
    with pytest.raises(SupportError, match=r"column 2 \('level 2'\) of X holds -1\.0"):
        VAETransformer(likelihood="bernoulli", **QUICK).fit(bad)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.empty((0, 4)), "0 sample"),
        (np.empty((4, 0)), "0 feature"),
        (np.arange(5.0), "Expected 2D array, got 1D array"),
        (np.zeros((2, 2, 2)), "dim 3"),
        ([["a", "b"]], "could not convert string to float"),
        (np.ones((3, 2)) * 1j, "Complex data not supported"),
    ],
    ids=["no rows", "no columns", "1-d", "3-d", "text", "complex"],
)
@every_estimator
def test_what_is_no_table_of_numbers_is_refused(Estimator, rows, message):
    with pytest.raises(ValueError, match=message):
        Estimator(**QUICK).fit(rows)


@every_estimator
@formats
def test_wrong_width_is_refused(Estimator, as_format):
    estimator = Estimator(**QUICK).fit(X)
    message = f"X has 4 features, but {Estimator.__name__} is expecting 10 features"
    for method in ("transform", "reconstruct", "score_samples", "score", "partial_fit"):
        with pytest.raises(ValueError, match=message):
            getattr(estimator, method)(as_format(X[:, :4]))


@every_estimator
def test_codes_of_the_wrong_width_or_with_nan_are_refused(Estimator):
    estimator = Estimator(**QUICK).fit(X)
    with pytest.raises(ValueError, match=r"X has 10 features.*expecting 3 features \(n_compo"):
        estimator.inverse_transform(X)
    with pytest.raises(ValueError, match="NaN"):
        estimator.inverse_transform(np.full((2, 3), np.nan))


@every_estimator
@pytest.mark.parametrize("n_samples", [0, -1, 1.5, "3", None])
def test_number_of_new_rows_must_be_a_whole_number_of_at_least_one(Estimator, n_samples):
    with pytest.raises(ValueError, match=r"n_samples.*at least 1.*Got"):
        Estimator(**QUICK).fit(X).sample(n_samples)


@every_estimator
def test_what_is_not_fitted_says_so(Estimator):
    estimator = Estimator()
    calls = {
        "transform": X,
        "inverse_transform": X,
        "reconstruct": X,
        "score_samples": X,
        "score": X,
        "sample": 1,
    }
    for name, given in calls.items():
        with pytest.raises(NotFittedError, match=f"This {Estimator.__name__} instance is not fi"):
            getattr(estimator, name)(given)
    with pytest.raises(NotFittedError):
        estimator.get_feature_names_out()
    with pytest.raises(AttributeError):
        _ = estimator.module_


# Tables that are odd, and allowed.


def works(estimator, rows):
    """Fit, and return the scores after a look at every other answer."""
    codes = estimator.fit(rows).transform(rows)
    assert np.isfinite(codes).all()
    assert np.isfinite(estimator.reconstruct(rows)).all()
    drawn = estimator.sample(3, random_state=0)
    assert drawn.shape == (3, rows.shape[1])
    assert np.isfinite(drawn.toarray() if sp.issparse(drawn) else drawn).all()
    scores = estimator.score_samples(rows)
    assert np.isfinite(scores).all()
    return scores


@every_estimator
@formats
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
@pytest.mark.parametrize(
    "rows",
    [
        np.array([[1.0, 0.0, 1.0]]),
        np.array([[1.0], [0.0], [1.0], [1.0]]),
        np.array([[1.0]]),
        np.zeros((5, 3)),
        np.vstack([np.zeros((3, 4)), np.eye(4)]),
        np.eye(7)[:, :2],
    ],
    ids=["one row", "one column", "one cell", "zeros", "rows of zeros", "few columns"],
)
def test_small_tables_work(Estimator, as_format, likelihood, rows):
    # QUICK has three components: more than some of these have columns.
    works(Estimator(likelihood=likelihood, **QUICK), as_format(rows))


@every_estimator
def test_more_components_than_features_work(Estimator):
    works(Estimator(**{**QUICK, "n_components": 40}), X)


@every_estimator
def test_batches_may_be_of_one_row_and_larger_than_the_table(Estimator):
    for batch_size in (1, 59, 1000):
        works(Estimator(**QUICK, batch_size=batch_size), X)


@every_estimator
@formats
@pytest.mark.parametrize("constant", [0.0, 3.0, 1e6])
def test_constant_column_does_not_rule_the_score(Estimator, as_format, constant):
    rows = with_constant(X, constant)
    estimator = Estimator(n_components=3, max_iter=60, learning_rate_init=1e-2, random_state=0)
    scores = works(estimator, as_format(rows))
    plain = works(estimator, X)  # the same rows without it
    estimator.fit(as_format(rows))
    # It adds what a Gaussian of a small variance can add, and no more.
    assert np.median(scores) < np.median(plain) + 10
    # A row that leaves the constant by one is less likely, but not beyond all measure.
    away = estimator.score_samples(as_format(with_constant(X, constant + 1.0)))
    assert np.all(away < scores)
    assert np.all(away > scores - 200)


def with_constant(rows, constant):
    return np.column_stack([rows, np.full(len(rows), constant)])


@every_estimator
def test_rows_far_out_get_low_scores_that_are_finite(Estimator):
    estimator = Estimator(n_components=3, max_iter=60, random_state=0).fit(X)
    scores = estimator.score_samples(X[0] * np.array([[1.0], [10.0], [1e3], [1e6]]))
    assert np.isfinite(scores).all()
    assert np.all(np.diff(scores) < 0)
    assert np.isfinite(estimator.transform(X * 1e6)).all()


# Parameters.

WRONG = [
    (AutoencoderTransformer, "n_components", 0),
    (AutoencoderTransformer, "n_components", 2.5),
    (AutoencoderTransformer, "hidden_layer_sizes", 0),
    (AutoencoderTransformer, "hidden_layer_sizes", (8, 0)),
    (AutoencoderTransformer, "hidden_layer_sizes", (8, 2.5)),
    (AutoencoderTransformer, "alpha", -1),
    (AutoencoderTransformer, "batch_size", 0),
    (AutoencoderTransformer, "learning_rate_init", 0),
    (AutoencoderTransformer, "max_iter", 0),
    (AutoencoderTransformer, "tol", -1),
    (AutoencoderTransformer, "n_iter_no_change", 0),
    (AutoencoderTransformer, "early_stopping", "yes"),
    (AutoencoderTransformer, "validation_fraction", 1.0),
    (AutoencoderTransformer, "warm_start", "yes"),
    (AutoencoderTransformer, "device", 3),
    (AutoencoderTransformer, "device", "gpu"),
    (AutoencoderTransformer, "callbacks", 5),
    (AutoencoderTransformer, "callbacks", [5]),
    (AutoencoderTransformer, "verbose", -1),
    (AutoencoderTransformer, "random_state", "seed"),
    (AutoencoderTransformer, "likelihood", Gaussian),
    (SparseAutoencoderTransformer, "n_active", 0),
    (SparseAutoencoderTransformer, "n_active", 4),
    (SparseAutoencoderTransformer, "sparsity_weight", -1),
    (SparseAutoencoderTransformer, "l1_ratio", 2),
    (SparseAutoencoderTransformer, "sparse_output", "yes"),
    (DenoisingAETransformer, "noise_level", -0.1),
    (DenoisingAETransformer, "noise_level", 1.5),  # the default noise masks
    (VAETransformer, "beta", -1),
    (VAETransformer, "kl_warmup", 2),
    (VAETransformer, "kl_warmup", "linear"),
    (VAETransformer, "free_bits", -1),
    (VAETransformer, "n_importance_samples", 0),
]


@pytest.mark.parametrize(("Estimator", "name", "value"), WRONG)
def test_wrong_parameter_is_named_with_its_value(Estimator, name, value):
    estimator = Estimator(**{**QUICK, name: value})
    with pytest.raises(ValueError) as error:
        estimator.fit(X)
    assert name in str(error.value)
    assert str(value if isinstance(value, type) else repr(value)) in str(error.value)


NAMED = {
    "activation": AutoencoderTransformer,
    "optimizer": AutoencoderTransformer,
    "input_scaling": AutoencoderTransformer,
    "network": AutoencoderTransformer,
    "init": AutoencoderTransformer,
    "likelihood": AutoencoderTransformer,
    "learning_rate": AutoencoderTransformer,
    "sampler": AutoencoderTransformer,
    "sparsity": SparseAutoencoderTransformer,
    "noise": DenoisingAETransformer,
    "prior": VAETransformer,
    "criterion": AutoencoderOutlierDetector,
}


def test_every_vocabulary_is_a_parameter_of_names():
    assert set(VOCABULARIES) - {"schedule"} <= set(NAMED)


@pytest.mark.parametrize(("name", "Estimator"), NAMED.items())
def test_unknown_name_is_answered_with_the_options(name, Estimator):
    with pytest.raises(InvalidParameterError) as error:
        Estimator(**{**(QUICK if Estimator in ESTIMATORS else {}), name: "nonesuch"}).fit(X)
    message = str(error.value)
    assert f"'{name}' parameter of {Estimator.__name__}" in message
    assert "Got 'nonesuch' instead" in message
    vocabulary = {"learning_rate": "schedule"}.get(name, name)
    if vocabulary in VOCABULARIES:
        names, base = VOCABULARIES[vocabulary]
        assert all(repr(option) in message for option in names)
        assert base.__name__ in message


def test_wrong_parameter_of_an_object_is_named_with_its_class():
    with pytest.raises(InvalidParameterError, match=r"'variance' parameter of Gaussian.*'full'"):
        AutoencoderTransformer(likelihood=Gaussian(variance="full"), **QUICK).fit(X)


def test_a_hard_rule_has_no_penalty_to_weigh():
    estimator = SparseAutoencoderTransformer(sparsity="topk", sparsity_weight=1.0, **QUICK)
    with pytest.raises(ValueError, match=r"sparsity_weight=1\.0.*'auto'"):
        estimator.fit(X)


def test_gaussian_noise_may_be_stronger_than_one():
    works(DenoisingAETransformer(noise="gaussian", noise_level=1.5, **QUICK), X)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device is there")
def test_device_that_is_not_there_is_refused_with_a_remedy():
    with pytest.raises(ValueError, match=r"device.*'cuda'.*'auto'"):
        AutoencoderTransformer(device="cuda", **QUICK).fit(X)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (-np.ones(60), "Negative values"),
        (np.zeros(60), "at least one non-zero"),
        (np.full(60, np.nan), "NaN"),
        (np.full(60, np.inf), "infinity"),
        (np.ones(59), r"sample_weight\.shape"),
        (np.ones((60, 2)), "must be 1D"),
    ],
    ids=["negative", "all zero", "NaN", "infinite", "too few", "2-d"],
)
@every_estimator
def test_bad_sample_weights_are_refused(Estimator, weight, message):
    for method in ("fit", "partial_fit"):
        with pytest.raises(ValueError, match=message):
            getattr(Estimator(**QUICK), method)(X, sample_weight=weight)


@every_estimator
@pytest.mark.parametrize("rows", [X[:1], np.repeat(X[:1], 9, axis=0)], ids=["one", "copies"])
def test_early_stopping_needs_two_different_rows(Estimator, rows):
    with pytest.raises(ValueError, match=r"early_stopping=True.*needs 2.*Got 1.*early_stopping="):
        Estimator(early_stopping=True, **QUICK).fit(rows)


# A loss that stops being finite.

EXPLOSIVE = {**QUICK, "optimizer": "sgd", "learning_rate_init": 1e6, "max_iter": 50}


@every_estimator
def test_training_that_explodes_stops_with_a_remedy_and_finite_weights(Estimator):
    estimator = Estimator(**EXPLOSIVE)
    with pytest.raises(NonFiniteLossError, match=r"learning_rate_init is 1000000\.0.*tenth"):
        estimator.fit(X)
    assert np.isfinite(weights_of(estimator)).all()
    assert np.isfinite(estimator.transform(X)).all()
    assert estimator.n_iter_ < 50


@every_estimator
def test_no_optimizer_explodes_at_the_usual_rate(Estimator):
    for optimizer in ("adam", "sgd"):
        estimator = Estimator(**{**QUICK, "max_iter": 60}, optimizer=optimizer).fit(X)
        assert np.isfinite(weights_of(estimator)).all()


@every_estimator
def test_values_too_large_for_the_network_end_in_a_remedy(Estimator):
    estimator = Estimator(**QUICK, input_scaling=None)
    with pytest.raises(NonFiniteLossError, match="input_scaling='auto'"):
        estimator.fit(X * 1e30)


# What was fitted stays as it was.


class Failure(Callback):
    """Stands for anything that goes wrong within a training: here at its third epoch."""

    def on_epoch_begin(self, net, **kwargs):
        self.epochs = getattr(self, "epochs", 0) + 1
        if self.epochs == 3:
            raise RuntimeError("stopped by a callback")


FRAME = pd.DataFrame(X, columns=[f"column {i}" for i in range(10)])
NAN = FRAME.mask(FRAME > 3.0)

FAILING_CALLS = {
    "fit on NaN": lambda e: e.fit(NAN),
    "fit on other columns": lambda e: e.fit(FRAME.iloc[:, :4].assign(other="text")),
    "fit with a wrong parameter": lambda e: e.set_params(alpha=-1.0).fit(FRAME.iloc[:, :4]),
    "fit with a wrong size": lambda e: e.set_params(hidden_layer_sizes=(0,)).fit(FRAME.iloc[:, :4]),
    "fit outside the support": lambda e: e.set_params(likelihood="bernoulli").fit(
        FRAME.rename(columns=str.upper)
    ),
    "fit with a failing callback": lambda e: e.set_params(callbacks=[Failure()]).fit(
        FRAME.rename(columns=str.upper)
    ),
    "fit with bad weights": lambda e: e.fit(FRAME.iloc[:, :4], sample_weight=-np.ones(60)),
    "warm start on other columns": lambda e: e.set_params(warm_start=True).fit(FRAME.iloc[:, :4]),
    "warm start with another size": lambda e: e.set_params(warm_start=True, n_components=5).fit(
        FRAME
    ),
    "partial_fit on NaN": lambda e: e.partial_fit(NAN),
    "partial_fit on other columns": lambda e: e.partial_fit(FRAME.iloc[:, :4]),
    "partial_fit with bad weights": lambda e: e.partial_fit(FRAME, sample_weight=-np.ones(60)),
    "transform of NaN": lambda e: e.transform(NAN),
    "transform of other columns": lambda e: e.transform(FRAME.iloc[:, :4]),
    "sample of nothing": lambda e: e.sample(0),
}


def memory(estimator):
    """Everything that a fitted estimator answers with, and says of itself."""
    return {
        "codes": estimator.transform(FRAME).tolist(),
        "scores": estimator.score_samples(FRAME).tolist(),
        "samples": estimator.sample(3, random_state=0).tolist(),
        "weights": weights_of(estimator).tolist(),
        "names": estimator.feature_names_in_.tolist(),
        "attributes": sorted(vars(estimator)),
        "history": estimator.history_,
        "n_iter": estimator.n_iter_,
    }


@pytest.mark.parametrize("form", [pd.DataFrame, sp.csr_array])
def test_a_loss_that_is_not_finite_names_the_column_and_the_remedy_that_fits(form):
    first = np.random.RandomState(0).normal(size=(60, 3))
    first[:, 1] = 0.0
    later = first.copy()
    later[:, 1] = np.linspace(-1e25, 1e25, 60)
    names = {"columns": list("abc")} if form is pd.DataFrame else {}
    estimator = AutoencoderTransformer(n_components=2, random_state=0)
    estimator.partial_fit(form(first, **names))
    with pytest.raises(NonFiniteLossError) as error:
        for _ in range(20):
            estimator.partial_fit(form(later, **names))
    column = "Column 1 ('b') of X" if names else "Column 1 of X"
    for words in (column, "1e+25", "first call fixed the scaling"):
        assert words in str(error.value)
    assert "input_scaling='auto'" not in str(error.value)  # it is "auto" already


def test_counts_are_judged_by_what_the_encoder_sees_of_them():
    # A thousand is a large number, and a usual count: its logarithm is what goes in.
    rows = np.random.RandomState(0).poisson(5000, size=(60, 4))
    estimator = AutoencoderTransformer(**EXPLOSIVE, likelihood="poisson")
    with pytest.raises(NonFiniteLossError, match="learning rate that is too high") as error:
        estimator.fit(rows)
    assert "Column" not in str(error.value)


def test_a_high_learning_rate_is_named_beside_a_large_column():
    estimator = AutoencoderTransformer(**EXPLOSIVE, input_scaling=None)
    with pytest.raises(NonFiniteLossError, match=r"'auto'.*learning_rate_init is 1000000\.0"):
        estimator.fit(1e6 * X)


@every_estimator
@pytest.mark.parametrize("call", FAILING_CALLS.values(), ids=FAILING_CALLS)
def test_failing_call_changes_nothing(Estimator, call):
    estimator = Estimator(**QUICK).fit(FRAME)
    before, parameters = memory(estimator), estimator.get_params()
    with pytest.raises((ValueError, RuntimeError)):
        call(estimator)
    # What the call itself set is put back, so that the answers can be asked for.
    assert memory(estimator.set_params(**parameters)) == before


@every_estimator
def test_failure_within_a_training_that_goes_on_takes_its_steps_back(Estimator):
    settings = {**QUICK, "learning_rate": "constant", "batch_size": 20}
    estimator = Estimator(**settings, warm_start=True, callbacks=[Failure()])
    estimator.partial_fit(FRAME)  # one epoch; the failure comes when fit has done another
    before = memory(estimator)
    with pytest.raises(RuntimeError, match="stopped by a callback"):
        estimator.fit(FRAME)
    assert memory(estimator) == before


@every_estimator
def test_failing_first_fit_leaves_an_estimator_that_is_not_fitted(Estimator):
    estimator = Estimator(**QUICK, callbacks=[Failure()])
    with pytest.raises(RuntimeError):
        estimator.fit(FRAME)
    with pytest.raises(NotFittedError):
        estimator.transform(FRAME)
    assert not [name for name in vars(estimator) if name.endswith("_")]


@every_estimator
def test_explosion_of_a_training_that_goes_on_leaves_a_working_estimator(Estimator):
    estimator = Estimator(**EXPLOSIVE, warm_start=True).set_params(learning_rate_init=1e-3)
    estimator.fit(X)
    for group in estimator.net_.optimizer_.param_groups:
        group["lr"] = group["initial_lr"] = 1e6
    with pytest.raises(NonFiniteLossError):
        estimator.fit(X)
    assert np.isfinite(weights_of(estimator)).all()
    assert np.isfinite(estimator.transform(X)).all()


# Another machine.


@every_estimator
def test_model_from_a_gpu_loads_without_one_and_without_a_word(Estimator):
    estimator = Estimator(**QUICK).fit(X)
    expected = estimator.transform(X)
    estimator.net_.device = "cuda"
    state = pickle.dumps(estimator)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = pickle.loads(state)
        np.testing.assert_array_equal(loaded.transform(X), expected)
        assert np.isfinite(loaded.sample(3, random_state=0)).all()
    assert np.isfinite(loaded.partial_fit(X).transform(X)).all()
