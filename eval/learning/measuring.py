"""An artifact measured on a file: its opinions, narrowed to the experts that both know."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from eval.routing.evaluate import evaluate_routing
from eval.routing.labels import evaluate_labels
from experts.errors import ConfigError
from routers.expert_facts import ExpertFacts, match

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eval.learning.learning_files import LabelKey, LearningFile
    from eval.metrics.intervals import Resampling
    from eval.metrics.shapes import F64
    from eval.routing.document import LabelsDocument, RoutingDocument
    from experts.types import ExpertId
    from routers.artifact import Artifact
    from routers.judged import Judged
    from routers.outcomes import Outcomes

    Judge = Callable[[Sequence[str]], Judged]


@dataclass(frozen=True)
class RoutingRequest:
    """What to measure. budgets: average active parameters, in billions."""

    budgets: tuple[float, ...]
    label: LabelKey
    how: Resampling


def measured_artifact(
    artifact: Artifact,
    source: LearningFile,
    facts: Sequence[ExpertFacts] | None,
    request: RoutingRequest,
    judge: Judge,
) -> tuple[RoutingDocument | LabelsDocument, tuple[ExpertId, ...]]:
    """The evaluation, and the experts of the file that the artifact does not know.

    Raises: ConfigError: they share no expert, or a budget cannot be kept.
    """
    abstain = artifact.manifest.abstain_below
    if source.outcomes is None:
        if source.labelled is None:
            raise ValueError("neither outcomes nor labels")
        labels = source.labels(request.label)
        found = evaluate_labels(judge(source.texts), source.labelled, labels, how=request.how, abstain_below=abstain)
        return found, ()
    shared = _shared(artifact, source.outcomes)
    left_out = tuple(expert for expert in source.outcomes.experts if expert not in shared)
    outcomes = source.outcomes.only(shared)
    document = evaluate_routing(
        narrowed(judge(outcomes.texts), shared),
        outcomes,
        _facts(artifact, outcomes, facts),
        active_budgets=request.budgets,
        how=request.how,
        abstain_below=abstain,
    )
    return document, left_out


def advantage(artifact: Artifact, outcomes: Outcomes, judge: Judge) -> F64:
    """By how much the artifact expects the second expert to beat the first. Shapes: -> (N,)."""
    shared = _shared(artifact, outcomes)
    if missing := [expert for expert in outcomes.experts if expert not in shared]:
        raise ConfigError("--artifact", artifact.manifest.name, f"does not know {', '.join(missing)}")
    judged = narrowed(judge(outcomes.texts), outcomes.experts)
    return (judged.qualities[:, 1] - judged.qualities[:, 0]).astype(np.float64)


def narrowed(judged: Judged, experts: Sequence[ExpertId]) -> Judged:
    """The same opinions about some of the experts, in this order."""
    columns = [judged.experts.index(expert) for expert in experts]
    knn = judged.knn_qualities[:, columns]
    return replace(judged, experts=tuple(experts), qualities=judged.qualities[:, columns], knn_qualities=knn)


def _shared(artifact: Artifact, outcomes: Outcomes) -> tuple[ExpertId, ...]:
    shared = tuple(expert for expert in outcomes.experts if expert in artifact.head.experts)
    if not shared:
        known = ", ".join(artifact.head.experts) or "none"
        raise ConfigError("experts", ", ".join(outcomes.experts), f"the artifact knows none of them; it knows {known}")
    return shared


def _facts(
    artifact: Artifact, outcomes: Outcomes, facts: Sequence[ExpertFacts] | None
) -> tuple[ExpertFacts, ...] | None:
    """The facts given, else those the artifact carries, else none."""
    if facts is not None:
        return match(outcomes, facts)
    cards = {card.id: card for card in artifact.manifest.experts}
    own = [cards[expert] for expert in outcomes.experts]
    if any(card.active_params_b is None or card.total_params_b is None for card in own):
        return None
    return tuple(
        ExpertFacts(id=card.id, total_params_b=card.total_params_b or 0, active_params_b=card.active_params_b or 0)
        for card in own
    )
