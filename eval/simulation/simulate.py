"""One simulation: a trace, a mix, a machine and a policy in; figures out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from eval.simulation.assignment import assign, expert_ids
from eval.simulation.baselines import NaiveScheduler
from eval.simulation.pace import at_rate
from eval.simulation.suitability import suitability
from eval.simulation.world import World
from experts.errors import ConfigError
from memory_tiers.costs import MoveCosts
from memory_tiers.placement import placement
from memory_tiers.policies import POLICIES
from memory_tiers.rules import Rules
from memory_tiers.scheduler import Scheduler
from memory_tiers.types import Footprint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from eval.simulation.arrival import Arrival, TraceRow
    from eval.simulation.assignment import Mix
    from eval.simulation.hardware import Hardware
    from eval.simulation.suitability import Suitability
    from eval.simulation.world import Served
    from experts.types import ExpertId
    from memory_tiers.scheduling import Scheduling

NAIVE: Final = {"fifo-": False, "group-": True}  # prefix of an eviction policy's name -> whether it groups
WINDOW: Final = 64  # requests ahead that SRP and SCH look at
_HALVINGS: Final = 7
_FIRST_RATE: Final = 0.25
_MOST_RATE: Final = 1000.0  # as good as all at once


@dataclass(frozen=True, slots=True)
class Setting:
    """What is simulated. Slots are of one expert's size; a hardware's own room counts where none are given."""

    hardware: Hardware
    mix: Mix
    policy: str = "default"
    expert_bytes: int = 13_480_000_000
    device_slots: int | None = None
    host_slots: int | None = None
    rules: Rules = field(default_factory=lambda: Rules(loads=1))  # a link carries one load after the other
    placed: bool = True
    seed: int = 0
    sizes: Mapping[ExpertId, int] = field(default_factory=dict)  # of experts that are not of `expert_bytes`

    @property
    def device_budgets(self) -> list[int]:
        """Bytes of each device for weights."""
        own = self.hardware.device_bytes if self.device_slots is None else self.device_slots * self.expert_bytes
        return [own] * (self.hardware.devices if self.device_slots is None else 1)

    @property
    def host_bytes(self) -> int:
        """Bytes for copies of weights."""
        return self.hardware.host_bytes if self.host_slots is None else self.host_slots * self.expert_bytes

    def footprints(self, experts: Iterable[ExpertId]) -> dict[ExpertId, Footprint]:
        """What each takes on a device, and in host memory."""
        sizes = {expert: self.sizes.get(expert, self.expert_bytes) for expert in experts}
        return {expert: Footprint(size, size) for expert, size in sizes.items()}


class Spread(msgspec.Struct, frozen=True):
    """Seconds of a request: mean and percentiles."""

    mean: float
    p50: float
    p95: float
    p99: float


class Figures(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a run came to. Refused requests count as never answered in `slo_ratio`, and in no time.

    hit_ratio: requests whose expert was ready when they came. max_wait_s: the longest wait for a lease.
    hidden_swap_ratio: of the loads, those that had begun before anybody asked and were then asked for.
    """

    policy: str
    seed: int
    requests: int
    completed: int
    refused: int
    hit_ratio: float
    swaps_per_1000: float
    disk_loads_per_1000: float
    moved_gb: float
    ttft_s: Spread
    total_s: Spread
    max_wait_s: float
    goodput_rps: float
    slo_ratio: float
    hidden_swap_ratio: float
    wasted_swap_ratio: float
    simulated_s: float
    suitability: Suitability
    rate_rps: float | None = None


def policy_names() -> list[str]:
    """Every policy that can be simulated: those of others first."""
    return ["fifo-lru", "fifo-lfu", "group-lru", "group-lfu", *POLICIES]


def scheduler_for(setting: Setting, experts: Iterable[ExpertId]) -> Scheduling:
    """The scheduler a policy's name stands for. Raises: ConfigError: there is none of that name."""
    footprints = setting.footprints(experts)
    if setting.policy in POLICIES:
        return Scheduler(
            footprints,
            setting.device_budgets,
            setting.host_bytes,
            rules=setting.rules,
            policy=POLICIES[setting.policy],
            costs=MoveCosts(setting.hardware.priors()),
        )
    for prefix, grouping in NAIVE.items():
        own = POLICIES.get(setting.policy.removeprefix(prefix))
        if setting.policy.startswith(prefix) and own is not None:
            whole = [sum(setting.device_budgets)]
            return NaiveScheduler(footprints, whole, setting.host_bytes, own(), grouping=grouping)
    raise ConfigError("--policy", setting.policy, f"is none of {', '.join(policy_names())}")


def simulate(rows: Sequence[TraceRow], setting: Setting, slo_ttft_s: float) -> Figures:
    """Run a trace, as fast as it comes. Raises: ConfigError: an expert does not fit any device, or no such policy."""
    arrivals = assign(rows, setting.mix, setting.seed)
    served, scheduler = run(arrivals, setting)
    return figures(served, scheduler, setting, slo_ttft_s)


