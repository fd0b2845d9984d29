from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

pytest.importorskip("ir_measures", reason="the extra `retrieval` has it")

from eval.metrics.intervals import Resampling
from eval.retrieval.bench_section import retrieval_quality_section
from eval.retrieval.collection import Collection, Document
from eval.retrieval.document import SCHEMA, RetrievalDocument
from eval.retrieval.figures import dataset_oracle, macro_interval, mean_figures, measure_systems, set_figures
from eval.serving.report import render
from experts.retrieval.ranking import Ranked

HOW = Resampling(200)
TWO = Collection(
    "two",
    tuple(Document(name, "", name) for name in "abc"),
    {"q1": "one", "q2": "two"},
    {"q1": {"a": 1}, "q2": {"b": 1}},
)


def runs(**tops: str) -> dict[str, dict[str, Ranked]]:
    """For each system the first document of either query."""
    return {
        system: {query: Ranked((top,), (1.0,)) for query, top in zip(TWO.queries, both, strict=True)}
        for system, both in tops.items()
    }


def document() -> RetrievalDocument:
    measured = measure_systems(TWO, runs(bm25="ac", dense="cc", hybrid="cb", auto="ab"))
    sets = {"two": set_figures(TWO, measured, HOW)}
    means = mean_figures({"two": measured}, HOW)
    return RetrievalDocument(
        "retrieval-quality", SCHEMA, "2026-01-01T00:00:00+00:00", ("coe", "eval"), "minilm", HOW, sets,
        1.0, 1.0, 1.0, dataset_oracle(sets), means, 0.1,
    )  # fmt: skip


def test_the_oracle_takes_the_better_of_two_for_each_query() -> None:
    measured = measure_systems(TWO, runs(bm25="ac", dense="cb", hybrid="cc", auto="ab"))
    assert measured["oracle"]["ndcg_at_10"].tolist() == [1, 1]
    assert measured["bm25"]["ndcg_at_10"].tolist() == [1, 0]


def test_figures_by_hand() -> None:
    figures = document().sets["two"]
    assert (figures.n, figures.documents) == (2, 3)
    assert (figures.ndcg_at_10, figures.bm25_ndcg_at_10, figures.dense_ndcg_at_10) == (1, 0.5, 0)
    assert (figures.hybrid_ndcg_at_10, figures.oracle_ndcg_at_10, figures.recall_at_100, figures.mrr) == (
        0.5,
        0.5,
        1,
        1,
    )
    assert figures.systems["auto"].gain is None
    gain = figures.systems["bm25"].gain
    assert gain is not None
    assert (gain.estimate, gain.low, gain.high) == (0.5, 0, 1)
    assert document().dataset_oracle_ndcg_at_10 == 0.5


def test_collections_count_the_same_whatever_their_size() -> None:
    interval = macro_interval([np.array([1.0, 1.0, 1.0]), np.array([0.0])], HOW)
    assert (interval.estimate, interval.low, interval.high, interval.n) == (0.5, 0.5, 0.5, 4)


def test_the_document_says_first_what_was_asked_for() -> None:
    plain = msgspec.json.decode(msgspec.json.encode(document()))
    assert {"n", "ndcg_at_10", "recall_at_100", "bm25_ndcg_at_10", "dense_ndcg_at_10", "hybrid_ndcg_at_10",
            "oracle_ndcg_at_10"} <= plain["sets"]["two"].keys()  # fmt: skip
    assert plain["mean_ndcg_at_10"] == 1


def test_a_section_of_the_report(tmp_path: Path) -> None:
    raw = msgspec.json.encode(document())
    (tmp_path / "quality.json").write_bytes(raw)
    section = retrieval_quality_section("quality", raw)
    assert "| BM25 | 0.500 | 0.5000 [0.0000, 1.0000] | +0.5000 [+0.0000, +1.0000] |" in section
    assert "| **`expert: auto`** | 1.000 | 1.0000 [1.0000, 1.0000] |  |" in section
    assert "| two | 3 | 2 | 1.000 | 1.000 |" in section
    assert section in render(tmp_path)
