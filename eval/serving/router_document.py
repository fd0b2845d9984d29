"""The router benchmark's document: what `docs/bench/*.json` of kind `router` holds, as types."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - msgspec reads the annotations when it decodes
from dataclasses import dataclass
from typing import Literal

from eval.serving.machine import Machine  # noqa: TC001 - as above
from eval.serving.pairing import Spread  # noqa: TC001 - as above


@dataclass(frozen=True, slots=True)
class Times:
    """How long something takes. count: how often it was timed, all rounds together."""

    p50_ms: Spread
    p99_ms: Spread
    count: int


@dataclass(frozen=True, slots=True)
class Stage:
    """One stretch of a decision. share_ratio: of the time of all decisions of a round, so its tail counts."""

    name: str
    p50_ms: Spread
    share_ratio: Spread


@dataclass(frozen=True, slots=True)
class ColdDecisions:
    """Decisions on prompts never seen before, of one length, one at a time."""

    tokens: int
    whole: Times
    stages: tuple[Stage, ...]


@dataclass(frozen=True, slots=True)
class RouterFigures:
    """One router. texts: those its head compares with. start_s: to build it, its libraries loaded, its files cached.

    classifier: both steps' models on a text encoded before. cached: the same prompt again. sustained_rps: decisions a
    second on new prompts, `concurrency` callers at once.
    """

    name: str
    head: Literal["examples", "artifact"]
    categories: int
    experts: int
    texts: int
    start_s: Spread
    classifier: Times
    cold: tuple[ColdDecisions, ...]
    cached: Times
    sustained_rps: Spread


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """What was asked for. blas_threads: OPENBLAS_NUM_THREADS, or `default`, which is one a core."""

    rounds: int
    seconds_s: float
    concurrency: int
    sustained_tokens: int
    blas_threads: str


@dataclass(frozen=True, slots=True)
class RouterDocument:
    """A run of `coe bench router`."""

    date: str
    command: tuple[str, ...]
    settings: RouterSettings
    machine: Machine
    versions: Mapping[str, str]
    routers: tuple[RouterFigures, ...]
    kind: str = "router"
    schema: int = 1
