"""The state of residency, as events in and effects out: no clock, no tasks, no I/O.

Every method is one event at time `now_s` and returns what must happen next. A grant pins its resident before the
waiter knows of it, so there is no gap in which it could be evicted.

Order of service: a request for a ready expert joins it at once, unless somebody who needs room has waited longer
than `join_window_s`; then it queues behind them, so a busy expert cannot starve the others. When room is made, all
that wait for the incoming expert are served by that one swap. An expert that failed to load is refused for
`retry_after_s`, with the same error.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from experts.errors import ExpertUnreachable, TierFull
from memory_tiers.ledger import Ledger
from memory_tiers.planner import plan_eviction
from memory_tiers.types import Effect, Fail, Grant, Load, Resident, ResidentState, Ticket, Unload

if TYPE_CHECKING:
    from collections.abc import Mapping

    from experts.types import ExpertId

_READY, _LOADING, _UNLOADING = ResidentState.READY, ResidentState.LOADING, ResidentState.UNLOADING


class Scheduler:
    """Single owner of who is resident and who waits, for one device."""

    def __init__(
        self,
        device_bytes: Mapping[ExpertId, int],
        budget_bytes: int,
        *,
        join_window_s: float = 2.0,
        retry_after_s: float = 5.0,
    ) -> None:
        self.ledger = Ledger(budget_bytes)
        self._device_bytes = dict(device_bytes)
        self._join_window_s = join_window_s
        self._queues: dict[ExpertId, deque[Ticket]] = {}
        self._retry_after_s = retry_after_s
        self._failed: dict[ExpertId, tuple[float, Exception]] = {}
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many tickets are queued."""
        return sum(map(len, self._queues.values()))

    def request(self, expert_id: ExpertId, now_s: float) -> tuple[Ticket, list[Effect]]:
        """Ask for a lease. A ticket that comes back with its `resident` set is granted already."""
        ticket = Ticket(expert_id, now_s)
        resident = self.ledger.get(expert_id)
        if resident is not None and resident.state is _READY and not self._barred(expert_id, now_s):
            self._pin(ticket, resident)
            return ticket, []
        if (refusal := self._refusal(expert_id, now_s)) is not None:
            return ticket, [Fail(ticket, refusal)]
        ticket.cold = True
        self._queues.setdefault(expert_id, deque()).append(ticket)
        return ticket, self._pump(now_s)

    def withdraw(self, ticket: Ticket, now_s: float) -> list[Effect]:
        """End a ticket, queued or granted; ending it again does nothing."""
        resident, ticket.resident = ticket.resident, None
        if resident is None:
            queue = self._queues.get(ticket.expert_id)
            if queue is None or ticket not in queue:
                return []
            queue.remove(ticket)
            if not queue:
                del self._queues[ticket.expert_id]
            return self._pump(now_s)
        resident.leases -= 1
        resident.last_used_s = now_s
        return self._pump(now_s) if self._queues and resident.leases == 0 else []

    def loaded(self, resident: Resident, now_s: float) -> list[Effect]:
        """A load ended well: everyone who waited for it is served before anything else is decided."""
        resident.state = _READY
        resident.last_used_s = now_s
        return [*self._grant_all(resident), *self._pump(now_s)]

    def load_failed(self, resident: Resident, error: Exception, now_s: float) -> list[Effect]:
        """A load ended badly: its bytes are free again and everyone who waited for it is told why."""
        self.ledger.discharge(resident)
        self._failed[resident.expert_id] = (now_s + self._retry_after_s, error)
        failed: list[Effect] = [Fail(ticket, error) for ticket in self._queues.pop(resident.expert_id, ())]
        return failed + self._pump(now_s)

    def unloaded(self, resident: Resident, now_s: float) -> list[Effect]:
        """An unload ended."""
        self.ledger.discharge(resident)
        return self._pump(now_s)

    def crashed(self, resident: Resident, now_s: float) -> list[Effect]:
        """A ready expert went down by itself; leases on it are void, the next request loads it anew."""
        if resident.state is not _READY:
            return []
        self.ledger.discharge(resident)
        return self._pump(now_s)

    def evict(self, expert_id: ExpertId) -> list[Effect]:
        """Take an idle expert off the device; nothing happens to one that is leased or absent."""
        resident = self.ledger.get(expert_id)
        return [self._start_unload(resident)] if resident is not None and resident.evictable else []

    def close(self) -> list[Effect]:
        """Refuse whoever waits and take every idle expert down; later requests are refused too."""
        self._closed = True
        waiting = [ticket for queue in self._queues.values() for ticket in queue]
        self._queues.clear()
        refused: list[Effect] = [Fail(t, ExpertUnreachable(t.expert_id, "the gateway is closing")) for t in waiting]
        return refused + [self._start_unload(r) for r in self.ledger if r.evictable]

    def check_invariants(self) -> None:
        """Raise AssertionError if residency is in a state that must not be; tests call it after every event."""
        self.ledger.check_invariants()
        for expert_id, queue in self._queues.items():
            if not queue or any(t.resident is not None or t.expert_id != expert_id for t in queue):
                raise AssertionError(f"the queue of {expert_id!r} is wrong: {list(queue)}")

    def _refusal(self, expert_id: ExpertId, now_s: float) -> Exception | None:
        need_bytes = self._device_bytes[expert_id]
        until_s, error = self._failed.get(expert_id, (now_s, None))
        if now_s < until_s:
            return error  # trying again at once would evict a healthy expert for it, request after request
        if self._closed:
            return ExpertUnreachable(expert_id, "the gateway is closing")
        if need_bytes > self.ledger.budget_bytes:
            return TierFull(
                f"expert {expert_id!r} needs {need_bytes} bytes; the device budget is {self.ledger.budget_bytes}",
            )
        return None

    def _barred(self, expert_id: ExpertId, now_s: float) -> bool:
        """Whether a newcomer must queue because someone who needs room has waited long enough."""
        return bool(self._queues and self._device_bytes[expert_id]) and any(
            now_s - queue[0].arrived_s > self._join_window_s
            for other, queue in self._queues.items()
            if other != expert_id and self._needs_room(other)
        )

    def _needs_room(self, expert_id: ExpertId) -> bool:
        """Whether those who wait for it wait for bytes: not if it is here already, or on its way."""
        resident = self.ledger.get(expert_id)
        return resident is None or resident.state is _UNLOADING

    def _pump(self, now_s: float) -> list[Effect]:
        """Serve the queues, the longest wait first; nobody takes room that someone before them waits for."""
        effects: list[Effect] = []
        spoken_for = False
        for expert_id, _ in sorted(self._queues.items(), key=lambda item: item[1][0].arrived_s):
            resident = self.ledger.get(expert_id)
            if resident is None:
                if spoken_for and self._device_bytes[expert_id]:
                    continue
                placed, more = self._place(expert_id)
                effects += more
                spoken_for = spoken_for or not placed
            elif resident.state is _READY:
                if not self._barred(expert_id, now_s):
                    effects += self._grant_all(resident)
            elif resident.state is _UNLOADING:
                spoken_for = True
        return effects

    def _place(self, expert_id: ExpertId) -> tuple[bool, list[Effect]]:
        """Start the load if the bytes are free, else start what frees them. The bool: whether the load started."""
        need_bytes = self._device_bytes[expert_id]
        staying = [r for r in self.ledger if r.state is not _UNLOADING]
        try:
            victims = plan_eviction(staying, need_bytes, self.ledger.budget_bytes)
        except TierFull:  # leases hold the room: their withdrawal pumps again
            return False, []
        effects: list[Effect] = [self._start_unload(victim) for victim in victims]
        if need_bytes > self.ledger.free_bytes:  # an unload is under way: its end pumps again
            return False, effects
        resident = Resident(expert_id, need_bytes)
        self.ledger.admit(resident)
        return True, [*effects, Load(resident)]

    def _start_unload(self, resident: Resident) -> Unload:
        resident.state = _UNLOADING
        return Unload(resident)

    def _grant_all(self, resident: Resident) -> list[Effect]:
        granted: list[Effect] = []
        for ticket in self._queues.pop(resident.expert_id, ()):
            self._pin(ticket, resident)
            granted.append(Grant(ticket))
        return granted

    def _pin(self, ticket: Ticket, resident: Resident) -> None:
        resident.leases += 1
        ticket.resident = resident
        resident.last_used_s = max(resident.last_used_s, ticket.arrived_s)
