"""The scheduler's rules by example."""

from __future__ import annotations

from collections.abc import Sequence

import hypothesis.strategies as st
from hypothesis import given

from experts.errors import ExpertStartFailed, ExpertUnreachable, QueueFull, TierFull
from experts.types import ExpertId
from memory_tiers.costs import DISK_TO_HOST, HOST_TO_DEVICE
from memory_tiers.policies.default import Default
from memory_tiers.rules import Rules
from memory_tiers.scheduler import Scheduler
from memory_tiers.types import Asker, Drop, Effect, Fail, Footprint, Grant, Load, Stage, Ticket, Tier, Unload

SIZES = {ExpertId("a"): 60, ExpertId("b"): 50, ExpertId("c"): 30, ExpertId("remote"): 0, ExpertId("huge"): 500}
BUDGET = 100


def scheduler_of(
    sizes: dict[ExpertId, int] = SIZES, *, host_bytes: int = 0, devices: int = 1, **rules: float
) -> Scheduler:
    """Nothing is foreseen and nobody is held for a quantum, unless the rules say so; copies are as large as experts."""
    footprints = {expert: Footprint(size, size if host_bytes else 0) for expert, size in sizes.items()}
    chosen = Rules(**{"prefetch": False, "quantum_s": 0.0, **rules})  # type: ignore[arg-type]
    return Scheduler(footprints, [BUDGET] * devices, host_bytes, rules=chosen)


def ready(scheduler: Scheduler, name: str, now: float = 0.0) -> Ticket:
    ticket, effects = scheduler.request(ExpertId(name), now)
    for effect in effects:
        if isinstance(effect, Load):
            scheduler.loaded(effect.resident, now)
    return ticket


def test_one_load_serves_everyone_who_waits_for_it() -> None:
    scheduler = scheduler_of()
    first, effects = scheduler.request(ExpertId("a"), 0)
    second, more = scheduler.request(ExpertId("a"), 0)
    assert len(effects) == 1
    assert more == []
    assert isinstance(effects[0], Load)
    granted = scheduler.loaded(effects[0].resident, 1)
    assert granted == [Grant(first), Grant(second)]
    assert effects[0].resident.leases == 2


def test_an_expert_that_can_never_fit_is_refused_at_once() -> None:
    _, effects = scheduler_of().request(ExpertId("huge"), 0)
    assert isinstance(effects[0], Fail)
    assert isinstance(effects[0].error, TierFull)
    assert "500" in str(effects[0].error)
    assert "100" in str(effects[0].error)


def test_newcomers_join_a_busy_expert_only_within_the_window() -> None:
    scheduler = scheduler_of(join_window_s=2.0)
    holder = ready(scheduler, "a")
    waiter, effects = scheduler.request(ExpertId("b"), 10.0)
    assert effects == []  # a is leased: no room yet
    joined, _ = scheduler.request(ExpertId("a"), 11.0)
    assert scheduler.wake_at_s(11.0) == 12.0
    scheduler.tick(12.0)
    late, _ = scheduler.request(ExpertId("a"), 13.0)
    assert joined.resident is not None
    assert late.resident is None
    assert scheduler.withdraw(joined, 14.0) == []
    effects = scheduler.withdraw(holder, 14.0)
    assert [type(e) for e in effects] == [Unload]
    assert isinstance(effects[0], Unload)
    effects = scheduler.unloaded(effects[0].resident, 15.0)
    assert [type(e) for e in effects] == [Load]
    assert isinstance(effects[0], Load)
    assert scheduler.loaded(effects[0].resident, 16.0)[0] == Grant(waiter)


def test_nobody_takes_the_room_somebody_waits_for() -> None:
    scheduler = scheduler_of()
    ready(scheduler, "a")  # 60 of 100 bytes, leased
    scheduler.request(ExpertId("b"), 1.0)  # needs 50: waits
    _, effects = scheduler.request(ExpertId("c"), 2.0)  # 30 would fit, but b was first
    assert effects == []


