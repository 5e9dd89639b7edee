"""From parameters to a specification for the engine: names resolved, values checked together."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from skae._random import draw_seed
from skae._training.auto import default_alpha
from skae._training.fitted import FittedModel
from skae._training.plain_data import same
from skae._training.specification import ModelSpec, TrainingSpec
from skae._validation import resolve
from skae.estimators.parameters import default_of
from skae.inits import INITS, Init, Random
from skae.likelihoods import LIKELIHOODS, Likelihood, choose_likelihood
from skae.networks import NETWORKS, Network
from skae.noise import NOISES, Noise
from skae.samplers import SAMPLERS, Sampler
from skae.schedules import SCHEDULES


def model_spec(estimator: Any, previous: FittedModel | None = None) -> ModelSpec:
    """Return what the model of an estimator is, once its likelihood is chosen.

    With a model that is to be trained further, "auto" is what it came to be there.
    """
    before, network = None if previous is None else previous.spec, _network(estimator)
    init = _init(estimator, network, before)
    return ModelSpec(
        n_components=_n_components(estimator, network, before),
        hidden_layer_sizes=_layer_sizes(estimator.hidden_layer_sizes),
        activation=estimator.activation,
        network=network,
        init=init,
        bottleneck=estimator._bottleneck(),
        likelihood=_likelihood(estimator),
        input_scaling=estimator.input_scaling,
        sparse_method=estimator.sparse_method,
        noise=_noise(estimator),
        noise_level=estimator.noise_level,
        sampler=_sampler(estimator),
    )


def training_spec(estimator: Any, seed: int) -> TrainingSpec:
    """Return how an estimator trains, once its likelihood is chosen."""
    likelihood = estimator.likelihood_
    return TrainingSpec(
        batch_size=estimator.batch_size,
        max_iter=estimator.max_iter,
        optimizer=estimator.optimizer,
        learning_rate="auto"
        if is_auto(estimator.learning_rate)
        else resolve(estimator.learning_rate, SCHEDULES),
        learning_rate_init=estimator.learning_rate_init,
        alpha=default_alpha(likelihood) if estimator.alpha == "auto" else estimator.alpha,
        l1_ratio=estimator.l1_ratio,
        tol=estimator.tol,
        n_iter_no_change=estimator.n_iter_no_change,
        early_stopping="auto"
        if is_auto(estimator.early_stopping)
        else bool(estimator.early_stopping),
        validation_fraction=estimator.validation_fraction,
        device=estimator.device,
        callbacks=tuple(estimator.callbacks or ()),
        verbose=int(estimator.verbose),
        title=estimator._title or type(estimator).__name__,
        seed=seed,
    )


def choose_likelihood_for(estimator: Any, X) -> tuple[Likelihood, bool]:
    """Return the likelihood of a fit on the rows of X, and whether "auto" chose it."""
    given = estimator._given_likelihood
    auto = is_auto(given)
    return resolve(choose_likelihood(X) if auto else given, LIKELIHOODS), auto


def is_auto(given: Any) -> bool:
    """Return whether the value of a parameter is the word "auto"."""
    return isinstance(given, str) and given == "auto"


def seed_of(random_state: Any, previous: FittedModel | None) -> int:
    """Return the seed of a training: one that goes on keeps its own, unless an int is another."""
    if previous is None or isinstance(random_state, Integral):
        return draw_seed(random_state)
    return previous.net.seed


def _n_components(estimator: Any, network: Network, before: ModelSpec | None) -> Any:
    """Return the number of latents; a training that goes on keeps the one that was found."""
    given = estimator.n_components
    if not is_auto(given):
        return given
    if before is not None:
        return before.n_components
    if not network.takes_any_size:
        raise ValueError(
            f"A search for the size needs a network that can be built for any; {network} was given "
            f"modules of one. Got n_components={given!r} beside it. Give their number, or pass "
            "callables (n_inputs, n_outputs) -> module."
        )
    return given


def _likelihood(estimator: Any) -> Likelihood:
    """Return the likelihood that was chosen, or another that is asked for since."""
    if is_auto(estimator.likelihood):
        return estimator.likelihood_
    given = resolve(estimator.likelihood, LIKELIHOODS)
    return estimator.likelihood_ if same(given, estimator.likelihood_) else given


def _layer_sizes(given) -> tuple[int, ...]:
    sizes = (given,) if isinstance(given, Integral) else tuple(given)
    if not all(isinstance(size, Integral) and int(size) >= 1 for size in sizes):
        raise ValueError(
            f"hidden_layer_sizes must hold whole numbers of at least 1. Got {sizes!r} instead."
        )
    return tuple(map(int, sizes))


def _network(estimator: Any) -> Network:
    """Return the network; layer sizes beside one that does not look at them are an error."""
    network = resolve("mlp" if estimator.network is None else estimator.network, NETWORKS)
    given = {
        "hidden_layer_sizes": _layer_sizes(estimator.hidden_layer_sizes),
        "activation": estimator.activation,
    }
    for name, value in given.items():
        if not network.takes_layer_sizes and value != default_of(name):
            raise ValueError(
                f"{name} shapes the default network; {type(network).__name__} does not look at "
                f"it. Got {name}={value!r} beside it. Leave {name} at {default_of(name)!r}, or "
                "network at None."
            )
    return network


def _init(estimator: Any, network: Network, before: ModelSpec | None) -> Init:
    """Return the start."""
    given = estimator.init
    if is_auto(given) and before is not None:
        return before.init
    if is_auto(given):
        return estimator._auto_init(estimator.likelihood_) if network.has_linear_path else Random()
    init = resolve(given, INITS)
    if not (network.has_linear_path or isinstance(init, Random)):
        raise ValueError(
            f"A start in closed form needs a linear path, which {type(network).__name__} does not "
            f"have. Got init={given!r} beside it. Leave init at 'auto', or network at None."
        )
    return init


def _noise(estimator: Any) -> Noise | None:
    if estimator.noise is None:
        return None
    noise = resolve(estimator.noise, NOISES)
    noise.check_level(estimator.noise_level)
    return noise


def _sampler(estimator: Any) -> Sampler | None:
    """Return the density that new codes come from, or None for the prior."""
    given, auto = estimator.sampler, estimator._auto_sampler
    chosen = auto if is_auto(given) else given
    return None if chosen is None else resolve(chosen, SAMPLERS)
