"""From a budget to a weight of cost."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from experts.errors import InfeasibleBudget
from routers.budget import Costs, CostWeight, average_cost, choose, weight_for_budget
from routers.types import F32

EXPECTED = st.integers(1, 40).flatmap(
    lambda n: st.integers(1, 5).flatmap(
        lambda e: st.tuples(
            arrays(np.float32, (n, e), elements=st.floats(-0.5, 1.5, width=16)),
            arrays(np.float32, e, elements=st.floats(0.125, 100, width=16)),
        )
    )
)


def spent(weight: CostWeight, expected: F32, costs: F32) -> float:
    """The average cost in expectation over draws."""
    loose, tight = (average_cost(expected, costs, w) for w in (weight.loose, weight.tight))
    return weight.tight_share * tight + (1 - weight.tight_share) * loose


@given(EXPECTED, st.floats(0, 1))
def test_the_weight_lands_on_the_budget(given_: tuple[F32, F32], share: float) -> None:
    expected, costs = given_
    free, least = average_cost(expected, costs, 0), float(costs.min())
    budget = least + share * (free - least)
    weight = weight_for_budget(expected, costs, budget)
    assert spent(weight, expected, costs) == pytest.approx(budget, rel=1e-6)
    assert 0 <= weight.loose <= weight.tight
    assert 0 <= weight.tight_share <= 1


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("cost", [0.1, 1.1, 0.3, 7.6])
def test_the_least_budget_ends_with_the_cheapest_everywhere(cost: float, kind: type[np.floating]) -> None:
    """A mean of equal costs is not their cost, by rounding: the search once went on for ever."""
    costs = np.array([cost * 5, cost], kind)
    for n in (3, 7, 100, 1000):
        expected = np.random.default_rng(0).random((n, 2)).astype(np.float32)
        weight = weight_for_budget(expected, costs, float(costs.min()))
        assert (choose(expected, costs, weight.tight) == 1).all()
        assert weight.tight_share == pytest.approx(1)


def test_single_draws_meet_the_budget_on_average() -> None:
    expected, costs = np.array([[0.0, 0.5]] * 10, np.float32), np.array([1, 9], np.float32)
    weight = weight_for_budget(expected, costs, 3)  # all change sides together
    draws = np.random.default_rng(3).random(4000)
    bought = [average_cost(expected[:1], costs, weight.at(draw)) for draw in draws]
    assert np.mean(bought) == pytest.approx(3, abs=0.2)
    assert {*bought} == {1.0, 9.0}


@given(EXPECTED, st.lists(st.floats(0, 10), min_size=2, max_size=8))
def test_a_higher_weight_never_costs_more(given_: tuple[F32, F32], weights: list[float]) -> None:
    expected, costs = given_
    bought = [average_cost(expected, costs, weight) for weight in sorted(weights)]
    assert all(after <= before + 1e-9 for before, after in pairwise(bought))


@given(EXPECTED, st.floats(1, 3))
@example((np.ones((2, 2), np.float32), np.array([2, 1], np.float32)), 1.0)
def test_a_budget_that_nobody_reaches_needs_no_weight(given_: tuple[F32, F32], more: float) -> None:
    expected, costs = given_
    assert weight_for_budget(expected, costs, average_cost(expected, costs, 0) * more) == CostWeight()


def test_a_budget_below_the_cheapest_is_refused_by_name() -> None:
    with pytest.raises(InfeasibleBudget, match=r"average_active_params_b = 1: the smallest feasible is 2"):
        weight_for_budget(np.ones((3, 2), np.float32), np.array([2, 3], np.float32), 1, "average_active_params_b")


def test_of_equal_experts_the_cheapest_is_chosen() -> None:
    expected = np.array([[0.5, 0.5, 0.5], [0.5, 0.7, 0.5]], np.float32)
    assert choose(expected, np.array([3, 2, 1], np.float32), 0).tolist() == [2, 1]
    assert choose(expected, np.array([1, 9, 1], np.float32), 0).tolist() == [0, 1]
    assert choose(expected, np.array([3, 2, 1], np.float32), 0.3).tolist() == [2, 2]


def test_a_draw_below_the_share_is_tight() -> None:
    costs = Costs({}, CostWeight(0.1, 0.9, 0.25))
    assert [costs.weight(draw) for draw in (0.0, 0.2499, 0.25, 0.99)] == [0.9, 0.9, 0.1, 0.1]
