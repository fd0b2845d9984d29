"""HTML from Python: text is escaped where it becomes markup, and nowhere else."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Final, NewType

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Markup = NewType("Markup", str)

EMPTY: Final = Markup("")


def text(value: str) -> Markup:
    """Any text, escaped for content and attributes alike."""
    return Markup(html.escape(value))


def element(tag: str, *children: Markup, **attributes: str) -> Markup:
    """One element. An attribute's `_` stands for `-`, and a trailing one keeps it off Python's keywords."""
    pairs = (f' {name.rstrip("_").replace("_", "-")}="{html.escape(value)}"' for name, value in attributes.items())
    return Markup(f"<{tag}{''.join(pairs)}>{''.join(children)}</{tag}>")


def together(parts: Iterable[Markup]) -> Markup:
    """Parts in a row."""
    return Markup("\n".join(parts))


def paragraph(value: str, **attributes: str) -> Markup:
    """One paragraph of text."""
    return element("p", text(value), **attributes)


def section(title: str, *children: Markup) -> Markup:
    """A section under a heading; without children nothing at all."""
    kept = [child for child in children if child]
    return element("section", element("h3", text(title)), *kept) if kept else EMPTY


def table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]], *, kind: str = "") -> Markup:
    """A table that scrolls inside itself where the page is narrow: the first column names the row.

    kind: a class of the style sheet, e.g. `words` where the second column is text.
    """
    head = element("thead", element("tr", *(element("th", text(name), scope="col") for name in header)))
    body = element("tbody", *map(_row, rows))
    titled = element("table", element("caption", text(caption)), head, body)
    return element("div", titled, class_=f"scroll {kind}".strip(), tabindex="0", role="region", aria_label=caption)


def _row(cells: Sequence[str]) -> Markup:
    first, *others = map(text, cells)
    return element("tr", element("th", first, scope="row"), *(element("td", cell) for cell in others))
