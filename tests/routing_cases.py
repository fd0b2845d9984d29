"""A router's opinion and what came of it, small enough to work out on paper."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from eval.metrics.intervals import Resampling
from experts.types import Category, ExpertId
from routers.expert_facts import ExpertFacts
from routers.judged import Judged
from routers.outcomes import Outcomes

FEW = Resampling(resamples=20)
ACTIVE = (2.0, 10.0, 4.0)
EXPECTED = [[0.6, 0.9, 0.1], [0.1, 0.5, 0.5], [0.2, 0.1, 0.8], [0.7, 0.6, 0.3]]  # chooses 1, 2 (smaller), 2, 0
NEIGHBOURS = [[0.1, 0.9, 0.2]] * 4
SCORES = [[1, 1, 0], [0, 0, 1], [0, 0, 1], [0, 1, math.nan]]  # experts alone: 1/4, 1/2, 2/3
PROBABILITIES = [[0.8, 0.2], [0.6, 0.4], [0.1, 0.9], [0.7, 0.3]]
NEAREST = [0.95, 0.5, 0.9, 0.2]


def floats(rows: object) -> np.ndarray:
    return np.asarray(rows, np.float32)


def experts(count: int = 3) -> tuple[ExpertId, ...]:
    return tuple(ExpertId(f"e{i}") for i in range(count))


def judged(
    expected: object = EXPECTED,
    probabilities: object = PROBABILITIES,
    nearest: object = NEAREST,
    neighbours: object | None = None,
    in_scope: object | None = None,
) -> Judged:
    qualities, classes = floats(expected), floats(probabilities)
    return Judged(
        tuple(map(Category, "abcdefgh"[: classes.shape[1]])),
        experts(qualities.shape[1]),
        classes,
        floats(nearest if in_scope is None else in_scope),
        floats(nearest),
        qualities,
        floats(NEIGHBOURS) if neighbours is None and qualities.shape == (4, 3) else qualities,
    )


def outcomes(
    scores: object = SCORES, categories: Sequence[str | None] = ("a", "a", "b", "b"), costs: object | None = None
) -> Outcomes:
    matrix = floats(scores)
    ids = tuple(f"p{i}" for i in range(len(matrix)))
    labels = tuple(None if label is None else Category(label) for label in categories)
    usd = None if costs is None else np.asarray(costs, np.float64)
    return Outcomes(ids, tuple(f"text {i}" for i in ids), labels, experts(matrix.shape[1]), matrix, usd)


def facts(active: Sequence[float] = ACTIVE) -> tuple[ExpertFacts, ...]:
    return tuple(ExpertFacts(id=f"e{i}", total_params_b=100, active_params_b=size) for i, size in enumerate(active))
