"""The bounded queue: order, bounds, and cancellation at any moment."""

from __future__ import annotations

import asyncio

import pytest

from coe_gateway.admission import Admission
from experts.errors import QueueFull, ShuttingDown


async def hold(admission: Admission, seconds: float, order: list[int] | None = None, i: int = 0) -> None:
    async with admission:
        if order is not None:
            order.append(i)
        await asyncio.sleep(seconds)


async def test_never_more_than_its_places_and_first_come_first_served() -> None:
    admission, order = Admission(2, 10), []
    tasks = [asyncio.create_task(hold(admission, 0.01, order, i)) for i in range(8)]
    while not all(t.done() for t in tasks):
        assert admission.in_flight <= 2
        await asyncio.sleep(0.001)
    assert order == list(range(8))
    assert (admission.in_flight, admission.queued) == (0, 0)


async def test_full_means_at_once() -> None:
    admission = Admission(1, 0)
    holder = asyncio.create_task(hold(admission, 0.05))
    await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        await hold(admission, 0)
    await holder


@pytest.mark.parametrize("turns", range(5))
async def test_a_waiter_cancelled_at_any_turn_leaves_no_place_taken(turns: int) -> None:
    admission = Admission(1, 5)
    holder = asyncio.create_task(hold(admission, 0))
    await asyncio.sleep(0)
    waiter = asyncio.create_task(hold(admission, 0.01))
    for _ in range(turns):
        await asyncio.sleep(0)
    waiter.cancel()
    await asyncio.gather(holder, waiter, return_exceptions=True)
    assert (admission.in_flight, admission.queued) == (0, 0)
    await hold(admission, 0)


async def test_drain_refuses_who_waits_and_who_comes_but_not_who_is_inside() -> None:
    admission = Admission(1, 5)
    holder = asyncio.create_task(hold(admission, 0.02))
    await asyncio.sleep(0)
    waiter = asyncio.create_task(hold(admission, 0))
    await asyncio.sleep(0)
    admission.drain()
    for late in (waiter, asyncio.create_task(hold(admission, 0))):
        with pytest.raises(ShuttingDown):
            await late
    await holder
    assert admission.in_flight == 0