def run(arrivals: Sequence[Arrival], setting: Setting, *, check: bool = False) -> tuple[list[Served], Scheduling]:
    """Every request's fate. check: the books after every event. Raises: ConfigError: as `simulate`."""
    known = _known(setting.mix, arrivals)
    footprints = setting.footprints(known)
    largest = max(footprint.device_bytes for footprint in footprints.values())
    if largest > max(setting.device_budgets):
        raise ConfigError("device", max(setting.device_budgets), f"holds no expert of {largest} bytes")
    scheduler = scheduler_for(setting, known)
    world = World(scheduler, setting.hardware, check=check)
    if setting.placed:
        world.place(placement(list(known), footprints, setting.device_budgets, setting.host_bytes))
    return world.run(arrivals), scheduler


def _known(mix: Mix, arrivals: Sequence[Arrival]) -> list[ExpertId]:
    """The mix's experts, likeliest first, then those that the trace names; these alone if it names all of its own."""
    drawn, asked = expert_ids(mix.experts), dict.fromkeys(arrival.expert for arrival in arrivals)
    return list(dict.fromkeys([*drawn, *asked] if asked.keys() & set(drawn) or not asked else asked))


def find_rate(
    rows: Sequence[TraceRow], setting: Setting, p95_ttft_s: float, *, precision: float = 0.01
) -> tuple[float, Figures]:
    """The highest mean rate at which 95% of all requests have their first token within `p95_ttft_s`.

    Doubles until it is too much, then halves what lies between. Refused requests have none. Raises: ConfigError:
    even the lowest rate is too much, or no rate is, so few requests there are.
    """

    def holds(rate: float) -> Figures | None:
        found = simulate(at_rate(rows, rate), setting, p95_ttft_s)
        return found if found.slo_ratio >= 0.95 else None  # noqa: PLR2004 - p95

    good, best = _FIRST_RATE, holds(_FIRST_RATE)
    if best is None:
        raise ConfigError(
            "--find-rate", _FIRST_RATE, f"even so few requests a second wait longer than {p95_ttft_s:g} s"
        )
    bad = good * 2
    while (more := holds(bad)) is not None:
        good, best, bad = bad, more, bad * 2
        if good > _MOST_RATE:
            raise ConfigError("--p95-ttft", p95_ttft_s, f"is kept even if all {len(rows)} requests come at once")
    for _ in range(_HALVINGS):
        if bad - good <= precision * good:
            break
        middle = (good + bad) / 2
        more = holds(middle)
        good, best, bad = (middle, more, bad) if more is not None else (good, best, middle)
    return good, msgspec.structs.replace(best, rate_rps=round(good, 4))


def figures(served: Sequence[Served], scheduler: Scheduling, setting: Setting, slo_ttft_s: float) -> Figures:
    """Sum a run up. Raises: ConfigError: nothing was answered."""
    done = [fate for fate in served if fate.ttft_s is not None]
    if not done:
        raise ConfigError("trace", len(served), "requests, and none of them was answered")
    tally, count = scheduler.tally, len(served)
    loads = sum(tally.loads.values())
    within = sum(fate.ttft_s is not None and fate.ttft_s <= slo_ttft_s for fate in served)
    ends_s = max(fate.arrival.at_s + (fate.total_s or 0.0) for fate in done)
    slots = max(1, sum(budget // setting.expert_bytes for budget in setting.device_budgets))
    return Figures(
        policy=setting.policy,
        seed=setting.seed,
        requests=count,
        completed=len(done),
        refused=count - len(done),
        hit_ratio=round(sum(fate.hit for fate in served) / count, 4),
        swaps_per_1000=round(1000 * loads / count, 1),
        disk_loads_per_1000=round(1000 * _from_disk(scheduler) / count, 1),
        moved_gb=round(tally.moved_bytes / 1e9, 1),
        ttft_s=_spread([fate.ttft_s for fate in done if fate.ttft_s is not None]),
        total_s=_spread([fate.total_s for fate in done if fate.total_s is not None]),
        max_wait_s=round(max(fate.wait_s for fate in done if fate.wait_s is not None), 3),
        goodput_rps=round(within / ends_s, 4) if ends_s else 0.0,
        slo_ratio=round(within / count, 5),
        hidden_swap_ratio=round(tally.hidden / loads, 4) if loads else 0.0,
        wasted_swap_ratio=round(tally.wasted / loads, 4) if loads else 0.0,
        simulated_s=round(ends_s, 1),
        suitability=suitability([fate.arrival.expert for fate in served], slots, min(WINDOW, count)),
    )


def _from_disk(scheduler: Scheduling) -> int:
    """Times that weights were read from disk, whatever for."""
    return sum(n for tier, n in scheduler.tally.loads.items() if tier == "disk") + scheduler.tally.stagings


def _spread(seconds: Sequence[float]) -> Spread:
    mean, (p50, p95, p99) = float(np.mean(seconds)), np.percentile(seconds, [50, 95, 99]).tolist()
    return Spread(round(mean, 4), round(p50, 4), round(p95, 4), round(p99, 4))
