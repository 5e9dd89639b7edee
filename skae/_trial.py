"""What does a module do with rows of a given width? It is tried out before anything is trained."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils.parametrize import is_parametrized

from skae._modules import (
    CONVOLUTION,
    as_in_use,
    copied,
    layers_with_parameters,
    multiplies,
    weight_arrays,
)
from skae._random import global_torch_seed

N_ROWS = 2
# A training step goes through a layer forward, and twice backward.
_PASSES = 3
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class Cost(NamedTuple):
    """What a row costs on its way through modules."""

    operations: float  # multiplications and additions in a training step
    width: int  # the most numbers that stand for it at once


def try_out(module: nn.Module, n_inputs: int) -> tuple[Any, Cost]:
    """Return what a module makes of two rows of zeros, and what a row costs there.

    The operations are those of the weights, each times the places where it is applied: exact for
    linear layers and convolutions, and an estimate for others. What multiplies activations with
    each other (the scores of attention) is not seen. A copy is tried out, so it leaves no trace; a
    module that holds what cannot be copied, such as a lock, is tried out itself.
    """
    module, count = _double(module), _Count()
    with count.watching(module):
        output = _run(module, n_inputs)
    # Layers that are not called themselves count for one place.
    others = (weight for weight in weight_arrays(module) if id(weight) not in count.met)
    operations = count.operations + sum(2.0 * weight.numel() for weight in others)
    return output, Cost(_PASSES * operations, max(count.width, _largest(output) // N_ROWS))


def materialise(module: nn.Module, n_inputs: int) -> None:
    """Give lazy layers the shapes that rows of a width lead to, and their first weights.

    The weights are drawn from torch's global generator. Which input a layer gets is seen in a copy,
    and the layer alone is called: the others may start from the first rows that they are given.
    """
    lazy = {name: part for name, part in module.named_modules() if _is_lazy(part)}
    if not lazy:
        return
    double = _double(module)
    given: dict[str, tuple] = {}
    handles = [
        double.get_submodule(name).register_forward_pre_hook(
            partial(_note_input, given, name), with_kwargs=True
        )
        for name in lazy
    ]
    _run(double, n_inputs)
    for handle in handles:
        handle.remove()
    for name, (args, kwargs) in given.items():
        with torch.no_grad(), as_in_use(lazy[name]):
            if _is_lazy(lazy[name]):  # not where a layer about it was called before
                lazy[name](*args, **kwargs)
    for name, part in lazy.items():
        if _is_lazy(part):
            raise RuntimeError(f"its lazy layer {name!r} is not called, and has no shape")


def peculiarity(module: nn.Module) -> str:
    """Return a sentence about a tensor that does not go with the rows of a trial, or "".

    These are in single precision and on the CPU.
    """
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.device.type != "cpu":
            return (
                f"Its {name} is on device {str(tensor.device)!r}: make it on the CPU, from where a "
                "fit takes it to the device of the estimator. "
            )
        is_number = tensor.is_floating_point() or tensor.is_complex()
        if is_number and tensor.dtype != torch.float32:
            return f"Its {name} is of {tensor.dtype}, and rows are of torch.float32: call float(). "
    return ""


def fault(output: Any, n_outputs: int) -> tuple[str, str] | None:
    """Return what is wrong about what a module made of the rows of a trial, and the remedy."""
    if not isinstance(output, Tensor):
        return f"a {type(output).__name__}", "Let it return one tensor"
    if tuple(output.shape) != (N_ROWS, n_outputs):
        return f"shape {tuple(output.shape)}", "Change its last layer"
    if output.device.type != "cpu":
        return f"numbers on device {str(output.device)!r}", "Let it stay on the device of its input"
    if output.dtype != torch.float32:
        return f"numbers of {output.dtype}", "Let it return torch.float32"
    return None


@torch.no_grad()
def _run(module: nn.Module, n_inputs: int) -> Any:
    with as_in_use(module), global_torch_seed(0):
        return module(torch.zeros(N_ROWS, n_inputs, dtype=torch.float32, device="cpu"))


def _double(module: nn.Module) -> nn.Module:
    """Return a copy of a module, or the module where there can be none."""
    try:
        return copied({"": module})[""]
    except Exception:  # of whatever kind: it is up to what the module holds
        return module


def _is_lazy(part: nn.Module) -> bool:
    return isinstance(part, LazyModuleMixin) and part.has_uninitialized_params()  # type: ignore[misc]


def _note_input(given: dict[str, tuple], name: str, layer: nn.Module, args, kwargs) -> None:
    given.setdefault(name, (args, kwargs))


class _Count:
    """Counts, with two rows, the operations of weights, and the width of what comes out.

    Torch has a counter of operations (`torch.utils.flop_counter`); its first use imports torch's
    compiler, which takes a second.
    """

    def __init__(self):
        self.operations = 0.0
        self.met: set[int] = set()  # weights of layers that were called
        self.width = 0

    @contextlib.contextmanager
    def watching(self, module: nn.Module) -> Iterator[None]:
        """Count what happens in the layers of a module."""
        handles = [
            layer.register_forward_hook(partial(self._note, parameters.values()))
            for layer, parameters in layers_with_parameters(module)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _note(self, parameters: Iterable[Tensor], layer: nn.Module, inputs: tuple, output) -> None:
        n_in, n_out = _largest(inputs) / N_ROWS, _largest(output) / N_ROWS
        self.width = max(self.width, round(n_out))
        self.met.update(map(id, parameters))
        for name, shape in _shapes(layer).items():
            if multiplies(layer, name, shape):
                self.operations += 2.0 * shape.numel() * _places(layer, shape, n_in, n_out)


def _shapes(layer: nn.Module) -> dict[str, torch.Size]:
    """Return the shapes of what a layer works with: parametrised, it is what comes out of that."""
    shapes = {name: own.shape for name, own in layer.named_parameters(recurse=False)}
    if is_parametrized(layer):
        made: Any = layer.parametrizations
        shapes.update({name: getattr(layer, name).shape for name in made})
    return shapes


def _places(layer: nn.Module, weight: torch.Size, n_in: float, n_out: float) -> float:
    """Return at how many places of a row a layer applies a weight of a shape."""
    if isinstance(layer, _TRANSPOSED):
        return n_in / weight[0]  # stored by the channels of the input
    if isinstance(layer, nn.Linear | CONVOLUTION):
        return n_out / weight[0]
    return max(1.0, max(n_in, n_out) / min(weight[:2]))


def _largest(found) -> int:
    """Return the numbers in the largest tensor of what a layer is given or returns."""
    if isinstance(found, Tensor):
        return found.numel()
    if isinstance(found, tuple | list):
        return max(map(_largest, found), default=0)
    return 0
