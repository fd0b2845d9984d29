"""What others do, to be compared with: strict order of arrival, or grouping alone, over a cache of one policy.

A load from disk holds the slot and the link while it reads, and leaves its weights in host memory, the least recently
used of which go. There is no window, no bound on a wait and no guess.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from experts.errors import ExpertUnreachable, TierFull
from memory_tiers.eviction_set import cheapest_set
from memory_tiers.ledger import DeviceLedger
from memory_tiers.placement import placement
from memory_tiers.policies import Candidate, Use
from memory_tiers.tally import Tally
from memory_tiers.types import ANYBODY, Fail, Grant, Load, Resident, ResidentState, Ticket, Tier, Unload

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from experts.types import ExpertId
    from memory_tiers.policies import EvictionPolicy
    from memory_tiers.types import Asker, Effect, Footprint, HostCopy


class NaiveScheduler:
    """One load at a time for whoever waited longest. grouping: requests for ready experts are served meanwhile."""

    def __init__(
        self,
        footprints: Mapping[ExpertId, Footprint],
        device_budgets: Sequence[int],
        host_bytes: int,
        policy: EvictionPolicy,
        *,
        grouping: bool,
    ) -> None:
        self.tally = Tally()
        self.ledger = DeviceLedger(device_budgets)
        self.pinned: set[ExpertId] = set()
        self._footprints = footprints
        self._policy = policy
        self._grouping = grouping
        self._queue: deque[Ticket] = deque()
        self._host: OrderedDict[ExpertId, int] = OrderedDict()
        self._host_bytes = host_bytes

    @property
    def waiting(self) -> int:
        """How many tickets are queued."""
        return len(self._queue)

    @property
    def host_used_bytes(self) -> int:
        """Bytes of weights that loads have left in host memory."""
        return sum(self._host.values())

    @property
    def host_budget_bytes(self) -> int:
        """Bytes there are for them."""
        return self._host_bytes

    def request(self, expert_id: ExpertId, now_s: float, asker: Asker = ANYBODY) -> tuple[Ticket, list[Effect]]:
        """A request arrives."""
        self._policy.used(Use(expert_id, now_s, asker.session))
        ticket, resident = Ticket(expert_id, now_s), self.ledger.get(expert_id)
        if resident is not None and resident.open and (self._grouping or not self._queue):
            self.tally.joined(resident)
            self._pin(ticket, resident)
            return ticket, []
        if self._footprints[expert_id].device_bytes > max(self.ledger.budgets_bytes):
            return ticket, [Fail(ticket, TierFull(f"expert {expert_id!r} is larger than the device budget"))]
        ticket.cold = True
        self.tally.missed(resident)
        self._queue.append(ticket)
        effects = self._pump(now_s)
        return ticket, [e for e in effects if not (isinstance(e, Grant) and e.ticket is ticket)]

    def withdraw(self, ticket: Ticket, now_s: float) -> list[Effect]:
        """A ticket ends, queued or granted."""
        resident, ticket.resident = ticket.resident, None
        if resident is not None:
            resident.leases -= 1
        elif ticket in self._queue:
            self._queue.remove(ticket)
        return self._pump(now_s)

    def loaded(self, resident: Resident, now_s: float, took_s: float | None = None) -> list[Effect]:  # noqa: ARG002
        """A load ended."""
        resident.state = ResidentState.READY
        self._policy.admitted(resident.expert_id, now_s)
        return self._pump(now_s)

    def load_failed(self, resident: Resident, error: Exception, now_s: float) -> list[Effect]:
        """A load ended badly: whoever waits for it is told why."""
        self.ledger.discharge(resident)
        waited = [ticket for ticket in self._queue if ticket.expert_id == resident.expert_id]
        self._queue = deque(ticket for ticket in self._queue if ticket.expert_id != resident.expert_id)
        return [*(Fail(ticket, error) for ticket in waited), *self._pump(now_s)]

    def crashed(self, resident: Resident, now_s: float) -> list[Effect]:
        """A ready expert went down by itself."""
        return self.unloaded(resident, now_s) if resident.state is ResidentState.READY else []

    def unloaded(self, resident: Resident, now_s: float) -> list[Effect]:
        """An unload ended."""
        self.ledger.discharge(resident)
        self._policy.evicted(resident.expert_id, now_s)
        return self._pump(now_s)

    def staged(self, copy: HostCopy, now_s: float, took_s: float | None = None) -> list[Effect]:  # noqa: ARG002
        """Nothing is staged here."""
        return []

    def stage_failed(self, copy: HostCopy, now_s: float) -> list[Effect]:  # noqa: ARG002
        """So nothing fails."""
        return []

    def dropped(self, copy: HostCopy, now_s: float) -> list[Effect]:  # noqa: ARG002
        """Nor dropped."""
        return []

    def tick(self, now_s: float) -> list[Effect]:  # noqa: ARG002
        """Time changes nothing."""
        return []

    def wake_at_s(self, now_s: float) -> float:  # noqa: ARG002
        """Never."""
        return float("inf")

    def placement(self, order: Sequence[ExpertId]) -> list[tuple[ExpertId, Tier]]:
        """Where these would go if nothing were there yet, the likeliest first."""
        return placement(order, self._footprints, self.ledger.budgets_bytes, self._host_bytes)

    def evict(self, expert_id: ExpertId) -> list[Effect]:
        """Take an idle expert off its device."""
        resident = self.ledger.get(expert_id)
        return [self._start_unload(resident)] if resident is not None and resident.evictable else []

    def close(self) -> list[Effect]:
        """Refuse whoever waits and take every idle expert down."""
        waiting, self._queue = self._queue, deque()
        refused: list[Effect] = [Fail(t, ExpertUnreachable(t.expert_id, "the gateway is closing")) for t in waiting]
        return refused + [self._start_unload(r) for r in self.ledger if r.evictable]

    def bring(self, expert_id: ExpertId, tier: Tier) -> list[Effect]:
        """Have an expert in a tier before anybody asks, if it fits."""
        footprint = self._footprints[expert_id]
        if tier is Tier.HOST:
            if sum(self._host.values()) + footprint.host_bytes <= self._host_bytes:
                self._host[expert_id] = footprint.host_bytes
            return []
        resident = Resident(expert_id, footprint.device_bytes)
        if self.ledger.get(expert_id) is not None or resident.device_bytes > self.ledger.free_bytes(0):
            return []
        self.ledger.admit(resident)
        return [Load(resident)]

    def check_invariants(self) -> None:
        """Raise AssertionError if the books are wrong."""
        self.ledger.check_invariants()

    def _pump(self, now_s: float) -> list[Effect]:
        effects: list[Effect] = []
        while self._queue and (resident := self.ledger.get(self._queue[0].expert_id)) is not None and resident.open:
            effects += self._granted(resident)
        if self._queue and self.ledger.get(self._queue[0].expert_id) is None:
            effects += self._place(self._queue[0].expert_id, now_s)
        return effects

    def _granted(self, resident: Resident) -> list[Effect]:
        """The head of the queue, and with grouping everyone who waits for the same expert."""
        taken = [t for t in self._queue if t.expert_id == resident.expert_id] if self._grouping else [self._queue[0]]
        for ticket in taken:
            self._queue.remove(ticket)
            self._pin(ticket, resident)
        return [Grant(ticket) for ticket in taken]

    def _place(self, expert_id: ExpertId, now_s: float) -> list[Effect]:
        if any(r.state is not ResidentState.READY for r in self.ledger):
            return []
        need = self._footprints[expert_id].device_bytes
        missing = need - self.ledger.free_bytes(0)
        if missing <= 0:
            return [self._start(expert_id, need)]
        idle = [r for r in self.ledger if r.evictable and r.expert_id not in self.pinned]
        losses = self._policy.keep_scores([Candidate(r.expert_id, r.device_bytes, 1.0) for r in idle], now_s)
        least = min(losses, default=0.0)
        try:
            places = cheapest_set([r.device_bytes for r in idle], [loss - least for loss in losses], missing)
        except TierFull:
            return []
        return [self._start_unload(idle[place]) for place in places]

    def _start_unload(self, resident: Resident) -> Unload:
        resident.state = ResidentState.UNLOADING
        self.tally.evicted(resident)
        return Unload(resident)

    def _start(self, expert_id: ExpertId, need: int) -> Load:
        source = Tier.HOST if expert_id in self._host else Tier.DISK
        self._host[expert_id] = self._footprints[expert_id].host_bytes
        self._host.move_to_end(expert_id)
        while sum(self._host.values()) > self._host_bytes:
            self._host.popitem(last=False)
        resident = Resident(expert_id, need, 0, source)
        self.ledger.admit(resident)
        self.tally.loads[source] += 1
        self.tally.moved_bytes += need
        return Load(resident)

    def _pin(self, ticket: Ticket, resident: Resident) -> None:
        resident.leases += 1
        ticket.resident = resident
