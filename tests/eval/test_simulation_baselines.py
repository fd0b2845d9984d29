"""What the product's scheduler is compared with: order of arrival, grouping, and a cache of host copies."""

from __future__ import annotations

import asyncio

import hypothesis.strategies as st
import pytest
from hypothesis import given

from eval.simulation.arrival import Arrival
from eval.simulation.baselines import NaiveScheduler
from eval.simulation.hardware import Hardware
from eval.simulation.world import World
from experts.backends.echo import EchoBackend
from experts.errors import ExpertStartFailed
from experts.types import ExpertId, ExpertSpec
from memory_tiers.manager import ResidencyManager
from memory_tiers.policies import POLICIES
from memory_tiers.types import Footprint, Tier

A, B, C = NAMES = [ExpertId(name) for name in "abc"]
SIZE = 100
FAST = Hardware("fast", 1, SIZE, SIZE, 100.0, 20.0, 10.0, 0.1, wake_s=1.0)  # 2 s over the link, 5 s from the disk


def naive(*, grouping: bool, slots: int = 1, host: int = 10, policy: str = "lru") -> NaiveScheduler:
    footprints = {name: Footprint(SIZE, SIZE) for name in NAMES}
    return NaiveScheduler(footprints, [slots * SIZE], host * SIZE, POLICIES[policy](), grouping=grouping)


def arrival(at_s: float, expert: ExpertId, output: int = 10) -> Arrival:
    return Arrival(at_s, expert, "one", 10, output)


def waits(scheduler: NaiveScheduler, *asked: Arrival) -> list[float | None]:
    return [fate.wait_s for fate in World(scheduler, FAST, check=True).run(asked)]


def test_in_order_of_arrival_two_experts_in_turn_swap_for_every_request() -> None:
    in_turn = [arrival(float(number), (A, B)[number % 2]) for number in range(4)]
    fifo = naive(grouping=False)
    assert waits(fifo, *in_turn) == [7, 15, 18, 21]  # the first two from disk, and everyone is answered in between
    assert sum(fifo.tally.loads.values()) == 4
    grouped = naive(grouping=True)
    assert waits(grouped, *in_turn) == [7, 15, 5, 13]
    assert sum(grouped.tally.loads.values()) == 2


def test_without_grouping_nobody_joins_a_ready_expert_while_somebody_waits() -> None:
    asked = [arrival(0, A, output=100), arrival(8, B), arrival(9, A)]
    assert waits(naive(grouping=True), *asked) == [7, 17, 0]
    assert waits(naive(grouping=False), *asked) == [7, 17, 20]


def test_the_weights_used_longest_ago_leave_host_memory() -> None:
    scheduler = naive(grouping=True, host=2)
    for number, expert in enumerate([A, B, C]):
        World(scheduler, FAST, check=True).run([arrival(100.0 * number, expert)])
    again = [World(scheduler, FAST).run([arrival(1000.0 + 100 * n, e)])[0].wait_s for n, e in enumerate([B, A, B])]
    assert again == [2, 7, 2]
    assert scheduler.tally.loads == {Tier.DISK: 4, Tier.HOST: 2}


def test_placing_fills_what_fits_and_no_more() -> None:
    scheduler = naive(grouping=False, slots=1, host=1)
    world = World(scheduler, FAST)
    world.place([(A, Tier.DEVICE), (B, Tier.DEVICE), (B, Tier.HOST), (C, Tier.HOST)])
    assert [r.expert_id for r in scheduler.ledger] == [A]
    assert [fate.wait_s for fate in world.run([arrival(0, A), arrival(10, B), arrival(20, C)])] == [0, 2, 7]


@pytest.mark.parametrize("grouping", [False, True])
@pytest.mark.parametrize("policy", ["lru", "lfu"])
@given(asked=st.lists(st.tuples(st.floats(0, 5), st.sampled_from(NAMES), st.integers(1, 50)), max_size=20))
def test_everybody_is_answered_in_order(policy: str, asked: list[tuple[float, ExpertId, int]], grouping: bool) -> None:
    now, arrivals = 0.0, []
    for pause, expert, output in asked:
        now += pause
        arrivals.append(arrival(now, expert, output))
    served = World(naive(grouping=grouping, slots=2, policy=policy), FAST, check=True).run(arrivals)
    begun = [fate.arrival.at_s + fate.wait_s for fate in served if fate.wait_s is not None]
    assert len(begun) == len(arrivals)
    assert grouping or begun == pytest.approx(sorted(begun))  # a wait is a difference of floats


async def test_a_manager_can_carry_it_out_through_failures_crashes_and_clients_that_leave() -> None:
    class Failing(EchoBackend):
        fail_starts = 0

        async def start(self) -> None:
            if self.fail_starts:
                self.fail_starts -= 1
                raise ExpertStartFailed(self.spec.id, "out of luck")
            await super().start()

    backends = {name: Failing(ExpertSpec(name, "echo", name, device_bytes=SIZE)) for name in (A, B)}
    scheduler = naive(grouping=False)
    manager = ResidencyManager(backends, scheduler)

    async def use(expert: ExpertId, hold_s: float = 0.0) -> None:
        async with manager.lease(expert):
            await asyncio.sleep(hold_s)

    await asyncio.gather(*(use(expert) for expert in (A, B, A, B)))
    assert manager.tally.evictions == 3
    holding = asyncio.create_task(use(B, 5.0))
    leaving = asyncio.create_task(use(A))
    await asyncio.sleep(0.01)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    assert manager.waiting == 0
    holding.cancel()
    await asyncio.gather(holding, return_exceptions=True)

    backends[A].fail_starts = 1
    with pytest.raises(ExpertStartFailed):
        await use(A)
    await use(A)
    manager.evict(A)
    await use(B)
    manager.check_invariants()
    await manager.close()
    assert manager.used_bytes == 0
