"""The budgeted mapping against the worked vectors, against enumeration, and on noise."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from experts.errors import ConfigError, InfeasibleBudget
from experts.types import Category, ExpertId
from routers.mapping import frontier, solve_mapping
from routers.mapping_problem import FIGURE_OF, Budgets, Candidate, MappingProblem, MappingSolution
from routers.win_rates import bootstrap_mapping, shrunk_win_rates

SIZES = (7.6, 9.2, 27.2, 70.6, 72.7)
WIN_RATES = np.array(
    [
        [0.31, 0.40, 0.52, 0.58, 0.66],
        [0.28, 0.36, 0.55, 0.61, 0.57],
        [0.22, 0.30, 0.49, 0.66, 0.63],
        [0.35, 0.48, 0.50, 0.44, 0.47],
    ]
)
KEYS = tuple(FIGURE_OF)
some = settings(max_examples=25, deadline=None)


def problem_of(
    win_rates: Sequence[Sequence[float]] | np.ndarray,
    frequencies: Sequence[float],
    figures: Sequence[tuple[float, ...]],
    *,
    general: str | None = None,
    **budgets: float,
) -> MappingProblem:
    return MappingProblem(
        tuple(Candidate(ExpertId(f"e{i}"), *row) for i, row in enumerate(figures)),
        tuple(Category(f"c{i}") for i in range(len(frequencies))),
        np.array(frequencies),
        np.array(win_rates, dtype=float),
        Budgets(**budgets),
        ExpertId(general) if general else None,
    )


def vector(**budgets: float) -> MappingProblem:
    return problem_of(WIN_RATES, [0.4, 0.3, 0.2, 0.1], [(size, size) for size in SIZES], **budgets)


def columns(problem: MappingProblem, solution: MappingSolution) -> list[int]:
    ids = [c.id for c in problem.candidates]
    return [ids.index(solution.experts[c]) for c in problem.categories]


@pytest.mark.parametrize(
    ("budget", "value", "chosen"),
    [
        (10, 0.376, [1, 1, 1, 1]),
        (40, 0.521, [2, 2, 2, 2]),
        (80, 0.608, [4, 4, 4, 4]),
        (110, 0.611, [4, 4, 4, 2]),
        (190, 0.629, [4, 3, 3, 2]),
    ],
)
def test_the_worked_vectors(budget: float, value: float, chosen: list[int]) -> None:
    problem = vector(total_params_b=budget)
    solution = solve_mapping(problem)
    assert solution.value == pytest.approx(value, abs=1e-12)
    assert columns(problem, solution) == chosen
    assert solution.totals["total_params_b"] == pytest.approx(sum(SIZES[e] for e in set(chosen)))
    assert solution.hosted == tuple(f"e{e}" for e in sorted(set(chosen)))


# -- against enumeration. Every number is a multiple of 1/8, so that sums are exact and nothing hangs on a rounding.

eighths = st.integers(1, 40).map(lambda n: n / 8)


@st.composite
def problems(draw: st.DrawFn, keys: Sequence[str] = KEYS) -> MappingProblem:
    categories, experts = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    cuts = sorted(draw(st.lists(st.integers(0, 8), min_size=categories - 1, max_size=categories - 1)))
    frequencies = [(b - a) / 8 for a, b in itertools.pairwise([0, *cuts, 8])]
    return problem_of(
        draw(st.lists(st.lists(st.integers(0, 8).map(lambda n: n / 8), min_size=experts, max_size=experts),
                      min_size=categories, max_size=categories)),
        frequencies,
        draw(st.lists(st.tuples(eighths, eighths, eighths, eighths), min_size=experts, max_size=experts)),
        general=draw(st.sampled_from([None, *[f"e{i}" for i in range(experts)]])),
        **{key: draw(eighths) * 2 for key in keys if draw(st.booleans())},
    )  # fmt: skip


def totals_of(problem: MappingProblem, chosen: Sequence[int]) -> dict[str, float]:
    ids = [c.id for c in problem.candidates]
    hosted = set(chosen) | ({ids.index(problem.general)} if problem.general else set())
    pairs = list(zip(problem.frequencies, chosen, strict=True))
    means = {k: sum(f * getattr(problem.candidates[e], FIGURE_OF[k]) for f, e in pairs) for k in KEYS}
    return {**means, "total_params_b": sum(problem.candidates[e].total_params_b for e in hosted)}


def enumerated(problem: MappingProblem) -> list[tuple[float, int, dict[str, float]]]:
    """Value, number of hosted experts and totals of every mapping that keeps the budgets."""
    found = []
    for chosen in itertools.product(range(len(problem.candidates)), repeat=len(problem.categories)):
        totals = totals_of(problem, chosen)
        if all(totals[key] <= limit + 1e-9 for key, limit in problem.budgets.limits().items()):
            value = sum(f * problem.win_rates[c, e] for c, (f, e) in enumerate(zip(problem.frequencies, chosen)))  # noqa: B905
            ids = {problem.candidates[e].id for e in chosen} | ({problem.general} if problem.general else set())
            found.append((float(value), len(ids), totals))
    return found


def solved(problem: MappingProblem) -> MappingSolution | None:
    try:
        return solve_mapping(problem)
    except InfeasibleBudget:
        return None


@settings(max_examples=80, deadline=None)
@given(problems())
def test_it_is_what_enumeration_finds(problem: MappingProblem) -> None:
    every, solution = enumerated(problem), solved(problem)
    assert (solution is None) == (not every)
    if solution is None:
        return
    best = max(value for value, _, _ in every)
    assert solution.value == pytest.approx(best, abs=1e-9)
    assert len(solution.hosted) == min(hosted for value, hosted, _ in every if value > best - 1e-9), "a tie went wrong"
    assert dict(solution.totals) == pytest.approx(totals_of(problem, columns(problem, solution)))
    for key, limit in problem.budgets.limits().items():
        assert solution.totals[key] <= limit + 1e-9
    assert problem.general is None or problem.general in solution.hosted


@some
@given(problems(), st.randoms(use_true_random=False))
def test_the_order_of_names_does_not_matter(problem: MappingProblem, random: object) -> None:
    solution = solved(problem)
    experts, categories = list(range(len(problem.candidates))), list(range(len(problem.categories)))
    random.shuffle(experts)  # type: ignore[attr-defined]
    random.shuffle(categories)  # type: ignore[attr-defined]
    other = solved(
        replace(
            problem,
            candidates=tuple(problem.candidates[e] for e in experts),
            categories=tuple(problem.categories[c] for c in categories),
            frequencies=problem.frequencies[categories],
            win_rates=problem.win_rates[np.ix_(categories, experts)],
        )
    )
    assert (solution is None) == (other is None)
    if solution is not None and other is not None:
        assert (solution.experts, solution.value, solution.totals) == (other.experts, other.value, other.totals)
        assert set(solution.hosted) == set(other.hosted)


@some
@given(problems())
def test_an_unused_expert_may_go(problem: MappingProblem) -> None:
    solution = solved(problem)
    assume(solution is not None and len(solution.hosted) < len(problem.candidates))
    assert solution is not None
    kept = [e for e, c in enumerate(problem.candidates) if c.id in solution.hosted]
    fewer = solve_mapping(
        replace(problem, candidates=tuple(problem.candidates[e] for e in kept), win_rates=problem.win_rates[:, kept])
    )
    assert fewer.value == pytest.approx(solution.value, abs=1e-9)
    assert fewer.hosted == solution.hosted


@some
@given(problems(), st.sampled_from(KEYS), eighths)
def test_a_larger_budget_is_never_worse(problem: MappingProblem, key: str, more: float) -> None:
    limit = problem.budgets.limits().get(key)
    assume(limit is not None)
    solution, larger = (
        solved(problem),
        solved(replace(problem, budgets=replace(problem.budgets, **{key: limit + more}))),
    )
    if solution is not None:
        assert larger is not None
        assert larger.value >= solution.value - 1e-7


@some
@given(problems())
def test_the_stated_figures_are_feasible_and_the_smallest(problem: MappingProblem) -> None:
    assume(not enumerated(problem))
    with pytest.raises(InfeasibleBudget) as caught:
        solve_mapping(problem)
    error = caught.value
    assert error.shortfalls
    for way in [error.shortfalls] if error.together else [(shortfall,) for shortfall in error.shortfalls]:
        raised = relimited(problem, {key: least for key, _, least in way})
        assert enumerated(raised), "what the message says does not fit"
        assert solved(raised) is not None
        for key, limit, least in way:
            assert limit < least
            assert f"{key} = {limit:g}: the smallest feasible is {least:g}" in str(error)
            assert not enumerated(relimited(problem, {**{k: n for k, _, n in way}, key: 0.99 * least})), "less would do"
    sufficient = [key for key in problem.budgets.limits() if enumerated(relimited(problem, {key: None}))]
    assert [key for key, _, _ in error.shortfalls] == sufficient or (error.together and not sufficient)


def relimited(problem: MappingProblem, budgets: dict[str, float | None]) -> MappingProblem:
    return replace(problem, budgets=replace(problem.budgets, **budgets))


@settings(max_examples=20, deadline=None)
@given(problems(), st.sampled_from(KEYS))
def test_a_frontier_is_what_solving_at_its_budgets_gives(problem: MappingProblem, key: str) -> None:
    free = replace(problem, budgets=replace(problem.budgets, **{key: None}))
    assume(solved(free) is not None)
    points = frontier(free, key, 4 if key != "total_params_b" else None)
    budgets = [budget for budget, _ in points]
    assert budgets == sorted(set(budgets))
    values = [solution.value for _, solution in points]
    assert all(later >= earlier - 1e-7 for earlier, later in itertools.pairwise(values))
    for budget, solution in points:
        assert solve_mapping(replace(free, budgets=replace(free.budgets, **{key: budget}))) == solution
    assert solved(replace(free, budgets=replace(free.budgets, **{key: budgets[0] - 0.01}))) is None
    if key == "total_params_b":  # between two points nothing changes
        for total in {totals[key] for _, _, totals in enumerated(free)}:
            last = [value for budget, value in zip(budgets, values, strict=True) if budget <= total + 1e-9][-1]
            best = max(value for value, _, totals in enumerated(free) if totals[key] <= total + 1e-9)
            assert last == pytest.approx(best, abs=1e-7)


# -- one by one


def test_the_frontier_of_the_worked_example() -> None:
    points = frontier(vector(), "total_params_b")
    assert [budget for budget, _ in points] == pytest.approx(
        [7.6, 9.2, 27.2, 70.6, 72.7, 81.9, 99.9, 143.3, 152.5, 170.5]
    )
    assert [s.value for _, s in points] == pytest.approx(
        [0.287, 0.376, 0.521, 0.591, 0.608, 0.609, 0.611, 0.626, 0.627, 0.629]
    )


def test_the_message_names_the_budget_and_what_would_do() -> None:
    with pytest.raises(InfeasibleBudget) as caught:
        solve_mapping(vector(total_params_b=5))
    assert str(caught.value) == "total_params_b = 5: the smallest feasible is 7.6"
    with pytest.raises(InfeasibleBudget, match=r"each has to be raised:\n  total_params_b = 5.*\n  average_act.* = 6"):
        solve_mapping(vector(total_params_b=5, average_active_params_b=6))


def test_two_budgets_that_fit_alone_but_not_together_each_get_their_way_out() -> None:
    # e0 is small but dear, e1 cheap but large
    problem = problem_of([[0.5, 0.5]], [1.0], [(1.0, 1.0, 9.0), (8.0, 1.0, 2.0)], total_params_b=3.0, average_cost=4.0)
    with pytest.raises(InfeasibleBudget, match="raising any one of them is enough") as caught:
        solve_mapping(problem)
    assert caught.value.shortfalls == (("total_params_b", 3.0, 8.0), ("average_cost", 4.0, 9.0))


def test_the_figure_is_rounded_up_never_down() -> None:
    problem = problem_of([[1.0], [1.0], [1.0]], [1 / 3, 1 / 3, 1 / 3], [(2 / 3, 1.0)], total_params_b=0.5)
    with pytest.raises(InfeasibleBudget, match=r"feasible is 0\.666667$"):
        solve_mapping(problem)


def test_tiny_costs_are_not_lost_in_the_solvers_tolerance() -> None:
    problem = problem_of([[0.9, 0.5]], [1.0], [(1.0, 1.0, 3e-8), (1.0, 1.0, 1e-8)], average_cost=2e-8)
    assert solve_mapping(problem).experts == {"c0": "e1"}


def test_ties_go_to_the_smaller_expert_and_to_fewer() -> None:
    assert solve_mapping(problem_of([[0.5, 0.5]], [1.0], [(9.0, 9.0), (2.0, 2.0)])).experts == {"c0": "e1"}
    shared = problem_of([[0.5, 0.2, 0.5], [0.2, 0.5, 0.5]], [0.5, 0.5], [(1.0, 1.0), (1.0, 1.0), (90.0, 90.0)])
    assert solve_mapping(shared).hosted == ("e2",)


def test_twins_are_told_apart_by_name_not_by_place() -> None:
    problem = problem_of([[0.5, 0.5, 0.5]], [1.0], [(1.0, 1.0)] * 3)
    orders = itertools.permutations(problem.candidates)
    assert len({solve_mapping(replace(problem, candidates=order)).experts[Category("c0")] for order in orders}) == 1


def test_a_category_nobody_asks_about_goes_to_the_best_expert_that_is_there_anyway() -> None:
    problem = problem_of([[0.9, 0.1, 0.2], [0.1, 0.99, 0.6]], [1.0, 0.0], [(1.0, 1.0)] * 3, general="e2")
    assert solve_mapping(problem).experts == {"c0": "e0", "c1": "e2"}


def test_the_general_expert_takes_its_part_of_the_budget() -> None:
    problem = replace(vector(total_params_b=80), general=ExpertId("e1"))
    solution = solve_mapping(problem)
    assert "e1" in solution.hosted
    assert solution.totals["total_params_b"] == pytest.approx(79.8)


@pytest.mark.parametrize("limit", [-1.0, math.nan])
def test_a_budget_that_is_no_budget_is_refused_by_name(limit: float) -> None:
    with pytest.raises(ConfigError, match=r"average_cost = .* must be a number of at least 0"):
        solve_mapping(vector(average_cost=limit))


def test_what_does_not_fit_is_refused() -> None:
    good = vector()
    with pytest.raises(ConfigError, match="general = 'nobody'"):
        replace(good, general=ExpertId("nobody"))
    with pytest.raises(ValueError, match="sum to 1"):
        replace(good, frequencies=good.frequencies * 2)
    with pytest.raises(ValueError, match="do not fit"):
        replace(good, win_rates=good.win_rates.T)
    with pytest.raises(ValueError, match="not finite"):
        replace(good, win_rates=good.win_rates * math.nan)
    with pytest.raises(ValueError, match="comes twice"):
        replace(good, categories=good.categories[:3] + good.categories[:1])
    with pytest.raises(ValueError, match="negative"):
        replace(good, candidates=(*good.candidates[:4], Candidate(ExpertId("e4"), -1.0, 1.0)))
    with pytest.raises(ValueError, match="must be one of"):
        frontier(good, "params")


# -- win rates

NAN = math.nan


def test_shrinkage_by_hand() -> None:
    scores = np.array([[1.0, 0.5], [1.0, 0.5], [0.0, 0.5], [0.0, NAN]])
    rates, counts = shrunk_win_rates(scores, np.array([0, 0, 1, 1]), 2, category_effects=False)
    assert counts.tolist() == [[2, 2], [2, 1]]
    assert rates == pytest.approx(np.array([[0.75, 0.5], [0.25, 0.5]]))  # (2*1 + 2*.5) / (2 + 2)


def test_shrinkage_by_hand_with_category_effects() -> None:
    scores = np.array([[1.0, 0.5], [1.0, 0.5], [0.0, 0.5], [0.0, 0.5]])
    rates, _ = shrunk_win_rates(scores, np.array([0, 0, 1, 1]), 2)
    # the categories are .25 above and below everybody's .5
    assert rates == pytest.approx(np.array([[0.875, 0.625], [0.125, 0.375]]))


def test_the_estimated_strength_by_hand() -> None:
    # noise .125; spread (.25/1 - .125) / 2 = .0625; strength 2, so each mean of .75 and .25 goes half way to .5
    rates, _ = shrunk_win_rates(np.array([[1.0], [0.5], [0.0], [0.5]]), np.array([0, 0, 1, 1]), category_effects=False)
    assert rates == pytest.approx(np.array([[0.625], [0.375]]))


def test_signal_is_kept_and_noise_is_not() -> None:
    categories = np.repeat(np.arange(4), 100)
    signal = np.where((categories % 2 == 0)[:, None], [1.0, 0.0], [0.0, 1.0])
    rates, _ = shrunk_win_rates(signal, categories)
    assert rates == pytest.approx(np.array([[1, 0], [0, 1], [1, 0], [0, 1]]))
    noise = (np.random.default_rng(0).random((400, 6)) < 0.5).astype(float)
    raw, _ = shrunk_win_rates(noise, categories, 0)
    shrunk, _ = shrunk_win_rates(noise, categories)
    assert np.std(specialism(shrunk)) < 0.5 * np.std(specialism(raw))


def specialism(rates: np.ndarray) -> np.ndarray:
    """What neither the expert nor the category explains."""
    return rates - rates.mean(axis=0) - rates.mean(axis=1, keepdims=True) + rates.mean()


def test_a_newcomer_with_few_scores_is_not_flattered_in_a_hard_category() -> None:
    # the newcomer is .1 worse everywhere, and was asked 4 questions in each category
    categories = np.repeat([0, 1], 100)
    scores = np.stack([np.where(categories == 0, 0.9, 0.3), np.where(categories == 0, 0.8, 0.2)], axis=1)
    scores[np.arange(200) % 100 >= 4, 1] = NAN
    rates, _ = shrunk_win_rates(scores, categories, 16)
    assert (rates[:, 0] > rates[:, 1] + 0.05).all()
    plain, _ = shrunk_win_rates(scores, categories, 16, category_effects=False)
    assert plain[1, 1] > plain[1, 0], "if plain means did as well, the effects would not be needed"


def test_an_empty_cell_is_the_prediction_and_an_empty_column_an_error() -> None:
    scores = np.array([[0.8, 0.6], [0.4, NAN]])
    rates, counts = shrunk_win_rates(scores, np.array([0, 1]), 0, category_count=3)
    assert counts.tolist() == [[1, 1], [1, 0], [0, 0]]
    assert rates[1, 1] == pytest.approx(0.2, abs=1e-6)
    assert np.isfinite(rates).all()
    with pytest.raises(ValueError, match=r"columns \[1\]"):
        shrunk_win_rates(np.array([[0.8, NAN]]), np.array([0]))
    with pytest.raises(ValueError, match="do not fit"):
        shrunk_win_rates(scores, np.array([0, 3]), category_count=3)
    with pytest.raises(ValueError, match="below 0"):
        shrunk_win_rates(scores, np.array([0, 1]), -1)


def outcomes() -> tuple[np.ndarray, np.ndarray]:
    """Category 0: expert 2 is far ahead; category 1: experts 0 and 1 are equal."""
    random, categories = np.random.default_rng(7), np.repeat([0, 1], 60)
    chance = np.where((categories == 0)[:, None], [0.3, 0.3, 0.9], [0.5, 0.5, 0.1])
    return (random.random((120, 3)) < chance).astype(float), categories


def test_the_bootstrap_says_what_is_sure_and_repeats_itself() -> None:
    scores, categories = outcomes()
    rates, _ = shrunk_win_rates(scores, categories, 1)
    problem = problem_of(rates, [0.5, 0.5], [(1.0, 1.0), (1.0, 1.0), (5.0, 5.0)], average_active_params_b=3.0)
    first, again, other = (
        bootstrap_mapping(problem, scores, categories, resamples=25, seed=seed, prior_strength=1) for seed in (3, 3, 4)
    )
    assert np.array_equal(first.shares, again.shares)
    assert first.choice == again.choice
    assert not np.array_equal(first.shares, other.shares)
    assert first.shares.sum(axis=1) == pytest.approx(1)
    assert first.shares[0].tolist() == pytest.approx([0, 0, 1])
    assert 0.05 < first.shares[1, 0] < 0.95
    favourite = int(first.shares[1].argmax())
    assert first.choice.experts == {"c0": "e2", "c1": f"e{favourite}"}
    assert first.choice.value == pytest.approx(0.5 * rates[0, 2] + 0.5 * rates[1, favourite])


def test_the_steadiest_choice_keeps_the_budget() -> None:
    scores, categories = outcomes()
    rates, _ = shrunk_win_rates(scores, categories)
    problem = problem_of(rates, [0.5, 0.5], [(1.0, 1.0), (1.0, 1.0), (5.0, 5.0)], total_params_b=5.5)
    stability = bootstrap_mapping(problem, scores, categories, resamples=20)
    assert stability.choice.totals["total_params_b"] <= 5.5
    with pytest.raises(InfeasibleBudget):
        bootstrap_mapping(replace(problem, budgets=Budgets(0.5)), scores, categories, resamples=2)


def test_optimism_is_what_choosing_among_equals_seems_to_gain() -> None:
    random, categories = np.random.default_rng(3), np.repeat([0, 1], 50)
    noise = (random.random((100, 6)) < 0.5).astype(float)
    rates, _ = shrunk_win_rates(noise, categories, 0)
    problem = problem_of(rates, [0.5, 0.5], [(1.0, 1.0)] * 6)
    stability = bootstrap_mapping(problem, noise, categories, resamples=50, prior_strength=0)
    assert stability.optimism > 0.03, "the best of six coins is no better than the others"
    assert stability.win_rates.shape == (50, 2, 6)
    certain = np.where((categories == 0)[:, None], [1.0, 0.0], [0.0, 1.0])
    sure = problem_of([[1, 0], [0, 1]], [0.5, 0.5], [(1.0, 1.0)] * 2)
    assert bootstrap_mapping(sure, certain, categories, resamples=5, prior_strength=0).optimism == pytest.approx(0)


def test_whoever_solves_the_resamples_gets_them_in_order() -> None:
    scores, categories = outcomes()
    rates, _ = shrunk_win_rates(scores, categories, 1)
    problem, seen = problem_of(rates, [0.5, 0.5], [(1.0, 1.0)] * 3), []

    def solve_all(problems: Iterable[MappingProblem]) -> list[MappingSolution]:
        seen.extend(problems)
        return [solve_mapping(one) for one in seen]

    stability = bootstrap_mapping(problem, scores, categories, resamples=4, prior_strength=1, solve_all=solve_all)
    assert np.array_equal(stability.win_rates, [one.win_rates for one in seen])
    assert np.array_equal(
        stability.shares, bootstrap_mapping(problem, scores, categories, resamples=4, prior_strength=1).shares
    )
    with pytest.raises(ValueError, match="resamples 0"):
        bootstrap_mapping(problem, scores, categories, resamples=0)
