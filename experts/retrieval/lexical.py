"""Search by words, kept by the database itself: what a transaction brings is found by its words from its commit on.

One full-text table for each store, so that how rare a word is, is counted among that store's passages alone: neither
another tenant's words nor the lack of them changes a score.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol

from experts.retrieval.database import one

if TYPE_CHECKING:
    from experts.retrieval.database import Session
    from experts.retrieval.records import Attachment
    from experts.retrieval.snapshot import Ranges

_WORD: Final = re.compile(r"\w+")
_MOST_WORDS: Final = 64  # of a query; what comes after says little and costs as much


class Lexical(Protocol):
    """What finds passages by their words."""

    def add(self, session: Session, attachment: Attachment) -> None:
        """Take up the passages of a file, which are in the transaction already."""

    def remove(self, session: Session, attachment: Attachment) -> None:
        """Give up the passages of a file, which are still in the transaction."""

    def drop(self, session: Session, store: str) -> None:
        """Give up a whole store."""

    def search(
        self, session: Session, store: str, query: str, count: int, allowed: Ranges | None
    ) -> list[tuple[int, float]]:
        """Sequence numbers and scores, best first, of passages that share a word with the query."""


class Fts5Lexical:
    """SQLite's full-text search: BM25 over Porter stems. It keeps no text of its own, only the words."""

    def add(self, session: Session, attachment: Attachment) -> None:
        """See Lexical."""
        table = _table(attachment.store)
        session.run(
            f"CREATE VIRTUAL TABLE IF NOT EXISTS {table} USING fts5(text, content='chunk', content_rowid='seq',"
            " tokenize='porter unicode61 remove_diacritics 2')"
        )
        rows = "SELECT seq, text FROM chunk WHERE attachment = ?"
        session.run(f"INSERT INTO {table} (rowid, text) {rows}", attachment.number)

    def remove(self, session: Session, attachment: Attachment) -> None:
        """See Lexical."""
        if attachment.chunks:
            table = _table(attachment.store)
            rows = "SELECT 'delete', seq, text FROM chunk WHERE attachment = ?"
            session.run(f"INSERT INTO {table} ({table}, rowid, text) {rows}", attachment.number)

    def drop(self, session: Session, store: str) -> None:
        """See Lexical."""
        session.run(f"DROP TABLE IF EXISTS {_table(store)}")

    def search(
        self, session: Session, store: str, query: str, count: int, allowed: Ranges | None
    ) -> list[tuple[int, float]]:
        """See Lexical."""
        table = _table(store)
        words = list(dict.fromkeys(word.lower() for word in _WORD.findall(query)))[:_MOST_WORDS]
        known = one(session, "SELECT 1 FROM sqlite_master WHERE name = ?", table)
        if not words or known is None:
            return []
        match = " OR ".join(f'"{word}"' for word in words)
        if allowed is None:
            select = f"SELECT rowid, rank FROM {table} WHERE {table} MATCH ? ORDER BY rank LIMIT ?"
            return [(seq, -rank) for seq, rank in session.rows(select, match, count)]
        ordered = session.rows(f"SELECT rowid, rank FROM {table} WHERE {table} MATCH ? ORDER BY rank", match)
        return list(islice(((seq, -rank) for seq, rank in ordered if allowed.has(seq)), count))


def _table(store: str) -> str:
    """The name of a store's table. Raises: ValueError: the id is none that this product gives."""
    if not re.fullmatch(r"vs_[0-9a-f]+", store):
        raise ValueError(f"{store!r} is no id of a store")
    return f"lexical_{store}"
