"""The sweep of prices on parameters: worked by hand, and by property."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.routing.choices import at_budget, best_choice, sweep
from experts.errors import ConfigError
from tests.routing_cases import ACTIVE, EXPECTED, SCORES

SIZES = np.array(ACTIVE)
TABLES = st.integers(1, 5).flatmap(
    lambda experts: st.tuples(
        st.lists(
            st.lists(st.integers(0, 8).map(lambda n: n / 8), min_size=experts, max_size=experts), min_size=1, max_size=8
        ),
        st.lists(st.integers(1, 40).map(float), min_size=experts, max_size=experts),
    )
)


def test_of_equals_the_smaller_then_the_first() -> None:
    tied = np.array([[0.5, 0.5, 0.5], [0.2, 0.9, 0.9], [0.1, 0.9, 0.2]])
    assert best_choice(tied, np.array([4.0, 2.0, 2.0])).tolist() == [1, 1, 1]
    assert best_choice(tied, np.array([1.0, 2.0, 0.5])).tolist() == [2, 2, 1]
    assert best_choice(tied, None).tolist() == [0, 1, 1]
    with pytest.raises(ValueError, match="1 values are NaN"):
        best_choice(np.array([[np.nan, 1.0]]), None)


def test_a_sweep_by_hand() -> None:
    # moves to the smallest expert at .3/8 (prompt 0), .4/2 (prompt 1) and .6/2 (prompt 2)
    swept = sweep(np.array(EXPECTED), SIZES)
    assert swept.weights.tolist() == pytest.approx([0, 0.11875, 0.25, 0.6])
    assert swept.choices.tolist() == [[1, 2, 2, 0], [0, 2, 2, 0], [0, 0, 2, 0], [0, 0, 0, 0]]
    assert swept.costs.tolist() == [5, 3, 2.5, 2]
    assert swept.outcomes(np.array(SCORES)).T.tolist() == [[1, 1, 1, 0], [1, 1, 1, 0], [1, 0, 1, 0], [1, 0, 0, 0]]


def test_a_budget_by_hand() -> None:
    swept = sweep(np.array(EXPECTED), SIZES)
    between = at_budget(swept, 4.0)
    assert (between.low, between.high, between.share_high, between.cost) == (1, 0, 0.5, 4.0)
    least = at_budget(swept, 2.0)
    assert (least.low, least.share_high, least.cost) == (3, 0, 2.0)
    for ample in (5.0, 8.0):
        assert (at_budget(swept, ample).low, at_budget(swept, ample).cost) == (0, 5.0)


def test_a_budget_below_the_smallest_expert_is_refused() -> None:
    swept = sweep(np.array(EXPECTED), SIZES)
    for budget in (1.5, float("nan")):
        with pytest.raises(ConfigError, match=rf"active_budgets = {budget}: is below 2"):
            at_budget(swept, budget)


@settings(max_examples=80)
@given(TABLES, st.floats(0, 1))
def test_every_point_is_the_best_at_its_price_and_budgets_are_met(
    table: tuple[list[list[float]], list[float]], part: float
) -> None:
    expected, sizes = np.array(table[0]), np.array(table[1])
    swept = sweep(expected, sizes)
    rows = np.arange(len(expected))
    for weight, choice in zip(swept.weights, swept.choices, strict=True):
        worth = expected - weight * sizes
        assert worth[rows, choice] == pytest.approx(worth.max(axis=1))
    assert (np.diff(swept.costs) < 0).all()
    assert swept.costs[-1] == sizes.min()
    assert swept.choices[0].tolist() == best_choice(expected, sizes).tolist()
    budget = float(sizes.min() + part * (sizes.max() - sizes.min()))
    mix = at_budget(swept, budget)
    assert mix.cost == pytest.approx(min(budget, swept.costs[0]))
    spent = mix.of(sizes[swept.choices].T)
    assert spent.mean() == pytest.approx(mix.cost)
    assert mix.low - mix.high in {0, 1}


def test_moves_that_differ_by_rounding_make_one_point() -> None:
    steps = np.nextafter(np.array([0.3, 0.3, 0.3, 0.3]), [0.3, 1, 1, 1])
    steps[2:] = np.nextafter(steps[2:], 1)
    steps[3:] = np.nextafter(steps[3:], 1)
    swept = sweep(np.stack([steps, np.zeros(4)], axis=1), np.array([2.0, 1.0]))
    assert (np.diff(swept.costs) < 0).all()
    assert (swept.costs[0], swept.costs[-1]) == (2, 1)


def test_a_sweep_of_many_prompts_keeps_to_two_hundred_points() -> None:
    rng = np.random.default_rng(0)
    sizes = np.array([3.0, 9.0, 40.0, 70.0])
    swept = sweep(rng.random((3000, 4)) + sizes / 200, sizes)
    assert 150 < len(swept.costs) <= 200
    assert np.abs(np.diff(swept.costs)).max() < 0.02 * (swept.costs[0] - swept.costs[-1]) + 0.5
