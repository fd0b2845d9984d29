"""Bytes of a tier, accounted from the first byte that comes to the last byte that goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experts.errors import TierFull
from memory_tiers.types import HostCopy, Resident, ResidentState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from experts.types import ExpertId


class DeviceLedger:
    """The residents of some devices and the bytes they take. It refuses to overdraw; it decides nothing."""

    def __init__(self, budgets_bytes: Sequence[int]) -> None:
        self.budgets_bytes = list(budgets_bytes)
        self._residents: dict[ExpertId, Resident] = {}
        self._used = [0] * len(self.budgets_bytes)

    def __iter__(self) -> Iterator[Resident]:
        return iter(self._residents.values())

    def get(self, expert_id: ExpertId) -> Resident | None:
        """The expert's current stay, in whatever state."""
        return self._residents.get(expert_id)

    @property
    def used_bytes(self) -> int:
        """Bytes taken or still being given back, on all devices."""
        return sum(self._used)

    @property
    def budget_bytes(self) -> int:
        """Bytes there are on all devices."""
        return sum(self.budgets_bytes)

    def free_bytes(self, device: int) -> int:
        """Bytes a new resident may take at once; below 0 while a budget that was cut is not kept yet."""
        return self.budgets_bytes[device] - self._used[device]

    def admit(self, resident: Resident) -> None:
        """Book a new stay before its load starts. Raises: TierFull: the bytes are not free."""
        free = self.free_bytes(resident.device)
        if resident.device_bytes > max(free, 0):  # an expert elsewhere takes nothing of a budget that was cut
            raise TierFull(f"expert {resident.expert_id!r} needs {resident.device_bytes} bytes, {free} are free")
        if resident.expert_id in self._residents:
            raise ValueError(f"expert {resident.expert_id!r} is booked already")
        self._residents[resident.expert_id] = resident
        self._used[resident.device] += resident.device_bytes

    def discharge(self, resident: Resident) -> None:
        """Give a stay's bytes back. Discharging it twice, or after another stay began, does nothing."""
        if self._residents.get(resident.expert_id) is resident:
            del self._residents[resident.expert_id]
            self._used[resident.device] -= resident.device_bytes

    def check_invariants(self) -> None:
        """Raise AssertionError if the books are wrong; tests call it after every event."""
        used = [0] * len(self._used)
        for expert_id, resident in self._residents.items():
            used[resident.device] += resident.device_bytes
            if resident.expert_id != expert_id:
                raise AssertionError(f"{resident.expert_id!r} is booked under {expert_id!r}")
            if resident.leases < 0:
                raise AssertionError(f"{expert_id!r} has {resident.leases} leases")
            if resident.leases and resident.state is not ResidentState.READY:
                raise AssertionError(f"{expert_id!r} is leased while {resident.state}")
        if used != self._used:
            raise AssertionError(f"{self._used} bytes are booked, the residents take {used}")


class HostLedger:
    """The copies in host memory and the bytes they take."""

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self._copies: dict[ExpertId, HostCopy] = {}

    def __iter__(self) -> Iterator[HostCopy]:
        return iter(self._copies.values())

    def get(self, expert_id: ExpertId) -> HostCopy | None:
        """The expert's copy, in whatever state."""
        return self._copies.get(expert_id)

    @property
    def used_bytes(self) -> int:
        """Bytes taken or still being given back."""
        return sum(copy.host_bytes for copy in self._copies.values())

    @property
    def free_bytes(self) -> int:
        """Bytes a new copy may take at once."""
        return self.budget_bytes - self.used_bytes

    def admit(self, copy: HostCopy) -> None:
        """Book a copy before its first byte is read. Raises: TierFull: the bytes are not free."""
        if copy.host_bytes > self.free_bytes:
            raise TierFull(f"a copy of {copy.expert_id!r} needs {copy.host_bytes} bytes, {self.free_bytes} are free")
        if copy.expert_id in self._copies:
            raise ValueError(f"a copy of {copy.expert_id!r} is booked already")
        self._copies[copy.expert_id] = copy

    def discharge(self, copy: HostCopy) -> None:
        """Give a copy's bytes back; doing so twice does nothing."""
        if self._copies.get(copy.expert_id) is copy:
            del self._copies[copy.expert_id]

    def check_invariants(self) -> None:
        """Raise AssertionError if the books are wrong."""
        if any(copy.readers < 0 for copy in self._copies.values()):
            raise AssertionError("a copy has fewer than no readers")
        if any(expert_id != copy.expert_id for expert_id, copy in self._copies.items()):
            raise AssertionError("a copy is booked under another expert")
