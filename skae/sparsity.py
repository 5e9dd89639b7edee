r"""How is a code kept sparse? A hard rule on the code, or a penalty that switches units off.

All codes are non-negative with exact zeros: a unit is *active* on a row when its code is above
zero, and every kind here is steered towards the same target, ``n_active``, the mean number of
active units a row. To add a kind: one class here and one line in `SPARSITIES`.

Shapes: ``pre``, the encoder's output before the rule, and ``code`` are (n_rows, n_components);
``gains`` is (n_components,), how strongly the decoder answers to each unit, or 1.0 where a kind
says that it does not look at it; ``recent_rate`` is (n_components,), the share of recent rows on
which each unit was active; ``row_weight`` is (n_rows,) with mean one over the training rows, or
None.
"""

from __future__ import annotations

import math
import sys
from abc import ABC
from numbers import Real
from statistics import NormalDist

import torch
from torch import Tensor

from skae._validation import Component
from skae.constraints import Interval


class Sparsity(Component, ABC):
    """Base of all kinds of sparsity: the rule that makes a code, and the penalty on it.

    What a kind declares (`parameters_at_start`, `buffers_at_start`) comes back as keyword arguments
    of all its other methods, here written ``**state``. `parameters_at_start` and `buffers_at_start`
    are told ``n_components``, ``n_active`` and a ``generator`` for what is to start at random.
    """

    declares = ("parameters_at_start", "buffers_at_start", "buffers_after_step")

    #: Whether there is a penalty, a term of the objective.
    penalised: bool = True
    #: Whether more weight of the penalty makes fewer units active, so that it can be steered until
    #: ``n_active`` is met. If not, the rule has to keep that number, and ``sparsity_weight="auto"``
    #: stands for a weight of one.
    steerable: bool = True
    #: Whether `penalty` looks at ``gains``, which takes decoding more codes in every step for
    #: decoders that are not linear layers. Where it does not, it is given ones.
    uses_gains: bool = True

    def activate(self, pre: Tensor, n_active: float, **state: Tensor) -> Tensor:
        """Return the code: the encoder's output with everything below zero cut off."""
        return pre.relu()

    def activate_in_training(
        self, pre: Tensor, row_weight: Tensor | None, n_active: float, **state: Tensor
    ) -> Tensor:
        """Return the code of a training step, where it is another one than that of `activate`.

        It may look at all rows of the batch, and then at how much each of them counts.
        """
        return self.activate(pre, n_active, **state)

    def threshold(self, pre: Tensor, n_active: float, **state: Tensor) -> Tensor | float:
        """Return the value that ``pre`` must pass for a unit to be active.

        Anything that broadcasts to the shape of ``pre``. Units that no row of an epoch switched on
        are drawn up to it.
        """
        return 0.0

    def strongest(self, pre: Tensor, n_kept: int) -> Tensor:
        """Return a code of the ``n_kept`` strongest units of each row, whatever the rule keeps.

        What `transform` returns where it is asked for a number of its own. For kinds whose code
        is ``pre`` where a unit is active.
        """
        values, places = pre.topk(n_kept, dim=1)
        return torch.zeros_like(pre).scatter(1, places, values.relu())

    def penalty(
        self,
        pre: Tensor,
        code: Tensor,
        gains: Tensor | float,
        recent_rate: Tensor,
        row_weight: Tensor | None,
        n_active: float,
        **state: Tensor,
    ) -> Tensor:
        """Return the penalty as a scalar, averaged over rows."""
        raise NotImplementedError

    def buffers_after_step(
        self,
        pre: Tensor,
        code: Tensor,
        row_weight: Tensor | None,
        n_active: float,
        **state: Tensor,
    ) -> dict[str, Tensor]:
        """Return new values of some of the buffers, after a step of the training."""
        return {}


class L1(Sparsity):
    r"""Sum of the activations, each times the norm of its decoder column.

    .. math:: \frac1n \sum_i \sum_j z_{ij} \lVert d_j \rVert

    With one linear decoder layer of orthonormal columns and squared error :math:`\tfrac12 \lVert x
    - Dz \rVert^2`, the best non-negative code is the soft threshold :math:`(D^\top x - \lambda)_+`.

    References
    ----------
    Conerly et al. (2024), "Update on how we train SAEs", Transformer Circuits Thread: the norm of
    the decoder column stands in the penalty, so that rescaling cannot escape it.
    """

    def penalty(self, pre, code, gains, recent_rate, row_weight, n_active):
        """Return the mean over rows of the sum of activations times gains."""
        activation = code.mean(dim=0) if row_weight is None else row_weight @ code / len(code)
        return (activation * gains).sum()


