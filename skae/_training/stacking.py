"""Levels that were trained one upon another, put together as one network.

The model of a stack is an ordinary one: likelihood, scaling and noise are those of the first
level, the bottleneck is that of the top, the encoder is all encoders one after another with the
codes of the levels between them, and the decoder all decoders the other way round. Training,
answers, sparse rows and pickles are those of any model.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from torch import nn

from skae._duplicates import merge_duplicates, representatives
from skae._kernels.input import InputLayer
from skae._modules import is_plain
from skae._training.auto import choose_device, choose_rates
from skae._training.bottlenecks import Bottleneck, SparseBottleneck
from skae._training.build import make_net, takes_row_gradients_of
from skae._training.fitted import FittedModel
from skae._training.levels import LevelCode, LevelsNetwork, ToLevel, ToLevelBelow
from skae._training.module import Observation
from skae._training.net import AutoencoderNet
from skae._training.specification import ModelSpec, TrainingSpec
from skae._training.surroundings import usual_torch
from skae._training.trainer import hold_out
from skae.inits import Random


def rows_to_learn(
    X, weight: np.ndarray | None, training: TrainingSpec, whole: bool
) -> tuple[Any, Any]:
    """Return the distinct rows that levels may learn from, and their weights.

    Of the rows that a training of all levels together holds out nothing is known beforehand; there
    are none where that training is not to come (``whole``).
    """
    index, weight = merge_duplicates(X, weight)
    if training.early_stopping is True and not whole:
        (index, weight), _ = hold_out(X, index, weight, training)
    return X[index], weight


@usual_torch(training=True)
def compose(
    levels: Sequence[FittedModel], training: TrainingSpec, X, weight: np.ndarray | None
) -> FittedModel:
    """Return the model of a stack, which answers as its levels do one after another.

    Where raw outputs are means, the spread of rows about their reconstructions is that about those
    of the stack; else it is that of the first level, until it is trained.

    Parameters
    ----------
    levels : sequence of FittedModel
        The first was trained on rows, each other one on the codes of the one before. One that
        occurs several times is one set of weights.
    training : TrainingSpec
        How the whole is to be trained.
    X : ndarray or CSR
        Rows that the levels learned from.
    weight : ndarray or None
    """
    first, spec = levels[0], _spec_of(levels)
    training = choose_rates(training, finds_length=False)
    # All else that the module is made of is as for the first level.
    module = partial(
        first.net.module,
        network=_network(levels),
        bottleneck=spec.bottleneck,
        layout=spec.layout(first.n_features),
        row_gradients=takes_row_gradients_of(training),
        seed=training.seed,
    )
    net = make_net(module, training, choose_device(training.device))
    net.module, net.module_.network = partial(module, network=spec.network), spec.network
    _take_over(net.module_, first.net.module_, levels[-1].net.module_)
    _share_state(net, levels)
    model = FittedModel(spec, training, first.n_features, net, first.scaling, first.sparse)
    if first.likelihood.raw_is_linear:
        _measure_spread(model, first, X, weight)
    return model


def _spec_of(levels: Sequence[FittedModel]) -> ModelSpec:
    """Return what the model of a stack is."""
    first, top = levels[0], levels[-1]
    return replace(
        first.spec,
        n_components=top.spec.size,
        hidden_layer_sizes=(),
        network=LevelsNetwork(),
        init=Random(),
        bottleneck=top.spec.bottleneck.in_stack(top.training_codes),
        sampler=top.spec.sampler,
    )


def _measure_spread(model: FittedModel, first: FittedModel, X, weight: np.ndarray | None) -> None:
    """Let the likelihood start at the errors that a model makes on rows."""
    index, weight = merge_duplicates(X, weight)
    left = model.variance_left(X[representatives(index, weight)])
    columns = first.net.module.keywords["columns"]
    begun = Observation(model.likelihood, columns.mean, columns.variance, left)
    model.net.module_.observation.load_state_dict(begun.state_dict())


def answering(model: FittedModel, X, weight: np.ndarray | None) -> FittedModel:
    """Return a model that is not to be trained, with what its answers need noted of rows."""
    index, weight = merge_duplicates(X, weight)
    model.summarise_training(X[representatives(index, weight)])
    model.converged = True
    return model


def _take_over(module: Any, first: Any, top: Any) -> None:
    """Let a module keep what was learned beside the weights of encoders and decoders."""
    module.observation.load_state_dict(first.observation.state_dict())
    module.encoder_input.load_state_dict(first.encoder_input.state_dict())
    _fill(module.bottleneck, top.bottleneck)


def _fill(bottleneck: Bottleneck, trained: Bottleneck) -> None:
    """Let a bottleneck know what one that was trained does; a bound on its number is its own."""
    bottleneck.load_state_dict(trained.state_dict(), strict=False)


def _share_state(net: AutoencoderNet, levels: Sequence[FittedModel]) -> None:
    """Let what a rule trains be one for the top, and for places below that share its weights."""
    module: Any = net.module_
    codes = [part for part in module.encoder if isinstance(part, LevelCode)]
    again = [code for code, level in zip(codes, levels, strict=False) if level is levels[-1]]
    for code in again:
        if isinstance(code.bottleneck, SparseBottleneck):
            code.bottleneck.state = module.bottleneck.state
    if again:
        net.initialize_optimizer()


def _network(levels: Sequence[FittedModel]) -> LevelsNetwork:
    """Return the network that begins as all levels one after another."""
    codes, observations = _codes(levels), _observations(levels)
    encoder = _parts(levels[0].net.module_.encoder)
    decoder = _parts(levels[0].net.module_.decoder)
    for place in range(1, len(levels)):
        below, level = levels[place - 1], levels[place]
        module, code = level.net.module_, codes[id(below)]
        encoder_input = copy.deepcopy(module.encoder_input)
        encoder += [code, ToLevel(level.scaling, encoder_input), *_parts(module.encoder)]
        back = ToLevelBelow(observations[id(level)], level.scaling, code.bottleneck)
        decoder = [*_parts(module.decoder), back, *decoder]
    return LevelsNetwork(nn.Sequential(*encoder), nn.Sequential(*decoder))


def _codes(levels: Sequence[FittedModel]) -> dict[int, LevelCode]:
    """Return the codes of levels, by the level: one for all places of one that is there twice."""
    return {id(level): LevelCode(_bottleneck_of(level)) for level in levels[:-1]}


def _bottleneck_of(level: FittedModel) -> Bottleneck:
    spec, trained = level.spec, level.net.module_.bottleneck
    made = spec.bottleneck.in_stack(level.training_codes)
    bottleneck = made.build(spec.layout(level.n_features), level.training.seed)
    _fill(bottleneck, trained)
    bottleneck.turn, bottleneck.centre = trained.turn, trained.centre
    # A rule may have something to train; a prior below the top has no say any more.
    return bottleneck.requires_grad_(isinstance(bottleneck, SparseBottleneck))


def _observations(levels: Sequence[FittedModel]) -> dict[int, nn.Module]:
    """Return what raw outputs of levels mean, as it was learned: no code is a target any more."""
    given = {id(level): level.net.module_.observation for level in levels[1:]}
    return {key: copy.deepcopy(one).requires_grad_(False) for key, one in given.items()}


def _parts(module: Any) -> list[nn.Module]:
    """Return the layers of an encoder or decoder, dense ones where it meets the rows."""
    parts = [module]
    if type(module) is nn.Sequential and is_plain(module):
        parts = list(module)
    return [one.to_linear() if isinstance(one, InputLayer) else one for one in parts]
