"""Host memory: whose weights are held there, so that a load reads no disk. Pure: decides, and returns effects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from experts.errors import TierFull
from memory_tiers.costs import DISK_TO_HOST
from memory_tiers.eviction_set import plan_eviction_set
from memory_tiers.ledger import HostLedger
from memory_tiers.policies import Candidate
from memory_tiers.types import CopyState, Drop, HostCopy, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from experts.types import ExpertId
    from memory_tiers.costs import MoveCosts
    from memory_tiers.policies import EvictionPolicy
    from memory_tiers.types import Effect, Footprint

_RESIDENT_SHARE: Final = 0.2  # what a copy is worth while its expert is on a device: it is needed once that one went


class HostTier:
    """The copies in host memory and the readings from disk under way.

    is_resident: whether an expert is on a device, coming included. stagings: readings at once.
    """

    def __init__(
        self,
        footprints: Mapping[ExpertId, Footprint],
        budget_bytes: int,
        *,
        policy: EvictionPolicy,
        costs: MoveCosts,
        is_resident: Callable[[ExpertId], bool],
        stagings: int = 1,
    ) -> None:
        self.ledger = HostLedger(budget_bytes)
        self._footprints = footprints
        self._policy = policy
        self._costs = costs
        self._is_resident = is_resident
        self._stagings = stagings
        self._unstageable: set[ExpertId] = set()
        self._distrusted: set[ExpertId] = set()  # until a load from disk shows that the weights are good

    def can_hold(self, expert_id: ExpertId) -> bool:
        """Whether the expert's weights are ever read into host memory first."""
        need = self._footprints[expert_id].host_bytes
        fits = 0 < need <= self.ledger.budget_bytes
        return fits and expert_id not in self._unstageable and expert_id not in self._distrusted

    def holds(self, expert_id: ExpertId) -> bool:
        """Whether its weights are there in full."""
        copy = self.ledger.get(expert_id)
        return copy is not None and copy.state is CopyState.READY

    def demand(self, expert_id: ExpertId, wanted: set[ExpertId], now_s: float) -> list[Effect]:
        """Start reading what somebody waits for; a reading that nobody asked for gives way.

        wanted: experts that requests wait for; their copies stay.
        """
        copy = self.ledger.get(expert_id)
        if copy is not None:
            copy.foreseen = False
            return []
        effects: list[Effect] = []
        if self._reading() >= self._stagings:
            guess = next((c for c in self.ledger if c.state is CopyState.STAGING and c.foreseen), None)
            if guess is None or guess.expert_id in wanted:
                return []
            return [self._drop(guess)]  # once it is gone, `dropped` asks again
        need = self._footprints[expert_id].host_bytes
        if need > self.ledger.free_bytes:
            going = sum(c.host_bytes for c in self.ledger if c.state is CopyState.DROPPING)
            effects = list(self._make_room(need - going, wanted, now_s))
            if need > self.ledger.free_bytes:
                return effects
        return [*effects, self._stage(expert_id, foreseen=False)]

    def foresee(self, expert_id: ExpertId) -> list[Effect]:
        """Start reading what may be asked for, into room that is free, if nothing else is being read."""
        fits = self._footprints[expert_id].host_bytes <= self.ledger.free_bytes
        if self._reading() or not fits or self.ledger.get(expert_id) is not None:
            return []
        return [self._stage(expert_id, foreseen=True)]

    def staged(self, copy: HostCopy) -> None:
        """A reading ended well."""
        if copy.state is CopyState.STAGING:
            copy.state = CopyState.READY

    def stage_failed(self, copy: HostCopy) -> None:
        """A reading ended badly: from now on the expert is loaded from disk, where its load says what is wrong."""
        self.ledger.discharge(copy)
        if copy.state is CopyState.STAGING:
            self._unstageable.add(copy.expert_id)

    def dropped(self, copy: HostCopy) -> None:
        """A copy's memory is back."""
        self.ledger.discharge(copy)

    def distrust(self, expert_id: ExpertId) -> list[Effect]:
        """Give a copy up that a load from it failed on: the next load reads the disk, and so do those after it."""
        self._distrusted.add(expert_id)
        copy = self.ledger.get(expert_id)
        return [] if copy is None or copy.readers or copy.state is not CopyState.READY else [self._drop(copy)]

    def trust(self, expert_id: ExpertId) -> None:
        """A load from disk ended well: it was the copy that was bad, and a new one may be made."""
        self._distrusted.discard(expert_id)

    def _make_room(self, need_bytes: int, wanted: set[ExpertId], now_s: float) -> list[Effect]:
        idle = {
            c.expert_id: c
            for c in self.ledger
            if c.state is CopyState.READY and not c.readers and c.expert_id not in wanted
        }
        candidates = [Candidate(e, c.host_bytes, self._reload_s(e, c.host_bytes)) for e, c in idle.items()]
        losses = self._policy.keep_scores(candidates, now_s)
        worth = [
            loss * (_RESIDENT_SHARE if self._is_resident(c.expert) else 1.0)
            for c, loss in zip(candidates, losses, strict=True)
        ]
        least = min(worth, default=0.0)
        lifted = [own - min(least, 0.0) for own in worth]  # some policies score below 0
        try:
            victims = plan_eviction_set(candidates, lifted, need_bytes - self.ledger.free_bytes)
        except TierFull:
            return []
        return [self._drop(idle[victim.expert]) for victim in victims]

    def _reload_s(self, expert_id: ExpertId, size_bytes: int) -> float:
        return self._costs.seconds(expert_id, DISK_TO_HOST, size_bytes)

    def _reading(self) -> int:
        return sum(c.state is CopyState.STAGING for c in self.ledger)

    def _stage(self, expert_id: ExpertId, *, foreseen: bool) -> Stage:
        copy = HostCopy(expert_id, self._footprints[expert_id].host_bytes, foreseen=foreseen)
        self.ledger.admit(copy)
        return Stage(copy)

    def _drop(self, copy: HostCopy) -> Drop:
        copy.state = CopyState.DROPPING
        return Drop(copy)
