"""Hit ratios of eviction policies on a request stream, without timing: every load is instant, every expert one slot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memory_tiers.policies import Candidate, Foresighted, Use

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experts.types import ExpertId
    from memory_tiers.policies import EvictionPolicy


def hit_ratio(uses: Sequence[Use], slots: int, policy: EvictionPolicy, *, lookahead: int = 0) -> float:
    """The share of `uses` whose expert is among the `slots` that `policy` keeps. A miss always brings its expert in.

    lookahead: how many of the requests to come are told to a policy that asks for them, as a queue would.

    Raises: ValueError: no uses, or no slots.
    """
    _check(uses, slots)
    residents: dict[ExpertId, Candidate] = {}
    experts = [use.expert for use in uses]
    hits = 0
    for place, use in enumerate(uses):
        policy.used(use)
        if use.expert in residents:
            hits += 1
            continue
        if len(residents) >= slots:
            if lookahead and isinstance(policy, Foresighted):
                policy.upcoming(experts[place + 1 : place + 1 + lookahead])
            _evict_one(residents, policy, use.now_s)
        residents[use.expert] = Candidate(use.expert, 1, 1.0)
        policy.admitted(use.expert, use.now_s)
    return hits / len(uses)


def belady_hit_ratio(uses: Sequence[Use], slots: int) -> float:
    """The best hit ratio there is: on a miss, whoever is needed last goes. A miss always brings its expert in.

    Raises: ValueError: no uses, or no slots.
    """
    _check(uses, slots)
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


def _check(uses: Sequence[Use], slots: int) -> None:
    if not uses:
        raise ValueError("there are no uses to replay")
    if slots < 1:
        raise ValueError(f"{slots} slots hold nobody")


def _evict_one(residents: dict[ExpertId, Candidate], policy: EvictionPolicy, now_s: float) -> None:
    candidates = list(residents.values())
    scores = policy.keep_scores(candidates, now_s)
    victim = candidates[min(range(len(scores)), key=scores.__getitem__)].expert
    del residents[victim]
    policy.evicted(victim, now_s)


def _next_uses(experts: Sequence[ExpertId]) -> list[int]:
    """For each place, where the same expert is used next; past the end when it is not."""
    following = [len(experts)] * len(experts)
    last: dict[ExpertId, int] = {}
    for place in range(len(experts) - 1, -1, -1):
        following[place] = last.get(experts[place], len(experts))
        last[experts[place]] = place
    return following
