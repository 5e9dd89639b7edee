"""The front door of the engine: rows and a specification in, a fitted model out."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch import nn

from skae import (
    AutoencoderTransformer,
    DenoisingAETransformer,
    SparseAutoencoderTransformer,
    VAETransformer,
)
from skae._training.fit import fit_model
from skae._training.written import _classes_of_skae, read, write
from skae.estimators.specify import choose_likelihood_for, model_spec, training_spec
from skae.likelihoods import LIKELIHOODS
from skae.networks import CustomNetwork
from skae.noise import NOISES
from skae.priors import PRIORS
from skae.samplers import SAMPLERS
from skae.schedules import SCHEDULES, Schedule
from skae.sparsity import SPARSITIES

from .helpers import ESTIMATORS, QUICK, QUIET, VOCABULARIES, counts, low_rank

pytestmark = QUIET

CHOICES = [
    *((AutoencoderTransformer, {"likelihood": name}) for name in LIKELIHOODS),
    *((AutoencoderTransformer, {"sampler": name}) for name in SAMPLERS),
    *((AutoencoderTransformer, {"learning_rate": name}) for name in SCHEDULES),
    *((DenoisingAETransformer, {"noise": name}) for name in NOISES),
    *((SparseAutoencoderTransformer, {"sparsity": name}) for name in SPARSITIES),
    *((VAETransformer, {"prior": name}) for name in PRIORS),
    *((Estimator, {"n_components": "auto"}) for Estimator in ESTIMATORS),
    (VAETransformer, {"beta": np.float64(2.0), "kl_warmup": 0.5, "n_importance_samples": 3}),
    (SparseAutoencoderTransformer, {"sparsity_weight": 0.1, "n_active": np.int64(2)}),
    (AutoencoderTransformer, {"early_stopping": True, "hidden_layer_sizes": [4, np.int64(3)]}),
]


def rows_for(settings):
    name = settings.get("likelihood", "gaussian")
    rows = low_rank(60) if name == "gaussian" else counts(60)
    return np.minimum(rows, 1.0) if name == "bernoulli" else rows


def specifications(Estimator, rows, **settings):
    estimator = Estimator(**{**QUICK, **settings})
    estimator.n_features_in_ = rows.shape[1]
    estimator.likelihood_, _ = choose_likelihood_for(estimator, rows)
    return model_spec(estimator), training_spec(estimator, seed=3)


def weights(model):
    return {name: value.numpy() for name, value in model.net.module_.state_dict().items()}


def assert_same_weights(one, other):
    one, other = weights(one), weights(other)
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


@pytest.mark.parametrize(("Estimator", "settings"), CHOICES)
def test_a_specification_is_written_as_json_and_read_again(Estimator, settings):
    rows = rows_for(settings)
    specs = specifications(Estimator, rows, **settings)
    written = json.dumps([write(one) for one in specs])
    again = [read(one) for one in json.loads(written)]
    assert json.dumps([write(one) for one in again]) == written
    one, other = (fit_model(rows, None, *pair) for pair in (specs, again))
    assert_same_weights(one, other)
    np.testing.assert_array_equal(one.sample(5, 0), other.sample(5, 0))


@pytest.mark.parametrize("Estimator", ESTIMATORS)
def test_every_field_is_written(Estimator):
    for spec in specifications(Estimator, low_rank(20)):
        names = {field.name for field in fields(spec)}
        assert write(spec)["parameters"].keys() == names


class Halving(Schedule):
    """A schedule of a user's."""

    def factor(self, progress):
        return 0.5**progress


class Nothing(Callback):
    """A callback of a user's."""


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"network": CustomNetwork(nn.Linear(10, 3), nn.Linear(3, 10))}, "decoder of network"),
        ({"network": CustomNetwork(nn.Linear, nn.Linear)}, "decoder of network"),
        ({"callbacks": [Nothing()]}, "item 0 of callbacks"),
        ({"optimizer": torch.optim.Adam}, "optimizer of"),
    ],
)
def test_what_is_no_plain_data_is_named(settings, named):
    settings = {"hidden_layer_sizes": (128,), **settings}
    with pytest.raises(ValueError, match=f"{named}.*cannot be written out"):
        for spec in specifications(AutoencoderTransformer, low_rank(20), **settings):
            write(spec)


def test_a_class_of_the_user_is_read_where_it_is_handed_over():
    _, training = specifications(AutoencoderTransformer, low_rank(20), learning_rate=Halving())
    data = write(training)
    assert isinstance(read(data, classes=[Halving]).learning_rate, Halving)
    with pytest.raises(
        ValueError, match=r"Halving' of learning_rate .* is not one of skae's.*classes="
    ):
        read(data)


def test_what_is_read_equals_what_was_written():
    for Estimator, settings in CHOICES:
        for spec in specifications(Estimator, rows_for(settings), **settings):
            assert read(json.loads(json.dumps(write(spec)))) == spec


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        *[("n_components", wrong) for wrong in ("many", 2.5, None)],
        *[("learning_rate", wrong) for wrong in ("fast", 3)],
        ("learning_rate_init", None),
    ],
)
def test_auto_is_the_only_word_of_a_field_that_is_settled_by_the_rows(field, wrong):
    specs = specifications(VAETransformer, low_rank(60), n_components="auto")
    data = write(next(spec for spec in specs if field in vars(spec)))
    assert getattr(read(data), field) == "auto"
    data["parameters"][field] = wrong
    with pytest.raises(ValueError, match=rf"{field} .* must be \w+ or 'auto'\. Got {wrong!r}"):
        read(data)


