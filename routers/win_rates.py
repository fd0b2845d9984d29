"""From outcomes to a matrix of win rates, and how much of a mapping another sample would change."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from routers.mapping import solve_mapping
from routers.mapping_problem import F64, MappingProblem, MappingSolution, described

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from routers.mapping_problem import Indices, Scores


@dataclass(frozen=True, slots=True, eq=False)
class MappingStability:
    """What resamples chose, and how they rate any other mapping.

    choice: the steadiest. optimism: by how much, on average, a resample flattered the mapping that it chose; what a
    mapping is worth to the prompts it was chosen on is as much above what it is worth to others.
    Shapes: shares (C, E): in which share of the R resamples a category went to an expert; win_rates (R, C, E).
    """

    shares: F64
    choice: MappingSolution
    win_rates: F64
    optimism: float


def shrunk_win_rates(
    scores: Scores,
    categories: Indices,
    prior_strength: float | None = None,
    *,
    category_count: int | None = None,
    category_effects: bool = True,
) -> tuple[F64, Indices]:
    """Mean score by category and expert, pulled to what the expert's overall mean predicts; and how many scores it has.

    A cell of n scores weighs n / (n + prior_strength); None estimates the strength (empirical Bayes). The prediction
    is the expert's overall mean plus, with category_effects, how hard the category is for everybody.

    Shapes: scores (N, E), NaN where an expert was not asked; categories (N,), 0..C-1 -> (C, E), (C, E).
    Raises: ValueError: shapes or range do not fit, an expert has no score at all, prior_strength is below 0.
    Source: [R]; the strength is the method of moments of a random-effects analysis of variance.
    """
    count = int(categories.max(initial=-1)) + 1 if category_count is None else category_count
    if scores.ndim != 2 or categories.shape != scores.shape[:1] or not _within(categories, count):  # noqa: PLR2004
        raise ValueError(f"scores {scores.shape}, categories {categories.shape} in 0..{count - 1} do not fit")
    if unasked := np.flatnonzero(np.isnan(scores).all(axis=0)).tolist():
        raise ValueError(f"experts in columns {unasked} have no score")
    cells = _Cells.of(scores, categories, count)
    prior = cells.prior(category_effects=category_effects)
    strength = cells.strength(prior, category_effects=category_effects) if prior_strength is None else prior_strength
    if not strength >= 0:
        raise ValueError(f"prior_strength {prior_strength} is below 0")
    return cells.shrunk(prior, strength), cells.counts.astype(np.int64)


def bootstrap_mapping(
    problem: MappingProblem,
    scores: Scores,
    categories: Indices,
    *,
    resamples: int = 200,
    seed: int = 0,
    prior_strength: float | None = None,
    solve_all: Callable[[Iterable[MappingProblem]], Iterable[MappingSolution]] | None = None,
) -> MappingStability:
    """Solve again on prompts drawn anew within each category; the choice agrees with as many resamples as budgets let.

    Its value is by problem.win_rates. The prior strength is estimated once: duplicates in a resample look like signal.
    solve_all: solves in order; a pool's `map` if one is at hand.
    Shapes: scores (N, E) and categories (N,) as in shrunk_win_rates, in the problem's order.
    Raises: InfeasibleBudget: no mapping keeps every budget. ValueError: as in shrunk_win_rates, or no resamples.
    Source: [R]; optimism as of Efron (1983), "Estimating the error rate of a prediction rule".
    """
    if resamples < 1:
        raise ValueError(f"resamples {resamples} must be at least 1")
    count = len(problem.categories)
    shrunk_win_rates(scores, categories, prior_strength, category_count=count)  # refuses what does not fit
    cells = _Cells.of(scores, categories, count)
    strength = cells.strength(cells.prior()) if prior_strength is None else prior_strength
    win_rates = np.empty((resamples, *problem.win_rates.shape))
    for resample, drawn in zip(win_rates, _draws(categories, count, resamples, seed), strict=True):
        again = _Cells.of(scores[drawn], categories[drawn], count)
        resample[:] = again.shrunk(again.prior(), strength)
    columns = {candidate.id: column for column, candidate in enumerate(problem.candidates)}
    again_solved = (solve_all or partial(map, solve_mapping))(replace(problem, win_rates=r) for r in win_rates)
    shares, gains = np.zeros(problem.win_rates.shape), []
    for solution in again_solved:
        chosen = [columns[solution.experts[category]] for category in problem.categories]
        shares[np.arange(count), chosen] += 1 / resamples
        gains.append(solution.value - described(problem, chosen).value)
    steadiest = solve_mapping(replace(problem, win_rates=shares)).experts
    choice = described(problem, [columns[steadiest[category]] for category in problem.categories])
    return MappingStability(shares, choice, win_rates, math.fsum(gains) / resamples)


def _draws(categories: Indices, count: int, resamples: int, seed: int) -> Iterator[Indices]:
    """For each resample the rows drawn, as many of each category as it has, with replacement."""
    random = np.random.default_rng(seed)
    by_category = [rows for c in range(count) if (rows := np.flatnonzero(categories == c)).size]
    for _ in range(resamples):
        yield np.concatenate([random.choice(rows, rows.size) for rows in by_category])


def _within(categories: Indices, count: int) -> bool:
    return categories.size > 0 and bool((categories >= 0).all() and (categories < count).all())


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """Scores summed up by category and expert. Shapes: counts, sums, squares (C, E)."""

    counts: F64
    sums: F64
    squares: F64

    @staticmethod
    def of(scores: Scores, categories: Indices, count: int) -> _Cells:
        member = (categories[None, :] == np.arange(count)[:, None]).astype(np.float64)
        asked = ~np.isnan(scores)
        known = np.where(asked, scores, 0.0).astype(np.float64)
        return _Cells(member @ asked, member @ known, member @ known**2)

    def prior(self, *, category_effects: bool = True) -> F64:
        """What expert and category predict apart from each other: additive least squares by alternating means.

        Plain means would flatter an expert that was only asked easy questions.
        """
        by_expert = _ratio(self.sums.sum(axis=0), self.counts.sum(axis=0), self.sums.sum() / self.counts.sum())
        by_category = np.zeros((len(self.counts), 1))
        for _ in range(50 if category_effects else 0):
            rest = self.sums - self.counts * by_expert
            by_category = _ratio(rest.sum(axis=1), self.counts.sum(axis=1), 0.0)[:, None]
            rest = self.sums - self.counts * by_category
            by_expert = _ratio(rest.sum(axis=0), self.counts.sum(axis=0), by_expert)
        return by_expert + by_category

    def strength(self, prior: F64, *, category_effects: bool = True) -> float:
        """Noise within a cell over the true spread of cells around the prior; inf where none of that spread is true."""
        means, filled = _ratio(self.sums, self.counts, prior), np.count_nonzero(self.counts)
        within = float((self.squares - self.sums * means).sum())
        rows, columns = (np.count_nonzero(self.counts.sum(axis=axis)) for axis in (1, 0))
        freedom = filled - columns - (rows - 1 if category_effects else 0)
        spare = self.counts.sum() - filled
        if freedom <= 0 or spare <= 0:
            return math.inf
        noise = max(within, 0.0) / spare
        between = float((self.counts * (means - prior) ** 2).sum()) / freedom
        spread = (between - noise) * filled / self.counts.sum()
        return float(noise / spread) if spread > 0 else math.inf

    def shrunk(self, prior: F64, strength: float) -> F64:
        """Cell means and prior, weighed by counts and strength."""
        weights = _ratio(self.counts, self.counts + strength, np.zeros_like(self.counts))
        return prior + weights * (_ratio(self.sums, self.counts, prior) - prior)


def _ratio(top: F64, bottom: F64, otherwise: F64 | float) -> F64:
    """Divide, `otherwise` where the divisor is 0."""
    return np.divide(top, bottom, out=np.broadcast_to(otherwise, top.shape).astype(np.float64), where=bottom > 0)
