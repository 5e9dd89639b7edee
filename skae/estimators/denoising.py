"""The denoising autoencoder."""

from __future__ import annotations

from numbers import Real

from skae._training.bottlenecks import Bottleneck
from skae._validation import choice, resolve
from skae.constraints import Interval
from skae.estimators.base import SHARED_CONSTRAINTS, BaseAutoencoder, SampledCodesMixin
from skae.noise import NOISES, Noise
from skae.samplers import SAMPLERS, Sampler


class DenoisingAETransformer(SampledCodesMixin, BaseAutoencoder):
    r"""Denoising autoencoder: trained to recover rows from corrupted copies of them.

    The noise stands in the training step only. Everything a fitted estimator answers is computed
    from clean rows, and `reconstruct` returns the cleaned row.

    Parameters
    ----------
    n_components : int, default=16
        Number of latent dimensions, at least 1. More than there are features is allowed.
    noise : str or Noise, default="masking"
        How the input of the training step is corrupted: "masking", "gaussian", "salt_and_pepper",
        "swap", "swap_gaussian", or "thinning", which drops single items of counts (its level is the
        share of them).
    noise_level : float, default=0.2
        How much of it: the share of entries that really change, in [0, 1], or for "gaussian" the
        standard deviation, at least 0.
    sampler : {"gaussian_mixture", "kernel"} or Sampler, default="gaussian_mixture"
        Density fitted on the training codes, from which `sample` draws.
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

    See Also
    --------
    AutoencoderTransformer : The same without noise.

    Notes
    -----
    With noise that turns x into :math:`\tilde x`, the loss of a fit is

    .. math:: -\frac1n \sum_i \log p(x_i \mid g(f(\tilde x_i)))

    with a gradient that counts errors alike in every scaled column, as in `AutoencoderTransformer`,
    whose score this one's is. A linear network with Gaussian noise computes the Wiener filter; in
    general the reconstruction moves a row towards where the data are dense (Alain and Bengio 2014).
    For counts, every log p here is one given the total of the row.

    References
    ----------
    Vincent et al. (2010), "Stacked denoising autoencoders: learning useful representations in a
    deep network with a local denoising criterion".

    Alain and Bengio (2014), "What regularized auto-encoders learn from the data-generating
    distribution".

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import DenoisingAETransformer
    >>> X, _ = load_iris(return_X_y=True)
    >>> denoiser = DenoisingAETransformer(n_components=2, noise="swap", tol=0.1, random_state=0)
    >>> denoiser.fit(X).reconstruct(X).shape
    (150, 4)
    """

    _parameter_constraints: dict = {
        **SHARED_CONSTRAINTS,
        "noise": choice(NOISES, Noise),
        "noise_level": [Interval(Real, 0, None, closed="left")],
        "sampler": choice(SAMPLERS, Sampler),
    }

    def __init__(
        self,
        n_components=16,
        noise="masking",
        noise_level=0.2,
        sampler="gaussian_mixture",
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
        self.noise = noise
        self.noise_level = noise_level
        self.sampler = sampler
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
        return Bottleneck

    def _noise(self):
        noise = resolve(self.noise, NOISES)
        noise.check_level(self.noise_level)
        return {"noise": noise, "noise_level": self.noise_level}
