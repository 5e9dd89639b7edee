"""Ways back: what weights, and what an optimiser knows of them, were at one moment of a training.

The guard against losses that are not finite, the best epoch and the way back after an error all
hold a `Moment`. With an optimiser that says which rows it is about to change, a moment holds these
rows alone, so that it costs what was changed and not what there is.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from skae._kernels.optimizer import RowAdamW
from skae._training.words import WordFeatures


class Moment:
    """Weights and buffers of a net as they are now, to go back to.

    Parameters
    ----------
    net : AutoencoderNet
    with_optimizer : bool, default=False
        Whether to go back in what the optimiser knows, too.
    """

    def __init__(self, net: Any, with_optimizer: bool = False):
        self.module, self.optimizer = net.module_, net.optimizer_
        self.with_optimizer = with_optimizer
        # A callback of the user's may change any weight, and says nothing.
        self.by_rows = isinstance(self.optimizer, RowAdamW) and not net.callbacks
        state = self.optimizer.state if with_optimizer else {}
        self.before = {
            parameter: _Before([parameter, *_like(parameter, state.get(parameter, {}))])
            for parameter in self.module.parameters()
        }
        if with_optimizer:
            self.rest, self.groups = _rest(self.optimizer)
        if self.by_rows:
            self.optimizer.tell(self)
        self._begin()

    def renew(self) -> None:
        """Let the moment be now, in the memory that is there; not with an optimiser."""
        for before in self.before.values():
            before.forget()
        self._begin()

    def _begin(self) -> None:
        self.buffers = {name: value.clone() for name, value in _buffers(self.module)}
        if not self.by_rows:
            for before in self.before.values():
                before.keep()

    def about_to_change(self, parameter: Tensor, rows: Tensor | None = None) -> None:
        """Keep rows of a parameter (all, if not told) that were not changed before."""
        if parameter in self.before:
            self.before[parameter].keep(rows)

    def growth(self) -> float:
        """Return how many times the largest weight of a parameter grew since, from 1 at least.

        NaN or infinite where a weight is that is trained.
        """
        trained = (each for parameter, each in self.before.items() if parameter.requires_grad)
        growth = [before.growth() for before in trained]
        return math.nan if any(map(math.isnan, growth)) else max(growth, default=1.0)

    def buffer_gone_bad(self) -> str | None:
        """Return the name of a buffer with a number that was finite then, and is not any more.

        Others may be infinite from the start: masks of attention, running minima.
        """
        for name, value in _buffers(self.module):
            then = self.buffers.get(name, value)
            if not bool((value.isfinite() | ~then.isfinite()).all()):
                return name
        return None

    def go_back(self) -> None:
        """Put everything back as it was."""
        with torch.no_grad():
            for before in self.before.values():
                before.put_back()
            for name, value in _buffers(self.module):
                value.copy_(self.buffers[name])
        if self.with_optimizer:
            self._go_back_in_optimizer()

    def _go_back_in_optimizer(self) -> None:
        for group, values in zip(self.optimizer.param_groups, self.groups, strict=True):
            group.update(copy.deepcopy(values))
        self.optimizer.state.clear()
        for parameter, (names, values) in self.rest.items():
            wholes = self.before[parameter].tensors[1:]
            self.optimizer.state[parameter] = {
                **dict(zip(names, wholes, strict=True)),
                **copy.deepcopy(values),
            }


class _Before:
    """What tensors of one length were before some of their rows were changed."""

    def __init__(self, tensors: list[Tensor]):
        self.tensors = tensors
        self.wholes: list[Tensor] = []  # in memory that is kept from moment to moment
        self.changed: Tensor | None = None  # (n_rows,), bool
        self.forget()

    def forget(self) -> None:
        """Keep nothing."""
        self.parts: list[tuple[Tensor, list[Tensor]]] = []  # rows, and what they were
        self.whole = False
        if self.changed is not None:
            self.changed.zero_()

    @torch.no_grad()
    def keep(self, rows: Tensor | None = None) -> None:
        """Keep rows as they are, where they are not kept already."""
        if self.whole:
            return
        if rows is None:
            self._keep_whole()
            return
        if self.changed is None:
            self.changed = torch.zeros(len(self.tensors[0]), dtype=torch.bool, device=rows.device)
        new = rows[~self.changed[rows]]
        self.changed[new] = True
        self.parts.append((new, [_take(tensor, new) for tensor in self.tensors]))

    def _keep_whole(self) -> None:
        if self.wholes:
            for whole, tensor in zip(self.wholes, self.tensors, strict=True):
                whole.copy_(tensor)
        else:
            self.wholes = [tensor.detach().clone() for tensor in self.tensors]
        self._put_parts_back(self.wholes)
        self.whole, self.parts = True, []

    def growth(self) -> float:
        """Return how many times the largest value of the first tensor grew, from 1 at least."""
        tensor = self.tensors[0].detach()
        now = _largest([tensor] if self.whole else (_take(tensor, rows) for rows, _ in self.parts))
        if not now > 1.0:  # NaN too
            return now
        then = self.wholes[:1] if self.whole else [values[0] for _, values in self.parts]
        return now / max(1.0, _largest(then))

    def put_back(self) -> None:
        """Put back what was kept."""
        if self.whole:
            for tensor, whole in zip(self.tensors, self.wholes, strict=True):
                tensor.copy_(whole)
        else:
            self._put_parts_back(self.tensors)

    def _put_parts_back(self, tensors: list[Tensor]) -> None:
        for rows, parts in self.parts:
            for tensor, part in zip(tensors, parts, strict=True):
                tensor.index_copy_(0, rows, part)


def _buffers(module: torch.nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the buffers that may change, with their names; those of words are many, and stay."""
    words = [part for part in module.modules() if isinstance(part, WordFeatures)]
    fixed = {id(buffer) for part in words for buffer in part.buffers()}
    return ((name, one) for name, one in module.named_buffers() if id(one) not in fixed)


def _like(parameter: Tensor, state: dict) -> list[Tensor]:
    """Return what an optimiser knows of each entry of a parameter."""
    return [value for value in state.values() if _is_like(value, parameter)]


def _is_like(value: Any, parameter: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == parameter.shape and value.ndim > 0


def _rest(optimizer: torch.optim.Optimizer) -> tuple[dict, list[dict]]:
    """Return the names of `_like` with a copy of all else, by parameter; and a copy of groups."""
    rest = {}
    for parameter, state in optimizer.state.items():
        names = [name for name, value in state.items() if _is_like(value, parameter)]
        others = {name: value for name, value in state.items() if name not in names}
        rest[parameter] = names, copy.deepcopy(others)
    groups = [
        copy.deepcopy({name: value for name, value in group.items() if name != "params"})
        for group in optimizer.param_groups
    ]
    return rest, groups


def _take(tensor: Tensor, rows: Tensor) -> Tensor:
    return torch.index_select(tensor.detach(), 0, rows)  # three times as fast as tensor[rows]


def _largest(tensors: Iterable[Tensor]) -> float:
    """Return the largest absolute value, NaN if there is one; seven times as fast as a norm."""
    ends = [end for values in tensors if values.numel() for end in (values.max(), -values.min())]
    return float(torch.stack(ends).max()) if ends else 0.0
