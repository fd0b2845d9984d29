"""The replay lab against worked examples."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.simulation.hit_ratio import belady_hit_ratio, gap_closed, hit_ratio
from memory_tiers.policies import POLICIES
from tests.memory_tiers.streams import named

WORKED = [0, 1, 2, 0, 1, 3, 0, 1, 2, 3, 0, 1, 4, 0, 1, 2]


@pytest.mark.parametrize(("slots", "lru", "belady"), [(2, 0, 4), (3, 6, 8), (4, 10, 11)])
def test_hits_of_the_worked_stream(slots: int, lru: int, belady: int) -> None:
    uses = named(WORKED)
    assert hit_ratio(uses, slots, POLICIES["lru"]()) * len(uses) == lru
    assert belady_hit_ratio(uses, slots) * len(uses) == belady


def most_hits(numbers: list[int], slots: int) -> int:
    """By trying every way to evict."""
    reachable = {frozenset[int](): 0}
    for n in numbers:
        after: dict[frozenset[int], int] = {}
        for held, hits in reachable.items():
            ways = [held | {n}] if n in held or len(held) < slots else [held - {v} | {n} for v in held]
            for way in ways:
                after[way] = max(after.get(way, 0), hits + (n in held))
        reachable = after
    return max(reachable.values())


@given(numbers=st.lists(st.integers(0, 5), min_size=1, max_size=25), slots=st.integers(1, 4))
def test_belady_is_the_best_there_is(numbers: list[int], slots: int) -> None:
    assert belady_hit_ratio(named(numbers), slots) * len(numbers) == pytest.approx(most_hits(numbers, slots))


def test_the_gap_is_measured_from_lru() -> None:
    assert gap_closed(0.6, 0.5, 0.7) == pytest.approx(0.5)
    assert gap_closed(0.5, 0.5, 0.5) == 0.0


def test_nothing_to_replay_is_refused() -> None:
    for uses, slots in product([named([]), named([1])], [0, 1]):
        if uses and slots:
            continue
        with pytest.raises(ValueError, match=r"no uses|hold nobody|no hit ratio"):
            hit_ratio(uses, slots, POLICIES["lru"]())
