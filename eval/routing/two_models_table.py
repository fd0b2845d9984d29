"""The two-model figures on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from eval.metrics.intervals import Interval
    from eval.routing.document import TwoModelDocument


def two_models_table(document: TwoModelDocument) -> Table:
    """One row a way to route: this router, the same by RouteLLM's ten thresholds, random, and the perfect router."""
    left_out = f", {document.left_out_n} left out" if document.left_out_n else ""
    qualities = f"{document.weak} {document.weak_quality:.3f}, {document.strong} {document.strong_quality:.3f}"
    level = f"in brackets: {document.resampling.level:.0%} intervals over prompts"
    table = Table("router", caption=escape(f"{document.n} prompts{left_out}; {qualities}\n{level}"))
    for column in ("APGR", "CPT(50%)", "CPT(80%)"):
        table.add_column(column, justify="right")
    figures = {"apgr": document.apgr, "cpt50": document.cpt50, "cpt80": document.cpt80}
    exact = [_with_interval(value, document.intervals.get(name)) for name, value in figures.items()]
    table.add_row("this router", *exact)
    others = {
        "the same, RouteLLM's code": document.routellm,
        "random": document.random,
        "perfect": document.perfect,
    }
    for name, other in others.items():
        table.add_row(name, *(f"{value:.3f}" for value in (other.apgr, other.cpt50, other.cpt80)))
    return table


def _with_interval(value: float, interval: Interval | None) -> str:
    bounds = "no interval" if interval is None else f"{interval.low:.3f}, {interval.high:.3f}"
    return escape(f"{value:.3f} [{bounds}]")
