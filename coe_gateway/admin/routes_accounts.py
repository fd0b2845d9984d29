"""Keys, teams and usage over the admin port."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING, TypeVar

import msgspec
from starlette.responses import Response, StreamingResponse

from coe_gateway.accounts.export import export
from coe_gateway.accounts.keys import new_key, new_secret, new_team
from coe_gateway.accounts.types import key_subject
from coe_gateway.admin.wire import KeyCard, KeyChange, KeyRequest, TeamChange, TeamRequest
from coe_gateway.routes.endpoint import decode
from experts.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from starlette.requests import Request

    from coe_gateway.accounts.accounts import Accounts
    from coe_gateway.accounts.types import UsageRow

_Record = TypeVar("_Record", bound=msgspec.Struct)
_KEY = msgspec.json.Decoder(KeyRequest)
_KEY_CHANGE = msgspec.json.Decoder(KeyChange)
_TEAM = msgspec.json.Decoder(TeamRequest)
_TEAM_CHANGE = msgspec.json.Decoder(TeamChange)


class AccountRoutes:
    """What can be done about accounts."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def routes(self) -> dict[tuple[str, str], Callable[[Request, bytes], Awaitable[Response]]]:
        """By method and path."""
        return {
            ("GET", "/admin/keys"): self.list_keys,
            ("POST", "/admin/keys"): self.make_key,
            ("GET", "/admin/keys/{id}"): self.show_key,
            ("PATCH", "/admin/keys/{id}"): self.change_key,
            ("DELETE", "/admin/keys/{id}"): self.revoke_key,
            ("GET", "/admin/teams"): self.list_teams,
            ("POST", "/admin/teams"): self.make_team,
            ("PATCH", "/admin/teams/{id}"): self.change_team,
            ("GET", "/admin/usage"): self.usage,
        }

    async def list_keys(self, _: Request, __: bytes) -> Response:
        """Every key."""
        return as_json({"data": [KeyCard.of(key) for key in await self._accounts.book.keys()]})

    async def make_key(self, _: Request, raw: bytes) -> Response:
        """Make a key and tell it, this once."""
        asked = decode(_KEY, raw)
        if asked.team is not None:
            _known({team.id: team for team in await self._accounts.book.teams()}, asked.team, "team")
        secret = new_secret()
        fields = {name: getattr(asked, name) for name in KeyRequest.__struct_fields__ if name != "name"}
        key = new_key(asked.name, secret, self._accounts.hash_key, time.time(), **fields)
        await self._accounts.put_key(key)
        return as_json(KeyCard.of(key, key=secret), 201)

    async def show_key(self, request: Request, _: bytes) -> Response:
        """One key and what it has spent."""
        keys = {key.id: key for key in await self._accounts.book.keys()}
        key = _known(keys, request.path_params["id"], "key")
        await self._accounts.flush()
        return as_json(KeyCard.of(key, spent=await self._accounts.book.totals(time.time(), key_subject(key.id))))

    async def change_key(self, request: Request, raw: bytes) -> Response:
        """Change what the body says."""
        keys = {key.id: key for key in await self._accounts.book.keys()}
        key = _changed(_known(keys, request.path_params["id"], "key"), decode(_KEY_CHANGE, raw))
        await self._accounts.put_key(key)
        return as_json(KeyCard.of(key))

    async def revoke_key(self, request: Request, _: bytes) -> Response:
        """Switch a key off; its usage stays."""
        keys = {key.id: key for key in await self._accounts.book.keys()}
        key = msgspec.structs.replace(_known(keys, request.path_params["id"], "key"), enabled=False)
        await self._accounts.put_key(key)
        return as_json(KeyCard.of(key))

    async def list_teams(self, _: Request, __: bytes) -> Response:
        """Every team."""
        return as_json({"data": await self._accounts.book.teams()})

    async def make_team(self, _: Request, raw: bytes) -> Response:
        """Make a team."""
        asked = decode(_TEAM, raw)
        team = new_team(asked.name, time.time(), asked.limits)
        await self._accounts.put_team(team)
        return as_json(team, 201)

    async def change_team(self, request: Request, raw: bytes) -> Response:
        """Change what the body says."""
        teams = {team.id: team for team in await self._accounts.book.teams()}
        team = _changed(_known(teams, request.path_params["id"], "team"), decode(_TEAM_CHANGE, raw))
        await self._accounts.put_team(team)
        return as_json(team)

    async def usage(self, request: Request, _: bytes) -> Response:
        """The ledger, as CSV or as JSON, one row a line."""
        query = request.query_params
        since_s, until_s = _seconds(query, "since", 0.0), _seconds(query, "until", time.time() + 1)
        form = query.get("format", "json")
        if form not in {"csv", "json"}:
            raise InvalidRequest(f"format {form!r} is neither csv nor json", "format")
        await self._accounts.flush()
        rows = self._accounts.book.usage(since_s, until_s, query.get("key"))
        kind = "text/csv; charset=utf-8" if form == "csv" else "application/x-ndjson"
        return StreamingResponse(_lines(rows, form), media_type=kind)


def as_json(value: object, status: int = 200) -> Response:
    """A JSON reply."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


async def _lines(rows: AsyncIterator[UsageRow], form: str) -> AsyncIterator[str]:
    """The export, some hundred rows at a time."""
    header, batch = True, []
    async for row in rows:
        batch.append(row)
        if len(batch) == 500:  # noqa: PLR2004 - some hundred
            yield await _written(batch, form, header=header)
            header, batch = False, []
    if batch or header:
        yield await _written(batch, form, header=header)


async def _written(batch: list[UsageRow], form: str, *, header: bool) -> str:
    async def given() -> AsyncIterator[UsageRow]:
        for row in batch:
            yield row

    out = io.StringIO()
    await export(given(), out, "csv" if form == "csv" else "json", header=header)
    return out.getvalue()


def _known(records: Mapping[str, _Record], record_id: str, kind: str) -> _Record:
    if record_id not in records:
        raise NotFound(f"there is no {kind} {record_id!r}", "id")
    return records[record_id]


def _changed(record: _Record, change: KeyChange | TeamChange) -> _Record:
    given = {name: getattr(change, name) for name in change.__struct_fields__}
    return msgspec.structs.replace(record, **{k: v for k, v in given.items() if v is not msgspec.UNSET})


def _seconds(query: Mapping[str, str], name: str, default_s: float) -> float:
    try:
        return float(query[name]) if name in query else default_s
    except ValueError:
        raise InvalidRequest(f"{name} {query[name]!r} is not a time in Unix seconds", name) from None
