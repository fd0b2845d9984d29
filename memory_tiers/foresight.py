"""What to bring in while nobody waits: to host memory what is likeliest, to a device what beats who is idle there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from experts.errors import TierFull
from memory_tiers.eviction_set import cheapest_set
from memory_tiers.policies.default import Default
from memory_tiers.types import Resident, ResidentState

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from experts.types import ExpertId
    from memory_tiers.host_tier import HostTier
    from memory_tiers.ledger import DeviceLedger
    from memory_tiers.policies import EvictionPolicy
    from memory_tiers.rules import Rules
    from memory_tiers.types import Footprint


@dataclass(frozen=True, slots=True)
class Foreseen:
    """One move: read `stage` into host memory, or load `load` on `device` once `victims` are gone."""

    stage: ExpertId | None = None
    load: ExpertId | None = None
    device: int = 0
    victims: tuple[Resident, ...] = ()


class Foresight:
    """Guesses by the policy's own predictor; a policy without one foresees nothing.

    reload_s: what loading an expert takes from where its weights are now, or would be once it left its device.
    """

    def __init__(
        self,
        policy: EvictionPolicy,
        ledger: DeviceLedger,
        host: HostTier,
        footprints: Mapping[ExpertId, Footprint],
        rules: Rules,
        *,
        reload_s: Callable[[ExpertId], float],
    ) -> None:
        self._predictor = policy.predictor if isinstance(policy, Default) and rules.prefetch else None
        self._ledger = ledger
        self._host = host
        self._footprints = footprints
        self._rules = rules
        self._reload_s = reload_s

    def next_move(self, now_s: float, pinned: Collection[ExpertId], resting: Collection[ExpertId]) -> Foreseen | None:
        """The best move, if one is worth it while nobody waits. pinned: who stays. resting: who is not to be tried."""
        if self._predictor is None or any(r.state is not ResidentState.READY for r in self._ledger):
            return None
        known = [e for e in self._predictor.known if e in self._footprints and e not in resting]
        chances = dict(zip(known, self._predictor.next_request(known), strict=True))
        return self._load(chances, now_s, pinned) or self._stage(chances)

    def _stage(self, chances: Mapping[ExpertId, float]) -> Foreseen | None:
        absent = [e for e in chances if self._host.can_hold(e) and self._host.ledger.get(e) is None]
        free = self._host.ledger.free_bytes
        fitting = [e for e in absent if self._footprints[e].host_bytes <= free]
        if not fitting:
            return None
        away = [e for e in fitting if self._ledger.get(e) is None]
        return Foreseen(stage=max(away or fitting, key=lambda e: chances[e]))

    def _load(self, chances: Mapping[ExpertId, float], now_s: float, pinned: Collection[ExpertId]) -> Foreseen | None:
        """The one that saves most seconds, if these are more than losing those costs who would have to go for it.

        One without a copy in host memory is dear to lose, however rarely it is asked for: it would be read again.
        """
        ready = [
            e
            for e in chances
            if self._ledger.get(e) is None
            and self._footprints[e].device_bytes
            and (self._host.holds(e) or not self._host.can_hold(e))
        ]
        if not ready:
            return None
        best = max(ready, key=lambda e: chances[e] * self._reload_s(e))
        saves_s = chances[best] * self._reload_s(best)
        need = self._footprints[best].device_bytes
        for device in self._footprints[best].devices(len(self._ledger.budgets_bytes)):
            missing = need - self._ledger.free_bytes(device)
            settled_s = now_s - self._rules.quantum_s
            idle = [
                r
                for r in self._ledger
                if r.device == device and r.evictable and r.ready_s <= settled_s and r.expert_id not in pinned
            ]
            losses = [chances.get(r.expert_id, 0.0) * self._reload_s(r.expert_id) for r in idle]
            try:
                places = cheapest_set([r.device_bytes for r in idle], losses, missing)
            except TierFull:
                continue
            if saves_s > self._rules.better_by * sum(losses[place] for place in places):
                return Foreseen(load=best, device=device, victims=tuple(idle[place] for place in places))
        return None
