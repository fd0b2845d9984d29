"""A transactional database behind the catalogue: what a write has returned from is on the disk.

Statements are written with `?` for values. A session belongs to one thread and ends with its `with` block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

Row = tuple[Any, ...]  # columns have the types of schema.TABLES


class Session(Protocol):
    """Statements on one consistent state of the database."""

    def rows(self, statement: str, *values: object) -> Iterator[Row]:
        """The rows a query gives, in its order; read them before the session ends."""

    def run(self, statement: str, *values: object) -> int:
        """Change something; how many rows that met. Raises: StorageFailed."""

    def run_many(self, statement: str, values: Iterable[Sequence[object]]) -> None:
        """The same change for many rows. Raises: StorageFailed."""


class Database(Protocol):
    """Where sessions come from. Safe to use from any thread."""

    def read(self) -> AbstractContextManager[Session]:
        """A session that sees what was committed when it began, and changes nothing."""

    def write(self) -> AbstractContextManager[Session]:
        """A session whose changes become durable together when the block ends, or not at all. One at a time.

        Raises: StorageFailed: they cannot be kept.
        """

    def create(self, tables: Sequence[str]) -> None:
        """Make the tables that are not there. Raises: StorageFailed."""

    def close(self) -> None:
        """Let every connection go; nothing may be asked afterwards."""


def one(session: Session, statement: str, *values: object) -> Row | None:
    """The first row of a query, or None."""
    return next(session.rows(statement, *values), None)


def take_numbers(session: Session, counter: str, count: int = 1) -> int:
    """The first of `count` numbers in a row that nobody has had; given back if the session's changes are not kept."""
    session.run("INSERT INTO counter (name, next) VALUES (?, 1) ON CONFLICT (name) DO NOTHING", counter)
    session.run("UPDATE counter SET next = next + ? WHERE name = ?", count, counter)
    row = one(session, "SELECT next FROM counter WHERE name = ?", counter)
    return int(row[0]) - count if row else 1
