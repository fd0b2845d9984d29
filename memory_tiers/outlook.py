"""How long things will take as they stand: what a load needs from where its weights are, and when it has to begin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from memory_tiers.costs import DISK_TO_DEVICE, DISK_TO_HOST, HOST_TO_DEVICE
from memory_tiers.deadlines import Due, begin_by

if TYPE_CHECKING:
    from collections.abc import Mapping

    from experts.types import ExpertId
    from memory_tiers.costs import MoveCosts
    from memory_tiers.host_tier import HostTier
    from memory_tiers.types import Footprint
    from memory_tiers.waiting import Waiting

_NEWEST: Final = 0.1  # the share of the latest lease in what leases are expected to take


class Outlook:
    """Estimates from running measurements; it decides nothing."""

    def __init__(
        self, footprints: Mapping[ExpertId, Footprint], host: HostTier, queue: Waiting, costs: MoveCosts
    ) -> None:
        self._footprints = footprints
        self._host = host
        self._queue = queue
        self._costs = costs
        self._lease_s = 0.0

    def lease_ended(self, lasted_s: float) -> None:
        """Note how long an expert was in use."""
        self._lease_s += _NEWEST * (lasted_s - self._lease_s)

    def begin_by_s(self) -> dict[ExpertId, float]:
        """Of each expert that is waited for, from when on it comes before those that are not pressed."""
        return begin_by([self._due(expert_id) for expert_id in self._queue.experts])

    def load_s(self, expert_id: ExpertId) -> float:
        """Until it would be ready, from where its weights are now."""
        seconds = self._last_leg_s(expert_id)
        return seconds if self._host.holds(expert_id) else seconds + self.stage_s(expert_id)

    def stage_s(self, expert_id: ExpertId) -> float:
        """What reading the weights into host memory takes; 0 for those that never are."""
        if not self._host.can_hold(expert_id):
            return 0.0
        return self._costs.seconds(expert_id, DISK_TO_HOST, self._footprints[expert_id].host_bytes)

    def _last_leg_s(self, expert_id: ExpertId) -> float:
        move = HOST_TO_DEVICE if self._host.can_hold(expert_id) else DISK_TO_DEVICE
        return self._costs.seconds(expert_id, move, self._footprints[expert_id].device_bytes)

    def _due(self, expert_id: ExpertId) -> Due:
        """Running answers have to end before it is loaded, and one of them may have begun just now."""
        reads_s = 0.0 if self._host.holds(expert_id) else self.stage_s(expert_id)
        then_s = 2 * self._lease_s + self._last_leg_s(expert_id)
        return Due(expert_id, self._queue.start_by_s(expert_id), reads_s, then_s)
