"""How far a number would move on other prompts: bootstrap intervals over prompts, paired and stratified."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from eval.metrics.shapes import F64, I64, Floats, Ints, vectors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_DRAWS_AT_ONCE: Final = 1_000_000
_ROUNDING: Final = 1e-12
_NORMAL: Final = NormalDist()


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate from n prompts with the bounds of its interval."""

    estimate: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Resampling:
    """How to draw. The same seed on the same n and strata draws the same prompts, for every number of a report."""

    resamples: int = 10_000
    level: float = 0.95
    seed: int = 0
    method: Literal["percentile", "bca"] = "percentile"

    def __post_init__(self) -> None:
        if self.resamples < 1:
            raise ValueError(f"resamples {self.resamples} is below 1")
        if not 0 < self.level < 1:
            raise ValueError(f"level {self.level} is not in (0, 1)")


PERCENTILE: Final = Resampling()


def mean_interval(values: Floats, strata: Ints | None = None, how: Resampling = PERCENTILE) -> Interval:
    """The mean of the known values with its bootstrap interval.

    With strata, each keeps its number of prompts in every resample: the interval then says nothing about other mixes
    of categories.
    Shapes: values (N,), NaN = unknown and left out; strata (N,).
    Raises: ValueError: the two shapes differ, or no value is known.
    Source: Efron (1979), percentile; Efron (1987), BCa, its acceleration from the influence of each value.
    """
    groups = np.zeros(values.shape, np.int64) if strata is None else strata
    vectors(values=values, strata=groups)
    known = ~np.isnan(values)
    if not known.any():
        raise ValueError(f"values {values.shape}: none is known")
    sample: F64 = values[known].astype(np.float64)
    groups = groups[known]
    estimate = float(sample.mean())
    around = sample - estimate  # so that equal values have an interval of no width
    means = np.concatenate([around[rows].mean(axis=1) for rows in _resamples(groups, how)])
    low, high = np.quantile(means, _bca_tails(means, around, groups, how) if how.method == "bca" else _tails(how))
    return Interval(estimate, estimate + float(low), estimate + float(high), len(sample))


def paired_interval(
    ours: Floats, baseline: Floats, strata: Ints | None = None, how: Resampling = PERCENTILE
) -> Interval:
    """The mean of ours - baseline with its bootstrap interval, over the prompts where both are known.

    The two sides come from `routing.chosen_scores` of two choices, or from any other per-prompt outcome.
    Shapes: ours (N,), baseline (N,), NaN = unknown; strata (N,).
    Raises: ValueError: the shapes differ, or no prompt is known on both sides.
    Source: paired bootstrap, Efron (1979).
    """
    vectors(ours=ours, baseline=baseline)
    return mean_interval(ours.astype(np.float64) - baseline, strata, how)


def statistic_interval(
    statistic: Callable[[I64], float], n: int, strata: Ints | None = None, how: Resampling = PERCENTILE
) -> Interval:
    """Any statistic of a set of prompts with its percentile interval: ECE, AUROC, APGR, AIQ.

    `statistic` gets the rows of a resample and is called `how.resamples` + 1 times, first with every row once; 1000 are
    usually enough. Stratify by whatever it cannot do without, e.g. the positive class for AUROC. A statistic that is
    biased on repeated rows, as ECE is (upwards), has a biased interval too, which may leave the estimate outside.
    Shapes: rows (N,) -> float; strata (N,).
    Raises: ValueError: strata differ from n, n is below 1, BCa is asked for, or whatever the statistic raises.
    Source: Efron (1979), percentile.
    """
    groups = np.zeros(n, np.int64) if strata is None else strata
    vectors(rows=np.arange(n), strata=groups)
    if how.method == "bca":
        raise ValueError("method 'bca' is for means; statistic_interval takes 'percentile'")
    estimate = statistic(np.arange(n))
    values = [statistic(resample) for rows in _resamples(groups, how) for resample in rows]
    low, high = np.quantile(values, _tails(how))
    return Interval(estimate, float(low), float(high), n)


def _resamples(groups: Ints, how: Resampling) -> Iterator[I64]:
    """Rows drawn with replacement inside each group. Shapes: groups (N,) -> blocks (R, N), R adding up to resamples."""
    rng = np.random.default_rng(how.seed)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    at_once = max(1, _DRAWS_AT_ONCE // len(groups))
    for start in range(0, how.resamples, at_once):
        size = min(at_once, how.resamples - start)
        yield np.hstack([rows[rng.integers(0, len(rows), (size, len(rows)), np.int32)] for rows in members])


def _tails(how: Resampling) -> tuple[float, float]:
    return (1 - how.level) / 2, (1 + how.level) / 2


def _bca_tails(means: F64, around: F64, groups: Ints, how: Resampling) -> tuple[float, float]:
    """The quantiles of the resampled means that correct their bias and skewness. `means` are around the estimate."""
    _, group = np.unique(groups, return_inverse=True)
    influence = around - (np.bincount(group, weights=around) / np.bincount(group))[group]
    rounding, largest = _ROUNDING * float(np.abs(around).max()), float(np.abs(influence).max())
    if largest <= rounding:
        return _tails(how)
    influence /= largest
    acceleration = float(np.sum(influence**3)) / (6 * float(np.sum(influence**2)) ** 1.5)
    below = (np.count_nonzero(means < -rounding) + np.count_nonzero(means <= rounding)) / (2 * len(means))
    bias = _NORMAL.inv_cdf(float(np.clip(below, 1 / (2 * len(means)), 1 - 1 / (2 * len(means)))))
    low, high = (_shifted(bias, acceleration, tail) for tail in _tails(how))
    return low, high


def _shifted(bias: float, acceleration: float, tail: float) -> float:
    moved = bias + _NORMAL.inv_cdf(tail)
    return _NORMAL.cdf(bias + moved / (1 - acceleration * moved))
