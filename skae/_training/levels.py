"""The network of a stack, and what stands between levels inside its encoder and its decoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from skae._modules import copied
from skae._scaling import Scaling
from skae._training.bottlenecks import Bottleneck
from skae._training.encoder_input import EncoderInput
from skae.networks import Network


class LevelCode(nn.Module):
    """The code of a level that has others above it.

    Parameters
    ----------
    bottleneck : Bottleneck
        Of the level, in a training that goes on.

    Attributes
    ----------
    row_weight : Tensor or None
        How much each row of the batch counts, while the rows of a step pass.
    """

    row_weight: Tensor | None = None

    def __init__(self, bottleneck: Bottleneck):
        super().__init__()
        self.bottleneck = bottleneck

    def forward(self, h: Tensor) -> Tensor:
        """Return the code, as users see it."""
        return self.bottleneck.code_below(h, self.row_weight)


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


class LevelsNetwork(Network):
    """Levels that were trained, as one network; it is built once.

    Parameters
    ----------
    encoder : torch.nn.Sequential or None
        The encoders one after another, with a `LevelCode` and a `ToLevel` between two.
    decoder : torch.nn.Sequential or None
        The decoders the other way round, with a `ToLevelBelow` between two. None stands for what a
        net has in its module by now, so that it is neither kept nor stored twice.
    """

    adjustable = False
    takes_layer_sizes = False
    takes_any_size = False

    def __init__(self, encoder=None, decoder=None):
        self.encoder = encoder
        self.decoder = decoder

    def build(self, layout, n_encoder_outputs, n_decoder_outputs, seed):
        """Return copies, which share what these share."""
        given = copied({"encoder": self.encoder, "decoder": self.decoder})
        if None in given.values():
            raise ValueError(
                "The network of a stack is made of levels that were trained, and has no first "
                "weights to go back to. Call fit(X) of the estimator instead."
            )
        # As new ones are, wherever the levels were trained.
        return given["encoder"].cpu(), given["decoder"].cpu()


def _register(module: nn.Module, scaling: Scaling | None) -> None:
    for name in ("scale", "shift"):
        values = None if scaling is None else getattr(scaling, name)
        tensor = None if values is None else torch.as_tensor(values, dtype=torch.float32)
        module.register_buffer(name, tensor)
