"""What an artifact says of itself beside its arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eval.metrics.calibration import ece
from eval.metrics.routing import best_single, chosen_scores, known_mean
from routers.artifact import FORMAT, Artifact, ExpertCard, Manifest, part_card

if TYPE_CHECKING:
    from collections.abc import Sequence

    from routers.artifact import EncoderId
    from routers.expert_facts import ExpertFacts
    from routers.training.fit import Fitted, LearningSet


@dataclass(frozen=True)
class Papers:
    """What the fit does not know."""

    name: str
    description: str
    created: str
    encoder: EncoderId
    data_sha256: str
    metrics: dict[str, float]
    alpha: float | None = None
    examples: dict[str, tuple[str, ...]] | None = None


def artifact_of(fitted: Fitted, papers: Papers, facts: Sequence[ExpertFacts]) -> Artifact:
    """The head with its papers."""
    head, known = fitted.head, {fact.id: fact for fact in facts}
    manifest = Manifest(
        format=FORMAT,
        name=papers.name,
        description=papers.description,
        created=papers.created,
        encoder=papers.encoder,
        categories=tuple(head.categories),
        experts=tuple(card_of(expert, known.get(expert)) for expert in head.experts),
        category_parts=() if head.category is None else tuple(part_card(n, p) for n, p in head.category.parts.items()),
        quality_parts=() if head.quality is None else tuple(part_card(n, p) for n, p in head.quality.parts.items()),
        temperature=1.0 if head.category is None else head.category.temperature,
        scope_bias=None if head.scope is None else head.scope.bias,
        data_sha256=papers.data_sha256,
        data_rows=len(fitted.rows),
        metrics=papers.metrics,
        alpha=papers.alpha,
        examples=papers.examples,
        self_labelled=fitted.self_labelled or None,
    )
    expected = np.zeros((0, 0), np.float32) if fitted.qualities is None else fitted.qualities.qualities
    return Artifact(manifest, head, expected)


def out_of_fold_metrics(fitted: Fitted, known: LearningSet) -> dict[str, float]:
    """Figures on texts that the fit had not seen; `loss_*` are the parts', which say what the blend gains."""
    metrics: dict[str, float] = {}
    if fitted.categories is not None:
        number = {name: i for i, name in enumerate(fitted.head.categories)}
        labels = np.array([-1 if (own := known.labels[i]) is None else number[own] for i in fitted.rows])
        seen, probabilities = labels >= 0, fitted.categories.probabilities
        right = probabilities[seen].argmax(axis=1) == labels[seen]
        metrics["category_accuracy"] = float(right.mean())
        metrics["category_ece"] = ece(probabilities[seen].max(axis=1), right)
        metrics |= {f"loss_{name}": loss for name, loss in fitted.categories.losses.items()}
    if fitted.qualities is not None and known.scores is not None:
        scores = known.scores[fitted.rows]
        chosen = chosen_scores(scores, fitted.qualities.qualities.argmax(axis=1))
        if not np.isnan(chosen).all():
            metrics["quality"] = known_mean(chosen)
        metrics["best_single_quality"] = known_mean(scores[:, best_single(scores)])
        metrics |= {f"error_{name}": error for name, error in fitted.qualities.errors.items()}
    return {name: round(float(value), 6) for name, value in metrics.items()}


def card_of(expert: str, fact: ExpertFacts | None) -> ExpertCard:
    """An expert's line in the manifest."""
    return ExpertCard(expert) if fact is None else ExpertCard(**fact.model_dump())
