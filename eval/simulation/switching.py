"""The price of switching experts one request at a time: a closed model, the same from the simulator, and SN40L's table.

A request takes t_router + (1 - hit) * bytes / bandwidth + t_expert. Source: Prabhakar et al., SambaNova SN40L
(arXiv 2405.07518): 150 experts of 7B in 16 bits on DGX A100, DGX H100 and one node of eight SN40L.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from eval.simulation.arrival import TraceRow
from eval.simulation.assignment import Mix, assign
from eval.simulation.simulate import Setting, run
from experts.errors import ConfigError
from memory_tiers.rules import Rules

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eval.simulation.hardware import Hardware

EXPERT_BYTES: Final = 13_480_000_000
ANSWER_TOKENS: Final = 20
_START_S: Final = 10.0  # whoever was just loaded is left to work for a second: the first requests come later
# These two times give all four published ratios of whole requests to their last digit (6.6 and 3.7 for batches of 8,
# 4.8 and 2.8 for single ones), if every machine computes alike and a batch is routed at once. Fitted, not published.
ROUTER_S: Final = 0.0407
EXPERT_S: Final = 0.0542


@dataclass(frozen=True, slots=True)
class Switching:
    """The closed model of one machine. hardware: its devices hold one pool of experts, each spread over all of them."""

    hardware: Hardware
    expert_bytes: int = EXPERT_BYTES
    router_s: float = ROUTER_S
    expert_s: float = EXPERT_S

    @property
    def switch_s(self) -> float:
        """An expert from host memory to the devices."""
        return self.expert_bytes / self.hardware.link_bytes_per_s

    @property
    def held(self) -> int:
        """Experts that the devices hold."""
        return self.hardware.devices * self.hardware.device_bytes // self.expert_bytes

    @property
    def most_experts(self) -> int:
        """Experts without a disk: all on the devices, or all in host memory, since whoever leaves must come back."""
        return max(self.held, self.hardware.host_bytes // self.expert_bytes)

    def check(self, experts: int) -> None:
        """Let a number of experts pass that fits. Raises: ConfigError: out of memory."""
        if experts > self.most_experts:
            held, host = self.held, self.hardware.host_bytes // self.expert_bytes
            problem = f"out of memory: {self.hardware.name} holds {held} on its devices, {host} in host memory"
            raise ConfigError("experts", experts, problem)

    def hit_ratio(self, experts: int) -> float:
        """The share of requests whose expert is on the devices, all being asked for alike."""
        return min(1.0, self.held / experts)

    def latency_s(self, experts: int, batch: int = 1) -> float:
        """One request of a batch. Raises: ConfigError: out of memory."""
        self.check(experts)
        return self._request_s(1 - self.hit_ratio(experts), batch)

    def speedup_over(self, other: Switching, batch: int = 1) -> float:
        """How many times faster a request is that has to switch, there and here."""
        return other._request_s(1.0, batch) / self._request_s(1.0, batch)

    def switch_speedup_over(self, other: Switching) -> float:
        """How many times faster the switch alone is."""
        return other.switch_s / self.switch_s

    def machines_for(self, experts: int) -> int:
        """How many of these hold every expert on a device."""
        return ceil(experts / self.held)

    def _request_s(self, miss_ratio: float, batch: int) -> float:
        return self.router_s / batch + miss_ratio * self.switch_s + self.expert_s


class SwitchingPoint(msgspec.Struct, frozen=True, omit_defaults=True):
    """Requests one at a time over so many experts. closed_s: by the closed model; else: by the simulator."""

    experts: int
    hit_ratio: float | None = None
    latency_s: float | None = None
    closed_s: float | None = None
    out_of_memory: str | None = None


class SwitchingCurve(msgspec.Struct, frozen=True):
    """Latency over the number of experts. most_experts: beyond it there is no memory."""

    hardware: str
    note: str
    policy: str
    held_on_devices: int
    most_experts: int
    switch_s: float
    points: list[SwitchingPoint]


def switching_curve(
    hardware: Hardware, experts: Iterable[int], policy: str = "group-lru", *, requests: int = 1000, seed: int = 0
) -> SwitchingCurve:
    """Simulate each number of experts. Raises: ConfigError: below 1 expert, or no such policy."""
    model = Switching(hardware)
    return SwitchingCurve(
        hardware=hardware.name,
        note=hardware.note,
        policy=policy,
        held_on_devices=model.held,
        most_experts=model.most_experts,
        switch_s=round(model.switch_s, 5),
        points=[_point(model, count, policy, requests, seed) for count in experts],
    )


def simulated(model: Switching, experts: int, policy: str, requests: int, seed: int = 0) -> tuple[float, float]:
    """Hit ratio and mean latency of requests that come one at a time, all experts alike.

    Raises: ConfigError: out of memory, or no such policy.
    """
    model.check(experts)
    gap_s = 1.1 * (model.switch_s + model.expert_s)  # nobody finds another one there
    rows = [TraceRow(_START_S + number * gap_s, 0, ANSWER_TOKENS) for number in range(requests)]
    mix = Mix(experts=experts, zipf=0.0, sessions=1, stickiness=0.0)
    setting = Setting(_pooled(model), mix, policy, model.expert_bytes, rules=Rules(loads=1, prefetch=False))
    served, _ = run(assign(rows, mix, seed), setting)
    seconds = [fate.total_s for fate in served if fate.total_s is not None]
    return float(np.mean([fate.hit for fate in served])), float(np.mean(seconds)) + model.router_s


def _point(model: Switching, experts: int, policy: str, requests: int, seed: int) -> SwitchingPoint:
    if experts < 1:
        raise ConfigError("experts", experts, "must be at least 1")
    try:
        model.check(experts)
    except ConfigError as error:
        return SwitchingPoint(experts, out_of_memory=error.problem)
    hit_ratio, latency_s = simulated(model, experts, policy, requests, seed)
    return SwitchingPoint(experts, round(hit_ratio, 4), round(latency_s, 5), round(model.latency_s(experts), 5))


def _pooled(model: Switching) -> Hardware:
    """As it was measured: every expert spread over all devices, and no time besides that of the model."""
    hardware = model.hardware
    return replace(
        hardware,
        devices=1,
        device_bytes=hardware.devices * hardware.device_bytes,
        token_s=model.expert_s / ANSWER_TOKENS,
        wake_s=0.0,
    )
