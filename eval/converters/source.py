"""The files a converter reads; what is wrong with one is said with its name."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from pydantic import ValidationError

from experts.errors import ConfigError, InvalidConfig
from routers.expert_facts import ExpertFacts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


def refused(
    path: Path, problem: str, key: str = "file", value: object = None, line: int | None = None
) -> InvalidConfig:
    """One problem of a file, to be raised."""
    return InvalidConfig(str(path), [ConfigError(key, value, problem, line=line)])


def read_csv(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Read a table with a heading, each row after its line.

    Raises: InvalidConfig: the file cannot be read or lacks a column.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            for column in columns:
                if column not in (reader.fieldnames or ()):
                    raise refused(path, "is not in the heading", "column", column)
            yield from ((reader.line_num, row) for row in reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise refused(path, f"cannot be read: {error}") from error


def expert_facts(path: Path, line: int | None = None, **values: object) -> ExpertFacts:
    """An expert's facts as a file gives them. Raises: InvalidConfig: naming each value that cannot be."""
    try:
        return ExpertFacts.model_validate(values)
    except ValidationError as error:
        name = values.get("id")
        problems = [
            ConfigError(f"{name}.{'.'.join(map(str, item['loc']))}".rstrip("."), item["input"], item["msg"], line=line)
            for item in error.errors()
        ]
        raise InvalidConfig(str(path), problems) from error


def read_json(path: Path) -> Mapping[str, Any]:
    """Read one JSON object, compressed if the name ends in .gz. Raises: InvalidConfig: the file does not hold one."""
    try:
        raw = path.read_bytes()
        document = msgspec.json.decode(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, msgspec.MsgspecError) as error:
        raise refused(path, f"cannot be read: {error}") from error
    if not isinstance(document, Mapping):
        raise refused(path, "must hold one JSON object")
    return document
