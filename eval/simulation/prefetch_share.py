"""How many misses a prefetch into one spare slot hides, on a request stream without timing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from eval.simulation.hit_ratio import Cache
from memory_tiers.prefetch import Guess, Link, plan_prefetch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experts.types import ExpertId
    from memory_tiers.policies import EvictionPolicy, Use
    from memory_tiers.predictor import NextExpert


@dataclass(frozen=True, slots=True)
class PrefetchCount:
    """What became of a stream's requests: in the cache, in the spare slot, or in neither."""

    hits: int
    hidden: int
    misses: int
    loads: int

    @property
    def served_ratio(self) -> float:
        """The share of requests that did not wait."""
        return (self.hits + self.hidden) / (self.hits + self.hidden + self.misses)

    @property
    def hidden_ratio(self) -> float:
        """The share of what the cache missed that was in the spare slot; 0 where it missed nothing."""
        return self.hidden / max(self.hidden + self.misses, 1)


def count_prefetches(
    uses: Sequence[Use], slots: int, policy: EvictionPolicy, predictor: NextExpert, *, link: Link | None = None
) -> PrefetchCount:
    """Replay `uses` over `slots` and one slot that is kept for prefetches.

    After each request the likeliest expert of those not in the cache is brought into the spare slot, if it is worth
    that over what is there. A request for it counts as hidden, and moves it into the cache. Every expert is one byte
    and a load takes a second. predictor: the policy's own, which learns as the policy is told of uses.

    Raises: ValueError: no slots.
    """
    cache = Cache(slots, policy)
    link = link or Link(bytes_per_s=1.0)
    spare: ExpertId | None = None
    hits = hidden = loads = 0
    for use in uses:
        if cache.use(use):
            hits += 1
        elif use.expert == spare:
            hidden += 1
        if spare is not None and spare in cache:
            spare = None
        known = [expert for expert in predictor.known if expert not in cache]
        absent = [
            Guess(expert, chance, 1, 1.0) for expert, chance in zip(known, predictor.next_request(known), strict=True)
        ]
        for guess in plan_prefetch(absent, 1, 1, link):
            loads += guess.expert != spare
            spare = guess.expert
    return PrefetchCount(hits, hidden, len(uses) - hits - hidden, loads)
