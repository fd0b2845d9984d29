"""The queues against a plain list of tickets, and the order of service by example."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from experts.types import ExpertId
from memory_tiers.types import Ticket
from memory_tiers.waiting import Waiting

NAMES = [ExpertId(name) for name in "abcd"]
TENANTS = [None, "one", "two"]
NOW = 50.0

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from(NAMES), st.floats(0, 5), st.floats(0, 60), st.sampled_from(TENANTS)),
        st.tuples(st.just("remove"), st.integers(0, 30)),
        st.tuples(st.just("take"), st.sampled_from(NAMES)),
        st.tuples(st.just("clear")),
    ),
    max_size=40,
)


class ListModel:
    """What `Waiting` is to be, one list of everybody and no sums."""

    def __init__(self) -> None:
        self.tickets: list[Ticket] = []

    def of(self, expert: ExpertId) -> list[Ticket]:
        return [t for t in self.tickets if t.expert_id == expert]

    def remove(self, ticket: Ticket) -> bool:
        there = any(t is ticket for t in self.tickets)
        self.tickets = [t for t in self.tickets if t is not ticket]
        return there

    def take(self, expert: ExpertId) -> tuple[Ticket, ...]:
        taken = self.of(expert)
        self.tickets = [t for t in self.tickets if t.expert_id != expert]
        return tuple(taken)

    def waited_s(self, expert: ExpertId) -> float:
        """Every tenant's tickets share one weight."""
        mine = [sum(other.tenant == t.tenant for other in self.tickets) for t in self.of(expert)]
        return sum((NOW + 1 - t.arrived_s) / count for t, count in zip(self.of(expert), mine, strict=True))


def compare(waiting: Waiting, model: ListModel) -> None:
    waiting.check_invariants()
    assert len(waiting) == len(model.tickets)
    assert bool(waiting) == bool(model.tickets)
    assert sorted(map(id, waiting)) == sorted(map(id, model.tickets))
    assert waiting.experts == {t.expert_id for t in model.tickets}
    late = [t for t in model.tickets if t.start_by_s <= NOW]
    assert sorted(map(id, waiting.overdue(NOW))) == sorted(map(id, late))
    for expert in waiting.experts:
        assert waiting.first(expert) is model.of(expert)[0]
        assert waiting.start_by_s(expert) == min(t.start_by_s for t in model.of(expert))
    urgent = {NAMES[0], NAMES[2]} & waiting.experts
    order = waiting.order(urgent.__contains__, NOW)
    assert sorted(order) == sorted(waiting.experts)
    assert set(order[: len(urgent)]) == urgent
    deadlines = [waiting.start_by_s(expert) for expert in order[: len(urgent)]]
    assert deadlines == sorted(deadlines)
    waits = [model.waited_s(expert) for expert in order[len(urgent) :]]
    assert waits == pytest.approx(sorted(waits, reverse=True))
    arrivals = [model.of(expert)[0].arrived_s for expert in waiting.by_arrival()]
    assert arrivals == sorted(arrivals)


@given(STEPS)
def test_as_a_plain_list_would_have_it(steps: list[tuple[object, ...]]) -> None:
    waiting, model, known, now = Waiting(), ListModel(), list[Ticket](), 0.0
    for kind, *rest in steps:
        if kind == "add":
            expert, pause, patience, tenant = rest
            now += float(str(pause))
            tenant = None if tenant is None else str(tenant)
            ticket = Ticket(ExpertId(str(expert)), now, now + float(str(patience)), tenant)
            known.append(ticket)
            waiting.add(ticket)
            model.tickets.append(ticket)
        elif kind == "remove" and known:
            ticket = known[int(str(rest[0])) % len(known)]  # one that has left already is among them
            assert waiting.remove(ticket) == model.remove(ticket)
        elif kind == "take":
            assert waiting.take(ExpertId(str(rest[0]))) == model.take(ExpertId(str(rest[0])))
        elif kind == "clear":
            everyone = waiting.clear()
            assert sorted(map(id, everyone)) == sorted(map(id, model.tickets))
            model.tickets = []
        compare(waiting, model)


def queue(*tickets: tuple[str, float]) -> Waiting:
    waiting = Waiting()
    for name, arrived_s in tickets:
        waiting.add(Ticket(ExpertId(name), arrived_s, arrived_s + 60))
    return waiting


def test_the_waits_of_all_who_wait_for_an_expert_add_up() -> None:
    waiting = queue(("a", 0.0), ("b", 6.0), ("b", 6.0), ("b", 6.0))
    assert waiting.order(lambda _: False, 7.0) == ["a", "b"]  # 8 against 3 x 2
    assert waiting.order(lambda _: False, 9.0) == ["b", "a"]  # 10 against 3 x 4


def test_a_tenant_that_asks_for_much_does_not_push_another_back() -> None:
    waiting = Waiting()
    for _ in range(50):
        waiting.add(Ticket(ExpertId("a"), 1.0, 60.0, "greedy"))
    waiting.add(Ticket(ExpertId("b"), 0.0, 60.0, "modest"))
    assert waiting.order(lambda _: False, 5.0) == ["b", "a"]  # 6 against 50 x 5 / 50
    waiting.add(Ticket(ExpertId("a"), 2.0, 60.0, "modest"))
    assert waiting.order(lambda _: False, 5.0) == ["a", "b"]  # (50 x 5) / 50 + 4 / 2 against 6 / 2


def test_who_runs_out_of_time_comes_before_any_crowd() -> None:
    waiting = queue(("a", 0.0), ("b", 6.0), ("b", 6.0), ("b", 6.0))
    assert waiting.order(lambda expert: expert == "a", 9.0) == ["a", "b"]


def test_a_ticket_that_another_expert_waits_for_is_told() -> None:
    waiting = queue(("a", 0.0))
    waiting.first(ExpertId("a")).expert_id = ExpertId("b")
    with pytest.raises(AssertionError, match="the queue of 'a' is wrong"):
        waiting.check_invariants()
