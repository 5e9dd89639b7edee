"""What can be found out about any torch module: its layers and weights, its answers to a code."""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.parametrize import is_parametrized

#: What all convolutions of torch inherit from.
CONVOLUTION = nn.modules.conv._ConvNd

# A step in the code as a share of the usual size of a unit: small enough for a derivative (the
# error is a hundredth of what curvature does over the usual size), and large enough for single
# precision: rounding is a hundred-thousandth of the answer where a unit of usual size moves what
# the last layer is given by as much as there is of it. Its bias is not there to drown an answer.
_STEP = 1e-2
# Units smaller than this share of the largest are moved as if they were as large.
_SMALLEST = 1e-2
# "bias" as a word of a name: bias_ih_l0, in_proj_bias, outputBias; not unbiased_weight.
_BIAS = re.compile(r"(Bias|(?<![a-zA-Z])bias)(es)?(?![a-z])")
# Layers that are a linear map and a bias.
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_AFFINE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)


def linear_layers(module: nn.Module) -> list[nn.Linear]:
    """Return the linear layers of a module in the order in which they were added."""
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


def is_plain_linear(layer: nn.Module) -> bool:
    """Return whether a layer computes ``x W' + b`` and nothing else."""
    return type(layer) is nn.Linear and is_plain(layer)


def is_plain(layer: nn.Module) -> bool:
    """Return whether a layer does what its class says: no hooks, no forward of its own."""
    return not _has_hooks(layer) and "forward" not in vars(layer)  # as wrappers of a layer set it


def _has_hooks(layer: nn.Module) -> bool:
    """Return whether something happens before or behind a layer."""
    forward = (layer._forward_hooks, layer._forward_pre_hooks)
    return any((*forward, layer._backward_hooks, layer._backward_pre_hooks))


def last_linear(module: nn.Module) -> nn.Linear | None:
    """Return the linear layer whose output is that of the module, if that can be seen."""
    while type(module) is nn.Sequential and len(module) and is_plain(module):
        module = module[-1]
    return module if is_plain_linear(module) else None  # type: ignore[return-value]


def layers_with_parameters(
    module: nn.Module,
) -> Iterator[tuple[nn.Module, dict[str, nn.Parameter]]]:
    """Yield each layer with its parameters by name, those of its parametrisations among them."""
    inside: set[int] = set()
    for layer in module.modules():  # a layer before its parts
        if id(layer) in inside:
            continue
        own = dict(layer.named_parameters(recurse=False))
        if is_parametrized(layer):
            parametrisations: Any = layer.parametrizations
            inside.update(map(id, parametrisations.modules()))
            own.update(parametrisations.named_parameters())
        yield layer, own


def multiplies(layer: nn.Module, name: str, shape: torch.Size) -> bool:
    """Return whether a parameter of a layer is a weight, and no bias, scale or normalisation.

    That is decided by its axes, of which there are two or more. One that is longer than one in a
    single axis of three or more, such as (1, n_channels, 1, 1), is a scale or a shift, but in a
    convolution.
    """
    if isinstance(layer, nn.LayerNorm | nn.RMSNorm) or _BIAS.search(name):
        return False
    if isinstance(layer, CONVOLUTION):
        return len(shape) > 1
    return len(shape) == 2 or sum(size > 1 for size in shape) > 1


