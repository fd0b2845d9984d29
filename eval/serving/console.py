"""The gateway benchmark on a terminal: medians only, one table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.table import Table

from eval.serving.markdown import figure, shown_errors

if TYPE_CHECKING:
    from eval.serving.document import GatewayDocument, Row
    from eval.serving.pairing import Spread

COLUMNS: Final = ("rps", "p50 ms", "p99 ms", "added p50", "added p99", "CPU ms", "errors")


def gateway_table(document: GatewayDocument) -> Table:
    """Build one table of every row, a rule between scenarios; absent systems are in the caption."""
    labels = {entry.name: entry.label for entry in document.systems}
    absent = [f"{entry.label}: {entry.status}" for entry in document.systems if entry.status != "measured"]
    table = Table("scenario", "system", caption="\n".join(absent) or None, caption_justify="left")
    for column in COLUMNS:
        table.add_column(column, justify="right")
    before = ""
    for row in document.rows:
        scenario = _scenario(row)
        if before not in {"", scenario}:
            table.add_section()
        table.add_row("" if scenario == before else scenario, labels[row.system], *_cells(row))
        before = scenario
    return table


def _scenario(row: Row) -> str:
    way = "streaming" if row.stream else "plain"
    return f"{way}, {f'c={row.connections}' if row.load == 'closed' else 'open loop'}"


def _cells(row: Row) -> list[str]:
    spreads = (row.rps, row.p50_ms, row.p99_ms, row.added_p50_ms, row.added_p99_ms, row.cpu_ms_per_request)
    return [*(_median(value) for value in spreads), shown_errors(row)]


def _median(value: Spread | None) -> str:
    return "-" if value is None else figure(value.median)
