"""Quality against the share of strong calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eval.reporting.drawing import BLUE, GREEN, ORANGE, SOFT, plot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from eval.reporting.markup import Markup
    from eval.routing.document import SharePoint, TwoModelDocument


def share_curve_plot(document: TwoModelDocument, name: str) -> Markup:
    """The router's curve between random and perfect, with RouteLLM's ten thresholds and both CPTs."""

    def paint(axes: Axes) -> None:
        ends = [document.weak_quality, document.strong_quality]
        axes.plot([0, 1], ends, color=SOFT, linestyle=(0, (4, 3)), linewidth=1, label="random")
        axes.plot(*_columns(document.perfect_curve), color=GREEN, linewidth=1.4, linestyle="-.", label="perfect")
        axes.plot(*_columns(document.curve), color=BLUE, linewidth=2, label="router")
        axes.scatter(*_columns(document.routellm_curve), color=ORANGE, s=20, zorder=3, label="RouteLLM's thresholds")
        for share, x in ((document.cpt50, 0.5), (document.cpt80, 0.8)):
            quality = (1 - x) * ends[0] + x * ends[1]
            axes.plot([share], [quality], marker="D", color=BLUE, markersize=7)
            axes.annotate(f"CPT({x:.0%})", (share, quality), xytext=(8, -9), textcoords="offset points", va="center")
        axes.set(xlim=(-0.01, 1.02), xlabel=f"share of calls to {document.strong}"[:60], ylabel="quality")
        axes.legend(loc="upper center", bbox_to_anchor=(0.45, -0.16), ncols=4, columnspacing=1.0, handletextpad=0.5)

    label = f"Quality against the share of strong calls: APGR {document.apgr:.3f}, 0.5 is random"
    caption = "Quality as more prompts go to the strong model, those first that the router scores highest."
    return plot(f"{name}-shares", label, caption, paint, height=340.0)


def _columns(points: Sequence[SharePoint]) -> tuple[list[float], list[float]]:
    return [point.strong_share for point in points], [point.quality for point in points]
