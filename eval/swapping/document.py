"""The swapping benchmark's document: what `docs/bench/*.json` of kind `swapping` holds, as types."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - msgspec reads the annotations when it decodes
from dataclasses import dataclass

from eval.serving.machine import Machine  # noqa: TC001 - as above


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of the answered requests, in seconds."""

    p50: float
    p95: float
    most: float


@dataclass(frozen=True, slots=True)
class Books:
    """Device memory: the workers' share of resident memory over the bytes booked, at moments all through the run.

    settled_ratio: the median over moments at which nobody was coming or going; most_ratio: the highest at any moment.
    most_of_budget_ratio: the highest measured memory over the budget.
    """

    samples: int
    settled_ratio: float
    most_ratio: float
    most_of_budget_ratio: float


@dataclass(frozen=True, slots=True)
class SchedulerRun:
    """One scheduler's run. problems: of requests that got no right answer, by what was wrong.

    span_s: from the first request to the last answer. loads, unloads: of experts, onto the device and off it.
    """

    scheduler: str
    answered: int
    problems: Mapping[str, int]
    loads: int
    unloads: int
    span_s: float
    waited_s: Percentiles
    ttft_s: Percentiles
    total_s: Percentiles
    slowest_load_s: float
    books: Books


@dataclass(frozen=True, slots=True)
class SwappingDocument:
    """A run of `coe bench swapping`. max_wait_s: the bound of the product's scheduler."""

    date: str
    command: tuple[str, ...]
    machine: Machine
    versions: Mapping[str, str]
    models: tuple[str, ...]
    entries: int
    requests: int
    rate_rps: float
    zipf: float
    max_tokens: int
    max_wait_s: float
    seed: int
    budget_mib: float
    runs: tuple[SchedulerRun, ...]
    kind: str = "swapping"
    schema: int = 1
