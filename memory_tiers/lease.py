"""The one call in which the request plane and the residency plane meet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from memory_tiers.types import ANYBODY

if TYPE_CHECKING:
    from types import TracebackType

    from experts.types import ExpertId
    from memory_tiers.types import Asker, Resident, Ticket


class _Leasing(Protocol):
    async def acquire(self, expert_id: ExpertId, asker: Asker = ANYBODY) -> Ticket: ...

    def release(self, ticket: Ticket) -> None: ...


class Lease:
    """Keeps one expert on the device for the body of `async with`.

    Cancellation is safe while queued, granted-not-yet-awake, or held. A class rather than a generator: this stands
    on the path of every request. cold: whether the request had to wait for a load.
    """

    __slots__ = ("_asker", "_expert_id", "_owner", "_ticket")

    def __init__(self, owner: _Leasing, expert_id: ExpertId, asker: Asker = ANYBODY) -> None:
        self._owner = owner
        self._expert_id = expert_id
        self._asker = asker
        self._ticket: Ticket | None = None

    @property
    def cold(self) -> bool:
        """Whether the expert was not ready when it was asked for."""
        return self._ticket is not None and self._ticket.cold

    async def __aenter__(self) -> Resident:
        self._ticket = await self._owner.acquire(self._expert_id, self._asker)
        resident = self._ticket.resident
        if resident is None:  # pragma: no cover - acquire returns granted tickets only
            raise AssertionError(f"{self._expert_id!r} was granted without a resident")
        return resident

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ticket is not None:
            self._owner.release(self._ticket)
