from __future__ import annotations

import math

import pytest

pytest.importorskip("ir_measures", reason="the extra `retrieval` has it")

from eval.retrieval.measures import per_query
from experts.retrieval.ranking import Ranked

QRELS = {"q1": {"d1": 1, "d3": 1}, "q2": {"d9": 2, "d8": 1}, "q3": {"d1": 1}}


def test_by_hand() -> None:
    run = {"q1": Ranked(("d2", "d1", "d4"), (3.0, 3.0, 3.0)), "q2": Ranked(("d8", "d9"), (1.0, 0.5))}
    found = per_query(QRELS, run)
    ideal = 1 + 1 / math.log2(3)
    second = (1 + 2 / math.log2(3)) / (2 + 1 / math.log2(3))
    assert found["ndcg_at_10"] == pytest.approx([1 / math.log2(3) / ideal, second, 0])
    assert found["recall_at_100"] == pytest.approx([0.5, 1, 0])
    assert found["mrr"] == pytest.approx([0.5, 1, 0])


def test_the_order_counts_and_not_the_scores() -> None:
    forward = per_query(QRELS, {"q3": Ranked(("d0", "d1"), (1.0, 1.0))})
    backward = per_query(QRELS, {"q3": Ranked(("d1", "d0"), (1.0, 1.0))})
    assert forward["mrr"][2] == 0.5
    assert backward["mrr"][2] == 1
