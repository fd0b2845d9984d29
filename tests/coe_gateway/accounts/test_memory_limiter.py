"""The limiter in memory: order of arrival, seeds, and its books against a reckoning of their own."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coe_gateway.accounts.memory_limiter import MemoryLimiter
from coe_gateway.accounts.types import Total, Window
from experts.errors import LimitReached, QuotaExhausted
from tests.accounts_cases import Clock, claim, subject


async def test_who_waits_is_served_in_the_order_of_arrival_and_nobody_passes() -> None:
    limiter, key = MemoryLimiter(10.0), subject(tokens_total=1000, tokens_per_day=10)
    order: list[str] = []
    await limiter.reserve(claim("first", key, tokens=8))

    async def request(name: str, tokens: int) -> None:
        await limiter.reserve(claim(name, key, tokens=tokens))
        order.append(name)
        limiter.release(name)

    large = asyncio.create_task(request("large", 9))
    await asyncio.sleep(0)
    small = asyncio.create_task(request("small", 1))  # it would fit now, and would keep the large one out
    await asyncio.sleep(0.01)
    assert order == []
    limiter.release("first")
    await asyncio.gather(large, small)
    assert order == ["large", "small"]


async def test_a_minute_that_ends_lets_waiters_in() -> None:
    clock = Clock()
    limiter, key = MemoryLimiter(100.0, clock), subject(tpm=10)
    clock.at_s += 59.95
    await limiter.reserve(claim("a", key, tokens=10))
    waiting = asyncio.create_task(limiter.reserve(claim("b", key, tokens=10)))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    clock.at_s += 0.05
    await asyncio.wait_for(waiting, 2)


async def test_what_was_spent_before_counts_for_limits_new_and_old() -> None:
    limiter = MemoryLimiter(0.0, Clock())
    limiter.seed([Total("key:k", Window.DAY, 90, 0), Total("key:k", Window.TOTAL, 900, 0)])
    with pytest.raises(QuotaExhausted, match="900 tokens spent"):
        await limiter.reserve(claim("a", subject(tokens_total=950), tokens=60))
    await limiter.reserve(claim("b", subject(tokens_per_day=100, tokens_total=1000), tokens=10))


async def test_a_limit_set_while_requests_run_sees_what_they_spend() -> None:
    limiter = MemoryLimiter(0.0, Clock())
    await limiter.reserve(claim("a", subject(), tokens=50))
    limiter.settle("a", 50, 0)
    with pytest.raises(QuotaExhausted):
        await limiter.reserve(claim("b", subject(tokens_total=60), tokens=11))


async def test_the_crowd_that_waits_is_bounded() -> None:
    limiter, key = MemoryLimiter(30.0), subject(tokens_total=10)
    await limiter.reserve(claim("a", key, tokens=10))
    crowd = [asyncio.create_task(limiter.reserve(claim(f"w{i}", key, tokens=1))) for i in range(4096)]
    await asyncio.sleep(0.05)
    with pytest.raises(QuotaExhausted):
        await asyncio.wait_for(limiter.reserve(claim("late", key, tokens=1)), 1)
    for task in crowd:
        task.cancel()
    await asyncio.gather(*crowd, return_exceptions=True)
    assert limiter._queues == {}
    assert limiter._waiting == 0


STEPS = st.lists(
    st.tuples(st.sampled_from(["reserve", "settle", "release", "time"]), st.integers(0, 30), st.integers(0, 30)),
    max_size=60,
)


@given(STEPS)
def test_never_beyond_a_limit_and_everything_comes_back(steps: list[tuple[str, int, int]]) -> None:
    async def run() -> None:
        clock = Clock()
        limiter = MemoryLimiter(0.0, clock)
        key, team = subject("k", tpm=60, tokens_total=150), subject("t", tokens_per_day=100)
        held: list[tuple[str, int]] = []
        spent = 0
        for i, (what, number, used) in enumerate(steps):
            if what == "time":
                clock.at_s += number
            elif what == "reserve":
                fits = spent + sum(tokens for _, tokens in held) + number <= 100
                try:
                    await limiter.reserve(claim(f"c{i}", key, team, tokens=number))
                except LimitReached:
                    continue
                assert fits
                held.append((f"c{i}", number))
            elif held:
                name, tokens = held.pop(number % len(held))
                if what == "settle":
                    limiter.settle(name, min(used, tokens), 0)
                    spent += min(used, tokens)
                else:
                    limiter.release(name)
        for name, _ in held:
            limiter.release(name)
        for counts in limiter._counts.values():
            assert all(count.reserved == [0, 0, 0] for count in counts.values())
        assert limiter._windows("key:k", clock.at_s)[Window.TOTAL].spent[1] == spent

    asyncio.run(run())
