"""When requests come: from the trace's start, at another mean rate, or only the first of them. The order stays."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from eval.simulation.arrival import Arrival, TraceRow
from experts.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Timed = TypeVar("Timed", TraceRow, Arrival)


def from_start(rows: Iterable[Timed]) -> tuple[Timed, ...]:
    """Sort by time, ties in the order given, and count the seconds from the first."""
    ordered = sorted(rows, key=lambda row: row.at_s)
    return tuple(replace(row, at_s=row.at_s - ordered[0].at_s) for row in ordered)


def mean_rate(rows: Sequence[Timed]) -> float:
    """Requests a second: gaps between requests over the time from the first to the last; 0 if there is no such time."""
    span_s = rows[-1].at_s - rows[0].at_s if rows else 0.0
    return (len(rows) - 1) / span_s if span_s > 0 else 0.0


def at_rate(rows: Sequence[Timed], rate_rps: float) -> tuple[Timed, ...]:
    """Stretch or compress time until the mean rate is `rate_rps`; what was a burst stays one.

    Fewer than two requests have no rate and stay as they are. Raises: ConfigError: the rate is not above 0, or the
    requests all come at one moment.
    """
    if not (rate_rps > 0 and math.isfinite(rate_rps)):
        raise ConfigError("rate_rps", rate_rps, "must be above 0")
    if len(rows) < 2:  # noqa: PLR2004 - one request has no gap
        return tuple(rows)
    now_rps = mean_rate(rows)
    if now_rps == 0:
        raise ConfigError("rate_rps", rate_rps, f"cannot be had: all {len(rows)} requests come at one moment")
    factor = now_rps / rate_rps
    return tuple(replace(row, at_s=row.at_s * factor) for row in rows)


def first_seconds(rows: Sequence[Timed], seconds: float) -> tuple[Timed, ...]:
    """Keep what comes before `seconds`."""
    return tuple(row for row in rows if row.at_s < seconds)
