"""What training found, for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from eval.train_cli import TrainReport

_MIB = 1024**2


def train_table(report: TrainReport) -> Table:
    """One line a figure."""
    table = Table("out of fold", "", title=report.artifact, title_justify="left")
    table.caption = (
        f"{report.rows} prompts, {report.categories} categories, {report.experts} experts; "
        f"{report.size_bytes / _MIB:.1f} MiB in {report.seconds:.0f} s; sha256 {report.sha256[:12]}"
    )
    if report.self_labelled:
        table.caption += f"; {report.self_labelled} of the prompts had no label and were taken for one"
    for name, value in report.metrics.items():
        table.add_row(name, f"{value:.4f}")
    return table
