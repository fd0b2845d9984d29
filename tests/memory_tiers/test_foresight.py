"""What is brought in while nobody waits."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from experts.types import ExpertId
from memory_tiers.costs import MoveCosts
from memory_tiers.foresight import Foreseen, Foresight
from memory_tiers.host_tier import HostTier
from memory_tiers.ledger import DeviceLedger
from memory_tiers.policies import Use
from memory_tiers.policies.counting import Lru
from memory_tiers.policies.default import Default
from memory_tiers.rules import Rules
from memory_tiers.types import Footprint, Resident, ResidentState

A, B, C, D = NAMES = [ExpertId(name) for name in "abcd"]
NOW = 1000.0


class Scene:
    """Experts of 10 bytes that were asked for so and so often, a device or two, and host memory."""

    def __init__(self, asked: dict[ExpertId, int], *, devices: Sequence[int] = (20,), host: int = 0) -> None:
        self.policy = Default()
        self.reload_s: dict[ExpertId, float] = {}
        for turn in range(max(asked.values())):  # the rarely asked were asked for long ago
            for expert in (e for e, times in asked.items() if turn < times):
                self.policy.used(Use(expert, NOW - 1))
        self.footprints = {name: Footprint(10, 10 if host else 0) for name in NAMES}
        self.ledger = DeviceLedger(devices)
        self.host = HostTier(
            self.footprints,
            host,
            policy=self.policy,
            costs=MoveCosts(),
            is_resident=lambda expert: self.ledger.get(expert) is not None,
        )

    def resident(self, expert: ExpertId, *, device: int = 0, leases: int = 0, ready_s: float = 0.0) -> Resident:
        own = Resident(expert, 10, device, state=ResidentState.READY, leases=leases, ready_s=ready_s)
        self.ledger.admit(own)
        return own

    def copy(self, expert: ExpertId) -> None:
        [stage] = self.host.demand(expert, {expert}, 0.0)
        self.host.staged(stage.copy)  # type: ignore[union-attr]

    def foresight(self, *, better_by: float = 2.0, prefetch: bool = True) -> Foresight:
        rules = Rules(quantum_s=1.0, prefetch=prefetch, better_by=better_by)
        return Foresight(
            self.policy, self.ledger, self.host, self.footprints, rules, reload_s=lambda e: self.reload_s.get(e, 1.0)
        )

    def move(
        self, *, pinned: Collection[ExpertId] = (), resting: Collection[ExpertId] = (), better_by: float = 2.0
    ) -> Foreseen | None:
        return self.foresight(better_by=better_by).next_move(NOW, pinned, resting)


def test_the_likeliest_takes_a_free_place() -> None:
    scene = Scene({A: 1, B: 9, C: 3})
    assert scene.move() == Foreseen(load=B)
    scene.resident(B)
    assert scene.move() == Foreseen(load=C)


def test_somebody_idle_goes_only_for_one_that_is_so_many_times_likelier() -> None:
    scene = Scene({A: 4, B: 40, C: 40, D: 5})
    rare = scene.resident(A)
    scene.resident(B)
    assert scene.move() == Foreseen(load=C, victims=(rare,))
    assert scene.move(better_by=1e6) is None
    rare.leases = 1
    assert scene.move() is None  # B is as likely as C


def test_one_that_would_have_to_be_read_from_disk_again_is_dear_to_lose() -> None:
    scene = Scene({A: 4, B: 40, C: 40})
    scene.resident(A)
    scene.resident(B)
    assert scene.move() is not None
    scene.reload_s[A] = 30.0
    assert scene.move() is None
    scene.reload_s[C] = 30.0
    assert scene.move() is not None


def test_who_is_pinned_or_came_just_now_does_not_go() -> None:
    scene = Scene({A: 1, B: 40, C: 40})
    scene.resident(B)
    new = scene.resident(A, ready_s=NOW - 0.5)
    assert scene.move() is None
    new.ready_s = NOW - 5
    assert scene.move(pinned=[A]) is None
    assert scene.move() is not None


def test_the_second_device_is_tried_where_the_first_has_nobody_to_go() -> None:
    scene = Scene({A: 40, B: 1, C: 40}, devices=(10, 10))
    scene.resident(A)
    rare = scene.resident(B, device=1)
    assert scene.move() == Foreseen(load=C, device=1, victims=(rare,))


def test_nothing_is_begun_while_anything_moves() -> None:
    scene = Scene({A: 1, B: 9})
    scene.resident(A).state = ResidentState.UNLOADING
    assert scene.move() is None


def test_who_failed_rests() -> None:
    assert Scene({A: 1, B: 9}).move(resting=[B]) == Foreseen(load=A)


def test_weights_are_read_into_host_memory_first_those_of_experts_that_are_away_before_the_others() -> None:
    scene = Scene({A: 9, B: 5, C: 3}, host=20)
    scene.resident(A)
    scene.resident(D)
    assert scene.move() == Foreseen(stage=B)
    scene.copy(B)
    assert scene.move(pinned=NAMES) == Foreseen(stage=C)
    scene.copy(C)
    assert scene.move(pinned=NAMES) is None  # host memory is full
    roomy = Scene({A: 9}, host=20)
    roomy.resident(A)
    assert roomy.move() == Foreseen(stage=A)


def test_a_policy_without_a_predictor_foresees_nothing_and_neither_do_rules_without_prefetching() -> None:
    scene = Scene({A: 9})
    assert scene.foresight(prefetch=False).next_move(NOW, (), ()) is None
    blind = Foresight(Lru(), scene.ledger, scene.host, scene.footprints, Rules(), reload_s=lambda _: 1.0)
    assert blind.next_move(NOW, (), ()) is None


def test_experts_that_are_not_served_here_are_not_brought_in() -> None:
    scene = Scene({A: 1})
    scene.policy.used(Use(ExpertId("stranger"), NOW))
    scene.policy.used(Use(ExpertId("stranger"), NOW))
    assert scene.move() == Foreseen(load=A)
