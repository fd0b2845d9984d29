"""Plots as inline SVG in the page's own colours and fonts, through matplotlib, which is imported when one is drawn."""

from __future__ import annotations

import io
import re
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Final

from eval.reporting.figure_style import figure_style
from eval.reporting.markup import Markup, element, text
from experts.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from matplotlib.axes import Axes

WIDTH: Final = 440.0  # units of the SVG: a phone has nine tenths of it, a column of a desk's screen a third more
INK, SOFT, RULE = "#010101", "#020202", "#030303"
BLUE, ORANGE, GREEN, PURPLE = "#040404", "#050505", "#060606", "#070707"
_IN_THE_PAGE: Final = {  # a colour of the drawing -> the style sheet's, which differs by day and by night
    INK: "currentColor",
    SOFT: "var(--soft)",
    RULE: "var(--rule)",
    BLUE: "var(--blue)",
    ORANGE: "var(--orange)",
    GREEN: "var(--green)",
    PURPLE: "var(--purple)",
}
_SETTINGS: Final = figure_style(INK, SOFT, RULE) | {
    "font.size": 11.0,
    "legend.fontsize": 10.0,
    "figure.dpi": 72.0,  # a point is a unit
}


def plot(name: str, label: str, caption: str, paint: Callable[[Axes], None], height: float = 320.0) -> Markup:
    """A figure with its caption; `label` is what those hear who do not see it. name: its own on the page.

    Raises: ConfigError: matplotlib is not installed.
    """
    drawn = io.StringIO()
    matplotlib, figures = _matplotlib("matplotlib"), _matplotlib("matplotlib.figure")
    with matplotlib.rc_context(_SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # measured only: the reader's fonts draw it
        figure = figures.Figure(figsize=(WIDTH / 72, height / 72), layout="constrained")
        paint(figure.add_subplot())
        figure.savefig(drawn, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format")))
    svg = _inline(drawn.getvalue(), name, label)
    return element("figure", svg, element("figcaption", text(caption)))


def _inline(svg: str, name: str, label: str) -> Markup:
    """The drawing without its head, with ids of its own, and in the colours of the page; its text is left alone."""
    body = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    root, view = re.match(r"<svg[^>]*>", body), re.search(r'viewBox="[^"]*"', body)
    if root is None or view is None:
        raise ValueError(f"matplotlib wrote no SVG: {body[:80]}")
    inner = re.sub(r"<[^>]*>", lambda tag: _tag(tag[0], name), body[root.end() :])
    space = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return Markup(f'<svg class="plot" role="img" aria-label="{text(label)}" {view[0]} {space}>{inner.strip()}')


def _tag(tag: str, name: str) -> str:
    tag = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{name}-", tag)
    tag = re.sub(r"font: ([^;\"]*?px) [^;\"]*", r"font: \1 var(--sans)", tag)
    return re.sub("|".join(_IN_THE_PAGE), lambda m: _IN_THE_PAGE[m[0]], tag)


def _matplotlib(module: str) -> ModuleType:
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError("report", None, "needs matplotlib: pip install 'coe-gateway[train]'") from error
