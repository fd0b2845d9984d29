"""A plan as a person reads it: the answer in sentences, then what was tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from eval.planning.document import PlanDocument, Trial


def sentences(document: PlanDocument) -> Iterator[str]:
    """The question and its answer."""
    yield (
        f"{document.experts} experts, {document.weights_gb:g} GB of weights, {document.rate_rps:g} requests a second "
        f"({document.workload}, mix {document.mix}), {document.slo} s, on {document.hardware}:"
    )
    found = document.answer
    if found is None:
        yield "Nothing that was allowed keeps that promise."
        return
    yield (
        f"{found.devices} x {found.device_gb:g} GB ({found.weights_gb_per_device:g} GB of each for weights) and "
        f"{found.host_gb:g} GB of host memory, policy {found.policy}."
    )
    yield (
        f"Time to first token: p50 {found.p50_ttft_s:.2f} s, p95 {found.p95_ttft_s:.2f} s. Longest wait for an expert: "
        f"{found.max_wait_s:.1f} s; refused: {found.refused} of {document.requests}."
    )
    yield (
        f"{found.hot_ratio:.1%} find their expert ready; {found.swaps_per_1000:.0f} swaps per 1,000 requests, "
        f"{found.moved_gb_per_s:g} GB/s of weights."
    )
    yield (
        f"Disk: {found.disk.holds_gb:g} GB of files, {found.disk.gb_per_s:g} GB/s on average, reading "
        f"{found.disk.busy_ratio:.0%} of the time. Prompts take {found.compute.prefill_busy_ratio:.0%} of each device; "
        f"{found.compute.answers_at_once:g} answers run at once."
    )


def tables(document: PlanDocument) -> Iterator[Table]:
    """What is next smaller and why it fails, what more host memory would do, and the policies side by side."""
    if document.more_host is not None:
        yield _table("with room for all weights in host memory", [document.more_host])
    if document.below:
        yield _table("next smaller" if document.answer else "the most that is allowed", document.below)
    if document.policies:
        yield _table("this machine, policy by policy", document.policies)


def _table(title: str, trials: Sequence[Trial]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in ("devices", "host GB", "policy", "in time", "p95 TTFT s", "longest wait s", "swaps per 1,000"):
        table.add_column(name, justify="left" if name == "policy" else "right")
    table.add_column("fails")
    for one in trials:
        figures = (
            _shown(one.in_time_ratio, ".1%"),
            _shown(one.p95_ttft_s, ".2f"),
            _shown(one.max_wait_s, ".1f"),
            _shown(one.swaps_per_1000, ".0f"),
        )
        table.add_row(str(one.devices), f"{one.host_gb:g}", one.policy, *figures, one.fails or "")
    return table


def _shown(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
