"""The state of residency, as events in and effects out: no clock, no tasks, no I/O.

Every method is one event at time `now_s` and returns what must happen next. A grant pins its resident before the
waiter knows of it, so there is no gap in which it could be evicted.

Order of service: a request for a ready expert joins it at once, unless that expert has to make room for somebody who
has waited longer than the join window; then it takes no new requests until its running ones end. Of the experts that
are waited for, that one is next which was waited for longest in all, unless somebody's time runs out. All who wait for
an expert are served by one load. Weights are read into host memory before anybody makes room for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from experts.errors import ExpertUnreachable, QueueFull, TierFull
from memory_tiers.breaker import Breaker
from memory_tiers.costs import DISK_TO_DEVICE, DISK_TO_HOST, HOST_TO_DEVICE, MoveCosts
from memory_tiers.foresight import Foresight
from memory_tiers.host_tier import HostTier
from memory_tiers.ledger import DeviceLedger
from memory_tiers.outlook import Outlook
from memory_tiers.placement import placement
from memory_tiers.policies import POLICIES, Candidate, Foresighted, Use
from memory_tiers.rooms import Rooms, Wanted
from memory_tiers.rules import Rules
from memory_tiers.tally import Tally
from memory_tiers.types import (
    ANYBODY,
    Effect,
    Fail,
    Footprint,
    Grant,
    Load,
    Resident,
    ResidentState,
    Ticket,
    Tier,
    Unload,
)
from memory_tiers.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from experts.types import ExpertId
    from memory_tiers.policies import EvictionPolicy
    from memory_tiers.types import Asker, HostCopy

_READY, _LOADING, _UNLOADING = ResidentState.READY, ResidentState.LOADING, ResidentState.UNLOADING


class Scheduler:
    """Single owner of who is where and who waits.

    footprints: every expert's bytes. device_budgets: bytes of each device; host_bytes: for copies of weights.
    policy: makes a new eviction policy; each tier has its own.
    """

    def __init__(
        self,
        footprints: Mapping[ExpertId, Footprint],
        device_budgets: Sequence[int],
        host_bytes: int = 0,
        *,
        rules: Rules | None = None,
        policy: Callable[[], EvictionPolicy] = POLICIES["default"],
        costs: MoveCosts | None = None,
    ) -> None:
        self.rules = rules or Rules()
        self.costs = costs or MoveCosts()
        self.tally = Tally()
        self.ledger = DeviceLedger(device_budgets)
        self.pinned: set[ExpertId] = set()
        self._footprints = dict(footprints)
        self._policy, host_policy = policy(), policy()
        self.host = HostTier(
            self._footprints,
            host_bytes,
            policy=host_policy,
            costs=self.costs,
            is_resident=lambda expert_id: (own := self.ledger.get(expert_id)) is not None and not own.foreseen,
            stagings=self.rules.stagings,
        )
        self._policies = (self._policy, host_policy)
        self._queue = Waiting()
        self._outlook = Outlook(self._footprints, self.host, self._queue, self.costs)
        self._foresight = Foresight(
            self._policy, self.ledger, self.host, self._footprints, self.rules, reload_s=self._outlook.load_s
        )
        self._breaker = Breaker(self.rules.retry_after_s, self.rules.most_rest_s)
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many tickets are queued."""
        return len(self._queue)

    @property
    def host_used_bytes(self) -> int:
        """Bytes booked for copies in host memory."""
        return self.host.ledger.used_bytes

    @property
    def host_budget_bytes(self) -> int:
        """Bytes there are for copies."""
        return self.host.ledger.budget_bytes

    def request(self, expert_id: ExpertId, now_s: float, asker: Asker = ANYBODY) -> tuple[Ticket, list[Effect]]:
        """Ask for a lease. A ticket that comes back with its `resident` set is granted; no effect says so again."""
        for policy in self._policies:
            policy.used(Use(expert_id, now_s, asker.session))
        bound_s = self.rules.max_wait_s if asker.max_wait_s is None else asker.max_wait_s
        ticket = Ticket(expert_id, now_s, now_s + bound_s, asker.tenant)
        resident = self.ledger.get(expert_id)
        if resident is not None and resident.open:
            self.tally.joined(resident)
            self._pin(ticket, resident)
            return ticket, []
        if (refusal := self._refusal(expert_id, now_s)) is not None:
            return ticket, [Fail(ticket, refusal)]
        ticket.cold = True
        self.tally.missed(resident)
        self._queue.add(ticket)
        effects = self._pump(now_s)  # its expert may be spared just now, for being asked for
        return ticket, [e for e in effects if not (isinstance(e, Grant) and e.ticket is ticket)]

    def withdraw(self, ticket: Ticket, now_s: float) -> list[Effect]:
        """End a ticket, queued or granted; ending it again does nothing."""
        resident, ticket.resident = ticket.resident, None
        if resident is None:
            return self._pump(now_s) if self._queue.remove(ticket) else []
        resident.leases -= 1
        if resident.leases == 0:
            self._outlook.lease_ended(now_s - resident.last_used_s)
        resident.last_used_s = now_s
        return self._pump(now_s) if self._queue or resident.leases == 0 else []

    def loaded(self, resident: Resident, now_s: float, took_s: float | None = None) -> list[Effect]:
        """A load ended well: everyone who waited for it is served before anything else is decided."""
        resident.state = _READY
        resident.last_used_s = resident.ready_s = now_s
        self._read(resident, took_s)
        self._breaker.healthy(resident.expert_id)
        if resident.source is Tier.DISK:
            self.host.trust(resident.expert_id)
        self._policy.admitted(resident.expert_id, now_s)
        return [*self._grant_all(resident), *self._pump(now_s)]

    def load_failed(self, resident: Resident, error: Exception, now_s: float) -> list[Effect]:
        """A load ended badly: its bytes are free again, and everyone who waited for it is told why.

        One that was to come from host memory is tried once more, from disk.
        """
        self.ledger.discharge(resident)
        self._read(resident, None)
        if resident.source is Tier.HOST:
            return [*self.host.distrust(resident.expert_id), *self._pump(now_s)]
        self._breaker.failed(resident.expert_id, error, now_s)
        failed: list[Effect] = [Fail(ticket, error) for ticket in self._queue.take(resident.expert_id)]
        return failed + self._pump(now_s)

    def unloaded(self, resident: Resident, now_s: float) -> list[Effect]:
        """An unload ended."""
        self.ledger.discharge(resident)
        self._policy.evicted(resident.expert_id, now_s)
        return self._pump(now_s)

    def crashed(self, resident: Resident, now_s: float) -> list[Effect]:
        """A ready expert went down by itself; leases on it are void, the next request loads it anew."""
        if resident.state is not _READY:
            return []
        self.ledger.discharge(resident)
        self._policy.evicted(resident.expert_id, now_s)
        return self._pump(now_s)

    def staged(self, copy: HostCopy, now_s: float, took_s: float | None = None) -> list[Effect]:
        """Weights are in host memory."""
        if took_s is not None:
            self.costs.observed(copy.expert_id, DISK_TO_HOST, copy.host_bytes, took_s)
        self.host.staged(copy)
        self.tally.stagings += 1
        return self._pump(now_s)

    def stage_failed(self, copy: HostCopy, now_s: float) -> list[Effect]:
        """Weights could not be read into host memory."""
        self.host.stage_failed(copy)
        return self._pump(now_s)

    def dropped(self, copy: HostCopy, now_s: float) -> list[Effect]:
        """A host copy's memory is back."""
        self.host.dropped(copy)
        return self._pump(now_s)

    def tick(self, now_s: float) -> list[Effect]:
        """Time has passed: what `wake_at_s` announced is due."""
        return self._pump(now_s)

    def wake_at_s(self, now_s: float) -> float:
        """When something is to be decided anew though no event comes; infinite where nobody waits."""
        later = [r.ready_s + self.rules.quantum_s for r in self.ledger if self._queue and r.state is _READY]
        later += self._outlook.begin_by_s().values()
        for expert_id in self._queue.experts:
            start_by_s = self._queue.start_by_s(expert_id)
            later += [self._queue.first(expert_id).arrived_s + self.rules.join_window_s, start_by_s]
            later.append(start_by_s + self._outlook.stage_s(expert_id))
        return min((at_s for at_s in later if at_s > now_s), default=float("inf"))

    def placement(self, order: Sequence[ExpertId]) -> list[tuple[ExpertId, Tier]]:
        """Where these would go if nothing were there yet, the likeliest first."""
        return placement(order, self._footprints, self.ledger.budgets_bytes, self.host.ledger.budget_bytes)

    def bring(self, expert_id: ExpertId, tier: Tier) -> list[Effect]:
        """Have an expert in a tier before anybody asks, if it is not there and fits what is free."""
        if tier is Tier.HOST:
            return self.host.foresee(expert_id) if self.host.can_hold(expert_id) else []
        footprint = self._footprints[expert_id]
        need = footprint.device_bytes
        device = max(footprint.devices(len(self.ledger.budgets_bytes)), key=self.ledger.free_bytes)
        if self.ledger.get(expert_id) is not None or need > self.ledger.free_bytes(device):
            return []
        return [self._start_load(expert_id, device, foreseen=True)]

    def evict(self, expert_id: ExpertId) -> list[Effect]:
        """Take an idle expert off its device; nothing happens to one that is leased or absent."""
        resident = self.ledger.get(expert_id)
        return [self._start_unload(resident)] if resident is not None and resident.evictable else []

    def set_device_budget(self, device: int, budget_bytes: int, now_s: float) -> list[Effect]:
        """Give a device another budget. Of what is over it, idle residents go at once and busy ones once they end."""
        self.ledger.budgets_bytes[device] = budget_bytes
        return self._pump(now_s)

    def close(self) -> list[Effect]:
        """Refuse whoever waits and take every idle expert down; later requests are refused too."""
        self._closed = True
        waiting = self._queue.clear()
        refused: list[Effect] = [Fail(t, ExpertUnreachable(t.expert_id, "the gateway is closing")) for t in waiting]
        return refused + [self._start_unload(r) for r in self.ledger if r.evictable]

    def check_invariants(self) -> None:
        """Raise AssertionError if residency is in a state that must not be; tests call it after every event."""
        self.ledger.check_invariants()
        self.host.ledger.check_invariants()
        self._queue.check_invariants()

    def _refusal(self, expert_id: ExpertId, now_s: float) -> Exception | None:
        footprint, budgets = self._footprints[expert_id], self.ledger.budgets_bytes
        if (error := self._breaker.open(expert_id, now_s)) is not None:
            return error  # trying again at once would evict a healthy expert for it, request after request
        if self._closed:
            return ExpertUnreachable(expert_id, "the gateway is closing")
        largest = max(budgets[device] for device in footprint.devices(len(budgets)))
        if (need_bytes := footprint.device_bytes) > largest:
            return TierFull(f"expert {expert_id!r} needs {need_bytes} bytes; the device budget is {largest}")
        return None

    def _pump(self, now_s: float) -> list[Effect]:
        """Decide everything that can be decided now."""
        effects = self._give_up(now_s)
        if self._closed:
            return effects
        rooms = Rooms(self.ledger, lambda some: self._losses(some, now_s), self.pinned, self.rules, now_s)
        effects += [self._start_unload(victim) for victim in rooms.overdrawn()]
        urgent = {expert_id for expert_id, begin_s in self._outlook.begin_by_s().items() if begin_s <= now_s}
        for expert_id in self._queue.order(urgent.__contains__, now_s):
            effects += self._advance(expert_id, rooms, now_s, urgent=expert_id in urgent)
        for resident in rooms.spared():
            effects += self._grant_all(resident)
        if not self._queue:
            effects += self._foresee(now_s)  # whoever waits needs no room before the disk has read
        return effects

    def _advance(self, expert_id: ExpertId, rooms: Rooms, now_s: float, *, urgent: bool) -> list[Effect]:
        """One step for those who wait for an expert."""
        resident = self.ledger.get(expert_id)
        if resident is not None:
            resident.foreseen = False
            return self._grant_all(resident) if resident.open else []
        footprint = self._footprints[expert_id]
        need_bytes = footprint.device_bytes
        if self.host.can_hold(expert_id) and not self.host.holds(expert_id):
            return self.host.demand(expert_id, self._queue.experts, now_s)
        patient = now_s < self._queue.first(expert_id).arrived_s + self.rules.join_window_s
        loading = sum(r.state is _LOADING and r.device_bytes > 0 for r in self.ledger)
        may_load = loading < self.rules.loads or not need_bytes
        found = rooms.find(Wanted(need_bytes, patient and not urgent, urgent, footprint.device), may_load=may_load)
        if found.device is not None:
            return [self._start_load(expert_id, found.device)]
        return [self._start_unload(victim) for victim in found.victims]

    def _foresee(self, now_s: float) -> list[Effect]:
        """Bring in what may be asked for, while nobody waits."""
        found = self._foresight.next_move(now_s, self.pinned, self._breaker.resting(now_s))
        if found is None:
            return []
        if found.stage is not None:
            return self.host.foresee(found.stage)
        if found.load is not None and not found.victims:
            return [self._start_load(found.load, found.device, foreseen=True)]
        return [self._start_unload(victim) for victim in found.victims]

    def _give_up(self, now_s: float) -> list[Effect]:
        """Refuse those whose time is over and whose weights are not even on their way."""
        over = [ticket for ticket in self._queue.overdue(now_s) if not self._coming(ticket, now_s)]
        for ticket in over:
            self._queue.remove(ticket)
        self.tally.refused += len(over)
        problem = "no room for expert {!r} within {:.3g} s"
        return [Fail(t, QueueFull(problem.format(t.expert_id, now_s - t.arrived_s))) for t in over]

    def _coming(self, ticket: Ticket, now_s: float) -> bool:
        """Whether its load has begun, or the weights are read and there is time left of what reading them takes."""
        resident = self.ledger.get(ticket.expert_id)
        if resident is not None and resident.state is _LOADING:
            return True
        copy = self.host.ledger.get(ticket.expert_id)
        return copy is not None and now_s < ticket.start_by_s + self._outlook.stage_s(ticket.expert_id)

    def _losses(self, residents: Sequence[Resident], now_s: float) -> list[float]:
        candidates = [Candidate(r.expert_id, r.device_bytes, self._outlook.load_s(r.expert_id)) for r in residents]
        if isinstance(self._policy, Foresighted):
            self._policy.upcoming(self._queue.by_arrival())
        return self._policy.keep_scores(candidates, now_s)

    def _start_load(self, expert_id: ExpertId, device: int, *, foreseen: bool = False) -> Load:
        copy = self.host.ledger.get(expert_id) if self.host.holds(expert_id) else None
        source = Tier.DISK if copy is None else Tier.HOST
        resident = Resident(expert_id, self._footprints[expert_id].device_bytes, device, source, foreseen=foreseen)
        self.ledger.admit(resident)
        if copy is not None:
            copy.readers += 1
        self.tally.loads[source] += 1
        self.tally.foreseen += foreseen
        self.tally.moved_bytes += resident.device_bytes
        return Load(resident)

    def _read(self, resident: Resident, took_s: float | None) -> None:
        """A load has read its source to the end, or as far as it came."""
        copy = self.host.ledger.get(resident.expert_id)
        if resident.source is Tier.HOST and copy is not None:
            copy.readers -= 1
        if took_s is not None:
            move = HOST_TO_DEVICE if resident.source is Tier.HOST else DISK_TO_DEVICE
            self.costs.observed(resident.expert_id, move, resident.device_bytes, took_s)

    def _start_unload(self, resident: Resident) -> Unload:
        resident.state = _UNLOADING
        self.tally.evicted(resident)
        return Unload(resident)

    def _grant_all(self, resident: Resident) -> list[Effect]:
        granted: list[Effect] = []
        for ticket in self._queue.take(resident.expert_id):
            self._pin(ticket, resident)
            granted.append(Grant(ticket))
        return granted

    def _pin(self, ticket: Ticket, resident: Resident) -> None:
        resident.leases += 1
        ticket.resident = resident
        resident.foreseen = False
        resident.last_used_s = max(resident.last_used_s, ticket.arrived_s)
