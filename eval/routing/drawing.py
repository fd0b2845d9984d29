"""Intervals as the documents have them: means over every resample, costlier statistics over a thousand at most."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from eval.metrics.intervals import mean_interval, paired_interval

if TYPE_CHECKING:
    from eval.metrics.intervals import Interval, Resampling
    from eval.metrics.shapes import Floats

STATISTIC_RESAMPLES: Final = 1000
CURVE_POINTS: Final = 200


def fewer(how: Resampling) -> Resampling:
    """The same drawing with at most a thousand resamples, by percentile: for statistics, and for the parts of a list.

    Source: `statistic_interval` takes no BCa, and calls its statistic once a resample.
    """
    return replace(how, method="percentile", resamples=min(how.resamples, STATISTIC_RESAMPLES))


def known_interval(values: Floats, how: Resampling) -> Interval | None:
    """The interval of the mean of the known values; None if none is known. Shapes: values (N,), NaN = unknown."""
    return None if np.isnan(values).all() else mean_interval(values, how=how)


def gain_interval(ours: Floats, theirs: Floats, how: Resampling) -> Interval | None:
    """The interval of the mean of ours - theirs over the prompts where both are known; None if there is none.

    Shapes: ours, theirs (N,), NaN = unknown.
    """
    return None if np.isnan(ours - theirs).all() else paired_interval(ours, theirs, how=how)


def evenly(count: int, most: int = CURVE_POINTS) -> list[int]:
    """At most `most` of the indices 0..count-1, evenly spaced, both ends among them. Raises: ValueError: most < 2."""
    if most < 2:  # noqa: PLR2004  two ends
        raise ValueError(f"most = {most}: a curve needs both its ends")
    return list(range(count)) if count <= most else np.linspace(0, count - 1, most).round().astype(int).tolist()
