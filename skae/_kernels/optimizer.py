"""AdamW that takes gradients of some rows."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim.adamw import adamw


class RowAdamW(torch.optim.AdamW):
    """AdamW for dense gradients and, row by row, for sparse ones.

    A parameter with a sparse gradient is changed in its rows alone: moments and weight decay of the
    others stand still until their turn comes ("lazy" Adam). Its state is that of AdamW, so dense
    and sparse gradients of one parameter may alternate.
    """

    @torch.no_grad()
    def step(self, closure=None):
        """Make a step; a closure is evaluated first, as in every torch optimiser."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        sparse = {}
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    sparse[parameter] = parameter.grad
                    self._step_rows(parameter, group)
                    parameter.grad = None
        super().step()
        for parameter, gradient in sparse.items():
            parameter.grad = gradient
        return loss

    def _step_rows(self, parameter: Tensor, group: dict) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        gradient = parameter.grad.coalesce()
        rows, values = gradient.indices()[0], gradient.values()
        wholes = (parameter, state["exp_avg"], state["exp_avg_sq"])
        some, mean, square = (whole.index_select(0, rows) for whole in wholes)
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
        for whole, part in zip(wholes, (some, mean, square), strict=True):
            whole.index_copy_(0, rows, part)
