"""Hit ratios of eviction policies on a request stream, without timing: every load is instant, every expert one slot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memory_tiers.policies import Candidate, Foresighted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experts.types import ExpertId
    from memory_tiers.policies import EvictionPolicy, Use


class Cache:
    """Slots that a policy fills: a miss always brings its expert in. Raises: ValueError: no slots."""

    def __init__(self, slots: int, policy: EvictionPolicy) -> None:
        if slots < 1:
            raise ValueError(f"{slots} slots hold nobody")
        self._slots = slots
        self._policy = policy
        self._residents: dict[ExpertId, Candidate] = {}

    def __contains__(self, expert: ExpertId) -> bool:
        return expert in self._residents

    def use(self, use: Use, waiting: Sequence[ExpertId] = ()) -> bool:
        """Serve one request; whether it hit. waiting: the experts of those behind it, for a policy that looks ahead."""
        self._policy.used(use)
        if use.expert in self._residents:
            return True
        if len(self._residents) >= self._slots:
            if isinstance(self._policy, Foresighted):
                self._policy.upcoming(waiting)
            self._evict_one(use.now_s)
        self._residents[use.expert] = Candidate(use.expert, 1, 1.0)
        self._policy.admitted(use.expert, use.now_s)
        return False

    def _evict_one(self, now_s: float) -> None:
        candidates = list(self._residents.values())
        scores = self._policy.keep_scores(candidates, now_s)
        victim = candidates[min(range(len(scores)), key=scores.__getitem__)].expert
        del self._residents[victim]
        self._policy.evicted(victim, now_s)


def hit_ratio(uses: Sequence[Use], slots: int, policy: EvictionPolicy, *, lookahead: int = 0) -> float:
    """The share of `uses` whose expert is among the `slots` that `policy` keeps.

    lookahead: how many of the requests to come are told to a policy that asks for them, as a queue would.

    Raises: ValueError: no uses, or no slots.
    """
    if not uses:
        raise ValueError("there are no uses to replay")
    cache = Cache(slots, policy)
    experts = [use.expert for use in uses]
    hits = sum(cache.use(use, experts[place : place + lookahead]) for place, use in enumerate(uses, start=1))
    return hits / len(uses)


def belady_hit_ratio(uses: Sequence[Use], slots: int) -> float:
    """The best hit ratio there is: on a miss, whoever is needed last goes. A miss always brings its expert in.

    Raises: ValueError: no uses, or no slots.
    """
    if not uses or slots < 1:
        raise ValueError(f"{len(uses)} uses over {slots} slots have no hit ratio")
    following = _next_uses([use.expert for use in uses])
    residents: dict[ExpertId, int] = {}
    hits = 0
    for place, use in enumerate(uses):
        if use.expert in residents:
            hits += 1
        elif len(residents) >= slots:
            del residents[max(residents, key=residents.__getitem__)]
        residents[use.expert] = following[place]
    return hits / len(uses)


def gap_closed(ratio: float, lru: float, belady: float) -> float:
    """The share of the way from `lru` to `belady` that `ratio` has gone; 0 where there is no way to go."""
    return (ratio - lru) / (belady - lru) if belady > lru else 0.0


def _next_uses(experts: Sequence[ExpertId]) -> list[int]:
    """For each place, where the same expert is used next; past the end when it is not."""
    following = [len(experts)] * len(experts)
    last: dict[ExpertId, int] = {}
    for place in range(len(experts) - 1, -1, -1):
        following[place] = last.get(experts[place], len(experts))
        last[experts[place]] = place
    return following
