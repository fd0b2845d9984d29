"""The gateway benchmark's document: what `docs/bench/*.json` of kind `gateway` holds, as types."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 -- msgspec reads the annotations when it decodes
from dataclasses import dataclass
from typing import Literal

from eval.serving.machine import Machine  # noqa: TC001 -- as above
from eval.serving.pairing import Spread  # noqa: TC001 -- as above

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class SystemEntry:
    """One system of the comparison. status: `measured`, or why it was not. start_s: process start to first answer."""

    name: str
    label: str
    version: str
    command: tuple[str, ...]
    status: str
    start_s: float | None = None
    rss_mib: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One system in one scenario over all rounds.

    load: closed loop at `connections`, or open loop at `rate_rps`. added: minus direct-to-mock in the same round.
    errors: by kind, all rounds together. upstream_mismatch: requests that the mock saw beyond those sent, or lacked.
    server_p50_ms: the median of each `x-coe-*-ms` header, median of rounds.
    """

    system: str
    load: Literal["closed", "open"]
    stream: bool
    connections: int
    rate_rps: float | None
    requests: int
    errors: Mapping[str, int]
    upstream_mismatch: int
    rps: Spread | None
    p50_ms: Spread | None
    p95_ms: Spread | None
    p99_ms: Spread | None
    ttft_p50_ms: Spread | None
    added_p50_ms: Spread | None
    added_p95_ms: Spread | None
    added_p99_ms: Spread | None
    added_ttft_p50_ms: Spread | None
    cpu_ms_per_request: Spread | None
    server_p50_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Ratio:
    """Requests per second of one system over another's, paired by round, in one closed-loop scenario."""

    of: str
    to: str
    stream: bool
    connections: int
    rps: Spread


@dataclass(frozen=True, slots=True)
class Settings:
    """What the run was asked for; seconds are those of one measurement."""

    rounds: int
    seconds_s: float
    warmup_s: float
    stream_deltas: int
    open_share_ratio: float
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class GatewayDocument:
    """One run of `coe bench gateway`."""

    kind: Literal["gateway"]
    schema: int
    date: str
    command: tuple[str, ...]
    settings: Settings
    machine: Machine
    versions: Mapping[str, str]
    systems: tuple[SystemEntry, ...]
    rows: tuple[Row, ...]
    ratios: tuple[Ratio, ...]
