"""Search by words where the database is PostgreSQL: postings in plain tables, BM25 in one statement.

Its own full-text search has no BM25. The terms are those of every other search by words; k1 and b too.
"""

from __future__ import annotations

from collections import Counter
from math import log
from typing import TYPE_CHECKING, Final

from experts.retrieval.analysis import EnglishAnalyser
from experts.retrieval.bm25 import Bm25Settings
from experts.retrieval.database import one

if TYPE_CHECKING:
    from experts.retrieval.database import Session
    from experts.retrieval.records import Attachment
    from experts.retrieval.snapshot import Ranges

TABLES: Final = (
    """CREATE TABLE IF NOT EXISTS posting (
        store TEXT NOT NULL, term TEXT NOT NULL, seq BIGINT NOT NULL, times BIGINT NOT NULL,
        PRIMARY KEY (store, term, seq))""",
    "CREATE INDEX IF NOT EXISTS posting_of_passage ON posting (store, seq)",
    """CREATE TABLE IF NOT EXISTS term_count (
        store TEXT NOT NULL, seq BIGINT NOT NULL, terms BIGINT NOT NULL, PRIMARY KEY (store, seq))""",
)
_MOST_TERMS: Final = 64
_BM25: Final = """
    SELECT p.seq, SUM(w.idf * p.times * ? / (p.times + ? * (1 - ? + ? * c.terms / ?))) AS score
    FROM posting p JOIN term_count c ON c.store = p.store AND c.seq = p.seq
    JOIN UNNEST(?::text[], ?::float8[]) AS w (term, idf) ON w.term = p.term
    WHERE p.store = ? GROUP BY p.seq ORDER BY score DESC, p.seq"""


class PostgresLexical:
    """See Lexical. Raises: ConfigError: the extra `retrieval` is not installed."""

    def __init__(self) -> None:
        self._analyser = EnglishAnalyser()
        self._settings = Bm25Settings()

    def add(self, session: Session, attachment: Attachment) -> None:
        """See Lexical."""
        rows = list(session.rows("SELECT seq, text FROM chunk WHERE attachment = ?", attachment.number))
        terms = {seq: Counter(self._analyser.terms(text)) for seq, text in rows}
        session.run_many(
            "INSERT INTO posting (store, term, seq, times) VALUES (?, ?, ?, ?)",
            [(attachment.store, term, seq, times) for seq, own in terms.items() for term, times in own.items()],
        )
        session.run_many(
            "INSERT INTO term_count (store, seq, terms) VALUES (?, ?, ?)",
            [(attachment.store, seq, own.total()) for seq, own in terms.items()],
        )

    def remove(self, session: Session, attachment: Attachment) -> None:
        """See Lexical."""
        last = attachment.first_seq + attachment.chunks - 1
        for table in ("posting", "term_count"):
            statement = f"DELETE FROM {table} WHERE store = ? AND seq BETWEEN ? AND ?"
            session.run(statement, attachment.store, attachment.first_seq, last)

    def drop(self, session: Session, store: str) -> None:
        """See Lexical."""
        for table in ("posting", "term_count"):
            session.run(f"DELETE FROM {table} WHERE store = ?", store)

    def search(
        self, session: Session, store: str, query: str, count: int, allowed: Ranges | None
    ) -> list[tuple[int, float]]:
        """See Lexical."""
        terms = list(dict.fromkeys(self._analyser.terms(query)))[:_MOST_TERMS]
        stats = one(session, "SELECT COUNT(*), COALESCE(AVG(terms), 0) FROM term_count WHERE store = ?", store)
        if not terms or stats is None or not stats[0]:
            return []
        found = session.rows(
            "SELECT term, COUNT(*) FROM posting WHERE store = ? AND term = ANY(?) GROUP BY term", store, terms
        )
        rarity = {term: log(1 + (stats[0] - n + 0.5) / (n + 0.5)) for term, n in found}
        k1, b, usual = self._settings.k1, self._settings.b, float(stats[1]) or 1.0
        weights = list(rarity), list(rarity.values())
        limit = "" if allowed is not None else f" LIMIT {int(count)}"
        ranked = session.rows(_BM25 + limit, k1 + 1, k1, b, b, usual, *weights, store)
        hits = ((int(seq), float(score)) for seq, score in ranked if allowed is None or allowed.has(seq))
        return [hit for _, hit in zip(range(count), hits, strict=False)]
