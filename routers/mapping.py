"""Category -> expert under budgets: a mixed-integer programme over whole experts, and how sure its answer is."""

from __future__ import annotations

import math
from collections.abc import Mapping  # noqa: TC003 - a dataclass field
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from experts.errors import ConfigError, InfeasibleBudget
from experts.types import Category, ExpertId  # noqa: TC001 - dataclass fields

if TYPE_CHECKING:
    from collections.abc import Sequence

F64 = npt.NDArray[np.float64]
Scores = npt.NDArray[np.floating]
Indices = npt.NDArray[np.integer]

# Each budget and the figure of a candidate that it adds up: over the hosted experts (the first), or over requests.
FIGURE_OF: Final[dict[str, str]] = {
    "total_params_b": "total_params_b",
    "average_active_params_b": "active_params_b",
    "average_cost": "cost",
    "average_latency_s": "latency_s",
}
GRID_POINTS = 64
# HiGHS stops within 1e-6 of the best objective: values are scaled up so that this is 1e-11 of a win rate, and a
# saved expert still weighs more than it (and less than 1e-8 of a win rate, so that no real difference is given up).
_VALUE_SCALE, _TIE_SCALE = 1e5, 1e-3
_SLACK = 1e-9  # budgets are often sums of sizes: the same sum in another order must still fit
# Of a budget's largest figure: what HiGHS may exceed it by (1e-6 a row and an integer), and a step outside of that.
_TOLERANCE, _STEP = 2e-5, 4e-5


@dataclass(frozen=True, slots=True)
class Candidate:
    """An expert that categories may be given to; cost and latency_s are averages per request."""

    id: ExpertId
    total_params_b: float
    active_params_b: float
    cost: float = 0.0
    latency_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Budgets:
    """The most a mapping may take, None being no limit; averages are per request, over the category frequencies."""

    total_params_b: float | None = None
    average_active_params_b: float | None = None
    average_cost: float | None = None
    average_latency_s: float | None = None

    def limits(self) -> dict[str, float]:
        """The budgets that are set. Raises: ConfigError: one is negative or not a number."""
        limits = {key: value for key, value in asdict(self).items() if value is not None}
        for key, value in limits.items():
            if not value >= 0:
                raise ConfigError(key, value, "must be a number of at least 0")
        return limits


@dataclass(frozen=True, slots=True, eq=False)
class MappingProblem:
    """What a mapping is chosen from. general: an expert that is hosted whether or not a category is given to it.

    Shapes: frequencies (C,), sum 1; win_rates (C, E), in the order of categories and candidates.
    Raises: ValueError: shapes differ, a name comes twice, a number is not finite or negative where it may not be.
        ConfigError: general is not a candidate.
    """

    candidates: tuple[Candidate, ...]
    categories: tuple[Category, ...]
    frequencies: F64
    win_rates: F64
    budgets: Budgets = Budgets()
    general: ExpertId | None = None

    def __post_init__(self) -> None:
        ids = [candidate.id for candidate in self.candidates]
        shape = (len(self.categories), len(ids))
        if self.win_rates.shape != shape or self.frequencies.shape != shape[:1] or 0 in shape:
            shapes = f"win_rates {self.win_rates.shape}, frequencies {self.frequencies.shape}"
            raise ValueError(f"{shapes} do not fit {shape[0]} categories and {shape[1]} candidates")
        if len(set(ids)) < len(ids) or len(set(self.categories)) < len(self.categories):
            raise ValueError(f"a name comes twice in candidates {ids} or categories {list(self.categories)}")
        if not np.isfinite(self.win_rates).all():
            raise ValueError("win_rates has an entry that is not finite")
        if not (self.frequencies >= 0).all() or abs(self.frequencies.sum() - 1) > 1e-6:  # noqa: PLR2004
            raise ValueError(f"frequencies {self.frequencies.tolist()} must be at least 0 and sum to 1")
        for candidate in self.candidates:
            if not all(0 <= getattr(candidate, name) < math.inf for name in FIGURE_OF.values()):
                raise ValueError(f"{candidate} has a figure that is negative or not finite")
        if self.general is not None and self.general not in ids:
            raise ConfigError("general", self.general, f"not among the candidates {', '.join(ids)}")


@dataclass(frozen=True, slots=True)
class MappingSolution:
    """A mapping, its expected win rate, its totals (keys as in Budgets) and the experts it needs hosted."""

    experts: Mapping[Category, ExpertId]
    value: float
    totals: Mapping[str, float]
    hosted: tuple[ExpertId, ...]


