"""What a newcomer gets wrong is answered with what was meant, and what to do."""

import datetime
import inspect

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import (
    BatchScoring,
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    PassthroughScoring,
)

from skae import (
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    SparseAutoencoderTransformer,
    StackedAutoencoderTransformer,
    VAETransformer,
)
from skae._hints import PARAMETERS, VALUES
from skae.constraints import InvalidParameterError, Names
from skae.likelihoods import Gaussian, Poisson
from skae.samplers import KernelSampler
from skae.schedules import LinearWarmup
from tests.helpers import ESTIMATORS, QUICK, VOCABULARIES, low_rank

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::skae.exceptions.PosteriorCollapseWarning"),
]

X = low_rank(60)
EVERY = [*(Estimator(**QUICK) for Estimator in ESTIMATORS), AutoencoderOutlierDetector()]
everyone = pytest.mark.parametrize("estimator", EVERY, ids=lambda one: type(one).__name__)


def message_of(call, *args, kind=ValueError, **kwargs):
    with pytest.raises(kind) as error:
        call(*args, **kwargs)
    return str(error.value)


def assert_says(message, *parts):
    for part in parts:
        assert part in message, message
    assert message.endswith((".", "?")), message


# What is no number.

FRAME = pd.DataFrame(X[:, :4], columns=["age", "height", "income", "rent"])
DAYS = pd.date_range("2020-01-01", periods=60)
NO_NUMBERS = {
    "text": ("blue", "'blue'", "OneHotEncoder", "ColumnTransformer"),
    "category": (pd.Categorical(["a", "b"] * 30), "'a'", "OneHotEncoder", "ColumnTransformer"),
    "text and missing": (["x", None] * 30, "'x'", "OneHotEncoder"),
    "dates": (DAYS, "2020", "date", "days since"),
    "dates with a zone": (DAYS.tz_localize("UTC"), "2020", "date", "days since"),
    "missing dates": (pd.to_datetime([None] * 60), "NaT", "date"),
    "times between": (DAYS - DAYS[0], "Timedelta", "time"),
    "periods": (DAYS.to_period("D"), "2020", "date"),
    "Python's dates": ([datetime.date(2020, 1, 1)] * 60, "2020, 1, 1", "date"),
    "lists": ([[1, 2]] * 60, "[1, 2]", "Turn it into a number"),
}


@everyone
@pytest.mark.parametrize(
    ("values", "parts"), [(v, p) for v, *p in NO_NUMBERS.values()], ids=NO_NUMBERS
)
def test_column_that_holds_no_numbers_is_named_with_a_remedy(estimator, values, parts):
    frame = FRAME.assign(rent=values)
    message = message_of(clone(estimator).fit, frame, kind=(TypeError, ValueError))
    assert_says(message, "Column 3 ('rent')", "must be numbers", *parts)


@pytest.mark.parametrize(
    "make", [np.array, np.ndarray.tolist, pd.DataFrame], ids=["array", "list", "frame"]
)
def test_text_in_a_table_without_names_has_its_place(make):
    table = X[:, :3].astype(object)
    table[7, 2] = "seven"
    message = message_of(AutoencoderTransformer().fit, make(table))
    assert_says(message, "Column 2 of X", "'seven'", "could not convert string to float")


def test_fitted_estimators_say_the_same_of_rows_asked_about():
    estimator = VAETransformer(**QUICK).fit(FRAME)
    for method in ("transform", "score_samples", "reconstruct"):
        assert_says(
            message_of(getattr(estimator, method), FRAME.assign(height="tall")),
            "Column 1 ('height')",
            "'tall'",
        )


# What is missing, or not finite.


def with_cells(value, *cells):
    table = X.copy()
    for cell in cells:
        table[cell] = value
    return table


def as_frame(table):
    return pd.DataFrame(table, columns=[f"column {place}" for place in range(10)])


FORMATS = [np.asarray, np.float32, sp.csr_array, sp.csc_matrix, sp.coo_array, np.ndarray.tolist]


@everyone
@pytest.mark.parametrize("as_format", FORMATS)
def test_missing_values_are_counted_and_placed(estimator, as_format):
    bad = as_format(with_cells(np.nan, (3, 2), (5, 2), (9, 7)))
    message = message_of(clone(estimator).fit, bad)
    assert_says(
        message, "Input X contains NaN", "3 missing values", "2, 7", "SimpleImputer", "drop"
    )
    assert len(message) < 250


