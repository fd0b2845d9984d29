"""The mixed-integer programme of a mapping problem, as HiGHS solves it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from routers.mapping_problem import F64, FIGURE_OF, MappingProblem, MappingSolution, described

if TYPE_CHECKING:
    from collections.abc import Mapping

# HiGHS stops within 1e-6 of the best objective: values are scaled up so that this is 1e-11 of a win rate, and a
# saved expert still weighs more than it (and less than 1e-8 of a win rate, so that no real difference is given up).
_VALUE_SCALE, _TIE_SCALE = 1e5, 1e-3
SLACK: Final = 1e-9  # budgets are often sums of sizes: the same sum in another order must still fit
# Of a budget's largest figure: what HiGHS may exceed it by (1e-6 a row and an integer).
TOLERANCE: Final = 2e-5


class MappingProgramme:
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
            blocks.append((row[None, :] / scale, -np.inf, limit / scale + SLACK))
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
            if solution.totals[key] > limit + TOLERANCE * self.quantity(key).max() + SLACK:
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


def _share(row: F64) -> F64:
    """A row that sums to 1, or zeros."""
    return row / (row.sum() or 1.0)
