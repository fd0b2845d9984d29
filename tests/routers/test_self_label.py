"""Texts without a label that a first fit is sure of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from experts.errors import ConfigError
from routers.training.fit import LearningSet, fit_head
from routers.training.self_label import fit_with_own_labels
from tests.learning_cases import FIELDS, fields, labels, learning, texts

pytest.importorskip("sklearn", reason="fitting needs the extra `train`")

pytestmark = pytest.mark.usefixtures("one_thread")

METHODS = ("neighbours", "logistic")


def partly(n: int, every: int, *, noise: float = 0.25) -> LearningSet:
    """Texts of which one in `every`, whatever its field, has its label."""
    own = tuple(label if i // 3 % every == 0 else None for i, label in enumerate(labels(n)))
    return LearningSet(texts(n, noise=noise), own, np.ones(n, np.bool_))


def test_sure_texts_teach_and_the_others_are_left_out() -> None:
    known = partly(240, 8)
    true = sum(label is not None for label in known.labels)
    fitted, wider = fit_with_own_labels(known, 0.6, methods=METHODS)
    assert true == 30
    assert fitted.self_labelled > 100
    assert len(wider.labels) == true + fitted.self_labelled == len(fitted.head.space.memory)
    taken = [(wider.encoded.texts[i], name) for i, name in enumerate(wider.taught) if name is not None]
    field = dict(zip(known.encoded.texts, fields(240), strict=True))
    assert np.mean([FIELDS[field[text]] == name for text, name in taken]) > 0.9
    assert all(wider.labels[i] is None for i, name in enumerate(wider.taught) if name is not None)


def test_they_help_where_labels_are_few() -> None:
    known, unseen = partly(600, 40, noise=0.6), texts(300, seed=5, noise=0.6)
    some = np.flatnonzero([label is not None for label in known.labels])
    alone = fit_head(known.select(some), methods=METHODS).head
    taught = fit_with_own_labels(known, 0.8, methods=METHODS)[0].head
    right = [
        float(np.mean(head.judged(unseen).probabilities.argmax(axis=1) == fields(300))) for head in (alone, taught)
    ]
    assert right[1] > right[0]


def test_figures_count_true_labels_and_texts_that_both_fits_had_not_seen() -> None:
    """Labels that say nothing: a fit that had seen them, or texts taken for them, would look better than chance."""
    known = partly(180, 3)
    shuffled = np.random.default_rng(0).permutation([label for label in known.labels if label is not None])
    drawn = iter(shuffled)
    known = replace(known, labels=tuple(None if own is None else next(drawn) for own in known.labels))
    fitted, wider = fit_with_own_labels(known, 0.34, methods=METHODS)
    assert fitted.self_labelled > 50
    assert fitted.categories is not None
    own = np.array([label is not None for label in wider.labels])
    names = [fitted.head.categories[i] for i in fitted.categories.probabilities[own].argmax(axis=1)]
    right = np.mean([name == label for name, label in zip(names, [x for x in wider.labels if x], strict=True)])
    assert right < 0.5
    assert fitted.categories.probabilities[own].max(axis=1).mean() < 0.6  # and its confidence knows
    assert fitted.categories.losses["blend"] == pytest.approx(np.log(3), abs=0.25)


def test_texts_with_outcomes_stay_whatever_they_are_taken_for() -> None:
    known = learning(90)
    some = replace(known, labels=tuple(label if i < 45 else None for i, label in enumerate(known.labels)))
    fitted, wider = fit_with_own_labels(some, 1.0, methods=("neighbours",))
    assert len(wider.labels) == 90
    assert fitted.qualities is not None


@pytest.mark.parametrize("least", [0.0, -1.0, 1.5])
def test_a_threshold_is_a_probability(least: float) -> None:
    with pytest.raises(ConfigError, match="must be above 0 and at most 1"):
        fit_with_own_labels(partly(30, 2), least)


def test_it_takes_labels_to_begin_with() -> None:
    known = replace(learning(30), labels=(None,) * 30)
    with pytest.raises(ConfigError, match="needs texts with a category"):
        fit_with_own_labels(known, 0.9)
