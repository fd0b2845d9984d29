"""Limits in Redis: shared, leased, seeded; a Redis that dies, pauses, forgets, and what is counted then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from coe_gateway.accounts.redis_limiter import RedisLimiter
from coe_gateway.accounts.redis_link import RedisLink
from coe_gateway.accounts.settings import StoreDownSettings
from coe_gateway.accounts.types import Total, Window
from experts.errors import AccountsUnavailable, LimitReached, QuotaExhausted
from tests.accounts_cases import claim, subject
from tests.stores import RedisServer, private_redis


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with private_redis() as started:
        yield started


class Shelf:
    """What a book would say each subject has spent."""

    def __init__(self) -> None:
        self.spent = 0
        self.asked = 0

    async def __call__(self, name: str) -> list[Total]:
        self.asked += 1
        return [Total(name, Window.TOTAL, self.spent, 0)]


@asynccontextmanager
async def limiting(
    server: RedisServer, shelf: Shelf | None = None, *, wait_s: float = 0.0, lease_s: float = 60.0, **down: str
) -> AsyncIterator[RedisLimiter]:
    link = RedisLink(server.url, "t", 0.8, retry_s=0.2)
    if_down = StoreDownSettings.model_validate(down)
    limiter = RedisLimiter(link, shelf or Shelf(), if_down, wait_s=wait_s, lease_s=lease_s)
    try:
        yield limiter
    finally:
        await limiter.close()


async def told(limiter: RedisLimiter) -> None:
    deadline = time.monotonic() + 5
    while limiter.pending and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    assert not limiter.pending


async def room(limiter: RedisLimiter, key: str = "k", *, limit: int = 100) -> int:
    """How many tokens could still be had, found by asking."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        try:
            await limiter.reserve(claim(f"probe{time.monotonic_ns()}", subject(key, tokens_total=limit), tokens=middle))
        except LimitReached:
            high = middle - 1
        else:
            low = middle
            limiter.release(next(name for name in limiter._held if name.startswith("probe")))
            await told(limiter)
    return low


async def test_two_gateways_share_what_there_is(server: RedisServer) -> None:
    key = subject(tokens_total=100)
    async with limiting(server) as one, limiting(server) as other:
        await one.reserve(claim("a", key, tokens=60))
        with pytest.raises(QuotaExhausted, match="60 tokens held"):
            await other.reserve(claim("b", key, tokens=60))
        one.settle("a", 30, 0)
        await told(one)
        assert await room(other) == 70


async def test_a_dead_gateways_hold_runs_out_and_a_living_ones_does_not(server: RedisServer) -> None:
    key = subject(tokens_total=100)
    async with limiting(server, lease_s=0.4) as living, limiting(server, lease_s=0.4) as dead:
        await living.reserve(claim("a", key, tokens=40))
        await dead.reserve(claim("b", key, tokens=40))
        for task in dead._tasks:
            task.cancel()  # as kill -9 would
        dead._held.clear()
        await asyncio.sleep(0.9)
        assert await room(living) == 60
        living.release("a")
        await told(living)
        assert await room(living) == 100


async def test_a_meter_that_redis_does_not_know_is_seeded_from_the_book_once(server: RedisServer) -> None:
    shelf = Shelf()
    shelf.spent = 75
    async with limiting(server, shelf) as limiter:
        assert await room(limiter) == 25
        shelf.spent = 5
        assert await room(limiter) == 25
        assert shelf.asked == 1


async def test_a_redis_that_lost_everything_is_taught_again_and_old_holds_count_once(server: RedisServer) -> None:
    shelf = Shelf()
    async with limiting(server, shelf) as limiter:
        await limiter.reserve(claim("a", subject(tokens_total=100), tokens=50))
        server.kill()
        server.start()
        shelf.spent = 20  # the book has the row of `a`
        limiter.settle("a", 20, 0)
        await told(limiter)
        assert await room(limiter) == 80


