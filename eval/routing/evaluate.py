"""A trained router on prompts whose outcomes are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eval.routing.baselines import baselines
from eval.routing.budgets import spending
from eval.routing.category_part import category_intervals, category_part, labelled_rows, novel_accuracy
from eval.routing.document import RoutingDocument
from eval.routing.drawing import gain_interval, known_interval
from eval.routing.expert_part import expert_parts, regret_parts, spent_intervals
from eval.routing.measured import measured as measured_part
from eval.routing.novelty import novel_mask, novel_routing, repeated_text_ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.metrics.intervals import Interval, Resampling
    from eval.metrics.shapes import I64
    from eval.routing.budgets import Spending
    from eval.routing.category_part import LabelledRows
    from eval.routing.measured import Measured
    from routers.expert_facts import ExpertFacts
    from routers.judged import Judged
    from routers.outcomes import Outcomes


def evaluate_routing(
    judged: Judged,
    outcomes: Outcomes,
    facts: Sequence[ExpertFacts] | None,
    *,
    active_budgets: Sequence[float],
    how: Resampling,
    abstain_below: float = 0.0,
) -> RoutingDocument:
    """Measure a router's categories, its choice of experts, and its quality under budgets of active parameters.

    The three have their experts in one order (`outcomes.only`, `match`). Without facts there are no budgets and no
    AIQ. Experts that none of these prompts was put to are left out of everything, also of what the router may choose.
    Raises: ConfigError: a budget is below the smallest expert, or no choice has an outcome. ValueError: the arguments
    do not fit together.
    """
    novel = novel_mask(judged.nearest)
    measured, unasked = measured_part(judged, outcomes, facts, novel)
    labelled = labelled_rows(judged.probabilities, judged.categories, outcomes.categories)
    true = None if labelled is None else _true_categories(labelled, measured, len(judged))
    predicted = judged.probabilities[measured.rows].argmax(axis=1) if judged.categories else None
    spent = None
    if measured.active_params_b is not None:
        spent = spending(measured, measured.active_params_b, active_budgets, how)
    accuracy = novel_accuracy(labelled, novel, how)
    novel_only, novel_intervals = novel_routing(measured, int(novel.sum()), accuracy, how)
    intervals = _intervals(measured, labelled, spent, how) | novel_intervals
    estimate = {name: interval.estimate for name, interval in intervals.items()}
    gain = intervals.get("paired_gain")
    return RoutingDocument(
        n=len(judged),
        category_accuracy=estimate.get("category_accuracy"),
        category_ece=estimate.get("category_ece"),
        macro_f1=estimate.get("macro_f1"),
        nll=estimate.get("nll"),
        brier=estimate.get("brier"),
        aurc=estimate.get("aurc"),
        quality=estimate["quality"],
        best_single_quality=estimate["best_single_quality"],
        best_single=measured.experts[measured.best_single],
        paired_gain=estimate.get("paired_gain"),
        paired_gain_ci=None if gain is None else (gain.low, gain.high),
        novel_only=novel_only,
        aiq=estimate.get("aiq"),
        zero_router_aiq=estimate.get("zero_router_aiq"),
        budgets=None if spent is None else spent.budgets,
        average_active_params_b=estimate.get("average_active_params_b"),
        average_cost_usd=estimate.get("average_cost_usd"),
        scored_n=len(measured),
        known_ratio=float(np.mean(~np.isnan(measured.chosen))),
        near_duplicate_ratio=float(1 - novel.mean()),
        repeated_text_ratio=repeated_text_ratio(outcomes.texts),
        unasked=unasked,
        baselines=baselines(measured, predicted, true, how),
        experts=expert_parts(measured, how),
        regrets=() if labelled is None else regret_parts(measured, true, labelled.names, how),
        categories=None if labelled is None else category_part(labelled, abstain_below),
        routed_curve=None if spent is None else spent.routed,
        zero_router_curve=None if spent is None else spent.zero,
        intervals=intervals,
        resampling=how,
    )


def _intervals(
    measured: Measured, labelled: LabelledRows | None, spent: Spending | None, how: Resampling
) -> dict[str, Interval]:
    return {
        **({} if labelled is None else category_intervals(labelled, how)),
        **_quality_intervals(measured, how),
        **spent_intervals(measured, how),
        **({} if spent is None else spent.intervals),
    }


def _quality_intervals(measured: Measured, how: Resampling) -> dict[str, Interval]:
    single = measured.scores[:, measured.best_single]
    found = {
        "quality": known_interval(measured.chosen, how),
        "best_single_quality": known_interval(single, how),
        "paired_gain": gain_interval(measured.chosen, single, how),
    }
    return {name: interval for name, interval in found.items() if interval is not None}


def _true_categories(labelled: LabelledRows, measured: Measured, n: int) -> I64:
    """The true category of each measured prompt, -1 where it has none. Shapes: (M,)."""
    everywhere = np.full(n, -1, np.int64)
    everywhere[labelled.rows] = labelled.truth
    return everywhere[measured.rows]
