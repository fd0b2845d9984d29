"""Bytes on the device, accounted from the first byte of a load to the last byte of an unload."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experts.errors import TierFull
from memory_tiers.types import Resident, ResidentState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from experts.types import ExpertId


class Ledger:
    """The residents of one device and the bytes they take. It refuses to overdraw; it decides nothing."""

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self._residents: dict[ExpertId, Resident] = {}

    def __iter__(self) -> Iterator[Resident]:
        return iter(self._residents.values())

    def get(self, expert_id: ExpertId) -> Resident | None:
        """The expert's current stay, in whatever state."""
        return self._residents.get(expert_id)

    @property
    def used_bytes(self) -> int:
        """Bytes taken or still being given back."""
        return sum(r.device_bytes for r in self._residents.values())

    @property
    def free_bytes(self) -> int:
        """Bytes a new resident may take at once."""
        return self.budget_bytes - self.used_bytes

    def admit(self, resident: Resident) -> None:
        """Book a new stay before its load starts. Raises: TierFull: the bytes are not free."""
        if resident.device_bytes > self.free_bytes:
            raise TierFull(
                f"expert {resident.expert_id!r} needs {resident.device_bytes} bytes, {self.free_bytes} are free",
            )
        if resident.expert_id in self._residents:
            raise ValueError(f"expert {resident.expert_id!r} is booked already")
        self._residents[resident.expert_id] = resident

    def discharge(self, resident: Resident) -> None:
        """Give a stay's bytes back. Discharging it twice, or after another stay began, does nothing."""
        if self._residents.get(resident.expert_id) is resident:
            del self._residents[resident.expert_id]

    def check_invariants(self) -> None:
        """Raise AssertionError if the books are wrong; tests call it after every event."""
        if not 0 <= self.used_bytes <= self.budget_bytes:
            raise AssertionError(f"{self.used_bytes} bytes are used of a budget of {self.budget_bytes}")
        for expert_id, resident in self._residents.items():
            if resident.expert_id != expert_id:
                raise AssertionError(f"{resident.expert_id!r} is booked under {expert_id!r}")
            if resident.leases < 0:
                raise AssertionError(f"{expert_id!r} has {resident.leases} leases")
            if resident.leases and resident.state is not ResidentState.READY:
                raise AssertionError(f"{expert_id!r} is leased while {resident.state}")
