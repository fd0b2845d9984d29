"""What `coe plan --json` prints."""

from __future__ import annotations

import msgspec


class DiskLoad(msgspec.Struct, frozen=True):
    """What the disk must hold and do. busy_ratio: of the time, how much it reads."""

    holds_gb: float
    reads_per_s: float
    gb_per_s: float
    busy_ratio: float


class ComputeLoad(msgspec.Struct, frozen=True):
    """What the devices must compute. prefill_busy_ratio: of each device; answers_at_once: of all, on average."""

    prefill_busy_ratio: float
    answers_at_once: float


class Trial(msgspec.Struct, frozen=True, omit_defaults=True):
    """One machine that was tried with one policy. fails: why the promise is not kept; absent: it is kept."""

    devices: int
    host_gb: float
    policy: str
    in_time_ratio: float | None = None
    p95_ttft_s: float | None = None
    max_wait_s: float | None = None
    refused: int | None = None
    swaps_per_1000: float | None = None
    fails: str | None = None


class Answer(msgspec.Struct, frozen=True):
    """The smallest machine that keeps the promise. hot_ratio: requests whose expert was ready when they came.

    device_gb: memory of each device, of which weights_gb_per_device is for weights. max_wait_s: the longest wait for
    an expert.
    """

    devices: int
    device_gb: float
    weights_gb_per_device: float
    host_gb: float
    policy: str
    hot_ratio: float
    p50_ttft_s: float
    p95_ttft_s: float
    max_wait_s: float
    refused: int
    swaps_per_1000: float
    moved_gb_per_s: float
    disk: DiskLoad
    compute: ComputeLoad


class PlanDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """A capacity question and its answer; answer: absent where nothing that was allowed keeps the promise.

    below: what is next smaller, in devices and in host memory, and why it fails. more_host: the fewest devices if host
    memory had room for all weights; absent: it has, or that changes nothing. policies: the answer's machine with
    each policy. tried: every simulation, in order.
    """

    experts: int
    weights_gb: float
    largest_expert_gb: float
    hardware: str
    hardware_note: str
    slo: str
    rate_rps: float
    workload: str
    mix: str
    requests: int
    seed: int
    answer: Answer | None = None
    below: list[Trial] = []
    more_host: Trial | None = None
    policies: list[Trial] = []
    tried: list[Trial] = []
    wall_s: float = 0.0
