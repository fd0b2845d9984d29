"""`coe bench residency`: what a start costs from each tier, and whether memory is what the books say."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Final

import aiohttp
import typer
from rich.console import Console

from coe_gateway.cli.config import ConfigOption, chosen_config
from coe_gateway.cli.experts import open_store
from coe_gateway.settings import load_settings
from eval.documents import TABLE_COLUMNS, encoded, write_document
from eval.serving.machine import package_versions, this_machine
from eval.serving.residency_bench import Subject, measure_residency
from eval.serving.residency_document import ResidencyDocument
from eval.serving.residency_report import residency_table
from eval.serving.systems import shown_command
from experts.backends.llama_cpp import LlamaCppBackend
from experts.errors import ConfigError, SourceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from coe_gateway.settings import Settings
    from eval.serving.residency_document import ExpertResidency

PACKAGES: Final = ("coe-gateway", "xllamacpp")


def bench_residency(
    *,
    config: ConfigOption = None,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Interleaved rounds; medians are over these.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON document instead of a table.")] = False,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON document to this file.")] = None,
) -> None:
    """Time starts from disk, from host memory and from the device; weigh each state beside what is booked for it."""
    command, date, machine = ("coe", *sys.argv[1:]), datetime.now(UTC), this_machine()
    path = chosen_config(config)
    settings = load_settings(path)
    with Console(stderr=True).status("starting") as status:
        experts = asyncio.run(_measure(path, settings, rounds, status.update))
    document = ResidencyDocument(
        date=date.isoformat(timespec="seconds"),
        command=shown_command(command),
        machine=machine,
        versions=package_versions(PACKAGES),
        rounds=rounds,
        experts=experts,
    )
    write_document(document, out)
    if as_json:
        typer.echo(encoded(document).decode(), nl=False)
    else:
        Console(width=None if sys.stdout.isatty() else TABLE_COLUMNS).print(residency_table(document))


async def _measure(
    path: Path, settings: Settings, rounds: int, on_step: Callable[[str], None]
) -> tuple[ExpertResidency, ...]:
    async with aiohttp.ClientSession() as session:
        return await measure_residency(_subjects(path, settings, session), rounds, on_step)


def _subjects(path: Path, settings: Settings, session: aiohttp.ClientSession) -> list[Subject]:
    """The experts of the embedded engine. Raises: ConfigError: there is none. SourceUnavailable: one is not fetched."""
    store, subjects = open_store(settings), []
    for spec in (entry.spec() for entry in settings.experts):
        if spec.weights is None:
            continue
        if not store.has(spec.weights):
            raise SourceUnavailable(f"{spec.weights.filename} is not fetched; `coe experts pull` does it")
        file = store.path_of(spec.weights)
        subjects.append(Subject(LlamaCppBackend(spec, session, file), file))
    if not subjects:
        raise ConfigError(f"{path} experts", None, "none runs on the embedded engine, so none has tiers to measure")
    return subjects
