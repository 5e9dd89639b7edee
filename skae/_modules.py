"""What can be found out about any torch module: its layers, what a row costs, its answers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from skae._random import draw_seed, global_torch_seed

# A step in the code as a share of the usual size of a unit: small enough for a derivative (the
# error is a hundredth of what curvature does over the usual size), and large enough for single
# precision: rounding is a hundred-thousandth of the answer where a unit of usual size moves what
# the last layer is given by as much as there is of it. Its bias is not there to drown an answer.
_STEP = 1e-2
# Units smaller than this share of the largest are moved as if they were as large.
_SMALLEST = 1e-2
# A training step goes through a layer forward, and twice backward.
_PASSES = 3
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
# Layers that are a linear map and a bias.
_AFFINE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)


class Cost(NamedTuple):
    """What a row costs on its way through modules."""

    operations: float  # multiplications and additions in a training step
    width: int  # the most numbers that stand for it at once


def linear_layers(module: nn.Module) -> list[nn.Linear]:
    """Return the linear layers of a module in the order in which they were added."""
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


def is_plain_linear(layer: nn.Module) -> bool:
    """Return whether a layer computes ``x W' + b`` and nothing else."""
    return type(layer) is nn.Linear and not has_hooks(layer)


def has_hooks(layer: nn.Module) -> bool:
    """Return whether something happens before or behind a layer."""
    forward = (layer._forward_hooks, layer._forward_pre_hooks)
    return any((*forward, layer._backward_hooks, layer._backward_pre_hooks))


def last_linear(module: nn.Module) -> nn.Linear | None:
    """Return the linear layer whose output is that of the module, if that can be seen."""
    while type(module) is nn.Sequential and len(module) and not has_hooks(module):
        module = module[-1]
    return module if is_plain_linear(module) else None  # type: ignore[return-value]


def weight_arrays(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that multiply: of two axes and more, of no normalisation, no bias."""
    found: dict[int, nn.Parameter] = {}
    for owner in module.modules():
        if isinstance(owner, (nn.LayerNorm, nn.RMSNorm)):
            continue
        for name, parameter in owner.named_parameters(recurse=False):
            if parameter.ndim > 1 and "bias" not in name:
                found[id(parameter)] = parameter
    return list(found.values())


@contextlib.contextmanager
def as_in_use(module: nn.Module) -> Iterator[None]:
    """Let a module be as it answers after the training; each part is put back as it was."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


@torch.no_grad()
def try_out(module: nn.Module, n_inputs: int) -> tuple[tuple[int, ...], Cost]:
    """Return the shape of what a module makes of two rows of zeros, and what a row costs there.

    The operations are those of the weights, each times the places where it is applied: exact for
    linear layers and convolutions, and an estimate for others. What multiplies activations with
    each other (the scores of attention) is not seen. It leaves no trace.
    """
    count = _Count()
    with count.watching(module), as_in_use(module), global_torch_seed(draw_seed(None)):
        output = module(torch.zeros(2, n_inputs, dtype=torch.float32, device="cpu"))
    # Layers that are not called themselves count for one place.
    operations = sum(2.0 * w.numel() * count.places.get(id(w), 1.0) for w in weight_arrays(module))
    return tuple(output.shape), Cost(_PASSES * operations, max(count.width, output[0].numel()))


class _Count:
    """Counts, with two rows, how often a weight is applied, and the width of what comes out.

    Torch has a counter of operations (`torch.utils.flop_counter`); its first use imports torch's
    compiler, which takes a second.
    """

    def __init__(self):
        self.places: dict[int, float] = {}
        self.width = 0

    @contextlib.contextmanager
    def watching(self, module: nn.Module) -> Iterator[None]:
        """Count what happens in the parts of a module."""
        handles = [part.register_forward_hook(self._note) for part in module.modules()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _note(self, layer: nn.Module, inputs: tuple, output) -> None:
        n_in, n_out = _largest(inputs) / 2, _largest(output) / 2
        self.width = max(self.width, round(n_out))
        for weight in layer.parameters(recurse=False):
            if weight.ndim > 1:
                here = _places(layer, weight, n_in, n_out)
                self.places[id(weight)] = self.places.get(id(weight), 0.0) + here


def _places(layer: nn.Module, weight: Tensor, n_in: float, n_out: float) -> float:
    """Return at how many places of a row a layer applies a weight."""
    if isinstance(layer, _TRANSPOSED):
        return n_in / weight.shape[0]  # stored by the channels of the input
    if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd):
        return n_out / weight.shape[0]
    return max(1.0, max(n_in, n_out) / min(weight.shape[:2]))


def _largest(found) -> int:
    """Return the numbers in the largest tensor of what a layer is given or returns."""
    if isinstance(found, Tensor):
        return found.numel()
    if isinstance(found, tuple | list):
        return max(map(_largest, found), default=0)
    return 0


def unit_answers(module: nn.Module, code: Tensor) -> Tensor:
    r"""Return how strongly a module answers to each unit of its input, of shape (n_components,).

    That is the norm of :math:`(f(m + s_j e_j) - f(m)) / s_j` with m the mean of the rows of
    ``code`` and :math:`s_j` a hundredth of the usual size (root mean square) of unit j: of the
    columns of the Jacobian at the mean code. It holds whatever f is made of, and can be
    differentiated by its weights as f can. It costs a pass of n_components + 1 rows.
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
        """Note what happens in the layers of a module; those with hooks may do something else."""
        layers = [part for part in module.modules() if type(part) in _AFFINE]
        plain = [layer for layer in layers if not has_hooks(layer)]
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
