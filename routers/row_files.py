"""Files of typed rows, JSON lines or Parquet: every bad row is named with its field and value, none is skipped."""

from __future__ import annotations

import gzip
import os
import zlib
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Final, Protocol, TypeVar

import msgspec

from experts.errors import ConfigError, InvalidConfig
from routers import parquet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

SHOWN_PROBLEMS: Final = 20
_SHOWN_CHARS: Final = 80


class Row(Protocol):
    """What every row has: a name of its own."""

    @property
    def id(self) -> str | int:
        """Its name."""


R = TypeVar("R", bound=msgspec.Struct)
Named = TypeVar("Named", bound=Row)


class Problems:
    """What is wrong with one file: the first twenty in full, the rest as a number."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._shown: list[ConfigError] = []
        self._more = 0

    def add(self, key: str, value: object, problem: str, line: int | None = None) -> None:
        """Note one problem."""
        if len(self._shown) < SHOWN_PROBLEMS:
            self._shown.append(ConfigError(key, _cut(value), problem, line=line))
        else:
            self._more += 1

    def refuse(self) -> None:
        """Let a file without a problem pass. Raises: InvalidConfig: there are some."""
        if self._more:
            more = ConfigError(f"and {self._more} more", None, "problems of this file are not listed")
            raise InvalidConfig(str(self._path), [*self._shown, more])
        if self._shown:
            raise InvalidConfig(str(self._path), self._shown)


def is_parquet(path: Path) -> bool:
    """Tell by its name whether a file is Parquet; anything else is JSON lines, compressed if it ends in .gz."""
    return path.suffix == ".parquet"


def read_rows(path: Path, row_type: type[R], problems: Problems) -> Iterator[tuple[int, R]]:
    """Read the good rows with their line (in Parquet: row) numbers, from 1; the bad ones go to `problems`.

    Fields that `row_type` does not have are left alone. Raises: InvalidConfig: the file cannot be read at all.
    """
    if is_parquet(path):
        yield from _parquet_rows(path, row_type, problems)
    else:
        yield from json_rows(numbered_lines(path, packed=path.suffix == ".gz"), row_type, problems)


def json_rows(lines: Iterable[tuple[int, bytes]], row_type: type[R], problems: Problems) -> Iterator[tuple[int, R]]:
    """Decode the good lines and keep their numbers; the bad ones go to `problems`, blank ones nowhere."""
    decoder = msgspec.json.Decoder(row_type)
    for line, raw in lines:
        if raw.isspace():
            continue
        try:
            row = decoder.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            _explain_json(raw, row_type, str(error), problems, line)
            continue
        yield line, row


def numbered_lines(path: Path, *, packed: bool) -> Iterator[tuple[int, bytes]]:
    """Read a file line by line, from 1; packed: it is gzip. Raises: InvalidConfig: it cannot be read to its end."""
    try:
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            yield from enumerate(file, 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidConfig(str(path), [ConfigError("file", str(path), f"cannot be read: {error}")]) from error


def with_own_ids(rows: Iterable[tuple[int, Named]], problems: Problems) -> Iterator[tuple[str, Named]]:
    """Put each row's id, as text, before it; a row whose id was there before goes to `problems`."""
    lines: dict[str, int] = {}
    for line, row in rows:
        name = str(row.id)
        first = lines.setdefault(name, line)
        if first == line:
            yield name, row
        else:
            problems.add("id", name, f"is the id of line {first} too", line)


def write_rows(path: Path, rows: Iterable[msgspec.Struct]) -> None:
    """Write a whole file or none."""
    if is_parquet(path):
        with whole_file(path) as file:
            parquet.write_table(file, [msgspec.structs.asdict(row) for row in rows])
        return
    encoder = msgspec.json.Encoder()
    with whole_file(path) as file:
        if path.suffix == ".gz":
            with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed:  # equal rows, equal bytes
                packed.writelines(encoder.encode(row) + b"\n" for row in rows)
        else:
            file.writelines(encoder.encode(row) + b"\n" for row in rows)


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes its name only when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _parquet_rows(path: Path, row_type: type[R], problems: Problems) -> Iterator[tuple[int, R]]:
    for number, document in enumerate(parquet.read_rows(path), 1):
        try:
            row = msgspec.convert(document, row_type)
        except msgspec.ValidationError as error:
            _explain(document, row_type, str(error), problems, number)
            continue
        yield number, row


def _explain_json(raw: bytes, row_type: type[R], message: str, problems: Problems, line: int) -> None:
    try:
        document = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        problems.add("row", raw.decode("utf-8", "replace").strip(), f"is not JSON: {error}", line)
        return
    _explain(document, row_type, message, problems, line)


def _explain(document: object, row_type: type[R], message: str, problems: Problems, line: int) -> None:
    """Name what the decoder refused: its own message has neither the key inside a mapping nor the value."""
    if not isinstance(document, dict):
        problems.add("row", document, "must be an object", line)
        return
    found = False
    for field in msgspec.structs.fields(row_type):
        name = field.encode_name
        if name in document:
            faults = list(_faults(name, document[name], field.type))
        else:
            faults = [(name, None, "is missing")] if field.required else []
        for key, value, problem in faults:
            problems.add(key, value, problem, line)
            found = True
    if not found:  # the decoder and we differ: its word counts
        problems.add("row", document, message, line)


def _faults(name: str, value: object, kind: object) -> Iterator[tuple[str, object, str]]:
    problem = _misfit(value, kind)
    if problem is None:
        return
    items = value.items() if isinstance(value, dict) else ()
    inner = [(f"{name}.{key}", item, misfit) for key, item in items if (misfit := _misfit({key: item}, kind))]
    yield from inner or [(name, "null" if value is None else value, problem)]


def _misfit(value: object, kind: object) -> str | None:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        return str(error).partition(" - at `")[0].replace("Expected", "must be", 1)
    return None


def _cut(value: object) -> object:
    """The value as an error shows it: short."""
    if isinstance(value, dict | list):
        value = msgspec.json.encode(value).decode()
    if isinstance(value, str) and len(value) > _SHOWN_CHARS:
        return value[: _SHOWN_CHARS - 3] + "..."
    return value
