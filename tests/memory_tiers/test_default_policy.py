"""What the default policy is chosen for: near Belady where a queue is seen, near the best without, never behind LRU."""

from __future__ import annotations

from dataclasses import replace
from time import process_time

import pytest

from eval.simulation.hit_ratio import belady_hit_ratio, gap_closed, hit_ratio
from memory_tiers.policies import POLICIES, Candidate, Use
from memory_tiers.policies.counting import Lru
from memory_tiers.policies.default import Default
from tests.memory_tiers.streams import expert, passing, stack, stream

LENGTH = 4000
SLOTS = 8

STREAMS = {
    **{
        f"{sessions} sessions that stay {stay}": (
            stream(experts=50, length=LENGTH, seed=7, sessions=sessions, stickiness=stay),
            SLOTS if sessions < SLOTS else SLOTS // 2,
        )
        for sessions in (2, 4, 8)
        for stay in (0.0, 0.5, 0.9)
    },
    **{f"{slots} slots": (stream(experts=50, length=LENGTH, seed=8), slots) for slots in (2, 4, 8, 16)},
    **{f"drift every {n}": (stream(experts=50, length=LENGTH, seed=9, drift_every=n), SLOTS) for n in (100, 500, 2000)},
    "drift, 4 sessions": (stream(experts=50, length=LENGTH, seed=9, sessions=4, drift_every=300), SLOTS),
    "uniform": (stream(experts=50, length=LENGTH, seed=10, zipf=0.0), SLOTS),
    "uniform, nobody stays": (stream(experts=50, length=LENGTH, seed=10, zipf=0.0, stickiness=0.0), SLOTS),
    "chains": (stream(experts=50, length=LENGTH, seed=11, sessions=4, stickiness=0.2, chain=0.6), SLOTS),
    "12 over 2": (stream(experts=12, length=LENGTH, seed=12), 2),
    "12 over 2, 3 sessions": (stream(experts=12, length=LENGTH, seed=12, sessions=3), 2),
    "recency": (stack(experts=50, length=LENGTH, seed=13), SLOTS),
    "strong recency": (stack(experts=50, length=LENGTH, seed=13, zipf=1.5), SLOTS),
    "passing conversations": (passing(experts=50, length=LENGTH, seed=14, active=16), SLOTS),
    "few passing conversations": (passing(experts=50, length=LENGTH, seed=14, active=4), SLOTS),
}


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("sessions_told", [True, False])
def test_never_more_than_a_point_behind_lru(name: str, sessions_told: bool) -> None:
    uses, slots = STREAMS[name]
    if not sessions_told:
        uses = [replace(use, session=None) for use in uses]
    assert hit_ratio(uses, slots, Default()) > hit_ratio(uses, slots, Lru()) - 0.01


@pytest.mark.parametrize("experts", [50, 150])
@pytest.mark.parametrize(("lookahead", "least"), [(0, 0.53), (2, 0.6), (4, 0.64), (8, 0.73)])
def test_most_of_the_gap_to_belady_is_closed(experts: int, lookahead: int, least: float) -> None:
    uses = stream(experts=experts, length=8000, seed=3)
    lru, best = hit_ratio(uses, SLOTS, Lru()), belady_hit_ratio(uses, SLOTS)
    assert gap_closed(hit_ratio(uses, SLOTS, Default(), lookahead=lookahead), lru, best) > least


def test_better_than_every_policy_that_sees_no_conversations() -> None:
    uses = stream(experts=50, length=8000, seed=4, sessions=8, stickiness=0.5)
    ours = hit_ratio(uses, SLOTS // 2, Default())
    others = {name: hit_ratio(uses, SLOTS // 2, make()) for name, make in POLICIES.items() if name != Default.name}
    assert ours > max(others.values()) + 0.01


def test_what_waits_is_kept_the_sooner_the_more_and_the_dearer_to_reload_the_more() -> None:
    policy = Default()
    for at in range(50):
        policy.used(Use(expert(at % 5), float(at)))
    candidates = [Candidate(expert(n), 1, 1.0) for n in range(5)]
    policy.upcoming([expert(3), expert(1), expert(3)])
    scores = policy.keep_scores(candidates, 50.0)
    assert scores[3] > scores[1] > 1.0 > max(scores[0], scores[2], scores[4])
    dear = policy.keep_scores([replace(c, reload_s=7.0) for c in candidates], 50.0)
    assert dear == pytest.approx([7.0 * score for score in scores])
    policy.upcoming([])
    assert max(policy.keep_scores(candidates, 50.0)) < 1.0


def test_it_costs_microseconds() -> None:
    """Ten times what it takes where it was measured: a guard against what grows with the stream, not a benchmark."""
    policy, uses = Default(), stream(experts=150, length=3000, seed=1)
    started_s = process_time()
    for use in uses:
        policy.used(use)
    assert (process_time() - started_s) / len(uses) < 200e-6
    candidates = [Candidate(expert(n), 1, 1.0) for n in range(150)]
    started_s = process_time()
    for _ in range(100):
        policy.keep_scores(candidates, 3000.0)
    assert (process_time() - started_s) / 100 < 700e-6
