"""Which network maps rows to codes and back? Encoders and decoders.

A network builds a pair of torch modules: the encoder maps (n_rows, n_inputs) to (n_rows,
n_encoder_outputs), the decoder maps codes (n_rows, n_components) to (n_rows, n_decoder_outputs).
Neither ends in an activation: what the outputs mean is the business of the code's rule and of the
likelihood. To add one: one class here and one line in `NETWORKS`.

A network is also asked about the modules that it built: which weights decay, how strongly the
decoder answers to each unit of the code, what a row costs, whether CSR rows can be taken as they
are. The answers of the base class hold for modules of any kind; those that look at them by trying
them out are slower than a closed form.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from sklearn.base import clone
from torch import Tensor, nn

from skae._layers import ACTIVATIONS, Transposed, stack
from skae._linear_path import with_path_before, with_path_behind
from skae._modules import (
    copied,
    decoder_gains,
    end_obstacle,
    is_plain,
    is_plain_linear,
    is_used_in,
    last_linear,
    layer_gain,
    linear_layers,
    parameters_in_one_place,
    unit_answers,
    weight_arrays,
)
from skae._random import global_torch_seed, torch_generator
from skae._trial import N_ROWS, Cost, fault, materialise, peculiarity, try_out
from skae._validation import Component


class Layout(NamedTuple):
    """What users choose about a network.

    Parameters
    ----------
    n_features : int
        Columns of X, the inputs of the encoder.
    n_components : int
        Inputs of the decoder.
    hidden_layer_sizes : tuple of int
        Units of each hidden layer of the encoder.
    activation : str
        A name in `ACTIVATIONS`.
    linear_path : bool
        Whether a linear path stands beside the hidden layers, for a start in closed form.
    """

    n_features: int
    n_components: int
    hidden_layer_sizes: tuple[int, ...]
    activation: str
    linear_path: bool = False


class Affine(NamedTuple):
    """The map ``x @ weight.T + bias``."""

    weight: Tensor  # (n_outputs, n_inputs)
    bias: Tensor  # (n_outputs,)


class Network(Component):
    """Base of all networks: `build` makes the modules, the other methods are asked about them.

    `build` is all that a network must have. Any module that autograd can go through will do:
    convolutions, attention, layers of your own.
    """

    holds_modules = True
    instead = "What a network trains, its modules hold: let build return them."

    #: True where the modules draw from torch's global generators (weights, dropout), as all of
    #: torch's own do: building and training seed them for their duration and put them back.
    uses_global_generator: bool = True
    #: Whether first weights may be adjusted (the decoder predicts the column means, a posterior is
    #: as wide as the prior). Not where they were given: they can be those of an earlier training.
    adjustable: bool = True
    #: Whether `build` looks at ``hidden_layer_sizes`` and ``activation``; where it does not, giving
    #: them is an error.
    takes_layer_sizes: bool = True
    #: Whether it can be built for any number of latents.
    takes_any_size: bool = True
    #: Whether a training can start at a linear model: see `start_linear`.
    has_linear_path: bool = False

    _remedy = ""  # more of it, where modules have the wrong shape

    @abstractmethod
    def build(
        self, layout: Layout, n_encoder_outputs: int, n_decoder_outputs: int, seed: int
    ) -> tuple[nn.Module, nn.Module]:
        """Return a new encoder and decoder with weights drawn from ``seed``."""

    def make(
        self, layout: Layout, n_encoder_outputs: int, n_decoder_outputs: int, seed: int
    ) -> tuple[nn.Module, nn.Module, Cost]:
        """Return what `build` makes, with torch's generators seeded, and what a row costs there.

        Raises
        ------
        ValueError
            A module does not map rows to the columns that it must.
        """
        seeded = global_torch_seed(seed) if self.uses_global_generator else nullcontext()
        with seeded:
            encoder, decoder = self.build(layout, n_encoder_outputs, n_decoder_outputs, seed)
            parts = (
                (encoder, "encoder", layout.n_features, n_encoder_outputs),
                (decoder, "decoder", layout.n_components, n_decoder_outputs),
            )
            for module, name, n_inputs, n_outputs in parts:
                with self._told(module, name, n_inputs, n_outputs):
                    materialise(module, n_inputs)
        costs = [self.cost(*part) for part in parts]
        operations = sum(cost.operations for cost in costs)
        return encoder, decoder, Cost(operations, max(cost.width for cost in costs))

    def cost(self, module: nn.Module, name: str, n_inputs: int, n_outputs: int) -> Cost:
        """Return what a row costs in a module, found by trying out a copy of it.

        Raises
        ------
        ValueError
            The module does not map (n_rows, n_inputs) to (n_rows, n_outputs), in single precision,
            or raises an error where it is tried out.
        """
        with self._told(module, name, n_inputs, n_outputs):
            output, cost = try_out(module, n_inputs)
        wrong = fault(output, n_outputs)
        if wrong is not None:
            found, remedy = wrong
            raise ValueError(
                f"{self._task(name, n_inputs, n_outputs)} For {N_ROWS} rows it returned {found} "
                f"instead. {remedy}{self._remedy}."
            )
        return cost

    def _task(self, name: str, n_inputs: int, n_outputs: int) -> str:
        return (
            f"The {name} of {type(self).__name__} must map an input of shape (n_rows, {n_inputs}) "
            f"to (n_rows, {n_outputs})."
        )

    @contextmanager
    def _told(self, module: nn.Module, name: str, n_inputs: int, n_outputs: int) -> Iterator[None]:
        """Say of an error of a module what was tried, and what can be done."""
        if not isinstance(module, nn.Module):
            raise ValueError(
                f"The {name} of {type(self).__name__} must be a torch.nn.Module. Got "
                f"{type(module).__name__} instead. Let build return one{self._remedy}."
            )
        try:
            yield
        except MemoryError:
            raise
        except Exception as error:
            raise ValueError(
                f"{self._task(name, n_inputs, n_outputs)} Given zeros of shape ({N_ROWS}, "
                f"{n_inputs}), in eval mode, it raised {type(error).__name__}: {error}. "
                f"{peculiarity(module)}Change what it takes in{self._remedy}."
            ) from error

    def __sklearn_clone__(self):
        """Return an unfitted copy; modules are copied together, so that what they share stays so.

        Raises
        ------
        ValueError
            Two parameters of the modules share memory, which no copy keeps.
        """
        given = self.get_params(deep=False)
        nested = {name: value for name, value in given.items() if hasattr(value, "get_params")}
        others = {name: value for name, value in given.items() if name not in nested}
        modules = {name: value for name, value in others.items() if isinstance(value, nn.Module)}
        twice = parameters_in_one_place(modules)
        if twice is not None:
            raise ValueError(
                f"The parameters {twice[0]} and {twice[1]} of {type(self).__name__} lie in one "
                "place of the memory without being one nn.Parameter, so that they would change "
                "together, and not in a copy. Let both modules hold the same nn.Parameter, and "
                "transpose it in forward, or give each its own: nn.Parameter(weight.clone())."
            )
        nested = {name: clone(value) for name, value in nested.items()}
        return type(self)(**nested, **copied(others))

    def weights_to_decay(self, encoder: nn.Module, decoder: nn.Module) -> list[nn.Parameter]:
        """Return the weights that decay, and that ``l1_ratio`` draws to zeros.

        All parameters of two axes and more, but for those of normalisations, those with "bias" as a
        word of their name, and those that have one axis of three or more that is longer than one,
        such as a scale of shape (1, n_channels, 1, 1) (not the kernels of convolutions).
        """
        return weight_arrays(nn.ModuleList([encoder, decoder]))

    def gains(self, decoder: nn.Module, code: Tensor, last_squares: Tensor | None = None) -> Tensor:
        """Return how strongly a decoder answers to each unit of a code, of shape (n_components,).

        Penalties on a code are multiplied by it, so that they cannot be escaped by small codes and
        a strong decoder. For a stack of linear layers the closed form of `decoder_gains`; for any
        other the norms of the columns of its Jacobian at the mean of the codes, for which a step
        decodes n_components + 1 codes beside those of its batch. They stand for the decoder where
        its answer to a row does not depend on the rows beside it; after a batch normalisation
        without running statistics it does, and gains are those among these codes.

        Parameters
        ----------
        decoder : torch.nn.Module
        code : Tensor of shape (n_rows, n_components)
            Codes of some rows.
        last_squares : Tensor of shape (n_inputs of the last layer,), default=None
            Squared norms of the columns of the last layer, where it has too many rows to look at
            all of them. The last layer is then a linear one, and counts as in `decoder_gains`.
        """
        if _is_stack(decoder):
            return decoder_gains(decoder, last_squares)
        if last_squares is None:
            return unit_answers(decoder, code)
        layers: Any = decoder
        return unit_answers(layers[:-1], code) * layer_gain(layers[-1], False, last_squares)

    @torch.no_grad()
    def start_at(self, decoder: nn.Module, raw: Tensor) -> None:
        """Let a decoder predict ``raw`` before training, if it ends with a linear layer."""
        last = last_linear(decoder)
        if last is not None and last.bias is not None:
            last.bias.copy_(raw)

    def start_linear(self, encoder: nn.Module, decoder: nn.Module, first: Affine, last: Affine):
        """Let encoder and decoder be these affine maps before training; see `has_linear_path`."""
        raise NotImplementedError

    def csr_obstacle(self, encoder: nn.Module, decoder: nn.Module) -> str | None:
        """Return what keeps CSR rows from being trained on as they are; None if nothing does.

        They need an encoder and a decoder that are ``nn.Sequential``, with an ``nn.Linear`` where
        each meets the rows: as ``encoder[0]``, and with a bias as ``decoder[-1]``. Layers of a
        class of the user's, and those with hooks, may compute something else. The first layer of
        the encoder gets another form, so nothing else may use it or its parameters.
        """
        obstacle = end_obstacle(encoder, "encoder", 0, "begin")
        obstacle = obstacle or end_obstacle(decoder, "decoder", -1, "end")
        if obstacle is not None:
            return obstacle
        if decoder[-1].bias is None:  # type: ignore[index]
            return "its decoder ends with an nn.Linear that has no bias"
        layers: Any = encoder
        if is_used_in(layers[0], [*layers[1:], decoder]):
            return (
                "its encoder begins with an nn.Linear that is used in another place as well (a "
                "layer called twice, or a weight that is shared)"
            )
        return None


class MLP(Network):
    """Fully connected layers; the decoder mirrors the encoder.

    With ``hidden_layer_sizes=(a, b)`` the encoder has layers of a and b units, the decoder of b and
    a. ``()`` makes both linear. Weights and biases are drawn from the uniform distribution on
    ``+-1 / sqrt(n_inputs)`` of their layer, as torch does by default.
    """

    uses_global_generator = False
    has_linear_path = True

    def build(self, layout, n_encoder_outputs, n_decoder_outputs, seed):
        """Return the two stacks of layers."""
        generator = torch_generator(seed)
        hidden = layout.hidden_layer_sizes
        encoder_sizes = (layout.n_features, *hidden, n_encoder_outputs)
        decoder_sizes = (layout.n_components, *reversed(hidden), n_decoder_outputs)
        encoder = stack(encoder_sizes, layout.activation, generator)
        decoder = stack(decoder_sizes, layout.activation, generator)
        if layout.linear_path and hidden:
            return with_path_behind(encoder), with_path_before(decoder)
        return encoder, decoder

    @torch.no_grad()
    def start_linear(self, encoder, decoder, first, last):
        """Set the linear paths; what stands beside them starts at zero."""
        n_outputs, n_components = len(first.weight), last.weight.shape[1]
        encoder[0].weight[:n_outputs] = first.weight
        encoder[0].bias[:n_outputs] = first.bias
        decoder[-1].weight[:, :n_components] = last.weight
        decoder[-1].bias.copy_(last.bias)

    def cost(self, module, name, n_inputs, n_outputs):
        """Return what a row costs: each weight multiplies and adds, forward and twice backward."""
        return _cost_of_layers(module)


class TiedMLP(Network):
    """Fully connected layers whose decoder has the weights of the encoder, transposed.

    The decoder mirrors the encoder, with biases of its own, which start at zero. So a unit that is
    switched on by a pattern of the columns writes that pattern. Without hidden layers it is ``h = x
    W' + b`` and back ``z W + c``, the network of k-sparse autoencoders. Of a posterior, the means
    are tied.

    There is no start in closed form, and CSR rows are trained on in dense batches. An error where
    the likelihood has several raw outputs for each column.

    References
    ----------
    Vincent et al. (2010), "Stacked denoising autoencoders: learning useful representations in a
    deep network with a local denoising criterion", section 2.2; Makhzani and Frey (2014), "k-sparse
    autoencoders".

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import AutoencoderTransformer
    >>> from skae.networks import TiedMLP
    >>> X, _ = load_iris(return_X_y=True)
    >>> model = AutoencoderTransformer(
    ...     2, network=TiedMLP(), hidden_layer_sizes=(), tol=0.1
    ... ).fit(X)
    >>> model.module_.encoder[0].weight is model.module_.decoder[0].weight
    True
    """

    uses_global_generator = False

    def build(self, layout, n_encoder_outputs, n_decoder_outputs, seed):
        """Return the stack of layers, and the way back through them."""
        if n_decoder_outputs != layout.n_features:
            raise ValueError(
                "TiedMLP gives one raw output for each column, as its encoder has one weight for "
                f"each. The likelihood needs {n_decoder_outputs} for {layout.n_features} columns. "
                "Choose a likelihood with one, such as 'gaussian', or leave network at None."
            )
        sizes = (layout.n_features, *layout.hidden_layer_sizes, n_encoder_outputs)
        encoder = stack(sizes, layout.activation, torch_generator(seed))
        first, *others = reversed(linear_layers(encoder))
        decoder: list[nn.Module] = [Transposed(first, layout.n_components)]
        for layer in others:
            decoder += [ACTIVATIONS[layout.activation](), Transposed(layer)]
        return encoder, nn.Sequential(*decoder)

    @torch.no_grad()
    def start_at(self, decoder, raw):
        """Let the decoder predict ``raw`` before training, but for what codes add."""
        decoder[-1].bias.copy_(raw)

    def cost(self, module, name, n_inputs, n_outputs):
        """Return what a row costs, as for `MLP`."""
        return _cost_of_layers(module)


class CustomNetwork(Network):
    """Your own torch modules as encoder and decoder.

    Parameters
    ----------
    encoder : torch.nn.Module or callable
        Maps (n_rows, n_features) to (n_rows, n_components); for `VAETransformer` to (n_rows, 2 *
        n_components), the means and then the log standard deviations. A callable is called as
        ``encoder(n_inputs, n_outputs)`` and returns the module, so that one object serves every
        size in a grid search. A module is copied before it is trained.
    decoder : torch.nn.Module or callable
        Maps (n_rows, n_components) to (n_rows, n_features). Like the encoder it starts from the
        weights that it comes with.

    Notes
    -----
    Both work in single precision. Lazy layers get their shapes from the first rows, and their
    weights from ``random_state``. A layer or an ``nn.Parameter`` that stands in both modules is one
    in every copy of them as well (tied weights): in fits, clones, searches and pickles. Two
    parameters that merely share memory, whole or in part, are an error.

    Examples
    --------
    >>> from torch import nn
    >>> from skae.networks import CustomNetwork
    >>> network = CustomNetwork(encoder=nn.Linear, decoder=nn.Linear)
    """

    _parameter_constraints = {"encoder": [callable], "decoder": [callable]}
    adjustable = False
    takes_layer_sizes = False
    _remedy = ", or pass a callable (n_inputs, n_outputs) -> module"

    def __init__(self, encoder, decoder):
        self.encoder = encoder
        self.decoder = decoder

    @property
    def takes_any_size(self) -> bool:  # type: ignore[override]
        """Whether both are made anew for each size."""
        return not any(isinstance(one, nn.Module) for one in (self.encoder, self.decoder))

    def build(self, layout, n_encoder_outputs, n_decoder_outputs, seed):
        """Return copies of the modules, or what the callables make."""
        given = copied({"encoder": self.encoder, "decoder": self.decoder})
        return (
            self._make(given["encoder"], layout.n_features, n_encoder_outputs),
            self._make(given["decoder"], layout.n_components, n_decoder_outputs),
        )

    @staticmethod
    def _make(module_or_factory: nn.Module | Callable, n_inputs: int, n_outputs: int) -> nn.Module:
        if isinstance(module_or_factory, nn.Module):
            return module_or_factory
        return module_or_factory(n_inputs, n_outputs)


def _cost_of_layers(module: nn.Module) -> Cost:
    weights = list(module.parameters())
    width = max(weight.numel() for weight in weights if weight.dim() == 1)  # a bias for each output
    return Cost(6.0 * sum(weight.numel() for weight in weights), width)


def _is_stack(decoder: nn.Module) -> bool:
    """Return whether a decoder is linear layers with activations of ours between them."""
    parts = list(decoder) if type(decoder) is nn.Sequential else [decoder]
    if not parts or not is_plain(decoder) or not is_plain_linear(parts[0]):
        return False
    kinds = tuple(ACTIVATIONS.values())
    return all(is_plain(part) and type(part) in (nn.Linear, *kinds) for part in parts)


NETWORKS: dict[str, type[Network]] = {"mlp": MLP}