class L2(Sparsity):
    r"""Squared mean activation of each unit, each times the norm of its decoder column.

    .. math:: \sum_j \left(\lVert d_j \rVert \, \frac1n \sum_i z_{ij}\right)^2

    The mean over rows is taken before the square. At a given energy :math:`\sum_i z_{ij}^2` a unit
    pays least when it is active on few rows and strongly (the lifetime sparseness of Treves and
    Rolls 1991), and the more a unit is used the more it pays for each use. The square of the single
    activations, as in weight decay, would do the opposite: spread every row over all units.
    """

    def penalty(self, pre, code, gains, recent_rate, row_weight, n_active):
        """Return the sum over units of the squared mean activation times gain."""
        return (_row_mean(code, row_weight) * gains).square().sum()


class KL(Sparsity):
    r"""Kullback-Leibler divergence from a target rate to the rate at which each unit is active.

    .. math:: \sum_j \rho \log\frac{\rho}{\hat\rho_j} + (1-\rho) \log\frac{1-\rho}{1-\hat\rho_j}

    with :math:`\rho` = ``n_active / n_components`` and :math:`\hat\rho_j` the share of recent rows
    on which unit j of the very code that ``transform`` returns is above zero. Every unit is drawn
    to the same rate. It is a mean over recent batches because the slope :math:`-\rho/\hat\rho_j`
    at the rate of one batch is too steep on average (Jensen), which would keep all rates too high.
    A count has no gradient, so the backward pass takes that of a logistic function whose width is
    the spread of the unit's input (a straight-through estimate).

    References
    ----------
    Lee, Ekanadham and Ng (2008), "Sparse deep belief net model for visual area V2"; Bengio, Leonard
    and Courville (2013), "Estimating or propagating gradients through stochastic neurons".
    """

    uses_gains = False
    #: Keeps the logarithms finite, and their gradient alive, at rates of exactly 0 and 1.
    _EDGE = 1e-3

    def penalty(self, pre, code, gains, recent_rate, row_weight, n_active):
        """Return the sum over units of the divergence of its rate from the target rate."""
        width = _spread(pre.detach(), row_weight) + torch.finfo(pre.dtype).eps
        soft = _row_mean(torch.sigmoid(pre / width), row_weight)
        rate = self._inner(recent_rate + soft - soft.detach())
        goal = torch.full_like(rate, self._inner(n_active / pre.shape[1]))
        return (_xlogy_ratio(goal, rate) + _xlogy_ratio(1 - goal, 1 - rate)).sum()

    def _inner(self, rate):
        """Move a rate inwards; the target as well, so that the divergence is zero there."""
        return self._EDGE + (1 - 2 * self._EDGE) * rate


class TopK(Sparsity):
    """Only the ``n_active`` largest units of a row are kept (k-sparse autoencoder).

    Values below zero are cut off as well, so a row can have fewer active units, never more. There
    is no penalty, and so nothing to weigh: ``sparsity_weight`` must stay at "auto".

    References
    ----------
    Makhzani and Frey (2014), "k-sparse autoencoders"; Gao et al. (2024), "Scaling and evaluating
    sparse autoencoders".
    """

    penalised = False

    def activate(self, pre, n_active):
        """Return the largest ``n_active`` values of each row, and zeros elsewhere."""
        return self.strongest(pre, self._count(pre, n_active))

    def threshold(self, pre, n_active):
        """Return the smallest value of each row that is kept."""
        return pre.topk(self._count(pre, n_active), dim=1).values[:, -1:].relu()

    @staticmethod
    def _count(pre: Tensor, n_active: float) -> int:
        return min(max(1, round(n_active)), pre.shape[1])


