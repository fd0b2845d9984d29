"""Policies that weigh use against what a reload costs and what the bytes could hold instead."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experts.types import ExpertId
    from memory_tiers.policies.policy import Candidate, Use


def _worth_per_byte(candidate: Candidate) -> float:
    return candidate.reload_s / max(candidate.size_bytes, 1)


class Gdsf:
    """Greedy dual size frequency: an inflating floor plus uses * reload_s / bytes, smallest first.

    The floor is the priority of whoever was evicted last: what is not used is overtaken by what is. Uses are counted
    from admission to eviction.
    Source: Cherkasova, "Improving WWW proxies performance with greedy-dual-size-frequency caching", 1998.
    """

    name: ClassVar[str] = "gdsf"

    def __init__(self) -> None:
        self._floor = 0.0
        self._uses: dict[ExpertId, tuple[int, float]] = {}  # uses, and the floor at the last of them
        self._worth: dict[ExpertId, float] = {}  # as of the last scores that were asked for
        self._arriving: ExpertId | None = None

    def used(self, use: Use) -> None:
        """Note a request; one that misses counts when its expert is admitted."""
        if use.expert in self._uses:
            self._uses[use.expert] = (self._uses[use.expert][0] + 1, self._floor)

    def admitted(self, expert: ExpertId, now_s: float) -> None:  # noqa: ARG002 - the floor is this policy's clock
        """Start to count."""
        self._uses[expert] = (1, self._floor)

    def evicted(self, expert: ExpertId, now_s: float) -> None:  # noqa: ARG002
        """Raise the floor to what the victim was worth, and forget it."""
        uses, floor = self._uses.pop(expert, (0, self._floor))
        self._floor = max(self._floor, floor + uses * self._worth.pop(expert, 0.0))

    def keep_scores(self, candidates: Sequence[Candidate], now_s: float) -> list[float]:  # noqa: ARG002
        """The priority of each."""
        scores = []
        for candidate in candidates:
            worth = self._worth[candidate.expert] = _worth_per_byte(candidate)
            uses, floor = self._uses.get(candidate.expert, (0, 0.0))
            scores.append(floor + uses * worth)
        return scores


class KeepScore:
    """V = rate * reload_s / bytes: seconds of loading saved, per second and byte kept.

    half_life_s: after how long a use counts half in the rate. At most `capacity` experts have one; beyond that the
    one unused for longest is forgotten.
    """

    name: ClassVar[str] = "keep-score"

    def __init__(self, *, half_life_s: float = 600.0, capacity: int = 4096) -> None:
        if half_life_s <= 0:
            raise ValueError(f"half_life_s {half_life_s} is not positive")
        self._half_life_s = half_life_s
        self._capacity = capacity
        self._counts: OrderedDict[ExpertId, tuple[float, float]] = OrderedDict()  # aged count, and as of when

    def used(self, use: Use) -> None:
        """Note a request, hit or miss."""
        count = self._count(use.expert, use.now_s)
        self._counts[use.expert] = (count + 1.0, use.now_s)
        self._counts.move_to_end(use.expert)
        if len(self._counts) > self._capacity:
            self._counts.popitem(last=False)

    def admitted(self, expert: ExpertId, now_s: float) -> None:
        """An admission is no use."""

    def evicted(self, expert: ExpertId, now_s: float) -> None:
        """The rate stays: it is the request stream's, not the resident's."""

    def keep_scores(self, candidates: Sequence[Candidate], now_s: float) -> list[float]:
        """V of each."""
        return [self._count(c.expert, now_s) * _worth_per_byte(c) for c in candidates]

    def _count(self, expert: ExpertId, now_s: float) -> float:
        count, then_s = self._counts.get(expert, (0.0, now_s))
        return float(count * 2.0 ** ((then_s - now_s) / self._half_life_s))
