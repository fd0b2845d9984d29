"""Categories found by outcomes and texts."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from experts.errors import ConfigError
from routers.training.discover import discover
from routers.training.fit import fit_head
from tests.learning_cases import fields, learning, scores

pytest.importorskip("sklearn", reason="clustering needs the extra `train`")

pytestmark = pytest.mark.usefixtures("one_thread")

ANONYMOUS = replace(learning(240), labels=(None,) * 240)


def purity(labels: tuple[str | None, ...], truth: list[int]) -> float:
    """The share of texts that are in a category mostly of their kind."""
    of = {name: [kind for label, kind in zip(labels, truth, strict=True) if label == name] for name in set(labels)}
    return sum(Counter(kinds).most_common(1)[0][1] for kinds in of.values()) / len(labels)


def test_fields_are_found_without_their_names_whatever_labels_there_are() -> None:
    found = discover(ANONYMOUS, 3)
    assert purity(found.known.labels, fields(240)) > 0.9
    assert sorted({str(label) for label in found.known.labels}) == ["cluster-01", "cluster-02", "cluster-03"]
    assert discover(learning(240), 3).known.labels == found.known.labels
    assert discover(ANONYMOUS, 3).typical == found.typical
    sizes = [len(texts) for texts in found.typical.values()]
    assert sizes == sorted(sizes, reverse=True)
    assert found.known.scores is ANONYMOUS.scores


def test_outcomes_part_what_texts_alone_do_not() -> None:
    """Every text the same but for noise: only what the experts score on the near ones can tell two kinds apart."""
    wide = replace(learning(240), encoded=learning(240).encoded)
    vectors = wide.encoded.vectors.copy()
    size = vectors.shape[1] // 2
    random = np.random.default_rng(0)
    vectors[:, size:] = random.normal(size=(240, size))
    kinds = (vectors[:, size] > 0).astype(int)  # along one of eight directions, none longer than the others
    vectors[:, size:] /= np.linalg.norm(vectors[:, size:], axis=1, keepdims=True)
    outcomes = np.stack([kinds, 1 - kinds, kinds, 1 - kinds], axis=1).astype(np.float32)
    by_both = discover(replace(wide, encoded=replace(wide.encoded, vectors=vectors), scores=outcomes), 2)
    assert purity(by_both.known.labels, kinds.tolist()) > 0.75
    flat = np.full_like(outcomes, 0.5)
    by_text = discover(replace(wide, encoded=replace(wide.encoded, vectors=vectors), scores=flat), 2)
    assert purity(by_text.known.labels, kinds.tolist()) < purity(by_both.known.labels, kinds.tolist())


def test_what_is_found_can_be_learned() -> None:
    found = discover(ANONYMOUS, 3)
    head = fit_head(found.known, methods=("neighbours", "categories")).head
    assert head.categories == tuple(found.typical)
    unseen = learning(90, seed=4)
    chosen = head.judged(unseen.encoded).qualities.argmax(axis=1)
    truth = scores(90, 4)
    assert truth[np.arange(90), chosen].mean() > truth.mean(axis=0).max() + 0.2


def test_examples_are_the_typical_texts_cut_short() -> None:
    found = discover(ANONYMOUS, 3)
    kept = found.examples(2)
    assert {name: len(texts) for name, texts in kept.items()} == dict.fromkeys(found.typical, 2)
    assert all(found.typical[name][0].startswith(texts[0]) for name, texts in kept.items())


@pytest.mark.parametrize("count", [1, 121])
def test_as_many_categories_as_texts_can_make(count: int) -> None:
    with pytest.raises(ConfigError, match="must be at least 2, and 240 texts make 120 at most"):
        discover(ANONYMOUS, count)


def test_it_takes_outcomes() -> None:
    with pytest.raises(ConfigError, match="needs outcomes"):
        discover(replace(ANONYMOUS, scores=None), 3)