def weight_arrays(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that multiply, each once; see `multiplies`."""
    found: dict[int, nn.Parameter] = {}
    for layer, parameters in layers_with_parameters(module):
        for name, parameter in parameters.items():
            if multiplies(layer, name, parameter.shape):
                found[id(parameter)] = parameter
    return list(found.values())


def end_obstacle(module: Any, name: str, place: int, verb: str) -> str | None:
    """Return what keeps a module from having a plain linear layer where it meets the rows."""
    kind = type(module).__name__
    if type(module) is not nn.Sequential:
        return f"its {name} is a {kind}, not an nn.Sequential that {verb}s with nn.Linear"
    if not len(module):
        return f"its {name} is an nn.Sequential without layers, which cannot {verb} with nn.Linear"
    if not is_plain(module):
        return (
            f"its {name} is an nn.Sequential that has hooks or a forward of its own, and is not "
            "called as a whole. Remove them, or register them on layers between the first and the "
            "last"
        )
    layer = module[place]
    if is_plain_linear(layer):
        return None
    changed = " that has hooks or a forward of its own" if type(layer) is nn.Linear else ""
    return f"its {name} {verb}s with {type(layer).__name__}{changed}, not with a plain nn.Linear"


def is_used_in(layer: nn.Module, others: Iterable[nn.Module]) -> bool:
    """Return whether other modules hold a parameter of a layer, or one in its memory.

    They may hold it in any attribute, also where torch does not look for parameters.
    """
    held = list(_parameters_in(list(others), set()))
    return any(own is one or _overlap(own, one) for own in layer.parameters() for one in held)


def _parameters_in(value: Any, seen: set[int]) -> Iterator[nn.Parameter]:
    if isinstance(value, nn.Parameter):
        yield value
    elif isinstance(value, nn.Module | Mapping | list | tuple | set) and id(value) not in seen:
        seen.add(id(value))
        parts = vars(value) if isinstance(value, nn.Module) else value
        for part in parts.values() if isinstance(parts, Mapping) else parts:
            yield from _parameters_in(part, seen)


def copied(objects: Mapping[str, Any]) -> dict[str, Any]:
    """Return copies of modules and other objects, made at once: what they share, copies share."""
    modules = (one for one in objects.values() if isinstance(one, nn.Module))
    memo: dict[int, Any] = {}
    for part in (part for module in modules for part in module.modules()):
        for value in (*vars(part).values(), *part.buffers(recurse=False)):
            if isinstance(value, Tensor):
                memo.update(_copies_that_torch_lacks(value))
    return copy.deepcopy(dict(objects), memo)


def _copies_that_torch_lacks(value: Tensor) -> dict[int, Tensor]:
    """Return the copy of a tensor by its id, if `copy.deepcopy` has none; a lazy parameter has."""
    if isinstance(value, nn.UninitializedBuffer):
        make: Any = nn.UninitializedBuffer  # whose stub has no arguments
        return {id(value): make(device=value.device, dtype=value.dtype)}
    # Worked out from parameters, anew in each pass (`torch.nn.utils.weight_norm` keeps it).
    return {} if value.is_leaf else {id(value): value.detach().clone()}


def parameters_in_one_place(modules: Mapping[str, nn.Module]) -> tuple[str, str] | None:
    """Return the names of two parameters with a number in one place of the memory; None: no two.

    Not meant is one parameter that stands in two modules, nor are parts of one vector.
    """
    by_storage: dict[int, dict[nn.Parameter, str]] = {}
    for prefix, module in modules.items():
        for name, parameter in module.named_parameters(prefix):
            if nn.parameter.is_lazy(parameter) or not parameter.numel() or parameter.is_meta:
                continue
            by_storage.setdefault(_storage(parameter), {}).setdefault(parameter, name)
    for held in by_storage.values():
        for one, other in itertools.combinations(held, 2):
            if _overlap(one, other):
                return held[one], held[other]
    return None


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _overlap(*tensors: Tensor) -> bool:
    """Return whether two tensors have a number in one place of the memory."""
    if _storage(tensors[0]) != _storage(tensors[1]) or not all(map(Tensor.numel, tensors)):
        return False
    firsts, lasts = zip(*map(_extent, tensors), strict=True)
    if max(firsts) >= min(lasts):
        return False
    used = torch.zeros(max(lasts) - min(firsts), dtype=torch.bool)  # bytes
    one, other = (_bytes_of(tensor, used, min(firsts)) for tensor in tensors)
    one.fill_(True)
    return bool(other.any())


def _extent(tensor: Tensor) -> tuple[int, int]:
    """Return the addresses of the first byte of a tensor and of the one behind its last."""
    reach = sum(
        stride * (size - 1) for stride, size in zip(tensor.stride(), tensor.shape, strict=True)
    )
    return tensor.data_ptr(), tensor.data_ptr() + (reach + 1) * tensor.element_size()


def _bytes_of(tensor: Tensor, memory: Tensor, start: int) -> Tensor:
    """Return the view of the memory from an address on, one for a byte, that a tensor has."""
    size = tensor.element_size()
    strides = (*(stride * size for stride in tensor.stride()), 1)
    return memory.as_strided((*tensor.shape, size), strides, tensor.data_ptr() - start)


@contextlib.contextmanager
def as_in_use(module: nn.Module) -> Iterator[None]:
    """Let a module be as it answers after the training; each part is put back as it was.

    The flags alone are changed: ``eval`` of a module of the user's may do more than that, which
    nothing would undo.
    """
    training = [part for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


def decoder_gains(decoder: nn.Module, last_squares: Tensor | None = None) -> Tensor:
    r"""Return how strongly linear layers answer to each unit of the code, of shape (n_components,).

    The norm of the unit's column in the first layer, times :math:`\lVert W \rVert_F /
    \sqrt{\min(\text{shape of } W)}` (1 for orthonormal rows or columns) of each later one. A
    network with positively homogeneous activations can scale one layer down and another up without
    changing its output; this product does not change either, so a penalty that holds it cannot be
    escaped in that way. ``last_squares`` are the squared norms of the columns of the last layer,
    where it has too many rows to look at all.
    """
    layers = linear_layers(decoder)
    gains = [layer_gain(layer, place == 0) for place, layer in enumerate(layers[:-1])]
    gains.append(layer_gain(layers[-1], len(layers) == 1, last_squares))
    return math.prod(gains[1:], start=gains[0])


def layer_gain(layer: nn.Linear, is_first: bool, squares: Tensor | None = None) -> Tensor:
    """Return the factor of one layer, or of the first one those of the units."""
    if squares is not None:
        squares = squares.clamp_min(torch.finfo(squares.dtype).tiny)
        return squares.sqrt() if is_first else (squares.sum() / min(layer.weight.shape)).sqrt()
    if is_first:
        return layer.weight.norm(dim=0)
    return layer.weight.norm() / math.sqrt(min(layer.weight.shape))


def unit_answers(module: nn.Module, code: Tensor) -> Tensor:
    r"""Return how strongly a module answers to each unit of its input, of shape (n_components,).

    That is the norm of :math:`(f(m + s_j e_j) - f(m)) / s_j` with m the mean of the rows of
    ``code`` and :math:`s_j` a hundredth of the usual size (root mean square) of unit j: of the
    columns of the Jacobian at the mean code. It holds whatever f is made of, and can be
    differentiated by its weights as f can. It costs a pass of n_components + 1 rows, which f must
    answer one by one: of a layer that looks at all rows of a batch in use as well, such as a batch
    normalisation without running statistics, it is the answer beside these rows.
    """
    code = code.detach()
    middle, size = code.mean(dim=0), code.square().mean(dim=0).sqrt()
    largest = size.max()
    step = _STEP * torch.where(largest > 0, size.clamp_min(_SMALLEST * largest), 1.0)
    moved = middle + step.diag()
    difference = _differences(module, torch.cat([middle[None], moved]))
    return torch.linalg.vector_norm(difference, dim=1) / (moved.diagonal() - middle)


def _differences(module: nn.Module, rows: Tensor) -> Tensor:
    """Return what a module makes of each row less what it makes of the first, (n_rows - 1, n).

    Where the output is that of a linear layer or a convolution, in whatever shape, the difference
    is taken in front of that layer: its bias may be so large that nothing is left behind it.
    """
    last = _LastLayer()
    with last.watching(module), as_in_use(module):
        answers = module(rows)
    if not last.made(answers):
        return (answers[1:] - answers[:1]).flatten(1)
    given, layer = last.given, last.layer
    without = {} if layer.bias is None else {"bias": torch.zeros_like(layer.bias)}
    return functional_call(layer, without, (given[1:] - given[:1],)).flatten(1)


class _LastLayer:
    """The last plain linear layer or convolution that a module calls, with its input and output."""

    layer: Any = None
    given: Any = None

    @contextlib.contextmanager
    def watching(self, module: nn.Module) -> Iterator[None]:
        """Note what happens in the layers of a module that do what their classes say."""
        layers = [part for part in module.modules() if type(part) in _AFFINE]
        plain = [layer for layer in layers if is_plain(layer)]
        handles = [layer.register_forward_hook(self._note) for layer in plain]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _note(self, layer: nn.Module, inputs: tuple, output: Tensor) -> None:
        self.layer, self.given = (layer, inputs[0]) if len(inputs) == 1 else (None, None)
        # As long as the output is kept, no other tensor is given its memory.
        self.output, self.version = output, output._version

    def made(self, answers: Tensor) -> bool:
        """Return whether answers are the output: in the same memory, row by row, and untouched.

        How often something was done to a tensor in its place torch counts in `_version` alone.
        """
        if self.layer is None or answers._version != self.version:
            return False
        return _memory(answers) == _memory(self.output) and len(self.given) == len(answers)


def _memory(tensor: Tensor) -> tuple:
    return tensor.data_ptr(), tensor.numel(), len(tensor), tensor.stride(0)
