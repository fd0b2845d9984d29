"""The residency section of docs/benchmarks.md, and its table for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from rich.table import Table

from eval.serving.markdown import figure, shown, table
from eval.serving.residency_document import ResidencyDocument

if TYPE_CHECKING:
    from eval.serving.residency_document import ExpertResidency, StateMemory

_TERMS: Final = (
    "First token: from being asked for to the first token, for an expert that is on the disk only (its file dropped "
    "from the page cache), staged in host memory (its file dropped too), or loaded. Start: the part of it until the "
    "expert can answer. Saved: the difference of the first tokens within a round. Stage: from the disk into host "
    "memory, the hash checked."
)
_MEMORY: Final = (
    "Measured: the staged copy's pages and the worker's share of resident memory (Pss), after a prompt of "
    "more than one batch on each slot. Peak: the worker's highest resident memory, shared libraries in full."
)


def residency_section(name: str, raw: bytes) -> str:
    """Render one document. Raises: msgspec.DecodeError: it is not one."""
    document = msgspec.json.decode(raw, type=ResidencyDocument)
    machine = document.machine
    versions = ", ".join(f"{package} {version}" for package, version in document.versions.items())
    measured = (
        f"`{' '.join(document.command)}` on {document.date[:10]}: {machine.cpu}, {machine.cores} cores, "
        f"{figure(machine.memory_gib)} GiB, Python {machine.python}, load average {figure(machine.load_1m)} at the "
        f"start; {versions}. {document.rounds} interleaved rounds; medians, with the range; from `{name}.json`."
    )
    tiers = ["from disk", "from host memory", "loaded"]
    header = ["expert", "weights MiB", *(f"first token {tier}, s" for tier in tiers), "saved by host memory, s"]
    answers = [
        [e.id, figure(e.weights_mib),
         shown(e.disk.answer_s), shown(e.host.answer_s), shown(e.device_answer_s), shown(e.host_saves_s)]
        for e in document.experts
    ]  # fmt: skip
    starts = [[e.id, shown(e.disk.start_s), shown(e.host.start_s), shown(e.stage_s)] for e in document.experts]
    memory = [_memory_row(expert, state) for expert in document.experts for state in expert.memory]
    return "\n\n".join(
        [
            "## Residency",
            measured,
            _TERMS,
            table(header, answers),
            table(["expert", "start from disk, s", "start from host memory, s", "stage, s"], starts),
            _MEMORY,
            table(["expert", "state", "booked MiB", "measured MiB", "measured / booked", "peak MiB"], memory),
        ]
    )


def residency_table(document: ResidencyDocument) -> Table:
    """Build one table for a terminal: medians, and the books beside the measurements."""
    terminal = Table("expert", "first token, s: disk", "host", "loaded", "stage s", "loaded MiB: booked", "measured")
    for expert in document.experts:
        loaded = next(state for state in expert.memory if state.state == "loaded")
        times = (expert.disk.answer_s, expert.host.answer_s, expert.device_answer_s, expert.stage_s)
        cells = [figure(time.median) for time in times]
        terminal.add_row(expert.id, *cells, figure(loaded.booked_mib), figure(loaded.measured_mib))
    return terminal


def _memory_row(expert: ExpertResidency, state: StateMemory) -> list[str]:
    peak = "-" if state.state == "staged" else figure(expert.peak_mib)
    ratio = f"{state.measured_mib / state.booked_mib:.3f}" if state.booked_mib else "-"
    return [expert.id, state.state, figure(state.booked_mib), figure(state.measured_mib), ratio, peak]