class BatchTopK(Sparsity):
    r"""The ``n_active`` times ``n_rows`` largest activations of a batch are kept, whatever the row.

    A row that needs many units takes them from one that needs few. What is asked for one row alone
    must not depend on others, so new rows are held to a threshold: the running mean, over the
    batches of the training, of the value that parts what is kept from what is not. A row with a
    weight of two takes of the budget, and adds to it, as two rows. There is no penalty, and so
    nothing to weigh: ``sparsity_weight`` must stay at "auto".

    References
    ----------
    Bussmann, Leask and Nanda (2024), "BatchTopK sparse autoencoders".
    """

    penalised = False
    #: Least weight of the newest batch in the running mean; the first batch is the mean at first.
    _NEWEST = 0.02

    def buffers_at_start(self, n_components, n_active, generator):
        """Return the threshold, and how many batches it is the mean of."""
        return {"usual": torch.zeros(()), "n_batches": torch.zeros(())}

    def activate(self, pre, n_active, *, usual, n_batches):
        """Return the values above the threshold, and zeros elsewhere."""
        return _above(pre, usual)

    def activate_in_training(self, pre, row_weight, n_active, *, usual, n_batches):
        """Return the largest values of the batch, and zeros elsewhere."""
        return _above(pre, largest_dropped(pre.detach(), row_weight, n_active).relu())

    def threshold(self, pre, n_active, *, usual, n_batches):
        """Return the running threshold."""
        return usual

    def buffers_after_step(self, pre, code, row_weight, n_active, *, usual, n_batches):
        """Return the threshold with one more batch in its mean."""
        kept, n_batches = code > 0, n_batches + 1
        smallest = torch.where(kept, code, math.inf).min()
        largest = torch.where(kept, -math.inf, pre).max()
        middle = torch.where(largest > -math.inf, (smallest + largest.relu()) / 2, 0.0)
        middle = torch.where(smallest < math.inf, middle, 0.0)  # of a code without an active unit
        share = (1 / n_batches).clamp_min(self._NEWEST)
        return {"usual": usual.lerp(middle, share), "n_batches": n_batches}


class JumpReLU(Sparsity):
    r"""Keeps what is above a threshold of the unit's own, which is trained; charges for the number.

    .. math:: z_{ij} = h_{ij} \, [h_{ij} > \theta_j], \qquad
       \Omega = \frac1n \sum_i \sum_j [h_{ij} > \theta_j]

    for the encoder's output h. Activations are not made smaller, as they are by L1. Both jump, so
    their derivatives by the threshold are zero nearly everywhere; in their place stand those of
    the expected loss, estimated by a rectangle of width :math:`\varepsilon` about the threshold:

    .. math:: \frac{\partial z}{\partial \theta} := -\frac{\theta}{\varepsilon}
       \bigl[|h - \theta| < \tfrac{\varepsilon}{2}\bigr], \qquad
       \frac{\partial \Omega}{\partial \theta} := -\frac{1}{\varepsilon}
       \bigl[|h - \theta| < \tfrac{\varepsilon}{2}\bigr]

    Threshold and width are in units of the spread of h over recent rows, so that neither the units
    of X nor those of the code matter. Thresholds start where the target is met if h is normal.

    Parameters
    ----------
    bandwidth : float > 0, default=0.5
        Width of the rectangle, in standard deviations of the unit's input.

    References
    ----------
    Rajamanoharan et al. (2024), "Jumping ahead: improving reconstruction fidelity with JumpReLU
    sparse autoencoders".
    """

    _parameter_constraints: dict = {"bandwidth": [Interval(Real, 0, None, closed="neither")]}
    uses_gains = False  # small codes are no fewer active units
    #: Least weight of the newest batch in the running spread, which the first batch is at first.
    _NEWEST = 0.02
    #: Thresholds, trained as logarithms, start at a little more than zero at least.
    _MOST_AT_START = 0.45

    def __init__(self, bandwidth=0.5):
        self.bandwidth = bandwidth

    def parameters_at_start(self, n_components, n_active, generator):
        """Return the logarithm of each threshold in spreads."""
        share = min(n_active / n_components, self._MOST_AT_START)
        # By the lower tail: one minus a share that is very small is one.
        start = math.log(-NormalDist().inv_cdf(max(share, sys.float_info.min)))
        return {"log_threshold": torch.full((n_components,), start)}

    def buffers_at_start(self, n_components, n_active, generator):
        """Return spread and mean of each unit's input, and how many batches they are found from."""
        zeros = torch.zeros(n_components)
        return {"spread": 1 + zeros, "centre": zeros, "n_batches": torch.zeros(())}

    def role(self, name):
        """Return that thresholds are trained as logarithms."""
        return "logarithm"

    def activate(self, pre, n_active, *, log_threshold, spread, **others):
        """Return the values above the thresholds, and zeros elsewhere."""
        threshold, jump = self._jump(pre, log_threshold, spread)
        return _above(pre, threshold) + threshold.detach() * jump

    def threshold(self, pre, n_active, *, log_threshold, spread, **others):
        """Return the threshold of each unit."""
        return log_threshold.exp() * spread

    def penalty(
        self,
        pre,
        code,
        gains,
        recent_rate,
        row_weight,
        n_active,
        *,
        log_threshold,
        spread,
        **others,
    ):
        """Return the mean number of active units a row."""
        threshold, jump = self._jump(pre.detach(), log_threshold, spread)
        active = ((pre > threshold) + jump).sum(dim=1)
        return active.mean() if row_weight is None else row_weight @ active / len(active)

    def buffers_after_step(
        self, pre, code, row_weight, n_active, *, spread, centre, n_batches, **others
    ):
        """Return spreads and means with one more batch in them."""
        n_batches = n_batches + 1
        share = (1 / n_batches).clamp_min(self._NEWEST)
        # Rows spread within batches and from batch to batch: of one row, all is of the second kind.
        off = _row_mean(pre, row_weight) - centre
        within = spread.square().lerp(_spread(pre, row_weight).square(), share)
        spread = (within + share * (1 - share) * off.square()).sqrt()
        return {"spread": spread, "centre": centre + share * off, "n_batches": n_batches}

    def _jump(self, pre, log_threshold, spread):
        """Return the thresholds, and zeros that have the gradient of the number by them."""
        threshold, width = log_threshold.exp() * spread, self.bandwidth * spread
        near = (pre.detach() - threshold.detach()).abs() < width / 2
        # Where a unit does not spread there is no width, and nothing to learn.
        slope = torch.where(near & (width > 0), 1 / width, 0.0)
        return threshold, slope * (threshold.detach() - threshold)