@everyone
@pytest.mark.parametrize("as_format", FORMATS)
def test_infinite_values_are_counted_and_placed(estimator, as_format):
    message = message_of(clone(estimator).fit, as_format(with_cells(-np.inf, (3, 2))))
    assert_says(message, "Input X contains infinity", "1 value in column 2", "Clip")


def test_missing_values_of_any_kind_are_named():
    for values in (pd.array([1, None, 3] * 20, dtype="Int64"), [1.0, None] * 30, [np.nan] * 60):
        message = message_of(AutoencoderTransformer().fit, FRAME.assign(income=values))
        assert_says(message, "contains NaN", "column 2 ('income')", "SimpleImputer")
    mixed = FRAME.astype(object).assign(age=[pd.NA] * 60)
    message = message_of(AutoencoderTransformer().fit, mixed, kind=(TypeError, ValueError))
    assert_says(message, "contains NaN: 60 missing values", "column 0 ('age')")


def test_many_columns_are_not_all_named():
    message = message_of(AutoencoderTransformer().fit, as_frame(np.where(X > 0, X, np.nan)))
    assert_says(message, "column 2", "and 7 more")


@pytest.mark.parametrize(
    ("rows", "part"),
    [
        (X[:0], "0 sample"),
        (X[0], "1D array"),
        (X * 1j, "Complex"),
        (None, "array"),
        ("X", "not convert"),
    ],
    ids=["empty", "1-d", "complex", "None", "text"],
)
def test_other_errors_stay_what_they_are(rows, part):
    assert part in message_of(AutoencoderTransformer().fit, rows)


# Parameters that do not exist.

MEANT = {
    "latent_dim": "n_components",
    "epochs": "max_iter",
    "lr": "learning_rate_init",
    "batch": "batch_size",
    "seed": "random_state",
    "patience": "n_iter_no_change",
    "weight_decay": "alpha",
    "hidden_dims": "hidden_layer_sizes",
    "n_componets": "n_components",
    "likelyhood": "likelihood",
    "Max_Iter": "max_iter",
}


@pytest.mark.parametrize("Estimator", ESTIMATORS)
@pytest.mark.parametrize(("given", "meant"), MEANT.items())
def test_parameter_under_another_name_is_answered_with_ours(Estimator, given, meant):
    message = message_of(Estimator, kind=TypeError, **{given: 1})
    assert_says(message, f"{Estimator.__name__}.__init__()", repr(given), f"Did you mean {meant}?")
    message = message_of(Estimator().set_params, **{given: 1})
    assert_says(message, f"Invalid parameter {given!r}", f"Did you mean {meant}?")


def test_what_resembles_nothing_gets_no_guess():
    assert "mean" not in message_of(VAETransformer, kind=TypeError, zzz=1)
    assert "mean" not in message_of(VAETransformer().set_params, zzz=1)
    assert "Did you mean contamination?" in message_of(
        AutoencoderOutlierDetector, kind=TypeError, outlier_fraction=0.1
    )
    assert "Did you mean variance?" in message_of(Gaussian, kind=TypeError, varience="shared")


def test_no_word_has_two_meanings_for_one_estimator():
    for Estimator in [*ESTIMATORS, StackedAutoencoderTransformer]:
        names = inspect.signature(Estimator).parameters
        words = [word for ours in names for word in PARAMETERS.get(ours, "").split()]
        assert len(words) == len(set(words))
        assert not set(words) & set(names)


def test_every_word_leads_to_something_that_is_there():
    parameters = {
        name
        for kind in [*ESTIMATORS, StackedAutoencoderTransformer, AutoencoderOutlierDetector]
        for name in inspect.signature(kind).parameters
    }
    assert set(PARAMETERS) <= parameters
    constraints = [one for kind in ESTIMATORS for one in kind._parameter_constraints.values()]
    options = {name for some in constraints for one in some for name in getattr(one, "options", ())}
    assert set(VALUES) <= options


@pytest.mark.parametrize("Estimator", [*ESTIMATORS, AutoencoderOutlierDetector, Gaussian])
def test_signature_is_that_of_the_parameters(Estimator):
    parameters = inspect.signature(Estimator).parameters
    assert list(parameters) and set(parameters) == set(Estimator().get_params(deep=False))
    assert not any(one.kind is one.VAR_KEYWORD for one in parameters.values())


