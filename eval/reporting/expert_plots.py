"""Bars: where the choice falls short, and whom it chooses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eval.reporting.drawing import BLUE, ORANGE, plot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from eval.reporting.markup import Markup
    from eval.routing.document import ExpertPart, Regret

MOST_BARS: Final = 30
_BAR_HEIGHT: Final = 19.0
_NAME_CHARS: Final = 26


def regret_plot(regrets: Sequence[Regret], name: str) -> Markup:
    """One bar a category with its interval, the best single expert as a diamond; the worst thirty."""
    shown = regrets[:MOST_BARS]

    def paint(axes: Axes) -> None:
        places = range(len(shown))
        values = [part.router.estimate for part in shown]
        lower = [max(0.0, part.router.estimate - part.router.low) for part in shown]
        upper = [max(0.0, part.router.high - part.router.estimate) for part in shown]
        axes.barh(places, values, color=BLUE, alpha=0.55, height=0.62, label="router")
        axes.errorbar(values, places, xerr=[lower, upper], fmt="none", color=BLUE, elinewidth=1.6, capsize=3)
        single = [(i, part.best_single.estimate) for i, part in enumerate(shown) if part.best_single is not None]
        axes.scatter([x for _, x in single], [i for i, _ in single], color=ORANGE, marker="D", s=26, zorder=3)
        _names(axes, [part.category for part in shown])
        axes.set(xlabel="regret")

    label = f"Regret by category, {len(shown)} of {len(regrets)}, worst first"
    caption = (
        "How far the chosen expert stays below the best one of each prompt, with intervals. "
        "Diamonds: the best single expert."
    )
    return plot(f"{name}-regret", label, caption, paint, _height(len(shown)))


def share_plot(experts: Sequence[ExpertPart], name: str) -> Markup:
    """One bar an expert that is chosen at all, the most frequent thirty."""
    chosen = [part for part in experts if part.chosen_ratio > 0]
    shown = chosen[:MOST_BARS]

    def paint(axes: Axes) -> None:
        axes.barh(range(len(shown)), [100 * part.chosen_ratio for part in shown], color=BLUE, alpha=0.8, height=0.62)
        for i, part in enumerate(shown):
            axes.annotate(
                f"{100 * part.chosen_ratio:.1f}%",
                (100 * part.chosen_ratio, i),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=10,
            )
        _names(axes, [part.id for part in shown])
        axes.set(xlabel="share of prompts, %", xlim=(0, 118 * shown[0].chosen_ratio))

    label = f"Share of prompts by expert: {len(chosen)} of {len(experts)} experts are chosen"
    return plot(f"{name}-share", label, f"{label}.", paint, _height(len(shown)))


def _height(bars: int) -> float:
    return 64.0 + _BAR_HEIGHT * max(bars, 2)


def _names(axes: Axes, names: Sequence[str]) -> None:
    cut = [name if len(name) <= _NAME_CHARS else name[: _NAME_CHARS - 1] + "…" for name in names]
    axes.set_yticks(range(len(names)), cut)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
