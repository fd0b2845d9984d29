"""Experts' descriptions in training and in evaluation: the same term the gateway adds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from routers.described import Descriptions, encode_descriptions
from routers.training.describing import fit_alpha

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.learning.encoding import TrainingEncoder
    from routers.artifact import Artifact
    from routers.expert_facts import ExpertFacts
    from routers.judged import Judged
    from routers.training.describing import AlphaFit
    from routers.training.fit import Fitted, LearningSet
    from routers.types import Encoded


def alpha_of(
    fitted: Fitted, known: LearningSet, facts: Sequence[ExpertFacts], encoder: TrainingEncoder
) -> AlphaFit | None:
    """What validation says of the experts' descriptions; None where there are no outcomes, or too few descriptions."""
    said = {fact.id: fact.description for fact in facts}
    if fitted.qualities is None or known.scores is None or not any(said.values()):
        return None
    texts = [said.get(expert, "") for expert in fitted.head.experts]
    vectors = encode_descriptions(encoder.encoder, texts, encoder.folder)
    return fit_alpha(fitted.qualities.qualities, known.scores[fitted.rows], fitted.head.space.memory, vectors)


def as_served(artifact: Artifact, judged: Judged, encoded: Encoded, encoder: TrainingEncoder) -> Judged:
    """What a head said, with the term for descriptions where the artifact has one."""
    manifest = artifact.manifest
    if not manifest.alpha:
        return judged
    texts = [card.description for card in manifest.experts]
    vectors = encode_descriptions(encoder.encoder, texts, encoder.folder)
    last = np.ascontiguousarray(encoded.vectors[:, -vectors.shape[1] :])
    blended = Descriptions(vectors, manifest.alpha).blended(judged.qualities, last)
    return replace(judged, qualities=blended.qualities)
