"""What the verbs about accounts share: the book of a configuration, limits as options, who is meant."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
import typer

from coe_gateway.accounts.opening import build_book
from coe_gateway.accounts.types import Limits
from coe_gateway.cli.config import chosen_config
from coe_gateway.settings import load_settings
from experts.errors import ConfigError, InvalidConfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from coe_gateway.accounts.book import Book
    from coe_gateway.accounts.settings import AccountsSettings
    from coe_gateway.accounts.types import ApiKey, Team

_Named = TypeVar("_Named", "ApiKey", "Team")

UsdTotal = Annotated[float | None, typer.Option(help="dollars it may spend in all")]
UsdPerMonth = Annotated[float | None, typer.Option(help="dollars a calendar month, UTC")]
UsdPerDay = Annotated[float | None, typer.Option(help="dollars a day, UTC")]
TokensTotal = Annotated[int | None, typer.Option(help="tokens in all, prompts and answers together")]
TokensPerMonth = Annotated[int | None, typer.Option(help="tokens a calendar month")]
TokensPerDay = Annotated[int | None, typer.Option(help="tokens a day")]
Rpm = Annotated[int | None, typer.Option(help="requests a minute")]
Tpm = Annotated[int | None, typer.Option(help="tokens a minute")]


@asynccontextmanager
async def opened_book(config: Path | None) -> AsyncIterator[tuple[AccountsSettings, Book]]:
    """The accounts of a configuration. Raises: InvalidConfig: it has none; AccountsUnavailable."""
    path = chosen_config(config)
    settings = load_settings(path).accounts
    if settings is None:
        problem = "is missing: without this section there are no keys but gateway.api_keys"
        raise InvalidConfig(str(path), [ConfigError("accounts", None, problem)])
    book = build_book(settings, os.environ)
    await book.open()
    try:
        yield settings, book
    finally:
        await book.close()


def limits_of(**given: float | None) -> Limits:
    """Limits from options. Raises: BadParameter: one is out of range."""
    try:
        return msgspec.convert({name: value for name, value in given.items() if value is not None}, Limits)
    except msgspec.ValidationError as error:
        text = str(error)
        name = next((name for name in given if f"$.{name}`" in text), "limit").replace("_", "-")
        raise typer.BadParameter(text.partition(" - ")[0], param_hint=f"--{name}") from error


def the_one(records: Sequence[_Named], who: str, kind: str) -> _Named:
    """The record of that id, or the only one of that name. Raises: BadParameter."""
    by_id = [record for record in records if record.id == who]
    found = by_id or [record for record in records if record.name == who]
    if len(found) == 1:
        return found[0]
    problem = f"several {kind}s have this name; give an id" if found else f"no {kind} has this id or name"
    raise typer.BadParameter(f"{who!r}: {problem}")
