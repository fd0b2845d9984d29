"""Where room comes from: examples of each rule, and any round of placing checked against what must hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.types import ExpertId
from memory_tiers.ledger import DeviceLedger
from memory_tiers.rooms import NOT_YET, Found, Rooms, Wanted
from memory_tiers.rules import Rules
from memory_tiers.types import Resident, ResidentState

NOW = 100.0
RULES = Rules(quantum_s=1.0, drains=1)
PATIENT, CALM, URGENT = (True, False), (False, False), (False, True)


def resident(name: str, size: int, *, device: int = 0, leases: int = 0, **more: object) -> Resident:
    """Ready for long, unless told otherwise."""
    known = {"state": ResidentState.READY, **more}
    return Resident(ExpertId(name), size, device, leases=leases, **known)  # type: ignore[arg-type]


def ledger_of(residents: Sequence[Resident], *budgets: int) -> DeviceLedger:
    ledger = DeviceLedger(budgets)
    for own in residents:
        ledger.admit(own)
    return ledger


def rooms_of(
    residents: Sequence[Resident],
    *budgets: int,
    losses: dict[str, float] | None = None,
    pinned: Collection[str] = (),
    rules: Rules = RULES,
) -> Rooms:
    """losses: by expert, 1 where not told."""
    known = losses or {}
    return Rooms(
        ledger_of(residents, *budgets),
        lambda some: [known.get(r.expert_id, 1.0) for r in some],
        {ExpertId(name) for name in pinned},
        rules,
        NOW,
    )


def find(rooms: Rooms, need: int, how: tuple[bool, bool] = CALM, *, may_load: bool = True) -> Found:
    return rooms.find(Wanted(need, *how), may_load=may_load)


def draining(residents: Sequence[Resident]) -> list[str]:
    return [r.expert_id for r in residents if r.draining]


def test_free_bytes_are_taken_at_once_on_the_emptiest_device() -> None:
    rooms = rooms_of([resident("a", 30), resident("b", 10, device=1)], 100, 100)
    assert find(rooms, 70) == Found(1)
    assert find(rooms, 0) == Found(0)  # an expert elsewhere needs no room


def test_a_load_that_may_not_begin_yet_keeps_its_room_from_those_behind() -> None:
    rooms = rooms_of([], 100)
    assert find(rooms, 70, may_load=False) is NOT_YET
    assert find(rooms, 30) == Found(0)
    assert find(rooms, 40) is NOT_YET
    assert find(rooms, 30) is NOT_YET  # it is kept for the one of 40


def test_what_is_being_freed_is_waited_for_and_promised_once() -> None:
    going = resident("a", 60, state=ResidentState.UNLOADING)
    idle = resident("b", 40)
    rooms = rooms_of([going, idle], 100)
    assert find(rooms, 60) is NOT_YET  # what a gives back
    assert find(rooms, 40).victims == (idle,)


def test_the_device_on_which_room_costs_least_gives_it() -> None:
    dear, cheap = resident("a", 60), resident("b", 60, device=1)
    rooms = rooms_of([dear, cheap], 60, 60, losses={"a": 5.0, "b": 1.0})
    assert find(rooms, 50).victims == (cheap,)
    assert find(rooms, 50).victims == (dear,)  # the cheap one's room is promised


def test_sizes_that_differ_one_dear_or_several_cheap_ones_whatever_costs_less() -> None:
    large, small, other = resident("large", 60), resident("small", 30), resident("other", 30)
    for dear, chosen in ((5.0, (small, other)), (1.5, (large,))):
        rooms = rooms_of([large, small, other], 120, losses={"large": dear})
        assert find(rooms, 60).victims == chosen


def test_an_idle_one_goes_before_any_busy_one_however_dear() -> None:
    busy, idle = resident("busy", 50, leases=2), resident("idle", 50)
    rooms = rooms_of([busy, idle], 100, losses={"idle": 1e9})
    assert find(rooms, 50).victims == (idle,)
    assert draining([busy, idle]) == []


def test_who_is_patient_makes_nobody_drain_and_nobody_behind_takes_what_is_free() -> None:
    busy = resident("busy", 60, leases=1)
    rooms = rooms_of([busy], 100)
    assert find(rooms, 50, PATIENT) is NOT_YET
    assert draining([busy]) == []
    assert find(rooms, 40) is NOT_YET  # 40 are free, for who came first
    assert find(rooms, 60) is NOT_YET


def test_only_so_many_drain_at_a_time_unless_time_runs_out() -> None:
    busy = [resident(name, 25, leases=1) for name in "abcd"]
    costs = {"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0}
    rooms = rooms_of(busy, 100, losses=costs)
    find(rooms, 25)
    assert draining(busy) == ["d"]
    find(rooms, 25)
    assert draining(busy) == ["d"]
    find(rooms, 25, URGENT)
    assert draining(busy) == ["c", "d"]


def test_two_may_drain_where_the_rules_say_so() -> None:
    busy = [resident(name, 25, leases=1) for name in "abcd"]
    rooms = rooms_of(busy, 100, rules=Rules(drains=2))
    for _ in range(3):
        find(rooms, 25)
    assert len(draining(busy)) == 2


def test_who_drains_already_is_chosen_again_rather_than_another() -> None:
    busy = [resident("a", 50, leases=1, draining=True), resident("b", 50, leases=1)]
    rooms = rooms_of(busy, 100, losses={"a": 9.0, "b": 1.0})
    assert find(rooms, 50) is NOT_YET
    assert draining(busy) == ["a"]
    assert rooms.spared() == []


def test_who_need_not_go_any_more_is_spared() -> None:
    busy = resident("a", 50, leases=1, draining=True)
    rooms = rooms_of([busy], 100)
    assert find(rooms, 50) == Found(0)
    assert rooms.spared() == [busy]
    assert draining([busy]) == []


def test_one_that_came_just_now_stays_for_its_quantum_unless_time_runs_out() -> None:
    new = resident("new", 100, ready_s=NOW - 0.5)
    assert find(rooms_of([new], 100), 50) is NOT_YET
    assert find(rooms_of([new], 100), 50, URGENT).victims == (new,)


@pytest.mark.parametrize("how", [PATIENT, CALM, URGENT])
def test_the_pinned_stay_whoever_asks(how: tuple[bool, bool]) -> None:
    pinned, busy = resident("p", 50), resident("q", 50, leases=1)
    rooms = rooms_of([pinned, busy], 100, pinned="pq")
    assert find(rooms, 50, how) is NOT_YET
    assert draining([pinned, busy]) == []


def test_a_budget_that_was_cut_is_kept_by_the_cheapest_and_by_busy_ones_where_these_are_not_enough() -> None:
    idle, busy = resident("idle", 40), resident("busy", 40, leases=1)
    ledger = ledger_of([idle, busy], 100)
    for budget, going, makes_room in ((50, [idle], []), (30, [], ["busy"])):
        ledger.budgets_bytes[0] = budget
        rooms = Rooms(ledger, lambda some: [1.0] * len(some), (), RULES, NOW)
        assert rooms.overdrawn() == going
        assert draining([idle, busy]) == makes_room


SIZES = st.sampled_from([10, 20, 30, 50])
RESIDENTS = st.lists(
    st.tuples(
        SIZES,
        st.integers(0, 1),
        st.sampled_from([ResidentState.READY, ResidentState.READY, *ResidentState]),
        st.integers(0, 1),
        st.booleans(),
        st.sampled_from([0.0, NOW - 0.5]),
    ),
    max_size=8,
)
WANTED = st.lists(st.tuples(SIZES, st.sampled_from([PATIENT, CALM, URGENT])), min_size=1, max_size=4)


def drawn(rows: Sequence[tuple[int, int, ResidentState, int, bool, float]]) -> list[Resident]:
    """Those that fit two devices of 100 bytes."""
    free, found = [100, 100], []
    for number, (size, device, state, leases, drains, ready_s) in enumerate(rows):
        if size > free[device]:
            continue
        free[device] -= size
        leased = leases if state is ResidentState.READY else 0
        drains_now = drains and leased > 0
        more = {"state": state, "draining": drains_now, "ready_s": ready_s}
        found.append(resident(f"e{number}", size, device=device, leases=leased, **more))
    return found


def least_loss(able: Sequence[Resident], losses: dict[str, float], missing: int) -> float:
    """By trying every set."""
    sets = (chosen for count in range(len(able) + 1) for chosen in combinations(able, count))
    return min(sum(losses[r.expert_id] for r in own) for own in sets if sum(r.device_bytes for r in own) >= missing)


@given(RESIDENTS, WANTED, st.sets(st.integers(0, 7), max_size=2), st.lists(st.integers(1, 9), min_size=8, max_size=8))
def test_whatever_a_round_decides_is_allowed(
    rows: list[tuple[int, int, ResidentState, int, bool, float]],
    wanted: list[tuple[int, tuple[bool, bool]]],
    pins: set[int],
    costs: list[int],
) -> None:
    residents = drawn(rows)
    losses = {f"e{number}": float(cost) for number, cost in enumerate(costs)}
    pinned = {f"e{number}" for number in pins}
    rooms = rooms_of(residents, 100, 100, losses=losses, pinned=pinned)
    check_round(rooms, residents, wanted, losses, pinned)


def check_round(
    rooms: Rooms,
    residents: list[Resident],
    wanted: Sequence[tuple[int, tuple[bool, bool]]],
    losses: dict[str, float],
    pinned: set[str],
) -> None:
    """Play a round as the scheduler does: loads take their bytes, victims go; nothing forbidden is ever decided."""
    free = [100 - sum(r.device_bytes for r in residents if r.device == device) for device in (0, 1)]
    drained_before = set(draining(residents))
    for number, (need, how) in enumerate(wanted):
        found = find(rooms, need, how)
        if found.device is not None:
            free[found.device] -= need
            assert free[found.device] >= 0, "a device is overdrawn"
            loading = resident(f"new{number}", need, device=found.device, state=ResidentState.LOADING)
            rooms._ledger.admit(loading)
        check_victims(found, pinned, urgent=how[1])
        if number == 0 and found.device is None:
            check_first(found, residents, need, losses, movable(residents, pinned, urgent=how[1]))
        for victim in found.victims:
            victim.state = ResidentState.UNLOADING
        fresh = {r.expert_id for r in residents if r.draining} - drained_before
        assert not fresh or how != PATIENT or number > 0, "somebody patient made a busy expert drain"
        if all(own != URGENT for _, own in wanted[: number + 1]):
            settled = {r.expert_id for r in residents if r.ready_s <= NOW - RULES.quantum_s}
            assert fresh <= settled, "a quantum was not kept"
    assert all(r.leases for r in residents if r.draining), "an idle expert drains"
    assert not pinned & (set(draining(residents)) - drained_before), "a pinned expert drains"


def check_victims(found: Found, pinned: set[str], *, urgent: bool) -> None:
    assert all(v.state is ResidentState.READY for v in found.victims), "one that moves is evicted"
    assert all(v.leases == 0 for v in found.victims), "a leased expert is evicted"
    assert not pinned & {v.expert_id for v in found.victims}, "a pinned expert is evicted"
    assert len({v.device for v in found.victims}) <= 1, "room on two devices is no room"
    assert urgent or all(v.ready_s <= NOW - RULES.quantum_s for v in found.victims), "a quantum was not kept"


def movable(residents: Sequence[Resident], pinned: set[str], *, urgent: bool) -> list[Resident]:
    settled_s = NOW if urgent else NOW - RULES.quantum_s
    ready = [r for r in residents if r.state is ResidentState.READY and r.ready_s <= settled_s]
    return [r for r in ready if r.leases == 0 and r.expert_id not in pinned]


def check_first(
    found: Found, residents: Sequence[Resident], need: int, losses: dict[str, float], able: Sequence[Resident]
) -> None:
    """Nothing is promised to anybody yet, so it is known what the cheapest room costs."""
    costs: list[float] = []
    for device in (0, 1):
        own = [r for r in residents if r.device == device and r.state is not ResidentState.UNLOADING]
        missing = need - (100 - sum(r.device_bytes for r in own))
        idle = [r for r in able if r.device == device]
        if sum(r.device_bytes for r in idle) >= missing:
            costs.append(least_loss(idle, losses, missing))
        if found.victims and found.victims[0].device == device:
            freed = sum(v.device_bytes for v in found.victims)
            assert freed >= missing, "too little was freed"
            assert all(freed - v.device_bytes < missing for v in found.victims), "a victim was superfluous"
    if costs and min(costs) > 0:
        assert sum(losses[v.expert_id] for v in found.victims) == pytest.approx(min(costs)), "cheaper room was there"
    else:
        assert not found.victims, "nobody has to go, or nobody may"


class LeasedToo(Rooms):
    def _cheapest(
        self, wanted: Wanted, devices: Sequence[int], may_go: Callable[[Resident], bool]
    ) -> tuple[int, list[Resident]] | None:
        del may_go
        return super()._cheapest(wanted, devices, lambda _: True)


class OneMore(Rooms):
    def find(self, wanted: Wanted, *, may_load: bool) -> Found:
        found = super().find(wanted, may_load=may_load)
        others = [r for own in self._on for r in own if r.leases == 0 and r not in found.victims]
        return Found(found.device, (*found.victims, *others[:1])) if found.victims else found


class NeverFull(Rooms):
    def find(self, wanted: Wanted, *, may_load: bool) -> Found:
        found = super().find(wanted, may_load=may_load)
        idle = [r for r in self._on[0] if r.leases == 0]
        return Found(victims=tuple(idle)) if found == NOT_YET else found


class DearestFirst(Rooms):
    def _loss(self, resident: Resident) -> float:
        return 100.0 - super()._loss(resident)


CASES: list[tuple[list[tuple[str, int, int]], int]] = [
    ([("e0", 40, 0), ("e1", 60, 0)], 40),
    ([("e0", 60, 1), ("e1", 40, 0)], 50),
    ([("e0", 40, 1), ("e1", 60, 1)], 40),
    ([("e0", 30, 0), ("e1", 30, 0), ("e2", 40, 0)], 20),
]


def play(kind: type[Rooms], case: list[tuple[str, int, int]], need: int) -> None:
    """A round on the first device; the second is pinned full."""
    residents = [resident(name, size, leases=leases) for name, size, leases in case]
    other = resident("other", 100, device=1)
    losses = {"e0": 3.0, "e1": 1.0, "e2": 2.0, "other": 1.0}
    ledger = ledger_of([*residents, other], 100, 100)
    pins = {ExpertId("other")}
    rooms = kind(ledger, lambda some: [losses[r.expert_id] for r in some], pins, RULES, NOW)
    check_round(rooms, [*residents, other], [(need, CALM)], losses, {"other"})


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (LeasedToo, "a leased expert is evicted"),
        (OneMore, "superfluous"),
        (NeverFull, "nobody may|too little"),
        (DearestFirst, "cheaper room was there"),
    ],
)
def test_broken_rooms_are_caught(broken: type[Rooms], complaint: str) -> None:
    caught = []
    for case, need in CASES:
        play(Rooms, case, need)
        try:
            play(broken, case, need)
        except AssertionError as problem:
            caught.append(str(problem))
    assert any(re.search(complaint, found) for found in caught), caught


def test_room_is_found_on_the_device_that_will_do_and_hopelessness_is_a_device_s_own() -> None:
    busy = resident("a", 90, device=1, leases=1)
    rooms = rooms_of([busy], 100, 100)
    assert rooms.find(Wanted(50, *CALM, device=1), may_load=True) == Found()
    assert rooms.find(Wanted(50, *CALM, device=1), may_load=True) == Found()
    assert rooms.find(Wanted(50, *CALM, device=0), may_load=True) == Found(0)
    assert find(rooms, 60) == Found(0)
