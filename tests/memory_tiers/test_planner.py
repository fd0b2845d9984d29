"""Property tests of the eviction planner; each must kill the broken planners at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.errors import TierFull
from experts.types import ExpertId
from memory_tiers.planner import plan_eviction
from memory_tiers.types import Resident, ResidentState

Planner = Callable[[Iterable[Resident], int, int], tuple[Resident, ...]]
CAPACITY = 100


@st.composite
def devices(draw: st.DrawFn) -> tuple[list[Resident], int]:
    sizes = draw(st.lists(st.integers(0, 40), max_size=8))
    while sum(sizes) > CAPACITY:
        sizes.pop()
    order = draw(st.permutations(range(len(sizes))))
    residents = [
        Resident(
            ExpertId(f"e{i}"),
            size,
            state=draw(st.sampled_from(list(ResidentState))),
            last_used_s=float(order[i]),
        )
        for i, size in enumerate(sizes)
    ]
    for resident in residents:
        if resident.state is ResidentState.READY:
            resident.leases = draw(st.integers(0, 2))
    return residents, draw(st.integers(0, CAPACITY))


def check(planner: Planner, residents: list[Resident], need: int) -> None:
    free = CAPACITY - sum(r.device_bytes for r in residents)
    evictable = [r for r in residents if r.evictable]
    if need > free + sum(r.device_bytes for r in evictable):
        with pytest.raises(TierFull):
            planner(residents, need, CAPACITY)
        return
    victims = planner(residents, need, CAPACITY)
    assert all(v.evictable for v in victims), "a leased or moving expert was evicted"
    freed = sum(v.device_bytes for v in victims)
    assert free + freed >= need, "too little was freed"
    assert all(free + freed - v.device_bytes < need for v in victims), "a victim was superfluous"
    if victims:
        oldest_first = sorted(evictable, key=lambda r: r.last_used_s)
        taken = 0
        for resident in oldest_first:
            if free + taken >= need:
                assert resident not in victims, "a newer expert went while older ones were enough"
            taken += resident.device_bytes


@given(devices())
def test_plan_is_minimal_old_first_and_never_touches_a_lease(device: tuple[list[Resident], int]) -> None:
    check(plan_eviction, *device)


def leased_too(residents: Iterable[Resident], need: int, capacity: int) -> tuple[Resident, ...]:
    present = list(residents)
    for r in present:
        r.leases = 0
    return plan_eviction(present, need, capacity)


def one_more(residents: Iterable[Resident], need: int, capacity: int) -> tuple[Resident, ...]:
    present = list(residents)
    victims = plan_eviction(present, need, capacity)
    return (*victims, *[r for r in present if r.evictable and r not in victims][:1])


def never_full(residents: Iterable[Resident], need: int, capacity: int) -> tuple[Resident, ...]:
    present = list(residents)
    try:
        return plan_eviction(present, need, capacity)
    except TierFull:
        return tuple(r for r in present if r.evictable)


def newest_first(residents: Iterable[Resident], need: int, capacity: int) -> tuple[Resident, ...]:
    present = list(residents)
    free, victims = capacity - sum(r.device_bytes for r in present), []
    for resident in sorted((r for r in present if r.evictable), key=lambda r: -r.last_used_s):
        if free >= need:
            break
        victims.append(resident)
        free += resident.device_bytes
    if free < need:
        raise TierFull("full")
    return tuple(victims)


def resident(name: str, size: int, used: float, leases: int = 0) -> Resident:
    return Resident(ExpertId(name), size, state=ResidentState.READY, leases=leases, last_used_s=used)


CASES = [
    ([resident("a", 40, 1), resident("b", 40, 2)], 60),
    ([resident("a", 60, 1, leases=1), resident("b", 40, 2)], 60),
    ([resident("a", 40, 1, leases=1), resident("b", 40, 2)], 50),
    ([resident("a", 30, 1), resident("b", 30, 2), resident("c", 30, 3)], 20),
]


@pytest.mark.parametrize("broken", [leased_too, one_more, never_full, newest_first])
def test_broken_planners_are_caught(broken: Planner) -> None:
    caught = 0
    for residents, need in CASES:
        fresh = [replace(r) for r in residents]
        try:
            check(broken, fresh, need)
        except (AssertionError, pytest.fail.Exception):
            caught += 1
    assert caught


def test_worked_example() -> None:
    old_small, new_large = resident("small", 10, 1), resident("large", 70, 2)
    assert plan_eviction([old_small, new_large], 60, CAPACITY) == (new_large,)
    assert plan_eviction([old_small, new_large], 30, CAPACITY) == (old_small,)
    assert plan_eviction([old_small, new_large], 20, CAPACITY) == ()
