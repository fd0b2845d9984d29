"""`coe simulate`: the residency plane on a virtual clock, on a trace of real arrivals."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from coe_gateway.cli.config import JsonOption  # noqa: TC001 - as above
from eval.documents import TABLE_COLUMNS, encoded, write_document
from eval.simulation.assignment import Mix
from eval.simulation.hardware import PROFILES
from eval.simulation.mixes import named_mix
from eval.simulation.pace import at_rate, first_seconds, mean_rate
from eval.simulation.simulate import Figures, Setting, find_rate, simulate
from eval.simulation.traces import read_trace
from experts.errors import ConfigError
from memory_tiers.rules import Rules


class SimulationDocument(Figures, frozen=True, omit_defaults=True):
    """What `coe simulate --json` prints: the figures, and what they are of."""

    trace: str = ""
    hardware: str = ""
    mix: str = ""
    experts: int = 0
    offered_rps: float = 0.0


def simulate_verb(  # noqa: PLR0913 - an option is an argument
    *,
    trace: Annotated[
        Path, typer.Option(exists=True, help="Azure's CSV, Mooncake's JSONL, our access log, or ServeGen's folder.")
    ],
    experts: Annotated[int, typer.Option(min=1, help="How many experts the mix has.")] = 50,
    policy: Annotated[str, typer.Option(help="`default`, or what to compare it with: fifo-lru, group-lru, ...")] = (
        "default"
    ),
    hardware: Annotated[str, typer.Option(help=f"One of {', '.join(PROFILES)}.")] = "h100-pcie5",
    device_slots: Annotated[int | None, typer.Option(min=1, help="Experts a device holds; default: its bytes.")] = None,
    host_slots: Annotated[int | None, typer.Option(min=0, help="Copies in host memory; default: its bytes.")] = None,
    expert_bytes: Annotated[int, typer.Option(min=1, help="Weights of one expert.")] = 13_480_000_000,
    mix: Annotated[str, typer.Option(help="zipf, uniform, few-sessions, drift-rotate, bursts, agents, ...")] = "zipf",
    zipf: Annotated[float, typer.Option(min=0, help="How unevenly experts are asked for.")] = 1.0,
    sessions: Annotated[int, typer.Option(min=1, help="Conversations at a time.")] = 64,
    stickiness: Annotated[float, typer.Option(min=0, max=1, help="How likely one keeps its expert.")] = 0.5,
    rate: Annotated[float | None, typer.Option(help="Mean requests a second; default: the trace's own.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Only the first so many seconds of the trace.")] = None,
    max_wait_s: Annotated[float, typer.Option(help="Within which a request is to have its expert.")] = 60.0,
    start: Annotated[str, typer.Option(help="`placed`: likeliest experts are in place; `cold`: none.")] = "placed",
    find: Annotated[bool, typer.Option("--find-rate", help="Find the highest rate that keeps --p95-ttft.")] = False,
    p95_ttft: Annotated[float, typer.Option(help="Seconds to the first token that count as good.")] = 10.0,
    seed: Annotated[int, typer.Option(help="What the mix is drawn by.")] = 0,
    as_json: JsonOption = False,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON document to this file.")] = None,
) -> None:
    """Serve a trace on a virtual clock, by the gateway's own scheduler and policies, on hardware of your choice."""
    if hardware not in PROFILES:
        raise ConfigError("--hardware", hardware, f"is none of {', '.join(PROFILES)}")
    if start not in {"placed", "cold"}:
        raise ConfigError("--start", start, "must be placed or cold")
    rows = read_trace(trace)
    rows = rows if seconds is None else first_seconds(rows, seconds)
    setting = Setting(
        hardware=PROFILES[hardware],
        mix=named_mix(mix, Mix(experts=experts, zipf=zipf, sessions=sessions, stickiness=stickiness)),
        policy=policy,
        expert_bytes=expert_bytes,
        device_slots=device_slots,
        host_slots=host_slots,
        rules=Rules(loads=1, max_wait_s=max_wait_s),
        placed=start == "placed",
        seed=seed,
    )
    with Console(stderr=True).status("simulating"):
        if find:
            offered, found = find_rate(rows, setting, p95_ttft)
        else:
            paced = rows if rate is None else at_rate(rows, rate)
            offered, found = mean_rate(paced), simulate(paced, setting, p95_ttft)
    document = SimulationDocument(
        **msgspec.structs.asdict(found),
        trace=trace.name,
        hardware=hardware,
        mix=mix,
        experts=experts,
        offered_rps=round(offered, 4),
    )
    write_document(document, out)
    if as_json:
        typer.echo(encoded(document).decode(), nl=False)
    else:
        Console(width=None if sys.stdout.isatty() else TABLE_COLUMNS).print(_table(document))


def _table(found: SimulationDocument) -> Table:
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
    ):
        table.add_row(name, value)
    return table


if __name__ == "__main__":
    typer.run(simulate_verb)
