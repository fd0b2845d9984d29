"""The book in a file: SQLite on a thread of its own, many rows a transaction."""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from coe_gateway.accounts.book import first_of_each
from coe_gateway.accounts.types import ApiKey, Team, Total, UsageRow, Window
from coe_gateway.accounts.windows import DAY_S, window_start
from experts.errors import AccountsUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

_T = TypeVar("_T")
_PAGE: Final = 1000
_BUSY_S: Final = 5.0
COLUMNS: Final = UsageRow.__struct_fields__
_LIST: Final = ", ".join(COLUMNS)
_FROM_JSON: Final = ", ".join(f"json_extract(value, '$.{name}')" for name in COLUMNS)
# Only names of columns and whole numbers of ours are put into these statements.
_SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS meta (version INTEGER NOT NULL);
INSERT INTO meta SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM meta);
CREATE TABLE IF NOT EXISTS keys (id TEXT PRIMARY KEY, created_s REAL NOT NULL, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS teams (id TEXT PRIMARY KEY, created_s REAL NOT NULL, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS ledger (
  id TEXT PRIMARY KEY, at_s REAL NOT NULL, key TEXT NOT NULL, team TEXT, expert TEXT NOT NULL, model TEXT NOT NULL,
  category TEXT NOT NULL, state TEXT NOT NULL, prompt_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,
  nano_usd INTEGER NOT NULL, reserved_tokens INTEGER NOT NULL, reserved_nano_usd INTEGER NOT NULL,
  request_id TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ledger_by_time ON ledger (at_s, id);
CREATE TABLE IF NOT EXISTS totals (
  subject TEXT NOT NULL, day INTEGER NOT NULL, tokens INTEGER NOT NULL, nano_usd INTEGER NOT NULL,
  PRIMARY KEY (subject, day)
) WITHOUT ROWID;
CREATE TEMP TABLE batch AS SELECT {_LIST} FROM ledger WHERE 0;
"""  # noqa: S608 - see above
_INTO_BATCH: Final = f"""
INSERT INTO batch SELECT {_FROM_JSON} FROM json_each(?)
WHERE json_extract(value, '$.id') NOT IN (SELECT id FROM ledger)
"""  # noqa: S608 - see above
_INTO_LEDGER: Final = f"INSERT INTO ledger ({_LIST}) SELECT {_LIST} FROM batch"  # noqa: S608 - see above
_INTO_TOTALS: Final = f"""
INSERT INTO totals SELECT subject, day, sum(tokens), sum(nano_usd) FROM (
  SELECT 'key:' || key AS subject, CAST(at_s AS INTEGER) / {DAY_S} AS day,
    prompt_tokens + output_tokens AS tokens, nano_usd FROM batch
  UNION ALL SELECT 'team:' || team, CAST(at_s AS INTEGER) / {DAY_S}, prompt_tokens + output_tokens, nano_usd
    FROM batch WHERE team IS NOT NULL
) WHERE true GROUP BY subject, day
ON CONFLICT (subject, day) DO UPDATE SET tokens = tokens + excluded.tokens, nano_usd = nano_usd + excluded.nano_usd
"""  # noqa: S608 - see above
_TOTALS: Final = """
SELECT subject, sum(tokens), sum(nano_usd) FROM totals
WHERE day >= :day AND (:subject IS NULL OR subject = :subject) GROUP BY subject
"""
_USAGE: Final = f"""
SELECT {_LIST} FROM ledger WHERE (at_s, id) > (?, ?) AND at_s >= ? AND at_s < ? AND (? IS NULL OR key = ?)
ORDER BY at_s, id LIMIT {_PAGE}
"""  # noqa: S608 - see above


class SqliteBook:
    """A file that several processes may open: the command line writes keys while a gateway runs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="accounts-book")
        self._made: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Open the file and make its tables. Raises: AccountsUnavailable."""
        await self._run(self._connect)

    async def close(self) -> None:
        """Close the file; what is under way is finished."""
        await self._run(lambda db: db.close())
        self._made = None
        self._thread.shutdown(wait=False)

    async def version(self) -> int:
        """A number that changes with the keys and teams."""
        rows = await self._rows("SELECT version FROM meta")
        return int(rows[0][0])

    async def keys(self) -> list[ApiKey]:
        """Every key, oldest first."""
        return await self._documents("SELECT document FROM keys ORDER BY created_s, id", ApiKey)

    async def teams(self) -> list[Team]:
        """Every team, oldest first."""
        return await self._documents("SELECT document FROM teams ORDER BY created_s, id", Team)

    async def put_key(self, key: ApiKey) -> None:
        """Write a key, in place of the one with its id."""
        await self._put("INSERT OR REPLACE INTO keys VALUES (?, ?, ?)", key)

    async def put_team(self, team: Team) -> None:
        """Write a team, in place of the one with its id."""
        await self._put("INSERT OR REPLACE INTO teams VALUES (?, ?, ?)", team)

    async def append(self, rows: Sequence[UsageRow]) -> None:
        """Write rows of the ledger; those that are there already stay as they are.

        One statement takes them all, so that the thread holds the interpreter's lock for moments only.
        """
        document = msgspec.json.encode(first_of_each(rows)).decode()

        def write(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM batch")
            db.execute(_INTO_BATCH, (document,))
            db.execute(_INTO_TOTALS)
            db.execute(_INTO_LEDGER)

        await self._run(_in_transaction(write))

    async def totals(self, now_s: float, subject: str | None = None) -> list[Total]:
        """What each subject, or that one, has spent today, this month and in all."""
        found: list[Total] = []
        for window in (Window.DAY, Window.MONTH, Window.TOTAL):
            wanted = {"day": window_start(window, now_s) // DAY_S, "subject": subject}
            rows = await self._rows(_TOTALS, wanted)
            found += [Total(name, window, tokens, nano_usd) for name, tokens, nano_usd in rows]
        return found

    async def usage(self, since_s: float, until_s: float, key: str | None = None) -> AsyncIterator[UsageRow]:
        """The rows of a time, oldest first, read a page at a time."""
        last: tuple[float, str] = (since_s, "")
        while True:
            wanted = (*last, since_s, until_s, key, key)
            page = await self._rows(_USAGE, wanted)
            for row in page:
                yield msgspec.convert(dict(zip(COLUMNS, row, strict=True)), UsageRow)
            if len(page) < _PAGE:
                return
            last = (page[-1][1], page[-1][0])

    async def _documents(self, query: str, kind: type[_T]) -> list[_T]:
        rows = await self._rows(query)
        return [msgspec.json.decode(document, type=kind) for (document,) in rows]

    async def _rows(self, query: str, values: Mapping[str, Any] | Sequence[Any] = ()) -> list[Any]:
        return await self._run(lambda db: db.execute(query, values).fetchall())

    async def _put(self, statement: str, record: ApiKey | Team) -> None:
        values = (record.id, record.created_s, msgspec.json.encode(record).decode())

        def write(db: sqlite3.Connection) -> None:
            db.execute(statement, values)
            db.execute("UPDATE meta SET version = version + 1")

        await self._run(_in_transaction(write))

    async def _run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Do it on the book's thread. Raises: AccountsUnavailable."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, work)

    def _guarded(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            return work(self._made or self._connect())
        except (sqlite3.Error, OSError) as error:
            raise AccountsUnavailable(f"the accounts in {self._path} cannot be used: {error}") from error

    def _connect(self, _: Any = None) -> sqlite3.Connection:  # noqa: ANN401 - as `_run` calls it
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        db = sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.executescript(_SCHEMA)
        self._made = db
        return db


def _in_transaction(write: Callable[[sqlite3.Connection], None]) -> Callable[[sqlite3.Connection], None]:
    def run(db: sqlite3.Connection) -> None:
        db.execute("BEGIN IMMEDIATE")
        try:
            write(db)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    return run
