"""S3-FIFO and ARC: policies that are defined by lists, told here by the order in which their lists would evict.

Neither is told how many experts fit, since sizes differ; the most residents there have been at once stands for it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from experts.types import ExpertId
    from memory_tiers.policies.policy import Candidate, Use

_Queue = OrderedDict["ExpertId", int]
_MOST_USES: Final = 3


class S3Fifo:
    """A small queue that newcomers must survive, a main queue, and ghosts of those that did not.

    Whoever was used more than once in the small queue moves to the main one, and whoever was used in the main queue
    gets another round of it for each use. small_ratio: the small queue's share of the residents.
    Source: Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023.
    """

    name: ClassVar[str] = "s3-fifo"

    def __init__(self, *, small_ratio: float = 0.1) -> None:
        self._small_ratio = small_ratio
        self._small: _Queue = OrderedDict()  # expert -> uses since it came, oldest first
        self._main: _Queue = OrderedDict()
        self._ghosts: _Queue = OrderedDict()
        self._slots = 1

    def used(self, use: Use) -> None:
        """Note a request, hit or miss."""
        queue = self._small if use.expert in self._small else self._main
        if use.expert in queue:
            queue[use.expert] = min(queue[use.expert] + 1, _MOST_USES)

    def admitted(self, expert: ExpertId, now_s: float) -> None:  # noqa: ARG002 - order is what counts, not time
        """Queue it: into the main queue if it left the small one not long ago."""
        queue = self._main if self._ghosts.pop(expert, None) is not None else self._small
        queue[expert] = 0
        self._slots = max(self._slots, len(self._small) + len(self._main))

    def evicted(self, expert: ExpertId, now_s: float) -> None:  # noqa: ARG002
        """Turn the queues as far as it takes to reach the victim."""
        if self._small_is_full():
            self._promote_until(expert)
        if self._small.pop(expert, None) is not None:
            self._ghosts[expert] = 0
        elif expert in self._main:
            self._turn_main_until(expert)
        while len(self._ghosts) > self._slots:
            self._ghosts.popitem(last=False)

    def keep_scores(self, candidates: Sequence[Candidate], now_s: float) -> list[float]:  # noqa: ARG002
        """The place in the order of eviction; strangers go first."""
        place = {expert: float(number) for number, expert in enumerate(self._order())}
        return [place.get(c.expert, -1.0) for c in candidates]

    def _small_is_full(self) -> bool:
        return len(self._small) >= max(1.0, self._small_ratio * self._slots)

    def _order(self) -> Iterable[ExpertId]:
        """Who would go, one after the other, were nobody to come or be used."""
        fleeting = [expert for expert, uses in self._small.items() if uses <= 1]
        popular = [(0, expert) for expert, uses in self._small.items() if uses > 1]
        main = [
            expert for _, expert in sorted([*((n, e) for e, n in self._main.items()), *popular], key=lambda x: x[0])
        ]
        return [*fleeting, *main] if self._small_is_full() else [*main, *fleeting]

    def _promote_until(self, victim: ExpertId) -> None:
        for expert, uses in list(self._small.items()):
            if expert == victim:
                return
            if uses > 1:
                del self._small[expert]
                self._main[expert] = 0

    def _turn_main_until(self, victim: ExpertId) -> None:
        while True:
            expert, uses = self._main.popitem(last=False)
            if expert == victim and uses == 0:
                return
            self._main[expert] = max(uses - 1, 0)


class Arc:
    """Two recency lists, of those used once and of those used again, whose shares follow the ghosts of both.

    Source: Megiddo and Modha, "ARC: a self-tuning, low overhead replacement cache", FAST 2003.
    """

    name: ClassVar[str] = "arc"

    def __init__(self) -> None:
        self._once: _Queue = OrderedDict()  # T1, least recently used first
        self._again: _Queue = OrderedDict()  # T2
        self._once_ghosts: _Queue = OrderedDict()  # B1
        self._again_ghosts: _Queue = OrderedDict()  # B2
        self._once_target = 0.0  # p
        self._slots = 1
        self._missed: ExpertId | None = None

    def used(self, use: Use) -> None:
        """Note a request; a miss whose ghost is remembered moves the target towards its list."""
        expert = use.expert
        if expert in self._once or expert in self._again:
            self._once.pop(expert, None)
            self._again[expert] = 0
            self._again.move_to_end(expert)
            return
        self._missed = expert
        if expert in self._once_ghosts:
            step = max(1.0, len(self._again_ghosts) / len(self._once_ghosts))
            self._once_target = min(float(self._slots), self._once_target + step)
        elif expert in self._again_ghosts:
            step = max(1.0, len(self._once_ghosts) / len(self._again_ghosts))
            self._once_target = max(0.0, self._once_target - step)

    def admitted(self, expert: ExpertId, now_s: float) -> None:  # noqa: ARG002 - order is what counts, not time
        """List it: a ghost that comes back was used again."""
        known = self._once_ghosts.pop(expert, None) is not None
        known = self._again_ghosts.pop(expert, None) is not None or known
        (self._again if known else self._once)[expert] = 0
        self._slots = max(self._slots, len(self._once) + len(self._again))
        self._trim()

    def evicted(self, expert: ExpertId, now_s: float) -> None:  # noqa: ARG002
        """Keep its ghost in the list that belongs to the one it left."""
        if self._once.pop(expert, None) is not None:
            self._once_ghosts[expert] = 0
        elif self._again.pop(expert, None) is not None:
            self._again_ghosts[expert] = 0

    def keep_scores(self, candidates: Sequence[Candidate], now_s: float) -> list[float]:  # noqa: ARG002
        """The place in the order of eviction, the list that is above its share first; strangers go first of all."""
        lists = (self._once, self._again) if self._once_is_long() else (self._again, self._once)
        place = {expert: float(number) for number, expert in enumerate((*lists[0], *lists[1]))}
        return [place.get(c.expert, -1.0) for c in candidates]

    def _once_is_long(self) -> bool:
        length = len(self._once)
        if self._missed in self._again_ghosts and length == self._once_target:
            return length > 0
        return length > self._once_target

    def _trim(self) -> None:
        while self._once_ghosts and len(self._once) + len(self._once_ghosts) > self._slots:
            self._once_ghosts.popitem(last=False)
        most = 2 * self._slots - len(self._once) - len(self._again) - len(self._once_ghosts)
        while len(self._again_ghosts) > max(most, 0):
            self._again_ghosts.popitem(last=False)