def test_classes_of_users_keep_their_own_signature():
    class Mine(VAETransformer):
        def __init__(self, n_components=2, flavour="plain"):
            super().__init__(n_components=n_components)
            self.flavour = flavour

    assert Mine(flavour="sour").flavour == "sour"
    assert "Did you mean flavour?" in message_of(Mine, kind=TypeError, flavor="sour")
    assert clone(Mine(3)).n_components == 3


# Values that are not allowed.

VALUES_MEANT = [
    (VAETransformer, {"learning_rate": 1e-3}, ["learning_rate_init=0.001"]),
    (VAETransformer, {"n_components": 0.95}, ["share of the variance", "'auto' to have it found"]),
    (VAETransformer, {"n_components": "mle"}, ["number"]),
    (VAETransformer, {"likelihood": "gausian"}, ["Did you mean 'gaussian'?"]),
    (VAETransformer, {"likelihood": "Normal"}, ["Did you mean 'gaussian'?"]),
    (VAETransformer, {"likelihood": "zinb"}, ["Did you mean 'zero_inflated_negative_binomial'?"]),
    (VAETransformer, {"likelihood": "negative-binomial"}, ["Did you mean 'negative_binomial'?"]),
    (VAETransformer, {"likelihood": Poisson}, ["class", "Poisson()"]),
    (VAETransformer, {"activation": "ReLU"}, ["Did you mean 'relu'?"]),
    (VAETransformer, {"activation": "sigmoid"}, ["Did you mean 'logistic'?"]),
    (VAETransformer, {"optimizer": "adamw"}, ["Did you mean 'adam'?", "AdamW"]),
    (VAETransformer, {"prior": "normal"}, ["Did you mean 'standard_normal'?"]),
    (VAETransformer, {"input_scaling": "minmax"}, ["Did you mean 'max'?"]),
    (SparseAutoencoderTransformer, {"sparsity": "top-k"}, ["Did you mean 'topk'?"]),
    (AutoencoderTransformer, {"sampler": "kde"}, ["Did you mean 'kernel'?"]),
    (AutoencoderTransformer, {"device": "gpu"}, [". Choose device='auto'"]),
]


@pytest.mark.parametrize(("Estimator", "wrong", "parts"), VALUES_MEANT)
def test_value_that_is_not_allowed_is_answered_with_what_was_meant(Estimator, wrong, parts):
    message = message_of(Estimator(**wrong).fit, X)
    (name,) = wrong
    assert_says(message, name, *parts)


def test_names_stand_in_the_order_of_their_vocabulary():
    for name, (vocabulary, _) in VOCABULARIES.items():
        listed = str(Names(vocabulary))
        places = [listed.index(repr(option)) for option in vocabulary]
        assert places == sorted(places), name
    with pytest.raises(InvalidParameterError) as error:
        AutoencoderTransformer(input_scaling="x").fit(X)
    assert "'standard', 'fourth_moment', 'common', 'max', 'log1p'" in str(error.value)


# Parameters of a choice.


def nested_parameters():
    """Every parameter of every name of a vocabulary, for an estimator that takes it."""
    for Estimator in ESTIMATORS:
        for name, allowed in Estimator._parameter_constraints.items():
            for names in (one for one in allowed if isinstance(one, Names)):
                for option, kind in names.vocabulary.items():
                    for own, parameter in inspect.signature(kind).parameters.items():
                        yield Estimator, name, option, kind, own, parameter.default


