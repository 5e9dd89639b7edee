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
from skae._training.written import read, write
from skae.estimators.specify import choose_likelihood_for, model_spec, training_spec
from skae.likelihoods import LIKELIHOODS
from skae.networks import CustomNetwork
from skae.noise import NOISES
from skae.priors import PRIORS
from skae.samplers import SAMPLERS
from skae.schedules import SCHEDULES, Schedule
from skae.sparsity import SPARSITIES

from .helpers import ESTIMATORS, QUICK, counts, low_rank

CHOICES = [
    *((AutoencoderTransformer, {"likelihood": name}) for name in LIKELIHOODS),
    *((AutoencoderTransformer, {"sampler": name}) for name in SAMPLERS),
    *((AutoencoderTransformer, {"learning_rate": name}) for name in SCHEDULES),
    *((DenoisingAETransformer, {"noise": name}) for name in NOISES),
    *((SparseAutoencoderTransformer, {"sparsity": name}) for name in SPARSITIES),
    *((VAETransformer, {"prior": name}) for name in PRIORS),
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
    with pytest.raises(ValueError, match=r"'Halving' is not one of skae's.*classes="):
        read(data)


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
