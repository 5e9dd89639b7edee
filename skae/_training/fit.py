"""The front door of the engine: rows and a specification in, a fitted model out.

The way of a row from here to the weights: equal rows are merged (`_duplicates.py`); their columns
are scaled and the module is made (`build.py`, `module.py`); rows become batches (`batches.py`) and
batches steps (`trainer.py`, `net.py`). What comes out answers (`fitted.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from skae._duplicates import merge_duplicates, representatives
from skae._training.auto import finds_length
from skae._training.build import build, check_callbacks, starts_linear
from skae._training.diagnosis import advice
from skae._training.fitted import FittedModel
from skae._training.going_on import following, go_on
from skae._training.sizing import find_size
from skae._training.specification import ModelSpec, TrainingSpec
from skae._training.surroundings import usual_torch
from skae._training.trainer import hold_out, train
from skae.exceptions import NonFiniteLossError


@usual_torch(training=True)
def fit_model(
    X,
    weight: np.ndarray | None,
    spec: ModelSpec,
    training: TrainingSpec,
    previous: FittedModel | None = None,
    feature_names: Sequence[str] | None = None,
) -> FittedModel:
    """Train a model on the rows of X.

    Parameters
    ----------
    X : ndarray or CSR of shape (n_samples, n_features)
        Rows within the support of the likelihood.
    weight : ndarray of shape (n_samples,) or None
        Weights, all above zero; None: all one.
    spec : ModelSpec
        What the model is.
    training : TrainingSpec
        How it is trained.
    previous : FittedModel or None
        A model to go on from: it stays what it is, and its net is trained in place, as ``training``
        says (`going_on.py`). `unchanged_on_error` about the call is the way back.
    feature_names : sequence of str or None
        What an error calls the columns.

    Returns
    -------
    FittedModel

    Raises
    ------
    ValueError
        A part of ``spec`` is not that of ``previous``.
    NonFiniteLossError
        The loss or a weight stopped being finite. The model with the last finite weights is its
        attribute ``model``; None where it was in the search for the size.
    """
    index, weight = merge_duplicates(X, weight)
    if previous is None:
        model = _new(X, index, weight, spec, training)
    else:
        model = go_on(previous, spec, training)
    rows, model.n_rows = X[representatives(index, weight)], len(index)
    try:
        with following(model.net, model.training):
            model.converged = _train(model, X, index, weight, is_new=previous is None)
    except NonFiniteLossError as error:
        model.summarise_training(rows)
        resumed = previous is not None
        likely = advice(model, X, index, feature_names, resumed, error)
        error.args, error.model = (f"{error} {likely}",), model
        raise
    model.summarise_training(rows)
    return model


def _train(
    model: FittedModel, X, index: np.ndarray, weight: np.ndarray | None, is_new: bool = True
) -> bool:
    """Train a model; return whether that came to an end of its own."""
    spec, training, make = model.spec, model.training, None
    if is_new and finds_length(spec, training, len(index), starts_linear(model)):
        make = partial(build, X, spec=spec)
    return train(model, X, index, weight, training, make)


def _new(
    X, index: np.ndarray, weight: np.ndarray | None, spec: ModelSpec, training: TrainingSpec
) -> FittedModel:
    """Return a model yet to be trained, its size found if it is not given.

    Of rows held out nothing is known beforehand.
    """
    check_callbacks(training.callbacks)  # before a search takes its time
    if training.early_stopping is True:
        (index, weight), _ = hold_out(X, index, weight, training)
    curve = None
    if spec.n_components == "auto":
        if len(index) > 1:
            curve = find_size(X, index, weight, spec, training, _of_given_size)
        spec = spec.of_size(1 if curve is None else curve.chosen)
    model = build(X, index, weight, spec, training)
    model.size_curve = curve
    return model


def _of_given_size(
    X, index: np.ndarray, weight: np.ndarray | None, spec: ModelSpec, training: TrainingSpec
) -> FittedModel:
    """Return a model trained on some rows, for a search."""
    model = build(X, index, weight, spec, training)
    _train(model, X, index, weight)
    model.summarise_training(X[representatives(index, weight)])
    return model
