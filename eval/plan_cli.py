"""`coe plan`: how many devices, how much host memory and which policy a set of experts needs."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from math import inf
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console

from coe_gateway.cli.config import JsonOption  # noqa: TC001 - as above
from eval.documents import TABLE_COLUMNS, encoded, write_document
from eval.planning.console import sentences, tables
from eval.planning.document import PlanDocument
from eval.planning.expert_sizes import BYTES_PER_PARAM, EXPERT_BYTES, expert_sizes
from eval.planning.promise import parse_promise
from eval.planning.question import GB, Question
from eval.planning.search import COMPARED, Search
from eval.simulation.assignment import Mix
from eval.simulation.generated import poisson_rows
from eval.simulation.hardware import PROFILES
from eval.simulation.mixes import named_mix
from eval.simulation.option_values import policies as named_policies
from eval.simulation.option_values import profile
from eval.simulation.pace import at_rate, from_start, mean_rate
from eval.simulation.traces import read_trace
from experts.errors import ConfigError
from memory_tiers.rules import Rules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.simulation.arrival import TraceRow


def plan_verb(  # noqa: PLR0913 - an option is an argument
    *,
    experts: Annotated[
        str,
        typer.Option(help="How many, all alike; or a configuration or an experts file (YAML), the likeliest first."),
    ],
    hardware: Annotated[str, typer.Option(help=f"One of {', '.join(PROFILES)}.")] = "h100-pcie5",
    rate: Annotated[float | None, typer.Option(help="Requests a second; default: the trace's own, 1 without.")] = None,
    slo: Annotated[
        str, typer.Option(help="What is promised: p95-ttft=SECONDS, or another percentile.")
    ] = "p95-ttft=10",
    expert_bytes: Annotated[int, typer.Option(min=1, help="Weights of one expert, if --experts is a number.")] = (
        EXPERT_BYTES
    ),
    bytes_per_param: Annotated[
        float, typer.Option(help="For an experts file, which tells parameters: 2 for 16 bits, about 0.6 for 4.")
    ] = BYTES_PER_PARAM,
    trace: Annotated[
        Path | None, typer.Option(exists=True, help="As for `coe simulate`; default: Poisson arrivals.")
    ] = None,
    mix: Annotated[str, typer.Option(help="zipf, uniform, few-sessions, drift-rotate, bursts, agents, ...")] = "zipf",
    zipf: Annotated[float, typer.Option(min=0, help="How unevenly experts are asked for.")] = 1.0,
    sessions: Annotated[int, typer.Option(min=1, help="Conversations at a time.")] = 64,
    stickiness: Annotated[float, typer.Option(min=0, max=1, help="How likely one keeps its expert.")] = 0.5,
    requests: Annotated[int, typer.Option(min=100, help="How many are simulated on each machine.")] = 2000,
    most_devices: Annotated[int, typer.Option(min=1, help="More are not wanted.")] = 64,
    most_host_gb: Annotated[float | None, typer.Option(min=0, help="Host memory; default: the hardware's.")] = None,
    kv_ratio: Annotated[float, typer.Option(min=0, max=0.95, help="Of a device, what is not for weights.")] = 0.1,
    max_wait_s: Annotated[float, typer.Option(min=1, help="Within which a request is to have its expert.")] = 60.0,
    policies: Annotated[str, typer.Option(help="Compared on the machine that is found.")] = ",".join(COMPARED),
    seed: Annotated[int, typer.Option(min=0, help="What arrivals and the mix are drawn by.")] = 0,
    as_json: JsonOption = False,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON document to this file.")] = None,
) -> None:
    """Find the smallest machine that serves these experts and keeps the promise: by simulating, smaller and smaller.

    Exits with 1 where nothing that was allowed keeps it.
    """
    started_s = time.perf_counter()
    machine, compared = profile("--hardware", hardware), named_policies("--policies", policies)
    promise, sizes = parse_promise(slo), expert_sizes(experts, expert_bytes, bytes_per_param)
    rows = _rows(trace, rate, requests, seed)
    sizes.check_trace(rows)
    question = Question(
        experts=sizes,
        hardware=machine,
        rows=rows,
        mix=named_mix(mix, Mix(experts=len(sizes.sizes), zipf=zipf, sessions=sessions, stickiness=stickiness)),
        promise=promise,
        most_host_bytes=machine.host_bytes if most_host_gb is None else round(most_host_gb * GB),
        kv_ratio=kv_ratio,
        rules=replace(Rules(loads=1), max_wait_s=max_wait_s),
        seed=seed,
    )
    with Console(stderr=True).status("simulating") as status:
        found = Search(question, most_devices, compared, status.update).run(
            PlanDocument(
                experts=len(sizes.sizes),
                weights_gb=round(sizes.total_bytes / GB, 1),
                largest_expert_gb=round(sizes.largest_bytes / GB, 2),
                hardware=hardware,
                hardware_note=machine.note,
                slo=str(promise),
                rate_rps=round(question.rate_rps, 4),
                workload="poisson" if trace is None else trace.name,
                mix=mix,
                requests=len(rows),
                seed=seed,
            )
        )
    document = msgspec.structs.replace(found, wall_s=round(time.perf_counter() - started_s, 2))
    write_document(document, out)
    _print(document, as_json=as_json)
    if document.answer is None:
        raise typer.Exit(1)


def _rows(trace: Path | None, rate: float | None, requests: int, seed: int) -> Sequence[TraceRow]:
    """The requests, at the rate that is asked for. Raises: ConfigError: the rate cannot be."""
    if rate is not None and not 0 < rate < inf:
        raise ConfigError("--rate", rate, "must be above 0")
    if trace is None:
        return at_rate(poisson_rows(rate or 1.0, requests, seed), rate or 1.0)
    rows = read_trace(trace)
    wanted = mean_rate(rows) if rate is None else rate
    if len(rows) < 2 or wanted == 0:  # noqa: PLR2004 - one request has no rate
        raise ConfigError("--trace", str(trace), "has no rate: it needs two requests at different moments")
    return at_rate(from_start(rows[:requests]), wanted)


def _print(document: PlanDocument, *, as_json: bool) -> None:
    if as_json:
        typer.echo(encoded(document).decode(), nl=False)
        return
    console = Console(width=None if sys.stdout.isatty() else TABLE_COLUMNS, highlight=False)
    for sentence in sentences(document):
        console.print(sentence, markup=False)
    for table in tables(document):
        console.print(table)


if __name__ == "__main__":
    typer.run(plan_verb)
