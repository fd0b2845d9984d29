"""PostgreSQL as the catalogue's database: for who runs one already, backs it up and watches it.

One gateway at a time: it holds an advisory lock for as long as it has the database open. Writes take turns in the
process, as they do in a file, and are durable when they return unless the server is told otherwise.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from experts.errors import ConfigError, StorageFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from experts.retrieval.database import Row, Session

_LOCK: Final = 0x636F65  # "coe"
_CONNECT_S: Final = 10
_LEAVING_S: Final = 3.0
_AGAIN_S: Final = 0.05
_KEY: Final = "retrieval.database"


class PostgresDatabase:
    """The database at `url`; a connection for each thread that asks.

    Raises: ConfigError: the extra `retrieval-postgres` is not installed, the server cannot be reached, or another
        gateway has the database.
    """

    def __init__(self, url: str) -> None:
        try:
            import psycopg  # noqa: PLC0415 - of an extra
        except ImportError as error:
            problem = "needs psycopg: pip install 'coe-gateway[retrieval-postgres]'"
            raise ConfigError(_KEY, None, problem) from error
        self._psycopg: Any = psycopg
        self._url = url
        self._own = threading.local()
        self._every: list[Any] = []
        self._opening = threading.Lock()
        self._writing = threading.Lock()
        try:
            self._holder = psycopg.connect(url, connect_timeout=_CONNECT_S, autocommit=True)
        except psycopg.Error as error:  # its message names host and user, never the password
            raise ConfigError(_KEY, None, f"cannot be reached: {error}") from error
        if not self._hold(time.monotonic() + _LEAVING_S):
            self._holder.close()
            raise ConfigError(_KEY, None, "is in use by another gateway")

    def _hold(self, until_s: float) -> bool:
        """Take the lock; a process that was killed a moment ago may still seem to have it."""
        while True:
            row = self._holder.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,)).fetchone()
            held = row is not None and bool(row[0])
            if held or time.monotonic() > until_s:
                return held
            time.sleep(_AGAIN_S)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """See Database."""
        with self._told(), self._connection().transaction() as transaction:
            connection = transaction.connection
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield _PostgresSession(connection)

    @contextmanager
    def write(self) -> Iterator[Session]:
        """See Database."""
        with self._told(), self._writing, self._connection().transaction() as transaction:
            yield _PostgresSession(transaction.connection)

    def create(self, tables: Sequence[str]) -> None:
        """See Database."""
        with self.write() as session:
            for table in tables:
                session.run(table.format(bytes="BYTEA", key="BIGINT"))

    def close(self) -> None:
        """See Database."""
        with self._opening:
            for connection in self._every:
                connection.close()
            self._every.clear()
            self._own = threading.local()
        self._holder.close()

    def _connection(self) -> Any:  # noqa: ANN401 - of an extra
        found = getattr(self._own, "connection", None)
        if found is None or found.closed:  # the server may have been restarted
            found = self._psycopg.connect(self._url, connect_timeout=_CONNECT_S, autocommit=True)
            with self._opening:
                self._every = [one for one in self._every if not one.closed]
                self._every.append(found)
            self._own.connection = found
        return found

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except self._psycopg.Error as error:
            raise StorageFailed(f"the catalogue's database: {error}") from error


class _PostgresSession:
    def __init__(self, connection: Any) -> None:  # noqa: ANN401 - of an extra
        self._connection = connection

    def rows(self, statement: str, *values: object) -> Iterator[Row]:
        return iter(self._connection.execute(_theirs(statement), values).fetchall())

    def run(self, statement: str, *values: object) -> int:
        changed: int = self._connection.execute(_theirs(statement), values or None).rowcount
        return changed

    def run_many(self, statement: str, values: Iterable[Sequence[object]]) -> None:
        with self._connection.cursor() as cursor:
            cursor.executemany(_theirs(statement), values)


def _theirs(statement: str) -> str:
    """A statement with their mark for a value in place of ours."""
    return statement.replace("%", "%%").replace("?", "%s")
