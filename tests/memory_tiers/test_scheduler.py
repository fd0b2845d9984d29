"""The scheduler as a state machine driven by random events, and its rules by example."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from experts.errors import ExpertStartFailed, ExpertUnreachable, TierFull
from experts.types import ExpertId
from memory_tiers.scheduler import Scheduler
from memory_tiers.types import Effect, Fail, Grant, Load, ResidentState, Ticket, Unload

SIZES = {ExpertId("a"): 60, ExpertId("b"): 50, ExpertId("c"): 30, ExpertId("remote"): 0, ExpertId("huge"): 500}
BUDGET = 100


class SchedulerMachine(RuleBasedStateMachine):
    """Plays the manager: performs effects in any order, at any later time."""

    tickets = Bundle("tickets")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.scheduler = Scheduler(SIZES, BUDGET, join_window_s=2.0)
        self.loading: list[Load] = []
        self.unloading: list[Unload] = []
        self.waiting: set[int] = set()
        self.held: dict[int, Ticket] = {}
        self.all: dict[int, Ticket] = {}

    def perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Load):
                assert effect.resident not in [e.resident for e in self.loading], "loaded twice at once"
                self.loading.append(effect)
            elif isinstance(effect, Unload):
                assert effect.resident.leases == 0, "a leased expert is evicted"
                self.unloading.append(effect)
            elif isinstance(effect, Grant):
                assert id(effect.ticket) in self.waiting, "granted twice or after withdrawal"
                self.waiting.discard(id(effect.ticket))
                self.held[id(effect.ticket)] = effect.ticket
                assert effect.ticket.resident is not None
                assert effect.ticket.resident.state is ResidentState.READY, "granted before it was ready"
            else:
                self.waiting.discard(id(effect.ticket))

    @rule(target=tickets, expert=st.sampled_from(list(SIZES)))
    def request(self, expert: ExpertId) -> Ticket:
        ticket, effects = self.scheduler.request(expert, self.now)
        self.all[id(ticket)] = ticket
        if ticket.resident is not None:
            self.held[id(ticket)] = ticket
        else:
            self.waiting.add(id(ticket))
        self.perform(effects)
        return ticket

    @rule(ticket=consumes(tickets), twice=st.booleans())
    def withdraw(self, ticket: Ticket, twice: bool) -> None:
        self.waiting.discard(id(ticket))
        self.held.pop(id(ticket), None)
        self.perform(self.scheduler.withdraw(ticket, self.now))
        if twice:
            self.perform(self.scheduler.withdraw(ticket, self.now))

    @rule(fails=st.booleans(), index=st.integers(0, 9))
    def finish_load(self, fails: bool, index: int) -> None:
        if not self.loading:
            return
        resident = self.loading.pop(index % len(self.loading)).resident
        if fails:
            error = ExpertStartFailed(resident.expert_id, "no")
            self.perform(self.scheduler.load_failed(resident, error, self.now))
        else:
            self.perform(self.scheduler.loaded(resident, self.now))

    @rule(index=st.integers(0, 9))
    def finish_unload(self, index: int) -> None:
        if self.unloading:
            self.perform(self.scheduler.unloaded(self.unloading.pop(index % len(self.unloading)).resident, self.now))

    @rule(expert=st.sampled_from(list(SIZES)))
    def crash(self, expert: ExpertId) -> None:
        resident = self.scheduler.ledger.get(expert)
        if resident is not None:
            self.perform(self.scheduler.crashed(resident, self.now))

    @rule(expert=st.sampled_from(list(SIZES)))
    def evict(self, expert: ExpertId) -> None:
        self.perform(self.scheduler.evict(expert))

    @rule(seconds=st.floats(0, 5))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def books_are_right(self) -> None:
        self.scheduler.check_invariants()
        assert self.scheduler.waiting == len(self.waiting)
        for resident in self.scheduler.ledger:
            pins = sum(t.resident is resident for t in self.held.values())
            assert resident.leases == pins, "a pin leaked or got lost"

    def teardown(self) -> None:
        """Once every load ends and every lease is given back, nobody is left waiting."""
        for _ in range(1000):
            for ticket in list(self.held.values()):
                self.held.pop(id(ticket))
                self.perform(self.scheduler.withdraw(ticket, self.now))
            if self.loading:
                self.perform(self.scheduler.loaded(self.loading.pop().resident, self.now))
            elif self.unloading:
                self.perform(self.scheduler.unloaded(self.unloading.pop().resident, self.now))
            elif not self.held:
                break
        assert not self.waiting, "somebody waits forever"


SchedulerMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestScheduler = SchedulerMachine.TestCase


def ready(scheduler: Scheduler, name: str, now: float = 0.0) -> Ticket:
    ticket, effects = scheduler.request(ExpertId(name), now)
    for effect in effects:
        if isinstance(effect, Load):
            scheduler.loaded(effect.resident, now)
    return ticket


def test_one_load_serves_everyone_who_waits_for_it() -> None:
    scheduler = Scheduler(SIZES, BUDGET)
    first, effects = scheduler.request(ExpertId("a"), 0)
    second, more = scheduler.request(ExpertId("a"), 0)
    assert len(effects) == 1
    assert more == []
    assert isinstance(effects[0], Load)
    granted = scheduler.loaded(effects[0].resident, 1)
    assert granted == [Grant(first), Grant(second)]
    assert effects[0].resident.leases == 2


def test_an_expert_that_can_never_fit_is_refused_at_once() -> None:
    _, effects = Scheduler(SIZES, BUDGET).request(ExpertId("huge"), 0)
    assert isinstance(effects[0], Fail)
    assert isinstance(effects[0].error, TierFull)
    assert "500" in str(effects[0].error)
    assert "100" in str(effects[0].error)


def test_newcomers_join_a_busy_expert_only_within_the_window() -> None:
    scheduler = Scheduler(SIZES, BUDGET, join_window_s=2.0)
    holder = ready(scheduler, "a")
    waiter, effects = scheduler.request(ExpertId("b"), 10.0)
    assert effects == []  # a is leased: no room yet
    joined, _ = scheduler.request(ExpertId("a"), 11.0)
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
    scheduler = Scheduler(SIZES, BUDGET)
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
    scheduler = Scheduler(SIZES | {ExpertId("d"): 40}, BUDGET, join_window_s=1.0)
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
    scheduler = Scheduler(sizes, BUDGET, join_window_s=1.0)
    ready(scheduler, "a")
    ready(scheduler, "b")
    gives_up, _ = scheduler.request(ExpertId("c"), 10.0)
    late = [scheduler.request(ExpertId(name), 12.0)[0] for name in ("a", "b")]
    assert [ticket.resident for ticket in late] == [None, None]
    assert scheduler.withdraw(gives_up, 100.0) == [Grant(ticket) for ticket in late]
    assert scheduler.waiting == 0


def test_an_expert_elsewhere_waits_for_nobodys_room() -> None:
    scheduler = Scheduler(SIZES, BUDGET, join_window_s=0.0)
    ready(scheduler, "a")
    scheduler.request(ExpertId("b"), 1.0)  # waits for a's room
    first, effects = scheduler.request(ExpertId("remote"), 5.0)
    assert [type(e) for e in effects] == [Load]
    assert isinstance(effects[0], Load)
    assert scheduler.loaded(effects[0].resident, 5.0) == [Grant(first)]
    again, _ = scheduler.request(ExpertId("remote"), 9.0)
    assert again.resident is not None


def test_an_expert_that_failed_is_not_tried_at_once() -> None:
    scheduler = Scheduler(SIZES, BUDGET, retry_after_s=5.0)
    _, effects = scheduler.request(ExpertId("a"), 0.0)
    assert isinstance(effects[0], Load)
    error = ExpertStartFailed("a", "broken file")
    scheduler.load_failed(effects[0].resident, error, 1.0)
    ticket, effects = scheduler.request(ExpertId("a"), 3.0)
    assert effects == [Fail(ticket, error)]
    _, effects = scheduler.request(ExpertId("a"), 7.0)
    assert [type(e) for e in effects] == [Load]


def test_close_refuses_who_waits_and_who_comes() -> None:
    scheduler = Scheduler(SIZES, BUDGET)
    ready(scheduler, "a")
    waiter, _ = scheduler.request(ExpertId("b"), 1.0)
    effects = scheduler.close()
    assert [e.ticket for e in effects if isinstance(e, Fail)] == [waiter]
    _, effects = scheduler.request(ExpertId("c"), 2.0)
    assert isinstance(effects[0], Fail)
    assert isinstance(effects[0].error, ExpertUnreachable)