def test_a_class_with_the_name_of_one_of_skaes_is_not_taken_for_it():
    class Cosine(Halving):
        """A schedule of a user's, and not skae's."""

    _, training = specifications(AutoencoderTransformer, low_rank(20), learning_rate=Cosine())
    data = write(training)
    with pytest.raises(ValueError, match=r"Cosine' of learning_rate .* is not one of skae's"):
        read(data)
    assert type(read(data, classes=[Cosine]).learning_rate) is Cosine
    ours = write(specifications(AutoencoderTransformer, low_rank(20), learning_rate="cosine")[1])
    assert type(read(ours, classes=[Cosine]).learning_rate) is SCHEDULES["cosine"]


def test_classes_that_can_be_read_are_all_that_are_more_than_a_base():
    found = _classes_of_skae()
    for vocabulary, base in VOCABULARIES.values():
        assert all(found[kind.__name__] is kind for kind in vocabulary.values())
        assert base.__name__ not in found
    assert {"ModelSpec", "TrainingSpec", "PlainCode", "SparseCode", "GaussianCode"} <= set(found)
    assert not {"Specification", "BottleneckSpec", "Component", "Halving"} & set(found)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, np.float32(0.5), np.int8(3), np.True_])
def test_numbers_of_any_kind_are_written_as_json_has_them(value):
    data = json.loads(json.dumps(write(value), allow_nan=False))
    np.testing.assert_equal(read(data), value)


@pytest.mark.parametrize("value", [1j, np.complex128(1j), np.datetime64("2026-11-30"), {}, {1}])
def test_what_is_no_number_or_word_is_not_written(value):
    with pytest.raises(ValueError, match=r"the seed cannot be written out.*more than names"):
        write(value, "the seed")


def changed(data, **changes):
    return {**data, "parameters": {**data["parameters"], **changes}}


def without(data, name):
    parameters = {key: value for key, value in data["parameters"].items() if key != name}
    return {**data, "parameters": parameters}


MALFORMED = {
    "no form": (lambda data: {"klass": "ModelSpec"}, "the specification cannot be read"),
    "no parameters": (lambda data: {"class": "ModelSpec"}, "the specification cannot be read"),
    "a list of them": (lambda data: {**data, "parameters": []}, "the specification cannot be read"),
    "class of no name": (lambda data: {**data, "class": 3}, "class 3 of the specification is not"),
    "base": (lambda data: {**data, "class": "Likelihood"}, "'Likelihood' of the spec.* is not one"),
    "missing": (lambda data: without(data, "noise"), "must be the parameters .*'noise'"),
    "unknown": (lambda data: changed(data, depth=3), r"must be the parameters .*Got .*'depth'\]"),
    "a word": (
        lambda data: changed(data, n_components="3"),
        "n_components .* must be int or 'auto'. Got '3'",
    ),
    "another word": (
        lambda data: changed(data, n_components="mle"),
        "n_components .* must be int or 'auto'. Got 'mle'",
    ),
    "a name": (lambda data: changed(data, likelihood="gaussian"), "must be Likelihood. Got 'gauss"),
    "of a kind": (lambda data: changed(data, hidden_layer_sizes=[8]), r"hidden_layer.*Got \[8\]"),
    "a tuple": (
        lambda data: changed(data, noise={"tuple": 3}),
        "noise of the spec.*cannot be read",
    ),
    "a set": (lambda data: changed(data, noise={1, 2}), "noise of the spec.*cannot be read"),
    "out of range": (
        lambda data: changed(
            data, noise=None, likelihood={"class": "Gaussian", "parameters": GAUSSIAN}
        ),
        "variance_floor.*Got -1.0 instead",
    ),
}
GAUSSIAN = {"variance": "per_feature", "variance_floor": -1.0}


@pytest.mark.parametrize(("change", "message"), MALFORMED.values(), ids=MALFORMED)
def test_data_of_another_form_are_answered_with_their_place(change, message):
    model, _ = specifications(AutoencoderTransformer, low_rank(20))
    with pytest.raises(ValueError, match=f"(?s){message}"):
        read(change(write(model)))


@pytest.mark.parametrize("Estimator", ESTIMATORS)
def test_an_estimator_is_the_door_with_its_specification(Estimator):
    rows = low_rank(60)
    estimator = Estimator(**QUICK).fit(rows)
    spec, training = specifications(Estimator, rows)
    model = fit_model(rows, None, spec, replace(training, seed=estimator.net_.seed))
    assert_same_weights(model, estimator._model)
    np.testing.assert_array_equal(model.codes(rows), estimator.transform(rows).astype(rows.dtype))


@pytest.mark.parametrize("Estimator", ESTIMATORS)
def test_a_model_is_trained_on_through_the_same_door(Estimator):
    rows = low_rank(60)
    estimator = Estimator(**QUICK, warm_start=True).fit(rows).fit(rows)
    spec, training = specifications(Estimator, rows)
    training = replace(training, seed=estimator.net_.seed)
    first = fit_model(rows, None, spec, training)
    second = fit_model(rows, None, spec, training, previous=first)
    assert_same_weights(second, estimator._model)
    assert len(second.history()["objective"]) == estimator.n_iter_


def test_a_pass_over_the_rows_is_a_training_of_its_own_kind():
    rows = low_rank(60)
    estimator = AutoencoderTransformer(**QUICK).partial_fit(rows)
    spec, training = specifications(AutoencoderTransformer, rows)
    training = replace(training.single_pass(), seed=estimator.net_.seed)
    assert_same_weights(fit_model(rows, None, spec, training), estimator._model)
