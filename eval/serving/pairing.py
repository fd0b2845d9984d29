"""How rounds become figures: differences and ratios inside a round first, then the median with its range."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class Spread:
    """The median over rounds, with the lowest and the highest round."""

    median: float
    low: float
    high: float


def spread(values: Iterable[float | None]) -> Spread | None:
    """Summarise one value per round; rounds without a value are left out, None when none has one."""
    known = [value for value in values if value is not None]
    return Spread(median(known), min(known), max(known)) if known else None


def paired_ratios(values: Mapping[int, float | None], baseline: Mapping[int, float | None]) -> dict[int, float | None]:
    """Divide, round by round, by the baseline of the same round; a round without either, or with 0, has no ratio."""
    return {number: over(value, baseline.get(number)) for number, value in values.items()}


def minus(value: float | None, baseline: float | None) -> float | None:
    """Subtract where both are known."""
    return None if value is None or baseline is None else value - baseline


def over(value: float | None, baseline: float | None) -> float | None:
    """Divide where both are known and the divisor is not 0."""
    return None if value is None or not baseline else value / baseline
