"""Azure's LLM inference traces: a CSV with a heading, one request a line, with neither expert nor conversation."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from eval.simulation.arrival import TraceRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from routers.row_files import Problems

COLUMNS: Final = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


def azure_rows(lines: Iterator[tuple[int, bytes]], problems: Problems) -> Iterator[TraceRow]:
    """Read the good rows, in Unix seconds (UTC unless the file says otherwise); the bad ones go to `problems`."""
    columns: Mapping[str, int] | None = None
    for line, raw in lines:
        if raw.isspace():
            continue
        cells = next(csv.reader([raw.decode("utf-8", "replace").rstrip("\r\n")], skipinitialspace=True))
        if columns is None:
            columns = _columns(cells, line, problems)
            if columns is None:
                return
        elif (row := _row(columns, cells, line, problems)) is not None:
            yield row


def _columns(heading: list[str], line: int, problems: Problems) -> Mapping[str, int] | None:
    places = {name.strip(): place for place, name in enumerate(heading)}
    missing = [name for name in COLUMNS if name not in places]
    for name in missing:
        problems.add("column", name, "is not in the heading", line)
    return None if missing else places


def _row(columns: Mapping[str, int], cells: list[str], line: int, problems: Problems) -> TraceRow | None:
    texts = [cells[columns[name]].strip() if columns[name] < len(cells) else None for name in COLUMNS]
    for name, text in zip(COLUMNS, texts, strict=True):
        if text is None:
            problems.add(name, None, "is missing", line)
    at_s, prompt, output = _seconds(texts[0]), _count(texts[1]), _count(texts[2])
    for name, text, value in zip(COLUMNS, texts, (at_s, prompt, output), strict=True):
        if text is not None and value is None:
            problems.add(name, text, "must be a time" if name == COLUMNS[0] else "must be a number of tokens", line)
    return None if at_s is None or prompt is None or output is None else TraceRow(at_s, prompt, output)


def _seconds(text: str | None) -> float | None:
    try:
        when = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _count(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None
