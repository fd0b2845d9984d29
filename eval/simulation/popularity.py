"""How often each expert is asked for: by Zipf's law, and changing over time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from experts.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.metrics.shapes import F64


@dataclass(frozen=True, slots=True)
class Drift:
    """Every `every_s` the ranks change hands: each expert takes the rank above its own, or a drawn one.

    The first expert goes to the last rank when ranks rotate. Raises: ConfigError: the time is not above 0.
    """

    every_s: float
    how: Literal["rotate", "redraw"] = "rotate"

    def __post_init__(self) -> None:
        if not self.every_s > 0:
            raise ConfigError("drift.every_s", self.every_s, "must be above 0")


def zipf_shares(experts: int, exponent: float) -> F64:
    """The share of each rank, most popular first: 1 / rank ** exponent; 0 makes all equal.

    Shapes: -> (experts,), falling, sum 1.
    """
    weights = np.arange(1, experts + 1, dtype=np.float64) ** -exponent
    return np.asarray(weights / weights.sum(), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Ranks:
    """Which expert has which rank at a time. Without drift expert 0 is first for ever."""

    experts: int
    drift: Drift | None = None
    seed: int = 0
    _drawn: dict[int, Sequence[int]] = field(default_factory=dict, repr=False, compare=False)

    def expert(self, rank: int, at_s: float) -> int:
        """The expert of a rank, from 0, at `at_s`."""
        if self.drift is None:
            return rank
        period = int(at_s // self.drift.every_s)
        if self.drift.how == "rotate":
            return (rank + period) % self.experts
        return self._order(period)[rank]

    def _order(self, period: int) -> Sequence[int]:
        if period not in self._drawn:
            rng = np.random.default_rng([self.seed, period])
            self._drawn[period] = range(self.experts) if period == 0 else rng.permutation(self.experts).tolist()
        return self._drawn[period]