async def test_a_redis_that_is_away_refuses_or_allows_as_is_set_and_quickly(server: RedisServer) -> None:
    budget, rate = subject(tokens_total=100), subject(rpm=5, tpm=100)
    async with limiting(server) as limiter:
        await limiter.reserve(claim("before", budget, tokens=10))
        server.kill()
        begun = time.monotonic()
        for i in range(20):
            with pytest.raises(AccountsUnavailable):
                await limiter.reserve(claim(f"b{i}", budget, tokens=1))
            await limiter.reserve(claim(f"r{i}", rate, tokens=1))
            await limiter.reserve(claim(f"n{i}", subject(), tokens=1))
        assert time.monotonic() - begun < 3
        limiter.settle("before", 10, 0)
        server.start()


async def test_budgets_may_be_allowed_too_and_what_ends_meanwhile_counts_once(server: RedisServer) -> None:
    async with limiting(server, budgets="allow") as limiter:
        key = subject(tokens_total=100)
        await limiter.reserve(claim("a", key, tokens=10))
        server.pause()
        limiter.settle("a", 10, 0)
        await limiter.reserve(claim("b", key, tokens=10))
        limiter.settle("b", 7, 0)
        assert limiter.pending == 2
        server.resume()
        await asyncio.sleep(0.4)
        await told(limiter)
        assert await room(limiter) == 83


async def test_a_paused_redis_costs_one_time_out_and_then_nothing(server: RedisServer) -> None:
    key = subject(tokens_total=1000)
    async with limiting(server) as limiter:
        await limiter.reserve(claim("a", key, tokens=1))
        server.pause()
        waits = []
        for i in range(10):
            begun = time.monotonic()
            with pytest.raises(AccountsUnavailable):
                await limiter.reserve(claim(f"b{i}", key, tokens=1))
            waits.append(time.monotonic() - begun)
        assert max(waits) < 2.5
        assert sorted(waits)[-3] < 0.05
        server.resume()
        await asyncio.sleep(0.5)
        limiter.release("a")
        await told(limiter)
        assert await room(limiter, limit=1000) == 1000  # what was asked while it slept holds nothing now


async def test_a_claim_given_up_while_redis_slept_holds_nothing_when_it_wakes(server: RedisServer) -> None:
    key = subject(tokens_total=100)
    async with limiting(server) as limiter:
        await limiter.reserve(claim("warm", key, tokens=1))
        limiter.release("warm")
        await told(limiter)
        server.pause()
        asking = asyncio.create_task(limiter.reserve(claim("a", key, tokens=50)))
        await asyncio.sleep(0.05)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        server.resume()
        await asyncio.sleep(0.5)
        await told(limiter)
        assert await room(limiter) == 100


async def test_an_end_that_is_told_twice_counts_once(server: RedisServer) -> None:
    key = subject(tokens_total=100)
    async with limiting(server) as limiter:
        at_s = await limiter.reserve(claim("a", key, tokens=50))
        limiter.settle("a", 30, 0)
        await told(limiter)
        used = claim("a", key, tokens=30)
        limiter.settled_before(used, at_s)
        await told(limiter)
        assert await room(limiter) == 70


@pytest.mark.parametrize("late", [False, True])
async def test_what_a_killed_gateway_settled_and_did_not_tell_is_counted_at_its_next_start(
    server: RedisServer, late: bool
) -> None:
    key = subject(tokens_total=100)
    async with limiting(server, lease_s=0.2) as dead:
        at_s = await dead.reserve(claim("a", key, tokens=50))
        for task in dead._tasks:
            task.cancel()
        dead._held.clear()
    async with limiting(server, lease_s=0.2) as limiter:
        if late:
            await asyncio.sleep(0.4)
            assert await room(limiter) == 100
        limiter.settled_before(claim("a", key, tokens=30), at_s)
        limiter.settled_before(claim("never-heard-of", key, tokens=30), at_s)
        await told(limiter)
        assert await room(limiter) == 70


async def test_a_restart_is_survived_without_a_restart_of_ours(server: RedisServer) -> None:
    key = subject(tokens_total=100)
    async with limiting(server) as limiter:
        await limiter.reserve(claim("a", key, tokens=1))
        server.kill()
        with pytest.raises(AccountsUnavailable):
            await limiter.reserve(claim("b", key, tokens=1))
        server.start()
        await asyncio.sleep(0.4)
        await limiter.reserve(claim("c", key, tokens=1))
