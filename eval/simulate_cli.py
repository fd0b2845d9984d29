"""`coe simulate`: the residency plane on a virtual clock, on a trace of real arrivals."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
import typer
from rich.console import Console

from coe_gateway.cli.config import JsonOption  # noqa: TC001 - as above
from eval.documents import TABLE_COLUMNS, encoded, write_document
from eval.reporting.figure_file import refuse_figures
from eval.simulation.assignment import Mix
from eval.simulation.comparison import COMPARED, Comparison
from eval.simulation.document import SimulationDocument, SwitchingDocument
from eval.simulation.hardware import PROFILES
from eval.simulation.mixes import named_mix
from eval.simulation.option_values import policies as named_policies
from eval.simulation.option_values import profile, profiles, whole_numbers
from eval.simulation.option_values import rates as given_rates
from eval.simulation.pace import at_rate, first_seconds, mean_rate
from eval.simulation.plots import plot_switching
from eval.simulation.simulate import Setting, find_rate, simulate
from eval.simulation.switching import switching_curve
from eval.simulation.tables import simulation_table, switching_table
from eval.simulation.traces import read_trace
from experts.errors import ConfigError
from memory_tiers.rules import Rules

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.table import Table

    from eval.simulation.hardware import Hardware

Document = TypeVar("Document", bound=msgspec.Struct)


def simulate_verb(  # noqa: PLR0913 - an option is an argument
    *,
    trace: Annotated[
        Path | None,
        typer.Option(exists=True, help="Azure's CSV, Mooncake's JSONL, our access log, or ServeGen's folder."),
    ] = None,
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
    prefetch: Annotated[bool, typer.Option(help="Bring experts in before anybody asks.")] = True,
    start: Annotated[str, typer.Option(help="`placed`: likeliest experts are in place; `cold`: none.")] = "placed",
    find: Annotated[bool, typer.Option("--find-rate", help="Find the highest rate that keeps --p95-ttft.")] = False,
    p95_ttft: Annotated[float, typer.Option(help="Seconds to the first token that count as good.")] = 10.0,
    seed: Annotated[int, typer.Option(help="What the mix is drawn by.")] = 0,
    policies: Annotated[str, typer.Option(help="For --plot: the policies to compare.")] = ",".join(COMPARED),
    rates: Annotated[
        str | None, typer.Option(metavar="R,...", help="For --plot: requests a second; default: around the offered.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(file_okay=False, help="Draw the comparison into this folder.")] = None,
    experts_sweep: Annotated[
        str | None,
        typer.Option(
            metavar="N,...", help="Instead of a trace: requests one at a time over so many experts, all alike, no disk."
        ),
    ] = None,
    as_json: JsonOption = False,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON document to this file.")] = None,
) -> None:
    """Serve a trace on a virtual clock, by the gateway's own scheduler and policies, on hardware of your choice."""
    if start not in {"placed", "cold"}:
        raise ConfigError("--start", start, "must be placed or cold")
    if plot is not None:
        refuse_figures("--plot", str(plot))
    output = _Output(as_json=as_json, out=out, plot=plot)
    if experts_sweep is not None:
        if trace is not None:
            raise ConfigError("--experts-sweep", experts_sweep, "takes no --trace: its requests come one at a time")
        counts = whole_numbers("--experts-sweep", experts_sweep)
        _sweep(profiles("--hardware", hardware), counts, policy, seed, output)
        return
    if trace is None:
        raise ConfigError("--trace", None, "is missing: without it there is --experts-sweep only")
    machine, compared = profile("--hardware", hardware), named_policies("--policies", policies)
    comparison = Comparison(compared, None if rates is None else given_rates("--rates", rates), p95_ttft)
    started_s = time.perf_counter()
    rows = read_trace(trace)
    rows = rows if seconds is None else first_seconds(rows, seconds)
    setting = Setting(
        hardware=machine,
        mix=named_mix(mix, Mix(experts=experts, zipf=zipf, sessions=sessions, stickiness=stickiness)),
        policy=policy,
        expert_bytes=expert_bytes,
        device_slots=device_slots,
        host_slots=host_slots,
        rules=Rules(loads=1, max_wait_s=max_wait_s, prefetch=prefetch),
        placed=start == "placed",
        seed=seed,
    )
    speedup = None
    with Console(stderr=True).status("simulating"):
        if find:
            offered, found = find_rate(rows, setting, p95_ttft)
        else:
            paced = rows if rate is None else at_rate(rows, rate)
            run_s = time.perf_counter()
            offered, found = mean_rate(paced), simulate(paced, setting, p95_ttft)
            speedup = round(found.simulated_s / (time.perf_counter() - run_s), 1)
        document = SimulationDocument(
            **msgspec.structs.asdict(found),
            trace=trace.name,
            hardware=hardware,
            mix=mix,
            experts=experts,
            offered_rps=round(offered, 4),
            speedup=speedup,
        )
        if plot is not None:
            document = comparison.drawn(document, rows, setting, plot)
    output.write(msgspec.structs.replace(document, wall_s=round(time.perf_counter() - started_s, 2)), simulation_table)


@dataclass(frozen=True, slots=True)
class _Output:
    as_json: bool
    out: Path | None
    plot: Path | None

    def write(self, document: Document, table: Callable[[Document], Table]) -> None:
        write_document(document, self.out)
        if self.as_json:
            typer.echo(encoded(document).decode(), nl=False)
        else:
            Console(width=None if sys.stdout.isatty() else TABLE_COLUMNS).print(table(document))


def _sweep(kinds: Sequence[Hardware], experts: Sequence[int], policy: str, seed: int, output: _Output) -> None:
    """SN40L's curve: latency over the number of experts, for each kind of hardware."""
    with Console(stderr=True).status("simulating"):
        curves = [switching_curve(kind, experts, policy, seed=seed) for kind in kinds]
    if output.plot is not None:
        output.plot.mkdir(parents=True, exist_ok=True)
        plot_switching(output.plot / "switching.svg", curves)
    output.write(SwitchingDocument(curves), switching_table)


if __name__ == "__main__":
    typer.run(simulate_verb)
