"""The words of residency: frozen values, no behaviour beyond their own facts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experts.types import ExpertId


class ResidentState(StrEnum):
    """Where a resident stands between its first and its last byte on the device."""

    LOADING = "loading"
    READY = "ready"
    UNLOADING = "unloading"


@dataclass(slots=True, eq=False)
class Resident:
    """One stay of an expert on the device, from the start of its load to the end of its unload.

    A crashed expert that is loaded again is a new Resident: leases on the old one end with it. leases: counted pins;
    above 0 it is not evictable. load_s: how long its load took, once it is ready.
    """

    expert_id: ExpertId
    device_bytes: int
    state: ResidentState = ResidentState.LOADING
    leases: int = 0
    last_used_s: float = 0.0
    load_s: float = 0.0

    @property
    def evictable(self) -> bool:
        """Whether the planner may choose it as a victim."""
        return self.state is ResidentState.READY and self.leases == 0


@dataclass(slots=True, eq=False)
class Ticket:
    """One request for a lease, from its arrival to its withdrawal. cold: it had to wait for a load."""

    expert_id: ExpertId
    arrived_s: float
    resident: Resident | None = None
    cold: bool = False


@dataclass(frozen=True, slots=True)
class Grant:
    """Effect: `ticket` now holds a pin on its resident."""

    ticket: Ticket


@dataclass(frozen=True, slots=True)
class Fail:
    """Effect: `ticket` will never be granted."""

    ticket: Ticket
    error: Exception


@dataclass(frozen=True, slots=True)
class Load:
    """Effect: bring `resident` up, then report `loaded` or `load_failed`."""

    resident: Resident


@dataclass(frozen=True, slots=True)
class Unload:
    """Effect: take `resident` down, then report `unloaded`."""

    resident: Resident


Effect = Grant | Fail | Load | Unload
