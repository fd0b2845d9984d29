"""Plots of the global step: is a confidence what it says, and what does abstaining save."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eval.reporting.drawing import BLUE, ORANGE, SOFT, plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from eval.reporting.markup import Markup
    from eval.routing.document import CategoryPart

FEW_POINTS = 40  # below it single points are seen, above it a line


def reliability_plot(part: CategoryPart, name: str) -> Markup:
    """Accuracy against confidence, one point a bin, its area and its number by its prompts."""
    most = max(row.n for row in part.reliability)

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=SOFT, linestyle=(0, (4, 3)), linewidth=1)
        confidence, accuracy = [row.confidence for row in part.reliability], [row.accuracy for row in part.reliability]
        axes.plot(confidence, accuracy, color=BLUE, linewidth=1, alpha=0.6)
        axes.scatter(confidence, accuracy, s=[12 + 150 * row.n / most for row in part.reliability], color=BLUE)
        for row in part.reliability:
            below = row.accuracy > 0.12  # noqa: PLR2004  room for a line of text
            axes.annotate(
                str(row.n),
                (row.confidence, row.accuracy),
                xytext=(0, -9 if below else 9),
                textcoords="offset points",
                ha="center",
                va="top" if below else "bottom",
                fontsize=9,
            )
        axes.set(xlim=(0, 1.08), ylim=(0, 1.04), xlabel="confidence", ylabel="accuracy")

    label = f"Reliability diagram, {len(part.reliability)} bins over {part.n} prompts"
    caption = "Accuracy at each confidence, with the prompts of each bin. Dashed: where a confidence is what it says."
    return plot(f"{name}-reliability", label, caption, paint)


def coverage_plot(part: CategoryPart, name: str) -> Markup:
    """Error rate against the share of prompts that are answered."""

    def paint(axes: Axes) -> None:
        coverage, risk = [point.coverage for point in part.coverage_risk], [point.risk for point in part.coverage_risk]
        axes.plot(coverage, risk, color=BLUE, linewidth=1.8, marker="o" if len(risk) < FEW_POINTS else "", markersize=3)
        if part.abstain_below > 0 and part.covered_accuracy is not None:
            axes.plot([part.coverage_ratio], [1 - part.covered_accuracy], color=ORANGE, marker="D", markersize=7)
            axes.annotate(
                f"abstaining below {part.abstain_below:g}",
                (part.coverage_ratio, 1 - part.covered_accuracy),
                xytext=(-9, 6),
                textcoords="offset points",
                ha="right",
            )
        axes.set(xlim=(0, 1.02), ylim=(0, max(0.01, *risk) * 1.15), xlabel="coverage", ylabel="error rate")

    label = f"Coverage-risk curve over {part.n} prompts, error rate {part.coverage_risk[-1].risk:.3f} at full coverage"
    caption = "Error rate among the most confident prompts, by the share of prompts that these are."
    return plot(f"{name}-coverage", label, caption, paint)
