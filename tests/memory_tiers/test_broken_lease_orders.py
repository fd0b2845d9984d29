"""Schedulers that lease in a wrong order, one way each: the machine that drives the right one catches all of them."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase

from experts.types import ExpertId
from memory_tiers.policies import POLICIES
from memory_tiers.rooms import Rooms
from memory_tiers.rules import Rules
from memory_tiers.scheduler import Scheduler
from memory_tiers.types import ANYBODY, Asker, Effect, Grant, Load, Resident, ResidentState, Ticket
from tests.memory_tiers.test_scheduler_machine import DEVICES, FOOTPRINTS, HOST, SchedulerMachine, run


class PinsWhenTheWaiterWakes(Scheduler):
    """Grants, and pins once the waiter has run."""

    asleep: tuple[Ticket, ...] = ()

    def _grant_all(self, resident: Resident) -> list[Effect]:
        tickets = self._queue.take(resident.expert_id)
        for ticket in tickets:
            ticket.resident = resident
        self.asleep += tickets
        return [Grant(ticket) for ticket in tickets]

    def tick(self, now_s: float) -> list[Effect]:
        for ticket in self.asleep:
            if ticket.resident is not None:
                ticket.resident.leases += 1
        self.asleep = ()
        return super().tick(now_s)


class JoinsWhoMakesRoom(Scheduler):
    """Lets newcomers join an expert that somebody waits for to go."""

    def request(self, expert_id: ExpertId, now_s: float, asker: Asker = ANYBODY) -> tuple[Ticket, list[Effect]]:
        resident = self.ledger.get(expert_id)
        if resident is None or resident.state is not ResidentState.READY:
            return super().request(expert_id, now_s, asker)
        self._pin(ticket := Ticket(expert_id, now_s), resident)
        return ticket, []


class LoadsForEachWaiter(Scheduler):
    """Begins a load for everyone who waits, though one is under way."""

    def _advance(self, expert_id: ExpertId, rooms: Rooms, now_s: float, *, urgent: bool) -> list[Effect]:
        resident = self.ledger.get(expert_id)
        if resident is not None and resident.state is ResidentState.LOADING:
            return [Load(resident)]
        return super()._advance(expert_id, rooms, now_s, urgent=urgent)


class KeepsWhoWithdrew(Scheduler):
    """Forgets to take a ticket out of the queue when its request is cancelled."""

    def withdraw(self, ticket: Ticket, now_s: float) -> list[Effect]:
        return [] if ticket.resident is None else super().withdraw(ticket, now_s)


class LosesTheRelease(Scheduler):
    """Forgets to give a pin back when its request is cancelled."""

    def withdraw(self, ticket: Ticket, now_s: float) -> list[Effect]:
        if ticket.resident is None:
            return super().withdraw(ticket, now_s)
        ticket.resident = None
        return self._pump(now_s)


class WaitsForever(Scheduler):
    """Refuses nobody whose time is over."""

    def _give_up(self, now_s: float) -> list[Effect]:  # noqa: ARG002 - broken on purpose
        return []


class GrantsBeforeItIsReady(Scheduler):
    """Grants at the first byte of a load."""

    def _start_load(self, expert_id: ExpertId, device: int, *, foreseen: bool = False) -> Load:
        load = super()._start_load(expert_id, device, foreseen=foreseen)
        load.resident.state = ResidentState.READY
        return load


BROKEN: list[tuple[type[Scheduler], str]] = [
    (PinsWhenTheWaiterWakes, "a pin leaked or got lost|a leased expert is evicted|-. leases"),
    (JoinsWhoMakesRoom, "joined one that makes room"),
    (LoadsForEachWaiter, "loaded twice at once"),
    (KeepsWhoWithdrew, "after withdrawal|assert [0-9]+ == [0-9]+"),
    (LosesTheRelease, "a pin leaked or got lost"),
    (WaitsForever, "somebody waits beyond the bound|somebody waits forever"),
    (GrantsBeforeItIsReady, "loaded twice at once|unloaded twice|a pin leaked or got lost|before it was ready"),
]


@pytest.mark.parametrize(("broken", "complaint"), BROKEN, ids=lambda found: getattr(found, "__name__", ""))
def test_a_broken_lease_order_is_caught(broken: type[Scheduler], complaint: str) -> None:
    class Machine(SchedulerMachine):
        def make(self, rules: Rules) -> Scheduler:
            return broken(FOOTPRINTS, DEVICES, HOST, rules=rules, policy=POLICIES["default"])

    with pytest.raises(AssertionError, match=complaint):
        run(
            Machine,
            300,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        )
