"""The parameters and the fitted attributes that all transformers share, each in one place."""

from __future__ import annotations

import inspect
from abc import ABC
from dataclasses import KW_ONLY, dataclass
from numbers import Integral, Real
from typing import Any

from skae._scaling import SCALINGS
from skae._training.optimizers import OPTIMIZERS
from skae._training.plan import METHODS
from skae.constraints import Interval, StrOptions
from skae.estimators.declaration import choices, parameter
from skae.inits import INITS, Init
from skae.likelihoods import LIKELIHOODS, Likelihood
from skae.networks import ACTIVATIONS, NETWORKS, Network
from skae.noise import NOISES, Noise
from skae.samplers import SAMPLERS, Sampler
from skae.schedules import SCHEDULES, Schedule


@dataclass(eq=False, repr=False)
class ModelParameters(ABC):
    """What the model is: the parameters of each transformer that is one network of its own."""

    n_components: Any = parameter(
        16,
        [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        'int or "auto"',
        """Number of latent dimensions, at least 1. More than there are features is allowed. "auto"
        lets a search before the fit find how many the rows are worth (at most 256, and no more than
        features; sparse codes have four units for each); the fit is then that of the number itself,
        `n_components_`. `size_curve_` has what was compared, and `UnclearSizeWarning` says that the
        number is one of several. The search trains a network of its own, with the standard normal
        prior and by "adam" whatever ``optimizer``, on at most 10,000 rows; see
        the user guide, "Choosing the size". An error beside a ``network`` of modules of one
        size.""",
    )
    _: KW_ONLY
    hidden_layer_sizes: Any = parameter(
        (128,),
        ["array-like", Interval(Integral, 1, None, closed="left")],
        "array-like of int",
        """Units of each hidden layer of the encoder; the decoder mirrors it. ``()`` makes encoder
        and decoder linear. An error beside a ``network`` that does not look at it.""",
    )
    activation: str = choices(
        "silu",
        ACTIVATIONS,
        """Activation of the hidden layers. An error beside a ``network`` that does not look at
        it.""",
    )
    network: Any = choices(
        None,
        NETWORKS,
        """Encoder and decoder: None and "mlp" make fully connected layers as ``hidden_layer_sizes``
        and ``activation`` say, `skae.networks.TiedMLP` the same with one set of weights for both;
        an object such as `skae.networks.CustomNetwork` holds your own torch modules.""",
        Network,
        also=(None,),
    )
    init: Any = choices(
        "auto",
        INITS,
        """Where the training starts: "pca", "factor_analysis" or "cooccurrence" (of columns in
        rows, for texts and the like) find the best model of their kind in closed form, which the
        network is before its first step and improves on from there; "random" draws the first
        weights. "auto" is "cooccurrence" for `AutoencoderTransformer` and `DenoisingAETransformer`
        where no value is below zero, at most a tenth is not zero, there are at least 100 distinct
        rows and 100 columns that are not empty, and the training does not begin with `partial_fit`;
        else "pca" for `AutoencoderTransformer`; "factor_analysis" for `VAETransformer` with a
        Gaussian likelihood ("pca" with one noise variance for all columns; but not with
        ``optimizer="sgd"`` or another prior than the standard normal); else "random". Any but
        "auto" and "random" is an error beside a ``network`` without a linear path, such as your own
        modules, and "cooccurrence" beside sparse codes or a prior. See
        `skae.inits`.""",
        Init,
        also=("auto",),
    )
    likelihood: Any = choices(
        "gaussian",
        LIKELIHOODS,
        """Distribution of X about its reconstruction: "gaussian" for real columns, with a noise
        variance learned for each; "bernoulli" for binary ones (or values in [0, 1]); for counts
        "poisson", "negative_binomial" (more variable), "zero_inflated_negative_binomial" (some of
        them lost) or "multinomial" (bags of words or items); "zero_inflated_lognormal" for amounts
        and TF-IDF weights, with many zeros. "auto" looks at X and takes one of them: see
        `skae.likelihoods.choose_likelihood`.""",
        Likelihood,
        also=("auto",),
    )
    noise: Any = choices(
        None,
        NOISES,
        """How the input of the training step is corrupted, which makes any of the estimators a
        denoising one: "masking" drops entries, "gaussian" adds noise, "salt_and_pepper" puts
        extremes, "swap" values of other rows, "swap_gaussian" does two of these, "thinning" drops
        single items of counts. The target stays clean, and nothing is corrupted outside training.
        None: nothing is.""",
        Noise,
        also=(None,),
    )
    noise_level: float = parameter(
        0.2,
        [Interval(Real, 0, None, closed="left")],
        "float",
        """How much noise: the share of entries that really change, in [0, 1] (for "thinning", of
        items), or for "gaussian" the standard deviation, at least 0. Without effect where
        ``noise`` is None.""",
    )
    sampler: Any = choices(
        "auto",
        SAMPLERS,
        """Where `sample` takes codes from: a density fitted on the training codes, a mixture of
        Gaussians or a kernel about them. "auto" is the prior where the estimator has one,
        "kernel" where codes are sparse, else "gaussian_mixture".""",
        Sampler,
        also=("auto",),
    )
    input_scaling: Any = choices(
        "auto",
        dict.fromkeys(SCALINGS),
        """How columns are scaled for the network; codes follow it, but reconstructions, samples and
        scores are in the units of X. "standard" divides by the standard deviation,
        "fourth_moment" by the fourth root of a third of the fourth central moment (the same for a
        Gaussian column, larger for one of rare large values), "common" all columns by one number,
        so that large ones count for more, all three after centring (in sparse X of the columns far
        from zero alone); "max" divides by the largest absolute value, and "log1p"
        takes log(1 + x), for the encoder alone; neither centres. "auto" is what the likelihood asks
        for: "fourth_moment" for a Gaussian, "log1p" for counts, "max" for amounts, None for binary
        columns.""",
        also=("auto", None),
    )
    sparse_method: str = choices(
        "auto",
        dict.fromkeys(METHODS),
        """How sparse rows are trained on; without effect on dense ones. "dense" makes one batch at
        a time dense; "exact" works on the stored entries and has the same loss; "sampled" moreover
        estimates a part of the loss from some of the columns, and is not for a Gaussian likelihood.
        "auto" goes by the number of columns, the share of stored entries and the likelihood, and
        is "dense" where network, noise or device cannot take sparse rows, which for "exact" and
        "sampled" is an error. Scores are exact whichever it is.""",
        also=("auto",),
    )
    #: The entries of these in the docstring of each.
    _shared_attributes = """
    size_curve_ : dict
        Only with ``n_components="auto"``, and of two distinct rows at least. The sizes that were
        compared ("n_components"; of sparse codes, which have four units for each, a quarter), the
        lower bound of log p(x) of rows held out for each ("score", nats a row; without the tenth
        that is described worst), the standard error of its difference from the best
        ("standard_error"), the mean KL of each latent of the network of the search ("kl", nats, the
        largest first), and the size taken ("chosen"). Where that network had no say, two sizes: of
        ordinary variational autoencoders, with the "kl" of the larger.
    """


@dataclass(eq=False, repr=False)
class TrainingParameters(ABC):
    """How a network is trained."""

    _: KW_ONLY
    alpha: Any = parameter(
        "auto",
        [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        'float or "auto"',
        """Decay of the weight matrices a step, times the learning rate (decoupled, as in AdamW); at
        least 0. "auto" is 1e-4, and 0.3 for likelihoods of counts, where many columns are rare and
        overfitted without it. Where a batch of sparse rows uses few of the columns, it acts
        on the weights of those alone.""",
    )
    l1_ratio: float = parameter(
        0.0,
        [Interval(Real, 0, 1, closed="both")],
        "float",
        """Share of L1 in the weight penalty ``alpha``, in [0, 1]: 0 is decay alone, 1 draws weights
        to exact zeros (see `weight_density_`).""",
    )
    batch_size: Any = parameter(
        "auto",
        [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        'int or "auto"',
        """Rows in a step, at least 1; "auto" is 128 (at a start at "cooccurrence" 256, and 512
        with a Gaussian likelihood), or all rows where there are fewer.""",
    )
    learning_rate: Any = choices(
        "auto",
        SCHEDULES,
        """How the learning rate changes over the ``max_iter`` epochs. "auto" is "cosine", and
        "warmup_stable_decay" where ``early_stopping="auto"`` finds out how long a training is.""",
        Schedule,
        also=("auto",),
    )
    learning_rate_init: Any = parameter(
        "auto",
        [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        'float or "auto"',
        """Highest learning rate, above 0. "auto" is 0.002, and 0.004 where
        ``early_stopping="auto"`` finds out how long a training is.""",
    )
    optimizer: Any = parameter(
        "adam",
        [StrOptions(OPTIMIZERS), callable],
        f"{{{', '.join(map(repr, OPTIMIZERS))}}} or callable".replace("'", '"'),
        """"adam" is AdamW, "sgd" has Nesterov momentum 0.9; a callable takes the groups of
        parameters and returns a torch optimiser.""",
    )
    max_iter: Any = parameter(
        "auto",
        [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        'int or "auto"',
        """Most epochs, at least 1. "auto" takes about 20,000 steps, in at least 10 epochs and at
        most 200 (or those for 500 steps, if they are more); where batches are sparse, about 5,000
        steps in at most 60 epochs. Plain codes that start at principal components get at most 100
        epochs with a Gaussian likelihood; at co-occurrence 5,000 steps and at most 15 epochs (3,000
        and 18 with a Gaussian likelihood). Where
        ``early_stopping="auto"`` finds out how long a training is to be, each of the two trainings
        has at most 10,000 steps, and 100 epochs or those for 500 steps.""",
    )
    tol: float = parameter(
        1e-4,
        [Interval(Real, 0, None, closed="left")],
        "float",
        """An epoch improves when the objective falls by more than ``tol`` times its whole fall so
        far; at least 0.""",
    )
    n_iter_no_change: int = parameter(
        20,
        [Interval(Integral, 1, None, closed="left")],
        "int",
        """Epochs without improvement after which training has converged; the learning rate is then
        brought to zero over as many again.""",
    )
    early_stopping: Any = parameter(
        "auto",
        [StrOptions({"auto"}), "boolean"],
        'bool or "auto"',
        """Whether to hold rows out, stop when their objective no longer improves, and keep the
        weights that were best for them. "auto" does more where the start is found in closed
        form from the columns and rows held out can judge (`VAETransformer` and
        `AutoencoderTransformer`, with another ``init`` than "random", and no texts), in a first fit
        on 40 to 10,000 distinct rows with ``max_iter="auto"`` and another ``optimizer`` than "sgd":
        rows held out (at least 20) say after how many epochs an average of the weights is best for
        them, 0 if the start is; then all rows are trained on for as many, and the average is kept.
        ``callbacks`` and ``verbose`` see this second training alone. Everywhere else "auto" is
        False.""",
    )
    validation_fraction: float = parameter(
        0.1,
        [Interval(Real, 0, 1, closed="neither")],
        "float",
        """Share of the rows that ``early_stopping`` holds out, in (0, 1); with "auto" no fewer
        than 20 rows.""",
    )
    warm_start: bool = parameter(
        False,
        ["boolean"],
        "bool",
        """Whether `fit` goes on from the weights of the last one instead of starting anew. How to
        train is then read anew (rates, ``alpha``, ``l1_ratio``, batches, epochs, stopping,
        ``callbacks``, ``verbose``, ``random_state``, ``sampler``); another value of what makes the
        model (sizes, likelihood, scaling, optimiser, terms of the objective) is an error. It is the
        same for `partial_fit`.""",
    )
    device: str = parameter(
        "auto",
        [str],
        "str",
        """Where to train: "auto" takes CUDA, else MPS, else the CPU; or the name of a torch
        device.""",
    )
    callbacks: Any = parameter(
        None,
        [list, tuple, None],
        "list of skorch callbacks or None",
        """Called during training, as in skorch; not while ``early_stopping="auto"`` finds out how
        long it is to be.""",
    )
    verbose: int = parameter(
        0,
        ["verbose"],
        "int",
        """1 shows a progress bar for fits that take more than a second; 2 and more print a line for
        each epoch instead.""",
    )
    random_state: Any = parameter(
        None,
        ["random_state"],
        "int, RandomState or None",
        """Source of the first weights, the order of rows and all noise. An int gives the same model
        every time. None takes fresh entropy and leaves numpy's global generator alone.""",
    )

    #: The entries of these in the docstring of each transformer.
    _shared_attributes = """
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns; only if all are strings.
    n_components_ : int
        Number of latent dimensions.
    likelihood_ : Likelihood
        The likelihood of the fit: what a name, or "auto", came to.
    sparse_method_ : {"dense", "exact", "sampled"}
        How the training rows were trained on; "dense" for dense ones, too.
    n_iter_ : int
        Epochs done. Where ``early_stopping="auto"`` found their number, the first makes no step.
    loss_curve_ : list of float
        Objective of each epoch, in nats a row: what decides about convergence. It is that of the
        scaled columns, and leaves out a penalty whose weight is being steered. Where the model ends
        with an average of the weights, it is that of the weights themselves.
    history_ : dict of str to list of float
        Each named term of each epoch, unweighted; terms of held-out rows start with ``valid_``.
        "features" is what the encoder learns from where ``init`` is "cooccurrence".
    validation_scores_ : list of float
        Minus the objective of the held-out rows after each epoch; empty without
        ``early_stopping=True``.
    weight_density_ : float
        Share of weights, of those that ``alpha`` acts on, that are not exactly zero. ``l1_ratio``
        draws more of them to zero the larger ``alpha`` is; what a start in closed form does not use
        is zero without it, too.
    net_ : skorch.NeuralNet
        The net that trained the module.
    module_ : torch.nn.Module
        Encoder, bottleneck, decoder and likelihood.
    """


@dataclass(eq=False, repr=False)
class SharedParameters(TrainingParameters, ModelParameters, ABC):
    """The parameters that all transformers of one network share."""


def default_of(name: str) -> Any:
    """Return the default of a shared parameter."""
    return inspect.signature(SharedParameters).parameters[name].default
