"""Which files are in which stores, and how far each has come."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import msgspec

from experts.errors import UnknownObject
from experts.retrieval.chunking import ChunkSize
from experts.retrieval.database import one, take_numbers
from experts.retrieval.filters import Value
from experts.retrieval.paging import page_of
from experts.retrieval.records import Attachment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from experts.retrieval.database import Database, Row, Session
    from experts.retrieval.filters import Attributes, Filter
    from experts.retrieval.passages import Passages
    from experts.retrieval.records import ErrorCode, Page, Status, Upload

KIND: Final = "vector store file"
_COLUMNS: Final = (
    "number, store, file, status, attributes, max_tokens, overlap_tokens, created_at, error_code, error, first_seq, "
    "chunks, usage_bytes, batch"
)
_ATTRIBUTES: Final = msgspec.json.Decoder(dict[str, Value])
_SELECT: Final = f"SELECT {_COLUMNS} FROM attachment"


@dataclass(frozen=True, slots=True)
class Attachments:
    """The files of every store. clock: Unix seconds. passages: goes with an attachment when that goes."""

    database: Database
    clock: Callable[[], float]
    passages: Passages

    def attach(
        self, store: str, upload: Upload, attributes: Attributes, size: ChunkSize, batch: str = ""
    ) -> tuple[Attachment, Attachment | None]:
        """Put a file into a store, to be taken in soon; what it was there until now, if that goes.

        A file that is there already, or on its way, cut alike, only gets its attributes anew. Raises: StorageFailed.
        """
        with self.database.write() as session:
            found = _find(session, store, upload.id)
            if found is not None and found.size == size and found.status in {"in_progress", "completed"}:
                statement = "UPDATE attachment SET attributes = ?, batch = ? WHERE number = ?"
                session.run(statement, json.dumps(attributes), batch or found.batch, found.number)
                return replace(found, attributes=attributes, batch=batch or found.batch), None
            if found is not None:
                self._remove(session, found)
            attachment = Attachment(
                take_numbers(session, "attachment"), store, upload.id, "in_progress", attributes, size,
                int(self.clock()), batch=batch,
            )  # fmt: skip
            _insert(session, attachment)
        return attachment, found

    def get(self, store: str, file: str) -> Attachment:
        """One file of a store. Raises: UnknownObject."""
        with self.database.read() as session:
            found = _find(session, store, file)
        if found is None:
            raise UnknownObject(KIND, file)
        return found

    def page(self, store: str, page: Page, status: Status | None = None, batch: str | None = None) -> list[Attachment]:
        """A store's files, one more than the page takes where there is more. Raises: UnknownObject."""
        condition, values = "store = ?", [store]
        for column, value in (("status", status), ("batch", batch)):
            if value is not None:
                condition += f" AND {column} = ?"
                values.append(value)
        with self.database.read() as session:
            rows = page_of(session, _SELECT, (condition, tuple(values)), page, (KIND, "file"))
        return [_attachment(row) for row in rows]

    def of_batch(self, store: str, batch: str) -> list[Attachment]:
        """The files that came together under this id."""
        with self.database.read() as session:
            select = f"{_SELECT} WHERE store = ? AND batch = ? ORDER BY number"
            return [_attachment(row) for row in session.rows(select, store, batch)]

    def passing(self, store: str, chosen: Filter) -> list[tuple[int, int]]:
        """Of the searchable files that a filter lets pass, the first sequence number and how many there are."""
        select = (
            "SELECT first_seq, chunks, attributes FROM attachment WHERE store = ? AND chunks > 0 ORDER BY first_seq"
        )
        with self.database.read() as session:
            rows = list(session.rows(select, store))
        passes = {text: chosen.allows(_ATTRIBUTES.decode(text)) for text in {row[2] for row in rows}}
        return [(first, count) for first, count, text in rows if passes[text]]

    def completed(self, store: str) -> list[Attachment]:
        """The files of a store that are searchable, in the order of their passages."""
        with self.database.read() as session:
            condition = "store = ? AND status = 'completed' AND chunks > 0"
            rows = list(session.rows(f"{_SELECT} WHERE {condition} ORDER BY first_seq", store))
        return [_attachment(row) for row in rows]

    def waiting(self, limit: int, but: Sequence[int] = ()) -> list[Attachment]:
        """The files that are to be taken in, the oldest first, those numbered in `but` left out."""
        with self.database.read() as session:
            select = f"{_SELECT} WHERE status = 'in_progress' ORDER BY number LIMIT ?"
            found = [_attachment(row) for row in session.rows(select, limit + len(but))]
        return [attachment for attachment in found if attachment.number not in set(but)][:limit]

    def lacking(self, space: str, limit: int, store: str | None = None) -> list[Attachment]:
        """Searchable files without vectors of a space: they were taken in before it was there."""
        columns = ", ".join(f"a.{column.strip()}" for column in _COLUMNS.split(","))
        within, values = ("", ()) if store is None else (" AND a.store = ?", (store,))
        with self.database.read() as session:
            rows = session.rows(
                f"SELECT {columns} FROM attachment a LEFT JOIN matrix m ON m.attachment = a.number AND m.space = ?"
                f" WHERE a.status = 'completed' AND a.chunks > 0 AND m.attachment IS NULL{within} LIMIT ?",
                space, *values, limit,
            )  # fmt: skip
            return [_attachment(row) for row in rows]

    def set_attributes(self, store: str, file: str, attributes: Attributes) -> Attachment:
        """Other attributes for a file. Raises: UnknownObject, StorageFailed."""
        with self.database.write() as session:
            statement = "UPDATE attachment SET attributes = ? WHERE store = ? AND file = ?"
            if not session.run(statement, json.dumps(attributes), store, file):
                raise UnknownObject(KIND, file)
        return self.get(store, file)

    def fail(self, attachment: Attachment, code: ErrorCode, problem: str) -> None:
        """Note why a file could not be taken in; nothing where it is gone meanwhile. Raises: StorageFailed."""
        with self.database.write() as session:
            session.run(
                "UPDATE attachment SET status = 'failed', error_code = ?, error = ?"
                " WHERE number = ? AND status = 'in_progress'",
                code, problem, attachment.number,
            )  # fmt: skip

    def cancel(self, store: str, batch: str) -> int:
        """Give up those of a batch that have not been taken in; how many. Raises: StorageFailed."""
        with self.database.write() as session:
            statement = "UPDATE attachment SET status = 'cancelled' WHERE store = ? AND batch = ? AND status = ?"
            return session.run(statement, store, batch, "in_progress")

    def detach(self, store: str, file: str) -> Attachment:
        """Take a file out of a store, its passages with it. Raises: UnknownObject, StorageFailed."""
        with self.database.write() as session:
            found = _find(session, store, file)
            if found is None:
                raise UnknownObject(KIND, file)
            self._remove(session, found)
        return found

    def detach_everywhere(self, file: str) -> list[Attachment]:
        """Take a file out of every store. Raises: StorageFailed."""
        with self.database.write() as session:
            found = [_attachment(row) for row in session.rows(f"{_SELECT} WHERE file = ?", file)]
            for attachment in found:
                self._remove(session, attachment)
        return found

    def remove_some(self, store: str, limit: int) -> bool:
        """Take a few files out of a dropped store; whether any was left. Raises: StorageFailed."""
        with self.database.write() as session:
            found = [_attachment(row) for row in session.rows(f"{_SELECT} WHERE store = ? LIMIT ?", store, limit)]
            for attachment in found:
                self._remove(session, attachment)
        return bool(found)

    def _remove(self, session: Session, attachment: Attachment) -> None:
        self.passages.remove(session, attachment)
        session.run("DELETE FROM attachment WHERE number = ?", attachment.number)


def _find(session: Session, store: str, file: str) -> Attachment | None:
    row = one(session, f"{_SELECT} WHERE store = ? AND file = ?", store, file)
    return None if row is None else _attachment(row)


def _insert(session: Session, new: Attachment) -> None:
    session.run(
        f"INSERT INTO attachment ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, '', '', 0, 0, 0, ?)",
        new.number, new.store, new.file, new.status, json.dumps(new.attributes), new.size.max_tokens,
        new.size.overlap_tokens, new.created_at, new.batch,
    )  # fmt: skip


def _attachment(row: Row) -> Attachment:
    number, store, file, status, attributes, max_tokens, overlap_tokens, created_at, *rest = row
    size = ChunkSize(max_tokens, overlap_tokens)
    return Attachment(number, store, file, status, json.loads(attributes), size, created_at, *rest)
