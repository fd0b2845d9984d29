"""The indexes of every store, one for each space of vectors: opened when asked for, brought up to date by every search.

The database is the truth. An index is made of it and can be lost at any moment: a generation on the disk counts only
once its row is committed, what no row names is deleted at the next start, and one that does not open is made anew. So
what a search may see never depends on how far a build had come.
"""

from __future__ import annotations

import logging
import shutil
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from secrets import token_hex
from typing import TYPE_CHECKING, Final

import numpy as np
from cachetools import LRUCache

from experts.retrieval.database import one
from experts.retrieval.generation import Generation, IndexRules, write_generation
from experts.retrieval.snapshot import Ranges, Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from experts.retrieval.database import Database, Session
    from experts.retrieval.passages import Passages
    from experts.retrieval.records import Attachment

_log = logging.getLogger(__name__)
_SPACE_CHARS: Final = 16


@dataclass(frozen=True, slots=True)
class Space:
    """Vectors that may be compared with each other. id: the fingerprint of what encodes documents."""

    id: str
    dimensions: int


@dataclass(frozen=True, slots=True)
class CompactionRules:
    """When an index is written anew. delta: passages in memory that the disk's generation lacks; share: of its rows.

    open_indexes: how many are kept open; one more closes the one that was not searched for longest.
    """

    delta_rows: int = 2000
    delta_share: float = 0.1
    gone_share: float = 0.2
    open_indexes: int = 128
    index: IndexRules = field(default_factory=IndexRules)