def finish(scheduler: Scheduler, effects: list[Effect], held: list[Ticket], now: float) -> None:
    """Let every move end and every grant be given back, until nothing happens any more."""
    while effects or held:
        if held:
            effects = effects + scheduler.withdraw(held.pop(), now)
            continue
        effect, effects = effects[0], effects[1:]
        if isinstance(effect, Load):
            effects = effects + scheduler.loaded(effect.resident, now)
        elif isinstance(effect, Unload):
            effects = effects + scheduler.unloaded(effect.resident, now)
        elif isinstance(effect, Grant):
            held.append(effect.ticket)


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c", "remote"]), st.floats(0, 4), st.booleans()), max_size=20))
def test_when_everything_ends_nobody_waits(arrivals: list[tuple[str, float, bool]]) -> None:
    scheduler = scheduler_of(SIZES | {ExpertId("d"): 40}, join_window_s=1.0)
    now, effects, held = 0.0, [], []
    for name, pause, release in arrivals:
        now += pause
        ticket, more = scheduler.request(ExpertId(name), now)
        effects = effects + more
        if ticket.resident is not None:
            held.append(ticket)
        if release and held:
            effects = effects + scheduler.withdraw(held.pop(0), now)
        if release and effects:  # one move ends in between
            effect, effects = effects[0], effects[1:]
            if isinstance(effect, Load):
                effects = effects + scheduler.loaded(effect.resident, now)
            elif isinstance(effect, Unload):
                effects = effects + scheduler.unloaded(effect.resident, now)
            elif isinstance(effect, Grant):
                held.append(effect.ticket)
    finish(scheduler, effects, held, now)
    scheduler.check_invariants()
    assert scheduler.waiting == 0


def test_two_ready_experts_do_not_bar_each_other() -> None:
    sizes = {ExpertId("a"): 40, ExpertId("b"): 40, ExpertId("c"): 90}
    scheduler = scheduler_of(sizes, join_window_s=1.0)
    ready(scheduler, "a")
    ready(scheduler, "b")
    gives_up, _ = scheduler.request(ExpertId("c"), 10.0)
    scheduler.tick(11.0)
    late = [scheduler.request(ExpertId(name), 12.0)[0] for name in ("a", "b")]
    assert [ticket.resident for ticket in late] == [None, None]
    assert scheduler.withdraw(gives_up, 14.0) == [Grant(ticket) for ticket in late]
    assert scheduler.waiting == 0


def test_an_expert_elsewhere_waits_for_nobodys_room() -> None:
    scheduler = scheduler_of(join_window_s=0.0)
    ready(scheduler, "a")
    scheduler.request(ExpertId("b"), 1.0)  # waits for a's room
    first, effects = scheduler.request(ExpertId("remote"), 5.0)
    assert [type(e) for e in effects] == [Load]
    assert isinstance(effects[0], Load)
    assert scheduler.loaded(effects[0].resident, 5.0) == [Grant(first)]
    again, _ = scheduler.request(ExpertId("remote"), 9.0)
    assert again.resident is not None


def test_an_expert_that_failed_is_not_tried_at_once() -> None:
    scheduler = scheduler_of(retry_after_s=5.0)
    _, effects = scheduler.request(ExpertId("a"), 0.0)
    assert isinstance(effects[0], Load)
    error = ExpertStartFailed("a", "broken file")
    scheduler.load_failed(effects[0].resident, error, 1.0)
    ticket, effects = scheduler.request(ExpertId("a"), 3.0)
    assert effects == [Fail(ticket, error)]
    _, effects = scheduler.request(ExpertId("a"), 7.0)
    assert [type(e) for e in effects] == [Load]


def test_close_refuses_who_waits_and_who_comes() -> None:
    scheduler = scheduler_of()
    ready(scheduler, "a")
    waiter, _ = scheduler.request(ExpertId("b"), 1.0)
    effects = scheduler.close()
    assert [e.ticket for e in effects if isinstance(e, Fail)] == [waiter]
    _, effects = scheduler.request(ExpertId("c"), 2.0)
    assert isinstance(effects[0], Fail)
    assert isinstance(effects[0].error, ExpertUnreachable)


A, B, C = ExpertId("a"), ExpertId("b"), ExpertId("c")


def only(effects: list[Effect], kind: type[Effect]) -> list[Effect]:
    return [effect for effect in effects if isinstance(effect, kind)]


def test_weights_are_staged_before_anybody_makes_room_for_them() -> None:
    scheduler = scheduler_of(host_bytes=200, join_window_s=0.0)
    holder, effects = scheduler.request(A, 0.0)
    assert [type(e) for e in effects] == [Stage]
    stage = effects[0]
    assert isinstance(stage, Stage)
    effects = scheduler.staged(stage.copy, 7.0, 7.0)
    assert [type(e) for e in effects] == [Load]
    assert isinstance(effects[0], Load)
    assert effects[0].resident.source is Tier.HOST
    scheduler.loaded(effects[0].resident, 7.5, 0.5)
    assert holder.resident is not None
    _, effects = scheduler.request(B, 8.0)
    assert [type(e) for e in effects] == [Stage]
    joined, _ = scheduler.request(A, 9.0)  # B's weights are still on their way: A need not make room
    assert joined.resident is not None


