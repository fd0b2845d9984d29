"""Texts with labels and no outcomes, some out of scope: worked by hand."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from eval.routing.document import LabelsDocument
from eval.routing.labels import evaluate_labels
from routers.judged import Judged
from routers.labelled import LabelledTexts
from tests.routing_cases import FEW, judged

IN_SCOPE = [0.9, 0.4, 0.8, 0.3, 0.35]  # of the last two, which are out of scope, .35 is above none in scope
PROBABILITIES = [[0.8, 0.2], [0.6, 0.4], [0.1, 0.9], [1, 0], [0, 1]]


def opinion(in_scope: list[float]) -> Judged:
    n = len(in_scope)
    return judged(np.zeros((n, 0)), PROBABILITIES[:n], [0.95, 0.2, 0.3, 0.4, 0.5][:n], in_scope=in_scope)


def texts(in_scope: list[bool]) -> LabelledTexts:
    n = len(in_scope)
    names = tuple(f"t{i}" for i in range(n))
    same = ("one", "two", "Two ", "three", "four")[:n]
    return LabelledTexts(names, same, (None,) * n, (None,) * n, np.array(in_scope), (None,) * n)


def test_labels_by_hand() -> None:
    document = evaluate_labels(
        opinion(IN_SCOPE), texts([True, True, True, False, False]), ["a", "b", "b", "a", None], how=FEW
    )
    assert (document.n, document.in_scope_n, document.out_of_scope_n) == (5, 3, 2)
    assert document.category_accuracy == pytest.approx(2 / 3)  # the second is taken for a; the fourth does not count
    assert document.category_ece == pytest.approx((0.2 + 0.6 + 0.1) / 3)
    assert document.nll == pytest.approx(-(math.log(0.8) + math.log(0.4) + math.log(0.9)) / 3)
    assert (document.oos_auroc, document.oos_fpr95) == (1.0, 0.0)
    assert document.novel_only.n == 4
    assert document.novel_only.category_accuracy == 0.5  # of the second and the third
    assert document.near_duplicate_ratio == pytest.approx(0.2)
    assert document.repeated_text_ratio == pytest.approx(0.2)
    assert document.categories is not None
    assert document.categories.n == 3
    assert msgspec.json.decode(msgspec.json.encode(document), type=LabelsDocument) == document


def test_out_of_scope_is_the_positive_class_and_a_low_score_says_so() -> None:
    # out of scope .5 and .3 against .9 .4 .8 in scope: five of six pairs are right; to flag both takes .5, and so .4
    swapped = evaluate_labels(
        opinion([0.9, 0.4, 0.8, 0.5, 0.3]), texts([True, True, True, False, False]), [None] * 5, how=FEW
    )
    assert swapped.oos_auroc == pytest.approx(5 / 6)
    assert swapped.oos_fpr95 == pytest.approx(1 / 3)
    assert swapped.category_accuracy is None
    assert swapped.categories is None


def test_one_kind_of_text_has_no_scope_figures() -> None:
    inside = evaluate_labels(opinion(IN_SCOPE[:3]), texts([True] * 3), ["a", "b", "b"], how=FEW)
    assert (inside.oos_auroc, inside.oos_fpr95, inside.out_of_scope_n) == (None, None, 0)
    outside = evaluate_labels(opinion(IN_SCOPE[:3]), texts([False] * 3), ["a", "b", "b"], how=FEW)
    assert (outside.oos_auroc, outside.category_accuracy, outside.in_scope_n) == (None, None, 0)


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="3 prompts judged, 3 texts, 2 labels"):
        evaluate_labels(opinion(IN_SCOPE[:3]), texts([True] * 3), ["a", "b"], how=FEW)
