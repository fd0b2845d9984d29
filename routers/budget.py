"""From a budget to the weight of cost that keeps it: which lambda makes the average choice cost what it may."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from experts.errors import InfeasibleBudget

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from experts.types import ExpertId
    from routers.types import F32

_HALVINGS: Final = 60


@dataclass(frozen=True, slots=True)
class CostWeight:
    """How much quality a unit of cost must buy: `tight` for a share of the texts, `loose` for the others.

    One weight rarely lands on a budget, since whole groups of texts change sides together; a mix of two does.
    """

    loose: float = 0.0
    tight: float = 0.0
    tight_share: float = 0.0

    def at(self, draw: float) -> float:
        """The weight for a text that drew this number in [0, 1)."""
        return self.tight if draw < self.tight_share else self.loose


@dataclass(frozen=True, slots=True)
class Costs:
    """What each expert costs a request, and how much that counts. of: e.g. billions of active parameters."""

    of: Mapping[ExpertId, float] = field(default_factory=dict)
    per_unit: CostWeight = CostWeight()

    def weight(self, draw: float) -> float:
        """Quality a unit of cost must buy for a text with this draw."""
        return self.per_unit.at(draw)


def weight_for_budget(expected: F32, costs: F32, budget: float, name: str = "average_cost") -> CostWeight:
    """The weights under which choosing by `expected - weight * cost` costs `budget` on average over these texts.

    A budget above what choosing without regard to cost takes needs no weight. Shapes: expected (N, E), costs (E,).
    Raises: InfeasibleBudget: even the cheapest expert is above it.
    """
    cheapest = float(costs.min())
    if budget < cheapest:
        raise InfeasibleBudget([(name, budget, cheapest)])
    if average_cost(expected, costs, 0.0) <= budget:
        return CostWeight()
    low, high = 0.0, 1.0
    while average_cost(expected, costs, high) > budget:
        low, high = high, high * 4
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if average_cost(expected, costs, middle) > budget:
            low = middle
        else:
            high = middle
    dear, cheap = average_cost(expected, costs, low), average_cost(expected, costs, high)
    return CostWeight(low, high, (dear - budget) / (dear - cheap) if dear > cheap else 1.0)


def choose(expected: F32, costs: F32, weight: float) -> npt.NDArray[np.intp]:
    """Each text's best expert; the cheapest of equals. Shapes: expected (N, E), costs (E,) -> (N,)."""
    order = np.argsort(costs, kind="stable")
    net = expected[:, order].astype(np.float64) - weight * costs[order].astype(np.float64)
    chosen: npt.NDArray[np.intp] = order[net.argmax(axis=1)]
    return chosen


def average_cost(expected: F32, costs: F32, weight: float) -> float:
    """What `choose` costs on average; where all choose the cheapest, exactly its cost.

    Shapes: expected (N, E), costs (E,).
    """
    above = costs.astype(np.float64) - float(costs.min())
    return float(costs.min()) + float(above[choose(expected, costs, weight)].mean())
