"""New experts for an artifact, from outcomes of theirs alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from eval.learning.papers import card_of
from experts.errors import ConfigError
from routers.artifact import Artifact, part_card
from routers.training.extend import with_expert

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.learning.learning_files import LearningFile
    from experts.types import ExpertId
    from routers.expert_facts import ExpertFacts
    from routers.types import Encoded


def extended(
    artifact: Artifact, source: LearningFile, encoded: Encoded, facts: Sequence[ExpertFacts]
) -> tuple[Artifact, tuple[ExpertId, ...]]:
    """The artifact with each expert of the file that it does not know, and their ids.

    Raises: ConfigError: the file has no outcomes, no new expert, or too few outcomes of one.
    """
    outcomes = source.outcomes
    if outcomes is None:
        raise ConfigError("--data", None, "has no outcomes, which a new expert is added from")
    new = tuple(expert for expert in outcomes.experts if expert not in artifact.head.experts)
    if not new:
        raise ConfigError("--data", ", ".join(outcomes.experts), "has no expert that the artifact does not know")
    known, head, expected = {fact.id: fact for fact in facts}, artifact.head, artifact.expected
    for expert in new:
        scores = outcomes.scores[:, outcomes.experts.index(expert)]
        asked = np.flatnonzero(~np.isnan(scores))
        head, at_memory = with_expert(head, expert, encoded.select(asked), scores[asked])
        expected = np.hstack([expected, at_memory[:, None]])
    quality = head.quality
    manifest = msgspec.structs.replace(
        artifact.manifest,
        experts=(*artifact.manifest.experts, *(card_of(expert, known.get(expert)) for expert in new)),
        quality_parts=() if quality is None else tuple(part_card(n, p) for n, p in quality.parts.items()),
    )
    return Artifact(manifest, head, expected), new
