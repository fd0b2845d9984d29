"""The frontier as a picture: what each budget buys, with the single experts beside it."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Final

from experts.errors import ConfigError
from routers.row_files import whole_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.transforms import Bbox

    from eval.mapping.document import MappingDocument

# Okabe and Ito's colours: told apart by the colour-blind, and by shape and shade besides.
_BLUE, _ORANGE, _GREY, _BLACK = "#0072B2", "#D55E00", "#8C8C8C", "#1A1A1A"
_SIZE_IN: Final = (9.0, 5.5)
_DPI: Final = 150
_POINT_PX: Final = 4.0  # what a drawn point takes to each side, while names are placed
_LEADER_FROM_PT: Final = 14.0  # a name farther off than this gets a line to its point
_LOG_FROM: Final = 8.0  # a range of budgets wider than this is drawn in logarithms
_AXES: Final = {
    "total_params_b": "parameters of all hosted experts (billions)",
    "average_active_params_b": "average active parameters per request (billions)",
    "average_cost": "average cost per request (USD)",
    "average_latency_s": "average latency per request (s)",
}
_FORMATS: Final = (".svg", ".png")
# Where a label may stand around its point, in points of type, best first: shift and alignment.
_PLACES: Final = tuple(
    (dx * way, dy * way, ha, va)
    for way in (1.0, 2.2, 3.6, 5.2)
    for dx, dy, ha, va in (
        (6, 0, "left", "center"), (-6, 0, "right", "center"), (0, -8, "center", "top"), (0, 8, "center", "bottom"),
        (5, -7, "left", "top"), (5, 7, "left", "bottom"), (-5, -7, "right", "top"), (-5, 7, "right", "bottom"),
    )
)  # fmt: skip


def refuse_plot(path: Path) -> None:
    """Let a file pass that can be drawn. Raises: ConfigError: its name ends otherwise, or matplotlib is missing."""
    if path.suffix not in _FORMATS:
        raise ConfigError("plot", str(path), f"must end in {' or '.join(_FORMATS)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("plot", str(path), "needs matplotlib, which the extra `train` installs")


def write_plot(path: Path, document: MappingDocument) -> None:
    """Draw a document that has a frontier: a whole file or none. Raises: ConfigError: as `refuse_plot`."""
    refuse_plot(path)
    import matplotlib as mpl  # noqa: PLC0415 - of the extra `train`: everything else does without
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    # names stay text in an SVG, and equal documents make equal files
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "coe", "font.size": 9}), whole_file(path) as file:
        figure = Figure(figsize=_SIZE_IN, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        named = _draw(axes, document)
        figure.draw_without_rendering()  # names are placed on the finished layout
        _label(axes, named, canvas.get_renderer())  # type: ignore[no-untyped-call]
        kind = path.suffix.removeprefix(".")
        figure.savefig(file, format=kind, dpi=_DPI, metadata={"Date": None} if kind == "svg" else None)


def _draw(axes: Axes, document: MappingDocument) -> list[tuple[str, float, float]]:
    """Draw everything but names; the points to name are returned, the best first."""
    frontier = document.frontier
    if frontier is None:
        raise ValueError("a document without a frontier has nothing to draw")
    budgets = [point.budget for point in frontier.points]
    values = [point.mapping.worth.value for point in frontier.points]
    at = [(expert.figures[frontier.key], expert.value) for expert in document.experts]
    widest = max([*budgets, *(x for x, _ in at)])
    axes.step([*budgets, widest], [*values, values[-1]], where="post", color=_BLUE, linewidth=1.6, zorder=2)
    axes.plot(budgets, values, "o", color=_BLUE, markersize=4, label="best mapping under the budget", zorder=3)
    axes.plot(*zip(*at, strict=True), "s", color=_ORANGE, markersize=5, markeredgecolor="white", markeredgewidth=0.6,
              linestyle="none", label="one expert for everything", zorder=4)  # fmt: skip
    if frontier.key in document.budgets:
        here = document.mapping.totals[frontier.key], document.mapping.worth.value
        label = f"this mapping, at most {document.budgets[frontier.key]:g}"
        axes.plot(*here, "*", color=_BLACK, markersize=13, markeredgecolor="white", label=label, zorder=5)
    least = min([*budgets, *(x for x, _ in at)])
    if least > 0 and widest / least > _LOG_FROM:
        _logarithmic(axes)
    axes.set_xlabel(_AXES[frontier.key])
    axes.set_ylabel("expected win rate")
    axes.margins(0.07)
    axes.grid(visible=True, color="#E5E5E5", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False)
    named = sorted(document.experts, key=lambda expert: -expert.value)
    return [(expert.expert, expert.figures[frontier.key], expert.value) for expert in named]


def _logarithmic(axes: Axes) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter  # noqa: PLC0415 - as above

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _label(axes: Axes, named: Sequence[tuple[str, float, float]], renderer: RendererAgg) -> None:
    """Name the points, the best first, each where it covers nothing; one that finds no place stays unnamed."""
    from matplotlib.text import Text  # noqa: PLC0415 - as above

    taken = list(_marks(axes, _POINT_PX))
    if (legend := axes.get_legend()) is not None:
        taken.append(legend.get_window_extent())
    for name, x, y in named:
        for dx, dy, ha, va in _PLACES:
            far = abs(dx) + abs(dy) > _LEADER_FROM_PT
            note = axes.annotate(
                name, (x, y), (dx, dy), textcoords="offset points", ha=ha, va=va,
                fontsize=7.5, color=_BLACK, parse_math=False, zorder=6,
                arrowprops={"arrowstyle": "-", "color": _GREY, "linewidth": 0.5, "shrinkB": 3} if far else None,
            )  # fmt: skip
            note.update_positions(renderer)
            box = Text.get_window_extent(note)  # the annotation's own would count its leader
            if _within(box, axes.bbox) and not any(box.overlaps(other) for other in taken):
                taken.append(box.padded(_POINT_PX, 0))
                break
            note.remove()


def _marks(axes: Axes, pad: float) -> Iterator[Bbox]:
    """What no label may cover: the drawn points, and the lines between them."""
    from matplotlib.transforms import Bbox  # noqa: PLC0415 - as above

    for line in axes.lines:
        corners = axes.transData.transform(line.get_xydata())
        ends = corners if line.get_linestyle() == "None" else corners[1:]
        for (x0, y0), (x1, y1) in zip(corners, ends, strict=False):
            for (left, low), (right, high) in (((x0, y0), (x1, y0)), ((x1, y0), (x1, y1))):  # along, then up
                yield Bbox.from_extents(left - pad, min(low, high) - pad, right + pad, max(low, high) + pad)


def _within(box: Bbox, frame: Bbox) -> bool:
    return bool(frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1)
