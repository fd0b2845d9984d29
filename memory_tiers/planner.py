"""Who has to go so that another fits. Pure: no clock, no I/O, no logging."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experts.errors import TierFull
from memory_tiers.eviction_set import cheapest_set

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from experts.types import ExpertId
    from memory_tiers.types import Resident


def plan_eviction(residents: Iterable[Resident], need_bytes: int, capacity_bytes: int) -> tuple[Resident, ...]:
    """Pick the victims, least recently used first, so that `need_bytes` more fit; () when they fit already.

    No victim is superfluous: one that is not needed after all, because a larger one followed it, is spared.

    Raises: TierFull: even with every unleased expert gone, `need_bytes` do not fit.
    """
    present = tuple(residents)
    missing = need_bytes - (capacity_bytes - sum(r.device_bytes for r in present))
    victims: list[Resident] = []
    for resident in sorted((r for r in present if r.evictable), key=lambda r: r.last_used_s):
        if missing <= 0:
            break
        victims.append(resident)
        missing -= resident.device_bytes
    if missing > 0:
        raise TierFull(f"{need_bytes} bytes do not fit a capacity of {capacity_bytes}: {missing} are held by leases")
    return tuple(_without_superfluous(victims, spare_bytes=-missing))


def plan_cheapest_eviction(
    residents: Iterable[Resident], losses: Mapping[ExpertId, float], need_bytes: int, capacity_bytes: int
) -> tuple[Resident, ...]:
    """Pick the victims at the smallest summed loss so that `need_bytes` more fit; () when they fit already.

    losses: what it costs to lose each evictable resident, in seconds or any other unit that adds up.

    Raises: TierFull: even with every unleased expert gone, `need_bytes` do not fit.
    """
    present = tuple(residents)
    missing = need_bytes - (capacity_bytes - sum(r.device_bytes for r in present))
    able = [r for r in present if r.evictable]
    places = cheapest_set([r.device_bytes for r in able], [losses[r.expert_id] for r in able], missing)
    return tuple(able[place] for place in places)


def _without_superfluous(victims: list[Resident], spare_bytes: int) -> list[Resident]:
    """Drop, most recently used first, each victim whose bytes are all spare."""
    kept: list[Resident] = []
    for victim in reversed(victims):
        if victim.device_bytes <= spare_bytes:
            spare_bytes -= victim.device_bytes
        else:
            kept.append(victim)
    kept.reverse()
    return kept
