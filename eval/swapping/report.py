"""The swapping section of docs/benchmarks.md, and its table for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from rich.table import Table

from eval.serving.markdown import figure, table
from eval.swapping.document import SwappingDocument

if TYPE_CHECKING:
    from eval.swapping.document import Percentiles, SchedulerRun

HEADER: Final = (
    "scheduler",
    "answered",
    "loads",
    "first token p50 / p95 / most, s",
    "wait p50 / p95 / most, s",
    "span s",
)
_TERMS: Final = (
    "One gateway after the other, the same requests at the same moments through HTTP. `default`: ours. `fifo-lru`: "
    "strict order of arrival, one load at a time, the least recently used goes; `group-lru`: the same, but who asks "
    "for a loaded expert is served at once. Wait: for the expert, queue and load. Span: to the last answer."
)
_BOOKS: Final = (
    "Memory: what all workers take by the operating system's measure (Pss), over what is booked for them. Settled: "
    "the median over moments at which nobody was coming or going. Most: at any moment, loads included."
)


def swapping_section(name: str, raw: bytes) -> str:
    """Render one document. Raises: msgspec.DecodeError: it is not one."""
    document = msgspec.json.decode(raw, type=SwappingDocument)
    machine = document.machine
    versions = ", ".join(f"{package} {version}" for package, version in document.versions.items())
    measured = (
        f"`{' '.join(document.command)}` on {document.date[:10]}: {machine.cpu}, {machine.cores} cores, Python "
        f"{machine.python}, load average {figure(machine.load_1m)} at the start; {versions}; from `{name}.json`. "
        f"{document.entries} experts, {', '.join(document.models)} in turn under names of their own, device budget "
        f"{figure(document.budget_mib)} MiB: room for any two of the models. {document.requests} requests of "
        f"{document.max_tokens} tokens, Poisson arrivals at {document.rate_rps:g}/s, Zipf {document.zipf:g}, bound "
        f"{document.max_wait_s:g} s."
    )
    rows = [list(_row(run)) for run in document.runs]
    books = [
        [run.scheduler, str(run.books.samples), f"{run.books.settled_ratio:.3f}", f"{run.books.most_ratio:.3f}",
         f"{run.books.most_of_budget_ratio:.3f}"]
        for run in document.runs
    ]  # fmt: skip
    header = ["scheduler", "samples", "measured / booked, settled", "most", "most of the budget"]
    return "\n\n".join(
        ["## Swapping", measured, _TERMS, table(HEADER, rows), _compared(document), _BOOKS, table(header, books)]
    )


def swapping_table(document: SwappingDocument) -> Table:
    """Build the table for a terminal."""
    terminal = Table(*HEADER)
    for run in document.runs:
        terminal.add_row(*_row(run))
    return terminal


def _row(run: SchedulerRun) -> tuple[str, ...]:
    wrong = "".join(f"; {count} {problem}" for problem, count in run.problems.items())
    return (
        run.scheduler, f"{run.answered}{wrong}", str(run.loads),
        _shown(run.ttft_s), _shown(run.waited_s), figure(run.span_s),
    )  # fmt: skip


def _compared(document: SwappingDocument) -> str:
    """The first run beside each of the others, in words."""
    own, *others = document.runs
    told = [
        f"{other.scheduler} makes {figure(other.loads / own.loads)} times the loads, its p95 of the first token is "
        f"{figure(other.ttft_s.p95 / own.ttft_s.p95)} times that of {own.scheduler}."
        for other in others
        if own.loads and own.ttft_s.p95
    ]
    longest, slowest = figure(own.waited_s.most), figure(own.slowest_load_s)
    return " ".join([*told, f"The longest wait with {own.scheduler} is {longest} s, its slowest load {slowest} s."])


def _shown(seconds: Percentiles) -> str:
    return f"{figure(seconds.p50)} / {figure(seconds.p95)} / {figure(seconds.most)}"
