"""The other ways to choose an expert that every router is laid beside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eval.metrics.routing import (
    average_active_params_b,
    category_map,
    chosen_scores,
    known_mean,
    oracle_choice,
    random_scores,
)
from eval.routing.choices import best_choice
from eval.routing.document import Baseline
from eval.routing.drawing import gain_interval, known_interval

if TYPE_CHECKING:
    from eval.metrics.intervals import Resampling
    from eval.metrics.shapes import F64, I64
    from eval.routing.measured import Measured


def baselines(measured: Measured, predicted: I64 | None, true: I64 | None, how: Resampling) -> dict[str, Baseline]:
    """Every baseline there is an outcome for; the two by category only where categories are given.

    best_single, category_map, category_oracle and query_oracle are chosen on these very prompts.
    Shapes: predicted, true (M,), an index of a category, -1 where there is none.
    """
    choices = {
        "best_single": np.full(len(measured), measured.best_single),
        "knn": best_choice(measured.neighbours, measured.active_params_b),
        "query_oracle": oracle_choice(measured.scores, measured.active_params_b),
    }
    for name, labels in (("category_map", predicted), ("category_oracle", true)):
        if labels is not None:
            choices[name] = _by_category(measured.scores, labels)
    found = {name: _chosen(measured, choice, how) for name, choice in choices.items()}
    found["random"] = _baseline(measured, random_scores(measured.scores), _random_params_b(measured), how)
    return {name: baseline for name, baseline in sorted(found.items()) if baseline is not None}


def _by_category(scores: F64, labels: I64) -> I64:
    groups = labels + 1  # those without a label are a group of their own
    return category_map(scores, groups, int(groups.max()) + 1)[groups]


def _chosen(measured: Measured, choice: I64, how: Resampling) -> Baseline | None:
    active = measured.active_params_b
    params_b = None if active is None else average_active_params_b(active, choice)
    return _baseline(measured, chosen_scores(measured.scores, choice), params_b, how)


def _baseline(measured: Measured, scored: F64, params_b: float | None, how: Resampling) -> Baseline | None:
    interval = known_interval(scored, how)
    if interval is None:
        return None
    return Baseline(known_mean(scored), interval, params_b, gain_interval(measured.chosen, scored, how))


def _random_params_b(measured: Measured) -> float | None:
    """Over the experts that were run on each prompt, as its score is."""
    if measured.active_params_b is None:
        return None
    run = ~np.isnan(measured.scores)
    return float(np.mean((run @ measured.active_params_b) / run.sum(axis=1)))
