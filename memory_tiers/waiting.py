"""Who waits for an expert, and who is next. Pure."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from experts.types import ExpertId
    from memory_tiers.types import Ticket


class Waiting:
    """A queue for each expert."""

    def __init__(self) -> None:
        self._queues: dict[ExpertId, deque[Ticket]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

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

    def remove(self, ticket: Ticket) -> bool:
        """Take a ticket out; False: it was not there."""
        queue = self._queues.get(ticket.expert_id)
        if queue is None or ticket not in queue:
            return False
        queue.remove(ticket)
        if not queue:
            del self._queues[ticket.expert_id]
        return True

    def take(self, expert_id: ExpertId) -> tuple[Ticket, ...]:
        """Take everyone out who waits for an expert, first come first."""
        return tuple(self._queues.pop(expert_id, ()))

    def clear(self) -> tuple[Ticket, ...]:
        """Take everyone out."""
        everyone = tuple(self)
        self._queues.clear()
        return everyone

    def first(self, expert_id: ExpertId) -> Ticket:
        """Who has waited longest for an expert."""
        return self._queues[expert_id][0]

    def start_by_s(self, expert_id: ExpertId) -> float:
        """When the first of those who wait for an expert has to hold a lease."""
        return min(ticket.start_by_s for ticket in self._queues[expert_id])

    def order(self, urgent: Callable[[ExpertId], bool]) -> list[ExpertId]:
        """The experts, next first: those whose time runs out, then those that most requests wait for.

        Grouping by expert is what keeps swaps few; the first rule keeps it from starving the rarely asked.
        """

        def key(expert_id: ExpertId) -> tuple[bool, float, float]:
            runs_out = urgent(expert_id)
            rank = self.start_by_s(expert_id) if runs_out else -len(self._queues[expert_id])
            return not runs_out, rank, self.first(expert_id).arrived_s

        return sorted(self._queues, key=key)

    def by_arrival(self) -> list[ExpertId]:
        """The experts, longest wait first."""
        return sorted(self._queues, key=lambda expert_id: self.first(expert_id).arrived_s)

    def check_invariants(self) -> None:
        """Raise AssertionError if a queue is wrong."""
        for expert_id, queue in self._queues.items():
            if not queue or any(t.resident is not None or t.expert_id != expert_id for t in queue):
                raise AssertionError(f"the queue of {expert_id!r} is wrong: {list(queue)}")
