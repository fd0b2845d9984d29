"""`coe bench ...`: the commands that measure, and the one that writes the measurements up."""

from __future__ import annotations

import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from coe_gateway.cli.config import ConfigOption, chosen_config
from eval.documents import encoded, write_document
from eval.residency_bench_cli import bench_residency
from eval.retrieval_bench_cli import bench_retrieval
from eval.router_bench_cli import bench_router
from eval.serving.bench_document import gateway_document
from eval.serving.console import gateway_table
from eval.serving.footprint import measure_footprint
from eval.serving.gateway_bench import GatewayBench, Plan
from eval.serving.machine import this_machine
from eval.serving.peers import PEERS_DIR, install, known_peers
from eval.serving.report import render
from eval.serving.systems import serve_line_up
from eval.swapping_bench_cli import bench_swapping

STREAM_DELTAS: Final = 16
TABLE_COLUMNS: Final = 120  # where there is no terminal to fit
BENCH_DIR: Final = Path("docs/bench")
BENCHMARKS_FILE: Final = Path("docs/benchmarks.md")

bench_app = typer.Typer(name="bench", help="Measure, and write measurements up.", no_args_is_help=True)
bench_app.command("residency")(bench_residency)
bench_app.command("retrieval")(bench_retrieval)
bench_app.command("router")(bench_router)
bench_app.command("swapping")(bench_swapping)


@bench_app.command("gateway")
def bench_gateway(
    *,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Interleaved rounds; medians are over these.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds of one measurement.")] = 3.0,
    peers: Annotated[bool, typer.Option("--peers/--no-peers", help="Measure LiteLLM and Portkey as well.")] = True,
    peers_dir: Annotated[Path, typer.Option(help="Where the peers' environments are.")] = PEERS_DIR,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON document instead of tables.")] = False,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON document to this file.")] = None,
) -> None:
    """Compare the gateway with a direct call, a bare proxy, LiteLLM and Portkey, all against one mock."""
    command, date, machine = ("coe", *sys.argv[1:]), datetime.now(UTC), this_machine()
    console, plan = Console(stderr=True), Plan(rounds=rounds, seconds_s=seconds)
    with tempfile.TemporaryDirectory(prefix="coe-bench-") as work, console.status("starting the systems") as status:
        line_up_of = serve_line_up(known_peers(peers_dir) if peers else (), Path(work), STREAM_DELTAS)
        with line_up_of as line_up:
            samples = GatewayBench(line_up, plan, status.update).run()
            document = gateway_document(line_up, plan, samples, command=command, date=date, machine=machine)
    write_document(document, out)
    if as_json:
        typer.echo(encoded(document).decode(), nl=False)
    else:
        Console(width=None if sys.stdout.isatty() else TABLE_COLUMNS).print(gateway_table(document))


@bench_app.command("footprint")
def bench_footprint(
    *,
    config: ConfigOption = None,
    starts: Annotated[int, typer.Option(min=1, max=50, help="Starts that the median is over.")] = 5,
    out: Annotated[Path | None, typer.Option(help="Write the JSON document to this file, not to stdout.")] = None,
) -> None:
    """Weigh the install, the time to ready, and the memory of the gateway and of each expert."""
    with tempfile.TemporaryDirectory(prefix="coe-bench-") as work:
        document = measure_footprint(chosen_config(config), starts, Path(work), ("coe", *sys.argv[1:]))
    write_document(document, out)
    if out is None:
        typer.echo(encoded(document).decode(), nl=False)


@bench_app.command("report")
def bench_report(
    *,
    folder: Annotated[Path, typer.Option(help="The JSON documents.")] = BENCH_DIR,
    out: Annotated[Path, typer.Option(help="The Markdown file to write.")] = BENCHMARKS_FILE,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail when the file differs.")] = False,
) -> None:
    """Write docs/benchmarks.md from docs/bench/*.json."""
    text = render(folder)
    if not check:
        out.write_text(text)
    elif not out.is_file() or out.read_text() != text:
        typer.echo(f"{out} is not what `coe bench report` writes", err=True)
        raise typer.Exit(1)


@bench_app.command("install-peers")
def bench_install_peers(
    *, peers_dir: Annotated[Path, typer.Option(help="Where to build their environments.")] = PEERS_DIR
) -> None:
    """Build the peers' environments: exact versions, nothing shared with ours; needs PyPI and npm."""
    install(peers_dir)


if __name__ == "__main__":
    bench_app()