def solve_mapping(problem: MappingProblem) -> MappingSolution:
    """Find the mapping of the highest expected win rate that keeps every budget (to 2e-5 of its largest figure).

    Ties go to fewer hosted experts, then to smaller ones; the order of candidates and categories does not matter.
    Raises: InfeasibleBudget: no mapping keeps every budget.
    Source: Composition of Experts, arXiv 2412.01868; the programme is our reconstruction [R].
    """
    programme, limits = _Programme(problem), problem.budgets.limits()
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
    programme = _Programme(problem)
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
    programme: _Programme, key: str, others: Mapping[str, float], unlimited: MappingSolution
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


def _infeasible(programme: _Programme, limits: Mapping[str, float]) -> InfeasibleBudget:
    """Say which budgets to raise: those that suffice alone, else each in turn as little as those before it allow."""
    alone = [(key, limits[key], programme.least(key, {k: v for k, v in limits.items() if k != key})) for key in limits]
    enough = [(key, limit, _round_up(least)) for key, limit, least in alone if least is not None]
    if enough:
        return InfeasibleBudget(enough)
    kept: dict[str, float] = {}
    for key, limit in limits.items():
        least = programme.least(key, kept)
        kept[key] = limit if least is None or least <= limit * (1 + _SLACK) else _round_up(least)
    raised = [(key, limits[key], kept[key]) for key in limits if kept[key] > limits[key]]
    return InfeasibleBudget(raised, together=True)


def _round_up(figure: float) -> float:
    """Six digits, never below the figure: what the message says has to be feasible."""
    if not figure:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(figure)) - 5)
    return float(f"{math.ceil(figure / unit - 1e-6) * unit:.6g}")


