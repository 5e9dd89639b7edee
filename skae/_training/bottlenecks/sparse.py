"""Sparse codes, and how their number of active units is steered."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from skae._random import Stream, torch_generator
from skae._state import State
from skae._training.bottlenecks.base import Bottleneck, BottleneckSpec, Term, Terms
from skae._training.bottlenecks.kept import KeptNumber
from skae._validation import of_shape
from skae.networks import Layout
from skae.sparsity import Sparsity

# One of so many is active, where nobody says.
UNITS_AN_ACTIVE_ONE = 4


class SparseBottleneck(Bottleneck):
    """Non-negative codes with exact zeros, steered to a mean number of active units.

    Parameters
    ----------
    n_components : int
    sparsity : Sparsity
    n_active : float
        Target for the mean number of active units a row.
    weight : float or None
        Weight of the penalty; None steers it until the target is met, where that can be done, and
        else is one.
    seed : int
        Of what the sparsity starts at random.
    dropout : float
        Share of the units that a step decodes without; the others are scaled up for it.
    """

    weight: Tensor
    pull: Tensor
    recent_rate: Tensor
    uses: Tensor
    n_counted: Tensor
    dead: Tensor

    #: Weight of the term that revives dead units. They get no other gradient, and the steps of Adam
    #: do not depend on its size; it is small so as not to disturb the layers that others share.
    REVIVAL_WEIGHT = 1e-2
    #: The steered weight starts here, and can grow by this many powers of e in one training.
    INITIAL_WEIGHT, MAX_LOG_GROWTH = 1e-2, 30.0
    #: Least and most weight of the term that draws up units where rows have too few active ones,
    #: and the share of a fifth of the target that may be missing.
    PULLS, SLACK = (1e-3, 10.0), 0.05
    #: In single epochs, rows are counted until a unit that is active as often as it should be on
    #: average has this many: one that is a twentieth as often is then hardly taken for dead.
    USES_TO_COUNT = 100
    #: Weight of the newest batch in the exponential moving average of the rates of activity.
    EMA_RATE = 0.05

    def __init__(
        self,
        n_components: int,
        sparsity: Sparsity,
        n_active: float,
        weight: float | None,
        seed: int = 0,
        dropout: float = 0.0,
    ):
        super().__init__(n_components)
        self.sparsity, self.n_active, self.dropout = sparsity, n_active, dropout
        self.state = State(
            sparsity,
            n_components=n_components,
            n_active=n_active,
            generator=torch_generator(seed, Stream.STATE_AT_START),
        )
        self.steered = is_steered(sparsity, weight)
        of_batch = type(sparsity).activate_in_training
        self.shared_budget = of_batch is not Sparsity.activate_in_training
        self.aims = self.steered or not sparsity.penalised  # at the target
        # A weight that is steered changes all the time, and the objective with it; how well the
        # fit does is then the reconstruction alone.
        fixed = float(sparsity.penalised) if weight is None else float(weight)
        self.final_weight = 0.0 if self.steered else fixed
        initial = self.INITIAL_WEIGHT if self.steered else self.final_weight
        self.register_buffer("weight", torch.tensor(initial, dtype=torch.float32))
        self.register_buffer("pull", torch.tensor(self.PULLS[0], dtype=torch.float32))
        one = torch.ones(n_components, dtype=torch.float32)
        self.register_buffer("recent_rate", one * (n_active / n_components))  # of activity
        self.register_buffer("uses", 0 * one)  # rows on which each unit was active, of those
        self.register_buffer("n_counted", torch.zeros((), dtype=torch.float32))  # counted so far
        self.register_buffer("dead", 0 * one)  # 1 where there was none when counting last ended
        self._look()
        self.on_train_begin(None)

    def on_train_begin(self, n_steps):
        """Choose how fast the weight is steered, and how many rows tell whether a unit is dead."""
        if n_steps is None:
            # Nobody knows how many calls will come: slow enough for the network to follow. A weight
            # that runs ahead switches the whole code off. And a call may have few rows, of which a
            # unit that is alive need not be active on any: counting goes on over calls.
            self.gain = 0.01
            self.n_to_count = self.USES_TO_COUNT * self.n_components / self.n_active
        else:
            self.gain = min(0.1, max(0.003, self.MAX_LOG_GROWTH / max(1, n_steps)))
            self.n_to_count = 1.0  # an epoch has all rows
            self._begin_to_count()

    def _begin_to_count(self) -> None:
        self.uses.zero_()
        self.n_counted.zero_()

    def on_epoch_begin(self, progress):
        """Note which units no row switched on, once enough were counted, and count again."""
        if self.training and self.n_counted >= self.n_to_count:
            self.dead.copy_(self.uses == 0)
            self._begin_to_count()
        self._look()

    def _look(self) -> None:
        """Note what holds for an epoch, so that no step of it waits for a device to say it."""
        self.n_dead = int(self.dead.sum())
        self.pulls = bool(self.pull > self.PULLS[0])

    def draw(self, n_rows, generator):
        """Return what codes are multiplied by before they are decoded in a step of the training."""
        if not (self.training and self.dropout):
            return None
        shape, left = (n_rows, self.n_components), 1.0 - self.dropout
        factor = torch.empty(shape, dtype=torch.float32, device=generator.device)
        return factor.bernoulli_(left, generator=generator) / left

    def forward(self, h, step):
        """Return the reconstruction, the penalty, and the term that revives dead units."""
        state, row_weight = self.state.tensors(), step.row_weight
        code = self._code_in_training(h, row_weight, state) if self.training else self.code(h)
        decoded = code if step.noise is None else code * step.noise
        terms = {"reconstruction": Term(step.reconstruction(decoded))}
        if self.training:
            given = {"pre": h, "code": code, "row_weight": row_weight, "n_active": self.n_active}
            if self.sees_first(**given):
                self._count(code.detach(), row_weight)
            missing = self.sparsity.threshold(h, self.n_active, **state) - h
            missing = of_shape(missing, h.shape, self.sparsity, "threshold, broadcast to pre,")
            terms |= self._drawn_up(missing, row_weight)
        if self.sparsity.penalised:
            gains = step.gains() if self.sparsity.uses_gains else 1.0
            penalty = self.sparsity.penalty(
                h, code, gains, self.recent_rate.clone(), row_weight, self.n_active, **state
            )
            penalty = of_shape(penalty, (), self.sparsity, "penalty")
            weight = self.weight if self.steered else self.final_weight
            terms["sparsity"] = Term(penalty, weight, self.final_weight)
        return terms

    def _code_in_training(
        self, h: Tensor, row_weight: Tensor | None, state: dict[str, Tensor]
    ) -> Tensor:
        code = self.sparsity.activate_in_training(h, row_weight, self.n_active, **state)
        return of_shape(code, h.shape, self.sparsity, "activate_in_training")

    def _count(self, code: Tensor, row_weight: Tensor | None) -> None:
        """Note which units were active, and steer the weight towards the target."""
        active = (code > 0).to(code.dtype)
        self.uses += active.sum(dim=0)
        self.n_counted += len(code)
        weight = torch.ones_like(active[:, 0]) if row_weight is None else row_weight
        rate = weight @ active / weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)
        self.recent_rate.lerp_(rate, self.EMA_RATE)
        excess = (5 * (rate.sum() / self.n_active - 1)).clamp(-1, 1)
        if self.steered:
            self.weight *= (self.gain * excess).exp()
        if self.aims:
            self.pull *= (-min(0.05, 5 * self.gain) * (excess + self.SLACK)).exp()
            self.pull.clamp_(*self.PULLS)

    def _drawn_up(self, missing: Tensor, row_weight: Tensor | None) -> Terms:
        """Return the terms that draw units up to their threshold: dead ones, and what rows lack.

        Of dead ones all, but where rows share the budget of a batch: that would be taken by many
        that come up together on all rows, so that on each row only the nearest are drawn.
        """
        n_wanted = min(max(1, round(self.n_active)), self.n_components)
        # Where all units are dead there is nobody to disturb.
        strength = self.REVIVAL_WEIGHT ** (1.0 - self.dead.mean())
        of_dead = missing.masked_fill(self.dead == 0, math.inf)
        n_drawn = min(n_wanted, self.n_dead) if self.shared_budget else self.n_dead
        revival = _nearest(of_dead, n_drawn, row_weight)
        shortage = _nearest(missing, n_wanted if self.pulls else 0, row_weight)
        terms = {"revival": Term(revival, strength, 0.0)}
        return terms | ({"shortage": Term(shortage, self.pull, 0.0)} if self.aims else {})

    def code_below(self, h, row_weight):
        """Return the code with its zeros; in a training, as one of its steps makes it.

        What the sparsity keeps, such as a threshold, goes with the codes of each step.
        """
        if not self.training:
            return self.code(h)
        code = self._code_in_training(h, row_weight, self.state.tensors())
        self.begin_step()
        self.sees_first(pre=h, code=code, row_weight=row_weight, n_active=self.n_active)
        self.end_step()
        return code

    def code(self, h):
        """Return the code with its zeros."""
        code = self.sparsity.activate(h, self.n_active, **self.state.tensors())
        return of_shape(code, h.shape, self.sparsity, "activate")

    def strongest(self, h: Tensor, n_kept: int) -> Tensor:
        """Return the code of so many units a row, whatever the rule of the training keeps."""
        return of_shape(self.sparsity.strongest(h, n_kept), h.shape, self.sparsity, "strongest")


def _nearest(missing: Tensor, n_units: int, row_weight: Tensor | None) -> Tensor:
    """Return what the units that miss least on each row miss together, averaged over rows."""
    if not n_units:
        return missing.new_zeros(())
    of_rows = missing.topk(n_units, dim=1, largest=False).values.relu().sum(dim=1)
    return of_rows.mean() if row_weight is None else (of_rows * row_weight).mean()


def is_steered(sparsity: Sparsity, weight: float | None) -> bool:
    """Return whether the weight of the penalty changes until the number of active units is met."""
    return weight is None and sparsity.penalised and sparsity.steerable


@dataclass(frozen=True, eq=False)
class SparseCode(BottleneckSpec):
    """Makes a `SparseBottleneck`."""

    sparsity: Sparsity
    n_active: float | None  # None: as the number of units, found by the rows
    sparsity_weight: float | str  # "auto": steered, or 1 where it cannot be
    code_dropout: float = 0.0  # share of the units that a step decodes without

    code = "sparse"

    @property
    def settles_at(self) -> float:
        """While the weight of the penalty is being found, the reconstruction gets worse."""
        return 0.5 if is_steered(self.sparsity, self._weight) else 0.0

    @property
    def _weight(self) -> float | None:
        return None if isinstance(self.sparsity_weight, str) else self.sparsity_weight

    def of_size(self, n_dimensions):
        """Return four units a dimension; as many are active as there are dimensions."""
        n_active = float(n_dimensions) if self.n_active is None else self.n_active
        n_units = max(UNITS_AN_ACTIVE_ONE * n_dimensions, math.ceil(n_active))
        return n_units, replace(self, n_active=n_active)

    def in_stack(self, codes):
        """Return the bottleneck without a penalty: the number that it brought about is kept.

        A penalty on one of several levels would have to be weighed against all others.
        """
        if not self.sparsity.penalised:
            return self
        n_active = float((codes > 0).sum(axis=1).mean()) or self.n_active
        kept = KeptNumber(self.sparsity)
        return replace(self, sparsity=kept, n_active=n_active, sparsity_weight="auto")

    def build(self, layout: Layout, seed: int) -> Bottleneck:
        """Return the bottleneck."""
        if self.n_active is None:
            raise TypeError("The number of active units is not known before `of_size`.")
        given = (self.sparsity, self.n_active, self._weight, seed, self.code_dropout)
        return SparseBottleneck(layout.n_components, *given)
