"""What an eviction policy is told and what it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experts.types import ExpertId


@dataclass(frozen=True, slots=True)
class Use:
    """One request for an expert, hit or miss, told in order of arrival."""

    expert: ExpertId
    now_s: float
    session: str | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """Somebody who could be evicted. reload_s: what bringing it back would take, from running measurements."""

    expert: ExpertId
    size_bytes: int
    reload_s: float


class EvictionPolicy(Protocol):
    """Says who is worth keeping; it evicts nobody itself.

    A request is told by `used`; if it misses, `keep_scores` may be asked, then `evicted` and `admitted` follow. They
    may also come without a use before them: a prefetch admits, a crash evicts. Asking for scores changes nothing.
    """

    name: ClassVar[str]

    def used(self, use: Use) -> None:
        """Note a request, hit or miss."""

    def admitted(self, expert: ExpertId, now_s: float) -> None:
        """Note that `expert` came into the tier."""

    def evicted(self, expert: ExpertId, now_s: float) -> None:
        """Note that `expert` left the tier, by this policy's scores or otherwise."""

    def keep_scores(self, candidates: Sequence[Candidate], now_s: float) -> list[float]:
        """What each candidate is worth keeping, in their order: the smallest goes first."""


@runtime_checkable
class Foresighted(Protocol):
    """A policy that makes use of what waits in the queue."""

    def upcoming(self, experts: Sequence[ExpertId]) -> None:
        """The experts of the requests that wait, the next one first; holds until it is told anew."""
