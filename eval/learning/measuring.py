"""An artifact measured on a file: its opinions, narrowed to the experts that both know."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from eval.learning.learning_files import LearningFile
from eval.routing.evaluate import evaluate_routing
from eval.routing.labels import evaluate_labels
from experts.errors import ConfigError
from routers.expert_facts import ExpertFacts, match
from routers.judged import Judged
from routers.training.fit import fit_head
from routers.training.folds import held_out_folds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from eval.learning.learning_files import LabelKey
    from eval.metrics.intervals import Resampling
    from eval.metrics.shapes import F64
    from eval.routing.document import LabelsDocument, RoutingDocument
    from experts.types import ExpertId
    from routers.artifact import Artifact
    from routers.outcomes import Outcomes
    from routers.training.fit import LearningSet

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
        return measured(judge(source.texts), source, None, request, abstain), ()
    shared = _shared(artifact, source.outcomes)
    left_out = tuple(expert for expert in source.outcomes.experts if expert not in shared)
    outcomes = source.outcomes.only(shared)
    judged = narrowed(judge(outcomes.texts), shared)
    found = measured(judged, LearningFile(outcomes), _facts(artifact, outcomes, facts), request, abstain)
    return found, left_out


def measured(
    judged: Judged,
    source: LearningFile,
    facts: Sequence[ExpertFacts] | None,
    request: RoutingRequest,
    abstain_below: float = 0.0,
) -> RoutingDocument | LabelsDocument:
    """The evaluation of opinions on a file, whoever they are of. Raises: ConfigError: a budget cannot be kept."""
    if source.outcomes is None:
        labelled, labels = source.labels_only(), source.labels(request.label)
        return evaluate_labels(judged, labelled, labels, how=request.how, abstain_below=abstain_below)
    return evaluate_routing(
        judged,
        source.outcomes,
        None if facts is None else match(source.outcomes, facts),
        active_budgets=request.budgets,
        how=request.how,
        abstain_below=abstain_below,
    )


def judged_out_of_fold(known: LearningSet, folds: int, methods: Sequence[str], say: Callable[[str], None]) -> Judged:
    """What fits say of texts they have not seen, all texts of a file, those out of scope too.

    Raises: ConfigError: a category is missing from one fold's fit: too few texts for so many folds.
    """
    numbers = {label: i for i, label in enumerate(sorted({label for label in known.labels if label is not None}))}
    labels = np.array([-1 if label is None else numbers[label] for label in known.labels])
    judged: list[tuple[npt.NDArray[np.intp], Judged]] = []
    for turn, (fitted, held) in enumerate(held_out_folds(known.encoded.texts, labels, folds), 1):

        def told(what: str, turn: int = turn) -> None:
            say(f"fold {turn} of {folds}: {what}")

        head = fit_head(known.select(fitted), methods=methods, say=told).head
        judged.append((held, head.judged(known.encoded.select(held))))
    return _in_order(judged, len(labels))


def _in_order(parts: Sequence[tuple[npt.NDArray[np.intp], Judged]], count: int) -> Judged:
    first = parts[0][1]
    if any(part.categories != first.categories for _, part in parts):
        raise ConfigError("--folds", len(parts), "a category is missing from one fold: it has too few texts")
    places = np.argsort(np.concatenate([held for held, _ in parts]))
    if len(places) != count:
        raise ValueError(f"{len(places)} of {count} texts judged")
    fields = ("probabilities", "in_scope", "nearest", "qualities", "knn_qualities")
    whole = {name: np.concatenate([getattr(part, name) for _, part in parts])[places] for name in fields}
    return Judged(first.categories, first.experts, **whole)


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
