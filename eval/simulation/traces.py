"""Traces of requests, told apart by what is in them: Azure's CSV, Mooncake's JSON lines, our access log, ServeGen."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec

from eval.simulation.access_log import access_log_rows
from eval.simulation.azure import COLUMNS, azure_rows
from eval.simulation.mooncake import mooncake_rows
from eval.simulation.pace import from_start
from eval.simulation.servegen import LENGTHS_FILE, RATES_FILE, Sampling, servegen_rows
from experts.errors import ConfigError, InvalidConfig
from routers.row_files import Problems, numbered_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from eval.simulation.arrival import TraceRow

_GZIP: Final = b"\x1f\x8b"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_SHOWN_CHARS: Final = 80


class TraceKind(StrEnum):
    """The shapes that are known."""

    AZURE = "azure"
    MOONCAKE = "mooncake"
    ACCESS_LOG = "access-log"
    SERVEGEN = "servegen"


def read_trace(path: Path, sampling: Sampling | None = None) -> tuple[TraceRow, ...]:
    """Read a trace, compressed or not, sorted by time and counted from its first request.

    sampling: what to draw from a ServeGen folder; the other shapes have nothing to draw.
    Raises: InvalidConfig: it cannot be read, has no known shape, has a bad line (each is named) or no request.
    """
    kind = kind_of(path)
    if kind is TraceKind.SERVEGEN:
        rows = servegen_rows(path, sampling or Sampling())
    else:
        problems = Problems(path)
        rows = list(_READERS[kind](_lines(path), problems))
        problems.refuse()
    if not rows:
        raise InvalidConfig(str(path), [ConfigError("file", str(path), "has no request")])
    return from_start(rows)


def kind_of(path: Path) -> TraceKind:
    """Say what a trace is, by a folder's files or a file's first line. Raises: InvalidConfig: nothing that is known."""
    if path.is_dir():
        if all((path / name).is_file() for name in (RATES_FILE, LENGTHS_FILE)):
            return TraceKind.SERVEGEN
        raise _unknown(path, f"has no {RATES_FILE} beside {LENGTHS_FILE}")
    for line, raw in _lines(path):
        if not raw.isspace():
            return _kind_of_line(path, line, raw)
    raise _unknown(path, "has no line")


def _kind_of_line(path: Path, line: int, raw: bytes) -> TraceKind:
    names = _names(raw)
    if COLUMNS[0] in names:
        return TraceKind.AZURE
    if {"timestamp", "input_length"} <= names:
        return TraceKind.MOONCAKE
    if {"at", "expert"} <= names:
        return TraceKind.ACCESS_LOG
    shown = raw[:_SHOWN_CHARS].decode("utf-8", "replace").strip()
    raise InvalidConfig(str(path), [ConfigError("line", shown, _KNOWN, line=line)])


def _names(raw: bytes) -> set[str]:
    """The keys of a JSON object, or else the names of a heading."""
    try:
        document = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return {name.strip().strip('"') for name in raw.decode("utf-8", "replace").split(",")}
    return set(document) if isinstance(document, dict) else set()


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    for line, raw in numbered_lines(path, packed=_is_packed(path)):
        yield line, raw.removeprefix(_BYTE_ORDER_MARK) if line == 1 else raw


def _is_packed(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_GZIP)) == _GZIP
    except OSError as error:
        raise _unknown(path, f"cannot be read: {error}") from error


def _unknown(path: Path, problem: str) -> InvalidConfig:
    return InvalidConfig(str(path), [ConfigError("trace", str(path), problem)])


_READERS: Final = {
    TraceKind.AZURE: azure_rows,
    TraceKind.MOONCAKE: mooncake_rows,
    TraceKind.ACCESS_LOG: access_log_rows,
}
_KNOWN: Final = (
    f"is no trace that is known: neither a heading {','.join(COLUMNS)}, nor JSON with timestamp and input_length, "
    "nor JSON with at and expert"
)
