"""The manager with echo backends that take time to load, crash and fail; its ledger is checked at every step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from experts.backends.echo import EchoBackend
from experts.errors import ExpertStartFailed, ExpertUnreachable, TierFull
from experts.types import ExpertId, ExpertSpec
from memory_tiers.manager import ResidencyManager
from memory_tiers.rules import Rules
from memory_tiers.scheduling import scheduler_of
from memory_tiers.types import Asker, ResidentState, Tier

RULES = Rules(join_window_s=0.05, retry_after_s=0.0, quantum_s=0.0, prefetch=False)
A, B, C = ExpertId("a"), ExpertId("b"), ExpertId("c")


class Slow(EchoBackend):
    """An echo that counts its starts and stops, and may fail or die."""

    def __init__(self, name: ExpertId, device_bytes: int, start_s: float = 0.02) -> None:
        super().__init__(ExpertSpec(name, "echo", name, device_bytes=device_bytes, options={"start_s": start_s}))
        self.starts = self.stops = 0
        self.fail: Exception | None = None
        self.die: Callable[[str], None] = lambda _: None

    def on_exit(self, notify: Callable[[str], None]) -> None:
        self.die = notify

    async def start(self) -> None:
        self.starts += 1
        if self.fail is not None:
            raise self.fail
        await super().start()

    async def stop(self) -> None:
        self.stops += 1
        await super().stop()


def manager_of(
    backends: Mapping[ExpertId, Slow],
    *,
    budget_bytes: int,
    host_bytes: int = 0,
    rules: Rules | None = None,
    **options: Any,
) -> ResidencyManager:
    specs = [backend.spec for backend in backends.values()]
    return ResidencyManager(backends, scheduler_of(specs, [budget_bytes], host_bytes, rules=rules), **options)


@dataclass
class House:
    manager: ResidencyManager
    backends: dict[ExpertId, Slow]
    swaps: list[tuple[str, str]] = field(default_factory=list)


@pytest.fixture
async def house() -> House:
    backends = {A: Slow(A, 60), B: Slow(B, 60), C: Slow(C, 30)}
    swaps: list[tuple[str, str]] = []
    manager = manager_of(
        backends, budget_bytes=100, load_timeout_s=0.5, rules=RULES,
        on_swap=lambda expert, direction, _: swaps.append((expert, direction)),
    )  # fmt: skip
    return House(manager, backends, swaps)


async def use(house: House, expert: ExpertId, hold_s: float = 0.0) -> None:
    async with house.manager.lease(expert) as resident:
        assert resident.state is ResidentState.READY
        assert resident.leases > 0
        house.manager.check_invariants()
        await asyncio.sleep(hold_s)
    house.manager.check_invariants()


async def test_many_at_once_load_once(house: House) -> None:
    await asyncio.gather(*(use(house, A, 0.01) for _ in range(20)))
    assert house.backends[A].starts == 1
    assert house.swaps == [("a", "load")]


async def test_forty_mixed_requests_over_one_slot_are_all_served_in_few_swaps(house: House) -> None:
    house.backends[C]._spec = ExpertSpec(C, "echo", C, device_bytes=60, options={"start_s": 0.02})
    manager = manager_of(house.backends, budget_bytes=100, rules=RULES)
    mixed = House(manager, house.backends)
    await asyncio.gather(*(use(mixed, (A, B, C)[i % 3], 0.005) for i in range(40)))
    assert sum(b.starts for b in house.backends.values()) == 3
    assert manager.used_bytes <= 100


async def test_the_least_recently_used_goes(house: House) -> None:
    await use(house, A)
    await use(house, C)
    await use(house, A)
    await use(house, B)
    assert {r.expert_id for r in house.manager.residents()} == {B, C}
    assert house.backends[A].stops == 1


async def test_a_cancelled_wait_leaves_no_trace(house: House) -> None:
    async with house.manager.lease(A):
        waiter = asyncio.create_task(use(house, B))
        await asyncio.sleep(0.01)
        assert house.manager.waiting == 1
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert house.manager.waiting == 0
    assert house.backends[B].starts == 0


@pytest.mark.parametrize("turns", range(6))
async def test_cancelled_at_any_turn_of_the_loop_no_lease_leaks(house: House, turns: int) -> None:
    task = asyncio.create_task(use(house, A, 0.001))
    for _ in range(turns):
        await asyncio.sleep(0 if turns < 4 else 0.021)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0.05)
    assert all(r.leases == 0 for r in house.manager.residents())
    await use(house, B)  # the room can be had


async def test_a_failed_load_tells_everyone_and_frees_the_room(house: House) -> None:
    house.backends[A].fail = ExpertStartFailed(A, "out of luck")
    results = await asyncio.gather(*(use(house, A) for _ in range(3)), return_exceptions=True)
    assert [str(r) for r in results] == ["expert 'a': out of luck"] * 3
    assert house.manager.used_bytes == 0
    house.backends[A].fail = None
    await use(house, A)


async def test_a_bug_in_a_backend_is_a_failed_load_not_a_hang(house: House) -> None:
    house.backends[A].fail = RuntimeError("a bug")
    with pytest.raises(ExpertStartFailed, match="a bug"):
        await use(house, A)


async def test_a_load_that_takes_too_long_has_failed() -> None:
    backends = {A: Slow(A, 60, start_s=5)}
    manager = manager_of(backends, budget_bytes=100, load_timeout_s=0.05)
    with pytest.raises(ExpertStartFailed, match=r"not ready after 0\.05 s"):
        await use(House(manager, backends), A)
    assert backends[A].stops == 1
    assert manager.used_bytes == 0


async def test_too_large_for_the_device_is_refused_with_both_figures(house: House) -> None:
    manager = manager_of(house.backends, budget_bytes=50)
    with pytest.raises(TierFull, match=r"60 bytes.*50"):
        await use(House(manager, house.backends), A)


async def test_after_a_crash_the_next_request_loads_anew(house: House) -> None:
    async with house.manager.lease(A) as before:
        house.backends[A].die("aborted")
        assert house.manager.used_bytes == 0
        await use(house, A)
        assert before.leases == 1
    house.manager.check_invariants()
    assert house.backends[A].starts == 2
    assert all(r.leases == 0 for r in house.manager.residents())


async def test_an_idle_expert_can_be_evicted_a_leased_one_cannot(house: House) -> None:
    async with house.manager.lease(A):
        house.manager.evict(A)
        assert house.manager.used_bytes == 60
    house.manager.evict(A)
    await asyncio.sleep(0.01)
    assert house.manager.used_bytes == 0


async def test_close_stops_everything_and_refuses_who_waits(house: House) -> None:
    await use(house, A)
    held = house.manager.lease(A)
    await held.__aenter__()
    waiter = asyncio.create_task(use(house, B))
    await asyncio.sleep(0.01)
    await house.manager.close()
    with pytest.raises(ExpertUnreachable, match="closing"):
        await waiter
    assert all(not backend._started for backend in house.backends.values())


async def test_close_does_not_wait_for_a_load() -> None:
    backends = {A: Slow(A, 60, start_s=30)}
    manager = manager_of(backends, budget_bytes=100)
    waiter = asyncio.create_task(use(House(manager, backends), A))
    await asyncio.sleep(0.01)
    async with asyncio.timeout(1):
        await manager.close()
        with pytest.raises(ExpertUnreachable):
            await waiter
    assert backends[A].stops >= 1


class Staged(Slow):
    """An echo whose weights can wait in host memory; it notes from where it was started."""

    def __init__(self, name: ExpertId, device_bytes: int) -> None:
        super().__init__(name, device_bytes)
        options = {"start_s": 0.05, "stage_s": 0.02, "staged_start_s": 0.0}
        self._spec = ExpertSpec(name, "echo", name, device_bytes=device_bytes, host_bytes=device_bytes, options=options)
        EchoBackend.__init__(self, self._spec)
        self.sources: list[str] = []
        self.refuse: Exception | None = None

    async def stage(self) -> None:
        if self.refuse is not None:
            raise self.refuse
        await super().stage()

    async def start(self) -> None:
        self.sources.append("host" if self.staged else "disk")
        await super().start()


async def test_a_load_comes_from_host_memory_and_its_copy_stays() -> None:
    backends = {A: Staged(A, 60), B: Staged(B, 60)}
    house = House(manager_of(backends, budget_bytes=100, host_bytes=120, rules=RULES), dict(backends))
    for expert in (A, B, A):
        await use(house, expert)
    assert [backends[A].sources, backends[B].sources] == [["host", "host"], ["host"]]
    assert house.manager.host_used_bytes == 120
    assert house.manager.tally.stagings == 2
    await house.manager.close()
    assert not any(backend.staged for backend in backends.values())


async def test_a_copy_makes_room_for_one_that_is_asked_for() -> None:
    backends = {A: Staged(A, 60), B: Staged(B, 60)}
    house = House(manager_of(backends, budget_bytes=100, host_bytes=100, rules=RULES), dict(backends))
    await use(house, A)
    await use(house, B)
    assert (backends[A].staged, backends[B].staged) == (False, True)
    await house.manager.close()


async def test_weights_that_cannot_be_staged_are_loaded_from_disk() -> None:
    backends = {A: Staged(A, 60)}
    backends[A].refuse = ExpertStartFailed(A, "no memory for a copy")
    house = House(manager_of(backends, budget_bytes=100, host_bytes=100, rules=RULES), dict(backends))
    await use(house, A)
    assert backends[A].sources == ["disk"]
    assert house.manager.host_used_bytes == 0
    await house.manager.close()


async def test_a_conversation_is_told_to_the_policy() -> None:
    backends = {name: Slow(name, 40, start_s=0.0) for name in map(ExpertId, "abcd")}
    manager = manager_of(backends, budget_bytes=100, rules=Rules(quantum_s=0.0))
    for turn in range(120):
        async with manager.lease(ExpertId("abcd"[turn % 4]), Asker(session="one")):
            pass
        await asyncio.sleep(0.001)  # time to bring in what comes next
    assert manager.tally.hidden > 60
    await manager.close()


async def test_experts_are_in_place_before_anybody_asks() -> None:
    backends = {A: Staged(A, 60), B: Staged(B, 60), C: Staged(C, 30)}
    manager = manager_of(backends, budget_bytes=100, host_bytes=70, rules=RULES)
    await manager.preload([A, B, C])
    assert {resident.expert_id for resident in manager.residents()} == {A, C}
    assert [backends[name].staged for name in (A, B, C)] == [False, True, False]
    await use(House(manager, dict(backends)), A)
    assert manager.tally.hits == 1
    await manager.close()


async def test_an_expert_whose_engine_sleeps_is_staged_before_it_is_first_started() -> None:
    backend = Staged(A, 60)
    backend._spec = replace(backend.spec, sleeps=True)
    manager = manager_of({A: backend, B: Slow(B, 60)}, budget_bytes=100, host_bytes=70, rules=RULES)
    await manager.preload([A])
    assert backend.staged
    assert [resident.source for resident in manager.residents()] == [Tier.HOST]
    manager.evict(A)
    await use(House(manager, {}), B)
    assert backend.staged, "its engine was ended"
    await manager.close()


async def test_engines_that_sleep_are_staged_before_anybody_is_awake() -> None:
    order: list[str] = []

    class Noted(Staged):
        async def stage(self) -> None:
            order.append(f"stage {self.spec.id}")
            await super().stage()

        async def start(self) -> None:
            order.append(f"start {self.spec.id}")
            await super().start()

    backends = {name: Noted(name, 60) for name in (A, B)}
    for backend in backends.values():
        backend._spec = replace(backend.spec, sleeps=True)
    manager = manager_of(backends, budget_bytes=100, host_bytes=120, rules=RULES)
    await manager.preload([A, B])
    assert order == ["stage a", "stage b", "start a"]
    await manager.close()


async def test_a_pinned_expert_stays_while_others_come_and_go(house: House) -> None:
    house.manager.pin([C])
    await use(house, C)
    for expert in (A, B, A):
        await use(house, expert)
    assert C in {resident.expert_id for resident in house.manager.residents()}
    assert house.backends[C].starts == 1


async def test_a_failed_preload_leaves_the_others(house: House) -> None:
    house.backends[A].fail = ExpertStartFailed(A, "out of luck")
    await house.manager.preload([A, C])
    assert {resident.expert_id for resident in house.manager.residents()} == {C}
