"""A capacity question, and what one machine comes to when it is asked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING, Final

from eval.planning.document import Trial
from eval.simulation.pace import mean_rate
from eval.simulation.simulate import Setting, simulate
from memory_tiers.rules import Rules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.planning.expert_sizes import ExpertSizes
    from eval.planning.promise import Promise
    from eval.simulation.arrival import TraceRow
    from eval.simulation.assignment import Mix
    from eval.simulation.hardware import Hardware
    from eval.simulation.simulate import Figures

MOST_PREFILL: Final = (
    0.8  # of a device's time: beyond it requests would queue for the arithmetic, which is not simulated
)
GB: Final = 10**9


@dataclass(frozen=True, slots=True)
class Question:
    """What must be served, by which kind of machine, and how well.

    hardware: one kind; its own number of devices does not count. kv_ratio: the share of a device that is not for
    weights. most_host_bytes: host memory there can be.
    """

    experts: ExpertSizes
    hardware: Hardware
    rows: Sequence[TraceRow]
    mix: Mix
    promise: Promise
    most_host_bytes: int
    kv_ratio: float = 0.1
    rules: Rules = Rules(loads=1)  # noqa: RUF009 - frozen
    seed: int = 0

    @property
    def weights_bytes(self) -> int:
        """What one device has for weights."""
        return int(self.hardware.device_bytes * (1 - self.kv_ratio))

    @property
    def rate_rps(self) -> float:
        """Requests a second."""
        return mean_rate(self.rows)

    def prefill_busy_ratio(self, devices: int) -> float:
        """The share of each device's time that prompts take."""
        tokens = sum(row.prompt_tokens for row in self.rows) / len(self.rows)
        return self.rate_rps * tokens / (self.hardware.prefill_tokens_per_s * devices)

    def prefill_s(self, ratio: float) -> float:
        """Within what that share of the prompts are read."""
        tokens = sorted(row.prompt_tokens for row in self.rows)
        return tokens[ceil(ratio * len(tokens)) - 1] / self.hardware.prefill_tokens_per_s

    def least_devices(self) -> int:
        """What the arithmetic alone needs."""
        return max(1, ceil(self.prefill_busy_ratio(1) / MOST_PREFILL))

    def devices_for_all(self) -> int:
        """Devices on which every expert has its place, first come, first placed."""
        free: list[int] = []
        for size in sorted(self.experts.sizes.values(), reverse=True):
            place = next((i for i, room in enumerate(free) if room >= size), None)
            if place is None:
                free.append(self.weights_bytes - size)
            else:
                free[place] -= size
        return len(free)

    def setting(self, devices: int, host_bytes: int, policy: str) -> Setting:
        """One machine, as the simulation knows it."""
        hardware = replace(self.hardware, devices=devices, device_bytes=self.weights_bytes, host_bytes=host_bytes)
        return Setting(
            hardware,
            self.mix,
            policy,
            expert_bytes=self.experts.mean_bytes,
            rules=self.rules,
            seed=self.seed,
            sizes=self.experts.drawn(),
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """One machine and what became of the requests on it."""

    devices: int
    host_bytes: int
    policy: str
    figures: Figures
    fails: str | None

    @property
    def rank(self) -> tuple[bool, float, float]:
        """What is better comes first: the promise, then the p95, then the mean."""
        return self.fails is not None, round(self.figures.ttft_s.p95, 1), self.figures.ttft_s.mean

    def trial(self) -> Trial:
        """In a document's words."""
        found = self.figures
        return Trial(
            devices=self.devices,
            host_gb=round(self.host_bytes / GB, 1),
            policy=self.policy,
            in_time_ratio=found.slo_ratio,
            p95_ttft_s=found.ttft_s.p95,
            max_wait_s=found.max_wait_s,
            refused=found.refused,
            swaps_per_1000=found.swaps_per_1000,
            fails=self.fails,
        )


def outcome(question: Question, devices: int, host_bytes: int, policy: str = "default") -> Outcome:
    """Simulate one machine.

    Raises: ConfigError: an expert does not fit a device, there is no such policy, or nothing at all is answered.
    """
    found = simulate(question.rows, question.setting(devices, host_bytes, policy), question.promise.ttft_s)
    return Outcome(devices, host_bytes, policy, found, _fails(question, found))


def _fails(question: Question, found: Figures) -> str | None:
    promise = question.promise
    if found.slo_ratio >= promise.least_ratio:
        return None
    late = f"{found.slo_ratio:.1%} of the first tokens come within {promise.ttft_s:g} s, not {promise.percent:g}%"
    prefill_s = question.prefill_s(promise.least_ratio)
    if prefill_s > promise.ttft_s:
        return f"{late}; reading a prompt alone takes {prefill_s:.1f} s at the p{promise.percent:g}"
    if found.refused:
        return f"{late}; {found.refused} of {found.requests} requests are refused after {question.rules.max_wait_s:g} s"
    return f"{late}; the p95 is {found.ttft_s.p95:.1f} s"