def loads_of(effects: list[Effect]) -> list[Load]:
    return [effect for effect in effects if isinstance(effect, Load)]


def failed_from_host_memory() -> tuple[Scheduler, Ticket, list[Effect]]:
    """A load from a copy has failed; what follows of it."""
    scheduler = scheduler_of(host_bytes=200)
    ticket, effects = scheduler.request(A, 0.0)
    assert isinstance(effects[0], Stage)
    [load] = loads_of(scheduler.staged(effects[0].copy, 1.0))
    assert load.resident.source is Tier.HOST
    return scheduler, ticket, scheduler.load_failed(load.resident, ExpertStartFailed("a", "a bad copy"), 2.0)


def test_a_load_from_host_memory_that_fails_is_tried_once_more_from_disk() -> None:
    scheduler, ticket, effects = failed_from_host_memory()
    [load] = loads_of(effects)
    assert load.resident.source is Tier.DISK
    assert only(effects, Drop)
    effects = scheduler.load_failed(load.resident, ExpertStartFailed("a", "a bad file"), 4.0)
    assert [(e.ticket, str(e.error)) for e in effects if isinstance(e, Fail)] == [(ticket, "expert 'a': a bad file")]
    _, effects = scheduler.request(A, 5.0)
    assert [type(e) for e in effects] == [Fail]  # it rests
    _, effects = scheduler.request(A, 60.0)
    assert [load.resident.source for load in loads_of(effects)] == [Tier.DISK]


def test_once_a_load_from_disk_was_good_copies_are_made_again() -> None:
    scheduler, ticket, effects = failed_from_host_memory()
    [drop] = [effect for effect in effects if isinstance(effect, Drop)]
    scheduler.dropped(drop.copy, 2.0)
    assert scheduler.loaded(loads_of(effects)[0].resident, 3.0)[0] == Grant(ticket)
    scheduler.withdraw(ticket, 4.0)
    [gone] = scheduler.evict(A)
    assert isinstance(gone, Unload)
    scheduler.unloaded(gone.resident, 5.0)
    _, effects = scheduler.request(A, 6.0)
    assert [type(e) for e in effects] == [Stage]


def test_weights_that_cannot_be_read_into_host_memory_are_loaded_from_disk() -> None:
    scheduler = scheduler_of(host_bytes=200)
    _, effects = scheduler.request(A, 0.0)
    assert isinstance(effects[0], Stage)
    assert [load.resident.source for load in loads_of(scheduler.stage_failed(effects[0].copy, 1.0))] == [Tier.DISK]


def test_who_is_due_last_is_read_first_only_while_there_is_time() -> None:
    sizes = {ExpertId(name): 30 for name in "abc"}
    scheduler = scheduler_of(sizes, host_bytes=90, join_window_s=1000.0, max_wait_s=30.0)
    for name in "abc":  # everybody's reading takes 10 s
        scheduler.costs.observed(ExpertId(name), DISK_TO_HOST, 30, 10.0)
        scheduler.costs.observed(ExpertId(name), HOST_TO_DEVICE, 30, 0.0)
    _, effects = scheduler.request(C, 0.0)  # is read at once
    scheduler.request(A, 1.0)
    for _ in range(9):
        scheduler.request(B, 2.0)  # a crowd, but who came first has to begin by 31 - 10 - 10
    assert isinstance(effects[0], Stage)
    effects = scheduler.staged(effects[0].copy, 11.5, 10.0)
    assert [e.copy.expert_id for e in effects if isinstance(e, Stage)] == [A]


def test_who_is_due_while_its_weights_are_read_is_not_refused_at_the_last_moment() -> None:
    scheduler = scheduler_of(host_bytes=200, max_wait_s=10.0)
    scheduler.costs.observed(A, DISK_TO_HOST, 60, 8.0)
    ticket, effects = scheduler.request(A, 0.0)
    assert scheduler.tick(10.0) == []  # the disk is slower than it was
    assert isinstance(effects[0], Stage)
    [load] = loads_of(scheduler.staged(effects[0].copy, 12.0, 12.0))
    assert scheduler.loaded(load.resident, 12.5)[0] == Grant(ticket)


