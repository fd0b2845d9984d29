"""The prompts and experts that outcomes say something of, with what the router expected of them and chose."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from eval.metrics.routing import best_single, chosen_scores
from eval.routing.choices import best_choice
from experts.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.metrics.shapes import F64, I64, Bools
    from experts.types import ExpertId
    from routers.expert_facts import ExpertFacts
    from routers.judged import Judged
    from routers.outcomes import Outcomes


@dataclass(frozen=True, eq=False)
class Measured:
    """M prompts that some expert was run on, E experts that were run on some prompt.

    Shapes: experts (E,); scores, expected, neighbours (M, E), scores with NaN; active_params_b (E,) or None; costs_usd
    (M, E) or None; novel (M,); rows (M,) places among all prompts.
    """

    experts: tuple[ExpertId, ...]
    scores: F64
    expected: F64
    neighbours: F64
    active_params_b: F64 | None
    costs_usd: F64 | None
    novel: Bools
    rows: I64

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def choice(self) -> I64:
        """The router's expert of each prompt. Shapes: (M,) in 0..E-1."""
        return best_choice(self.expected, self.active_params_b)

    @cached_property
    def chosen(self) -> F64:
        """What it scored. Shapes: (M,), NaN where it was not run."""
        return chosen_scores(self.scores, self.choice)

    @cached_property
    def best_single(self) -> int:
        """The expert of the highest mean outcome on these very prompts."""
        return best_single(self.scores)


def measured(
    judged: Judged, outcomes: Outcomes, facts: Sequence[ExpertFacts] | None, novel: Bools
) -> tuple[Measured, tuple[ExpertId, ...]]:
    """What can be measured, and the experts that cannot: none of these prompts was put to them.

    Shapes: novel (N,).
    Raises: ValueError: the three differ in their prompts or experts, or their order. ConfigError: no outcome at all.
    """
    names = None if facts is None else tuple(fact.id for fact in facts)
    if len(judged) != len(outcomes) or judged.experts != outcomes.experts or names not in {None, outcomes.experts}:
        raise ValueError(f"{len(judged)} and {len(outcomes)} prompts, {judged.experts}, {outcomes.experts}, {names}")
    run = ~np.isnan(outcomes.scores)
    rows, asked = np.flatnonzero(run.any(axis=1)), np.flatnonzero(run.any(axis=0))
    if len(rows) == 0:
        raise ConfigError("outcomes", None, "no expert of the router has a score on these prompts")
    part = np.ix_(rows, asked)
    found = Measured(
        tuple(outcomes.experts[e] for e in asked),
        outcomes.scores[part].astype(np.float64),
        judged.qualities[part].astype(np.float64),
        judged.knn_qualities[part].astype(np.float64),
        None if facts is None else np.array([fact.active_params_b for fact in facts])[asked],
        None if outcomes.costs is None else outcomes.costs[part],
        novel[rows],
        rows,
    )
    if np.isnan(found.chosen).all():
        raise ConfigError("outcomes", None, "no prompt has the outcome of the expert that the router chooses for it")
    return found, tuple(name for e, name in enumerate(outcomes.experts) if e not in asked)
