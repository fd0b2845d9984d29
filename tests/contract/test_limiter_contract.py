"""What every limiter must do, in memory and in Redis: coe_gateway/accounts/limiter.py has the rules."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from coe_gateway.accounts.limiter import Limiter
from coe_gateway.accounts.memory_limiter import MemoryLimiter
from coe_gateway.accounts.redis_limiter import RedisLimiter
from coe_gateway.accounts.redis_link import RedisLink
from coe_gateway.accounts.settings import StoreDownSettings
from coe_gateway.accounts.types import Claim, Total
from experts.errors import LimitReached, QuotaExhausted, RateLimited
from tests.accounts_cases import Clock, claim, subject

Make = Callable[..., Awaitable[Limiter]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "redis"])
async def make(request: pytest.FixtureRequest, clock: Clock) -> AsyncIterator[Make]:
    made: list[Limiter] = []

    async def none(_: str) -> list[Total]:
        return []

    async def redis(wait_s: float = 0.0) -> Limiter:
        server = request.getfixturevalue("redis_server")
        link = RedisLink(server.url, server.prefix(), 2.0)
        return RedisLimiter(link, none, StoreDownSettings(), wait_s=wait_s, lease_s=60.0, now=clock)

    async def memory(wait_s: float = 0.0) -> Limiter:
        return MemoryLimiter(wait_s, clock)

    kinds = {"memory": memory, "redis": redis}

    async def one(wait_s: float = 0.0) -> Limiter:
        made.append(await kinds[request.param](wait_s))
        return made[-1]

    yield one
    for limiter in made:
        await limiter.close()


async def told(limiter: Limiter) -> None:
    """What ended is known where it is counted."""
    while getattr(limiter, "pending", 0):
        await asyncio.sleep(0.002)


async def refused(limiter: Limiter, asked: Claim) -> LimitReached:
    with pytest.raises(LimitReached) as caught:
        await limiter.reserve(asked)
    return caught.value


async def test_what_is_spent_counts_and_what_is_held_and_not_spent_comes_back(make: Make) -> None:
    limiter, key = await make(), subject(tokens_total=100)
    await limiter.reserve(claim("a", key, tokens=60))
    assert (await refused(limiter, claim("b", key, tokens=41))).retry_after_s == 1
    limiter.settle("a", 10, 0)
    await told(limiter)
    await limiter.reserve(claim("c", key, tokens=90))
    limiter.release("c")
    await told(limiter)
    error = await refused(limiter, claim("d", key, tokens=91))
    assert error.limit == "tokens_total"
    assert error.retry_after_s is None
    assert "10 tokens spent" in str(error)
    await limiter.reserve(claim("e", key, tokens=90))


async def test_a_refusal_names_the_limit_its_owner_and_its_state(make: Make) -> None:
    limiter = await make()
    key, team = subject("ci", rpm=10), subject("devs", usd_per_day=0.000_001)
    await limiter.reserve(claim("a", key, team, nano_usd=600))
    limiter.settle("a", 5, 600)
    await told(limiter)
    error = await refused(limiter, claim("b", key, team, nano_usd=600))
    assert isinstance(error, QuotaExhausted)
    assert error.limit == "usd_per_day"
    assert error.retry_after_s == 12 * 3600
    for part in ("key 'devs'", "usd_per_day", "$0.000001 reached", "$0.0000006 spent"):
        assert part in str(error)


async def test_a_claim_refused_by_one_subject_holds_nothing_of_the_other(make: Make) -> None:
    limiter = await make()
    key, team = subject("ci", tokens_total=100, rpm=2), subject("devs", tokens_total=50)
    await refused(limiter, claim("a", key, team, tokens=60))
    await refused(limiter, claim("b", key, team, tokens=60))
    await refused(limiter, claim("c", key, team, tokens=60))
    await limiter.reserve(claim("d", key, team, tokens=50))
    limiter.settle("d", 50, 0)
    await told(limiter)
    await limiter.reserve(claim("e", key, tokens=50))


async def test_requests_are_counted_when_granted_and_the_minute_ends(make: Make, clock: Clock) -> None:
    limiter, key = await make(), subject(rpm=2)
    clock.at_s += 18
    await limiter.reserve(claim("a", key))
    limiter.release("a")
    await limiter.reserve(claim("b", key))
    error = await refused(limiter, claim("c", key))
    assert isinstance(error, RateLimited)
    assert error.retry_after_s == 42
    clock.at_s += 42
    await limiter.reserve(claim("c", key))


async def test_what_is_settled_counts_where_it_was_granted(make: Make, clock: Clock) -> None:
    limiter, key = await make(), subject(tpm=100)
    await limiter.reserve(claim("a", key, tokens=100))
    clock.at_s += 60
    await limiter.reserve(claim("b", key, tokens=100))
    limiter.settle("a", 100, 0)
    limiter.settle("b", 1, 0)
    await told(limiter)
    await limiter.reserve(claim("c", key, tokens=99))


async def test_a_claim_greater_than_the_limit_is_refused_at_once_and_never_told_to_come_again(make: Make) -> None:
    limiter = await make(wait_s=30.0)
    error = await asyncio.wait_for(refused(limiter, claim("a", subject(tpm=10), tokens=11)), 2)
    assert error.retry_after_s is None


async def test_what_others_hold_is_waited_for_and_none_is_refused_that_there_is_money_for(make: Make) -> None:
    """Phantom refusals: reservations of 10 tokens of which 1 is used must not keep anybody out of a budget of 100."""
    limiter, key = await make(wait_s=20.0), subject(tokens_total=100)
    held = most = 0

    async def request(i: int) -> None:
        nonlocal held, most
        await limiter.reserve(claim(f"r{i}", key, tokens=10))
        held += 1
        most = max(most, held)
        await asyncio.sleep(0.005)
        held -= 1
        limiter.settle(f"r{i}", 1, 0)

    await asyncio.gather(*(request(i) for i in range(60)))
    assert 2 < most <= 10


async def test_never_more_is_granted_than_there_is_and_never_less(make: Make) -> None:
    limiter, key = await make(wait_s=20.0), subject(usd_total=100 * 3e-9)

    async def request(i: int) -> bool:
        try:
            await limiter.reserve(claim(f"r{i}", key, nano_usd=3))
        except QuotaExhausted:
            return False
        await asyncio.sleep(0.005)
        limiter.settle(f"r{i}", 0, 3)
        return True

    granted = await asyncio.gather(*(request(i) for i in range(200)))
    assert sum(granted) == 100


async def test_a_waiter_whose_request_is_given_up_leaves_no_hold(make: Make) -> None:
    limiter, key = await make(wait_s=20.0), subject(tokens_total=10)
    await limiter.reserve(claim("a", key, tokens=10))
    gone = asyncio.create_task(limiter.reserve(claim("b", key, tokens=10)))
    await asyncio.sleep(0.02)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    limiter.release("a")
    await told(limiter)
    await limiter.reserve(claim("c", key, tokens=10))


async def test_time_to_wait_is_bounded(make: Make) -> None:
    limiter, key = await make(wait_s=0.05), subject(tokens_total=10)
    await limiter.reserve(claim("a", key, tokens=10))
    waiting = asyncio.create_task(refused(limiter, claim("b", key, tokens=10)))
    for _ in range(40):
        await asyncio.sleep(0.01)
        if waiting.done():
            break
        limiter_clock = getattr(limiter, "_now", None)
        if isinstance(limiter_clock, Clock):
            limiter_clock.at_s += 0.01
    error = await asyncio.wait_for(waiting, 5)
    assert error.retry_after_s == 1
    assert "10 tokens held by requests under way" in str(error)
