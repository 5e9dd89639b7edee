"""The parameters that all estimators share: which values they take."""

from numbers import Integral, Real

from skae._scaling import SCALINGS
from skae._training.optimizers import OPTIMIZERS
from skae._training.plan import METHODS
from skae._validation import choice
from skae.constraints import Interval, StrOptions
from skae.likelihoods import LIKELIHOODS, Likelihood
from skae.networks import ACTIVATIONS, NETWORKS, Network
from skae.schedules import SCHEDULES, Schedule

SHARED_CONSTRAINTS: dict = {
    "n_components": [Interval(Integral, 1, None, closed="left")],
    "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
    "activation": [StrOptions(ACTIVATIONS)],
    "network": choice(NETWORKS, Network),
    "likelihood": [*choice(LIKELIHOODS, Likelihood), StrOptions({"auto"})],
    "input_scaling": [StrOptions(["auto", *SCALINGS]), None],
    "alpha": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
    "sparse_method": [StrOptions(["auto", *METHODS])],
    "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "learning_rate": choice(SCHEDULES, Schedule),
    "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
    "optimizer": [StrOptions(OPTIMIZERS), callable],
    "max_iter": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "tol": [Interval(Real, 0, None, closed="left")],
    "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "warm_start": ["boolean"],
    "device": [str],
    "callbacks": [list, tuple, None],
    "verbose": ["verbose"],
    "random_state": ["random_state"],
}
