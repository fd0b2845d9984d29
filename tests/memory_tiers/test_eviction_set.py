"""Sets of victims: the cheapest there is, never a superfluous one, never a lease; the broken planners are caught."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.errors import TierFull
from experts.types import ExpertId
from memory_tiers.eviction_set import cheapest_set, plan_eviction_set
from memory_tiers.planner import plan_cheapest_eviction
from memory_tiers.policies import Candidate
from memory_tiers.types import Resident, ResidentState

Planner = Callable[[Iterable[Resident], Mapping[ExpertId, float], int, int], tuple[Resident, ...]]
CAPACITY = 100
SIZED = st.tuples(st.integers(0, 40), st.sampled_from([0.0, 0.5, 1.0, 3.0]) | st.floats(0, 10))


def smallest_loss(sizes: list[int], losses: list[float], need: int) -> float:
    """By trying every set."""
    places = range(len(sizes))
    return min(
        sum(losses[p] for p in chosen)
        for count in range(len(sizes) + 1)
        for chosen in combinations(places, count)
        if sum(sizes[p] for p in chosen) >= need
    )


@given(items=st.lists(SIZED, max_size=9), need=st.integers(0, 200))
def test_a_small_set_is_the_cheapest_of_all_sets(items: list[tuple[int, float]], need: int) -> None:
    sizes, losses = [size for size, _ in items], [loss for _, loss in items]
    if sum(sizes) < need:
        with pytest.raises(TierFull, match=f"{need} bytes are needed, {sum(sizes)} could"):
            cheapest_set(sizes, losses, need)
        return
    chosen = cheapest_set(sizes, losses, need)
    assert sum(losses[p] for p in chosen) == pytest.approx(smallest_loss(sizes, losses, need))


@given(items=st.lists(SIZED, min_size=25, max_size=60), need_ratio=st.floats(0, 1))
def test_a_large_set_is_enough_and_has_nothing_superfluous(items: list[tuple[int, float]], need_ratio: float) -> None:
    sizes, losses = [size for size, _ in items], [loss for _, loss in items]
    need = int(sum(sizes) * need_ratio)
    chosen = cheapest_set(sizes, losses, need)
    freed = sum(sizes[p] for p in chosen)
    assert len(set(chosen)) == len(chosen)
    assert freed >= need
    assert all(freed - sizes[p] < need for p in chosen)


def test_one_large_goes_rather_than_two_small_when_that_is_cheaper() -> None:
    small, other, large = (Candidate(ExpertId(n), size, 1.0) for n, size in (("s", 5), ("o", 5), ("l", 11)))
    assert plan_eviction_set([small, other, large], [1.0, 1.0, 1.5], 10) == [large]
    assert plan_eviction_set([small, other, large], [1.0, 1.0, 2.5], 10) == [small, other]
    assert plan_eviction_set([small, other, large], [1.0, 0.5, 2.5], 4) == [other]
    assert plan_eviction_set([small, other, large], [1.0, 1.0, 1.0], 0) == []


@st.composite
def devices(draw: st.DrawFn) -> tuple[list[Resident], dict[ExpertId, float], int]:
    sizes = draw(st.lists(st.integers(1, 40), max_size=7))
    while sum(sizes) > CAPACITY:
        sizes.pop()
    residents = []
    for number, size in enumerate(sizes):
        state = draw(st.sampled_from([ResidentState.READY] * 3 + list(ResidentState)))
        leases = draw(st.sampled_from([0, 0, 1])) if state is ResidentState.READY else 0
        residents.append(Resident(ExpertId(f"e{number}"), size, state=state, leases=leases))
    losses = {r.expert_id: float(draw(st.integers(1, 20))) for r in residents}
    return residents, losses, draw(st.integers(0, CAPACITY))


def check(planner: Planner, residents: list[Resident], losses: Mapping[ExpertId, float], need: int) -> None:
    free = CAPACITY - sum(r.device_bytes for r in residents)
    able = [r for r in residents if r.evictable]
    if need > free + sum(r.device_bytes for r in able):
        with pytest.raises(TierFull):
            planner(residents, losses, need, CAPACITY)
        return
    victims = planner(residents, losses, need, CAPACITY)
    freed = sum(v.device_bytes for v in victims)
    assert all(v in able for v in victims), "a leased or moving expert was evicted"
    assert free + freed >= need, "too little was freed"
    assert all(free + freed - v.device_bytes < need for v in victims), "a victim was superfluous"
    least = smallest_loss([r.device_bytes for r in able], [losses[r.expert_id] for r in able], need - free)
    assert sum(losses[v.expert_id] for v in victims) == pytest.approx(least), "a cheaper set was enough"


@given(devices())
def test_a_plan_is_cheapest_and_never_touches_a_lease(
    device: tuple[list[Resident], dict[ExpertId, float], int],
) -> None:
    check(plan_cheapest_eviction, *device)


def leased_too(
    residents: Iterable[Resident], losses: Mapping[ExpertId, float], need: int, capacity: int
) -> tuple[Resident, ...]:
    present = list(residents)
    unleased = [Resident(r.expert_id, r.device_bytes, state=r.state) for r in present]
    chosen = {v.expert_id for v in plan_cheapest_eviction(unleased, losses, need, capacity)}
    return tuple(r for r in present if r.expert_id in chosen)


def one_more(
    residents: Iterable[Resident], losses: Mapping[ExpertId, float], need: int, capacity: int
) -> tuple[Resident, ...]:
    present = list(residents)
    victims = plan_cheapest_eviction(present, losses, need, capacity)
    return (*victims, *[r for r in present if r.evictable and r not in victims][:1])


def never_full(
    residents: Iterable[Resident], losses: Mapping[ExpertId, float], need: int, capacity: int
) -> tuple[Resident, ...]:
    present = list(residents)
    try:
        return plan_cheapest_eviction(present, losses, need, capacity)
    except TierFull:
        return tuple(r for r in present if r.evictable)


def dearest_first(
    residents: Iterable[Resident], losses: Mapping[ExpertId, float], need: int, capacity: int
) -> tuple[Resident, ...]:
    return plan_cheapest_eviction(residents, {e: 100.0 - loss for e, loss in losses.items()}, need, capacity)


def resident(name: str, size: int, leases: int = 0) -> Resident:
    return Resident(ExpertId(name), size, state=ResidentState.READY, leases=leases)


CASES = [
    ([resident("a", 40), resident("b", 40)], 60),
    ([resident("a", 60, leases=1), resident("b", 40)], 60),
    ([resident("a", 40, leases=1), resident("b", 40)], 50),
    ([resident("a", 30), resident("b", 30), resident("c", 30)], 20),
]


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (leased_too, "DID NOT RAISE|leased or moving"),
        (one_more, "superfluous"),
        (never_full, "DID NOT RAISE"),
        (dearest_first, "a cheaper set was enough"),
    ],
)
def test_broken_planners_are_caught(broken: Planner, complaint: str) -> None:
    caught = []
    for residents, need in CASES:
        losses = {r.expert_id: float(place + 1) for place, r in enumerate(residents)}
        check(plan_cheapest_eviction, residents, losses, need)
        try:
            check(broken, residents, losses, need)
        except (AssertionError, pytest.fail.Exception) as problem:
            caught.append(problem)
    assert caught
    for problem in caught:
        with pytest.raises(type(problem), match=complaint):
            raise problem
