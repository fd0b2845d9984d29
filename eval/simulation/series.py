"""One workload under several policies: over rates, over slots, and how long each request waited."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import msgspec

from eval.simulation.assignment import assign
from eval.simulation.hit_ratio import hit_ratio
from eval.simulation.pace import at_rate
from eval.simulation.simulate import NAIVE, run, simulate
from eval.simulation.suitability import belady_hits
from memory_tiers.policies import POLICIES, Use

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from eval.simulation.arrival import TraceRow
    from eval.simulation.simulate import Setting

BELADY: Final = "belady"
_SLOT_SHARES: Final = (0.02, 0.04, 0.08, 0.12, 0.16, 0.24, 0.32, 0.5, 0.75, 1.0)  # of all experts


class RatePoint(msgspec.Struct, frozen=True):
    """One policy at one rate."""

    policy: str
    rate_rps: float
    p50_ttft_s: float
    p95_ttft_s: float
    max_wait_s: float
    in_time_ratio: float
    refused: int


class SlotPoint(msgspec.Struct, frozen=True):
    """How often one way of evicting finds an expert there, without timing; `belady` is the best there can be."""

    eviction: str
    slots: int
    hit_ratio: float


class Waits(msgspec.Struct, frozen=True):
    """How long every request of one policy waited for its expert, in order of arrival; refused ones are counted."""

    policy: str
    waits_s: list[float]
    refused: int


def over_rates(
    rows: Sequence[TraceRow], setting: Setting, policies: Iterable[str], rates: Sequence[float], slo_ttft_s: float
) -> list[RatePoint]:
    """Simulate every policy at every rate. Raises: ConfigError: as `simulate`."""
    return [
        _rate_point(rows, replace(setting, policy=policy), rate, slo_ttft_s) for policy in policies for rate in rates
    ]


def over_slots(rows: Sequence[TraceRow], setting: Setting, policies: Iterable[str]) -> list[SlotPoint]:
    """Replay a workload through caches of one to all experts; policies that evict alike are replayed once."""
    arrivals = assign(rows, setting.mix, setting.seed)
    uses = [Use(arrival.expert, arrival.at_s, arrival.session) for arrival in arrivals]
    experts = [use.expert for use in uses]
    sizes = sorted({max(1, round(share * len(set(experts)))) for share in _SLOT_SHARES})
    found = [
        SlotPoint(eviction, slots, round(hit_ratio(uses, slots, POLICIES[eviction]()), 4))
        for eviction in dict.fromkeys(map(eviction_of, policies))
        for slots in sizes
    ]
    best = [SlotPoint(BELADY, slots, round(belady_hits(experts, slots) / len(experts), 4)) for slots in sizes]
    return [*found, *best]


def waits(rows: Sequence[TraceRow], setting: Setting, policies: Iterable[str]) -> list[Waits]:
    """Every request's wait. Raises: ConfigError: as `simulate`."""
    arrivals = assign(rows, setting.mix, setting.seed)
    found = []
    for policy in policies:
        served, _ = run(arrivals, replace(setting, policy=policy))
        waited = [round(fate.wait_s, 4) for fate in served if fate.wait_s is not None]
        found.append(Waits(policy, waited, len(served) - len(waited)))
    return found


def eviction_of(policy: str) -> str:
    """The eviction policy of a policy's name: `lru` of `fifo-lru`."""
    for prefix in NAIVE:
        policy = policy.removeprefix(prefix)
    return policy


def _rate_point(rows: Sequence[TraceRow], setting: Setting, rate: float, slo_ttft_s: float) -> RatePoint:
    found = simulate(at_rate(rows, rate), setting, slo_ttft_s)
    return RatePoint(
        policy=setting.policy,
        rate_rps=round(rate, 4),
        p50_ttft_s=found.ttft_s.p50,
        p95_ttft_s=found.ttft_s.p95,
        max_wait_s=found.max_wait_s,
        in_time_ratio=found.slo_ratio,
        refused=found.refused,
    )
