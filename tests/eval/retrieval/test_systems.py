from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("bm25s", reason="the extra `retrieval` has it")

from eval.retrieval.collection import Collection, Document
from eval.retrieval.systems import Prepared, RoutedExperts, lexical_text, prepare, run_systems
from experts.embedders.adapter import QueryAdapter
from experts.retrieval.bm25 import Bm25Settings
from experts.retrieval.hybrid import DEFAULTS, hybrid_search
from experts.types import ExpertId
from routers.pilot import Pilot, PilotLibrary, PilotSettings
from tests.experts.embedders.toy import ToyEmbedder

AERO, GENERAL = ExpertId("aero"), ExpertId("toy")
DOCUMENTS = tuple(Document(f"d{i}", w, f"the {w} was measured") for i, w in enumerate(["wing", "skin", "cell", "lens"]))
COLLECTION = Collection("aero", DOCUMENTS, {"q1": "wing lift", "q2": "eye lens"}, {"q1": {"d0": 1}, "q2": {"d3": 1}})


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    return prepare(COLLECTION, ToyEmbedder(), tmp_path, words=Bm25Settings(), say=lambda _: None)


def adapter() -> QueryAdapter:
    rng = np.random.default_rng(5)
    down, up = (rng.normal(size=shape).astype(np.float32) for shape in ((8, 2), (2, 8)))
    return QueryAdapter(down, up, np.zeros(8, np.float32))


def routed(prepared: Prepared, only: int) -> RoutedExperts:
    """Pilots that send one query to the adapter and the other to the base."""
    mine, others = prepared.queries[only], prepared.queries[1 - only]
    pilots = (Pilot(AERO, "x", 1, mine), Pilot(GENERAL, "x", 1, others))
    return RoutedExperts({AERO: adapter()}, PilotLibrary(GENERAL, pilots), PilotSettings())


def test_a_title_counts_three_times() -> None:
    assert lexical_text(Document("d", "Wings", "They bend.")) == "Wings Wings Wings They bend."
    assert lexical_text(Document("d", "Wings", "Wings bend.")) == "Wings Wings Wings bend."


def test_vectors_are_kept(prepared: Prepared, tmp_path: Path) -> None:
    again = ToyEmbedder()
    same = prepare(COLLECTION, again, tmp_path, words=Bm25Settings(), say=lambda _: None)
    assert again.asked == []
    assert np.array_equal(same.queries, prepared.queries)


def test_without_experts_auto_is_the_base_with_words(prepared: Prepared) -> None:
    runs = run_systems(prepared)
    words = prepared.words.search("wing lift", 10)
    assert set(runs) == {"bm25", "dense", "hybrid", "auto"}
    assert runs["bm25"]["q1"] == words
    assert runs["auto"]["q1"] == hybrid_search(prepared.vectors, prepared.queries[0], words, 100)


def test_a_query_expert_has_learnt_what_to_take_off(prepared: Prepared) -> None:
    runs = run_systems(prepared, routed(prepared, only=0))
    moved = adapter()(prepared.queries)
    words = prepared.words.search("wing lift", 10)
    own = replace(DEFAULTS, centring=0.0)
    assert runs["auto"]["q1"] == hybrid_search(prepared.vectors, moved[0], words, 100, own)
    assert runs["routed"]["q1"] == runs["aero"]["q1"] == prepared.vectors.nearest(moved[0], 100)
    assert runs["auto"]["q2"] == run_systems(prepared)["auto"]["q2"]  # the base's
    assert runs["routed"]["q2"] == runs["dense"]["q2"]
