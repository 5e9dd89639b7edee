"""The sparse autoencoder."""

from __future__ import annotations

from functools import partial
from numbers import Real

import scipy.sparse as sp

from skae._tables import to_sparse_interface
from skae._training.bottlenecks import SparseBottleneck
from skae._training.callbacks import SoftThreshold
from skae._validation import choice, resolve
from skae.constraints import Interval, StrOptions
from skae.estimators.base import SHARED_CONSTRAINTS, BaseAutoencoder, SampledCodesMixin
from skae.samplers import SAMPLERS, Sampler
from skae.sparsity import SPARSITIES, Sparsity


class SparseAutoencoderTransformer(SampledCodesMixin, BaseAutoencoder):
    r"""Sparse autoencoder: non-negative codes of which few units are active on each row.

    A unit is active on a row where its code is above zero; all others are exactly zero. Every kind
    of sparsity is steered to the same target, the mean number of active units a row.

    Parameters
    ----------
    n_components : int, default=16
        Number of latent dimensions, at least 1. More than there are features is allowed.
    sparsity : {"l1", "l2", "kl", "topk"} or Sparsity, default="l1"
        What keeps units inactive: a penalty on the activations, on the squared mean activations, on
        the distance of the rates from a target rate, or a hard limit on their number.
    n_active : float or None, default=None
        Mean number of active units a row, in (0, n_components]; None is a quarter of the units, at
        least 1. "topk" rounds it, and takes it as the most for each row.
    sparsity_weight : float or "auto", default="auto"
        Weight of the penalty in the objective, at least 0. "auto" steers it during training until
        ``n_active`` is met. "topk" has no penalty and needs "auto".
    l1_ratio : float, default=0.0
        Share of L1 in the weight penalty ``alpha``, in [0, 1]: 0 is decay alone, 1 draws weights to
        exact zeros.
    sparse_output : bool, default=False
        Whether `transform` returns codes as CSR.
    sampler : {"gaussian_mixture", "kernel"} or Sampler, default="kernel"
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
    n_active_ : float
        Mean number of active units a row, on (at most 10,000) training rows.
    n_dead_ : int
        Units that were active on none of those rows.
    sparsity_weight_ : float
        Weight of the penalty at the end of training.

    See Also
    --------
    AutoencoderTransformer : The same without sparsity.

    Notes
    -----
    With code :math:`z_i = f(x_i) \ge 0` the loss of a fit is

    .. math:: -\frac1n \sum_i \log p(x_i \mid g(z_i)) + \lambda \, \Omega(z_1, \dots, z_n)

    with a gradient that counts errors alike in every scaled column, as in `AutoencoderTransformer`,
    whose score this one's is. :math:`\Omega` is given with each class of `skae.sparsity` and sees
    how strongly the decoder answers to each unit; :math:`\lambda` is ``sparsity_weight``. Units
    that no row of an epoch switched on are revived: their input is drawn up to their threshold
    until one does (Conerly et al. 2025, "Dictionary learning optimization techniques"). For counts,
    every log p here is one given the total of the row.

    References
    ----------
    Ng (2011), "Sparse autoencoder", CS294A lecture notes.

    Makhzani and Frey (2014), "k-sparse autoencoders".

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import SparseAutoencoderTransformer
    >>> X, _ = load_iris(return_X_y=True)
    >>> sparse = SparseAutoencoderTransformer(
    ...     n_components=8, sparsity="topk", n_active=2, tol=0.1, random_state=0
    ... )
    >>> int((sparse.fit_transform(X) > 0).sum(axis=1).max())
    2
    """

    _parameter_constraints: dict = {
        **SHARED_CONSTRAINTS,
        "sparsity": choice(SPARSITIES, Sparsity),
        "n_active": [Interval(Real, 0, None, closed="neither"), None],
        "sparsity_weight": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "l1_ratio": [Interval(Real, 0, 1, closed="both")],
        "sparse_output": ["boolean"],
        "sampler": choice(SAMPLERS, Sampler),
    }

    def __init__(
        self,
        n_components=16,
        sparsity="l1",
        n_active=None,
        sparsity_weight="auto",
        l1_ratio=0.0,
        sparse_output=False,
        sampler="kernel",
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
        self.sparsity = sparsity
        self.n_active = n_active
        self.sparsity_weight = sparsity_weight
        self.l1_ratio = l1_ratio
        self.sparse_output = sparse_output
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

    def transform(self, X):
        """Return the code of each row.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        codes : ndarray or CSR of shape (n_samples, n_components)
            Non-negative; CSR with ``sparse_output=True``.
        """
        codes = super().transform(X)
        return to_sparse_interface(sp.csr_array(codes), X) if self.sparse_output else codes

    def _make_bottleneck(self):
        sparsity = resolve(self.sparsity, SPARSITIES)
        weight = None if self.sparsity_weight == "auto" else self.sparsity_weight
        if weight is not None and not sparsity.penalised:
            raise ValueError(
                f"sparsity={type(sparsity).__name__} keeps its number of active units by a hard "
                f"rule and has no penalty to weigh. Got sparsity_weight={weight!r}; leave it at "
                "'auto'."
            )
        return partial(
            SparseBottleneck, sparsity=sparsity, n_active=self._n_active(), weight=weight
        )

    def _n_active(self) -> float:
        n_active = max(1, self.n_components // 4) if self.n_active is None else self.n_active
        if n_active > self.n_components:
            raise ValueError(
                f"n_active must lie in (0, n_components]. Got n_active={n_active!r} with "
                f"n_components={self.n_components!r} instead."
            )
        return float(n_active)

    def _weight_decay(self):
        decay = self._alpha() * (1.0 - self.l1_ratio)
        amount = self._alpha() * self.l1_ratio
        return decay, ((SoftThreshold(amount),) if amount else ())

    def _watched_from(self):
        # While the weight of the penalty is being found, the reconstruction gets worse.
        steered = resolve(self.sparsity, SPARSITIES).penalised and self.sparsity_weight == "auto"
        return 0.5 if steered else 0.0

    def _after_fit(self, X):
        super()._after_fit(X)
        active = self._model.training_codes > 0
        self.n_active_ = float(active.sum(axis=1).mean())
        self.n_dead_ = int((~active.any(axis=0)).sum())
        self.sparsity_weight_ = float(self.module_.bottleneck.weight)
