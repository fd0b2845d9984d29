"""`coe bench gateway`: every system against the same mock, in interleaved rounds so that noise hits all alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Final

from eval.serving.load import Bound, ClosedLoad, OpenLoad, drive
from eval.serving.pairing import spread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from eval.serving.systems import LineUp, System
    from eval.serving.tally import LoadResult

CONCURRENCIES: Final = (1, 16)
OPEN_CONNECTIONS: Final = 64
OPEN_BASIS_CONNECTIONS: Final = 16  # the closed loop whose rps counts as capacity
COLD_STRIDE: Final = 250_000  # numbers of prompts set aside for one cold measurement


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run does. seconds_s and warmup_s: of one measurement; open_share_ratio: of each system's capacity."""

    rounds: int = 5
    seconds_s: float = 3.0
    warmup_s: float = 0.5
    open_share_ratio: float = 0.5


@dataclass(frozen=True, slots=True)
class Scenario:
    """How a system is driven. rate_rps: of an open loop, None for a closed one."""

    stream: bool
    connections: int
    rate_rps: float | None = None

    def load(self, plan: Plan, seed: int) -> ClosedLoad | OpenLoad:
        """Give the load that this scenario puts on a system."""
        if self.rate_rps is not None:
            return OpenLoad(
                self.rate_rps, plan.seconds_s, plan.warmup_s, self.connections, seed=seed, stream=self.stream
            )
        measure, warmup = Bound(duration_s=plan.seconds_s), Bound(duration_s=plan.warmup_s)
        return ClosedLoad(self.connections, measure, warmup, stream=self.stream)


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement and its baseline: direct to the mock, same round, same scenario.

    cpu_s: used by the system's processes, warm-up included. upstream_requests: those the mock saw meanwhile.
    """

    round: int
    system: str
    scenario: Scenario
    result: LoadResult
    baseline: LoadResult
    cpu_s: float
    upstream_requests: int


class GatewayBench:
    """Drives a line-up through a plan. progress: told what is measured next, in words."""

    def __init__(self, line_up: LineUp, plan: Plan, progress: Callable[[str], None]) -> None:
        self._line_up = line_up
        self._plan = plan
        self._progress = progress
        self._cold_next = 1  # 0 is the repeated prompt

    def run(self) -> list[Sample]:
        """Measure all closed loops, then all open ones at a share of what the closed ones reached."""
        closed = [sample for number in range(self._plan.rounds) for sample in self._closed_round(number)]
        rates = open_rates(closed, self._plan.open_share_ratio)
        opened = [sample for number in range(self._plan.rounds) for sample in self._open_round(number, rates)]
        return closed + opened

    def _closed_round(self, number: int) -> Iterator[Sample]:
        systems = self._line_up.systems
        turn = number % len(systems)
        for stream, connections in product((False, True), CONCURRENCIES):
            scenario = Scenario(stream, connections)
            taken = [self._measure(number, system, scenario) for system in systems[turn:] + systems[:turn]]
            baseline = next(sample.result for sample in taken if sample.system == "direct")
            yield from (replace(sample, baseline=baseline) for sample in taken)

    def _open_round(self, number: int, rates: Mapping[str, float]) -> Iterator[Sample]:
        direct = next(system for system in self._line_up.systems if system.name == "direct")
        for system in self._line_up.systems:
            if system is direct or not rates.get(system.name):
                continue
            scenario = Scenario(stream=False, connections=OPEN_CONNECTIONS, rate_rps=rates[system.name])
            baseline = self._measure(number, direct, scenario).result
            yield replace(self._measure(number, system, scenario), baseline=baseline)

    def _measure(self, number: int, system: System, scenario: Scenario) -> Sample:
        self._progress(f"round {number + 1}/{self._plan.rounds}  {system.label}  {describe(scenario)}")
        bodies = system.bodies(self._cold_next, stream=scenario.stream)
        self._cold_next += COLD_STRIDE if system.cold else 0
        seen, used_s = self._line_up.upstream_requests(), system.weigh().cpu_s
        result = drive(system.target, bodies, scenario.load(self._plan, seed=number))
        cpu_s, upstream = system.weigh().cpu_s - used_s, self._line_up.upstream_requests() - seen
        return Sample(number, system.name, scenario, result, result, cpu_s, upstream)


def open_rates(closed: list[Sample], share_ratio: float) -> dict[str, float]:
    """Give each system's open-loop rate: a share of its median plain rps at 16 connections."""
    capacity: dict[str, list[float]] = {}
    for sample in closed:
        if not sample.scenario.stream and sample.scenario.connections == OPEN_BASIS_CONNECTIONS:
            capacity.setdefault(sample.system, []).append(sample.result.rps)
    medians = {name: spread(values) for name, values in capacity.items()}
    return {name: round(found.median * share_ratio, 1) for name, found in medians.items() if found is not None}


def describe(scenario: Scenario) -> str:
    """Say a scenario in words."""
    way = "streaming" if scenario.stream else "plain"
    load = f"{scenario.connections} connections" if scenario.rate_rps is None else f"open at {scenario.rate_rps} rps"
    return f"{way}, {load}"
