"""A model before its training: scaling, plan, module and net, made of rows and a specification."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp
from skorch.callbacks import BatchScoring, Callback, EpochScoring, PassthroughScoring

from skae._random import Stream, derive_seed
from skae._scaling import ColumnSummary, Scaling, fit_scaling, summarise_columns
from skae._training.auto import choose_device, choose_rates, default_scaling, finds_length
from skae._training.batches import to_csr, to_tensor
from skae._training.encoder_input import as_encoder_sees
from skae._training.fitted import FittedModel, totals_of
from skae._training.module import AutoencoderModule
from skae._training.net import AutoencoderNet, WeightedSum
from skae._training.optimizers import takes_row_gradients
from skae._training.plan import choose_plan
from skae._training.specification import ModelSpec, TrainingSpec
from skae.inits import LinearStart, Random, StartRows
from skae.likelihoods import Likelihood

_ROWS_FOR_NORM = 10_000
_TOTAL_CAP = 10.0  # medians


def build(
    X, index: np.ndarray, weight: np.ndarray | None, spec: ModelSpec, training: TrainingSpec
) -> FittedModel:
    """Return a model with its first weights, its scaling fixed by the rows ``index`` of X.

    A location-scale family is trained on scaled rows; for any other likelihood the target is X
    itself, and only what the encoder sees is scaled.
    """
    check_callbacks(training.callbacks)
    likelihood, device = spec.likelihood, choose_device(training.device)
    columns = summarise_columns(X, index, weight)
    of_rows, of_encoder = _scalings(spec, columns, sp.issparse(X))
    input_norm = total_cap = None
    if likelihood.conditional_on_total:
        input_norm, total_cap = _norm_and_cap(X[index[:_ROWS_FOR_NORM]], of_encoder)
    seen = partial(as_encoder_sees, X, index, of_encoder, input_norm)
    start = _start(spec, training, lambda: StartRows(X, index, weight, columns, of_rows, seen()))
    starts = start is not None and start.words is None
    training = choose_rates(training, finds_length(spec, training, len(index), starts))
    is_model = start is not None and likelihood.raw_is_linear
    spec = replace(spec, bottleneck=spec.bottleneck.begun(is_model))
    columns = _in_units_of(of_rows, columns, likelihood)
    plan = choose_plan(spec.sparse_method, X, likelihood, columns, device)
    # A function and no module, of which skorch would make a copy with other arguments.
    module = partial(
        AutoencoderModule,
        network=spec.network,
        likelihood=likelihood,
        bottleneck=spec.bottleneck,
        layout=spec.layout(X.shape[1])._replace(linear_path=start is not None),
        columns=columns,
        row_scaling=of_rows,
        encoder_scaling=of_encoder,
        input_norm=input_norm,
        total_cap=total_cap,
        noise=spec.noise,
        noise_level=spec.noise_level,
        plan=plan,
        sparse_method=spec.sparse_method,
        start=start,
        row_gradients=takes_row_gradients_of(training),
        seed=training.seed,
    )
    net = make_net(module, training, device)
    # What was found once, and is in the weights now, is not kept with the net, nor pickled.
    net.module = partial(module, start=None)
    return FittedModel(spec, training, X.shape[1], net, of_rows, sp.issparse(X))


def starts_linear(model: FittedModel) -> bool:
    """Return whether a model that was just built is a linear one of the columns."""
    module = model.net.module_
    return module.started and module.words is None


def _start(
    spec: ModelSpec, training: TrainingSpec, rows: Callable[[], StartRows]
) -> LinearStart | None:
    """Return the start in closed form; None where the training starts at random."""
    if isinstance(spec.init, Random):  # which does not ask for rows
        return None
    seed = derive_seed(training.seed, Stream.START)
    return spec.init.fit(rows(), spec.size, spec.bottleneck.code, seed)


def _scalings(
    spec: ModelSpec, columns: ColumnSummary, sparse: bool
) -> tuple[Scaling | None, Scaling | None]:
    """Return how rows are scaled, and how what the encoder alone sees."""
    likelihood, kind = spec.likelihood, spec.input_scaling
    kind = default_scaling(likelihood) if kind == "auto" else kind
    scaling = fit_scaling(kind, columns, sparse)
    if likelihood.location_scale:
        return scaling, None
    if scaling is not None and sparse:
        scaling = scaling._replace(shift=None)  # zeros are zeros for the likelihood
    return None, scaling


def _in_units_of(
    scaling: Scaling | None, columns: ColumnSummary, likelihood: Likelihood
) -> ColumnSummary:
    """Return the summary of the columns in the units of the network."""
    if scaling is None:
        return columns
    if scaling.logarithm:
        raise ValueError(
            "input_scaling='log1p' is for likelihoods of counts, where it changes what the "
            f"encoder sees. Got likelihood {likelihood}, which is scaled with X. Take the "
            "logarithm of X yourself, or choose another input_scaling, such as 'auto'."
        )
    deviation = columns.deviation / scaling.scale
    return columns._replace(mean=scaling.apply(columns.mean), deviation=deviation)


def _norm_and_cap(rows, scaling: Scaling | None) -> tuple[float, float]:
    """Return the norm that rows are brought to for the encoder, and the largest total that counts.

    The norm is the root mean square of the norms; the largest total is ten times the median,
    beyond which a few rows would decide alone what is learned.
    """
    if sp.issparse(rows):
        cells = to_csr(rows, scaling, "cpu").values
    else:
        cells = to_tensor(rows, scaling, "cpu")
    norm = float(cells.double().square().sum() / rows.shape[0]) ** 0.5
    totals = totals_of(rows)
    usual = np.median(totals[totals > 0]) if totals.any() else 1.0
    return norm or 1.0, _TOTAL_CAP * float(usual)


def make_net(module: Any, training: TrainingSpec, device: str) -> AutoencoderNet:
    """Return an initialised net about what ``module`` makes."""
    net = AutoencoderNet(
        module,
        WeightedSum,
        optimizer=training.optimizer,
        lr=training.highest_rate,
        weight_decay=training.weight_decay,
        device=device,
        callbacks=list(training.callbacks),
        train_split=None,
        verbose=training.verbose,
        seed=training.seed,
    )
    return net.initialize()


def check_callbacks(callbacks: tuple) -> None:
    """Raise ``ValueError`` where a callback is none, or needs what this training does not have."""
    for callback in callbacks:
        kind = _kind(callback)
        if not (isinstance(kind, type) and issubclass(kind, Callback)):
            raise ValueError(
                "callbacks must hold skorch callbacks, their classes, or pairs of a name and one. "
                f"Got {list(callbacks)!r} instead."
            )
        if issubclass(kind, EpochScoring | BatchScoring | PassthroughScoring):
            raise ValueError(
                f"{kind.__name__} scores predictions or single batches, which the training of an "
                "autoencoder does not have. The terms of each epoch stand in history_ after fit, "
                "and in net.history for a callback of your own; early_stopping=True adds those of "
                "rows held out."
            )


def _kind(callback) -> Any:
    """Return the class of a callback of the user's, however it is given."""
    if isinstance(callback, tuple) and len(callback) == 2 and isinstance(callback[0], str):
        callback = callback[1]
    return callback if isinstance(callback, type) else type(callback)


def takes_row_gradients_of(training: TrainingSpec) -> bool:
    """Return whether gradients of some rows are taken, by the optimiser and by all callbacks."""
    # What a callback calls to look at gradients, as clipping does, takes dense ones alone.
    return takes_row_gradients(training.optimizer) and not any(
        _kind(callback).on_grad_computed is not Callback.on_grad_computed
        for callback in training.callbacks
    )
