"""`coe keys ...`: the keys of a gateway with accounts. A running gateway takes changes up within `refresh_s`."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.table import Table

from coe_gateway.accounts.keys import new_key, new_secret
from coe_gateway.accounts.money import shown
from coe_gateway.accounts.opening import hash_key_of
from coe_gateway.accounts.types import ApiKey, Limits, Unit, key_subject
from coe_gateway.cli import output
from coe_gateway.cli.accounts_options import (
    Rpm,
    TokensPerDay,
    TokensPerMonth,
    TokensTotal,
    Tpm,
    UsdPerDay,
    UsdPerMonth,
    UsdTotal,
    limits_of,
    opened_book,
    the_one,
)
from coe_gateway.cli.config import ConfigOption, JsonOption  # noqa: TC001 - typer reads annotations at run time

if TYPE_CHECKING:
    from pathlib import Path

    from coe_gateway.accounts.types import Total

app = typer.Typer(help="Keys with scopes and limits.", no_args_is_help=True)
KeyArgument = Annotated[str, typer.Argument(help="its id, or its name if only one has it")]
_DAY_S = 86_400


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="what people call it")],
    config: ConfigOption = None,
    team: Annotated[str | None, typer.Option(help="the team whose limits it shares, by id or name")] = None,
    model: Annotated[list[str] | None, typer.Option(help="a name it may ask for; again for more; none: all")] = None,
    category: Annotated[list[str] | None, typer.Option(help="a category it may ask about; none: all")] = None,
    expires_days: Annotated[float | None, typer.Option(min=0, help="days until it expires")] = None,
    admin: Annotated[bool, typer.Option("--admin", help="may use the admin port")] = False,
    usd_total: UsdTotal = None,
    usd_per_month: UsdPerMonth = None,
    usd_per_day: UsdPerDay = None,
    tokens_total: TokensTotal = None,
    tokens_per_month: TokensPerMonth = None,
    tokens_per_day: TokensPerDay = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    json: JsonOption = False,
) -> None:
    """Make a key and print it: this once, for it is not kept."""
    limits = limits_of(
        usd_total=usd_total, usd_per_month=usd_per_month, usd_per_day=usd_per_day, tokens_total=tokens_total,
        tokens_per_month=tokens_per_month, tokens_per_day=tokens_per_day, rpm=rpm, tpm=tpm,
    )  # fmt: skip
    now_s = time.time()
    fields: dict[str, object] = {
        "models": tuple(model or ()),
        "categories": tuple(category or ()),
        "expires_s": None if expires_days is None else now_s + expires_days * _DAY_S,
        "admin": admin,
        "limits": limits,
    }
    secret, key = asyncio.run(_create(config, name, team, now_s, fields))
    if json:
        output.as_json({"key": secret, **_public(key)})
        return
    output.note(f"{key.id}, {name!r}; the key is shown now and never again:")
    output.console.print(secret, markup=False, soft_wrap=True)


@app.command(name="list")
def list_keys(config: ConfigOption = None, json: JsonOption = False) -> None:
    """List the keys."""
    keys = asyncio.run(_keys(config))
    if json:
        output.as_json([_public(key) for key in keys])
        return
    table = Table("id", "name", "begins with", "team", "may", "limits", "state")
    for key in keys:
        table.add_row(key.id, key.name, key.hint, key.team or "", _scope(key), _limits(key.limits), _state(key))
    output.console.print(table)


@app.command()
def show(key: KeyArgument, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Show a key, its limits and what it has spent."""
    found, totals = asyncio.run(_show(config, key))
    spent = {str(total.window): {"tokens": total.tokens, "usd": total.nano_usd / 1e9} for total in totals}
    if json:
        output.as_json({**_public(found), "spent": spent})
        return
    table = Table("", found.name, title=found.id, title_justify="left")
    for name, value in _public(found).items():
        if name not in {"id", "name", "limits"}:
            table.add_row(name, str(value))
    for limit in found.limits.rules():
        table.add_row(limit.name, shown(limit.amount) if limit.unit is Unit.USD else str(limit.amount))
    for total in totals:
        table.add_row(f"spent, {total.window}", f"{total.tokens} tokens, {shown(total.nano_usd)}")
    output.console.print(table)


@app.command()
def revoke(key: KeyArgument, config: ConfigOption = None) -> None:
    """Switch a key off; its usage stays in the ledger."""
    found = asyncio.run(_revoke(config, key))
    output.note(f"{found.id}, {found.name!r}, is revoked; running gateways refuse it within a moment")


async def _create(
    config: Path | None, name: str, team: str | None, now_s: float, fields: dict[str, object]
) -> tuple[str, ApiKey]:
    async with opened_book(config) as (settings, book):
        team_id = None if team is None else the_one(await book.teams(), team, "team").id
        secret = new_secret()
        key = new_key(name, secret, hash_key_of(settings, os.environ), now_s, team=team_id, **fields)
        await book.put_key(key)
        return secret, key


async def _keys(config: Path | None) -> list[ApiKey]:
    async with opened_book(config) as (_, book):
        return await book.keys()


async def _show(config: Path | None, who: str) -> tuple[ApiKey, list[Total]]:
    async with opened_book(config) as (_, book):
        key = the_one(await book.keys(), who, "key")
        return key, await book.totals(time.time(), key_subject(key.id))


async def _revoke(config: Path | None, who: str) -> ApiKey:
    async with opened_book(config) as (_, book):
        key = msgspec.structs.replace(the_one(await book.keys(), who, "key"), enabled=False)
        await book.put_key(key)
        return key


def _public(key: ApiKey) -> dict[str, object]:
    """A key's record without its digest."""
    fields: dict[str, object] = msgspec.to_builtins(key)
    del fields["digest"]
    return fields


def _scope(key: ApiKey) -> str:
    parts = [*key.models, *(f"about {category}" for category in key.categories), *(["admin"] if key.admin else [])]
    return ", ".join(parts) or "everything"


def _limits(limits: Limits) -> str:
    return ", ".join(
        f"{limit.name} {shown(limit.amount) if limit.unit is Unit.USD else limit.amount}" for limit in limits.rules()
    )


def _state(key: ApiKey) -> str:
    if not key.enabled:
        return "revoked"
    if key.expires_s is None:
        return "good"
    until = datetime.fromtimestamp(key.expires_s, UTC).strftime("%Y-%m-%d %H:%M")
    return f"expired {until}" if key.expires_s <= time.time() else f"until {until}"
