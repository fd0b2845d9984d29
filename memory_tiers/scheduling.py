"""What owns the state of residency, as whoever carries its effects out sees it; and the one the product uses, made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from memory_tiers.policies import POLICIES
from memory_tiers.scheduler import Scheduler
from memory_tiers.types import ANYBODY, Footprint

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from experts.types import ExpertId, ExpertSpec
    from memory_tiers.ledger import DeviceLedger
    from memory_tiers.rules import Rules
    from memory_tiers.tally import Tally
    from memory_tiers.types import Asker, Effect, HostCopy, Resident, Ticket, Tier


class Scheduling(Protocol):
    """Events in, effects out. Every method but the readings is one event and returns what must happen next."""

    tally: Tally
    ledger: DeviceLedger
    pinned: set[ExpertId]

    @property
    def waiting(self) -> int:
        """How many tickets are queued."""

    @property
    def host_used_bytes(self) -> int:
        """Bytes booked for copies in host memory."""

    @property
    def host_budget_bytes(self) -> int:
        """Bytes there are for copies."""

    def request(self, expert_id: ExpertId, now_s: float, asker: Asker = ANYBODY) -> tuple[Ticket, list[Effect]]:
        """A request arrives. A ticket that comes back with its `resident` set is granted."""

    def withdraw(self, ticket: Ticket, now_s: float) -> list[Effect]:
        """A ticket ends, queued or granted; ending it again does nothing."""

    def loaded(self, resident: Resident, now_s: float, took_s: float | None = None) -> list[Effect]:
        """A load ended well."""

    def load_failed(self, resident: Resident, error: Exception, now_s: float) -> list[Effect]:
        """A load ended badly."""

    def unloaded(self, resident: Resident, now_s: float) -> list[Effect]:
        """An unload ended."""

    def crashed(self, resident: Resident, now_s: float) -> list[Effect]:
        """A ready expert went down by itself."""

    def staged(self, copy: HostCopy, now_s: float, took_s: float | None = None) -> list[Effect]:
        """Weights are in host memory."""

    def stage_failed(self, copy: HostCopy, now_s: float) -> list[Effect]:
        """Weights could not be read into host memory."""

    def dropped(self, copy: HostCopy, now_s: float) -> list[Effect]:
        """A host copy's memory is back."""

    def tick(self, now_s: float) -> list[Effect]:
        """Time has passed: what `wake_at_s` announced is due."""

    def wake_at_s(self, now_s: float) -> float:
        """When something is to be decided anew though no event comes."""

    def placement(self, order: Sequence[ExpertId]) -> list[tuple[ExpertId, Tier]]:
        """Where these would go if nothing were there yet, the likeliest first."""

    def bring(self, expert_id: ExpertId, tier: Tier) -> list[Effect]:
        """Have an expert in a tier before anybody asks, if it fits what is free."""

    def evict(self, expert_id: ExpertId) -> list[Effect]:
        """Take an idle expert off its device."""

    def close(self) -> list[Effect]:
        """Refuse whoever waits and take every idle expert down."""

    def check_invariants(self) -> None:
        """Raise AssertionError if the books are wrong."""


def footprints_of(specs: Iterable[ExpertSpec]) -> dict[ExpertId, Footprint]:
    """What each expert takes, by what its configuration says."""
    return {spec.id: Footprint(spec.device_bytes, spec.host_bytes, spec.device) for spec in specs}


def scheduler_of(
    specs: Iterable[ExpertSpec],
    budgets_bytes: Sequence[int],
    host_bytes: int = 0,
    *,
    rules: Rules | None = None,
    policy: str = "default",
) -> Scheduler:
    """Make the product's scheduler. budgets_bytes: of each device. policy: a name of POLICIES."""
    return Scheduler(footprints_of(specs), budgets_bytes, host_bytes, rules=rules, policy=POLICIES[policy])
