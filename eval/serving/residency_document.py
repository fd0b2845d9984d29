"""The residency benchmark's document: what `docs/bench/*.json` of kind `residency` holds, as types."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - msgspec reads the annotations when it decodes
from dataclasses import dataclass
from typing import Literal

from eval.serving.machine import Machine  # noqa: TC001 - as above
from eval.serving.pairing import Spread  # noqa: TC001 - as above

State = Literal["staged", "loaded", "staged and loaded"]


@dataclass(frozen=True, slots=True)
class Start:
    """A start from one tier. start_s: until the expert can answer. answer_s: until its first token is there."""

    start_s: Spread
    answer_s: Spread


@dataclass(frozen=True, slots=True)
class StateMemory:
    """One state's memory: what the configuration books for it, and what the operating system measures."""

    state: State
    booked_mib: float
    measured_mib: float


@dataclass(frozen=True, slots=True)
class ExpertResidency:
    """One expert, started by where its weights were. device_answer_s: the first token, of the expert when loaded.

    host_saves_s: how much sooner the first token came from host memory than from disk, in the same round.
    peak_mib: the most that its worker had resident, shared libraries in full.
    """

    id: str
    weights_mib: float
    disk: Start
    host: Start
    host_saves_s: Spread
    device_answer_s: Spread
    stage_s: Spread
    memory: tuple[StateMemory, ...]
    peak_mib: float


@dataclass(frozen=True, slots=True)
class ResidencyDocument:
    """A run of `coe bench residency`."""

    date: str
    command: tuple[str, ...]
    machine: Machine
    versions: Mapping[str, str]
    rounds: int
    experts: tuple[ExpertResidency, ...]
    kind: str = "residency"
    schema: int = 1
