"""The access log: one finished request a line, for `coe simulate` and for whoever asks what was served."""

from __future__ import annotations

import logging
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger(__name__)
BUFFER_ROWS: Final = 10_000

Seconds = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=0)]


class AccessRow(msgspec.Struct, frozen=True, kw_only=True):
    """A finished request, whatever became of it.

    at: when it was received, in Unix seconds. expert: the one that answered, or was to. session: what tells
    conversations apart; None if nothing did. Times that the request did not live to see are None, and so are tokens
    that nobody counted.
    """

    at: Seconds
    expert: Annotated[str, Meta(min_length=1)]
    status: Annotated[int, Meta(ge=100, le=599)]
    session: str | None = None
    category: str | None = None
    prompt_tokens: Count | None = None
    output_tokens: Count | None = None
    queue_s: Seconds | None = None
    swap_s: Seconds | None = None
    ttft_s: Seconds | None = None
    total_s: Seconds | None = None


class AccessLog:
    """Keeps rows until they are written: `add` never waits and never fails, `write` does the I/O.

    One owner adds, one at a time writes, in a thread if it likes; nobody else writes to the file. Rows beyond
    `buffer_rows` and rows that could not be written are lost, and counted in `lost`.
    """

    def __init__(self, path: Path, buffer_rows: int = BUFFER_ROWS) -> None:
        self._path = path
        self._bound = buffer_rows
        self._rows: deque[AccessRow] = deque()
        self._encoder = msgspec.json.Encoder()
        self.lost = 0

    def add(self, row: AccessRow) -> None:
        """Keep a row; if the buffer is full it is lost instead."""
        if len(self._rows) < self._bound:
            self._rows.append(row)
        else:
            self.lost += 1

    def write(self) -> int:
        """Append what is there and say how many rows that was; a disk that refuses them is logged and loses them.

        The file is opened each time, so that it may be rotated by renaming it, and holds whole lines only.
        """
        rows = [self._rows.popleft() for _ in range(len(self._rows))]  # what is added meanwhile waits for the next
        if not rows:
            return 0
        try:
            self._append(b"".join(self._encoder.encode(row) + b"\n" for row in rows))
        except OSError as error:
            self.lost += len(rows)
            _log.warning("access log %s: %d rows are lost: %s", self._path, len(rows), error)
            return 0
        return len(rows)

    def _append(self, lines: bytes) -> None:
        with self._path.open("ab", buffering=0) as file:
            size_bytes = file.tell()
            rest = memoryview(lines)
            try:
                while rest:
                    rest = rest[file.write(rest) :]
            except OSError:
                with suppress(OSError):
                    file.truncate(size_bytes)  # half a line would make the file unreadable
                raise
