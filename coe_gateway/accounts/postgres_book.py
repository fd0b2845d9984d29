"""The book in PostgreSQL: the same for every gateway that shares it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, TypeVar

import asyncpg
import msgspec

from coe_gateway.accounts.book import first_of_each
from coe_gateway.accounts.types import ApiKey, Team, Total, UsageRow, Window
from coe_gateway.accounts.windows import DAY_S, window_start
from experts.errors import AccountsUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

_T = TypeVar("_T")
_log = logging.getLogger(__name__)
_PAGE: Final = 1000
_CONNECTIONS: Final = 4
_CONNECT_S: Final = 3.0
_COMMAND_S: Final = 10.0
_TYPES: Final = {
    "at_s": "double precision", "prompt_tokens": "bigint", "output_tokens": "bigint", "nano_usd": "bigint",
    "reserved_tokens": "bigint", "reserved_nano_usd": "bigint",
}  # fmt: skip
COLUMNS: Final = UsageRow.__struct_fields__
_LIST: Final = ", ".join(COLUMNS)
_TYPED: Final = ", ".join(f"{name} {_TYPES.get(name, 'text')}" for name in COLUMNS)
_NOT_NULL: Final = ", ".join(
    f"{name} {_TYPES.get(name, 'text')}{'' if name == 'team' else ' NOT NULL'}" for name in COLUMNS if name != "id"
)
# Only names of columns, whole numbers of ours and the schema's name, which is checked, are put into these statements.
_SCHEMA: Final = f"""
CREATE SCHEMA IF NOT EXISTS {{schema}};
CREATE TABLE IF NOT EXISTS {{schema}}.meta (one boolean PRIMARY KEY DEFAULT true CHECK (one), version bigint NOT NULL);
INSERT INTO {{schema}}.meta (version) VALUES (0) ON CONFLICT DO NOTHING;
CREATE TABLE IF NOT EXISTS {{schema}}.keys (
  id text PRIMARY KEY, created_s double precision NOT NULL, document text NOT NULL);
CREATE TABLE IF NOT EXISTS {{schema}}.teams (
  id text PRIMARY KEY, created_s double precision NOT NULL, document text NOT NULL);
CREATE TABLE IF NOT EXISTS {{schema}}.ledger (id text COLLATE "C" PRIMARY KEY, {_NOT_NULL});
CREATE INDEX IF NOT EXISTS ledger_by_time ON {{schema}}.ledger (at_s, id);
CREATE TABLE IF NOT EXISTS {{schema}}.totals (
  subject text NOT NULL, day bigint NOT NULL, tokens bigint NOT NULL, nano_usd bigint NOT NULL,
  PRIMARY KEY (subject, day));
"""  # noqa: S608 - see above
_APPEND: Final = f"""
WITH fresh AS (
  INSERT INTO {{schema}}.ledger ({_LIST}) SELECT {_LIST} FROM jsonb_to_recordset($1::text::jsonb) AS given ({_TYPED})
  ON CONFLICT (id) DO NOTHING RETURNING *
), counted AS (
  SELECT 'key:' || key AS subject, floor(at_s / {DAY_S})::bigint AS day,
    prompt_tokens + output_tokens AS tokens, nano_usd FROM fresh
  UNION ALL SELECT 'team:' || team, floor(at_s / {DAY_S})::bigint, prompt_tokens + output_tokens, nano_usd
    FROM fresh WHERE team IS NOT NULL
)
INSERT INTO {{schema}}.totals AS t SELECT subject, day, sum(tokens)::bigint, sum(nano_usd)::bigint
  FROM counted GROUP BY subject, day ORDER BY subject, day
ON CONFLICT (subject, day) DO UPDATE
  SET tokens = t.tokens + excluded.tokens, nano_usd = t.nano_usd + excluded.nano_usd
