"""Copies in host memory: who is read, who gives way to whom, and who stays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pytest

from experts.types import ExpertId
from memory_tiers.costs import DISK_TO_HOST, MoveCosts
from memory_tiers.host_tier import HostTier
from memory_tiers.policies import Candidate, Use
from memory_tiers.types import CopyState, Drop, Effect, Footprint, HostCopy, Stage

A, B, C, D = (ExpertId(name) for name in "abcd")
SIZES = {A: 40, B: 40, C: 40, D: 20, ExpertId("vast"): 900, ExpertId("unstaged"): 0}


class Worth:
    """A policy that keeps whom it is told to: a value for each expert, times what a reload takes."""

    name: ClassVar[str] = "worth"

    def __init__(self, values: dict[ExpertId, float]) -> None:
        self.values = values

    def used(self, use: Use) -> None:
        """Nothing is learned."""

    def admitted(self, expert: ExpertId, now_s: float) -> None:
        """Nor from this."""

    def evicted(self, expert: ExpertId, now_s: float) -> None:
        """Nor from this."""

    def keep_scores(self, candidates: Sequence[Candidate], now_s: float) -> list[float]:  # noqa: ARG002 - a policy's
        return [self.values.get(c.expert, 1.0) * c.reload_s for c in candidates]


def tier_of(
    budget: int = 100,
    *,
    values: dict[ExpertId, float] | None = None,
    resident: Sequence[ExpertId] = (),
    at_once: int = 1,
) -> HostTier:
    costs = MoveCosts()
    for expert in SIZES:
        costs.observed(expert, DISK_TO_HOST, 1, 1.0)
    footprints = {expert: Footprint(size, size) for expert, size in SIZES.items()}
    return HostTier(
        footprints,
        budget,
        policy=Worth(values or {}),
        costs=costs,
        is_resident=lambda expert: expert in resident,
        stagings=at_once,
    )


def copy_of(effects: Sequence[Effect]) -> HostCopy:
    [effect] = effects
    assert isinstance(effect, Stage | Drop)
    return effect.copy


def held(tier: HostTier, *experts: ExpertId) -> list[HostCopy]:
    """Copies of these, read to the end."""
    copies = []
    for expert in experts:
        copy = copy_of(tier.demand(expert, {expert}, 0.0))
        tier.staged(copy)
        copies.append(copy)
    return copies


def dropped(effects: Sequence[Effect]) -> list[ExpertId]:
    return [effect.copy.expert_id for effect in effects if isinstance(effect, Drop)]


def test_what_somebody_waits_for_is_read_once() -> None:
    tier = tier_of()
    copy = copy_of(tier.demand(A, {A}, 0.0))
    assert (copy.expert_id, copy.foreseen, tier.holds(A)) == (A, False, False)
    assert tier.demand(A, {A}, 1.0) == []
    tier.staged(copy)
    assert tier.holds(A)
    assert tier.demand(A, {A}, 2.0) == []


def test_one_is_read_at_a_time_unless_the_rules_allow_more() -> None:
    tier = tier_of()
    tier.demand(A, {A, B}, 0.0)
    assert tier.demand(B, {A, B}, 0.0) == []
    tier = tier_of(at_once=2)
    tier.demand(A, {A, B}, 0.0)
    assert copy_of(tier.demand(B, {A, B}, 0.0)).expert_id == B


def test_a_demand_overtakes_a_guess() -> None:
    tier = tier_of()
    guess = copy_of(tier.foresee(A))
    assert guess.foreseen
    assert copy_of(tier.demand(B, {B}, 1.0)) is guess
    assert guess.state is CopyState.DROPPING
    assert copy_of(tier.demand(B, {B}, 1.0)).expert_id == B  # what goes is read no more; there is room for both
    tier.staged(guess)  # it came to its end after all: too late
    assert not tier.holds(A)


def test_a_guess_that_somebody_waits_for_by_now_is_read_on() -> None:
    tier = tier_of()
    guess = copy_of(tier.foresee(A))
    assert tier.demand(A, {A, B}, 1.0) == []
    assert not guess.foreseen
    assert tier.demand(B, {A, B}, 1.0) == []
    assert guess.state is CopyState.STAGING


def test_a_guess_takes_only_room_that_is_free_and_a_disk_that_is_idle() -> None:
    tier = tier_of(100)
    held(tier, A, B)
    assert tier.foresee(C) == []  # 20 are free
    assert copy_of(tier.foresee(D)).expert_id == D
    tier = tier_of(100)
    tier.demand(A, {A}, 0.0)
    assert tier.foresee(D) == []  # the disk is busy
    assert tier.foresee(A) == []


def test_the_copy_that_is_worth_least_makes_room() -> None:
    tier = tier_of(100, values={A: 3.0, B: 1.0, D: 2.0})
    held(tier, A, B, D)
    assert dropped(tier.demand(C, {C}, 1.0)) == [B]


def test_of_sizes_that_differ_the_cheapest_set_goes() -> None:
    tier = tier_of(100, values={A: 3.0, B: 2.5, D: 2.0})
    held(tier, A, B, D)
    tier.ledger.budget_bytes = 140
    assert dropped(tier.demand(C, {C}, 1.0)) == []  # 40 are free


def test_room_that_is_being_freed_is_not_freed_twice() -> None:
    tier = tier_of(100)
    held(tier, A, B)
    first = tier.demand(C, {C}, 1.0)
    assert len(dropped(first)) == 1
    assert tier.demand(C, {C}, 1.0) == []
    tier.dropped(copy_of(first))
    assert copy_of(tier.demand(C, {C}, 2.0)).expert_id == C


def test_the_copy_of_an_expert_on_a_device_goes_first() -> None:
    tier = tier_of(100, values={A: 3.0, B: 1.0, D: 1.0}, resident=[A])
    held(tier, A, B, D)
    assert dropped(tier.demand(C, {C}, 1.0)) == [A]  # 3 x 0.2 is less than 1


def test_a_copy_that_is_being_read_stays_and_so_does_one_that_somebody_waits_for() -> None:
    tier = tier_of(100, values={A: 0.1, B: 0.2})
    reads, _ = held(tier, A, B)
    reads.readers = 1
    assert dropped(tier.demand(C, {C}, 1.0)) == [B]
    tier = tier_of(100, values={A: 0.1, B: 0.2})
    held(tier, A, B)
    assert dropped(tier.demand(C, {A, C}, 1.0)) == [B]
    tier = tier_of(100)
    held(tier, A, B)
    assert tier.demand(C, {A, B, C}, 1.0) == []


def test_scores_below_nothing_still_have_an_order() -> None:
    tier = tier_of(100, values={A: -3.0, B: -5.0})
    held(tier, A, B)
    assert dropped(tier.demand(C, {C}, 1.0)) == [B]


@pytest.mark.parametrize(("expert", "held_ever"), [("a", True), ("vast", False), ("unstaged", False)])
def test_what_is_ever_held(expert: str, held_ever: bool) -> None:
    assert tier_of().can_hold(ExpertId(expert)) is held_ever


def test_weights_that_could_not_be_read_are_not_read_again_but_a_guess_that_was_dropped_is() -> None:
    tier = tier_of()
    tier.stage_failed(copy_of(tier.demand(A, {A}, 0.0)))
    assert not tier.can_hold(A)
    assert tier.ledger.used_bytes == 0
    guess = copy_of(tier.foresee(B))
    tier.demand(C, {C}, 1.0)
    tier.stage_failed(guess)  # broken off
    assert tier.can_hold(B)


def test_a_copy_that_is_not_trusted_goes_and_none_is_made_until_the_disk_has_shown_good_weights() -> None:
    tier = tier_of()
    [copy] = held(tier, A)
    assert copy_of(tier.distrust(A)) is copy
    assert tier.distrust(A) == []  # it is going
    tier.dropped(copy)
    assert not tier.can_hold(A)
    tier.trust(A)
    assert tier.can_hold(A)
