"""An expert more, or one less: the others do not notice."""

from __future__ import annotations

import numpy as np
import pytest

from eval.learning.extending import extended
from eval.learning.learning_files import LearningFile
from eval.learning.papers import Papers, artifact_of
from experts.errors import ConfigError
from experts.types import ExpertId
from routers.artifact import Artifact, EncoderId
from routers.expert_facts import ExpertFacts
from routers.outcomes import Outcomes
from routers.training.fit import LearningSet, fit_head
from tests.learning_cases import learning, scores, texts

pytest.importorskip("sklearn", reason="fitting needs the extra `train`")
pytestmark = pytest.mark.usefixtures("one_thread")

OLD = (ExpertId("artist"), ExpertId("coder"), ExpertId("anyone"))
COLUMNS = [0, 1, 3]


@pytest.fixture(scope="module")
def artifact(one_thread: None) -> Artifact:  # noqa: ARG001 - it only has to be there
    """Three of the four experts; nobody in it is good at law."""
    known = learning(180)
    assert known.scores is not None
    three = LearningSet(known.encoded, known.labels, known.in_scope, OLD, known.scores[:, COLUMNS])
    papers = Papers("three", "", "2026-01-01", EncoderId("m", "t", (4, 6), 256), "0" * 64, {})
    return artifact_of(fit_head(three), papers, [])


def of_lawyer(n: int) -> tuple[LearningFile, object]:
    encoded = texts(n, seed=5)
    ids = tuple(str(i) for i in range(n))
    outcomes = Outcomes(ids, encoded.texts, (None,) * n, (ExpertId("lawyer"),), scores(n, seed=5)[:, [2]])
    return LearningFile(outcomes=outcomes), encoded


def test_a_new_expert_is_useful_at_once_and_changes_no_other_score(artifact: Artifact) -> None:
    source, encoded = of_lawyer(120)
    facts = [ExpertFacts(id="lawyer", total_params_b=3, active_params_b=3)]
    wider, added = extended(artifact, source, encoded, facts)  # type: ignore[arg-type]
    assert added == ("lawyer",)
    assert wider.manifest.experts[-1].active_params_b == 3
    assert wider.expected.shape == (180, 4)
    unseen = texts(300, seed=9)
    before, after = artifact.head.opinions(unseen), wider.head.opinions(unseen)
    assert np.array_equal(before.probabilities, after.probabilities)
    np.testing.assert_array_equal(before.qualities, after.qualities[:, :3])
    truth = scores(300, seed=9)[:, [*COLUMNS, 2]]
    rows = np.arange(300)
    gain = truth[rows, after.qualities.argmax(axis=1)].mean() - truth[rows, before.qualities.argmax(axis=1)].mean()
    assert gain > 0.08  # a third of the texts is about law, where .9 instead of .5 is right


def test_an_expert_less_leaves_the_others_alone(artifact: Artifact) -> None:
    unseen = texts(60, seed=9)
    fewer = artifact.without(["coder"])
    assert fewer.head.experts == ("artist", "anyone")
    assert [card.id for card in fewer.manifest.experts] == ["artist", "anyone"]
    before, after = artifact.head.opinions(unseen).qualities, fewer.head.opinions(unseen).qualities
    np.testing.assert_array_equal(before[:, [0, 2]], after)
    with pytest.raises(ConfigError, match="expert = 'poet': is not in three, which knows artist, coder, anyone"):
        artifact.without(["poet"])


def test_what_cannot_be_added_is_refused_by_name(artifact: Artifact) -> None:
    source, encoded = of_lawyer(12)
    with pytest.raises(ConfigError, match="expert = 'lawyer': has 12 outcomes, needs at least 20"):
        extended(artifact, source, encoded, [])  # type: ignore[arg-type]
    source, encoded = of_lawyer(60)
    wider, _ = extended(artifact, source, encoded, [])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="has no expert that the artifact does not know"):
        extended(wider, source, encoded, [])  # type: ignore[arg-type]