def _above(pre: Tensor, threshold: Tensor) -> Tensor:
    """Return values above a threshold that is not negative, and zeros elsewhere."""
    return torch.where(pre > threshold, pre, 0.0)


def largest_dropped(pre: Tensor, row_weight: Tensor | None, n_active: float) -> Tensor:
    """Return the largest value of a batch that is beyond the budget of ``n_active`` a row."""
    values, n_rows = pre.flatten(), len(pre) if row_weight is None else row_weight.sum()
    # The sum of a whole budget may be above it by rounding.
    budget = n_active * n_rows * (1 + len(pre) * torch.finfo(pre.dtype).eps)
    if row_weight is None:
        n_kept = min(max(1, int(budget)), len(values))
        if n_kept == len(values):
            return values.new_full((), -math.inf)
        return values.topk(n_kept + 1, sorted=False).values.min()
    largest, order = values.sort(descending=True)
    fits = row_weight.repeat_interleave(pre.shape[1])[order].cumsum(0) <= budget
    fits[0] = True
    return torch.where(fits, -math.inf, largest).max()


def _spread(pre: Tensor, row_weight: Tensor | None) -> Tensor:
    """Return the weighted standard deviation of each unit over rows."""
    deviation = pre - _row_mean(pre, row_weight)
    return _row_mean(deviation.square(), row_weight).sqrt()


def _row_mean(values: Tensor, row_weight: Tensor | None) -> Tensor:
    """Return the weighted mean over rows, of shape (n_components,)."""
    if row_weight is None:
        return values.mean(dim=0)
    return row_weight @ values / row_weight.sum().clamp_min(torch.finfo(values.dtype).tiny)


def _xlogy_ratio(x: Tensor, y: Tensor) -> Tensor:
    """Return x log(x / y), which is 0 where x is 0."""
    return torch.xlogy(x, x) - torch.xlogy(x, y)


SPARSITIES: dict[str, type[Sparsity]] = {
    "l1": L1,
    "l2": L2,
    "kl": KL,
    "topk": TopK,
    "batch_topk": BatchTopK,
    "jumprelu": JumpReLU,
}
