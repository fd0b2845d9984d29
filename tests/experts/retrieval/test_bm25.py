from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("bm25s", reason="the extra `retrieval` has it")

from experts.errors import ConfigError
from experts.retrieval.analysis import EnglishAnalyser
from experts.retrieval.bm25 import Bm25Index, Bm25Settings

TEXTS = ["Wings bend in the wind.", "The wind bends a wing; the wing holds.", "Boundary layers heat the skin.", ""]
IDS = ["a", "b", "c", "d"]
WORDS = st.sampled_from(["wing", "wind", "skin", "heat", "flow", "the", "layers"])


def test_terms_are_stems_without_stop_words() -> None:
    assert EnglishAnalyser().terms("The Wings are BENDING, and the wing bends: x-ray 42!") == [
        "wing", "bend", "wing", "bend", "x", "ray", "42",
    ]  # fmt: skip


def test_scores_are_lucenes() -> None:
    index = Bm25Index.build(IDS, TEXTS, Bm25Settings(k1=1.2, b=0.5))
    lengths = [len(EnglishAnalyser().terms(text)) for text in TEXTS]
    average = sum(lengths) / len(lengths)
    idf = math.log(1 + (4 - 2 + 0.5) / (2 + 0.5))
    wanted = [
        idf * tf / (tf + 1.2 * (1 - 0.5 + 0.5 * length / average))
        for tf, length in zip([1, 2, 0, 0], lengths, strict=True)
    ]
    assert index.scores({"wing": 1.0}) == pytest.approx(wanted, rel=1e-5)
    assert index.scores({"wing": 2.0, "unheard": 1.0}) == pytest.approx(2 * np.array(wanted), rel=1e-5)


def test_the_best_come_first_and_strangers_not_at_all() -> None:
    index = Bm25Index.build(IDS, TEXTS, Bm25Settings(k1=2, b=0))
    found = index.search("how do wings bend?", 10)
    assert found.ids == ("b", "a")  # b has wings twice
    assert found.scores[0] > found.scores[1] > 0
    assert index.search("how do wings bend?", 1).ids == ("b",)
    assert index.search("zebra", 10).ids == index.search("", 10).ids == ()


def test_equal_scores_keep_the_order_of_the_documents() -> None:
    index = Bm25Index.build(["z", "y", "x"], ["heat", "heat", "heat"])
    assert index.search("heat", 2).ids == ("z", "y")


@given(st.lists(st.lists(WORDS, max_size=6).map(" ".join), min_size=1, max_size=8), st.lists(WORDS, max_size=4))
def test_a_search_is_the_scores_in_order(texts: list[str], query: list[str]) -> None:
    index = Bm25Index.build([str(row) for row in range(len(texts))], texts)
    scores = index.scores(index.query_terms(" ".join(query)))
    found = index.search(" ".join(query), 3)
    assert list(found.scores) == sorted((float(s) for s in scores if s > 0), reverse=True)[:3]
    assert [float(scores[int(name)]) for name in found.ids] == list(found.scores)


def test_saved_and_opened_it_answers_the_same(tmp_path: Path) -> None:
    index = Bm25Index.build(IDS, TEXTS)
    index.save(tmp_path / "index")
    opened = Bm25Index.load(tmp_path / "index")
    assert len(opened) == len(index) == 4
    assert opened.search("wings in the wind", 10) == index.search("wings in the wind", 10)


def test_nothing_to_index_is_an_index_that_finds_nothing(tmp_path: Path) -> None:
    Bm25Index.build(["a"], ["the"]).save(tmp_path)
    assert Bm25Index.load(tmp_path).search("the wing", 5).ids == ()
    assert Bm25Index.build([], []).search("wing", 5).ids == ()


def test_a_damaged_folder_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"bm25 index = '{tmp_path}'"):
        Bm25Index.load(tmp_path)
    Bm25Index.build(IDS, TEXTS).save(tmp_path)
    papers = tmp_path / "papers.json"
    papers.write_text(papers.read_text().replace("english/1", "klingon/7"))
    with pytest.raises(ConfigError, match="klingon/7"):
        Bm25Index.load(tmp_path)
    papers.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        Bm25Index.load(tmp_path)
