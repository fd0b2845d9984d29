"""Pages of device memory, lent and taken back: the books under any sequence of events."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from memory_tiers.page_pool import PagePool

SIZES, HOLDERS, BUDGET = (2, 16, 128), (1, 2, 3), 600


class PoolMachine(RuleBasedStateMachine):
    """Holders that take, make, give back and vanish; a page has one holder at most, and the bytes add up."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = PagePool(BUDGET)
        self.held: dict[int, dict[int, int]] = {holder: {} for holder in HOLDERS}
        self.idle: dict[int, int] = {}

    @rule(holder=st.sampled_from(HOLDERS), wanted=st.dictionaries(st.sampled_from(SIZES), st.integers(0, 4)))
    def take_and_make_the_rest(self, holder: int, wanted: dict[int, int]) -> None:
        stock = Counter(self.idle.values())
        taken = self.pool.take(holder, wanted)
        assert len(taken) == len(set(taken))
        for page_id in taken:
            self.held[holder][page_id] = self.idle.pop(page_id)
        got = Counter(self.held[holder][page_id] for page_id in taken)
        assert all(got[size] == min(count, stock[size]) for size, count in wanted.items())
        missing = [size for size, count in wanted.items() for _ in range(count - got[size])]
        for page_id in self.pool.make_room(sum(missing)):
            del self.idle[page_id]
        held_bytes = sum(size for pages in self.held.values() for size in pages.values())
        assert self.pool.total_bytes + sum(missing) <= max(BUDGET, held_bytes + sum(missing))
        for size in missing:
            self.held[holder][self.pool.add(holder, size)] = size

    @rule(holder=st.sampled_from(HOLDERS), share=st.integers(1, 3))
    def give(self, holder: int, share: int) -> None:
        given = list(self.held[holder])[::share]
        self.pool.give(holder, given)
        for page_id in given:
            self.idle[page_id] = self.held[holder].pop(page_id)

    @rule(holder=st.sampled_from(HOLDERS))
    def vanish(self, holder: int) -> None:
        assert set(self.pool.gone(holder)) == set(self.held[holder])
        self.held[holder].clear()

    @rule(free_bytes=st.integers(0, 300))
    def trim(self, free_bytes: int) -> None:
        struck = [self.idle.pop(page_id) for page_id in self.pool.trim(free_bytes)]
        assert sum(struck) >= free_bytes or not self.idle
        assert sum(struck) - min(struck, default=0) < max(free_bytes, 1), "more went than was asked for"

    @rule(holder=st.sampled_from(HOLDERS))
    def nobody_gives_what_is_not_theirs(self, holder: int) -> None:
        strangers = [page_id for other in HOLDERS if other != holder for page_id in self.held[other]]
        for page_id in [*strangers, *self.idle, -1]:
            with pytest.raises(ValueError, match=f"page {page_id} is not lent to {holder}"):
                self.pool.give(holder, [page_id])

    @invariant()
    def the_books_are_right(self) -> None:
        self.pool.check_invariants()
        assert self.pool.idle_bytes == sum(self.idle.values())
        held_bytes = sum(size for pages in self.held.values() for size in pages.values())
        assert self.pool.total_bytes == held_bytes + self.pool.idle_bytes


TestPoolMachine = PoolMachine.TestCase


def test_who_comes_back_gets_the_pages_used_last() -> None:
    pool = PagePool()
    first, second = pool.add(1, 16), pool.add(2, 16)
    pool.give(1, [first])
    pool.give(2, [second])
    assert pool.take(3, {16: 1}) == [second]


def test_room_for_new_pages_is_made_of_the_largest_idle_ones() -> None:
    pool = PagePool(budget_bytes=200)
    small, large = pool.add(1, 16), pool.add(1, 128)
    pool.give(1, [small, large])
    assert pool.make_room(50) == []
    assert pool.make_room(60) == [large]
    assert (pool.total_bytes, pool.idle_bytes) == (16, 16)