@pytest.mark.parametrize(
    ("Estimator", "name", "option", "kind", "own", "value"),
    list(nested_parameters()),
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_parameter_of_a_choice_by_name_makes_an_object(Estimator, name, option, kind, own, value):
    estimator = Estimator(**{name: option})
    estimator.set_params(**{f"{name}__{own}": value})
    assert type(getattr(estimator, name)) is kind
    assert estimator.get_params()[f"{name}__{own}"] == value
    # In one call, whichever comes first; and an object that is there already stays that object.
    estimator = Estimator().set_params(**{f"{name}__{own}": value, name: option})
    held = getattr(estimator, name)
    assert type(held) is kind
    assert getattr(estimator.set_params(**{f"{name}__{own}": value}), name) is held


def test_search_over_parameters_of_a_choice_by_name():
    grid = {"likelihood__variance": ["shared", "per_feature"], "sampler__bandwidth": [0.1]}
    estimator = AutoencoderTransformer(sampler="kernel", **QUICK)
    search = GridSearchCV(estimator, grid, cv=2).fit(X)
    assert set(search.best_params_) == set(grid)
    best = search.best_estimator_
    assert best.likelihood.variance == search.best_params_["likelihood__variance"]
    assert isinstance(best.sampler, KernelSampler)
    assert estimator.likelihood == "gaussian"  # the one that was given is not touched


NO_OBJECT = [
    (
        VAETransformer(likelihood="auto"),
        "likelihood__variance",
        ["'auto'", "likelihood=Gaussian()"],
    ),
    (VAETransformer(), "kl_warmup__share", ["'auto'", "Schedule"]),
    (VAETransformer(likelihood="poisson"), "likelihood__variance", ["Poisson"]),
    (AutoencoderOutlierDetector(), "estimator__max_iter", ["is None", "Transformer("]),
    (VAETransformer(), "likelyhood__variance", ["Did you mean likelihood?"]),
    (VAETransformer(), "likelihood__varience", ["Did you mean variance?"]),
    (VAETransformer(), "callbacks__patience", ["None"]),
]


@pytest.mark.parametrize(("estimator", "name", "parts"), NO_OBJECT)
def test_what_has_no_such_parameter_says_what_to_give(estimator, name, parts):
    assert_says(message_of(clone(estimator).set_params, **{name: 0.1}), *parts)


def test_objects_take_parameters_as_ever():
    estimator = VAETransformer(likelihood=Gaussian(), kl_warmup=LinearWarmup(0.5))
    estimator.set_params(likelihood__variance="shared", kl_warmup__share=0.1, beta=2.0)
    assert (estimator.likelihood.variance, estimator.kl_warmup.share) == ("shared", 0.1)
    assert estimator.beta == 2.0
    assert estimator.set_params() is estimator


def test_detector_that_is_not_fitted_says_so_first():
    for rows in (FRAME, FRAME.iloc[:1], X):
        with pytest.raises(NotFittedError, match="AutoencoderOutlierDetector"):
            AutoencoderOutlierDetector().explain(rows)


# The net of skorch.


@pytest.mark.parametrize("method", ["predict", "predict_proba", "forward", "score"])
def test_net_says_where_answers_are(method):
    estimator = VAETransformer(**QUICK).fit(X)
    for rows in (X, FRAME, sp.csr_array(X)):
        message = message_of(getattr(estimator.net_, method), rows, kind=NotImplementedError)
        assert_says(message, "estimator", "reconstruct(X)", "score(X)", "history")


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_net_is_not_trained_on_rows_that_are_not_prepared(method):
    estimator = VAETransformer(**QUICK).fit(X)
    codes = estimator.transform(X)
    message = message_of(getattr(estimator.net_, method), X, kind=TypeError)
    assert_says(message, "estimator", "fit(X)", "partial_fit(X)")
    np.testing.assert_array_equal(estimator.transform(X), codes)


def test_callback_that_predicts_is_told_what_to_use():
    class Predict(Callback):
        def on_epoch_end(self, net, **kwargs):
            net.predict(X)

    estimator = VAETransformer(callbacks=[Predict()], **QUICK)
    assert_says(message_of(estimator.fit, X, kind=NotImplementedError), "history", "estimator")


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize(
    "callback",
    [
        EpochScoring("neg_mean_squared_error"),
        ("named", EpochScoring("r2", on_train=True)),
        BatchScoring("r2"),
        PassthroughScoring("train_loss"),
    ],
)
def test_scoring_callbacks_are_refused_with_what_to_use(callback, early_stopping):
    estimator = VAETransformer(callbacks=[callback], early_stopping=early_stopping, **QUICK)
    assert_says(message_of(estimator.fit, X), "Scoring", "history_", "early_stopping=True")


@pytest.mark.parametrize(
    ("callback", "instead"),
    [
        (EarlyStopping(), "train_loss"),
        (EarlyStopping, "train_loss"),
        (EarlyStopping(monitor="valid_objective"), "train_objective"),
        (Checkpoint(), "train_loss_best"),
    ],
)
def test_callback_that_watches_rows_held_out_needs_some(callback, instead, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # Checkpoint writes where it is
    estimator = VAETransformer(callbacks=[callback], **QUICK)
    for method in (estimator.fit, estimator.partial_fit):
        message = message_of(method, X)
        assert_says(message, "valid_", "early_stopping=True", f"monitor='{instead}'")
    estimator.set_params(early_stopping=True).fit(X)
    kind = callback if isinstance(callback, type) else type(callback)
    estimator.set_params(early_stopping=False, callbacks=[kind(monitor=instead)]).fit(X)
    assert estimator.n_iter_ >= 1
