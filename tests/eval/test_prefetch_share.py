"""One spare slot for prefetches: worth more than in the cache where requests follow each other, no loss where not."""

from __future__ import annotations

import pytest

from eval.simulation.hit_ratio import hit_ratio
from eval.simulation.prefetch_share import PrefetchCount, count_prefetches
from memory_tiers.policies import Use
from memory_tiers.policies.counting import Lru
from memory_tiers.policies.default import Default
from memory_tiers.prefetch import Link
from tests.memory_tiers.streams import named, stack, stream

SLOTS = 8
LENGTH = 4000


def prefetched(uses: list[Use], link: Link | None = None) -> PrefetchCount:
    policy = Default()
    return count_prefetches(uses, SLOTS, policy, policy.predictor, link=link)


@pytest.mark.parametrize("sessions", [1, 2, 4])
@pytest.mark.parametrize("seed", range(2))
def test_chains_of_few_conversations_are_foreseen(sessions: int, seed: int) -> None:
    uses = stream(experts=50, length=LENGTH, seed=seed, sessions=sessions, stickiness=0.2, chain=0.6)
    count = prefetched(uses)
    assert count.hidden_ratio > 0.25
    assert count.served_ratio > hit_ratio(uses, SLOTS + 1, Default()) + 0.05


@pytest.mark.parametrize(
    "uses",
    [
        stream(experts=50, length=LENGTH, seed=1),
        stream(experts=150, length=LENGTH, seed=1),
        stream(experts=50, length=LENGTH, seed=1, stickiness=0.0),
        stream(experts=50, length=LENGTH, seed=1, stickiness=0.0, zipf=0.0),
        stream(experts=50, length=LENGTH, seed=1, drift_every=300),
        stack(experts=50, length=LENGTH, seed=1),
    ],
    ids=["sticky", "150 experts", "popularity", "uniform", "drift", "recency"],
)
def test_without_sequences_the_slot_loses_nothing(uses: list[Use]) -> None:
    assert prefetched(uses).served_ratio > hit_ratio(uses, SLOTS + 1, Default()) - 0.01


def test_a_busy_link_is_left_alone() -> None:
    uses = stream(experts=50, length=1000, seed=1)
    count = prefetched(uses, Link(bytes_per_s=1.0, contention_ratio=1.0))
    assert (count.hidden, count.loads) == (0, 0)
    assert count.served_ratio == pytest.approx(hit_ratio(uses, SLOTS, Default()))


def test_counts_add_up() -> None:
    uses = stream(experts=20, length=700, seed=2)
    count = prefetched(uses)
    assert count.hits + count.hidden + count.misses == 700
    assert count.hidden <= count.loads
    assert PrefetchCount(hits=3, hidden=1, misses=4, loads=5).served_ratio == pytest.approx(0.5)
    assert PrefetchCount(hits=3, hidden=1, misses=4, loads=5).hidden_ratio == pytest.approx(0.2)
    assert PrefetchCount(hits=3, hidden=0, misses=0, loads=0).hidden_ratio == 0.0


def test_no_slots_are_refused() -> None:
    with pytest.raises(ValueError, match="hold nobody"):
        count_prefetches(named([1]), 0, Lru(), Default().predictor)
