"""`coe teams ...`: limits that several keys share."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from coe_gateway.accounts.keys import new_team
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
)
from coe_gateway.cli.config import ConfigOption, JsonOption  # noqa: TC001 - typer reads annotations at run time

if TYPE_CHECKING:
    from pathlib import Path

    from coe_gateway.accounts.types import Team

app = typer.Typer(help="Limits that several keys share.", no_args_is_help=True)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="what people call it")],
    config: ConfigOption = None,
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
    """Make a team; a team of that name gets these limits in place of its own."""
    limits = limits_of(
        usd_total=usd_total, usd_per_month=usd_per_month, usd_per_day=usd_per_day, tokens_total=tokens_total,
        tokens_per_month=tokens_per_month, tokens_per_day=tokens_per_day, rpm=rpm, tpm=tpm,
    )  # fmt: skip
    team = asyncio.run(_put(config, new_team(name, time.time(), limits)))
    if json:
        output.as_json(team)
    else:
        output.note(f"{team.id}, {team.name!r}")


@app.command(name="list")
def list_teams(config: ConfigOption = None, json: JsonOption = False) -> None:
    """List the teams."""
    teams = asyncio.run(_teams(config))
    if json:
        output.as_json(teams)
        return
    for team in teams:
        limits = ", ".join(f"{name} {value}" for name, value in msgspec.to_builtins(team.limits).items())
        output.console.print(f"{team.id}  {team.name}  {limits or 'no limits'}", markup=False)


async def _put(config: Path | None, team: Team) -> Team:
    async with opened_book(config) as (_, book):
        same = [known for known in await book.teams() if known.name == team.name]
        if same:
            team = msgspec.structs.replace(team, id=same[0].id, created_s=same[0].created_s)
        await book.put_team(team)
        return team


async def _teams(config: Path | None) -> list[Team]:
    async with opened_book(config) as (_, book):
        return await book.teams()
