"""The device swap benchmark's document: what `docs/bench/*.json` of kind `device-swap` holds, as types."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - msgspec reads the annotations when it decodes
from dataclasses import dataclass

from eval.serving.machine import Machine  # noqa: TC001 - as above


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of one way to sleep and wake. first_sleep_s: of the first, which is in `sleep_s` too."""

    way: str
    first_sleep_s: float
    sleep_s: tuple[float, ...]
    wake_s: tuple[float, ...]
    same_output: bool


@dataclass(frozen=True, slots=True)
class DeviceSwapDocument:
    """A run of `python -m eval.device_swap.measure`.

    ways: a lone expert going to sleep and waking. exchange_s: one expert asleep and another awake, from the first
    request for the one to the last byte of the other; vLLM's own: the sum of its medians. link_gb_per_s: one copy of
    the same size from the same host memory, in the same run. copy_gb_per_s: the copy of each wake, mapping included.
    pack_s: of the copy that is made once. left_on_device_bytes: what a sleeping engine and this process hold there.
    """

    date: str
    command: tuple[str, ...]
    machine: Machine
    device: str
    versions: Mapping[str, str]
    shape: str
    weight_bytes: int
    kv_bytes: int
    link_gb_per_s: tuple[float, ...]
    copy_gb_per_s: tuple[float, ...]
    ways: tuple[Times, ...]
    exchange_s: tuple[float, ...]
    exchange_same_output: bool
    pack_s: float
    left_on_device_bytes: int
    kind: str = "device-swap"
    schema: int = 1
