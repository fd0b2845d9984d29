"""`coe bench swapping`: more experts than fit, for real, beside what others do."""

from __future__ import annotations

import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console

from coe_gateway.cli.config import ConfigOption, chosen_config
from coe_gateway.cli.experts import open_store
from coe_gateway.settings import load_settings
from eval.documents import TABLE_COLUMNS, encoded, write_document
from eval.serving.machine import package_versions, this_machine
from eval.serving.systems import BYTES_PER_MIB, shown_command
from eval.swapping.document import SwappingDocument
from eval.swapping.gateway_child import OWN, schedule_named
from eval.swapping.plan import Load, configuration
from eval.swapping.report import swapping_table
from eval.swapping.run import run_scheduler
from experts.errors import ConfigError, SourceUnavailable

if TYPE_CHECKING:
    from coe_gateway.settings import Settings

PACKAGES: Final = ("coe-gateway", "xllamacpp")


def bench_swapping(  # noqa: PLR0913 - a command's options
    *,
    config: ConfigOption = None,
    entries: Annotated[int, typer.Option(min=1, max=1000, help="Experts that the configured models become.")] = 12,
    requests: Annotated[int, typer.Option(help="Requests for each scheduler.")] = 500,
    rate: Annotated[float, typer.Option(help="Arrivals a second.")] = 1.0,
    zipf: Annotated[float, typer.Option(min=0.0, help="Exponent of the experts' popularity.")] = 1.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of an answer.")] = 8,
    max_wait: Annotated[float, typer.Option(help="Our scheduler's bound, in seconds.")] = 60.0,
    seed: Annotated[int, typer.Option(help="Of arrivals and experts.")] = 0,
    against: Annotated[list[str] | None, typer.Option(help="Schedulers to compare with; default: fifo-lru.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON document instead of a table.")] = False,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON document to this file.")] = None,
) -> None:
    """Ask more experts than fit, through HTTP: our scheduler, then others, over the same requests."""
    command, date, machine = ("coe", *sys.argv[1:]), datetime.now(UTC), this_machine()
    names = [OWN, *(against or ["fifo-lru"])]
    for name in names:
        schedule_named(name)
    load = Load(entries, requests, rate, zipf, max_tokens, max_wait, seed)
    models = _models(chosen_config(config))
    with Console(stderr=True).status("") as status, tempfile.TemporaryDirectory(prefix="coe-bench-") as work:
        runs = []
        for name in names:
            status.update(f"{name}: {requests} requests over {entries} experts")
            runs.append(run_scheduler(name, models, load, Path(work)))
    document = SwappingDocument(
        date=date.isoformat(timespec="seconds"),
        command=shown_command(command),
        machine=machine,
        versions=package_versions(PACKAGES),
        models=tuple(model["id"] for model in models),
        entries=entries,
        requests=requests,
        rate_rps=rate,
        zipf=zipf,
        max_tokens=max_tokens,
        max_wait_s=max_wait,
        seed=seed,
        budget_mib=round(configuration(models, load)["residency"]["device_budget_bytes"] / BYTES_PER_MIB, 1),
        runs=tuple(runs),
    )
    write_document(document, out)
    if as_json:
        typer.echo(encoded(document).decode(), nl=False)
    else:
        Console(width=None if sys.stdout.isatty() else TABLE_COLUMNS).print(swapping_table(document))


def _models(path: Path) -> list[dict[str, Any]]:
    """The entries of the embedded engine, read once so that no scheduler finds them on the disk and another in memory.

    Raises: ConfigError: there is none; SourceUnavailable: one is not fetched.
    """
    settings: Settings = load_settings(path)
    store, models = open_store(settings), []
    for entry in settings.experts:
        spec = entry.spec()
        if spec.weights is None:
            continue
        if not store.has(spec.weights):
            raise SourceUnavailable(f"{spec.weights.filename} is not fetched; `coe experts pull` does it")
        with store.path_of(spec.weights).open("rb") as file:
            while file.read(1 << 24):
                pass
        models.append(entry.model_dump(mode="json", exclude_none=True) | {"device_bytes": spec.device_bytes})
    if not models:
        raise ConfigError(f"{path} experts", None, "none runs on the embedded engine, so none can be swapped")
    return models