def test_a_reading_that_never_ends_keeps_nobody_for_longer_than_one_reading() -> None:
    scheduler = scheduler_of(host_bytes=200, max_wait_s=10.0)
    scheduler.costs.observed(A, DISK_TO_HOST, 60, 8.0)
    scheduler.request(A, 0.0)
    assert scheduler.tick(17.9) == []
    assert scheduler.wake_at_s(17.9) == 18.0
    assert [type(e) for e in scheduler.tick(18.0)] == [Fail]


def test_only_as_many_busy_experts_make_room_as_are_needed() -> None:
    sizes = {ExpertId(name): 25 for name in "abcdef"}
    scheduler = scheduler_of(sizes, join_window_s=1.0)
    for name in "abcd":
        ready(scheduler, name)
    scheduler.request(ExpertId("e"), 10.0)
    assert scheduler.tick(11.0) == []
    assert sum(r.draining for r in scheduler.ledger) == 1
    open_still = [r.expert_id for r in scheduler.ledger if r.open]
    assert all(scheduler.request(e, 12.0)[0].resident is not None for e in open_still)


def test_who_need_not_make_room_after_all_takes_requests_again() -> None:
    scheduler = scheduler_of(join_window_s=1.0)
    ready(scheduler, "a")
    leaves, _ = scheduler.request(B, 10.0)
    scheduler.tick(11.0)
    kept_out, _ = scheduler.request(A, 12.0)
    assert kept_out.resident is None
    assert scheduler.withdraw(leaves, 13.0) == [Grant(kept_out)]


def test_a_quantum_is_kept_unless_time_runs_out() -> None:
    scheduler = scheduler_of(join_window_s=0.0, quantum_s=5.0, max_wait_s=20.0)
    ready(scheduler, "a", 0.0)
    scheduler.request(B, 1.0)
    assert not any(r.draining for r in scheduler.ledger)
    assert scheduler.wake_at_s(1.0) == 5.0
    scheduler.tick(5.0)
    assert [r.draining for r in scheduler.ledger] == [True]


def test_the_rarely_asked_come_first_when_their_time_runs_out() -> None:
    sizes = {ExpertId(name): 80 for name in "abc"}
    scheduler = scheduler_of(sizes, join_window_s=1000.0, max_wait_s=30.0)
    holder = ready(scheduler, "a")
    lonely, _ = scheduler.request(B, 0.0)
    crowd = [scheduler.request(C, 1.0)[0] for _ in range(5)]
    effects = scheduler.withdraw(holder, 29.9)  # most wait for c, but b's time is nearly over
    assert isinstance(effects[0], Unload)
    effects = scheduler.unloaded(effects[0].resident, 29.9)
    assert isinstance(effects[0], Load)
    assert effects[0].resident.expert_id == B
    assert scheduler.loaded(effects[0].resident, 30.5)[0] == Grant(lonely)
    assert all(ticket.resident is None for ticket in crowd)


def test_most_requests_for_a_load_come_first_otherwise() -> None:
    sizes = {ExpertId(name): 80 for name in "abc"}
    scheduler = scheduler_of(sizes, join_window_s=1000.0, max_wait_s=1000.0)
    holder = ready(scheduler, "a")
    scheduler.request(B, 0.0)
    crowd = [scheduler.request(C, 1.0)[0] for _ in range(5)]
    effects = scheduler.withdraw(holder, 5.0)
    assert isinstance(effects[0], Unload)
    effects = scheduler.unloaded(effects[0].resident, 5.0)
    assert isinstance(effects[0], Load)
    assert scheduler.loaded(effects[0].resident, 6.0)[:5] == [Grant(ticket) for ticket in crowd]


def test_who_cannot_be_served_in_time_is_refused() -> None:
    scheduler = scheduler_of(join_window_s=1000.0, max_wait_s=10.0)
    ready(scheduler, "a")
    late, _ = scheduler.request(B, 0.0)
    assert scheduler.tick(9.9) == []
    refused = scheduler.tick(10.0)
    assert [e.ticket for e in refused if isinstance(e, Fail)] == [late]
    assert isinstance(refused[0], Fail)
    assert isinstance(refused[0].error, QueueFull)
    assert scheduler.waiting == 0


def test_an_expert_goes_where_room_costs_least() -> None:
    sizes = {ExpertId(name): 60 for name in "abc"}
    scheduler = scheduler_of(sizes, devices=2)
    first = ready(scheduler, "a")
    ready(scheduler, "b")
    assert sorted(r.device for r in scheduler.ledger) == [0, 1]
    scheduler.withdraw(first, 1.0)
    _, effects = scheduler.request(C, 2.0)
    assert isinstance(effects[0], Unload)
    assert effects[0].resident.expert_id == A


