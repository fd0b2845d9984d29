"""Scheduler, tiers and planners together, driven by random events in any order; everything is checked after each."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, ClassVar

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from experts.errors import ExpertStartFailed
from experts.types import ExpertId
from memory_tiers.costs import DISK_TO_HOST
from memory_tiers.policies import POLICIES
from memory_tiers.rules import Rules
from memory_tiers.scheduler import Scheduler
from memory_tiers.types import (
    Asker,
    CopyState,
    Drop,
    Effect,
    Footprint,
    Grant,
    HostCopy,
    Load,
    Resident,
    ResidentState,
    Stage,
    Ticket,
    Tier,
    Unload,
)

FOOTPRINTS = {
    ExpertId("a"): Footprint(60, 55),
    ExpertId("b"): Footprint(50, 45),
    ExpertId("c"): Footprint(30, 25),
    ExpertId("d"): Footprint(30, device=1),  # never staged, and at home on one device only
    ExpertId("e"): Footprint(90, 85),
    ExpertId("remote"): Footprint(0),
    ExpertId("huge"): Footprint(500, 500),
}
DEVICES, HOST = [100, 70], 130
MAX_WAIT_S = 30.0
NAMES = st.sampled_from([name for name in FOOTPRINTS for _ in range(1 if name in {"huge", "remote"} else 3)])
NOBODY_OR_ONE_OF_TWO = st.sampled_from([None, "one", "two"])
PATIENCE = st.sampled_from([None, None, 4.0, 300.0])
ASKERS = st.builds(Asker, NOBODY_OR_ONE_OF_TWO, NOBODY_OR_ONE_OF_TWO, PATIENCE)
SECONDS = st.sampled_from([0.1, 0.5, 5.0, 40.0])  # a fast machine, and one that stalls


@dataclass
class Moves:
    """What was begun and not reported yet."""

    loading: list[Resident] = field(default_factory=list)
    unloading: list[Resident] = field(default_factory=list)
    staging: list[HostCopy] = field(default_factory=list)
    dropping: list[HostCopy] = field(default_factory=list)


class SchedulerMachine(RuleBasedStateMachine):
    """Plays the manager: performs effects in any order, at any later time."""

    scheduler: Scheduler

    tickets = Bundle("tickets")
    seen: ClassVar[Counter[str]] = Counter()  # in how many steps of all runs

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.moves = Moves()
        self.waiting: dict[int, Ticket] = {}
        self.held: dict[int, Ticket] = {}
        self.kept: list[Ticket] = []  # so that no id comes twice
        self.most_bytes = list(DEVICES)
        self.begun = False

    @initialize(
        join_window_s=st.sampled_from([0.0, 2.0]),
        quantum_s=st.sampled_from([0.0, 1.0]),
        moves=st.integers(1, 2),
        drains=st.integers(1, 2),
    )
    def begin(self, join_window_s: float, quantum_s: float, moves: int, drains: int) -> None:
        rules = Rules(join_window_s, MAX_WAIT_S, quantum_s, drains, retry_after_s=3.0, loads=moves, stagings=moves)
        self.scheduler = self.make(rules)

    def make(self, rules: Rules) -> Scheduler:
        return Scheduler(FOOTPRINTS, DEVICES, HOST, rules=rules, policy=POLICIES["default"])

    def perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Load):
                self.begin_load(effect.resident)
            elif isinstance(effect, Unload):
                assert effect.resident.leases == 0, "a leased expert is evicted"
                assert effect.resident not in self.moves.unloading, "unloaded twice"
                self.moves.unloading.append(effect.resident)
            elif isinstance(effect, Stage):
                self.moves.staging.append(effect.copy)
            elif isinstance(effect, Drop):
                assert effect.copy.readers == 0, "a copy is dropped while it is read"
                if effect.copy in self.moves.staging:
                    self.moves.staging.remove(effect.copy)
                self.moves.dropping.append(effect.copy)
            elif isinstance(effect, Grant):
                self.grant(effect.ticket)
            else:
                assert self.waiting.pop(id(effect.ticket), None) is not None, "refused twice or after withdrawal"

    def begin_load(self, resident: Resident) -> None:
        assert resident.expert_id not in [r.expert_id for r in self.moves.loading], "loaded twice at once"
        if resident.source is Tier.HOST:
            copy = self.scheduler.host.ledger.get(resident.expert_id)
            assert copy is not None
            assert copy.state is CopyState.READY, "loaded from a copy that is not there"
        self.moves.loading.append(resident)

    def grant(self, ticket: Ticket) -> None:
        assert self.waiting.pop(id(ticket), None) is not None, "granted twice or after withdrawal"
        assert ticket.resident is not None
        assert ticket.resident.state is ResidentState.READY, "granted before it was ready"
        self.held[id(ticket)] = ticket

    @rule(target=tickets, expert=NAMES, asker=ASKERS, settles=st.booleans())
    def ask(self, expert: ExpertId, asker: Asker, settles: bool) -> Ticket:
        return self.request(expert, asker, settles=settles)

    def request(self, expert: ExpertId, asker: Asker, *, settles: bool) -> Ticket:
        ticket, effects = self.scheduler.request(expert, self.now, asker)
        self.kept.append(ticket)
        if ticket.resident is not None:
            self.held[id(ticket)] = ticket
            assert not ticket.resident.draining, "joined one that makes room"
        else:
            self.waiting[id(ticket)] = ticket
        self.perform(effects)
        if settles:
            self.finish_everything()
        return ticket

    @rule(target=tickets, experts=st.permutations(list("abcde")))
    def fill(self, experts: list[str]) -> Any:
        """As many as fit are leased, so that whoever comes next needs room that is in use."""
        return multiple(*(self.request(ExpertId(name), Asker(), settles=True) for name in experts))

    @rule(ticket=consumes(tickets), twice=st.booleans())
    def withdraw(self, ticket: Ticket, twice: bool) -> None:
        self.waiting.pop(id(ticket), None)
        self.held.pop(id(ticket), None)
        self.perform(self.scheduler.withdraw(ticket, self.now))
        if twice:
            self.perform(self.scheduler.withdraw(ticket, self.now))

    @rule(fails=st.booleans(), index=st.integers(0, 9), took_s=SECONDS)
    def finish_load(self, fails: bool, index: int, took_s: float) -> None:
        if not self.moves.loading:
            return
        resident = self.moves.loading.pop(index % len(self.moves.loading))
        if fails:
            error = ExpertStartFailed(resident.expert_id, "no")
            self.perform(self.scheduler.load_failed(resident, error, self.now))
        else:
            self.perform(self.scheduler.loaded(resident, self.now, took_s))

    @rule(index=st.integers(0, 9))
    def finish_unload(self, index: int) -> None:
        if self.moves.unloading:
            resident = self.moves.unloading.pop(index % len(self.moves.unloading))
            self.perform(self.scheduler.unloaded(resident, self.now))

    @rule(fails=st.booleans(), index=st.integers(0, 9), took_s=SECONDS)
    def finish_stage(self, fails: bool, index: int, took_s: float) -> None:
        if not self.moves.staging:
            return
        copy = self.moves.staging.pop(index % len(self.moves.staging))
        if fails:
            self.perform(self.scheduler.stage_failed(copy, self.now))
        else:
            self.perform(self.scheduler.staged(copy, self.now, took_s))

    @rule(index=st.integers(0, 9))
    def finish_drop(self, index: int) -> None:
        if self.moves.dropping:
            copy = self.moves.dropping.pop(index % len(self.moves.dropping))
            self.perform(self.scheduler.dropped(copy, self.now))

    def finish_everything(self) -> None:
        """Every move under way ends well, and those that follow from it."""
        for _ in range(50):
            if not self.finish_one():
                break
            self.books_are_right()

    def finish_one(self) -> bool:
        moves = self.moves
        if moves.loading:
            self.perform(self.scheduler.loaded(moves.loading.pop(), self.now, 0.5))
        elif moves.unloading:
            self.perform(self.scheduler.unloaded(moves.unloading.pop(), self.now))
        elif moves.staging:
            self.perform(self.scheduler.staged(moves.staging.pop(), self.now, 5.0))
        elif moves.dropping:
            self.perform(self.scheduler.dropped(moves.dropping.pop(), self.now))
        else:
            return False
        return True

    @rule(expert=NAMES)
    def crash(self, expert: ExpertId) -> None:
        resident = self.scheduler.ledger.get(expert)
        if resident is not None:
            self.perform(self.scheduler.crashed(resident, self.now))

    @rule(expert=NAMES)
    def evict(self, expert: ExpertId) -> None:
        self.perform(self.scheduler.evict(expert))

    @rule(expert=NAMES, tier=st.sampled_from([Tier.DEVICE, Tier.HOST]))
    def bring(self, expert: ExpertId, tier: Tier) -> None:
        self.perform(self.scheduler.bring(expert, tier))

    @rule(expert=NAMES, pinned=st.booleans())
    def pin(self, expert: ExpertId, pinned: bool) -> None:
        (self.scheduler.pinned.add if pinned else self.scheduler.pinned.discard)(expert)

    @rule(device=st.integers(0, 1), budget=st.sampled_from([60, 100, 120]))
    def change_budget(self, device: int, budget: int) -> None:
        self.perform(self.scheduler.set_device_budget(device, budget, self.now))

    @rule(seconds=st.floats(0, 12))
    def wait(self, seconds: float) -> None:
        """Time passes as a manager lets it: at every moment that was announced it looks again."""
        end = self.now + seconds
        while (wake := self.scheduler.wake_at_s(self.now)) <= end:
            assert wake > self.now, "time stands still"
            self.now = wake
            self.perform(self.scheduler.tick(self.now))
            self.books_are_right()
        self.now = end

    @invariant()
    def books_are_right(self) -> None:
        scheduler = self.scheduler
        scheduler.check_invariants()
        assert scheduler.waiting == len(self.waiting)
        for resident in scheduler.ledger:
            pins = sum(t.resident is resident for t in self.held.values())
            assert resident.leases == pins, "a pin leaked or got lost"
            assert resident.device in FOOTPRINTS[resident.expert_id].devices(len(DEVICES)), "on a device of others"
        assert scheduler.host.ledger.used_bytes <= HOST
        for ticket in self.waiting.values():
            loading = any(r.expert_id == ticket.expert_id for r in self.moves.loading)
            reading_s = scheduler.costs.seconds(ticket.expert_id, DISK_TO_HOST, FOOTPRINTS[ticket.expert_id].host_bytes)
            read = scheduler.host.ledger.get(ticket.expert_id) is not None
            late_s = self.now - ticket.start_by_s
            assert loading or late_s <= (reading_s if read else 0.0), "somebody waits beyond the bound"
        for device, budget in enumerate(scheduler.ledger.budgets_bytes):
            used = budget - scheduler.ledger.free_bytes(device)
            self.most_bytes[device] = max(budget, min(self.most_bytes[device], used))
            assert used <= self.most_bytes[device], "a budget is overdrawn"

    @invariant()
    def counted(self) -> None:
        """What there was to see after each step, so that it is known what was tried."""
        scheduler, tally = self.scheduler, self.scheduler.tally
        self.seen["steps"] += self.begun
        self.begun = True
        self.seen["a busy expert makes room"] += any(r.draining and r.leases for r in scheduler.ledger)
        self.seen["two lease one expert"] += any(r.leases > 1 for r in scheduler.ledger)
        self.seen["a guess on its way"] += any(r.foreseen for r in self.moves.loading)
        self.seen["a guess is being read"] += any(copy.foreseen for copy in self.moves.staging)
        self.seen["loads from host memory"] += any(r.source is Tier.HOST for r in self.moves.loading)
        self.seen["loads from disk"] += any(r.source is Tier.DISK and r.device_bytes for r in self.moves.loading)
        self.seen["somebody was refused"] += tally.refused > 0
        self.seen["a budget is not kept yet"] += any(scheduler.ledger.free_bytes(device) < 0 for device in (0, 1))

    def teardown(self) -> None:
        """Once every move ends and every lease is given back, nobody is left waiting."""
        self.scheduler.pinned.clear()
        for device, budget in enumerate(DEVICES):
            self.perform(self.scheduler.set_device_budget(device, budget, self.now))
        for _ in range(1000):
            for ticket in list(self.held.values()):
                self.held.pop(id(ticket))
                self.perform(self.scheduler.withdraw(ticket, self.now))
            if not self.finish_one():
                if not self.waiting:
                    break
                self.wait(2.0)
            self.scheduler.check_invariants()
        assert not self.waiting, "somebody waits forever"


def run(machine: type[SchedulerMachine], examples: int, **more: Any) -> Counter[str]:
    """Run a machine; in how many steps it saw what."""
    machine.seen = Counter()
    chosen = settings(max_examples=examples, stateful_step_count=60, deadline=None, **more)
    run_state_machine_as_test(machine, settings=chosen)
    return machine.seen


def test_ten_thousand_steps_and_the_books_are_right_after_each() -> None:
    assert run(SchedulerMachine, 250)["steps"] >= 10_000


def test_what_the_machine_is_for_is_tried() -> None:
    seen = run(SchedulerMachine, 120, derandomize=True, database=None)
    assert min(seen.values()) > 20, f"hardly tried: {seen}"
