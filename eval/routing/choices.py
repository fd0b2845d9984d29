"""The local step as arithmetic: the expert of the best expected quality, and what a price on parameters changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eval.metrics.frontier import Mix, mixing_share
from eval.metrics.shapes import matrix_rows, no_nan
from eval.routing.drawing import evenly
from experts.errors import ConfigError

if TYPE_CHECKING:
    from eval.metrics.shapes import F64, I64, Floats


def best_choice(qualities: Floats, active_params_b: F64 | None) -> I64:
    """The expert of the highest expected quality: of equals the one with fewer active parameters, then the first.

    Shapes: qualities (N, E), active_params_b (E,) -> (N,) in 0..E-1.
    Raises: ValueError: an expectation is NaN.
    """
    _, experts = matrix_rows(qualities)
    no_nan(qualities=qualities.ravel())
    order = np.arange(experts) if active_params_b is None else np.argsort(active_params_b, kind="stable")
    chosen: I64 = order[qualities[:, order].argmax(axis=1)]
    return chosen


@dataclass(frozen=True, eq=False)
class Sweep:
    """The choices at K prices on active parameters, from the dearest choice (price 0) to the smallest expert.

    Shapes: weights (K,) rising, in quality per billion; choices (K, N); costs (K,) falling, in billions.
    """

    weights: F64
    choices: I64
    costs: F64

    def outcomes(self, scores: F64) -> F64:
        """What the choices scored. Shapes: scores (N, E) -> (N, K), NaN where the chosen expert was not run."""
        scored: F64 = scores[np.arange(len(scores))[:, None], self.choices.T]
        return scored


def sweep(qualities: F64, active_params_b: F64) -> Sweep:
    """Choose by quality - weight * active parameters, at every weight where a choice changes or evenly among these.

    The first point has weight 0; in the last every prompt has an expert of the fewest parameters, exactly. No outcome
    is used. At most 200 points, spaced by how many prompts move between them.
    Shapes: qualities (N, E), active_params_b (E,).
    """
    moves = _moves(qualities, active_params_b)
    between = (moves[1:] + moves[:-1]) / 2  # at a move itself the two experts are equal but for rounding
    weights = np.concatenate([[0.0], between, 2 * moves[-1:]])
    weights = weights[evenly(len(weights))]
    choices = np.array([best_choice(qualities - weight * active_params_b, active_params_b) for weight in weights])
    least = active_params_b.min()
    costs = least + (active_params_b[choices] - least).mean(axis=1)  # exact where every choice is the smallest
    kept = np.concatenate([[True], np.diff(costs) < 0])
    return Sweep(weights[kept], choices[kept], costs[kept])


def at_budget(swept: Sweep, budget: float) -> Mix:
    """Mix two neighbouring weights to a mean of `budget` billions; weight 0 alone where that costs no more.

    Costs are known beforehand, so no outcome is used: `quality` is NaN, to be had from `Mix.of` the outcomes.
    Raises: ConfigError: the budget is below the smallest expert.
    """
    if not budget >= swept.costs[-1]:
        raise ConfigError("active_budgets", budget, f"is below {swept.costs[-1]:g}, the smallest expert's parameters")
    if budget >= swept.costs[0]:
        return Mix(0, 0, 0.0, float(swept.costs[0]), float("nan"))
    low = int(np.argmax(swept.costs <= budget))
    high = low - 1
    share = mixing_share(float(swept.costs[low]), float(swept.costs[high]), budget)
    return Mix(low, high, share, float((1 - share) * swept.costs[low] + share * swept.costs[high]), float("nan"))


def _moves(qualities: F64, active_params_b: F64) -> F64:
    """Every weight at which some prompt moves to a smaller expert, rising. Shapes: -> (M,), M <= N (E - 1)."""
    rows, choice = np.arange(len(qualities)), best_choice(qualities, active_params_b)
    found: list[F64] = []
    while True:
        saved = active_params_b[choice][:, None] - active_params_b
        lost = qualities[rows, choice][:, None] - qualities
        weights = np.divide(lost, saved, out=np.full(lost.shape, np.inf), where=saved > 0)
        first = weights.min(axis=1)
        moving = np.isfinite(first)
        if not moving.any():
            return np.unique(np.concatenate([*found, np.zeros(0)]))
        found.append(first[moving])
        smallest = np.where(weights == first[:, None], active_params_b, np.inf).argmin(axis=1)
        choice = np.where(moving, smallest, choice)
