"""A simulation as a person reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from eval.simulation.hardware import PROFILES

if TYPE_CHECKING:
    from eval.simulation.document import SimulationDocument, SwitchingDocument


def switching_table(document: SwitchingDocument) -> Table:
    """One row a number of experts."""
    table = Table(title="one request of 20 tokens at a time, experts all asked for alike")
    for name in ("hardware", "experts", "on the devices", "latency", "closed model"):
        table.add_column(name, justify="left" if name == "hardware" else "right")
    for curve in document.curves:
        for point in curve.points:
            if point.latency_s is None or point.hit_ratio is None or point.closed_s is None:
                table.add_row(curve.hardware, str(point.experts), "", "out of memory", "")
            else:
                found = f"{point.hit_ratio:.1%}", f"{1000 * point.latency_s:.1f} ms", f"{1000 * point.closed_s:.1f} ms"
                table.add_row(curve.hardware, str(point.experts), *found)
    return table


def simulation_table(found: SimulationDocument) -> Table:
    """One row a figure."""
    table = Table(title=f"{found.policy} on {found.hardware}: {found.trace}, {found.experts} experts, {found.mix}")
    table.add_column("figure")
    table.add_column("value", justify="right")
    ttft, total = found.ttft_s, found.total_s
    for name, value in (
        ("requests a second", f"{found.offered_rps:.3g}"),
        ("completed / refused", f"{found.completed} / {found.refused}"),
        ("expert ready on arrival", f"{found.hit_ratio:.1%}"),
        ("swaps per 1,000 requests", f"{found.swaps_per_1000:.0f}"),
        ("weights read from disk per 1,000", f"{found.disk_loads_per_1000:.1f}"),
        ("time to first token, p50 / p95 / p99", f"{ttft.p50:.2f} / {ttft.p95:.2f} / {ttft.p99:.2f} s"),
        ("whole answer, p50 / p95 / p99", f"{total.p50:.2f} / {total.p95:.2f} / {total.p99:.2f} s"),
        ("longest wait for an expert", f"{found.max_wait_s:.1f} s"),
        ("swaps that nobody waited for", f"{found.hidden_swap_ratio:.1%}"),
        ("swaps for nothing", f"{found.wasted_swap_ratio:.1%}"),
        ("hits of LRU, one request by one", f"{found.suitability.lru_hit_ratio:.3f}"),
        ("hits of the best there can be", f"{found.suitability.belady_hit_ratio:.3f}"),
        ("SRP of the mix (1: made for swapping)", f"{found.suitability.srp:.3f}"),
        ("simulated time over real time", "" if found.speedup is None else f"{found.speedup:.0f}"),
    ):
        table.add_row(name, value)
    return table


def hardware_markdown() -> str:
    """Every profile as a row of the table in docs/simulating.md."""
    lines = [
        "| profile | devices | each, GB | host, GB | link, GB/s | disk, GB/s | prefill, tokens/s | token, ms | from |",
        "|---|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for one in PROFILES.values():
        sizes = f"{one.devices} | {one.device_bytes / 1e9:g} | {one.host_bytes / 1e9:g}"
        speeds = f"{one.link_bytes_per_s / 1e9:g} | {one.disk_bytes_per_s / 1e9:g} | {one.prefill_tokens_per_s:g}"
        lines.append(f"| `{one.name}` | {sizes} | {speeds} | {1000 * one.token_s:g} | {one.note} |")
    return "\n".join(lines)
