"""What every figure looks like, whatever its colours: in a page, or in a file of its own."""

from __future__ import annotations

from typing import Any


def figure_style(ink: str, soft: str, rule: str) -> dict[Any, Any]:  # matplotlib types its keys one by one
    """Matplotlib's settings in these colours."""
    return {
        "svg.fonttype": "none",  # text stays text
        "svg.hashsalt": "coe",  # equal figures, equal bytes
        "text.parse_math": False,  # a $ in a name is a $
        "axes.edgecolor": soft,
        "axes.labelcolor": ink,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": rule,
        "grid.linewidth": 0.7,
        "text.color": ink,
        "xtick.color": soft,
        "ytick.color": soft,
        "xtick.labelcolor": ink,
        "ytick.labelcolor": ink,
        "legend.frameon": False,
    }
