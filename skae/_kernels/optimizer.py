"""Named optimisers: torch's without its compiler, and AdamW that takes gradients of some rows."""

from __future__ import annotations

import inspect
import weakref
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.adamw import adamw  # the step alone, for moments cut out of larger ones

from skae._kernels.rows import stored

# With more rows than this share it is faster to go through all of them: memory is then read in a
# stream, and not row by row (`benchmarks/sparse_scaling.py --optimizer`).
MOST_ROWS = 0.2


class _UncompiledMixin:
    """Methods of torch's optimisers, without the wrappers that keep `torch.compile` out of them.

    These wrappers import the compiler at their first call, 1.5 seconds of processor time in the
    first fit of a process (`benchmarks/first_fit.py`), and do nothing where nothing is compiled.
    """

    param_groups: list[dict[str, Any]]

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Take gradients away or, if asked to, set them to zero."""
        if not set_to_none:
            _torch_zero_grad(self, set_to_none=False)
            return
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None


_torch_zero_grad = inspect.unwrap(Optimizer.zero_grad)
_torch_step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))
_ONE = torch.tensor(1.0, device="cpu")


class AdamW(_UncompiledMixin, torch.optim.AdamW):
    """``torch.optim.AdamW``, whose fused step takes less time where weights are few."""

    @torch.no_grad()
    def step(self, closure=None):
        """Make a step; a closure is evaluated first, as in every torch optimiser."""
        loss = _evaluated(closure)
        _adamw_step(self)
        return loss


def _adamw_step(optimizer: torch.optim.AdamW) -> None:
    """Make the step of AdamW for all dense gradients.

    Torch sorts the tensors of each group by device and type anew in every step; here all are of one
    kind. What is not fused, and the first step, which makes the state, is left to torch.
    """
    trained = [(group, *_with_gradient(optimizer, group)) for group in optimizer.param_groups]
    if not all(group["fused"] and all(states) for group, _, states in trained):
        _torch_step(optimizer)
        return
    _count([state["step"] for _, _, states in trained for state in states])
    for group, parameters, states in trained:
        if parameters:
            _fused_step(group, parameters, states)


def _evaluated(closure) -> Any:
    """Return what a closure returns, with gradients."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def _with_gradient(optimizer: Optimizer, group: dict) -> tuple[list[Any], list[dict]]:
    """Return the parameters of a group that have a gradient, and their states."""
    parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
    return parameters, [optimizer.state.get(parameter, {}) for parameter in parameters]


def _count(steps: list[Tensor]) -> None:
    """Count a step of each parameter, all on one device."""
    if steps and steps[0].device.type == "cpu":
        # There a number would be made a tensor for each of them.
        torch._foreach_add_(steps, _ONE, alpha=1.0)
    elif steps:
        torch._foreach_add_(steps, 1)


def _fused_step(group: dict, parameters: list[Any], states: list[dict]) -> None:
    """Make the step of a group; steps are counted."""
    fused_adamw(
        parameters,
        [parameter.grad for parameter in parameters],
        [state["exp_avg"] for state in states],
        [state["exp_avg_sq"] for state in states],
        [state["step"] for state in states],
        lr=group["lr"],
        weight_decay=group["weight_decay"],
        beta1=group["betas"][0],
        beta2=group["betas"][1],
        eps=group["eps"],
    )


def fused_adamw(
    parameters: list[Any],
    gradients: list[Tensor],
    means: list[Tensor],
    squares: list[Tensor],
    steps: list[Tensor],
    **settings: Any,
) -> None:
    """Make a step of AdamW of all parameters; steps, one for each of them, are counted.

    The settings are "lr", "weight_decay", "beta1", "beta2" and "eps".
    """
    torch._fused_adamw_(
        parameters, gradients, means, squares, [], steps, **settings, amsgrad=False, maximize=False
    )


def lerp_all(tensors: list[Tensor], ends: list[Tensor], share: float) -> None:
    """Move each tensor by a share of the way to another, in one call."""
    torch._foreach_lerp_(tensors, ends, share)


