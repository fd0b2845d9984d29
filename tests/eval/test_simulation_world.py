"""A timeline worked out by hand: what moves take, what waits for what, and what a broken-off reading gives back."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.simulation.arrival import Arrival
from eval.simulation.baselines import NaiveScheduler
from eval.simulation.hardware import Hardware
from eval.simulation.world import Served, World
from experts.types import ExpertId
from memory_tiers.policies import POLICIES
from memory_tiers.rules import Rules
from memory_tiers.scheduler import Scheduler
from memory_tiers.tally import Tally
from memory_tiers.types import (
    ANYBODY,
    Asker,
    CopyState,
    Drop,
    Effect,
    Footprint,
    HostCopy,
    Load,
    Resident,
    Stage,
    Ticket,
    Tier,
)  # fmt: skip

A, B, C = (ExpertId(name) for name in "abc")
SIZE = 100
# An expert takes 1 + 100/100 = 2 s over the link and 100/20 = 5 s from the disk; 10 prompt tokens a second.
SLOW = Hardware("slow", 1, SIZE, 10 * SIZE, 100.0, 20.0, 10.0, 0.1, wake_s=1.0)
CALM = Rules(join_window_s=2.0, quantum_s=0.0, loads=1, prefetch=False)


def scheduler(slots: int = 1, *, host: int = 10, rules: Rules = CALM) -> Scheduler:
    footprints = {name: Footprint(SIZE, SIZE) for name in (A, B, C)}
    return Scheduler(footprints, [slots * SIZE], host * SIZE, rules=rules, policy=POLICIES["lru"])


def arrival(at_s: float, expert: ExpertId, prompt: int = 10, output: int = 10) -> Arrival:
    """One second to the first token, one more to the last, once its expert is there."""
    return Arrival(at_s, expert, "one", prompt, output)


def times(served: Sequence[Served]) -> list[tuple[float | None, float | None, float | None]]:
    return [(fate.wait_s, fate.ttft_s, fate.total_s) for fate in served]


def test_two_experts_share_one_slot() -> None:
    world = World(scheduler(), SLOW, check=True)
    served = world.run([arrival(0, A), arrival(1, B), arrival(20, A), arrival(20.5, A)])
    assert times(served) == [
        (7, 8, 9),  # 5 from the disk, 2 over the link
        (11, 12, 13),  # the disk reads from 5 to 10; A is answered at 9 and goes; the link takes from 10 to 12
        (2, 3, 4),  # from host memory
        (1.5, 2.5, 3.5),  # by the same load
    ]
    assert [fate.hit for fate in served] == [False] * 4
    assert world.scheduler.tally.loads == {Tier.HOST: 3}
    assert world.scheduler.tally.stagings == 2


def test_a_busy_expert_makes_room_after_the_window_and_nobody_joins_it_meanwhile() -> None:
    world = World(scheduler(), SLOW, check=True)
    asked = [arrival(0, A), arrival(0, A, output=100), arrival(1, B), arrival(14, A), arrival(15.5, A), arrival(30, B)]
    assert times(world.run(asked)) == [
        (7, 8, 9),
        (7, 8, 18),
        (19, 20, 21),  # read by 10, A's long answer ends at 18, loaded by 20
        (10, 11, 12),  # A takes nobody from 10 on; B is answered at 22, A is back at 24
        (8.5, 9.5, 10.5),
        (2, 3, 4),
    ]


def test_a_ready_expert_is_a_hit() -> None:
    world = World(scheduler(), SLOW, check=True)
    world.place([(A, Tier.DEVICE), (B, Tier.HOST)])
    served = world.run([arrival(0, A), arrival(5, B)])
    assert times(served) == [(0, 1, 2), (2, 3, 4)]
    assert [fate.hit for fate in served] == [True, False]


def test_who_cannot_be_served_in_time_has_no_times() -> None:
    world = World(scheduler(rules=Rules(join_window_s=99, max_wait_s=6, quantum_s=0, prefetch=False)), SLOW, check=True)
    world.place([(A, Tier.DEVICE), (B, Tier.HOST)])
    served = world.run([arrival(0, A, output=300), arrival(1, B)])
    assert times(served) == [(0, 1, 31), (None, None, None)]
    assert world.scheduler.tally.refused == 1


def test_what_others_do_reads_the_disk_while_it_holds_the_slot() -> None:
    footprints = {name: Footprint(SIZE, SIZE) for name in (A, B)}
    naive = NaiveScheduler(footprints, [SIZE], 10 * SIZE, POLICIES["lru"](), grouping=False)
    served = World(naive, SLOW, check=True).run([arrival(0, A), arrival(1, B), arrival(20, A)])
    assert times(served) == [(7, 8, 9), (15, 16, 17), (2, 3, 4)]  # B begins at 9 and takes 7


class Scripted:
    """Not a scheduler: begins what it is given, request by request, and notes when each move was reported."""

    def __init__(self, *script: list[Effect]) -> None:
        self.tally = Tally()
        self.script = list(script)
        self.reported: list[tuple[str, str, float]] = []

    def request(self, expert_id: ExpertId, now_s: float, asker: Asker = ANYBODY) -> tuple[Ticket, list[Effect]]:
        del asker
        return Ticket(expert_id, now_s), self.script.pop(0)

    def withdraw(self, ticket: Ticket, now_s: float) -> list[Effect]:
        del ticket, now_s
        return []

    def loaded(self, resident: Resident, now_s: float, took_s: float | None = None) -> list[Effect]:
        del took_s
        self.reported.append(("loaded", resident.expert_id, now_s))
        return []

    def unloaded(self, resident: Resident, now_s: float) -> list[Effect]:
        self.reported.append(("unloaded", resident.expert_id, now_s))
        return []

    def staged(self, copy: HostCopy, now_s: float, took_s: float | None = None) -> list[Effect]:
        del took_s
        self.reported.append(("staged", copy.expert_id, now_s))
        return []

    def dropped(self, copy: HostCopy, now_s: float) -> list[Effect]:
        self.reported.append(("dropped", copy.expert_id, now_s))
        return []

    def tick(self, now_s: float) -> list[Effect]:
        del now_s
        return []

    def wake_at_s(self, now_s: float) -> float:
        del now_s
        return float("inf")

    def bring(self, expert_id: ExpertId, tier: Tier) -> list[Effect]:
        del expert_id, tier
        return []

    def check_invariants(self) -> None:
        """There is nothing to be wrong."""


def reported(
    *script: list[Effect], at: Sequence[float] = (0.0,), hardware: Hardware = SLOW
) -> list[tuple[str, str, float]]:
    scripted = Scripted(*script)
    World(scripted, hardware).run([arrival(at_s, A) for at_s in at])
    return scripted.reported


def load(name: ExpertId, source: Tier, device: int = 0) -> Load:
    return Load(Resident(name, SIZE, device, source))


def stage(name: ExpertId) -> Stage:
    return Stage(HostCopy(name, SIZE))


def test_the_disk_reads_one_after_another() -> None:
    assert reported([stage(A), stage(B)]) == [("staged", "a", 5), ("staged", "b", 10)]


def test_a_link_carries_one_after_another_and_each_device_has_its_own() -> None:
    assert reported([load(A, Tier.HOST), load(B, Tier.HOST)]) == [("loaded", "a", 2), ("loaded", "b", 4)]
    two = Hardware("two", 2, SIZE, SIZE, 100.0, 20.0, 10.0, 0.1, wake_s=1.0)
    both = [load(A, Tier.HOST, 0), load(B, Tier.HOST, 1)]
    assert reported([*both], hardware=two) == [("loaded", "a", 2), ("loaded", "b", 2)]


def test_a_load_from_disk_holds_both() -> None:
    moves: list[Effect] = [load(A, Tier.DISK), load(B, Tier.HOST), stage(C)]
    assert reported(moves) == [("loaded", "a", 7), ("loaded", "b", 9), ("staged", "c", 12)]
    assert reported([stage(C), load(A, Tier.DISK)]) == [("staged", "c", 5), ("loaded", "a", 12)]


def test_a_reading_that_is_broken_off_frees_the_disk_at_once() -> None:
    copy = HostCopy(A, SIZE, CopyState.STAGING)
    found = reported([Stage(copy)], [Drop(copy), stage(B)], at=(0.0, 3.0))
    assert found == [("dropped", "a", 3), ("staged", "b", 8)]


def test_dropping_what_was_read_breaks_nothing_off() -> None:
    copy = HostCopy(A, SIZE)
    found = reported([Stage(copy)], [stage(B)], [Drop(copy)], at=(0.0, 5.5, 6.0))
    assert found == [("staged", "a", 5), ("dropped", "a", 6), ("staged", "b", 10.5)]


ASKED = st.lists(
    st.tuples(st.floats(0, 20), st.sampled_from([A, B, C]), st.integers(1, 60), st.integers(1, 60)),
    min_size=1,
    max_size=25,
)


@given(ASKED, st.integers(1, 2), st.integers(0, 3), st.booleans())
def test_everybody_is_answered_or_refused_within_the_bound(
    asked: list[tuple[float, ExpertId, int, int]], slots: int, host: int, prefetch: bool
) -> None:
    rules = Rules(join_window_s=1.0, max_wait_s=40.0, quantum_s=0.5, loads=1, prefetch=prefetch)
    footprints = {name: Footprint(SIZE, SIZE) for name in (A, B, C)}
    own = Scheduler(footprints, [slots * SIZE], host * SIZE, rules=rules, policy=POLICIES["default"])
    now, arrivals = 0.0, []
    for pause, expert, prompt, output in asked:
        now += pause
        arrivals.append(arrival(now, expert, prompt, output))
    world = World(own, SLOW, check=True)
    served = world.run(arrivals)
    assert [fate.arrival for fate in served] == arrivals
    assert own.waiting == 0
    slowest_s = SLOW.load_s(SIZE) + SLOW.stage_s(SIZE)
    for fate in served:
        if fate.wait_s is not None and fate.ttft_s is not None and fate.total_s is not None:
            assert fate.wait_s <= rules.max_wait_s + slowest_s + 1e-6
            assert fate.ttft_s == pytest.approx(fate.wait_s + fate.arrival.prompt_tokens / 10)
            assert fate.total_s == pytest.approx(fate.ttft_s + fate.arrival.output_tokens * 0.1)
    assert all(r.leases == 0 for r in own.ledger)
