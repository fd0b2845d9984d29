"""Files on their way into stores: read, cut, encoded and committed, many at a time.

Encoding is what takes the time, and takes least when texts of many files share its batches. A file is committed whole
or not at all; one that waits when the process ends is taken up again by the next.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from experts.errors import CoeError, DocumentError, DocumentTooLarge, DocumentUnsupported, UnknownObject
from experts.retrieval.chunking import split
from experts.retrieval.documents import DocumentLimits, read_document
from experts.retrieval.passages import Cut

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from experts.embedders.embedder import Embedder
    from experts.retrieval.library import Library
    from experts.retrieval.records import Attachment, ErrorCode

_log = logging.getLogger(__name__)
_AT_ONCE: Final = 128  # texts encoded before a stop is noticed


@dataclass(frozen=True, slots=True)
class IntakeRules:
    """files, passages: taken in together at most; a single file may have more of the latter, up to file_passages."""

    files: int = 64
    passages: int = 512
    file_passages: int = 20_000
    documents: DocumentLimits = DocumentLimits()  # noqa: RUF009 - frozen


@dataclass(frozen=True, slots=True)
class _Ready:
    attachment: Attachment
    cut: Cut


class Intake:
    """Takes in what waits. embedders: one for each space, each of whose vectors every passage gets.

    Used by one thread at a time. stop: asked between batches of texts; the files at hand then wait for the next time.
    """

    def __init__(
        self,
        library: Library,
        embedders: Sequence[Embedder],
        rules: IntakeRules,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._library = library
        self._embedders = embedders
        self._rules = rules
        self._stop = stop

    def take_some(self) -> list[Attachment]:
        """Take in the files that wait longest; those that are done with. Raises: StorageFailed."""
        waiting = self._library.attachments.waiting(self._rules.files)
        ready: list[_Ready] = []
        done = []
        for attachment in waiting:
            cut = self._cut(attachment)
            done.append(attachment)
            if cut is not None:
                ready.append(_Ready(attachment, cut))
            if sum(len(one.cut.passages) for one in ready) >= self._rules.passages:
                break
        if ready and not self._commit(ready):
            return []
        return done

    def fill_in(self) -> list[str]:
        """Encode a few files that lack the vectors of a new embedder; the stores they are in. Raises: StorageFailed."""
        for embedder in self._embedders:
            lacking = self._library.attachments.lacking(embedder.fingerprint, self._rules.files)
            for attachment in lacking:
                if self._stop():
                    return []
                vectors = embedder.embed(self._library.passages.of_file(attachment), "document")
                self._library.passages.add_vectors(embedder.fingerprint, attachment, vectors)
            stores = sorted({attachment.store for attachment in lacking})
            for store in stores:
                if not self._library.attachments.lacking(embedder.fingerprint, 1, store):
                    self._library.indexes.forget(store, embedder.fingerprint)  # it lacks them as well
            if stores:
                return stores
        return []

    def _cut(self, attachment: Attachment) -> Cut | None:
        """A file as passages; None where it is none, which is noted."""
        try:
            return self._read(attachment)
        except DocumentError as error:
            code: ErrorCode = "unsupported_file" if isinstance(error, DocumentUnsupported) else "invalid_file"
            self._library.attachments.fail(attachment, code, str(error))
        except UnknownObject:
            self._library.attachments.fail(attachment, "server_error", f"{attachment.file} is deleted")
        except Exception:  # noqa: BLE001 - top of the file's task: one must not keep the others waiting, whatever its parser did
            _log.exception("file %s", attachment.file)
            self._library.attachments.fail(attachment, "server_error", "it could not be read; the log has the reason")
        return None

    def _read(self, attachment: Attachment) -> Cut:
        """A file as passages. Raises: DocumentError, UnknownObject, StorageFailed."""
        tenant = self._library.stores.tenant_of(attachment.store)
        upload = self._library.uploads.get(tenant, attachment.file)
        text = read_document(upload.name, self._library.uploads.content(upload), self._rules.documents)
        passages = split(text, attachment.size)
        if len(passages) > self._rules.file_passages:
            problem = f"is cut into {len(passages)} passages; at most {self._rules.file_passages} are taken"
            raise DocumentTooLarge(upload.name, problem)
        return Cut.of(tenant, passages)

    def _commit(self, ready: Sequence[_Ready]) -> bool:
        """Encode and commit the files; False if it was stopped. What cannot be encoded is noted."""
        try:
            spaces = {embedder.fingerprint: self._encoded(ready, embedder) for embedder in self._embedders}
        except CoeError as error:
            for one in ready:
                self._library.attachments.fail(one.attachment, "server_error", str(error))
            return True
        if any(rows is None for rows in spaces.values()):
            return False
        taken, start = [], 0
        for one in ready:
            end = start + len(one.cut.passages)
            taken.append(
                (
                    one.attachment,
                    one.cut,
                    {space: rows[start:end] for space, rows in spaces.items() if rows is not None},
                )
            )
            start = end
        self._library.passages.commit(taken)
        return True

    def _encoded(self, ready: Sequence[_Ready], embedder: Embedder) -> NDArray[np.float32] | None:
        """The vectors of every passage of every file, (N, D); of a text that the store has, its own."""
        known: dict[tuple[str, str], NDArray[np.float32]] = {}
        for one in ready:
            store, keys = one.attachment.store, list(dict.fromkeys(one.cut.keys))
            found = self._library.passages.known_vectors(store, embedder.fingerprint, keys)
            known |= {(store, key): vector for key, vector in found.items()}
        new: dict[tuple[str, str], str] = {}
        for one in ready:
            for key, passage in zip(one.cut.keys, one.cut.passages, strict=True):
                if (one.attachment.store, key) not in known:
                    new[one.attachment.store, key] = passage.text
        texts = list(new.values())
        places = list(new)
        for start in range(0, len(texts), _AT_ONCE):
            if self._stop():
                return None
            rows = embedder.embed(texts[start : start + _AT_ONCE], "document")
            known |= dict(zip(places[start : start + _AT_ONCE], rows, strict=True))
        every = [known[one.attachment.store, key] for one in ready for key in one.cut.keys]
        return np.stack(every) if every else np.empty((0, embedder.dimensions), np.float32)