class SGD(_UncompiledMixin, torch.optim.SGD):
    """``torch.optim.SGD``."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))


class RowAdamW(_UncompiledMixin, torch.optim.AdamW):
    """AdamW for dense gradients and, row by row, for sparse ones.

    A parameter with a sparse gradient of few rows is changed in these alone: moments and weight
    decay of the others stand still until their turn comes ("lazy" Adam). Where the rows are many,
    the gradient of the others is taken as zero, which it is. The state is that of AdamW.

    ``torch.optim.SparseAdam`` is lazy as well, but has no weight decay, refuses dense gradients
    (so that a weight could not change between few rows and many), and is not fused: on few rows a
    step of it takes about twice as long (`benchmarks/sparse_scaling.py --optimizer`).
    """

    @torch.no_grad()
    def step(self, closure=None):
        """Make a step; a closure is evaluated first, as in every torch optimiser."""
        loss = _evaluated(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    self._step_sparse(parameter, *_rows(parameter.grad), group)
                if parameter.grad is not None:
                    self.before_change(parameter)
        _adamw_step(self)
        return loss

    def tell(self, watcher: Any) -> None:
        """Call ``watcher.about_to_change`` before each change, for as long as the watcher lives."""
        self.__dict__.setdefault("_watchers", weakref.WeakSet()).add(watcher)

    def before_change(self, parameter: Tensor, rows: Tensor | None = None) -> None:
        """Tell watchers that rows of a parameter (all, if not told) are about to change."""
        for watcher in self.__dict__.get("_watchers", ()):
            watcher.about_to_change(parameter, rows)

    def _step_sparse(self, parameter: Tensor, rows: Tensor, values: Tensor, group: dict) -> None:
        """Make the step of some rows, or leave a dense gradient to the step of all."""
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        if len(rows) > MOST_ROWS * len(parameter):
            parameter.grad = self._dense(parameter, rows, values)
            return
        parameter.grad = None
        self.before_change(parameter, rows)
        wholes = (parameter, state["exp_avg"], state["exp_avg_sq"])
        some, mean, square = parts = self._parts(wholes, rows)
        adamw(
            [some],
            [values],
            [mean],
            [square],
            [],
            [state["step"]],
            fused=bool(group["fused"]),
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
        for whole, part in zip(wholes, parts, strict=True):
            _put(whole, rows, part)

    def _parts(self, wholes: tuple[Tensor, ...], rows: Tensor) -> list[Tensor]:
        """Return some rows of tensors of one shape, in memory that is kept from step to step."""
        like = wholes[0]
        kept = self.__dict__.setdefault("_scratch", {})
        scratch = kept.get(like.shape[1:])
        if scratch is None or len(scratch[0]) < len(rows):
            shape = (min(len(like), round(1.25 * len(rows)) + 1), *like.shape[1:])
            scratch = kept[like.shape[1:]] = [like.new_empty(shape) for _ in wholes]
        parts = [part[: len(rows)] for part in scratch]
        for whole, part in zip(wholes, parts, strict=True):
            torch.index_select(whole, 0, rows, out=part)
        return parts

    def _dense(self, parameter: Tensor, rows: Tensor, values: Tensor) -> Tensor:
        """Return the gradient of all rows, in memory that is kept from step to step.

        New memory of that size is expensive: the system hands it out page by page, and filled with
        zeros.
        """
        kept = self.__dict__.setdefault("_kept", {})
        buffer, last = kept.get(parameter, (None, None))
        if buffer is None:
            buffer = torch.zeros_like(parameter)
        else:
            buffer.index_fill_(0, last, 0.0)
        kept[parameter] = buffer.index_copy_(0, rows, values), rows
        return buffer


def _put(whole: Tensor, rows: Tensor, part: Tensor) -> None:
    """Write some rows of a tensor."""
    if whole.device.type == "cpu":
        # Twice as fast as index_copy_.
        whole.detach().numpy()[rows.numpy()] = part.numpy()
    else:
        whole.index_copy_(0, rows, part)


def _rows(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows of a sparse gradient, each once, and their values."""
    rows, values = stored(gradient)
    # To coalesce what is coalesced takes longer than to look.
    if bool((rows.diff() > 0).all()):
        return rows, values
    gradient = gradient.coalesce()
    return gradient.indices()[0], gradient.values()
