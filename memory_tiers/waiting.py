"""Who waits for an expert, and who is next. Pure."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from experts.types import ExpertId
    from memory_tiers.types import Ticket


class Waiting:
    """A queue for each expert."""

    def __init__(self) -> None:
        self._queues: dict[ExpertId, deque[Ticket]] = {}
        self._start_by_s: dict[ExpertId, float] = {}
        self._waits: dict[ExpertId, dict[str | None, tuple[int, float]]] = {}  # by tenant: tickets, summed arrivals
        self._queued: Counter[str | None] = Counter()  # tickets of each tenant
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __bool__(self) -> bool:
        return bool(self._queues)

    def __iter__(self) -> Iterator[Ticket]:
        return (ticket for queue in self._queues.values() for ticket in queue)

    @property
    def experts(self) -> set[ExpertId]:
        """The experts that somebody waits for."""
        return set(self._queues)

    def add(self, ticket: Ticket) -> None:
        """Put a ticket behind those of its expert."""
        self._queues.setdefault(ticket.expert_id, deque()).append(ticket)
        known = self._start_by_s.get(ticket.expert_id, float("inf"))
        self._start_by_s[ticket.expert_id] = min(known, ticket.start_by_s)
        waits = self._waits.setdefault(ticket.expert_id, {})
        count, arrived_s = waits.get(ticket.tenant, (0, 0.0))
        waits[ticket.tenant] = count + 1, arrived_s + ticket.arrived_s
        self._queued[ticket.tenant] += 1
        self._count += 1

    def remove(self, ticket: Ticket) -> bool:
        """Take a ticket out; False: it was not there."""
        queue = self._queues.get(ticket.expert_id)
        if queue is None or ticket not in queue:
            return False
        queue.remove(ticket)
        self._gone(ticket)
        if queue:
            self._start_by_s[ticket.expert_id] = min(left.start_by_s for left in queue)
            own = [left.arrived_s for left in queue if left.tenant == ticket.tenant]
            waits = self._waits[ticket.expert_id]
            waits[ticket.tenant] = len(own), sum(own)  # not by subtraction: its rounding would add up
        else:
            self._forget(ticket.expert_id)
        return True

    def take(self, expert_id: ExpertId) -> tuple[Ticket, ...]:
        """Take everyone out who waits for an expert, first come first."""
        taken = tuple(self._queues.get(expert_id, ()))
        for ticket in taken:
            self._gone(ticket)
        self._forget(expert_id)
        return taken

    def clear(self) -> tuple[Ticket, ...]:
        """Take everyone out."""
        return tuple(ticket for expert_id in tuple(self._queues) for ticket in self.take(expert_id))

    def overdue(self, now_s: float) -> list[Ticket]:
        """Everyone whose time is over."""
        late = [expert_id for expert_id, start_by_s in self._start_by_s.items() if start_by_s <= now_s]
        return [ticket for expert_id in late for ticket in self._queues[expert_id] if ticket.start_by_s <= now_s]

    def first(self, expert_id: ExpertId) -> Ticket:
        """Who has waited longest for an expert."""
        return self._queues[expert_id][0]

    def start_by_s(self, expert_id: ExpertId) -> float:
        """When the first of those who wait for an expert has to hold a lease."""
        return self._start_by_s[expert_id]

    def order(self, urgent: Callable[[ExpertId], bool], now_s: float) -> list[ExpertId]:
        """The experts, next first: those whose time runs out, then those that have been waited for longest in all.

        The seconds of all who wait for an expert are added up, and one for each of them: grouping by expert is what
        keeps swaps few, and whoever is rarely asked for still comes to the front. Every tenant has the same weight,
        shared among its tickets: one that asks for much does not push the others back.
        """

        def key(expert_id: ExpertId) -> tuple[bool, float, float]:
            runs_out = urgent(expert_id)
            rank = self.start_by_s(expert_id) if runs_out else -self._waited_s(expert_id, now_s)
            return not runs_out, rank, self.first(expert_id).arrived_s

        return sorted(self._queues, key=key)

    def _waited_s(self, expert_id: ExpertId, now_s: float) -> float:
        return sum(
            (count * (now_s + 1) - arrived_s) / self._queued[tenant]
            for tenant, (count, arrived_s) in self._waits[expert_id].items()
            if count
        )

    def _gone(self, ticket: Ticket) -> None:
        self._count -= 1
        self._queued[ticket.tenant] -= 1
        if not self._queued[ticket.tenant]:
            del self._queued[ticket.tenant]

    def _forget(self, expert_id: ExpertId) -> None:
        self._queues.pop(expert_id, None)
        self._start_by_s.pop(expert_id, None)
        self._waits.pop(expert_id, None)

    def by_arrival(self) -> list[ExpertId]:
        """The experts, longest wait first."""
        return sorted(self._queues, key=lambda expert_id: self.first(expert_id).arrived_s)

    def check_invariants(self) -> None:
        """Raise AssertionError if a queue is wrong."""
        if self._count != sum(map(len, self._queues.values())) or self._queues.keys() != self._start_by_s.keys():
            raise AssertionError("the queues are counted wrong")
        if self._queued != Counter(ticket.tenant for ticket in self):
            raise AssertionError("the tenants are counted wrong")
        for expert_id, queue in self._queues.items():
            if self._start_by_s[expert_id] != min(ticket.start_by_s for ticket in queue):
                raise AssertionError(f"the queue of {expert_id!r} has another deadline")
            counts = Counter(ticket.tenant for ticket in queue)
            if counts != Counter({tenant: count for tenant, (count, _) in self._waits[expert_id].items()}):
                raise AssertionError(f"the tenants in the queue of {expert_id!r} are counted wrong")
            if not queue or any(t.resident is not None or t.expert_id != expert_id for t in queue):
                raise AssertionError(f"the queue of {expert_id!r} is wrong: {list(queue)}")
