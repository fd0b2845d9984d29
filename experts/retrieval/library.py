"""Everything that is stored for retrieval, under one folder that one process owns.

catalogue.sqlite  files, stores, passages, vectors (or a database elsewhere)
index/            the generations of each store's indexes
lock              held while a process has the folder open
"""

from __future__ import annotations

import fcntl
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

from experts.errors import ConfigError, StorageFailed
from experts.retrieval.attachments import Attachments
from experts.retrieval.indexes import CompactionRules, Indexes
from experts.retrieval.lexical import Fts5Lexical
from experts.retrieval.passages import Passages
from experts.retrieval.postgres_database import PostgresDatabase
from experts.retrieval.postgres_lexical import TABLES as POSTINGS
from experts.retrieval.postgres_lexical import PostgresLexical
from experts.retrieval.schema import TABLES, VERSION
from experts.retrieval.snapshot import Ranges
from experts.retrieval.sqlite_database import SqliteDatabase
from experts.retrieval.stores import Stores
from experts.retrieval.uploads import Uploads

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from experts.retrieval.chunking import ChunkSize
    from experts.retrieval.database import Database
    from experts.retrieval.filters import Attributes, Filter
    from experts.retrieval.lexical import Lexical
    from experts.retrieval.records import Attachment, Upload

    Catalogue = tuple[Database, Lexical]

GiB: Final = 1024**3
_REMOVED_AT_ONCE: Final = 50


@dataclass(frozen=True, slots=True)
class LibraryRules:
    """tenant_bytes: what one tenant's files may take together."""

    tenant_bytes: int = 10 * GiB
    compaction: CompactionRules = CompactionRules()  # noqa: RUF009 - frozen


class Library:
    """The open folder. Safe to use from any thread; `close` when nobody uses it any more."""

    def __init__(self, folder: Path, lock: IO[bytes], catalogue: Catalogue, rules: LibraryRules) -> None:
        self._lock = lock
        database, self._lexical = catalogue
        self.database = database
        clock: Callable[[], float] = time.time
        self.passages = Passages(database, self._lexical)
        self.uploads = Uploads(database, clock, rules.tenant_bytes)
        self.stores = Stores(database, clock)
        self.attachments = Attachments(database, clock, self.passages)
        self.indexes = Indexes(folder / "index", database, self.passages, rules.compaction)

    def delete_upload(self, tenant: str, file_id: str) -> None:
        """Delete a file, here and in every store. Raises: UnknownObject, StorageFailed."""
        self.uploads.get(tenant, file_id)
        self.indexes.removed(self.attachments.detach_everywhere(file_id))
        self.uploads.delete(tenant, file_id)

    def attach(
        self, store: str, upload: Upload, attributes: Attributes, size: ChunkSize, batch: str = ""
    ) -> Attachment:
        """Put a file into a store, to be taken in soon. Raises: StorageFailed."""
        attachment, replaced = self.attachments.attach(store, upload, attributes, size, batch)
        self.indexes.removed([] if replaced is None else [replaced])
        return attachment

    def detach(self, store: str, file: str) -> None:
        """Take a file out of a store. Raises: UnknownObject, StorageFailed."""
        self.indexes.removed([self.attachments.detach(store, file)])

    def allowed(self, store: str, chosen: Filter | None) -> Ranges | None:
        """Where the passages of the files that a filter lets pass are; None without a filter."""
        if chosen is None:
            return None
        return Ranges.of(self.attachments.passing(store, chosen))

    def search_words(self, store: str, query: str, count: int, allowed: Ranges | None) -> list[tuple[int, float]]:
        """The passages that share words with the query: sequence numbers and scores, best first."""
        with self.database.read() as session:
            return self._lexical.search(session, store, query, count, allowed)

    def purge(self) -> None:
        """Delete what is left of stores that were dropped. Raises: StorageFailed, OSError."""
        for store in self.stores.dropped():
            while self.attachments.remove_some(store, _REMOVED_AT_ONCE):
                pass
            self.indexes.forget(store)
            with self.database.write() as session:
                self._lexical.drop(session, store)
            self.stores.forget(store)

    def close(self) -> None:
        """Let the folder go."""
        self.database.close()
        self._lock.close()


def open_library(folder: Path, rules: LibraryRules | None = None, database_url: str | None = None) -> Library:
    """Open a folder, made if it is not there, after whatever ended its last use.

    database_url: of a PostgreSQL database that holds the catalogue in place of a file in the folder.
    Raises: ConfigError: it cannot be had, another process has it, or another version wrote it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("ab")
    except OSError as error:
        raise ConfigError("retrieval.folder", str(folder), f"cannot be used: {error.strerror or error}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise ConfigError("retrieval.folder", str(folder), "is in use by another process") from error
    try:
        catalogue = _catalogue(folder, database_url)
    except ConfigError:
        lock.close()
        raise
    library = Library(folder, lock, catalogue, rules or LibraryRules())
    try:
        prepare(library.database, folder)
        library.indexes.clean()
    except ConfigError:
        library.close()
        raise
    except (OSError, StorageFailed) as error:
        library.close()
        raise ConfigError("retrieval.folder", str(folder), f"cannot be opened: {error}") from error
    return library


def _catalogue(folder: Path, database_url: str | None) -> Catalogue:
    if database_url is None:
        return SqliteDatabase(folder / "catalogue.sqlite"), Fts5Lexical()
    database = PostgresDatabase(database_url)
    database.create(POSTINGS)
    return database, PostgresLexical()


def prepare(database: Database, folder: Path) -> None:
    """Make the tables that are not there. Raises: ConfigError: another version of the product made them."""
    database.create(TABLES)
    with database.write() as session:
        statement = "INSERT INTO counter (name, next) VALUES ('version', ?) ON CONFLICT (name) DO NOTHING"
        session.run(statement, VERSION)
        found = [row[0] for row in session.rows("SELECT next FROM counter WHERE name = 'version'")]
    if found != [VERSION]:
        raise ConfigError("retrieval.folder", str(folder), f"was written by version {found[0]}, this is {VERSION}")
