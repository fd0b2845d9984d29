"""Where an expert that somebody waits for gets its bytes: one round of placing, the most urgent first. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from experts.errors import TierFull
from memory_tiers.eviction_set import cheapest_set
from memory_tiers.types import Resident, ResidentState

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from experts.types import ExpertId
    from memory_tiers.ledger import DeviceLedger
    from memory_tiers.rules import Rules

    Losses = Callable[[Sequence[Resident]], list[float]]

_READY, _UNLOADING = ResidentState.READY, ResidentState.UNLOADING


@dataclass(frozen=True, slots=True)
class Wanted:
    """Room that is asked for. patient: no busy expert is to make room for it yet; urgent: its time runs out.

    device: the only one that will do; None: any.
    """

    need_bytes: int
    patient: bool
    urgent: bool
    device: int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """device: where the load may begin at once; None: not yet. victims: idle residents to take down first."""

    device: int | None = None
    victims: tuple[Resident, ...] = ()


NOT_YET: Final = Found()
_SOMETHING: Final = 1e-9  # scores may be 0 or negative; who drains already must come cheaper than that


class Rooms:
    """The bytes of one round: what is free, what is being freed, and what is promised to those placed before.

    losses: what losing each of some residents costs, in their order. pinned: who stays.
    A busy resident that has to make room is marked as draining; those that need not any more are given back by
    `spared`.
    """

    def __init__(
        self, ledger: DeviceLedger, losses: Losses, pinned: Collection[ExpertId], rules: Rules, now_s: float
    ) -> None:
        self._ledger = ledger
        self._losses = losses
        self._pinned = pinned
        self._settled_before_s = now_s - rules.quantum_s
        self._drains = rules.drains
        self._on = [[r for r in ledger if r.device == device] for device in range(len(ledger.budgets_bytes))]
        self._promised = [0] * len(self._on)
        self._needed: set[int] = set()
        self._hopeless: dict[int | None, float] = {}  # by the device asked for: who needs as much gets nothing more
        self._costs: dict[int, float] | None = None  # asked for once a round

    def find(self, wanted: Wanted, *, may_load: bool) -> Found:
        """Place one, or promise it what will be free. may_load: whether a load may begin in this round."""
        if not wanted.need_bytes:
            return Found(wanted.device or 0)
        hopeless = min(self._hopeless.get(device, float("inf")) for device in (None, wanted.device))
        if not wanted.urgent and wanted.need_bytes >= hopeless:
            return NOT_YET
        able = range(len(self._on)) if wanted.device is None else [wanted.device]
        devices = sorted(able, key=self._coming, reverse=True)
        for device in devices:
            if may_load and self._ledger.free_bytes(device) - self._promised[device] >= wanted.need_bytes:
                return Found(device)
        for device in devices:
            if self._coming(device) >= wanted.need_bytes:
                self._promised[device] += wanted.need_bytes
                return NOT_YET
        idle = self._cheapest(wanted, devices, lambda r: r.leases == 0)
        if idle is not None:
            device, victims = idle
            self._promised[device] += wanted.need_bytes
            self._needed.update(id(victim) for victim in victims)
            return Found(victims=tuple(victims)) if may_load else NOT_YET
        self._wait_for_leases(wanted, devices)
        return NOT_YET

    def overdrawn(self) -> list[Resident]:
        """Idle residents to take down where a budget was cut; where these are not enough, busy ones drain."""
        victims: list[Resident] = []
        for device in range(len(self._on)):
            cut = Wanted(0, patient=False, urgent=True)
            if self._coming(device) < 0:
                idle = self._cheapest(cut, [device], lambda r: r.leases == 0)
                if idle is None:
                    self._wait_for_leases(cut, [device])
                else:
                    victims += idle[1]
        return victims

    def spared(self) -> list[Resident]:
        """The residents that were draining and whose room nobody needs any more; they take leases again."""
        found = [r for own in self._on for r in own if r.draining and r.state is _READY and id(r) not in self._needed]
        for resident in found:
            resident.draining = False
        return found

    def _wait_for_leases(self, wanted: Wanted, devices: Sequence[int]) -> None:
        """Promise what draining residents will free; let more drain if there is no time to lose."""
        drained = self._cheapest(wanted, devices, lambda r: r.leases == 0 or r.draining)
        if drained is None and not wanted.patient and (wanted.urgent or self._draining() < self._drains):
            drained = self._cheapest(wanted, devices, lambda _: True)
        if drained is not None:
            device, going = drained
            for resident in going:
                resident.draining = resident.draining or resident.leases > 0
            self._needed.update(id(resident) for resident in going)
            self._promised[device] += wanted.need_bytes
        else:  # nobody may go yet: what is free or comes free there is not for those behind
            self._promised[devices[0]] += max(self._coming(devices[0]), 0)
            known = self._hopeless.get(wanted.device, float("inf"))
            self._hopeless[wanted.device] = min(known, wanted.need_bytes)

    def _draining(self) -> int:
        return sum(r.draining and r.leases > 0 for own in self._on for r in own)

    def _cheapest(
        self, wanted: Wanted, devices: Sequence[int], may_go: Callable[[Resident], bool]
    ) -> tuple[int, list[Resident]] | None:
        """The device on which the room costs least, and who goes for it; draining residents cost nothing."""
        best: tuple[float, int, list[Resident]] | None = None
        for device in devices:
            able = [r for r in self._on[device] if self._movable(r, urgent=wanted.urgent) and may_go(r)]
            losses = [self._loss(r) for r in able]
            missing = wanted.need_bytes - self._coming(device)
            try:
                places = cheapest_set([r.device_bytes for r in able], losses, missing)
            except TierFull:
                continue
            cost = sum(losses[place] for place in places)
            if best is None or cost < best[0]:
                best = cost, device, [able[place] for place in places]
        return None if best is None else best[1:]

    def _loss(self, resident: Resident) -> float:
        """What losing it costs: nothing where it drains already, else a little above 0 at least."""
        if self._costs is None:
            ready = [r for own in self._on for r in own if r.state is _READY]
            losses = self._losses(ready)
            least = min([*losses, 0.0])
            self._costs = {id(r): loss - least + _SOMETHING for r, loss in zip(ready, losses, strict=True)}
        return 0.0 if resident.draining else self._costs[id(resident)]

    def _movable(self, resident: Resident, *, urgent: bool) -> bool:
        settled = urgent or resident.draining or resident.ready_s <= self._settled_before_s
        return resident.state is _READY and resident.expert_id not in self._pinned and settled

    def _coming(self, device: int) -> int:
        """Bytes that are free or being freed, less what is promised."""
        freeing = sum(r.device_bytes for r in self._on[device] if r.state is _UNLOADING)
        return self._ledger.free_bytes(device) + freeing - self._promised[device]
