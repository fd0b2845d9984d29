"""Plots as files, SVG or PNG, in a report's colours by day; matplotlib is imported when one is drawn."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Final

from eval.reporting.figure_style import figure_style
from experts.errors import ConfigError
from routers.row_files import whole_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from matplotlib.axes import Axes

INK, SOFT, RULE = "#1c2126", "#59636e", "#d5dade"
BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#c4500a", "#00805d", "#a3447a"
# What is drawn side by side is told apart by colour, by line and by mark: one of them is always seen.
STYLES: Final = (
    (BLUE, "-", "o"), (ORANGE, "--", "s"), (GREEN, "-.", "^"), (PURPLE, ":", "D"), (SOFT, "-", "v"), (INK, "--", "x"),
)  # fmt: skip
_FORMATS: Final = (".svg", ".png")
_SIZE_IN: Final = (7.2, 4.4)
_ROW_IN, _EDGES_IN = 1.3, 0.8  # of plots below one another
_DPI: Final = 150
_SETTINGS: Final = figure_style(INK, SOFT, RULE) | {
    "font.size": 10.0,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "legend.fontsize": 9.0,
}


def refuse_figures(option: str, value: str) -> None:
    """Let pass if something can be drawn. Raises: ConfigError: matplotlib is missing."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError(option, value, "needs matplotlib, which the extra `train` installs")


def write_figure(path: Path, *paints: Callable[[Axes], object]) -> None:
    """Draw plots, one below the other over one x axis: a whole file or none.

    Raises: ConfigError: the file's name ends otherwise, or matplotlib is missing.
    """
    if path.suffix not in _FORMATS:
        raise ConfigError("plot", str(path), f"must end in {' or '.join(_FORMATS)}")
    refuse_figures("plot", str(path))
    import matplotlib as mpl  # noqa: PLC0415 - of the extra `train`: everything else does without
    from matplotlib.figure import Figure  # noqa: PLC0415

    kind = path.suffix.removeprefix(".")
    with mpl.rc_context(_SETTINGS), whole_file(path) as file:
        height = _SIZE_IN[1] if len(paints) == 1 else _EDGES_IN + _ROW_IN * len(paints)
        figure = Figure(figsize=(_SIZE_IN[0], height), layout="constrained")
        rows = figure.subplots(len(paints), 1, sharex=True, squeeze=False)
        for paint, axes in zip(paints, rows[:, 0], strict=True):
            paint(axes)
        figure.savefig(file, format=kind, dpi=_DPI, metadata={"Date": None} if kind == "svg" else None)


def plain_logarithms(axes: Axes, axis: str) -> None:
    """Let an axis count in logarithms and say its numbers as they are."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter  # noqa: PLC0415 - as above

    axes.set(**{f"{axis}scale": "log"})
    scale = axes.xaxis if axis == "x" else axes.yaxis
    scale.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    scale.set_major_formatter(StrMethodFormatter("{x:g}"))
    scale.set_minor_formatter(NullFormatter())
