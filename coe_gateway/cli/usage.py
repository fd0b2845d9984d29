"""`coe usage export`: the ledger as a file."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path  # noqa: TC003 - typer reads annotations at run time
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from coe_gateway.accounts.export import export
from coe_gateway.cli import output
from coe_gateway.cli.accounts_options import opened_book, the_one
from coe_gateway.cli.config import ConfigOption  # noqa: TC001 - typer reads annotations at run time

if TYPE_CHECKING:
    from collections.abc import Iterator

app = typer.Typer(help="What keys have used.", no_args_is_help=True)


class Form(StrEnum):
    """How the ledger is written."""

    CSV = "csv"
    JSON = "json"


@app.callback()
def usage() -> None:
    """What keys have used."""


@app.command(name="export")
def export_usage(
    config: ConfigOption = None,
    since: Annotated[datetime | None, typer.Option(help="from this time on, UTC")] = None,
    until: Annotated[datetime | None, typer.Option(help="up to this time, UTC")] = None,
    key: Annotated[str | None, typer.Option(help="of this key alone, by id or name")] = None,
    form: Annotated[Form, typer.Option("--format", help="csv, or json: one object a line")] = Form.CSV,
    out: Annotated[Path | None, typer.Option(help="write here instead of standard output")] = None,
) -> None:
    """Write every row of the ledger, oldest first."""
    count = asyncio.run(_export(config, (_seconds(since, 0.0), _seconds(until, time.time() + 1)), key, form, out))
    output.note(f"{count} rows")


async def _export(
    config: Path | None, between: tuple[float, float], who: str | None, form: Form, out: Path | None
) -> int:
    async with opened_book(config) as (_, book):
        key = None if who is None else the_one(await book.keys(), who, "key").id
        with _target(out) as file:
            return await export(book.usage(*between, key), file, form.value)


@contextmanager
def _target(out: Path | None) -> Iterator[TextIO]:
    """Standard output, or a file that is there when it is whole."""
    if out is None:
        yield sys.stdout
        return
    unfinished = out.with_name(f"{out.name}.{os.getpid()}")
    with unfinished.open("w", encoding="utf-8", newline="") as file:
        yield file
    unfinished.replace(out)


def _seconds(given: datetime | None, default_s: float) -> float:
    return default_s if given is None else given.replace(tzinfo=UTC).timestamp()
