"""What did the user mean? Words of other libraries and slips of the pen, answered with a hint."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from numbers import Real
from typing import Any, TypeVar

from skae.constraints import (
    InvalidParameterError,
    Names,
    StrOptions,
    validate_parameter_constraints,
)

Class = TypeVar("Class", bound=type)

#: Our parameter for what other libraries call it.
PARAMETERS = {
    "n_components": "latent_dim latent_dims latent_size n_latent n_latents latents z_dim nz "
    "code_size code_dim encoding_dim embedding_dim bottleneck bottleneck_size n_dims dim k_latent",
    "hidden_layer_sizes": "hidden_dim hidden_dims hidden_size hidden_sizes hidden_units n_hidden "
    "hidden_neurons hidden_neuron_list hidden_layers layers layer_sizes encoder_neurons units",
    "activation": "nonlinearity act activation_fn activation_function hidden_activation "
    "hidden_activation_name",
    "network": "encoder decoder module model architecture backbone",
    "likelihood": "loss loss_fn loss_function criterion reconstruction_loss distribution "
    "gene_likelihood data_likelihood family",
    "input_scaling": "scaling scaler scale normalize normalization preprocessing standardize",
    "alpha": "weight_decay l2 l2_regularizer l2_reg regularization reg_lambda lambda_l2",
    "batch_size": "batch batchsize bs minibatch_size mini_batch_size",
    "learning_rate_init": "lr eta eta0 step_size base_lr max_lr",
    "learning_rate": "scheduler lr_scheduler schedule lr_schedule",
    "optimizer": "solver optim optimizer_name opt",
    "max_iter": "epoch epochs n_epochs num_epochs max_epochs epoch_num n_iter num_iter iterations "
    "max_steps",
    "n_iter_no_change": "patience early_stopping_patience",
    "validation_fraction": "validation_split val_split val_size validation_size val_fraction",
    "random_state": "seed random_seed rng generator manual_seed",
    "device": "gpu cuda use_gpu use_cuda accelerator",
    "verbose": "verbosity progress progress_bar show_progress",
    "beta": "kl_weight kld_weight kl_coef kl_beta capacity",
    "kl_warmup": "kl_anneal kl_annealing n_epochs_kl_warmup beta_warmup annealing",
    "n_importance_samples": "k iwae n_iwae_samples num_importance_samples",
    "noise": "corruption corruption_type noise_type",
    "noise_level": "noise_std noise_factor corruption_level corruption_rate dropout dropout_rate "
    "mask_rate sigma",
    "sparsity_weight": "l1 l1_weight l1_coef l1_coefficient sparsity_lambda lambda_l1 sparsity_reg",
    "n_active": "k topk top_k n_nonzero_coefs l0 n_nonzero",
    "transform_n_active": "transform_n_nonzero_coefs transform_k transform_topk",
    "layer_sizes": "hidden_layer_sizes sizes dims layers encoder_layer_sizes",
    "levels": "estimators steps autoencoders stages",
    "fine_tune": "finetune fine_tuning finetuning end_to_end",
    "shared": "share_weights shared_weights tied recursive",
    "contamination": "outlier_fraction outliers_fraction nu anomaly_rate",
}
#: Our value for what other libraries call it.
VALUES = {
    "gaussian": "normal mse l2 squared_error",
    "bernoulli": "bce binary_crossentropy binary_cross_entropy binary",
    "negative_binomial": "nb",
    "zero_inflated_negative_binomial": "zinb",
    "multinomial": "categorical",
    "adam": "adamw",
    "standard": "zscore z_score standardize",
    "max": "maxabs max_abs minmax min_max",
    "log1p": "log",
    "logistic": "sigmoid",
    "silu": "swish",
    "identity": "linear none",
    "masking": "mask dropout zero",
    "salt_and_pepper": "saltandpepper sp",
    "standard_normal": "normal gaussian",
    "gaussian_mixture": "gmm",
    "kernel": "kde",
    "topk": "k_sparse top_k",
    "linear_warmup": "warmup linear",
    "cosine": "cosine_annealing",
    "l1": "lasso",
    "l2": "ridge",
}
#: What a value means that is known by another name.
MEANINGS = {"adamw": "'adam' is AdamW, with the decay alpha."}


def hint_at_parameters(cls: Class) -> Class:
    """Let the ``__init__`` of a class answer an unknown keyword with a hint; return the class.

    Its signature stays what it is.
    """
    init: Callable = cls.__init__  # type: ignore[misc]
    known = inspect.signature(init).parameters
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in known.values()):
        return cls

    @functools.wraps(init)
    def checked(self, *args, **kwargs):
        for name in kwargs:
            if name not in known:
                raise TypeError(
                    f"{cls.__name__}.__init__() got an unexpected keyword argument {name!r}."
                    f"{_did_you_mean(name, known, PARAMETERS, quoted=False)}"
                )
        init(self, *args, **kwargs)

    cls.__init__ = checked  # type: ignore[misc]
    return cls


class HintsMixin:
    """Errors about parameters that say what was probably meant; goes before ``BaseEstimator``.

    And parameters of a choice that was given by name: ``likelihood__variance`` makes an object of
    the name "gaussian" first.
    """

    _parameter_constraints: dict = {}

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            hint_at_parameters(cls)

    def set_params(self, **params):
        """Set parameters of this object, or with ``name__parameter`` those of its parts.

        A part that was given by name, as likelihood="gaussian", becomes the object that the name
        stands for.

        Parameters
        ----------
        **params : dict
            Parameters by name.

        Returns
        -------
        self : object
            The object.

        Raises
        ------
        ValueError
            There is no such parameter.
        """
        objects = {}
        for key in params:
            name, _, own = key.partition("__")
            self._check_is_parameter(name)
            if own:
                objects[name] = self._part(name, own, params.get(name, getattr(self, name)))
        return super().set_params(**{**params, **objects})  # type: ignore[misc]

    def _check_is_parameter(self, name: str) -> None:
        names = list(self.get_params(deep=False))  # type: ignore[attr-defined]
        if name not in names:
            raise ValueError(
                f"Invalid parameter {name!r} for estimator {self}."
                f"{_did_you_mean(name, names, PARAMETERS, quoted=False)} "
                f"Valid parameters are: {names!r}."
            )

    def _part(self, name: str, own: str, value) -> Any:
        """Return the object whose parameter ``own`` is to be set."""
        vocabulary = _vocabulary(self._parameter_constraints.get(name, ()))
        if isinstance(value, str) and value in vocabulary:
            part = vocabulary[value]()
            part._check_is_parameter(own.partition("__")[0])  # before anything is changed
            return part
        if hasattr(value, "set_params"):
            return value
        raise ValueError(
            f"{name}__{own} cannot be set: {name} is {value!r}, which has no parameters of its "
            f"own. Give {name} as an object{self._example(name, own)}."
        )

    def _example(self, name: str, own: str) -> str:
        """Return what an object with a parameter ``own`` looks like, as far as it is known."""
        allowed = self._parameter_constraints.get(name, ())
        for kind in _vocabulary(allowed).values():
            if own in inspect.signature(kind).parameters:
                return f", such as {name}={kind.__name__}()"
        bases = [one.__name__ for one in allowed if isinstance(one, type)]
        return f" of class {bases[0]}" if bases else ""

    def _validate_params(self):  # the name that scikit-learn calls before a fit
        for name, value in self.get_params(deep=False).items():  # type: ignore[attr-defined]
            try:
                validate_parameter_constraints(
                    self._parameter_constraints, {name: value}, type(self).__name__
                )
            except InvalidParameterError as error:
                allowed = self._parameter_constraints[name]
                raise InvalidParameterError(f"{error}{_advice(name, value, allowed)}") from None


def _vocabulary(allowed: Iterable) -> dict[str, type]:
    return {
        name: kind
        for one in allowed
        if isinstance(one, Names)
        for name, kind in one.vocabulary.items()
    }


def _advice(name: str, value, allowed: Iterable) -> str:
    """Return what to write instead of a value that is not allowed, or nothing."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if name == "learning_rate" and is_number and value > 0:
        return (
            " It is how the rate changes during the training. The rate itself is another "
            f"parameter: set learning_rate_init={value!r}."
        )
    if name == "n_components" and (value == "mle" or (is_number and 0 < value < 1)):
        return (
            " A share of the variance has no meaning here, for the components are not ordered by "
            "it. Give their number, or 'auto' to have it found."
        )
    bases = tuple(one for one in allowed if isinstance(one, type))
    if isinstance(value, type) and issubclass(value, bases):
        return f" That is a class; give an object of it, such as {value.__name__}()."
    if not isinstance(value, str):
        return ""
    named = [one for one in allowed if isinstance(one, StrOptions | Names)]
    options = [option for one in named for option in one.options]
    meaning = MEANINGS.get(value.lower())
    return _did_you_mean(value, options, VALUES, quoted=True) + (f" {meaning}" if meaning else "")


def _did_you_mean(word: str, options: Iterable[str], others: dict[str, str], quoted: bool) -> str:
    """Return the question whether another word was meant, or nothing."""
    options, word = list(options), word.lower()
    same = [ours for ours in options if word in others.get(ours, "").split()]
    plain = word.replace("-", "_").replace(" ", "_")
    found = same or get_close_matches(plain, options, n=1, cutoff=0.6)
    if not found:
        return ""
    return f" Did you mean {found[0]!r}?" if quoted else f" Did you mean {found[0]}?"
