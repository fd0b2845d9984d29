"""Documents of measurements as files, and what the commands that make them share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from experts.errors import ConfigError
from routers.row_files import whole_file

if TYPE_CHECKING:
    from pathlib import Path

TABLE_COLUMNS: Final = 120  # where there is no terminal to fit


def encoded(document: object) -> bytes:
    """A document as the file that holds it."""
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def write_document(document: object, out: Path | None) -> None:
    """Write it where asked to: a whole file or none."""
    if out is not None:
        with whole_file(out) as written:
            written.write(encoded(document))


def numbers(option: str, text: str) -> tuple[float, ...]:
    """Numbers with commas between. Raises: ConfigError: one is none."""
    return tuple(_number(option, item.strip()) for item in text.split(",") if item.strip())


def _number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ConfigError(option, text, "is not a number") from error