def test_a_budget_that_is_cut_is_kept_as_soon_as_leases_allow() -> None:
    sizes = {ExpertId(name): 40 for name in "ab"}
    scheduler = scheduler_of(sizes)
    busy = ready(scheduler, "a")
    scheduler.withdraw(ready(scheduler, "b"), 1.0)
    effects = scheduler.set_device_budget(0, 50, 2.0)
    assert [e.resident.expert_id for e in effects if isinstance(e, Unload)] == [B]
    assert isinstance(effects[0], Unload)
    scheduler.unloaded(effects[0].resident, 2.0)
    assert scheduler.set_device_budget(0, 30, 3.0) == []
    kept_out, _ = scheduler.request(A, 4.0)
    assert kept_out.resident is None
    effects = scheduler.withdraw(busy, 5.0)
    assert [e.resident.expert_id for e in effects if isinstance(e, Unload)] == [A]


def test_pinned_experts_stay() -> None:
    scheduler = scheduler_of()
    scheduler.pinned.add(A)
    scheduler.withdraw(ready(scheduler, "a"), 1.0)
    _, effects = scheduler.request(B, 2.0)
    assert only(effects, Unload) == []


def test_what_comes_next_in_a_conversation_is_brought_in_while_nobody_waits() -> None:
    sizes = {ExpertId(name): 40 for name in "abcd"}
    scheduler = scheduler_of(sizes, prefetch=True)
    now, foreseen = 0.0, 0
    for turn in range(200):  # a to b to c to d and again, two fit at once
        now += 10.0
        ticket, effects = scheduler.request(ExpertId("abcd"[turn % 4]), now, Asker(session="one"))
        held = [ticket] if ticket.resident is not None else []
        while effects or held:
            if held:
                effects = effects + scheduler.withdraw(held.pop(), now + 1)
                continue
            effect, effects = effects[0], effects[1:]
            if isinstance(effect, Load):
                effects = effects + scheduler.loaded(effect.resident, now + 1)
            elif isinstance(effect, Unload):
                effects = effects + scheduler.unloaded(effect.resident, now + 1)
            elif isinstance(effect, Grant):
                held.append(effect.ticket)
        foreseen = scheduler.tally.hidden
    assert foreseen > 120
    assert scheduler.tally.hits > 120


class Listening(Default):
    """Notes what it is told of the queue."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[list[ExpertId]] = []

    def upcoming(self, experts: Sequence[ExpertId]) -> None:
        self.told.append(list(experts))
        super().upcoming(experts)


def test_the_policy_is_told_who_waits_before_it_is_asked_who_goes() -> None:
    made: list[Listening] = []

    def listening() -> Listening:
        made.append(Listening())
        return made[-1]

    footprints = {ExpertId(name): Footprint(50) for name in "abcd"}
    rules = Rules(join_window_s=0.0, quantum_s=0.0, prefetch=False)
    scheduler = Scheduler(footprints, [BUDGET], rules=rules, policy=listening)
    held = [ready(scheduler, name) for name in "ab"]
    scheduler.request(C, 1.0)
    scheduler.request(ExpertId("d"), 2.0)
    assert made[0].told[-1] == [C, "d"]
    scheduler.withdraw(held[1], 3.0)
    assert made[0].told[-1] == [C, "d"]


def test_an_expert_of_one_device_loads_there_waits_for_it_and_is_measured_by_it() -> None:
    footprints = {
        ExpertId("any"): Footprint(60),
        ExpertId("own"): Footprint(60, device=1),
        ExpertId("large"): Footprint(90, device=1),
    }
    scheduler = Scheduler(footprints, [100, 80], rules=Rules(prefetch=False, quantum_s=0.0))
    _, effects = scheduler.request(ExpertId("large"), 0.0)
    assert isinstance(effects[0], Fail)
    assert "90 bytes; the device budget is 80" in str(effects[0].error)
    scheduler.request(ExpertId("any"), 0.0)
    ready(scheduler, "own")
    assert {r.expert_id: r.device for r in scheduler.ledger} == {"any": 0, "own": 1}

    scheduler = Scheduler(footprints, [60, 80], rules=Rules(prefetch=False, quantum_s=0.0))
    ticket = ready(scheduler, "any")  # on the device with more room, which the other one needs
    _, effects = scheduler.request(ExpertId("own"), 1.0)
    assert effects == []
    effects = scheduler.withdraw(ticket, 2.0)
    assert [effect.resident.expert_id for effect in effects if isinstance(effect, Unload)] == ["any"]
