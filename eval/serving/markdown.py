"""Cells and tables of the written reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.serving.document import Row
    from eval.serving.pairing import Spread

WHOLE_FROM: Final = 100  # figures this large are written without decimals
ONE_DECIMAL_FROM: Final = 10


def figure(value: float) -> str:
    """Write a number with about three significant digits."""
    if abs(value) >= WHOLE_FROM:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= ONE_DECIMAL_FROM else f"{value:.2f}"


def shown(value: Spread | None) -> str:
    """Write a median with its range, or a dash."""
    if value is None:
        return "-"
    return f"{figure(value.median)} ({figure(value.low)} to {figure(value.high)})"


def shown_errors(row: Row) -> str:
    """Write the errors by kind, and requests that the mock saw too many or too few."""
    found = [f"{count} {kind}" for kind, count in row.errors.items()]
    found += [f"upstream {row.upstream_mismatch:+d}"] if row.upstream_mismatch else []
    return ", ".join(found) or "0"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table; a bar inside a cell is escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
