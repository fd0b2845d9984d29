"""Carries the scheduler's effects out: the one place where experts are started and stopped."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import TYPE_CHECKING

from experts.errors import CoeError, ExpertStartFailed
from memory_tiers.lease import Lease
from memory_tiers.types import ANYBODY, Fail, Grant, Load, Resident, ResidentState, Stage, Ticket, Tier, Unload

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence

    from experts.backend import ExpertBackend
    from experts.types import ExpertId
    from memory_tiers.scheduling import Scheduling
    from memory_tiers.tally import Tally
    from memory_tiers.types import Asker, Effect, HostCopy

_log = logging.getLogger(__name__)


class ResidencyManager:
    """The single owner of residency: `async with manager.lease(expert_id)` keeps an expert on the device.

    scheduler: decides; nobody else may ask it anything. load_timeout_s: a load that takes longer has failed.
    on_swap: called after each move with (expert, "load" | "unload" | "stage", seconds), for the metrics.
    """

    def __init__(
        self,
        backends: Mapping[ExpertId, ExpertBackend],
        scheduler: Scheduling,
        *,
        load_timeout_s: float = 120.0,
        clock: Callable[[], float] = time.monotonic,
        on_swap: Callable[[ExpertId, str, float], None] = lambda *_: None,
    ) -> None:
        self._backends = backends
        self._scheduler = scheduler
        self._stagings: dict[ExpertId, asyncio.Task[None]] = {}
        self._load_timeout_s = load_timeout_s
        self._clock = clock
        self._on_swap = on_swap
        self._waiters: dict[int, asyncio.Future[None]] = {}
        self._moves: set[asyncio.Task[None]] = set()
        self._loads: set[asyncio.Task[None]] = set()
        self._alarm: asyncio.TimerHandle | None = None
        for expert_id, backend in backends.items():
            backend.on_exit(partial(self._crashed, expert_id))

    def lease(self, expert_id: ExpertId, asker: Asker = ANYBODY) -> Lease:
        """Keep `expert_id` on the device for the body of `async with`."""
        return Lease(self, expert_id, asker)

    @property
    def waiting(self) -> int:
        """How many requests wait for an expert."""
        return self._scheduler.waiting

    @property
    def used_bytes(self) -> int:
        """Bytes booked on the device."""
        return self._scheduler.ledger.used_bytes

    @property
    def host_used_bytes(self) -> int:
        """Bytes booked in host memory."""
        return self._scheduler.host_used_bytes

    @property
    def host_budget_bytes(self) -> int:
        """Bytes there are for copies."""
        return self._scheduler.host_budget_bytes

    @property
    def tally(self) -> Tally:
        """What was done so far, counted."""
        return self._scheduler.tally

    @property
    def budget_bytes(self) -> int:
        """Bytes there are to book."""
        return self._scheduler.ledger.budget_bytes

    def residents(self) -> Iterable[Resident]:
        """Who is on the device now, coming and going included."""
        return tuple(self._scheduler.ledger)

    def check_invariants(self) -> None:
        """Raise AssertionError if the books are wrong."""
        self._scheduler.check_invariants()

    def pin(self, expert_ids: Iterable[ExpertId]) -> None:
        """Never evict these once they are loaded."""
        self._scheduler.pinned.update(expert_ids)

    def unpin(self, expert_ids: Iterable[ExpertId]) -> None:
        """Let these be evicted again."""
        self._scheduler.pinned.difference_update(expert_ids)

    @property
    def pinned(self) -> frozenset[ExpertId]:
        """Who is never evicted."""
        return frozenset(self._scheduler.pinned)

    async def preload(self, expert_ids: Sequence[ExpertId]) -> None:
        """Have experts where they fit, the first the nearest, one move after the other; returns when it is done.

        Engines that sleep are staged before anybody is awake: while one is staged it takes what it takes when awake.
        """
        placement = self._scheduler.placement(expert_ids)
        for expert_id, _ in placement:
            if self._backends[expert_id].spec.sleeps:
                await self._bring(expert_id, Tier.HOST)
        for expert_id, tier in placement:
            await self._bring(expert_id, tier)

    async def _bring(self, expert_id: ExpertId, tier: Tier) -> None:
        self._apply(self._scheduler.bring(expert_id, tier))
        while self._moves:
            await asyncio.wait(self._moves)

    def evict(self, expert_id: ExpertId) -> None:
        """Take an idle expert off the device."""
        self._apply(self._scheduler.evict(expert_id))

    async def close(self) -> None:
        """Refuse whoever waits and stop every expert, leased ones too: their requests have had their time."""
        self._apply(self._scheduler.close())
        if self._alarm is not None:
            self._alarm.cancel()
        for move in (*self._loads, *self._stagings.values()):
            move.cancel()
        while self._moves:
            await asyncio.wait(self._moves)
        await asyncio.gather(*(backend.stop() for backend in self._backends.values()))
        await asyncio.gather(*(backend.unstage() for backend in self._backends.values()))

    async def acquire(self, expert_id: ExpertId, asker: Asker = ANYBODY) -> Ticket:
        """Wait for a pin; the caller owes one `release`. Cancellation gives the place in the queue up."""
        ticket, effects = self._scheduler.request(expert_id, self._clock(), asker)
        if ticket.resident is not None:
            self._apply(effects)
            return ticket
        waiter = asyncio.get_running_loop().create_future()
        self._waiters[id(ticket)] = waiter
        self._apply(effects)
        try:
            await waiter
        except BaseException:
            self.release(ticket)
            raise
        finally:
            self._waiters.pop(id(ticket), None)
        return ticket

    def release(self, ticket: Ticket) -> None:
        """Drop the pin or the place in the queue, once, without awaiting."""
        self._apply(self._scheduler.withdraw(ticket, self._clock()))

    def _apply(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Grant):
                self._wake(effect.ticket, None)
            elif isinstance(effect, Fail):
                self._wake(effect.ticket, effect.error)
            elif isinstance(effect, Load):
                self._loads.add(load := self._spawn(self._load(effect.resident)))
                load.add_done_callback(self._loads.discard)
            elif isinstance(effect, Unload):
                self._spawn(self._unload(effect.resident))
            elif isinstance(effect, Stage):
                self._stagings[effect.copy.expert_id] = self._spawn(self._stage(effect.copy))
            else:
                self._spawn(self._drop(effect.copy))
        self._set_alarm()

    def _set_alarm(self) -> None:
        """Come back when time alone changes what is to be done."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if not self._scheduler.waiting:
            return
        now_s = self._clock()
        at_s = self._scheduler.wake_at_s(now_s)
        if at_s < float("inf"):
            self._alarm = asyncio.get_running_loop().call_later(at_s - now_s, self._tick)

    def _tick(self) -> None:
        self._alarm = None
        self._apply(self._scheduler.tick(self._clock()))

    def _wake(self, ticket: Ticket, error: Exception | None) -> None:
        waiter = self._waiters.get(id(ticket))
        if waiter is None or waiter.done():
            return  # it was cancelled in this very turn of the loop; its release is on the way
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(error)

    def _spawn(self, move: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(move)
        self._moves.add(task)
        task.add_done_callback(self._moves.discard)
        return task

    async def _load(self, resident: Resident) -> None:
        expert_id, started_s = resident.expert_id, self._clock()
        try:
            async with asyncio.timeout(self._load_timeout_s):
                await self._backends[expert_id].start()
        except TimeoutError:
            await self._load_failed(
                resident, ExpertStartFailed(expert_id, f"not ready after {self._load_timeout_s:g} s")
            )
        except CoeError as error:
            await self._load_failed(resident, error)
        except Exception as error:  # noqa: BLE001 - top of the task: a waiter must not hang on a bug below
            _log.exception("loading %s", expert_id)
            await self._load_failed(resident, ExpertStartFailed(expert_id, repr(error)))
        else:
            resident.load_s = self._clock() - started_s
            self._on_swap(expert_id, "load", resident.load_s)
            self._apply(self._scheduler.loaded(resident, self._clock(), resident.load_s))

    async def _load_failed(self, resident: Resident, error: CoeError) -> None:
        _log.warning("load failed: %s", error)
        try:
            await self._backends[resident.expert_id].stop()
        finally:
            self._apply(self._scheduler.load_failed(resident, error, self._clock()))

    async def _unload(self, resident: Resident) -> None:
        started_s = self._clock()
        try:
            await self._backends[resident.expert_id].stop()
        finally:
            self._on_swap(resident.expert_id, "unload", self._clock() - started_s)
            self._apply(self._scheduler.unloaded(resident, self._clock()))

    async def _stage(self, copy: HostCopy) -> None:
        started_s = self._clock()
        try:
            await self._backends[copy.expert_id].stage()
        except asyncio.CancelledError:
            return  # `_drop` ended it, and reports
        except Exception as error:  # noqa: BLE001 - top of the task: a waiter must not hang on a bug below
            _log.warning("staging failed, it is loaded from disk: %r", error)
            self._apply(self._scheduler.stage_failed(copy, self._clock()))
        else:
            took_s = self._clock() - started_s
            self._on_swap(copy.expert_id, "stage", took_s)
            self._apply(self._scheduler.staged(copy, self._clock(), took_s))

    async def _drop(self, copy: HostCopy) -> None:
        staging = self._stagings.pop(copy.expert_id, None)
        if staging is not None:
            staging.cancel()
        try:
            await self._backends[copy.expert_id].unstage()
        finally:
            self._apply(self._scheduler.dropped(copy, self._clock()))

    def _crashed(self, expert_id: ExpertId, why: str) -> None:
        resident = self._scheduler.ledger.get(expert_id)
        if resident is not None and resident.state is ResidentState.READY:
            _log.error("expert %s went down: %s", expert_id, why)
            self._apply(self._scheduler.crashed(resident, self._clock()))
