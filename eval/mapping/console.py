"""A mapping on a terminal: who gets what and how surely, what it takes, what it is worth, and the frontier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eval.mapping.document import CategoryChoice, Frontier, MappingDocument, MappingEntry, Worth

_NAMED_HOSTS: Final = 3


def tables(document: MappingDocument) -> Iterator[Table | str]:
    """Everything that is printed, in order."""
    yield _choices(document)
    yield _totals(document)
    yield _worths(document)
    yield from _remarks(document)
    if document.frontier is not None:
        yield _frontier(document.frontier)


def _choices(document: MappingDocument) -> Table:
    table = Table("category", title="who gets what", title_justify="left")
    table.add_column("n", justify="right")
    table.add_column("expert")
    table.add_column("win rate", justify="right")
    table.add_column("runner-up (hosted)")
    table.add_column("win rate", justify="right")
    table.add_column("resamples that agree", justify="right")
    for choice in document.categories:
        table.add_row(choice.category, str(choice.prompts), choice.expert, _rate(choice.win_rate), *_doubts(choice))
    return table


def _doubts(choice: CategoryChoice) -> tuple[str, str, str]:
    name, rate = next(iter(choice.runners_up.items()), ("-", None))
    sure = "-" if choice.same_choice_ratio is None else f"{choice.same_choice_ratio:.0%}"
    return name, "-" if rate is None else _rate(rate), sure


def _totals(document: MappingDocument) -> Table:
    table = Table("what it takes", title_justify="left")
    for column in ("used", "budget", "of the budget"):
        table.add_column(column, justify="right")
    for key, used in document.mapping.totals.items():
        limit = document.budgets.get(key)
        share = "-" if not limit else f"{used / limit:.0%}"
        table.add_row(key, _figure(used), "-" if limit is None else _figure(limit), share)
    return table


def _worths(document: MappingDocument) -> Table:
    interval = f"95% of {document.resamples} resamples" if document.resamples else "interval"
    table = Table("what it is worth", title_justify="left")
    table.add_column("win rate", justify="right")
    table.add_column(interval, justify="right")
    table.add_column("hosted")
    table.add_row("this mapping", *_worth(document.mapping.worth), _hosts(document.mapping))
    if document.best_single is not None:
        table.add_row("best single expert", *_worth(document.best_single.worth), _hosts(document.best_single))
    if document.gain is not None:
        table.add_row("  this mapping's gain over it", *_worth(document.gain, sign="+"), "")
    table.add_row("mapping without budgets", *_worth(document.unbudgeted.worth), _hosts(document.unbudgeted))
    return table


def _remarks(document: MappingDocument) -> Iterator[str]:
    if document.best_single is None:
        yield "No single expert keeps these budgets."
    if document.optimism is not None:
        yield f"Of the win rate, {document.optimism:.4f} comes from choosing and rating on the same prompts."
    if document.steadiest is not None:
        steadiest, chosen = document.steadiest.experts, document.mapping.experts
        others = [
            f"{category} to {steadiest[category]}" for category in chosen if steadiest[category] != chosen[category]
        ]
        if others:
            worth = _rate(document.steadiest.worth.value)
            yield f"The mapping most resamples agree on gives {', '.join(others)}; it is worth {worth}."
    if document.prompts_without_category:
        yield f"{document.prompts_without_category} prompts without a category are left out."


def _frontier(frontier: Frontier) -> Table:
    table = Table(title=f"from which {frontier.key} on which mapping is best", title_justify="left")
    for column in (frontier.key, "win rate", "experts"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("hosted")
    for point in frontier.points:
        hosted = point.mapping.hosted
        names = Text(", ".join(hosted), no_wrap=True, overflow="ellipsis")
        table.add_row(_figure(point.budget), _rate(point.mapping.worth.value), str(len(hosted)), names)
    return table


def _worth(worth: Worth, sign: str = "") -> tuple[str, str]:
    interval = "-" if worth.low is None or worth.high is None else f"{worth.low:{sign}.4f} .. {worth.high:{sign}.4f}"
    return f"{worth.value:{sign}.4f}", interval


def _hosts(mapping: MappingEntry) -> str:
    more = len(mapping.hosted) - _NAMED_HOSTS
    return ", ".join(mapping.hosted[:_NAMED_HOSTS]) + (f" and {more} more" if more > 0 else "")


def _rate(value: float) -> str:
    return f"{value:.4f}"


def _figure(value: float) -> str:
    return f"{value:.4g}"
