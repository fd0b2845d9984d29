"""The residency plane's effects carried out on a virtual clock: moves take the hardware's time, answers the tokens'."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from memory_tiers.types import Asker, Drop, Fail, Grant, Load, Stage, Tier, Unload

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eval.simulation.arrival import Arrival
    from eval.simulation.hardware import Hardware
    from experts.types import ExpertId
    from memory_tiers.scheduling import Scheduling
    from memory_tiers.types import Effect, HostCopy, Resident, Ticket


@dataclass(slots=True)
class Served:
    """One request's fate. wait_s: to its lease; ttft_s, total_s: to its first and last token; None: refused."""

    arrival: Arrival
    wait_s: float | None = None
    ttft_s: float | None = None
    total_s: float | None = None
    hit: bool = False


@dataclass(slots=True)
class World:
    """Runs arrivals through a scheduler. check: the scheduler's invariants after every event, for tests."""

    scheduler: Scheduling
    hardware: Hardware
    check: bool = False
    now_s: float = 0.0
    served: list[Served] = field(default_factory=list)
    _events: list[tuple[float, int, Callable[[], list[Effect]]]] = field(default_factory=list)
    _number: int = 0
    _requests: dict[int, tuple[Ticket, Served]] = field(default_factory=dict)
    _reading: dict[int, int] = field(default_factory=dict)
    _cancelled: set[int] = field(default_factory=set)
    _link_free_s: list[float] = field(default_factory=list)
    _disk_free_s: float = 0.0
    _wake_s: float = float("inf")

    def run(self, arrivals: Sequence[Arrival]) -> list[Served]:
        """Every arrival's fate, in their order; ends when the last is answered or refused."""
        self._link_free_s = [0.0] * self.hardware.devices
        for arrival in arrivals:
            self._run_until(arrival.at_s)
            self.now_s = arrival.at_s
            self._arrive(arrival)
        self._run_until(float("inf"))
        return self.served

    def place(self, plan: Sequence[tuple[ExpertId, Tier]]) -> None:
        """Have experts where a plan says before time begins; this counts neither as a swap nor as foresight."""
        for expert_id, tier in plan:
            for effect in self.scheduler.bring(expert_id, tier):
                if isinstance(effect, Load):
                    self.scheduler.loaded(effect.resident, 0.0)
                    effect.resident.foreseen = False
                elif isinstance(effect, Stage):
                    self.scheduler.staged(effect.copy, 0.0)
        tally = self.scheduler.tally
        tally.loads.clear()
        tally.stagings = tally.moved_bytes = 0

    def _run_until(self, end_s: float) -> None:
        while True:
            event_s = self._events[0][0] if self._events else float("inf")
            if self._wake_s < min(event_s, end_s):
                self.now_s = self._wake_s
                self._do(self.scheduler.tick(self.now_s))
            elif self._events and event_s <= end_s:
                self.now_s, number, happens = heapq.heappop(self._events)
                if number not in self._cancelled:
                    self._do(happens())
            else:
                return

    def _arrive(self, arrival: Arrival) -> None:
        fate = Served(arrival)
        self.served.append(fate)
        ticket, effects = self.scheduler.request(arrival.expert, self.now_s, Asker(arrival.session))
        self._requests[id(ticket)] = ticket, fate
        if ticket.resident is not None:
            fate.hit = True
            self._answer(ticket)
        self._do(effects)

    def _do(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Grant):
                self._answer(effect.ticket)
            elif isinstance(effect, Fail):
                self._requests.pop(id(effect.ticket), None)
            elif isinstance(effect, Load):
                self._load(effect.resident)
            elif isinstance(effect, Unload):
                gone = effect.resident
                self._at(self.now_s, lambda gone=gone: self.scheduler.unloaded(gone, self.now_s))  # type: ignore[misc]
            elif isinstance(effect, Stage):
                self._stage(effect.copy)
            elif isinstance(effect, Drop):
                self._drop(effect.copy)
        if self.check:
            self.scheduler.check_invariants()
        self._wake_s = self.scheduler.wake_at_s(self.now_s)

    def _answer(self, ticket: Ticket) -> None:
        _, fate = self._requests.pop(id(ticket))
        arrival = fate.arrival
        fate.wait_s = self.now_s - arrival.at_s
        fate.ttft_s = fate.wait_s + arrival.prompt_tokens / self.hardware.prefill_tokens_per_s
        fate.total_s = fate.ttft_s + arrival.output_tokens * self.hardware.token_s
        self._at(arrival.at_s + fate.total_s, lambda: self.scheduler.withdraw(ticket, self.now_s))

    def _load(self, resident: Resident) -> None:
        """A load from disk holds the disk and the link until its last byte is on the device."""
        starts_s = max(self.now_s, self._link_free_s[resident.device])
        took_s = self.hardware.load_s(resident.device_bytes)
        if resident.source is Tier.DISK:
            starts_s = max(starts_s, self._disk_free_s)
            took_s += self.hardware.stage_s(resident.device_bytes)
            self._disk_free_s = starts_s + took_s
        self._link_free_s[resident.device] = starts_s + took_s
        self._at(starts_s + took_s, lambda: self.scheduler.loaded(resident, self.now_s, took_s))

    def _stage(self, copy: HostCopy) -> None:
        starts_s = max(self.now_s, self._disk_free_s)
        took_s = self.hardware.stage_s(copy.host_bytes)
        self._disk_free_s = starts_s + took_s
        self._reading[id(copy)] = self._at(starts_s + took_s, lambda: self._staged(copy, took_s))

    def _staged(self, copy: HostCopy, took_s: float) -> list[Effect]:
        self._reading.pop(id(copy), None)
        return self.scheduler.staged(copy, self.now_s, took_s)

    def _drop(self, copy: HostCopy) -> None:
        number = self._reading.pop(id(copy), None)
        if number is not None:  # the rest need not be read
            self._cancelled.add(number)
            self._disk_free_s = self.now_s
        self._at(self.now_s, lambda: self.scheduler.dropped(copy, self.now_s))

    def _at(self, at_s: float, happens: Callable[[], list[Effect]]) -> int:
        self._number += 1
        heapq.heappush(self._events, (at_s, self._number, happens))
        return self._number
