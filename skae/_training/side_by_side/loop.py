"""A pass: trainings of one kind, epoch by epoch, each by its own rule until its own end."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from skae._kernels.optimizer import lerp_all
from skae._training.callbacks import newest_share
from skae._training.rules import is_worth_keeping
from skae._training.side_by_side.course import Course
from skae._training.side_by_side.feed import Feed, Given
from skae._training.side_by_side.losses import Losses, numbers_of
from skae._training.side_by_side.run import Run, kind_of
from skae._training.side_by_side.stack import Stack, Tensors, copied, some
from skae._training.surroundings import usual_torch
from skae._training.threads import threads_for

# Models that have ended leave the stack where that saves as many of their steps at least: so long
# does it take to find out what is to be done for a stack of another size.
_STEPS_TO_SAVE = 400


@usual_torch(training=True)
def train_side_by_side(runs: list[Run], recorded: dict) -> None:
    """Train models of one kind; what went wrong in one is its `Run.error`, and its alone.

    What is found out of their kind is kept in ``recorded``, for other passes.
    """
    with threads_for(0.0):
        _Pass(runs, recorded).train()


class _Pass:
    """Trainings that begin together."""

    def __init__(self, runs: list[Run], recorded: dict):
        self.stack = Stack(runs)
        self.courses = [Course(run) for run in runs]
        self.losses = Losses(self.stack.template, recorded, kind_of(runs[0]))
        names = ["kept"] + ["average"] * runs[0].averages + ["best"] * runs[0].keeps_best
        self.copies = {name: copied(self.stack.weights) for name in names}
        self.n_components = self.stack.template.bottleneck.n_components
        self.feed = Feed(runs, self.n_components)
        self.held_out: list[Given] = []

    @property
    def live(self) -> list[tuple[int, Course]]:
        """The trainings that go on, with their places in the stack."""
        return [(place, one) for place, one in enumerate(self.courses) if not one.ended]

    def train(self) -> None:
        """Train until the last has ended."""
        while self.live:
            began = time.perf_counter()
            for _, course in self.live:
                course.begin_epoch()
            self._train_epoch()
            if self.stack.runs[0].held_out is not None:
                self._judge()
            self._end_epoch((time.perf_counter() - began) / len(self.live))
            self._cut()

    def _train_epoch(self) -> None:
        """Make the steps of an epoch, and record their terms."""
        found: list[Tensors] = []
        numbers = numbers_of(self.losses.template, self.stack.runs)  # of this epoch
        self.others = [self.stack.buffers, numbers]
        n_batches, begun = len(self.feed.sizes), self.courses[self.live[0][0]].n_epochs
        for number, given in enumerate(self.feed):
            terms, gradients = self.losses(self.stack.weights, self.others, given, training=True)
            found.append(terms)
            factors = self._factors(begun + (number + 0.5) / n_batches)
            self._hold_encoders(gradients, factors)
            self.stack.step(gradients, factors)
            if "average" in self.copies:
                share = newest_share(begun * n_batches + number + 1)
                _draw_near(self.copies["average"], self.stack.weights, share)
        self._record("train", found, self.feed.sizes)

    def _hold_encoders(self, gradients: Tensors, factors: list[float]) -> None:
        """Let the first step of a start in closed form train its decoder alone."""
        modules = [run.module for run in self.stack.runs]
        if not any(module.begins for module in modules):
            return
        device = self.stack.n_steps.device
        trains = torch.tensor([not module.begins for module in modules], device=device)
        for name, gradient in gradients.items():
            if name.startswith("encoder."):
                gradient.mul_(trains.view(-1, *[1] * (gradient.ndim - 1)))
        for module, factor in zip(modules, factors, strict=True):
            module.begins = module.begins and factor == 0.0  # which is no step

    def _factors(self, epoch: float) -> list[float]:
        """Return the factor of each rate; that of one that has ended is that of another."""
        found = {place: course.rule.factor(epoch) for place, course in self.live}
        other = next(iter(found.values()))
        return [found.get(place, other) for place in range(len(self.courses))]

    @torch.no_grad()
    def _judge(self) -> None:
        """Record the terms of the rows held out."""
        if not self.held_out:  # the same in every epoch, with the same noise
            feed = Feed(self.stack.runs, self.n_components, training=False)
            self.held_out, self.judged_sizes = [copied(given) for given in feed], feed.sizes
        weights = self.copies.get("average", self.stack.weights)
        found = [self.losses(weights, self.others, given, False)[0] for given in self.held_out]
        self._record("valid", found, self.judged_sizes)

    def _record(self, prefix: str, found: list[dict[str, Tensor]], sizes: Tensor) -> None:
        """Write means over the rows of an epoch into the history of each net."""
        share = sizes.double() / sizes.sum(dim=0)
        values = torch.stack([torch.stack(list(one.values())) for one in found]).cpu().double()
        means = (share[:, None] * values).sum(dim=0).T.tolist()
        for place, course in self.live:
            course.record(prefix, dict(zip(found[0], means[place], strict=True)), len(sizes))

    @torch.no_grad()
    def _end_epoch(self, seconds: float) -> None:
        """Keep the weights to which trainings may come back, and end those that are over."""
        growths = self._growths()
        finite = [(place, one) for place, one in self.live if one.is_finite(growths[place])]
        failed = [place for place, one in self.live if one.run.error is not None]
        worth = [place for place, _ in finite if is_worth_keeping(growths[place])]
        best = [place for place, one in finite if one.observe(seconds)]
        self._keep("kept", worth)
        if best:
            self._keep("best", best)
        for place in failed:
            self._end(place, self.copies["kept"], with_optimizer=False)
        for place, course in finite:
            if course.is_over:
                self._end(place, self._last_weights(place))

    def _growths(self) -> list[float]:
        """Return how many times the largest weight of a tensor grew since it was kept, or more."""
        weights = self.stack.weights.values()
        ends = torch.stack([end for weight in weights for end in weight.detach().aminmax()])
        largest = float(ends.abs().amax())
        if is_worth_keeping(largest):  # so did none grow more, from one at least
            return [largest] * len(self.courses)
        now, then = _largest(self.stack.weights), _largest(self.copies["kept"])
        growth = torch.where(now > 1.0, now / then.clamp_min(1.0), now)
        return growth.amax(dim=0).tolist()

    def _keep(self, name: str, places: list[int]) -> None:
        """Let copies of some models be what the weights are now."""
        everything = len(places) == len(self.courses)
        for key, copy in self.copies[name].items():
            weight = self.stack.weights[key].detach()
            if everything:
                copy.copy_(weight)
            else:
                copy[places] = weight[places]

    def _last_weights(self, place: int) -> Tensors:
        """Return the tensors of which those of one model are what its training ends with."""
        if self.courses[place].has_best:
            return self.copies["best"]
        if "average" not in self.copies:
            return self.stack.weights
        for name, average in self.copies["average"].items():
            average[place].masked_fill_(self.stack.weights[name][place] == 0.0, 0.0)
        return self.copies["average"]

    def _end(self, place: int, weights: Tensors, with_optimizer: bool = True) -> None:
        self.courses[place].ended = True
        self.feed.skipped.add(place)
        self.stack.put_back(place, weights, with_optimizer)

    @torch.no_grad()
    def _cut(self) -> None:
        """Let those that have ended leave the stack, once they are many."""
        kept = [place for place, _ in self.live]
        epochs = max((one.rule.n_epochs - one.n_epochs for _, one in self.live), default=0)
        n_ended = len(self.courses) - len(kept)
        if n_ended * epochs * len(self.feed.sizes) < _STEPS_TO_SAVE or not n_ended:
            return
        self.stack.cut(kept)
        self.courses = [self.courses[place] for place in kept]
        self.copies = {name: some(of, kept) for name, of in self.copies.items()}
        self.held_out = [some(given, kept) for given in self.held_out]
        self.feed = Feed(self.stack.runs, self.n_components)
        if self.held_out:
            self.judged_sizes = self.judged_sizes[:, kept]


@torch.no_grad()
def _draw_near(average: Tensors, weights: Tensors, share: float) -> None:
    """Let an average be nearer to the newest weights."""
    lerp_all(list(average.values()), list(weights.values()), share)


def _largest(weights: Tensors) -> Tensor:
    """Return the largest absolute value of each tensor of each model, (n_tensors, n_models)."""
    inf = float("inf")
    return torch.stack(
        [
            torch.linalg.vector_norm(weight.detach().flatten(1), inf, dim=1)
            for weight in weights.values()
        ]
    )
