"""What of a file the router may have seen before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from eval.metrics.routing import best_single
from eval.routing.document import NovelOnly
from eval.routing.drawing import gain_interval, known_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.metrics.intervals import Interval, Resampling
    from eval.metrics.shapes import Bools, Floats
    from eval.routing.measured import Measured

NOVEL_COSINE: Final = 0.9


def novel_mask(nearest: Floats) -> Bools:
    """Whether each prompt is unlike all that the router was fitted on: its nearest there is no closer than 0.9.

    Shapes: nearest (N,), cosines -> (N,).
    """
    unlike: Bools = nearest <= NOVEL_COSINE
    return unlike


def repeated_text_ratio(texts: Sequence[str]) -> float:
    """The share of texts that came before, but for spacing and letter case."""
    return 1 - len({" ".join(text.casefold().split()) for text in texts}) / len(texts) if texts else 0.0


def novel_routing(
    measured: Measured, n: int, accuracy: Interval | None, how: Resampling
) -> tuple[NovelOnly, dict[str, Interval]]:
    """The figures over novel prompts, their own best single expert included, and their intervals by name.

    n: novel prompts of the whole file. accuracy: of their categories.
    """
    found = {"category_accuracy": accuracy}
    scores, chosen = measured.scores[measured.novel], measured.chosen[measured.novel]
    single = None if np.isnan(scores).all() else best_single(scores)
    if single is not None:
        found["quality"] = known_interval(chosen, how)
        found["paired_gain"] = gain_interval(chosen, scores[:, single], how)
    gain = found.get("paired_gain")
    part = NovelOnly(
        n=n,
        category_accuracy=_estimate(accuracy),
        quality=_estimate(found.get("quality")),
        paired_gain=_estimate(gain),
        paired_gain_ci=None if gain is None else (gain.low, gain.high),
        best_single=None if single is None else measured.experts[single],
    )
    return part, {f"novel_only.{name}": interval for name, interval in found.items() if interval is not None}


def _estimate(interval: Interval | None) -> float | None:
    return None if interval is None else interval.estimate
