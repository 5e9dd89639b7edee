"""The levels of a stack as estimators: what each becomes for its place, and how it is trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.base import clone

from skae._random import Stream, derive_seed
from skae._validation import resolve
from skae.estimators.base import BaseAutoencoder
from skae.estimators.specify import choose_likelihood_for, is_auto
from skae.exceptions import NonFiniteLossError
from skae.inits import INITS, CooccurrenceInit
from skae.likelihoods import Likelihood
from skae.networks import NETWORKS


def checked_sizes(given: Any) -> list[int]:
    """Return the number of components of each level.

    Raises
    ------
    ValueError
        There is none, or one is no whole number above zero.
    """
    sizes = [given] if isinstance(given, Integral) else list(given)
    whole = [isinstance(size, Integral) and not isinstance(size, bool) for size in sizes]
    if not sizes or not all(whole) or min(sizes) < 1:
        raise ValueError(
            "layer_sizes must hold a whole number of at least 1 for each level. Got "
            f"{given!r} instead."
        )
    return [int(size) for size in sizes]


def checked_levels(given: Any) -> list[BaseAutoencoder]:
    """Return copies of the levels that were given one by one.

    Raises
    ------
    ValueError
        There is none, or one is no transformer of one network.
    """
    if not given:
        raise ValueError(
            f"levels must hold one estimator at least. Got {given!r} instead. Leave it at None to "
            "have levels of layer_sizes."
        )
    for place, level in enumerate(given):
        if not isinstance(level, BaseAutoencoder):
            raise ValueError(
                "levels must hold transformers of skae that are one network, such as "
                f"AutoencoderTransformer(). Got {level!r} at place {place} instead."
            )
    return [clone(level) for level in given]


def on_codes(level: BaseAutoencoder) -> Any:
    """Return a copy of a level that is given codes where that one is given rows."""
    usual = {"likelihood": "gaussian", "input_scaling": "auto", "sparse_method": "auto"}
    return clone(level).set_params(**usual)


def prepare(level: Any, place: int, seed: int, verbose: int) -> None:
    """Let a level have what it does not say itself.

    It is set directly, and not by ``set_params``: what a user asked for is checked before.
    """
    level._validate_params()
    if getattr(level, "transform_n_active", None) is not None:
        raise ValueError(
            "A level of a stack hands up the code that it was trained with. Got transform_n_active="
            f"{level.transform_n_active!r} at place {place}. Leave it at None."
        )
    if level.random_state is None:
        level.random_state = derive_seed(seed, Stream.LEVELS, place, bits=31)
    level.verbose = max(level.verbose, verbose)
    level.set_output(transform="default")


def settle_likelihood(level: Any, place: int, rows, likelihood: Likelihood) -> None:
    """Let a level have a likelihood of what it is given, and what goes by that.

    Parameters
    ----------
    level : estimator
    place : int
        0 for the first level, which is given rows of X.
    rows : ndarray or CSR
        What it is given.
    likelihood : Likelihood
        Of X.

    Raises
    ------
    ValueError
        The level cannot be one of a stack.
    """
    level.likelihood = choose_likelihood_for(level, rows)[0] if place else likelihood
    if place and level.likelihood.conditional_on_total:
        raise ValueError(
            "A level above the first is given codes, which are no counts. Got likelihood="
            f"{level.likelihood} at place {place}. Choose likelihood='gaussian' there."
        )
    if place and is_auto(level.input_scaling) and level.likelihood.location_scale:
        level.input_scaling = "common"
    init = _init(level)
    if isinstance(init, CooccurrenceInit):
        raise ValueError(
            "No level can start at 'cooccurrence', whose features of words are no layer of a "
            f"network. Got init={level.init!r} at place {place}. Choose init='auto'."
        )
    level.init = init


def _init(level: Any) -> Any:
    """Return where a level starts: not at words, which no other level could stand on."""
    if not is_auto(level.init):
        return resolve(level.init, INITS).for_parts()
    network = resolve("mlp" if level.network is None else level.network, NETWORKS)
    if not network.has_linear_path:
        return level.init
    return level._auto_init(level.likelihood).for_parts()


@contextmanager
def told_of(level: Any) -> Iterator[None]:
    """Let an error say which level it is of, and hand over no model: a level's is no stack's."""
    try:
        yield
    except NonFiniteLossError as error:
        raise NonFiniteLossError(
            f"{level._title}: the loss or a weight was not finite, so that there is no stack. The "
            "likely cause is a learning rate that is too high: lower learning_rate_init of this "
            f"level (it is {level.learning_rate_init!r})."
        ) from error
    except Exception as error:
        if error.args and isinstance(error.args[0], str):
            error.args = (f"{level._title}: {error.args[0]}", *error.args[1:])
        raise


def fit_level(level: Any, rows, weight: np.ndarray | None, one_epoch: bool) -> None:
    """Train a level on rows or codes."""
    (level.partial_fit if one_epoch else level.fit)(rows, sample_weight=weight)


def fit_again_and_again(
    level: Any, codes, weight: np.ndarray | None, n_times: int, one_epoch: bool
) -> None:
    """Train a level on codes, and then on its own codes as well, as often as it is applied."""
    asked, level.warm_start = level.warm_start, True
    for n_given in range(1, n_times + 1):
        given = [codes]
        while len(given) < n_given:
            given.append(level.transform(given[-1]))
        rows = sp.vstack(given, format="csr") if sp.issparse(codes) else np.vstack(given)
        weights = None if weight is None else np.tile(weight, n_given)
        fit_level(level, rows, weights, one_epoch)
    level.warm_start = asked
