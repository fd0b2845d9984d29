"""Quality against active parameters: the router's curve, that of the experts alone, and both at given budgets."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from eval.metrics.frontier import aiq, frontier_range, mix_at, upper_hull, zero_router
from eval.metrics.intervals import statistic_interval
from eval.metrics.routing import single_qualities
from eval.routing.choices import at_budget, sweep
from eval.routing.document import Budget, Curve, CurvePoint
from eval.routing.drawing import fewer, gain_interval
from experts.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eval.metrics.frontier import Mix
    from eval.metrics.intervals import Interval, Resampling
    from eval.metrics.shapes import F64, I64
    from eval.routing.choices import Sweep
    from eval.routing.measured import Measured


class Spending(NamedTuple):
    """All that needs the experts' parameters. intervals: aiq, zero_router_aiq and their difference, aiq_gain."""

    intervals: dict[str, Interval]
    budgets: dict[str, Budget]
    routed: Curve
    zero: Curve


def spending(measured: Measured, active_params_b: F64, active_budgets: Sequence[float], how: Resampling) -> Spending:
    """Sweep the price of parameters. Both AIQs are over one range: the smallest expert to the best single one.

    The routed curve has one point a price, and its hull, as RouterBench defines AIQ, is found on these outcomes; a
    budget's weights are found without them.
    Shapes: active_params_b (E,).
    Raises: ConfigError: a budget is below the smallest expert, or given twice.
    """
    swept = sweep(measured.expected, active_params_b)
    keys = [f"{budget:g}" for budget in active_budgets]
    if len(set(keys)) < len(keys):
        raise ConfigError("active_budgets", ", ".join(keys), "a budget is given twice")
    return Spending(
        _aiq_intervals(measured.scores, active_params_b, swept, how),
        {
            key: _budget(measured.scores, active_params_b, swept, budget, how)
            for key, budget in zip(keys, active_budgets, strict=True)
        },
        _routed_curve(measured.scores, swept),
        _zero_curve(measured, active_params_b),
    )


def _budget(scores: F64, active_params_b: F64, swept: Sweep, budget: float, how: Resampling) -> Budget:
    mix = at_budget(swept, budget)
    zero = mix_at(*zero_router(scores, active_params_b), budget)
    ours, theirs = mix.of(swept.outcomes(scores)), zero.of(scores)
    interval, zero_interval = _mixed(swept.outcomes(scores), mix, how), _mixed(scores, zero, how)
    if interval is None or zero_interval is None:
        raise ConfigError("active_budgets", budget, "no prompt has the outcome of the experts chosen under it")
    return Budget(
        quality=interval.estimate,
        average_active_params_b=mix.cost,
        zero_router_quality=zero_interval.estimate,
        interval=interval,
        zero_router_interval=zero_interval,
        gain=gain_interval(ours, theirs, how),
    )


def _mixed(outcomes: F64, mix: Mix, how: Resampling) -> Interval | None:
    """The mix of the two points' means, each over the prompts that it is known on; None if one has none."""
    if np.isnan(outcomes[:, [mix.low, mix.high] if mix.share_high else [mix.low]]).all(axis=0).any():
        return None
    means = _ResampledMeans(outcomes[:, [mix.low, mix.high]])

    def of(rows: I64) -> float:
        low, high = means.of(rows)
        return float(low if mix.share_high == 0 else (1 - mix.share_high) * low + mix.share_high * high)

    return statistic_interval(of, len(outcomes), how=fewer(how))


def _aiq_intervals(scores: F64, active_params_b: F64, swept: Sweep, how: Resampling) -> dict[str, Interval]:
    cost_range = frontier_range(*zero_router(scores, active_params_b))
    ours, zero = _ResampledMeans(swept.outcomes(scores)), _ResampledMeans(scores)

    def routed(rows: I64) -> float:
        return aiq(*_known(swept.costs, ours.of(rows)), cost_range)

    def alone(rows: I64) -> float:
        return aiq(*_known(active_params_b, zero.of(rows)), cost_range)

    statistics: dict[str, Callable[[I64], float]] = {
        "aiq": routed,
        "zero_router_aiq": alone,
        "aiq_gain": lambda rows: routed(rows) - alone(rows),
    }
    return {name: statistic_interval(of, len(scores), how=fewer(how)) for name, of in statistics.items()}


class _ResampledMeans:
    """The column means of a matrix with gaps over any rows; a column unknown in all of them keeps its own mean."""

    def __init__(self, values: F64) -> None:
        known = ~np.isnan(values)
        self._known = None if known.all() else np.ascontiguousarray(known.T, np.float64)
        self._values = np.ascontiguousarray(np.nan_to_num(values).T)
        self._means = single_qualities(values)

    def of(self, rows: I64) -> F64:
        """Shapes: rows (R,) -> (K,), NaN in a column without any value."""
        times = np.bincount(rows, minlength=self._values.shape[1]).astype(np.float64)
        runs = np.full(len(self._values), times.sum()) if self._known is None else _weighted(self._known, times)
        return np.divide(_weighted(self._values, times), runs, out=self._means.copy(), where=runs > 0)


def _weighted(columns: F64, times: F64) -> F64:
    """Without BLAS, whose threads wait for each other at this size. Shapes: columns (K, N), times (N,) -> (K,)."""
    sums: F64 = np.einsum("kn,n->k", columns, times)
    return sums


def _known(costs: F64, qualities: F64) -> tuple[F64, F64]:
    known = ~np.isnan(qualities)
    return costs[known], qualities[known]


def _routed_curve(scores: F64, swept: Sweep) -> Curve:
    qualities = single_qualities(swept.outcomes(scores))
    known = np.flatnonzero(~np.isnan(qualities))[::-1]  # by rising cost
    columns = zip(swept.costs[known].tolist(), qualities[known].tolist(), swept.weights[known].tolist(), strict=True)
    return Curve(tuple(CurvePoint(*column) for column in columns), _hull(swept.costs[known], qualities[known]))


def _zero_curve(measured: Measured, active_params_b: F64) -> Curve:
    order = np.argsort(active_params_b, kind="stable")
    costs, qualities = active_params_b[order], single_qualities(measured.scores)[order]
    points = [
        CurvePoint(cost, quality, expert=measured.experts[e])
        for cost, quality, e in zip(costs.tolist(), qualities.tolist(), order.tolist(), strict=True)
    ]
    return Curve(tuple(points), _hull(costs, qualities))


def _hull(costs: F64, qualities: F64) -> tuple[int, ...]:
    return tuple(upper_hull(costs, qualities).tolist())
