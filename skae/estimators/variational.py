"""The variational autoencoder."""

from __future__ import annotations

import warnings
from functools import partial
from numbers import Integral, Real

from skae._random import torch_generator
from skae._training.bottlenecks import VariationalBottleneck
from skae._training.surroundings import usual_torch
from skae._validation import choice, resolve
from skae.constraints import Interval
from skae.estimators.base import SHARED_CONSTRAINTS, BaseAutoencoder
from skae.exceptions import PosteriorCollapseWarning
from skae.priors import PRIORS, Prior
from skae.schedules import SCHEDULES, LinearWarmup, Schedule

# A latent whose posterior differs from the prior by less than this (nats) says nothing.
_COLLAPSED = 0.01


class VAETransformer(BaseAutoencoder):
    r"""Variational autoencoder: a generative model with a code for each row.

    `score` is a lower bound of log p(x), so models of different size can be compared on held-out
    rows, with each other and with `sklearn.decomposition.PCA`, and a grid search without labels
    finds the number of latent dimensions. The non-linear counterpart of factor analysis.

    Parameters
    ----------
    n_components : int, default=16
        Number of latent dimensions, at least 1. More than there are features is allowed.
    beta : float, default=1.0
        Weight of the KL term in training, at least 0. 1 is the evidence lower bound; more makes the
        latents more independent and the reconstruction worse (beta-VAE).
    kl_warmup : float or Schedule, default=0.25
        Share of the training, in [0, 1], over which the KL term comes in, or a schedule of your
        own.
    free_bits : float, default=0.0
        Nats of KL that each latent, averaged over a batch, may use without cost; at least 0.
    prior : {"standard_normal"} or Prior, default="standard_normal"
        Distribution of the codes before a row is seen.
    n_importance_samples : int, default=1
        1: `score_samples` is the evidence lower bound. More: the importance-weighted bound with
        that many samples, which is tighter.
    hidden_layer_sizes : array-like of int, default=(128,)
        Units of each hidden layer of the encoder; the decoder mirrors it. ``()`` makes encoder and
        decoder linear.
    activation : {"identity", "logistic", "tanh", "relu", "elu", "gelu", "silu"}, default="silu"
        Activation of the hidden layers.
    network : {"mlp"} or Network, default="mlp"
        Encoder and decoder: fully connected layers, or an object such as
        `skae.networks.CustomNetwork` that holds your own torch modules.
    likelihood : str or Likelihood, default="gaussian"
        Distribution of X about its reconstruction: "gaussian" for real columns, with a noise
        variance learned for each; "bernoulli" for binary ones (or values in [0, 1]); for counts
        "poisson", "negative_binomial" (more variable), "zero_inflated_negative_binomial" (some of
        them lost) or "multinomial" (bags of words or items); "zero_inflated_lognormal" for amounts
        and TF-IDF weights, with many zeros. "auto" looks at X and takes one of them: see
        `skae.likelihoods.choose_likelihood`.
    input_scaling : {"auto", "standard", "fourth_moment", "max", "log1p"} or None, default="auto"
        How columns are scaled for the network; codes follow it, but reconstructions, samples and
        scores are in the units of X. "standard" divides by the standard deviation,
        "fourth_moment" by the fourth root of a third of the fourth central moment (the same for a
        Gaussian column, larger for one of rare large values), both after centring where X is
        dense; "max" divides by the largest absolute value, and "log1p" takes log(1 + x), for the
        encoder alone; neither centres. "auto" is what the likelihood asks for: "fourth_moment" for
        a Gaussian, "log1p" for counts, "max" for amounts, None for binary columns.
    sparse_method : {"auto", "dense", "exact", "sampled"}, default="auto"
        How sparse rows are trained on; without effect on dense ones. "dense" makes one batch at a
        time dense; "exact" works on the stored entries and has the same loss; "sampled" moreover
        estimates a part of the loss from some of the columns, and is not for a Gaussian likelihood.
        "auto" goes by the number of columns, the share of stored entries and the likelihood.
        Scores are exact whichever it is.
    alpha : float or "auto", default="auto"
        Decay of the weight matrices a step, times the learning rate (decoupled, as in AdamW); at
        least 0. "auto" is 1e-4, and 0.3 for likelihoods of counts, where many columns are rare and
        learned by heart without it. Where a batch of sparse rows uses few of the columns, it acts
        on the weights of those alone.
    batch_size : int or "auto", default="auto"
        Rows in a step, at least 1; "auto" is 128, or all rows where there are fewer.
    learning_rate : {"constant", "linear_warmup", "cosine"} or Schedule, default="cosine"
        How the learning rate changes over the ``max_iter`` epochs.
    learning_rate_init : float, default=2e-3
        Highest learning rate, above 0.
    optimizer : {"adam", "sgd"} or callable, default="adam"
        "adam" is AdamW, "sgd" has Nesterov momentum 0.9; a callable takes the groups of
        parameters and returns a torch optimiser.
    max_iter : int or "auto", default="auto"
        Most epochs, at least 1. "auto" takes about 20,000 steps, in at least 10 epochs and at most
        200 (or those for 500 steps, if they are more); where batches are sparse, about 5,000 steps
        in at most 60 epochs.
    tol : float, default=1e-4
        An epoch improves when the objective falls by more than ``tol`` times its whole fall so far;
        at least 0.
    n_iter_no_change : int, default=20
        Epochs without improvement after which training has converged; the learning rate is then
        brought to zero over as many again.
    early_stopping : bool, default=False
        Whether to hold rows out, stop when their objective no longer improves, and keep the weights
        that were best for them.
    validation_fraction : float, default=0.1
        Share of the rows that ``early_stopping`` holds out, in (0, 1).
    warm_start : bool, default=False
        Whether `fit` goes on from the weights of the last one instead of starting anew. The
        network, the scaling, the optimiser and the terms of the objective then stay what they are;
        what decides how long to train is read anew.
    device : str, default="auto"
        Where to train: "auto" takes CUDA, else MPS, else the CPU; or the name of a torch device.
    callbacks : list of skorch callbacks or None, default=None
        Called during training, as in skorch.
    verbose : int, default=0
        1 shows a progress bar for fits that take more than a second; 2 and more print a line for
        each epoch instead.
    random_state : int, RandomState or None, default=None
        Source of the first weights, the order of rows and all noise. An int gives the same model
        every time. None takes fresh entropy and leaves numpy's global generator alone.

    Attributes
    ----------
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
        Epochs done.
    loss_curve_ : list of float
        Objective of each epoch, in nats a row: what decides about convergence. It is that of the
        scaled columns, and leaves out a penalty whose weight is being steered.
    history_ : dict of str to list of float
        Each named term of each epoch, unweighted; terms of held-out rows start with ``valid_``.
    validation_scores_ : list of float
        Minus the objective of the held-out rows after each epoch; empty without
        ``early_stopping``.
    net_ : skorch.NeuralNet
        The net that trained the module.
    module_ : torch.nn.Module
        Encoder, bottleneck, decoder and likelihood.
    kl_ : ndarray of shape (`n_components_`,)
        Mean KL of each latent from the prior, in nats, on (at most 10,000) training rows. Near
        zero for a latent that the model does not use.

    Warns
    -----
    PosteriorCollapseWarning
        No latent says anything of the row.

    See Also
    --------
    AutoencoderTransformer : Deterministic codes.
    sklearn.decomposition.FactorAnalysis : The linear case, solved exactly.

    Notes
    -----
    With posterior :math:`q(z \mid x) = N(\mu(x), \operatorname{diag} \sigma^2(x))` the loss of a
    fit is

    .. math::

        \frac1n \sum_i -\mathrm{E}_{q(z \mid x_i)} \log p(x_i \mid g(z))
        + \beta \sum_j \mathrm{KL}(q(z_j \mid x_i) \,\Vert\, p(z_j))

    (Kingma and Welling 2014, equation 3), both summed over dimensions, in nats. The expectation is
    one draw in training. `score_samples` uses :math:`\beta = 1` and a fixed rule for it: the mean
    over about 32 points on spheres about the posterior mean, turned at random once for each fit, so
    that the same row has the same score whatever the batch. The rule is exact for a linear decoder
    with Gaussian noise and up to 16 components, and an approximation otherwise. With
    ``n_importance_samples`` the score is the bound of Burda et al. (2016), equation 8, at draws
    that are fixed by the fit. For counts, every log p here is one given the total of the row.

    References
    ----------
    Kingma and Welling (2014), "Auto-encoding variational Bayes".

    Higgins et al. (2017), "beta-VAE: learning basic visual concepts with a constrained variational
    framework".

    Kingma et al. (2016), "Improved variational inference with inverse autoregressive flow"
    (free bits, equation 15).

    Burda, Grosse and Salakhutdinov (2016), "Importance weighted autoencoders".

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import VAETransformer
    >>> X, _ = load_iris(return_X_y=True)
    >>> vae = VAETransformer(n_components=2, tol=0.1, random_state=0).fit(X)
    >>> vae.sample(3, random_state=0).shape
    (3, 4)
    """

    _parameter_constraints: dict = {
        **SHARED_CONSTRAINTS,
        "beta": [Interval(Real, 0, None, closed="left")],
        "kl_warmup": [Interval(Real, 0, 1, closed="both"), Schedule],
        "free_bits": [Interval(Real, 0, None, closed="left")],
        "prior": choice(PRIORS, Prior),
        "n_importance_samples": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_components=16,
        beta=1.0,
        kl_warmup=0.25,
        free_bits=0.0,
        prior="standard_normal",
        n_importance_samples=1,
        hidden_layer_sizes=(128,),
        activation="silu",
        network="mlp",
        likelihood="gaussian",
        input_scaling="auto",
        sparse_method="auto",
        alpha="auto",
        batch_size="auto",
        learning_rate="cosine",
        learning_rate_init=2e-3,
        optimizer="adam",
        max_iter="auto",
        tol=1e-4,
        n_iter_no_change=20,
        early_stopping=False,
        validation_fraction=0.1,
        warm_start=False,
        device="auto",
        callbacks=None,
        verbose=0,
        random_state=None,
    ):
        self.n_components = n_components
        self.beta = beta
        self.kl_warmup = kl_warmup
        self.free_bits = free_bits
        self.prior = prior
        self.n_importance_samples = n_importance_samples
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.network = network
        self.likelihood = likelihood
        self.input_scaling = input_scaling
        self.sparse_method = sparse_method
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.optimizer = optimizer
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.device = device
        self.callbacks = callbacks
        self.verbose = verbose
        self.random_state = random_state

    def _make_bottleneck(self):
        return partial(
            VariationalBottleneck,
            prior=resolve(self.prior, PRIORS),
            beta=self.beta,
            warmup=self._warmup(),
            free_bits=self.free_bits,
            n_importance_samples=self.n_importance_samples,
        )

    def _warmup(self) -> Schedule:
        given = self.kl_warmup
        return resolve(LinearWarmup(given) if isinstance(given, Real) else given, SCHEDULES)

    def _watched_from(self):
        return getattr(self._warmup(), "share", 0.0)

    @usual_torch()
    def _draw_codes(self, n_samples, seed):
        bottleneck = self.module_.bottleneck
        generator = torch_generator(seed, 1)
        shape = (n_samples, self.n_components_)
        return bottleneck.prior.sample(shape, bottleneck.points.cpu(), generator).numpy()

    def _after_fit(self, X):
        self.kl_ = self._model.kl(X).mean(axis=0)
        if self.beta > 0 and (self.kl_ < _COLLAPSED).all():
            warnings.warn(
                f"The posterior collapsed: every latent has a KL below {_COLLAPSED} nats (the "
                f"largest is {self.kl_.max():.2g}), so that the codes say nothing about the rows. "
                f"Lower beta (it is {self.beta!r}), lengthen kl_warmup (it is {self.kl_warmup!r}), "
                "give each latent free_bits=0.1, or train longer. If X is pure noise, this is "
                "the right answer.",
                PosteriorCollapseWarning,
                stacklevel=6,
            )
