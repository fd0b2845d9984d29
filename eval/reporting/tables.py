"""Tables that more than one kind of document has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eval.reporting.markup import EMPTY, Markup, element, paragraph, table, text, together
from eval.reporting.wording import NAMES, bounds, is_gain, number, prompts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from eval.routing.document import Confusion, Intervals

MATRIX_CATEGORIES: Final = 40  # a larger matrix is not read: its most confused pairs are
MOST_PAIRS: Final = 25
FEW_PAIRS: Final = 10  # beside a matrix
_SHOWN_SHARE: Final = 0.005


def figure_cards(names: Sequence[str], intervals: Intervals) -> Markup:
    """The figures that matter most, large, each with its interval and its prompts."""
    cards = [
        element(
            "div",
            element("dt", text(NAMES[name])),
            element("dd", text(number(interval.estimate, signed=is_gain(name))), class_="value"),
            element("dd", text(f"{bounds(interval, signed=is_gain(name))}, {prompts(interval.n)}"), class_="bounds"),
        )
        for name in names
        if (interval := intervals.get(name)) is not None
    ]
    return element("dl", *cards, class_="figures") if cards else EMPTY


def figure_table(caption: str, names: Iterable[str], intervals: Intervals) -> Markup:
    """Each figure there is, with its interval and n."""
    rows = [
        (
            NAMES.get(name, name),
            number(interval.estimate, signed=is_gain(name)),
            bounds(interval, signed=is_gain(name)),
            f"{interval.n:,}",
        )
        for name in names
        if (interval := intervals.get(name)) is not None
    ]
    return table(caption, ("figure", "value", "interval", "n"), rows) if rows else EMPTY


def confusion_table(confusion: Confusion) -> Markup:
    """The row-normalised matrix where it can be read, in per cent, and the most confused pairs."""
    wrong = _pairs(confusion)
    large = len(confusion.true) > MATRIX_CATEGORIES
    count = f"{len(confusion.true)} categories: too many for a matrix. {len(wrong):,} pairs are confused at all."
    first = paragraph(count) if large else _matrix(confusion)
    if not wrong:
        return first
    header = ("true category", "predicted as", "prompts", "of its prompts")
    pairs = table("The most confused pairs", header, wrong[: MOST_PAIRS if large else FEW_PAIRS], kind="words")
    return together([first, pairs])


def _pairs(confusion: Confusion) -> list[tuple[str, str, str, str]]:
    found = [
        (count, count / sum(row), true, predicted)
        for true, row in zip(confusion.true, confusion.counts, strict=True)
        for predicted, count in zip(confusion.predicted, row, strict=True)
        if count and true != predicted
    ]
    found.sort(key=lambda pair: (-pair[0], -pair[1], pair[2], pair[3]))
    return [(true, predicted, f"{count:,}", f"{share:.1%}") for count, share, true, predicted in found]


def _matrix(confusion: Confusion) -> Markup:
    caption = "Per cent of each true category's prompts (rows) by predicted category (columns)"
    columns = [element("th", text(name), scope="col") for name in ("true", *confusion.predicted, "n")]
    rows = [
        _matrix_row(true, row, confusion.predicted)
        for true, row in zip(confusion.true, confusion.counts, strict=True)
        if sum(row)
    ]
    head = element("thead", element("tr", *columns))
    matrix = element("table", element("caption", text(caption)), head, element("tbody", *rows))
    return element("div", matrix, class_="scroll matrix", tabindex="0", role="region", aria_label=caption)


def _matrix_row(true: str, counts: Sequence[int], predicted: Sequence[str]) -> Markup:
    total = sum(counts)
    cells = [_cell(count / total, hit=name == true) for count, name in zip(counts, predicted, strict=True)]
    return element("tr", element("th", text(true), scope="row", title=true), *cells, element("td", text(f"{total:,}")))


def _cell(share: float, *, hit: bool) -> Markup:
    shown = f"{100 * share:.0f}" if hit or share >= _SHOWN_SHARE else ""
    return element("td", text(shown), class_="hit" if hit else "miss", style=f"--share: {share:.3f}")