class _Open:
    """One index and the lock that its changes take turns by; searches need none."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.snapshot: Snapshot | None = None


class Indexes:
    """Owns a folder of generations. Safe to use from any thread."""

    def __init__(self, folder: Path, database: Database, passages: Passages, rules: CompactionRules) -> None:
        self._folder = folder
        self._database = database
        self._passages = passages
        self._rules = rules
        self._lock = threading.Lock()
        self._opened: LRUCache[tuple[str, str], _Open] = LRUCache(rules.open_indexes)

    def clean(self) -> None:
        """Delete what a process that ended left half built or did not come to delete. Raises: OSError."""
        with self._database.read() as session:
            known = {row[0] for row in session.rows("SELECT folder FROM generation")}
        for store in self._folder.glob("*"):
            for generation in store.glob("*"):
                if f"{store.name}/{generation.name}" not in known:
                    shutil.rmtree(generation)
            with suppress(OSError):  # another generation of the store is in use
                store.rmdir()

    def search(
        self, store: str, space: Space, query: NDArray[np.float32], count: int, allowed: Ranges | None
    ) -> list[tuple[int, float]]:
        """The passages nearest to a unit vector: sequence numbers and cosines, best first. Shapes: query (D,)."""
        return self.current(store, space).search(query, count, allowed)

    def current(self, store: str, space: Space) -> Snapshot:
        """The index with everything in it that is committed when this is called."""
        index = self._index(store, space)
        with self._database.read() as session:
            newest = _newest_seq(session)
        snapshot = index.snapshot
        if snapshot is not None and snapshot.seen_seq >= newest:
            return snapshot
        with index.lock, self._database.read() as session:
            index.snapshot = self._brought_up(index.snapshot, session, store, space)
            return index.snapshot

    def removed(self, attachments: list[Attachment]) -> None:
        """Note that files are gone, after the commit that took them."""
        for attachment in attachments:
            gone = Ranges.of([(attachment.first_seq, attachment.chunks)])
            for index in self._of_store(attachment.store):
                with index.lock:
                    if index.snapshot is not None and attachment.chunks:
                        index.snapshot = index.snapshot.minus(gone)

    def wants_compaction(self, store: str, space: Space) -> bool:
        """Whether enough has changed for the index to be written anew."""
        snapshot = self.current(store, space)
        delta, rows = len(snapshot.seqs), snapshot.base_rows
        many = delta >= max(self._rules.delta_rows, self._rules.delta_share * rows)
        return many or snapshot.base_gone > self._rules.gone_share * rows

    def compact(self, store: str, space: Space) -> None:
        """Write the index anew from the database and let searches use it. One at a time. Raises: OSError."""
        name = f"{store}/{space.id[:_SPACE_CHARS]}-{token_hex(4)}"
        with self._database.read() as session:
            covered_seq = _newest_seq(session)
            parts = self._parts(session, store, space, 0)
            written = write_generation(self._folder / name, space.id, space.dimensions, parts, self._rules.index)
        with self._database.write() as session:
            select = "SELECT folder FROM generation WHERE store = ? AND space = ?"
            old = one(session, select, store, space.id)
            session.run("DELETE FROM generation WHERE store = ? AND space = ?", store, space.id)
            if written is not None:
                statement = "INSERT INTO generation (store, space, folder, covered_seq) VALUES (?, ?, ?, ?)"
                session.run(statement, store, space.id, name, covered_seq)
        self._reopen(store, space)
        if old is not None:
            shutil.rmtree(self._folder / old[0], ignore_errors=True)  # who still searches it has it mapped

    def forget(self, store: str, space: str | None = None) -> None:
        """Give up a store's generations, or those of one space: they are made anew when wanted. Raises: OSError."""
        condition, values = ("store = ?", (store,)) if space is None else ("store = ? AND space = ?", (store, space))
        with self._database.write() as session:
            folders = [row[0] for row in session.rows(f"SELECT folder FROM generation WHERE {condition}", *values)]
            session.run(f"DELETE FROM generation WHERE {condition}", *values)
        with self._lock:
            for key in [key for key in self._opened if key[0] == store and space in {None, key[1]}]:
                del self._opened[key]
        for folder in folders:
            shutil.rmtree(self._folder / folder, ignore_errors=True)

    def _index(self, store: str, space: Space) -> _Open:
        with self._lock:
            key = (store, space.id)
            index = self._opened.get(key)
            if index is None:
                index = self._opened[key] = _Open()
            return index

    def _of_store(self, store: str) -> list[_Open]:
        with self._lock:
            return [index for key, index in self._opened.items() if key[0] == store]

    def _reopen(self, store: str, space: Space) -> None:
        index = self._index(store, space)
        with index.lock, self._database.read() as session:
            index.snapshot = self._brought_up(None, session, store, space)

    def _brought_up(self, snapshot: Snapshot | None, session: Session, store: str, space: Space) -> Snapshot:
        """The snapshot, or one from the disk, with all that this session sees."""
        newest = _newest_seq(session)
        if snapshot is None:
            snapshot = self._from_disk(session, store, space)
        parts = list(self._parts(session, store, space, snapshot.seen_seq))
        seqs = [np.arange(first, first + len(vectors), dtype=np.int64) for first, vectors in parts]
        if not parts:
            return snapshot.plus(np.empty(0, np.int64), snapshot.vectors[:0], newest)
        return snapshot.plus(np.concatenate(seqs), np.concatenate([vectors for _, vectors in parts]), newest)

    def _from_disk(self, session: Session, store: str, space: Space) -> Snapshot:
        row = one(session, "SELECT folder, covered_seq FROM generation WHERE store = ? AND space = ?", store, space.id)
        if row is None:
            return Snapshot.empty(space.dimensions)
        try:
            base = Generation(self._folder / row[0], space.id)
        except (OSError, ValueError) as error:
            _log.warning("index of %s is made anew: %s", store, error)
            return Snapshot.empty(space.dimensions)
        select = "SELECT first_seq, chunks FROM attachment WHERE store = ? AND chunks > 0 ORDER BY first_seq"
        return Snapshot.on(base, row[1], Ranges.of([(row[0], row[1]) for row in session.rows(select, store)]))

    def _parts(
        self, session: Session, store: str, space: Space, after: int
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        for first_seq, chunks, value in self._passages.matrices(session, store, space.id, after):
            yield first_seq, np.frombuffer(value, np.float32).reshape(chunks, space.dimensions)


def _newest_seq(session: Session) -> int:
    """The highest sequence number given out so far."""
    row = one(session, "SELECT next FROM counter WHERE name = 'chunk'")
    return 0 if row is None else int(row[0]) - 1