class _Programme:
    """A problem in a canonical order, as HiGHS wants it: x (C, E) row by row, then y (E).

    The order makes ties fall alike however the caller sorted; categories nobody asks about are filled in afterwards.
    """

    def __init__(self, problem: MappingProblem) -> None:
        candidates, asked = problem.candidates, np.flatnonzero(problem.frequencies > 0).tolist()
        self._problem = problem
        self._experts = sorted(
            range(len(candidates)),
            key=lambda e: (candidates[e].total_params_b, candidates[e].active_params_b, candidates[e].id),
        )
        self._categories = sorted(asked, key=lambda c: problem.categories[c])
        self._frequencies = problem.frequencies[self._categories]
        self._one_hosted_expert = self._structure()

    def quantity(self, key: str) -> F64:
        """The coefficients of a budget's left side over x and y."""
        figures = np.array([getattr(self._problem.candidates[e], FIGURE_OF[key]) for e in self._experts])
        per_request = np.outer(self._frequencies, figures).ravel()
        if key == "total_params_b":
            return np.concatenate([np.zeros_like(per_request), figures])
        return np.concatenate([per_request, np.zeros_like(figures)])

    def best(self, limits: Mapping[str, float]) -> MappingSolution | None:
        """The mapping of the highest value inside `limits`, None if there is none."""
        win_rates = self._problem.win_rates[np.ix_(self._categories, self._experts)]
        gain = (self._frequencies[:, None] * win_rates).ravel()
        # A hosted expert weighs 1; its share of all parameters and its active ones come after that, below 1 in all.
        tie = 0.5 * _share(self.quantity("total_params_b")) + 0.25 * _share(self.quantity("average_active_params_b"))
        tie[gain.size :] += 1
        tie *= _TIE_SCALE
        tie[: gain.size] -= _VALUE_SCALE * gain
        return self._minimise(tie, limits)

    def least(self, key: str, limits: Mapping[str, float]) -> float | None:
        """The smallest total of `key` inside `limits`, None if nothing is inside."""
        solution = self._minimise(_VALUE_SCALE * _share(self.quantity(key)), limits)
        return None if solution is None else solution.totals[key]

    def _structure(self) -> tuple[object, F64, F64]:
        """One expert for each category, and only hosted ones: matrix, lower and upper limits."""
        from scipy.sparse import coo_array  # noqa: PLC0415 - a training extra: routing itself does without

        rows, experts = len(self._categories), len(self._experts)
        x = np.arange(rows * experts)
        row, column = np.concatenate([x // experts, rows + x, rows + x]), np.concatenate([x, x, x.size + x % experts])
        matrix = coo_array((np.repeat([1.0, 1.0, -1.0], x.size), (row, column)))
        once = np.arange(rows + x.size) < rows
        return matrix, np.where(once, 1.0, -np.inf), np.where(once, 1.0, 0.0)

    def _minimise(self, objective: F64, limits: Mapping[str, float]) -> MappingSolution | None:
        """Solve. Raises: RuntimeError: HiGHS gave up, or calls a point feasible that is not (scipy issue 24141)."""
        from scipy.optimize import Bounds, milp  # noqa: PLC0415 - as above

        blocks: list[tuple[object, object, object]] = [self._one_hosted_expert]
        for key, limit in limits.items():
            row = self.quantity(key)
            scale = row.max() or 1.0  # costs of 1e-5 would otherwise vanish in the solver's tolerance
            blocks.append((row[None, :] / scale, -np.inf, limit / scale + _SLACK))
        result = milp(
            objective,
            integrality=self._integral(objective.size, limits),
            bounds=Bounds(self._forced(objective.size), 1),
            constraints=blocks,
            # presolve gains nothing here, and with it HiGHS prints its `tmpSolver.run()` line to stdout more often
            options={"mip_rel_gap": 0.0, "presolve": False},
        )
        if result.status == 2:  # noqa: PLR2004 - scipy's number for infeasible
            return None
        if result.x is None or result.status != 0:
            raise RuntimeError(f"HiGHS: {result.message}")
        solution = self._solution(result.x)
        for key, limit in limits.items():
            if solution.totals[key] > limit + _TOLERANCE * self.quantity(key).max() + _SLACK:
                raise RuntimeError(f"HiGHS: {key} = {solution.totals[key]} is above {limit}")
        return solution

    def _integral(self, size: int, limits: Mapping[str, float]) -> F64:
        """Declare x or y integral, whichever makes the other so: half the branching, the same optimum.

        With no average limited each category is free to take the best of the hosted experts; else x lifts y to 1.
        """
        of_y = np.arange(size) >= size - len(self._experts)
        return (of_y if set(limits) <= {"total_params_b"} else ~of_y).astype(np.float64)

    def _forced(self, size: int) -> F64:
        """Lower bounds: 1 for hosting the general expert."""
        lower = np.zeros(size)
        ids = [self._problem.candidates[e].id for e in self._experts]
        if self._problem.general is not None:
            lower[size - len(ids) + ids.index(self._problem.general)] = 1
        return lower

    def _solution(self, x: F64) -> MappingSolution:
        """Read the mapping off the solver's point, the unasked categories going to the best expert hosted anyway."""
        problem, experts = self._problem, self._experts
        columns = x[: -len(experts)].reshape(-1, len(experts)).argmax(axis=1)
        chosen = {c: experts[column] for c, column in zip(self._categories, columns.tolist(), strict=True)}
        needed = {problem.candidates[e].id for e in chosen.values()} | {problem.general}
        hosted = [e for e in experts if problem.candidates[e].id in needed]
        fallback = [hosted[column] for column in problem.win_rates[:, hosted].argmax(axis=1).tolist()]
        return described(problem, [chosen.get(c, fallback[c]) for c in range(len(problem.categories))])


def described(problem: MappingProblem, chosen: Sequence[int]) -> MappingSolution:
    """What choosing candidate `chosen[c]` for each category c is worth and takes."""
    ids = [candidate.id for candidate in problem.candidates]
    needed = {ids[e] for e in chosen} | {problem.general}
    hosted = [candidate for candidate in problem.candidates if candidate.id in needed]
    weights = problem.frequencies.tolist()
    totals = {
        key: math.fsum(f * getattr(problem.candidates[e], figure) for f, e in zip(weights, chosen, strict=True))
        for key, figure in FIGURE_OF.items()
    }
    totals["total_params_b"] = math.fsum(candidate.total_params_b for candidate in hosted)
    value = math.fsum(f * float(problem.win_rates[c, e]) for c, (f, e) in enumerate(zip(weights, chosen, strict=True)))
    experts = {category: ids[e] for category, e in zip(problem.categories, chosen, strict=True)}
    return MappingSolution(experts, value, totals, tuple(candidate.id for candidate in hosted))


def _share(row: F64) -> F64:
    """A row that sums to 1, or zeros."""
    return row / (row.sum() or 1.0)
