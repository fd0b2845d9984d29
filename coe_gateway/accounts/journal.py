"""What a killed gateway must not forget: one line for each reservation and each end of one, written at once.

A line is in the system's hands when `write` returns, so it outlives `kill -9`, and costs microseconds. A power loss may
take the last seconds. The journal is short: what the book has is taken out again.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from typing import TYPE_CHECKING, Final

import msgspec

from coe_gateway.accounts.types import UsageRow  # noqa: TC001 - msgspec reads annotations at run time
from experts.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger(__name__)


class Opened(msgspec.Struct, frozen=True, array_like=True, tag="o"):
    """A reservation was made. row: what becomes of it if nothing more is heard."""

    row: UsageRow


class Closed(msgspec.Struct, frozen=True, array_like=True, tag="c"):
    """A reservation was settled."""

    row: UsageRow


class Released(msgspec.Struct, frozen=True, array_like=True, tag="r"):
    """A reservation was given back unused."""

    id: str


_ENCODE: Final = msgspec.json.Encoder().encode
_DECODER: Final = msgspec.json.Decoder(Opened | Closed | Released)


class Journal:
    """One file, one writer. max_bytes: beyond it no reservation is taken; ends of them still are.

    `recover` comes first. Raises: OSError, by what writes: the disk does not take it; then the file ends where it did.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._fd = self._lock = -1
        self._open: dict[str, bytes] = {}
        self.size_bytes = 0

    def recover(self) -> list[UsageRow]:
        """Take the file over and give what it holds: what was settled, and what was abandoned.

        Raises: ConfigError: another gateway has it.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            problem = "another gateway keeps its accounts there; each needs a folder of its own"
            raise ConfigError("accounts.folder", str(self._path.parent), problem) from None
        rows = _replayed(self._path)
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_APPEND, 0o600)
        self.size_bytes = os.fstat(self._fd).st_size
        if self.size_bytes and rows:
            self._end_torn_line()
        return rows

    def opened(self, row: UsageRow) -> None:
        """Note a reservation. Raises: OSError."""
        if self.size_bytes >= self._max_bytes:
            raise OSError(errno.ENOSPC, f"the journal holds {self.size_bytes} bytes that the book does not take")
        line = _ENCODE(Opened(row)) + b"\n"
        self._write(line)
        self._open[row.id] = line

    def closed(self, row: UsageRow) -> None:
        """Note what a reservation came to. Raises: OSError."""
        self._open.pop(row.id, None)
        self._write(_ENCODE(Closed(row)) + b"\n")

    def released(self, row_id: str) -> None:
        """Note that a reservation came to nothing. Raises: OSError."""
        self._open.pop(row_id, None)
        self._write(_ENCODE(Released(row_id)) + b"\n")

    def compact(self) -> None:
        """Keep only what is under way; everything else is in the book. Raises: OSError: the old file stays."""
        fresh = self._path.with_suffix(".new")
        fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_APPEND, 0o600)
        lines = b"".join(self._open.values())
        try:
            if os.write(fd, lines) != len(lines):
                raise OSError(errno.ENOSPC, "the disk is full")  # noqa: TRY301 - the file is closed below
            fresh.replace(self._path)
        except OSError:
            os.close(fd)
            raise
        os.close(self._fd)
        self._fd, self.size_bytes = fd, len(lines)

    def close(self) -> None:
        """Give the file up."""
        for fd in (self._fd, self._lock):
            if fd >= 0:
                os.close(fd)
        self._fd = self._lock = -1

    def _write(self, line: bytes) -> None:
        written = 0
        try:
            written = os.write(self._fd, line)
            if written != len(line):
                raise OSError(errno.ENOSPC, "the disk is full")  # noqa: TRY301 - what was written is undone below
        except OSError:
            if written:
                os.ftruncate(self._fd, self.size_bytes)
            raise
        self.size_bytes += written

    def _end_torn_line(self) -> None:
        if os.pread(self._fd, 1, self.size_bytes - 1) != b"\n":
            self._write(b"\n")


def _replayed(path: Path) -> list[UsageRow]:
    """Every row a journal leads to. A line that cannot be read, as a torn last one, is told of and left out."""
    rows: dict[str, UsageRow] = {}
    if not path.exists():
        return []
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line:
            continue
        try:
            entry = _DECODER.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            _log.warning("%s line %d cannot be read and is left out: %s", path, number, error)
            continue
        match entry:
            case Released():
                rows.pop(entry.id, None)
            case Opened() | Closed():
                rows[entry.row.id] = entry.row
    return list(rows.values())
