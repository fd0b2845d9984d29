"""The frontier of cost and quality: worked by hand, and by property."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.metrics.frontier import (
    aiq,
    frontier_range,
    mix_at,
    mixing_share,
    quality_at_budget,
    upper_hull,
    zero_router,
)

COSTS = np.array([8.0, 1.0, 4.0, 2.0, 6.0])
QUALITIES = np.array([0.5, 0.2, 0.6, 0.3, 0.8])
# by cost: (1, .2) (2, .3) (4, .6) (6, .8) (8, .5): the second lies under the line 1-4, the last is dearer and worse
POINTS = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 10)), min_size=1, max_size=9)


def split(points: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    costs, tenths = np.array(points, np.float64).T
    return costs, tenths / 10


def test_the_hull_by_hand() -> None:
    assert upper_hull(COSTS, QUALITIES).tolist() == [1, 2, 4]
    assert frontier_range(COSTS, QUALITIES) == (1, 6)


def test_equal_costs_keep_the_better_and_equal_qualities_the_cheaper() -> None:
    assert upper_hull(np.array([1.0, 1, 2, 3]), np.array([0.1, 0.4, 0.9, 0.9])).tolist() == [1, 2]
    assert upper_hull(np.array([1.0, 2]), np.array([0.9, 0.1])).tolist() == [0]
    assert upper_hull(np.array([0.0, 1, 2]), np.array([0.0, 0.5, 1])).tolist() == [0, 2]  # one line
    assert len(upper_hull(np.array([1.0, 1, 1]), np.array([0.5, 0.5, 0.5]))) == 1


def test_aiq_by_hand() -> None:
    costs, qualities = np.array([0.0, 1, 3]), np.array([0.0, 0.6, 0.8])
    area = 0.3 + 2 * 0.7
    assert aiq(costs, qualities) == pytest.approx(area / 3)
    assert aiq(costs, qualities, (0, 5)) == pytest.approx((area + 2 * 0.8) / 5)  # level beyond the best
    assert aiq(costs, qualities, (0.5, 2)) == pytest.approx(((0.3 + 0.6) / 2 * 0.5 + (0.6 + 0.7) / 2) / 1.5)
    assert aiq(costs, qualities, (1, 1)) == pytest.approx(0.6)
    assert aiq(np.array([2.0, 2]), np.array([0.3, 0.7])) == pytest.approx(0.7)
    worse = aiq(np.append(costs, 9), np.append(qualities, 0.1))
    assert worse == pytest.approx(area / 3)  # a dearer, worse point moves nothing


def test_a_budget_is_landed_on_exactly() -> None:
    mix = mix_at(COSTS, QUALITIES, 5.5)
    assert (mix.low, mix.high) == (2, 4)
    assert mix.share_high == pytest.approx(0.75)
    assert mix.cost == pytest.approx(5.5)
    assert mix.quality == pytest.approx(0.75)
    assert quality_at_budget(COSTS, QUALITIES, 1.0) == pytest.approx(0.2)
    assert quality_at_budget(COSTS, QUALITIES, 100.0) == pytest.approx(0.8)
    assert mix_at(COSTS, QUALITIES, 100.0).cost == 6


def test_a_mix_of_prompts_has_the_mixed_means() -> None:
    per_prompt = np.array([[0.0, 0, 1, 0, 1], [0, 0, 0.2, 0, 0.6]])
    assert mix_at(COSTS, QUALITIES, 5.5).of(per_prompt).tolist() == pytest.approx([1.0, 0.5])
    unknown = np.array([[0.0, 0.5, math.nan, 0, 1]])
    assert mix_at(COSTS, QUALITIES, 1.0).of(unknown).tolist() == [0.5]  # a point of no share needs no outcome
    assert math.isnan(mix_at(COSTS, QUALITIES, 5.5).of(unknown)[0])


def test_the_share_of_two_costs() -> None:
    assert mixing_share(2, 6, 3) == 0.25
    assert mixing_share(2, 2, 2) == 0
    with pytest.raises(ValueError, match="budget 7 is not between costs 2 and 6"):
        mixing_share(2, 6, 7)


def test_the_zero_router_is_the_mean_point_of_each_expert() -> None:
    scores = np.array([[1.0, 0, math.nan], [0, 1, math.nan], [math.nan, 1, math.nan]])
    costs, qualities = zero_router(scores, np.array([1.0, 5, 9]))
    assert costs.tolist() == [1, 5]
    assert qualities.tolist() == pytest.approx([0.5, 2 / 3])
    per_prompt = np.array([[1.0, 4, 9], [3, 5, 9], [math.nan, 6, 9]])
    assert zero_router(scores, per_prompt)[0].tolist() == [2, 5]
    with pytest.raises(ValueError, match=r"scores \(3, 3\) and costs \(2,\)"):
        zero_router(scores, np.ones(2))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"costs \(2,\) and qualities \(5,\)"):
        upper_hull(COSTS[:2], QUALITIES)
    with pytest.raises(ValueError, match="1 values are NaN"):
        aiq(np.array([1.0, 2]), np.array([0.5, math.nan]))
    with pytest.raises(ValueError, match=r"budget 0\.5 is below 1\.0"):
        quality_at_budget(COSTS, QUALITIES, 0.5)
    for wrong in ((0.5, 6.0), (5.0, 4.0)):
        with pytest.raises(ValueError, match="cost range"):
            aiq(COSTS, QUALITIES, wrong)


@settings(max_examples=60)
@given(POINTS, st.floats(0, 1))
def test_the_frontier_is_the_best_of_all_pairs(points: list[tuple[int, int]], at: float) -> None:
    costs, qualities = split(points)
    budget = costs.min() + at * (costs.max() - costs.min())
    best = max(
        (1 - share) * qualities[i] + share * qualities[j]
        for i in range(len(costs))
        for j in range(len(costs))
        if costs[i] <= budget
        for share in [1.0 if costs[j] <= budget else (budget - costs[i]) / (costs[j] - costs[i])]
    )
    mix = mix_at(costs, qualities, float(budget))
    assert mix.quality == pytest.approx(best, abs=1e-9)
    assert mix.cost <= budget + 1e-9
    assert mix.cost == pytest.approx(min(budget, frontier_range(costs, qualities)[1]))


@settings(max_examples=60)
@given(POINTS)
def test_the_hull_rises_ever_less_steeply_and_nothing_lies_above(points: list[tuple[int, int]]) -> None:
    costs, qualities = split(points)
    hull = upper_hull(costs, qualities)
    steps = np.diff(qualities[hull]) / np.diff(costs[hull])
    assert (np.diff(costs[hull]) > 0).all()
    assert (steps > 0).all()
    assert (np.diff(steps) < 1e-9).all()
    assert (qualities <= np.interp(costs, costs[hull], qualities[hull]) + 1e-9).all()


@settings(max_examples=60)
@given(POINTS, st.data())
def test_aiq_is_a_mean_quality_and_never_falls_with_more_points(
    points: list[tuple[int, int]], data: st.DataObject
) -> None:
    costs, qualities = split(points)
    found = aiq(costs, qualities)
    assert qualities.min() - 1e-9 <= found <= qualities.max() + 1e-9
    span = float(costs.min()), float(costs.max())
    whole = aiq(costs, qualities, span)
    shuffled = np.array(data.draw(st.permutations(range(len(points)))))
    assert aiq(costs[shuffled], qualities[shuffled], span) == pytest.approx(whole, abs=1e-12)
    extra = data.draw(st.tuples(st.integers(int(span[0]), int(span[1])), st.integers(0, 10)))
    more_costs, more_qualities = split([*points, extra])
    assert aiq(more_costs, more_qualities, span) >= whole - 1e-12


@settings(max_examples=60)
@given(POINTS)
def test_aiq_is_the_area_under_the_quality_at_every_budget(points: list[tuple[int, int]]) -> None:
    costs, qualities = split(points)
    low, high = frontier_range(costs, qualities)
    budgets = np.linspace(low, high, 301)
    heights = [quality_at_budget(costs, qualities, float(budget)) for budget in budgets[:: 1 if high > low else 301]]
    assert aiq(costs, qualities) == pytest.approx(np.mean(heights), abs=5e-3)
