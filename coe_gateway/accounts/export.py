"""The ledger for people and their spreadsheets: CSV or JSON lines."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TextIO

import msgspec

from coe_gateway.accounts.types import NANO, UsageRow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Literal

COLUMNS: Final = ("time", "cost_usd", *UsageRow.__struct_fields__)
_FORMULA: Final = frozenset("=+-@\t\r")


async def export(
    rows: AsyncIterator[UsageRow], out: TextIO, form: Literal["csv", "json"], *, header: bool = True
) -> int:
    """Write rows one by one and say how many; `time` and `cost_usd` are `at_s` and `nano_usd` as people read them."""
    writer = csv.writer(out, lineterminator="\n")
    if form == "csv" and header:
        writer.writerow(COLUMNS)
    count = 0
    async for row in rows:
        fields = readable(row)
        if form == "csv":
            writer.writerow([_harmless(fields[name]) for name in COLUMNS])
        else:
            out.write(msgspec.json.encode(fields).decode() + "\n")
        count += 1
    return count


def readable(row: UsageRow) -> dict[str, object]:
    """A row with its time as a date and its cost in dollars."""
    time = datetime.fromtimestamp(row.at_s, UTC).isoformat(timespec="milliseconds")
    dollars = f"{row.nano_usd // NANO}.{row.nano_usd % NANO:09d}"
    return {"time": time, "cost_usd": dollars, **msgspec.to_builtins(row)}


def _harmless(value: object) -> object:
    """A cell that no spreadsheet takes for a formula: a client chose some of the texts."""
    return f"'{value}" if isinstance(value, str) and value[:1] in _FORMULA else value
