"""The words of residency: values, no behaviour beyond their own facts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experts.types import ExpertId


class Tier(StrEnum):
    """Where weights can lie, the fastest first."""

    DEVICE = "device"
    HOST = "host"
    DISK = "disk"


class ResidentState(StrEnum):
    """Where a resident stands between its first and its last byte on the device."""

    LOADING = "loading"
    READY = "ready"
    UNLOADING = "unloading"


class CopyState(StrEnum):
    """Where a host copy stands."""

    STAGING = "staging"
    READY = "ready"
    DROPPING = "dropping"


@dataclass(frozen=True, slots=True)
class Footprint:
    """What an expert takes on a device, and what a copy of its weights takes in host memory; 0: it is not staged.

    device: the only one that it can be on; None: any.
    """

    device_bytes: int
    host_bytes: int = 0
    device: int | None = None

    def devices(self, count: int) -> Sequence[int]:
        """Which of `count` devices it can be on."""
        return range(count) if self.device is None else (self.device,)


@dataclass(slots=True, eq=False)
class Resident:
    """One stay of an expert on a device, from the start of its load to the end of its unload.

    A crashed expert that is loaded again is a new Resident: leases on the old one end with it. leases: counted pins;
    above 0 it is not evictable. draining: it takes no new leases, since somebody waits for its room. source: the tier
    it is loaded from. foreseen: nobody had asked for it when its load began, nor since. load_s: how long its load
    took, once it is ready.
    """

    expert_id: ExpertId
    device_bytes: int
    device: int = 0
    source: Tier = Tier.DISK
    state: ResidentState = ResidentState.LOADING
    leases: int = 0
    draining: bool = False
    foreseen: bool = False
    last_used_s: float = 0.0
    ready_s: float = 0.0
    load_s: float = 0.0

    @property
    def evictable(self) -> bool:
        """Whether the planner may choose it as a victim."""
        return self.state is ResidentState.READY and self.leases == 0

    @property
    def open(self) -> bool:
        """Whether a request may join it at once."""
        return self.state is ResidentState.READY and not self.draining


@dataclass(slots=True, eq=False)
class HostCopy:
    """An expert's weights in host memory. readers: loads that read it just now; above 0 it stays."""

    expert_id: ExpertId
    host_bytes: int
    state: CopyState = CopyState.STAGING
    foreseen: bool = False
    readers: int = 0


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks for a lease. session: whose conversation; tenant: who shares the queues with others on equal terms.

    max_wait_s: within which the lease is to be held; None: the rules' own bound.
    """

    session: str | None = None
    tenant: str | None = None
    max_wait_s: float | None = None


ANYBODY: Final = Asker()


@dataclass(slots=True, eq=False)
class Ticket:
    """One request for a lease, from its arrival to its withdrawal.

    start_by_s: when at the latest it should hold its lease. cold: it had to wait for a load.
    """

    expert_id: ExpertId
    arrived_s: float
    start_by_s: float = float("inf")
    tenant: str | None = None
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
    """Effect: bring `resident` up from its source, then report `loaded` or `load_failed`."""

    resident: Resident


@dataclass(frozen=True, slots=True)
class Unload:
    """Effect: take `resident` down, then report `unloaded`."""

    resident: Resident


@dataclass(frozen=True, slots=True)
class Stage:
    """Effect: read the weights into host memory, then report `staged` or `stage_failed`."""

    copy: HostCopy


@dataclass(frozen=True, slots=True)
class Drop:
    """Effect: give a host copy's memory back, ending its staging if it is under way, then report `dropped`."""

    copy: HostCopy


Effect = Grant | Fail | Load | Unload | Stage | Drop
