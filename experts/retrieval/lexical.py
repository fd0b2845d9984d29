"""Search by words, kept by the database itself: what a transaction brings is found by its words from its commit on.

One full-text table for each store, so that how rare a word is, is counted among that store's passages alone: neither
another tenant's words nor the lack of them changes a score.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol

from experts.retrieval.analysis import ANALYSIS, EnglishAnalyser
from experts.retrieval.database import one

if TYPE_CHECKING:
    from experts.retrieval.database import Session
    from experts.retrieval.records import Attachment
    from experts.retrieval.snapshot import Ranges

_MOST_TERMS: Final = 64  # of a query; what comes after says little and costs as much
_STORE: Final = re.compile(r"vs_[0-9a-f]+")


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
        """Sequence numbers and scores, best first, of passages that share a term with the query."""


class Fts5Lexical:
    """SQLite's full-text search, BM25, over the terms of the product's own analysis: stop words out, words stemmed.

    It keeps no text, only terms; to give a passage up it is told them again. The analysis is part of a table's name: a
    store that was analysed otherwise is analysed anew.
    Raises: ConfigError: the extra `retrieval` is not installed.
    """

    def __init__(self) -> None:
        self._analyser = EnglishAnalyser()

    def add(self, session: Session, attachment: Attachment) -> None:
        """See Lexical."""
        table = _table(attachment.store)
        if not _there(session, table):
            self._make(session, attachment.store)  # of everything that is there, this file included
            return
        self._insert(session, table, "SELECT seq, text FROM chunk WHERE attachment = ?", attachment.number)

    def remove(self, session: Session, attachment: Attachment) -> None:
        """See Lexical."""
        table = _table(attachment.store)
        if not attachment.chunks or not _there(session, table):
            return
        rows = list(session.rows("SELECT seq, text FROM chunk WHERE attachment = ?", attachment.number))
        statement = f"INSERT INTO {table} ({table}, rowid, terms) VALUES ('delete', ?, ?)"
        session.run_many(statement, [(seq, self._terms(text)) for seq, text in rows])

    def drop(self, session: Session, store: str) -> None:
        """See Lexical."""
        named = "SELECT name FROM sqlite_master WHERE name LIKE ? AND sql LIKE 'CREATE VIRTUAL TABLE%'"
        for (table,) in list(session.rows(named, f"{_prefix(store)}%")):
            session.run(f"DROP TABLE {table}")

    def search(
        self, session: Session, store: str, query: str, count: int, allowed: Ranges | None
    ) -> list[tuple[int, float]]:
        """See Lexical."""
        table = _table(store)
        terms = list(dict.fromkeys(self._analyser.terms(query)))[:_MOST_TERMS]
        if not terms or not _there(session, table):
            return []
        match = " OR ".join(f'"{term}"' for term in terms)
        if allowed is None:
            select = f"SELECT rowid, rank FROM {table} WHERE {table} MATCH ? ORDER BY rank LIMIT ?"
            return [(seq, -rank) for seq, rank in session.rows(select, match, count)]
        ordered = session.rows(f"SELECT rowid, rank FROM {table} WHERE {table} MATCH ? ORDER BY rank", match)
        return list(islice(((seq, -rank) for seq, rank in ordered if allowed.has(seq)), count))

    def _make(self, session: Session, store: str) -> None:
        table = _table(store)
        session.run(
            f"CREATE VIRTUAL TABLE {table} USING fts5(terms, content='', tokenize='unicode61 remove_diacritics 0')"
        )
        every = "SELECT c.seq, c.text FROM chunk c JOIN attachment a ON a.number = c.attachment WHERE a.store = ?"
        self._insert(session, table, every, store)

    def _insert(self, session: Session, table: str, select: str, value: object) -> None:
        rows = list(session.rows(select, value))
        statement = f"INSERT INTO {table} (rowid, terms) VALUES (?, ?)"
        session.run_many(statement, [(seq, self._terms(text)) for seq, text in rows])

    def _terms(self, text: str) -> str:
        return " ".join(self._analyser.terms(text))


def _there(session: Session, table: str) -> bool:
    return one(session, "SELECT 1 FROM sqlite_master WHERE name = ?", table) is not None


def _prefix(store: str) -> str:
    """What the names of a store's tables begin with. Raises: ValueError: the id is none that this product gives."""
    if not _STORE.fullmatch(store):
        raise ValueError(f"{store!r} is no id of a store")
    return f"lexical_{store}_"


def _table(store: str) -> str:
    return _prefix(store) + re.sub(r"\W", "_", ANALYSIS)
