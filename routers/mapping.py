"""Category -> expert under budgets: the best mapping, and how it grows with a budget."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from experts.errors import InfeasibleBudget
from routers.mapping_problem import FIGURE_OF
from routers.mapping_programme import SLACK, TOLERANCE, MappingProgramme

if TYPE_CHECKING:
    from collections.abc import Mapping

    from routers.mapping_problem import MappingProblem, MappingSolution

GRID_POINTS: Final = 64
_STEP: Final = 2 * TOLERANCE  # of a budget's largest figure: outside of what HiGHS may exceed a budget by


def solve_mapping(problem: MappingProblem) -> MappingSolution:
    """Find the mapping of the highest expected win rate that keeps every budget (to 2e-5 of its largest figure).

    Ties go to fewer hosted experts, then to smaller ones; the order of candidates and categories does not matter.
    Raises: InfeasibleBudget: no mapping keeps every budget.
    Source: Composition of Experts, arXiv 2412.01868; the programme is our reconstruction [R].
    """
    programme, limits = MappingProgramme(problem), problem.budgets.limits()
    solution = programme.best(limits)
    if solution is None:
        raise _infeasible(programme, limits)
    return solution


def frontier(problem: MappingProblem, key: str, points: int | None = None) -> list[tuple[float, MappingSolution]]:
    """List the budgets of `key` from which another mapping is best, smallest first, the other budgets kept.

    points: solve on that many evenly spaced budgets; None is every breakpoint for total_params_b, and 64 points for
    an average, which can have thousands. Each budget is the least that its own mapping needs.
    Raises: InfeasibleBudget: the other budgets cannot be kept. ValueError: points below 2, an unknown key.
    """
    if key not in FIGURE_OF or (points is not None and points < 2):  # noqa: PLR2004 - two ends
        raise ValueError(f"key {key!r} must be one of {', '.join(FIGURE_OF)}, points {points} at least 2")
    programme = MappingProgramme(problem)
    others = {name: limit for name, limit in problem.budgets.limits().items() if name != key}
    unlimited = programme.best(others)
    if unlimited is None:
        raise _infeasible(programme, others)
    if points is None and key == "total_params_b":
        return _every_breakpoint(programme, key, others, unlimited)
    least = programme.least(key, others)
    grid = np.linspace(least or 0.0, unlimited.totals[key], points or GRID_POINTS)
    solved = [programme.best({**others, key: float(limit)}) for limit in grid]
    return sorted({s.totals[key]: s for s in solved if s is not None}.items())


def _every_breakpoint(
    programme: MappingProgramme, key: str, others: Mapping[str, float], unlimited: MappingSolution
) -> list[tuple[float, MappingSolution]]:
    """Walk down: the best below what the last one needed, until nothing fits (the epsilon-constraint method)."""
    step = _STEP * programme.quantity(key).max()
    found: list[tuple[float, MappingSolution]] = []
    solution: MappingSolution | None = unlimited
    while solution is not None:
        needed = solution.totals[key]
        found.append((needed, solution))
        solution = programme.best({**others, key: needed - step}) if step else None
    return found[::-1]


def _infeasible(programme: MappingProgramme, limits: Mapping[str, float]) -> InfeasibleBudget:
    """Say which budgets to raise: those that suffice alone, else each in turn as little as those before it allow."""
    alone = [(key, limits[key], programme.least(key, {k: v for k, v in limits.items() if k != key})) for key in limits]
    enough = [(key, limit, _round_up(least)) for key, limit, least in alone if least is not None]
    if enough:
        return InfeasibleBudget(enough)
    kept: dict[str, float] = {}
    for key, limit in limits.items():
        least = programme.least(key, kept)
        kept[key] = limit if least is None or least <= limit * (1 + SLACK) else _round_up(least)
    raised = [(key, limits[key], kept[key]) for key in limits if kept[key] > limits[key]]
    return InfeasibleBudget(raised, together=True)


def _round_up(figure: float) -> float:
    """Six digits, never below the figure: what the message says has to be feasible."""
    if not figure:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(figure)) - 5)
    return float(f"{math.ceil(figure / unit - 1e-6) * unit:.6g}")
