"""Quality against active parameters: the router, the experts alone, the baselines and the budgets in one picture."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from eval.reporting.drawing import BLUE, GREEN, INK, ORANGE, PURPLE, SOFT, plot
from eval.reporting.label_places import label_places

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from matplotlib.axes import Axes

    from eval.reporting.markup import Markup
    from eval.routing.document import Curve, RoutingDocument

_BASELINES: Final[Mapping[str, tuple[str, str]]] = {  # name -> what it is called here, its marker
    "random": ("random", "x"),
    "knn": ("nearest neighbours", "^"),
    "category_oracle": ("best per category", "v"),
}
_LABEL_SIZE: Final = 9.5
_NAME_CHARS: Final = 30
_STEPS: Final = 24  # of each line of a hull


def frontier_plot(document: RoutingDocument, routed: Curve, zero: Curve, name: str) -> Markup:
    """Draw both curves and all that lies beside them; costs that span a factor of four are on a logarithmic axis."""

    def paint(axes: Axes) -> None:
        costs = [point.average_active_params_b for point in (*zero.points, *routed.points)]
        if max(costs) > 4 * min(costs):
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:.0e}"[0] in "235" else "")
        axes.plot(*_mixes(zero), color=ORANGE, linewidth=1.6, linestyle="--", label="experts, mixed")
        axes.scatter(*_columns(zero), color=ORANGE, s=18, label="single experts")
        axes.plot(*_columns(routed), color=BLUE, linewidth=1, alpha=0.5)
        axes.plot(*_mixes(routed), color=BLUE, linewidth=2, label="router")
        _budgets(axes, document)
        _others(axes, document)
        axes.set(xlabel="average active parameters, billions", ylabel="quality")
        axes.legend(loc="upper center", bbox_to_anchor=(0.45, -0.14), ncols=3, columnspacing=1.2, handletextpad=0.5)
        _label_experts(axes, document, routed, zero)

    label = (
        f"Quality against active parameters: router from {routed.points[0].quality:.3f} to "
        f"{routed.points[-1].quality:.3f}, {len(zero.points)} single experts"
    )
    caption = (
        "Solid: the router at rising budgets (bold: its upper hull). Dashed: the best mixes of single experts that do "
        "not look at the prompt. Bars: intervals at the budgets. Experts without a label are in the table of experts, "
        "the best expert of every prompt is in that of baselines."
    )
    return plot(f"{name}-frontier", label, caption, paint, height=430.0)


def _columns(curve: Curve) -> tuple[list[float], list[float]]:
    return [point.average_active_params_b for point in curve.points], [point.quality for point in curve.points]


def _mixes(curve: Curve) -> tuple[list[float], list[float]]:
    """The hull in small steps: what mixes reach is a line of cost, and so a bow on a logarithmic axis."""
    corners = [curve.points[i] for i in curve.hull]
    knots, heights = [c.average_active_params_b for c in corners], [c.quality for c in corners]
    between = [np.linspace(low, high, _STEPS, endpoint=False) for low, high in pairwise(knots)]
    costs = np.concatenate([*between, knots[-1:]])
    return costs.tolist(), np.interp(costs, knots, heights).tolist()


def _budgets(axes: Axes, document: RoutingDocument) -> None:
    budgets = list((document.budgets or {}).values())
    for i, budget in enumerate(budgets):
        interval, label, cost = budget.interval, "budgets" if i == 0 else "", budget.average_active_params_b
        axes.plot([cost, cost], [interval.low, interval.high], color=GREEN, linewidth=1.6)
        axes.scatter(cost, budget.quality, color=GREEN, marker="s", s=34, zorder=4, label=label)


def _others(axes: Axes, document: RoutingDocument) -> None:
    for key, (label, marker) in _BASELINES.items():
        baseline = document.baselines.get(key)
        if baseline is not None and baseline.average_active_params_b is not None:
            axes.scatter(
                baseline.average_active_params_b, baseline.quality, color=PURPLE, marker=marker, s=52, label=label
            )
    if document.average_active_params_b is not None:
        axes.scatter(
            document.average_active_params_b,
            document.quality,
            facecolor="none",
            edgecolor=INK,
            s=90,
            zorder=5,
            label="no budget",
        )


def _label_experts(axes: Axes, document: RoutingDocument, routed: Curve, zero: Curve) -> None:
    """Name the experts where a name fits, those on the hull first."""
    canvas = axes.get_figure(root=True)
    if canvas is None:
        return
    canvas.draw_without_rendering()  # places are known from here on
    order = [zero.points[i] for i in zero.hull[::-1]]
    order += [point for i, point in enumerate(zero.points) if i not in zero.hull]
    at = [(point.average_active_params_b, point.quality) for point in order]
    names = [(point.expert or "")[:_NAME_CHARS] for point in order]
    drawn = _on_canvas(axes, [*_drawn(document, routed, zero)])
    frame = axes.get_window_extent()
    labels = list(zip(_on_canvas(axes, at), names, strict=True))
    for i, dx, dy in label_places(labels, drawn, (frame.x0, frame.y0, frame.x1, frame.y1), _LABEL_SIZE):
        axes.annotate(
            names[i],
            at[i],
            xytext=(dx, dy),
            textcoords="offset points",
            ha="center" if dx == 0 else "left" if dx > 0 else "right",
            va="center",
            fontsize=_LABEL_SIZE,
            color=INK if i < len(zero.hull) else SOFT,
        )


def _on_canvas(axes: Axes, points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in axes.transData.transform(points)]


def _drawn(document: RoutingDocument, routed: Curve, zero: Curve) -> Iterator[tuple[float, float]]:
    """Where something is drawn that a name must not cover."""
    yield from ((point.average_active_params_b, point.quality) for point in (*zero.points, *routed.points))
    yield from ((b.average_active_params_b, b.quality) for b in (document.budgets or {}).values())
    for key in _BASELINES:
        baseline = document.baselines.get(key)
        if baseline is not None and baseline.average_active_params_b is not None:
            yield baseline.average_active_params_b, baseline.quality
    for curve in (zero, routed):
        yield from zip(*_mixes(curve), strict=True)
