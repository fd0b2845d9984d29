"""Policies that look at when or how often an expert was used, and at nothing else."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experts.types import ExpertId
    from memory_tiers.policies.policy import Candidate, Use

_RESCALE_AT: Final = 1e100


class Lru:
    """Least recently used goes first. A use and an admission both count."""

    name: ClassVar[str] = "lru"

    def __init__(self) -> None:
        self._step = 0
        self._last: dict[ExpertId, int] = {}

    def used(self, use: Use) -> None:
        """Note a request, hit or miss."""
        self._touch(use.expert)

    def admitted(self, expert: ExpertId, now_s: float) -> None:  # noqa: ARG002 - order is what counts, not time
        """Note that `expert` came."""
        self._touch(expert)

    def evicted(self, expert: ExpertId, now_s: float) -> None:  # noqa: ARG002
        """Forget it."""
        self._last.pop(expert, None)

    def keep_scores(self, candidates: Sequence[Candidate], now_s: float) -> list[float]:  # noqa: ARG002
        """The number of the last use; whoever was never seen goes first."""
        last = self._last
        return [float(last.get(c.expert, -1)) for c in candidates]

    def _touch(self, expert: ExpertId) -> None:
        self._step += 1
        self._last[expert] = self._step


class Lfu:
    """Least frequently used goes first, among equals the least recently used. Counts outlive an eviction.

    half_life_uses: after how many requests a use counts half; None never ages. At most `capacity` experts are counted;
    beyond that the one unused for longest is forgotten.
    """

    name: ClassVar[str] = "lfu"

    def __init__(self, *, half_life_uses: float | None = None, capacity: int = 4096) -> None:
        if half_life_uses is not None and half_life_uses <= 0:
            raise ValueError(f"half_life_uses {half_life_uses} is not positive")
        self._growth = 1.0 if half_life_uses is None else 2.0 ** (1.0 / half_life_uses)
        self._capacity = capacity
        self._unit = 1.0  # what a use counts now: growing it ages all earlier ones at once
        self._step = 0
        self._counts: OrderedDict[ExpertId, tuple[float, int]] = OrderedDict()

    def used(self, use: Use) -> None:
        """Note a request, hit or miss."""
        self._step += 1
        self._unit *= self._growth
        count, _ = self._counts.pop(use.expert, (0.0, 0))
        self._counts[use.expert] = (count + self._unit, self._step)
        if len(self._counts) > self._capacity:
            self._counts.popitem(last=False)
        if self._unit > _RESCALE_AT:
            self._rescale()

    def admitted(self, expert: ExpertId, now_s: float) -> None:
        """An admission is no use."""

    def evicted(self, expert: ExpertId, now_s: float) -> None:
        """Counts stay: a popular expert that was evicted comes back as one."""

    def keep_scores(self, candidates: Sequence[Candidate], now_s: float) -> list[float]:  # noqa: ARG002
        """Uses, aged, plus a fraction of one use for the order of the last ones."""
        counts, unit, newest = self._counts, self._unit, self._step + 1
        found = (counts.get(c.expert, (0.0, 0)) for c in candidates)
        return [count / unit + 1e-6 * last / newest for count, last in found]

    def _rescale(self) -> None:
        for expert, (count, last) in self._counts.items():
            self._counts[expert] = (count / self._unit, last)
        self._unit = 1.0