"""  # noqa: S608 - see above
_TOTALS: Final = """
SELECT subject, sum(tokens)::bigint, sum(nano_usd)::bigint FROM {schema}.totals
WHERE day >= $1 AND ($2::text IS NULL OR subject = $2) GROUP BY subject
"""
_USAGE: Final = f"""
SELECT {_LIST} FROM {{schema}}.ledger
WHERE (at_s, id) > ($1, $2) AND at_s >= $3 AND at_s < $4 AND ($5::text IS NULL OR key = $5)
ORDER BY at_s, id LIMIT {_PAGE}
"""  # noqa: S608 - see above
_PUT: Final = """
WITH changed AS (UPDATE {schema}.meta SET version = version + 1)
INSERT INTO {schema}.{table} VALUES ($1, $2, $3)
ON CONFLICT (id) DO UPDATE SET created_s = excluded.created_s, document = excluded.document
"""


class PostgresBook:
    """A schema of a database. alone: of those who say so one only is let in, as a gateway that counts in its memory."""

    def __init__(self, url: str, schema: str, *, alone: bool) -> None:
        self._url = url
        self._schema = schema
        self._alone = alone
        self._pool: asyncpg.Pool | None = None
        self._guard: asyncpg.Connection | None = None

    async def open(self) -> None:
        """Connect and make the tables. Raises: AccountsUnavailable: also if another gateway counts alone."""
        await self._run(self._make)
        await self._run(lambda _: self._be_alone())

    async def close(self) -> None:
        """Hang up."""
        if self._guard is not None:
            self._guard.terminate()
            self._guard = None
        if self._pool is not None:
            self._pool.terminate()
            self._pool = None

    async def version(self) -> int:
        """A number that changes with the keys and teams."""
        await self._run(lambda _: self._be_alone())
        return int(await self._run(lambda db: db.fetchval(self._sql("SELECT version FROM {schema}.meta"))))

    async def keys(self) -> list[ApiKey]:
        """Every key, oldest first."""
        return await self._documents("keys", ApiKey)

    async def teams(self) -> list[Team]:
        """Every team, oldest first."""
        return await self._documents("teams", Team)

    async def put_key(self, key: ApiKey) -> None:
        """Write a key, in place of the one with its id."""
        await self._put("keys", key)

    async def put_team(self, team: Team) -> None:
        """Write a team, in place of the one with its id."""
        await self._put("teams", team)

    async def append(self, rows: Sequence[UsageRow]) -> None:
        """Write rows of the ledger; those that are there already stay as they are."""
        document = msgspec.json.encode(first_of_each(rows)).decode()
        await self._run(lambda db: db.execute(self._sql(_APPEND), document))

    async def totals(self, now_s: float, subject: str | None = None) -> list[Total]:
        """What each subject, or that one, has spent today, this month and in all."""
        found: list[Total] = []
        for window in (Window.DAY, Window.MONTH, Window.TOTAL):
            rows = await self._rows(_TOTALS, window_start(window, now_s) // DAY_S, subject)
            found += [Total(name, window, tokens, nano_usd) for name, tokens, nano_usd in rows]
        return found

    async def usage(self, since_s: float, until_s: float, key: str | None = None) -> AsyncIterator[UsageRow]:
        """The rows of a time, oldest first, read a page at a time."""
        last: tuple[float, str] = (since_s, "")
        while True:
            page = await self._rows(_USAGE, *last, since_s, until_s, key)
            for row in page:
                yield msgspec.convert(dict(row), UsageRow)
            if len(page) < _PAGE:
                return
            last = (page[-1]["at_s"], page[-1]["id"])

    async def _documents(self, table: str, kind: type[_T]) -> list[_T]:
        rows = await self._rows(f"SELECT document FROM {{schema}}.{table} ORDER BY created_s, id")  # noqa: S608 - ours
        return [msgspec.json.decode(row["document"], type=kind) for row in rows]

    async def _put(self, table: str, record: ApiKey | Team) -> None:
        statement = self._sql(_PUT.replace("{table}", table))
        document = msgspec.json.encode(record).decode()
        await self._run(lambda db: db.execute(statement, record.id, record.created_s, document))

    async def _rows(self, statement: str, *values: object) -> list[Any]:
        found: list[Any] = await self._run(lambda db: db.fetch(self._sql(statement), *values))
        return found

    def _sql(self, statement: str) -> str:
        return statement.replace("{schema}", self._schema)

    async def _run(self, work: Callable[[asyncpg.Pool], Awaitable[_T]]) -> _T:
        """Do it on a connection that works. Raises: AccountsUnavailable."""
        try:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self._url, min_size=0, max_size=_CONNECTIONS, timeout=_CONNECT_S, command_timeout=_COMMAND_S
                )
            return await work(self._pool)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            raise AccountsUnavailable(f"the database of the accounts cannot be used: {error!r}") from error

    async def _make(self, pool: asyncpg.Pool) -> None:
        """Make the tables, one gateway at a time."""
        async with pool.acquire() as db, db.transaction():
            await db.execute("SELECT pg_advisory_xact_lock(hashtext($1))", f"coe-gateway {self._schema} tables")
            await db.execute(self._sql(_SCHEMA))

    async def _be_alone(self) -> None:
        """Hold the lock of whoever counts alone, on a connection for that. Raises: AccountsUnavailable: it is held."""
        if not self._alone or (self._guard is not None and not self._guard.is_closed()):
            return
        guard = await asyncpg.connect(self._url, timeout=_CONNECT_S, command_timeout=_COMMAND_S)
        if not await guard.fetchval("SELECT pg_try_advisory_lock(hashtext($1))", f"coe-gateway {self._schema} alone"):
            guard.terminate()
            raise AccountsUnavailable("another gateway counts by this database in its own memory; both need `redis`")
        self._guard = guard
