"""Quality against cost: the frontier of a set of operating points, its area, and its quality at a budget.

An operating point is one setting of a router (a lambda, a threshold) or one expert, with its mean cost and mean
quality. Two of them can be mixed: a prompt goes to the dearer one with a fixed chance, and in expectation the mix lies
on the line between them. What can be reached is thus everything under the concave hull.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.metrics.routing import single_qualities
from eval.metrics.shapes import F64, I64, Floats, no_nan, vectors


@dataclass(frozen=True, slots=True)
class Mix:
    """Two operating points, by index, and the chance of the dearer one; cost and quality are expectations."""

    low: int
    high: int
    share_high: float
    cost: float
    quality: float

    def of(self, per_prompt: Floats) -> F64:
        """Each prompt's expected value under the mix: outcomes for an interval, costs for a check of the budget.

        Shapes: per_prompt (N, K), one column an operating point -> (N,).
        """
        low, high = per_prompt[:, self.low].astype(np.float64), per_prompt[:, self.high].astype(np.float64)
        return low if self.share_high == 0 else (1 - self.share_high) * low + self.share_high * high


def upper_hull(costs: Floats, qualities: Floats) -> I64:
    """The points that no mix of others beats: by rising cost, rising quality, falling gain per cost.

    It begins at the cheapest point and ends at the best, the cheapest of equals; points on a line inside it are left
    out.
    Shapes: costs (K,), qualities (K,) -> indices (H,), 1 <= H <= K.
    Raises: ValueError: the two shapes differ, or a value is NaN.
    Source: RouterBench (arXiv 2403.12031), its non-decreasing convex hull; computed by a monotone chain.
    """
    vectors(costs=costs, qualities=qualities)
    no_nan(costs=costs, qualities=qualities)
    order = np.lexsort((-qualities, costs))
    points = list(zip(costs.tolist(), qualities.tolist(), strict=True))
    hull: list[int] = []
    for i in order[: int(np.argmax(qualities[order])) + 1].tolist():
        if hull and points[i][0] == points[hull[-1]][0]:
            continue  # as dear as the one before it, and no better
        while len(hull) > 1 and not _turns_down(points[hull[-2]], points[hull[-1]], points[i]):
            hull.pop()
        hull.append(i)
    return np.array(hull, np.int64)


def mixing_share(low_cost: float, high_cost: float, budget: float) -> float:
    """The chance of the dearer of two points that brings the mean cost exactly to the budget.

    Costs need no labels: choose the two points on validation, then take this share from the costs of the test part.
    Raises: ValueError: the budget is not between the two costs; names all three.
    Source: ours.
    """
    if not low_cost <= budget <= high_cost:
        raise ValueError(f"budget {budget} is not between costs {low_cost} and {high_cost}")
    return 0.0 if low_cost == high_cost else (budget - low_cost) / (high_cost - low_cost)


def mix_at(costs: Floats, qualities: Floats, budget: float) -> Mix:
    """The best mix of two operating points whose mean cost is the budget, or the best point if that costs less.

    Points picked by the qualities of the test part flatter a router; pick them on validation.
    Shapes: costs (K,), qualities (K,).
    Raises: ValueError: the two shapes differ, a value is NaN, or every point costs more than the budget.
    Source: RouterBench (arXiv 2403.12031), interpolation of two routers.
    """
    hull = upper_hull(costs, qualities)
    after = int(np.searchsorted(costs[hull], budget, side="right"))
    if after == 0:
        raise ValueError(f"budget {budget} is below {costs[hull[0]]}, the cheapest of {len(costs)} points")
    low, high = int(hull[after - 1]), int(hull[min(after, len(hull) - 1)])
    share = 0.0 if low == high else mixing_share(float(costs[low]), float(costs[high]), budget)
    cost, value = ((1 - share) * float(axis[low]) + share * float(axis[high]) for axis in (costs, qualities))
    return Mix(low, high, share, cost, value)


def quality_at_budget(costs: Floats, qualities: Floats, budget: float) -> float:
    """The best expected quality of these operating points, or of a mix of two, at a mean cost within the budget.

    Shapes: costs (K,), qualities (K,); range that of the qualities.
    Raises: ValueError: the two shapes differ, a value is NaN, or every point costs more than the budget.
    Source: RouterBench (arXiv 2403.12031), interpolation of two routers.
    """
    return mix_at(costs, qualities, budget).quality


def frontier_range(costs: Floats, qualities: Floats) -> tuple[float, float]:
    """From the cost of the cheapest point to that of the best one: beyond it money buys nothing.

    Shapes: costs (K,), qualities (K,).
    Raises: ValueError: the two shapes differ, or a value is NaN.
    Source: ours; a dearer and worse expert, which nobody would run, thus moves no number.
    """
    hull = upper_hull(costs, qualities)
    return float(costs[hull[0]]), float(costs[hull[-1]])


def aiq(costs: Floats, qualities: Floats, cost_range: tuple[float, float] | None = None) -> float:
    """Mean height of the frontier over a range of costs: 1 / (c_max - c_min) times its integral.

    Routers are compared over one range, `frontier_range(*zero_router(...))`; without one, the range is that of the
    points' own frontier. Beyond its best point the frontier stays level, since money may be left unspent; below its
    cheapest it is not extended: add the cheapest expert as a point of the router. An empty range gives the height at
    it.
    Shapes: costs (K,), qualities (K,); range [lowest, highest quality].
    Raises: ValueError: the shapes differ, a value is NaN, or the range is reversed or begins below every point.
    Source: RouterBench (arXiv 2403.12031), by its definition over the non-decreasing convex hull. Its released code
    divides by the largest cost instead, and joins neighbours below the hull: its numbers are others.
    """
    hull = upper_hull(costs, qualities)
    low, high = cost_range or (float(costs[hull[0]]), float(costs[hull[-1]]))
    knots, heights = costs[hull].astype(np.float64), qualities[hull].astype(np.float64)
    if not float(knots[0]) <= low <= high:
        raise ValueError(f"cost range ({low}, {high}) is reversed or begins below {knots[0]}, the cheapest point")
    if low == high:
        return float(np.interp(low, knots, heights))
    grid = np.concatenate([[low], knots[(knots > low) & (knots < high)], [high]])
    return float(np.trapezoid(np.interp(grid, knots, heights), grid)) / (high - low)


def zero_router(scores: Floats, costs: Floats) -> tuple[F64, F64]:
    """The single experts as operating points: mixed without looking at the prompt they are the zero router.

    Its AIQ is `aiq(*zero_router(...))` and its quality at a budget `quality_at_budget(*zero_router(...), budget)`.
    Shapes: scores (N, E); costs (E,) or (N, E) -> costs (K,), qualities (K,), K experts with a score and a cost.
    Raises: ValueError: scores and costs do not fit; names both shapes.
    Source: RouterBench (arXiv 2403.12031), its zero router.
    """
    if costs.shape not in {scores.shape, scores.shape[1:]}:
        raise ValueError(f"scores {scores.shape} and costs {costs.shape} differ in N or E")
    qualities = single_qualities(scores)
    mean_costs = single_qualities(np.atleast_2d(costs))
    known = ~np.isnan(qualities) & ~np.isnan(mean_costs)
    return mean_costs[known], qualities[known]


def _turns_down(first: tuple[float, float], second: tuple[float, float], third: tuple[float, float]) -> bool:
    """Whether the middle of three points by rising cost lies above the line between the others."""
    rise = (second[1] - first[1]) * (third[0] - first[0])
    return rise > (third[1] - first[1]) * (second[0] - first[0])
