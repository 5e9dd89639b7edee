"""What the program around may have set in torch, undone for the time of a call."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def usual_torch(training: bool = False) -> Iterator[None]:
    """Make tensors on the CPU where no device is named; with ``training``, record gradients.

    A program may have another default device, compute without gradients, or in low precision where
    torch sees fit (autocast); skae names the device wherever it is another one than the CPU.
    """
    with contextlib.ExitStack() as stack:
        if torch.empty(0).device.type != "cpu":  # each call is slower under a mode of its own
            stack.enter_context(torch.device("cpu"))
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if training:
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
        yield
