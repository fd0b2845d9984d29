"""What a scheduler has done so far, counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memory_tiers.types import Resident, Tier


@dataclass(slots=True)
class Tally:
    """Counts since the start.

    hits: requests whose expert was ready. loads: by the tier they came from. stagings: readings of weights into host
    memory. refused: requests that waited their time for nothing.
    foreseen: loads that were under way or done before anybody asked; hidden: those that somebody then asked for;
    wasted: those that went unused.
    """

    requests: int = 0
    hits: int = 0
    loads: Counter[Tier] = field(default_factory=Counter)
    stagings: int = 0
    evictions: int = 0
    refused: int = 0
    moved_bytes: int = 0
    foreseen: int = 0
    hidden: int = 0
    wasted: int = 0

    def joined(self, resident: Resident) -> None:
        """Note a request for a ready expert."""
        self.requests += 1
        self.hits += 1
        self.hidden += resident.foreseen

    def missed(self, resident: Resident | None) -> None:
        """Note a request that has to wait, perhaps for a load that began before it."""
        self.requests += 1
        if resident is not None:
            self.hidden += resident.foreseen

    def evicted(self, resident: Resident) -> None:
        """Note that a resident has to go."""
        self.evictions += 1
        self.wasted += resident.foreseen
