"""Which chunk-caches go when there is no room: those least worth their bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from experts.types import ExpertId
from memory_tiers.eviction_set import plan_eviction_set
from memory_tiers.policies.costing import KeepScore
from memory_tiers.policies.policy import Candidate, Use

if TYPE_CHECKING:
    from collections.abc import Iterable

_HALF_LIFE_S: Final = 600.0
_REMEMBERED: Final = 65_536


class Worth:
    """Frequency times saved work over bytes: the tiers' keep-score, for variants instead of experts.

    An expert there is a variant here: both are a name, a size and what it takes to have it again.
    """

    def __init__(self) -> None:
        self._score = KeepScore(half_life_s=_HALF_LIFE_S, capacity=_REMEMBERED)
        self._known: set[str] = set()

    def used(self, variant: str, now_s: float) -> None:
        """Note a use, or that it was computed."""
        self._known.add(variant)
        self._score.used(Use(ExpertId(variant), now_s))

    def known(self, variant: str) -> bool:
        """Whether a use of it was noted here."""
        return variant in self._known

    def victims(self, candidates: Iterable[tuple[str, int, float]], need_bytes: int, now_s: float) -> list[str]:
        """Those that together free so many bytes at the smallest loss. candidates: variant, bytes, saved seconds.

        Raises: TierFull: all of them together do not.
        """
        able = [Candidate(ExpertId(variant), size, work_s) for variant, size, work_s in candidates]
        scores = self._score.keep_scores(able, now_s)
        losses = [score * each.size_bytes for score, each in zip(scores, able, strict=True)]
        return [str(each.expert) for each in plan_eviction_set(able, losses, need_bytes)]
