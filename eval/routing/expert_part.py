"""Which experts the router chooses, what each is worth alone, and where the choice falls short."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eval.metrics.routing import chosen_costs, regrets
from eval.routing.document import ExpertPart, Regret
from eval.routing.drawing import fewer, known_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.metrics.intervals import Interval, Resampling
    from eval.metrics.shapes import I64
    from eval.routing.measured import Measured


def expert_parts(measured: Measured, how: Resampling) -> tuple[ExpertPart, ...]:
    """Every expert that was run, by falling share of the prompts, then in the router's order."""
    shares = np.bincount(measured.choice, minlength=len(measured.experts)) / len(measured)
    found = []
    for e in np.argsort(-shares, kind="stable").tolist():
        interval = known_interval(measured.scores[:, e], fewer(how))
        if interval is not None:
            active = None if measured.active_params_b is None else float(measured.active_params_b[e])
            found.append(ExpertPart(measured.experts[e], active, interval.estimate, interval, float(shares[e])))
    return tuple(found)


def regret_parts(measured: Measured, true: I64 | None, names: Sequence[str], how: Resampling) -> tuple[Regret, ...]:
    """The regret in each true category, the worst first. Shapes: true (M,) places in `names`, -1 where unknown."""
    if true is None:
        return ()
    ours = regrets(measured.scores, measured.choice)
    single = regrets(measured.scores, np.full(len(measured), measured.best_single))
    found = []
    for label in np.unique(true[true >= 0]).tolist():
        router = known_interval(ours[true == label], fewer(how))
        if router is not None:
            found.append(Regret(names[label], router, known_interval(single[true == label], fewer(how))))
    return tuple(sorted(found, key=lambda part: -part.router.estimate))


def spent_intervals(measured: Measured, how: Resampling) -> dict[str, Interval]:
    """What the choice spends: average_active_params_b and average_cost_usd, where these are known."""
    costs = {"average_active_params_b": measured.active_params_b, "average_cost_usd": measured.costs_usd}
    spent = {name: chosen_costs(cost, measured.choice) for name, cost in costs.items() if cost is not None}
    found = {name: known_interval(cost, how) for name, cost in spent.items()}
    return {name: interval for name, interval in found.items() if interval is not None}
