"""Who is worth keeping: one small class for each policy, by name in `POLICIES`. Pure: no clock, no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from memory_tiers.policies.belady import LookaheadBelady
from memory_tiers.policies.costing import Gdsf, KeepScore
from memory_tiers.policies.counting import Lfu, Lru
from memory_tiers.policies.default import Default
from memory_tiers.policies.mrs import Mrs
from memory_tiers.policies.policy import Candidate, EvictionPolicy, Foresighted, Use
from memory_tiers.policies.queues import Arc, S3Fifo

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["POLICIES", "Candidate", "EvictionPolicy", "Foresighted", "Use"]

POLICIES: Final[dict[str, Callable[[], EvictionPolicy]]] = {
    policy.name: policy for policy in (Lru, Lfu, Gdsf, Mrs, S3Fifo, Arc, KeepScore, LookaheadBelady, Default)
}
