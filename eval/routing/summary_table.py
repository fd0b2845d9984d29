"""An evaluation on a terminal: its figures with their intervals, then the budgets and the baselines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from eval.routing.document import RoutingDocument

if TYPE_CHECKING:
    from rich.console import RenderableType

    from eval.metrics.intervals import Interval
    from eval.routing.document import LabelsDocument


def summary_table(document: RoutingDocument | LabelsDocument) -> RenderableType:
    """The figures; of outcomes also what else could have been done with these prompts."""
    figures = Table(
        "figure", escape(f"{document.resampling.level:.0%} interval"), "prompts", title=escape(document.title)
    )
    for name, interval in document.intervals.items():
        figures.add_row(escape(name), _shown(interval), str(interval.n))
    if not isinstance(document, RoutingDocument):
        return figures
    others = Table("another way to choose", "quality", "ours minus its")
    for name, baseline in (document.baselines or {}).items():
        gain = "-" if baseline.gain is None else _shown(baseline.gain)
        others.add_row(escape(name), _shown(baseline.interval), gain)
    budgets = Table("average active, B", "used", "quality", "zero router")
    for key, budget in (document.budgets or {}).items():
        used = f"{budget.average_active_params_b:.2f}"
        budgets.add_row(key, used, _shown(budget.interval), _shown(budget.zero_router_interval))
    return Group(figures, others, budgets) if document.budgets else Group(figures, others)


def _shown(interval: Interval) -> str:
    return escape(f"{interval.estimate:.4f} [{interval.low:.4f}, {interval.high:.4f}]")
