"""Passages and their vectors: they come with a file, all at once, and go with it.

A file's vectors of one space are one row of bytes. They are kept here although every index holds them too: an index can
then be lost, or be built another way, without encoding anything again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from experts.retrieval.chunk_key import content_key
from experts.retrieval.database import take_numbers
from experts.retrieval.records import StoredPassage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from experts.retrieval.chunking import Passage
    from experts.retrieval.database import Database, Session
    from experts.retrieval.lexical import Lexical
    from experts.retrieval.records import Attachment

_ONE_VECTOR: Final = (
    "substr(m.value, CAST(1 + (c.seq - m.first_seq) * (length(m.value) / a.chunks) AS INTEGER),"
    " CAST(length(m.value) / a.chunks AS INTEGER))"
)
_MANY: Final = 500  # values of one statement


@dataclass(frozen=True, slots=True)
class Cut:
    """A file as passages, before it is committed. keys: the content key of each."""

    passages: Sequence[Passage]
    keys: Sequence[str]

    @classmethod
    def of(cls, tenant: str, passages: Sequence[Passage]) -> Cut:
        """The passages of one tenant's file."""
        return cls(passages, [content_key(tenant, passage.text) for passage in passages])


@dataclass(frozen=True, slots=True)
class Passages:
    """The passages of every store. lexical: is told of each passage in the transaction that brings or takes it."""

    database: Database
    lexical: Lexical

    def commit(self, taken: Sequence[tuple[Attachment, Cut, Mapping[str, NDArray[np.float32]]]]) -> list[int]:
        """Make files searchable, each whole or not at all; the numbers of those that were still wanted.

        taken: for each its passages and, by space, their vectors (N, D). Raises: StorageFailed: none of them is.
        """
        done = []
        with self.database.write() as session:
            for attachment, cut, vectors in taken:
                count = len(cut.passages)
                first = take_numbers(session, "chunk", count)
                text_bytes = sum(len(passage.text.encode()) for passage in cut.passages)
                usage = text_bytes + sum(matrix.nbytes for matrix in vectors.values())
                wanted = session.run(
                    "UPDATE attachment SET status = 'completed', first_seq = ?, chunks = ?, usage_bytes = ?"
                    " WHERE number = ? AND status = 'in_progress'",
                    first, count, usage, attachment.number,
                )  # fmt: skip
                if wanted:
                    self._insert(session, attachment, first, cut, vectors)
                    done.append(attachment.number)
        return done

    def _insert(
        self, session: Session, attachment: Attachment, first: int, cut: Cut, vectors: Mapping[str, NDArray[np.float32]]
    ) -> None:
        session.run_many(
            "INSERT INTO chunk (seq, attachment, begins, ends, content_key, text) VALUES (?, ?, ?, ?, ?, ?)",
            [
                (first + i, attachment.number, passage.start, passage.end, cut.keys[i], passage.text)
                for i, passage in enumerate(cut.passages)
            ],
        )
        for space, matrix in vectors.items():
            value = np.ascontiguousarray(matrix, np.float32).tobytes()
            statement = "INSERT INTO matrix (space, attachment, first_seq, value) VALUES (?, ?, ?, ?)"
            session.run(statement, space, attachment.number, first, value)
        self.lexical.add(session, attachment)

    def remove(self, session: Session, attachment: Attachment) -> None:
        """Delete the passages of a file within a transaction."""
        self.lexical.remove(session, attachment)
        session.run("DELETE FROM matrix WHERE attachment = ?", attachment.number)
        session.run("DELETE FROM chunk WHERE attachment = ?", attachment.number)

    def known_vectors(self, store: str, space: str, keys: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """The vectors of passages that the store holds already, by content key."""
        found: dict[str, NDArray[np.float32]] = {}
        with self.database.read() as session:
            for start in range(0, len(keys), _MANY):
                part = keys[start : start + _MANY]
                for key, value in session.rows(
                    f"SELECT c.content_key, {_ONE_VECTOR} FROM chunk c JOIN attachment a ON a.number = c.attachment"
                    " JOIN matrix m ON m.attachment = c.attachment AND m.space = ?"
                    f" WHERE a.store = ? AND c.content_key IN ({_marks(part)})",
                    space, store, *part,
                ):  # fmt: skip
                    found[key] = np.frombuffer(value, np.float32)
        return found

    def add_vectors(self, space: str, attachment: Attachment, vectors: NDArray[np.float32]) -> None:
        """Vectors of another space for a file that is there already; nothing where it is gone meanwhile.

        Shapes: vectors (N, D), a row a passage. Raises: StorageFailed.
        """
        value = np.ascontiguousarray(vectors, np.float32).tobytes()
        with self.database.write() as session:
            session.run(
                "INSERT INTO matrix (space, attachment, first_seq, value) SELECT ?, number, first_seq, ?"
                " FROM attachment WHERE number = ? ON CONFLICT (space, attachment) DO NOTHING",
                space, value, attachment.number,
            )  # fmt: skip

    def matrices(self, session: Session, store: str, space: str, after: int) -> Iterator[tuple[int, int, bytes]]:
        """For each file committed after a sequence number: its first one, how many passages, their vectors' bytes."""
        yield from session.rows(
            "SELECT a.first_seq, a.chunks, m.value FROM attachment a JOIN matrix m ON m.attachment = a.number"
            " WHERE a.store = ? AND m.space = ? AND a.status = 'completed' AND a.first_seq > ? ORDER BY a.first_seq",
            store, space, after,
        )  # fmt: skip

    def texts(self, sequences: Sequence[int]) -> dict[int, StoredPassage]:
        """The passages with these sequence numbers; one that is gone meanwhile is left out."""
        found = {}
        with self.database.read() as session:
            for start in range(0, len(sequences), _MANY):
                part = sequences[start : start + _MANY]
                for row in session.rows(
                    "SELECT c.seq, c.content_key, c.text, c.begins, c.ends, a.file, u.name, a.attributes FROM chunk c"
                    " JOIN attachment a ON a.number = c.attachment LEFT JOIN upload u ON u.id = a.file"
                    f" WHERE c.seq IN ({_marks(part)})",
                    *part,
                ):  # fmt: skip
                    seq, key, text, begins, ends, file, name, attributes = row
                    values = json.loads(attributes)
                    found[seq] = StoredPassage(seq, key, text, begins, ends, file, name or "", values)
        return found

    def twins(self, sequences: Sequence[int]) -> dict[int, int]:
        """For each passage the first of these that says the same; one that is gone meanwhile is left out."""
        first: dict[str, int] = {}
        found: dict[int, int] = {}
        with self.database.read() as session:
            for start in range(0, len(sequences), _MANY):
                part = sequences[start : start + _MANY]
                select = f"SELECT seq, content_key FROM chunk WHERE seq IN ({_marks(part)}) ORDER BY seq"
                for seq, key in session.rows(select, *part):
                    found[seq] = first.setdefault(key, seq)
        return found

    def of_file(self, attachment: Attachment) -> list[str]:
        """The texts of a file's passages, in their order."""
        with self.database.read() as session:
            select = "SELECT text FROM chunk WHERE attachment = ? ORDER BY seq"
            return [row[0] for row in session.rows(select, attachment.number)]


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
