"""From rated categories and figures to the document: solve, resample, compare."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from eval.mapping.document import (
    CategoryChoice,
    ExpertLine,
    Frontier,
    FrontierPoint,
    MappingDocument,
    MappingEntry,
    Worth,
)
from eval.mapping.resampling import bootstrap
from routers.mapping import frontier, solve_mapping
from routers.mapping_problem import Budgets, MappingProblem, MappingSolution, described
from routers.mapping_programme import SLACK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.mapping.figures import ExpertFigures
    from eval.mapping.rated import RatedCategories
    from eval.mapping.resampling import Say
    from experts.types import Category, ExpertId
    from routers.mapping_problem import F64
    from routers.win_rates import MappingStability

_INTERVAL = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class MappingRequest:
    """What is asked for. general: hosted in any case. points: None is `frontier`'s own choice."""

    budgets: Budgets
    general: ExpertId | None = None
    resamples: int = 100
    seed: int = 0
    frontier_key: str | None = None
    points: int | None = None


def map_outcomes(
    rated: RatedCategories, figures: ExpertFigures, request: MappingRequest, *, data: tuple[str, str, int], say: Say
) -> MappingDocument:
    """Find the mapping and everything about it. data: the file's name, its hash, and its prompts in all.

    Raises: InfeasibleBudget: no mapping keeps every budget. ConfigError: general is not an expert, a budget is
        negative, or an expert has no figure for one.
    """
    needed = {*request.budgets.limits(), *([request.frontier_key] if request.frontier_key else [])}
    figures.require(sorted(needed))
    problem = MappingProblem(
        figures.candidates, rated.categories, rated.frequencies, rated.win_rates, request.budgets, request.general
    )
    return _Report(problem, rated, figures, request, say).document(*data)


class _Report:
    """One run: the mapping first, then what it is compared with."""

    def __init__(
        self, problem: MappingProblem, rated: RatedCategories, figures: ExpertFigures, request: MappingRequest, say: Say
    ) -> None:
        self._problem, self._rated, self._figures, self._request = problem, rated, figures, request
        say("solving")
        self._solution = solve_mapping(problem)
        self._stability: MappingStability | None = None
        if request.resamples:
            self._stability = bootstrap(problem, rated, request.resamples, request.seed, say)
        self._frontier: Sequence[tuple[float, MappingSolution]] = ()
        if request.frontier_key:
            say(f"frontier over {request.frontier_key}")
            self._frontier = frontier(problem, request.frontier_key, request.points)
        self._columns = {candidate.id: column for column, candidate in enumerate(problem.candidates)}

    def document(self, data: str, data_sha256: str, prompts: int) -> MappingDocument:
        """Everything, ready to be written."""
        single, stability, key = self._best_single(), self._stability, self._request.frontier_key
        points = tuple(FrontierPoint(budget, self._entry(solution)) for budget, solution in self._frontier)
        return MappingDocument(
            data=data,
            data_sha256=data_sha256,
            prompts=len(self._rated.index),
            prompts_without_category=prompts - len(self._rated.index),
            resamples=self._request.resamples,
            seed=self._request.seed,
            budgets=self._problem.budgets.limits(),
            general=self._request.general or self._best_overall(self._solution.hosted),
            mapping=self._entry(self._solution),
            categories=self._choices(),
            best_single=self._entry(single) if single else None,
            gain=self._gain(single) if single else None,
            unbudgeted=self._entry(solve_mapping(replace(self._problem, budgets=Budgets()))),
            optimism=stability.optimism if stability else None,
            steadiest=self._entry(stability.choice) if stability else None,
            experts=tuple(self._expert(column) for column in range(len(self._columns))),
            frontier=Frontier(key, points) if key else None,
        )

    def _entry(self, solution: MappingSolution) -> MappingEntry:
        totals = {key: solution.totals[key] for key in self._figures.known()}
        return MappingEntry(
            self._worth(solution), totals, solution.hosted, {str(c): str(e) for c, e in solution.experts.items()}
        )

    def _worth(self, solution: MappingSolution) -> Worth:
        return Worth(solution.value, *_ends(self._resampled(solution)))

    def _resampled(self, solution: MappingSolution) -> F64 | None:
        """What a fixed mapping is worth to each resample. Shapes: (R,), None without resamples."""
        if self._stability is None:
            return None
        chosen = [self._columns[solution.experts[category]] for category in self._problem.categories]
        rates: F64 = self._stability.win_rates[:, np.arange(len(chosen)), chosen]
        return rates @ self._problem.frequencies

    def _gain(self, single: MappingSolution) -> Worth:
        mine, other = self._resampled(self._solution), self._resampled(single)
        paired = None if mine is None or other is None else mine - other
        return Worth(self._solution.value - single.value, *_ends(paired))

    def _alone(self, column: int) -> MappingSolution:
        """Everything given to one expert, and nobody else hosted."""
        return described(replace(self._problem, general=None), [column] * len(self._problem.categories))

    def _keeps_budgets(self, solution: MappingSolution) -> bool:
        limits = self._problem.budgets.limits()
        return all(solution.totals[key] <= limit * (1 + SLACK) + SLACK for key, limit in limits.items())

    def _best_single(self) -> MappingSolution | None:
        singles = [self._alone(column) for column in range(len(self._columns))]
        return max(filter(self._keeps_budgets, singles), key=lambda single: single.value, default=None)

    def _best_overall(self, experts: Sequence[ExpertId]) -> ExpertId:
        return max(experts, key=lambda expert: self._alone(self._columns[expert]).value)

    def _choices(self) -> tuple[CategoryChoice, ...]:
        """By number of prompts, then by name."""
        prompts = self._rated.prompts.tolist()
        rows = sorted(enumerate(self._problem.categories), key=lambda row: (-prompts[row[0]], row[1]))
        return tuple(self._choice(row, category, prompts[row]) for row, category in rows)

    def _choice(self, row: int, category: Category, prompts: int) -> CategoryChoice:
        rates = dict(zip(self._columns, self._problem.win_rates[row].tolist(), strict=True))
        expert = self._solution.experts[category]
        others = sorted((name for name in self._solution.hosted if name != expert), key=lambda name: -rates[name])
        shares: dict[str, float] = {}
        if self._stability is not None:
            found = zip(self._columns, self._stability.shares[row].tolist(), strict=True)
            shares = {name: round(share, 9) for name, share in sorted(found, key=lambda f: -f[1]) if share > 0}
        return CategoryChoice(
            category=category,
            prompts=prompts,
            expert=expert,
            win_rate=rates[expert],
            runners_up={name: rates[name] for name in others},
            same_choice_ratio=shares.get(expert, 0.0) if self._stability else None,
            resample_shares=shares,
        )

    def _expert(self, column: int) -> ExpertLine:
        single = self._alone(column)
        return ExpertLine(
            expert=self._problem.candidates[column].id,
            figures={key: single.totals[key] for key in self._figures.known()},
            cost_from=self._figures.cost_sources[column],
            value=single.value,
            keeps_budgets=self._keeps_budgets(single),
        )


def _ends(values: F64 | None) -> tuple[float, float] | tuple[None, None]:
    if values is None:
        return None, None
    low, high = np.percentile(values, _INTERVAL).tolist()
    return low, high
