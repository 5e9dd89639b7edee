"""What stands between the levels of a stack, inside its encoder and its decoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from skae._scaling import Scaling
from skae._training.bottlenecks import Bottleneck
from skae._training.encoder_input import EncoderInput


class LevelCode(nn.Module):
    """The code of a level that has others above it.

    Parameters
    ----------
    bottleneck : Bottleneck
        Of the level, in a training that goes on.
    """

    def __init__(self, bottleneck: Bottleneck):
        super().__init__()
        self.bottleneck = bottleneck

    def forward(self, h: Tensor) -> Tensor:
        """Return the code, as users see it."""
        return self.bottleneck.code_below(h)


class ToLevel(nn.Module):
    """From codes to what the encoder of the level above is given.

    Parameters
    ----------
    scaling : Scaling or None
        Of the codes, as of the rows of any model.
    encoder_input : EncoderInput
        Of the level above.
    """

    scale: Tensor | None
    shift: Tensor | None

    def __init__(self, scaling: Scaling | None, encoder_input: EncoderInput):
        super().__init__()
        _register(self, scaling)
        self.encoder_input = encoder_input

    def forward(self, code: Tensor) -> Any:
        """Return the codes in the units of the level above."""
        code = code if self.shift is None else code - self.shift
        return self.encoder_input(code if self.scale is None else code / self.scale)


class ToLevelBelow(nn.Module):
    """From the raw output of a decoder to what the decoder of the level below is given.

    Parameters
    ----------
    observation : Observation
        Of the level: what raw outputs mean.
    scaling : Scaling or None
        Of the codes that the level was trained on.
    bottleneck : Bottleneck
        Of the level below, whose codes these are.
    """

    scale: Tensor | None
    shift: Tensor | None

    def __init__(self, observation: nn.Module, scaling: Scaling | None, bottleneck: Bottleneck):
        super().__init__()
        _register(self, scaling)
        self.observation, self.bottleneck = observation, bottleneck

    def forward(self, raw: Tensor) -> Tensor:
        """Return the mean of the code below, as its network knows it."""
        observation: Any = self.observation
        code = observation.mean(raw)
        code = code if self.scale is None else code * self.scale
        return self.bottleneck.inner(code if self.shift is None else code + self.shift)


def _register(module: nn.Module, scaling: Scaling | None) -> None:
    for name in ("scale", "shift"):
        values = None if scaling is None else getattr(scaling, name)
        tensor = None if values is None else torch.as_tensor(values, dtype=torch.float32)
        module.register_buffer(name, tensor)
