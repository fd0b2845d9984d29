"""SQLite as the catalogue's database: a file beside the indexes, in write-ahead mode, synced at every commit.

Readers never wait for the writer and see no half of its changes. A kill at any point leaves the last commit: what the
log holds of an unfinished one is passed over when the file is opened next.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from experts.errors import StorageFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from experts.retrieval.database import Row, Session

_BUSY_S: Final = 30.0
_PAGES: Final = 2000  # of the log, before it is written back into the file
_SETTINGS: Final = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # NORMAL would lose acknowledged commits with the power
    f"PRAGMA wal_autocheckpoint = {_PAGES}",
    "PRAGMA temp_store = MEMORY",
)


class SqliteDatabase:
    """The file at `path`; a connection for each thread that asks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._own = threading.local()
        self._every: list[sqlite3.Connection] = []
        self._opening = threading.Lock()
        self._writing = threading.Lock()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """See Database."""
        connection = self._connection()
        with _told(self._path):
            connection.execute("BEGIN")
        try:
            with _told(self._path):
                yield _SqliteSession(connection, self._path)
        finally:
            connection.rollback()

    @contextmanager
    def write(self) -> Iterator[Session]:
        """See Database."""
        connection = self._connection()
        with self._writing:
            with _told(self._path):
                connection.execute("BEGIN IMMEDIATE")
            try:
                with _told(self._path):
                    yield _SqliteSession(connection, self._path)
                    connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.rollback()

    def create(self, tables: Sequence[str]) -> None:
        """See Database."""
        with self.write() as session:
            for table in tables:
                session.run(table.format(bytes="BLOB", key="INTEGER"))

    def close(self) -> None:
        """See Database."""
        with self._opening:
            for connection in self._every:
                connection.close()
            self._every.clear()
            self._own = threading.local()

    def _connection(self) -> sqlite3.Connection:
        found: sqlite3.Connection | None = getattr(self._own, "connection", None)
        if found is None:
            with _told(self._path), self._opening:
                found = sqlite3.connect(
                    self._path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False, cached_statements=256
                )
                self._every.append(found)
                for setting in _SETTINGS:
                    found.execute(setting)
            self._own.connection = found
        return found


class _SqliteSession:
    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    def rows(self, statement: str, *values: object) -> Iterator[Row]:
        with _told(self._path):
            return iter(self._connection.execute(statement, values))

    def run(self, statement: str, *values: object) -> int:
        with _told(self._path):
            return self._connection.execute(statement, values).rowcount

    def run_many(self, statement: str, values: Iterable[Sequence[object]]) -> None:
        with _told(self._path):
            self._connection.executemany(statement, values)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.OperationalError, sqlite3.DatabaseError) as error:
        raise StorageFailed(f"{path}: {error}") from error
