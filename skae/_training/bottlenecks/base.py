"""What a bottleneck gives, and what its training step may ask for.

Shapes: ``h``, the encoder's output, is (n_rows, n_inputs); codes are (n_rows, n_components); scores
are (n_rows,).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from skae._state import State
from skae._training.plain_data import Specification
from skae.inits import LinearStart
from skae.networks import Affine, Layout

Gains = Callable[[], Tensor | float]  # how strongly the decoder answers to each unit
LogLikelihood = Callable[[Tensor], Tensor]  # codes (n_rows, k) -> log p(x | code), (n_rows,)


class Term(NamedTuple):
    """One named part of an objective."""

    value: Tensor  # scalar, before its weight
    weight: float | Tensor = 1.0  # weight in the loss of this step
    final_weight: float = 1.0  # weight in the objective that says whether the fit still improves


Terms = dict[str, Term]


class Step(NamedTuple):
    """What a training step may ask for, beside the encoder's output.

    ``reconstruction`` is ``-(share @ log_likelihood(code))``. It is there because a loss of sparse
    rows and its gradient come in one pass where the share of each row is known beforehand, and in
    two where it is not, as where it depends on the log-likelihoods of several codes of a row.
    """

    reconstruction: Callable[[Tensor], Tensor]  # codes -> scalar
    log_likelihood: LogLikelihood  # with a gradient; the one that `Bottleneck.score` gets
    share: Tensor  # (n_rows,), how much each row counts in the reconstruction
    gains: Gains
    row_weight: Tensor | None = None  # (n_rows,), with mean one over the training rows
    noise: Tensor | None = None  # what `Bottleneck.draw` gave


class Bottleneck(nn.Module, ABC):
    """From the encoder's output to the code.

    ``forward`` is the training step: it returns the terms of the objective, and draws nothing.
    ``code`` is what ``transform`` returns, and ``score`` the log-likelihood of rows.
    """

    #: Whether the gradient of the network is weighted by the variance of each column (beta-NLL with
    #: beta = 1; Seitzer et al. 2022), so that errors count alike in every scaled column. Where each
    #: row has a code of its own, nothing checks the gain in likelihood from columns that are known
    #: almost exactly, and those of little variance would take all of the code. A bound of log p(x)
    #: has that check, and must be trained as it is.
    variance_weighted: bool = True

    #: Whether codes are brought to `axes` after a training, which costs an answer for each row.
    turns: bool = False
    #: Whether codes that are turned have the mean zero over the training rows.
    centres: bool = True

    turn: Tensor | None
    centre: Tensor | None

    def __init__(self, n_components: int):
        super().__init__()
        self.n_components = n_components
        self.seen: dict[str, Any] | None = None  # in this step
        # Between codes as the network knows them and as users see them; None: there is no turn.
        self.register_buffer("turn", None, persistent=False)
        self.register_buffer("centre", None, persistent=False)

    @property
    def n_inputs(self) -> int:
        """Number of outputs that the encoder must have."""
        return self.n_components

    def init_encoder(self, encoder: nn.Module) -> None:
        """Set the first weights of the encoder's last layer, where they must not be random."""

    def encoder_start(self, start: LinearStart) -> Affine:
        """Return what the encoder is to be before the training."""
        weight = torch.tensor(np.ascontiguousarray(start.encode.T), dtype=torch.float32)
        if start.words is not None:  # whose features have the mean zero
            return Affine(weight, weight.new_zeros(len(weight)))
        return Affine(weight, -weight @ torch.as_tensor(start.mean, dtype=torch.float32))

    def on_train_begin(self, n_steps: int | None) -> None:
        """Learn how many steps the training that begins now will take at most.

        None stands for a single epoch, which may be one of many calls.
        """

    def on_epoch_begin(self, progress: float) -> None:
        """Learn that a share ``progress`` of the training is done; called before each epoch."""

    def draw(self, n_rows: int, generator: torch.Generator) -> Tensor | None:
        """Return all that is random in a step on so many rows, or None."""
        return None

    def begin_step(self) -> None:
        """Learn that a step of the training begins; its loss may be asked for several times."""
        self.seen = None

    def sees_first(self, **seen: Any) -> bool:
        """Note what the loss is of; return whether it is the first of the step, which counts."""
        if self.seen is not None:
            return False
        tensors = {name: v.detach() for name, v in seen.items() if isinstance(v, Tensor)}
        self.seen = {**seen, **tensors}
        return True

    def end_step(self) -> None:
        """Let components change their buffers, after the step, by what its first loss saw."""
        seen, self.seen = self.seen, None
        for part in self.children():
            if isinstance(part, State) and seen is not None:
                part.update(**seen)

    @abstractmethod
    def forward(self, h: Tensor, step: Step) -> Terms:
        """Return the terms of the objective, unweighted."""

    @abstractmethod
    def code(self, h: Tensor) -> Tensor:
        """Return the code that ``transform`` returns."""

    def code_below(self, h: Tensor, row_weight: Tensor | None) -> Tensor:
        """Return the code where other levels of a stack are above it, in a training too."""
        return self.code(h)

    def axes(self, codes: np.ndarray, told: dict[str, np.ndarray]) -> np.ndarray:
        """Return how codes are to be turned, an orthogonal (k, k), where the bottleneck `turns`.

        Parameters
        ----------
        codes : ndarray of shape (n_rows, k)
            Of training rows, with mean zero.
        told : dict of ndarray
            The means of `diagnostics`.
        """
        return np.eye(self.n_components)

    def turn_to(self, axes: np.ndarray, centre: np.ndarray, device: torch.device) -> None:
        """From now on, let users see ``(code - centre) @ axes``."""
        self.turn = torch.tensor(axes, dtype=torch.float32, device=device)
        self.centre = torch.tensor(centre, dtype=torch.float32, device=device)

    def outer(self, code: Tensor) -> Tensor:
        """Return codes as users see them."""
        if self.turn is None or self.centre is None:
            return code
        return (code - self.centre) @ self.turn

    def inner(self, code: Tensor) -> Tensor:
        """Return codes as the network knows them."""
        if self.turn is None or self.centre is None:
            return code
        return code @ self.turn.T + self.centre

    def diagnostics(self, h: Tensor) -> dict[str, Tensor]:
        """Return what there is to tell of each row, by name, each of shape (n_rows, ...)."""
        return {}

    def score(self, h: Tensor, log_likelihood: LogLikelihood) -> Tensor:
        """Return log p(x | code of x)."""
        return log_likelihood(self.code(h))


class BottleneckSpec(Specification, ABC):
    """Which bottleneck a model has: plain data, so that a specification can be written out.

    Its fields have the names of parameters of the estimator, which errors name.
    """

    @property
    @abstractmethod
    def settles_at(self) -> float:
        """Share of a training before which its objective says nothing of convergence."""

    @property
    @abstractmethod
    def code(self) -> str:
        """What codes are: "plain", "sparse" or "gaussian", as `Init.fit` is told."""

    def of_size(self, n_dimensions: int) -> tuple[int, Self]:
        """Return the units of a code of rows of so many dimensions, and the bottleneck for it."""
        return n_dimensions, self

    def begun(self, at_model: bool) -> Self:
        """Return the bottleneck once it is known whether the training starts at a model of rows."""
        return self

    def in_stack(self, codes: np.ndarray) -> Self:
        """Return the bottleneck of a level that was trained, in a stack that is trained further.

        ``codes`` are those of its training rows.
        """
        return self

    @abstractmethod
    def build(self, layout: Layout, seed: int) -> Bottleneck:
        """Return the bottleneck."""
