"""Scheduler, tiers and planners together, driven by random events in any order; everything is checked after each."""

from __future__ import annotations

from dataclasses import dataclass, field

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from experts.errors import ExpertStartFailed
from experts.types import ExpertId
from memory_tiers.policies import POLICIES
from memory_tiers.rules import Rules
from memory_tiers.scheduler import Scheduler
from memory_tiers.types import (
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
    ExpertId("d"): Footprint(30),  # never staged
    ExpertId("e"): Footprint(90, 85),
    ExpertId("remote"): Footprint(0),
    ExpertId("huge"): Footprint(500, 500),
}
DEVICES, HOST = [100, 70], 130
MAX_WAIT_S, STAGE_S = 30.0, 5.0
NAMES = st.sampled_from(list(FOOTPRINTS))


@dataclass
class Moves:
    """What was begun and not reported yet."""

    loading: list[Resident] = field(default_factory=list)
    unloading: list[Resident] = field(default_factory=list)
    staging: list[HostCopy] = field(default_factory=list)
    dropping: list[HostCopy] = field(default_factory=list)


class SchedulerMachine(RuleBasedStateMachine):
    """Plays the manager: performs effects in any order, at any later time."""

    tickets = Bundle("tickets")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        rules = Rules(join_window_s=2.0, max_wait_s=MAX_WAIT_S, quantum_s=1.0, retry_after_s=3.0)
        self.scheduler = self.make(rules)
        self.moves = Moves()
        self.waiting: dict[int, Ticket] = {}
        self.held: dict[int, Ticket] = {}
        self.kept: list[Ticket] = []  # so that no id comes twice

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

    @rule(target=tickets, expert=NAMES, session=st.sampled_from([None, "one", "two"]))
    def request(self, expert: ExpertId, session: str | None) -> Ticket:
        ticket, effects = self.scheduler.request(expert, self.now, session=session)
        self.kept.append(ticket)
        if ticket.resident is not None:
            self.held[id(ticket)] = ticket
        else:
            self.waiting[id(ticket)] = ticket
        self.perform(effects)
        return ticket

    @rule(ticket=consumes(tickets), twice=st.booleans())
    def withdraw(self, ticket: Ticket, twice: bool) -> None:
        self.waiting.pop(id(ticket), None)
        self.held.pop(id(ticket), None)
        self.perform(self.scheduler.withdraw(ticket, self.now))
        if twice:
            self.perform(self.scheduler.withdraw(ticket, self.now))

    @rule(fails=st.booleans(), index=st.integers(0, 9))
    def finish_load(self, fails: bool, index: int) -> None:
        if not self.moves.loading:
            return
        resident = self.moves.loading.pop(index % len(self.moves.loading))
        if fails:
            error = ExpertStartFailed(resident.expert_id, "no")
            self.perform(self.scheduler.load_failed(resident, error, self.now))
        else:
            self.perform(self.scheduler.loaded(resident, self.now, 0.5))

    @rule(index=st.integers(0, 9))
    def finish_unload(self, index: int) -> None:
        if self.moves.unloading:
            resident = self.moves.unloading.pop(index % len(self.moves.unloading))
            self.perform(self.scheduler.unloaded(resident, self.now))

    @rule(fails=st.booleans(), index=st.integers(0, 9))
    def finish_stage(self, fails: bool, index: int) -> None:
        if self.moves.staging:
            copy = self.moves.staging.pop(index % len(self.moves.staging))
            ended = (
                self.scheduler.stage_failed(copy, self.now) if fails else self.scheduler.staged(copy, self.now, STAGE_S)
            )
            self.perform(ended)

    @rule(index=st.integers(0, 9))
    def finish_drop(self, index: int) -> None:
        if self.moves.dropping:
            copy = self.moves.dropping.pop(index % len(self.moves.dropping))
            self.perform(self.scheduler.dropped(copy, self.now))

    @rule(expert=NAMES)
    def crash(self, expert: ExpertId) -> None:
        resident = self.scheduler.ledger.get(expert)
        if resident is not None:
            self.perform(self.scheduler.crashed(resident, self.now))

    @rule(expert=NAMES)
    def evict(self, expert: ExpertId) -> None:
        self.perform(self.scheduler.evict(expert))

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
        assert scheduler.host.ledger.used_bytes <= HOST
        for ticket in self.waiting.values():
            loading = any(r.expert_id == ticket.expert_id for r in self.moves.loading)
            read = scheduler.host.ledger.get(ticket.expert_id) is not None
            bound_s = MAX_WAIT_S + (STAGE_S if read else 0.0)
            assert loading or self.now <= ticket.arrived_s + bound_s, "somebody waits beyond the bound"

    def teardown(self) -> None:
        """Once every move ends and every lease is given back, nobody is left waiting."""
        self.scheduler.pinned.clear()
        for device, budget in enumerate(DEVICES):
            self.perform(self.scheduler.set_device_budget(device, budget, self.now))
        for _ in range(1000):
            moves, held = self.moves, list(self.held.values())
            for ticket in held:
                self.held.pop(id(ticket))
                self.perform(self.scheduler.withdraw(ticket, self.now))
            if moves.loading:
                self.perform(self.scheduler.loaded(moves.loading.pop(), self.now))
            elif moves.unloading:
                self.perform(self.scheduler.unloaded(moves.unloading.pop(), self.now))
            elif moves.staging:
                self.perform(self.scheduler.staged(moves.staging.pop(), self.now))
            elif moves.dropping:
                self.perform(self.scheduler.dropped(moves.dropping.pop(), self.now))
            elif self.waiting:
                self.wait(2.0)
            else:
                break
            self.scheduler.check_invariants()
        assert not self.waiting, "somebody waits forever"


SchedulerMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=60, deadline=None)
TestScheduler = SchedulerMachine.TestCase
