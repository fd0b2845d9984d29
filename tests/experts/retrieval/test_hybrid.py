from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.embedders.adapter import unit_rows
from experts.retrieval.flat import FlatVectors
from experts.retrieval.hybrid import HybridSettings, against_best, agreement, hybrid_search
from experts.retrieval.ranking import Ranked

IDS = tuple("abcdef")


def index(seed: int = 0, count: int = 6, dimensions: int = 4) -> FlatVectors:
    rows = np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32)
    return FlatVectors(IDS[:count], unit_rows(rows))


def query(seed: int = 9, dimensions: int = 4) -> np.ndarray:
    return unit_rows(np.random.default_rng(seed).normal(size=(1, dimensions)).astype(np.float32))[0]


def test_flat_vectors_rank_by_inner_product() -> None:
    flat = FlatVectors(("x", "y", "z"), np.array([[1, 0], [0, 1], [0, 1]], np.float32))
    found = flat.nearest(np.array([0.6, 0.8], np.float32), 2)
    assert found.ids == ("y", "z")
    assert found.scores == pytest.approx((0.8, 0.8))
    assert flat.nearest(np.array([2, 0], np.float32), 9).ids == ("x", "y", "z")
    assert flat.centre == pytest.approx([1 / 3, 2 / 3])
    assert flat.vectors(["z", "x"]).tolist() == [[0, 1], [1, 0]]
    with pytest.raises(ValueError, match="1 ids with 2 vectors"):
        FlatVectors(("x",), np.zeros((2, 2), np.float32))


def test_best_has_one_and_usual_has_none() -> None:
    assert against_best(np.array([3.0, 1.0, -1.0]), 1.0) == pytest.approx([1, 0, -1])
    assert against_best(np.array([1.0, 0.5]), 1.0).tolist() == [0, 0]
    assert against_best(np.array([]), 0.0).shape == (0,)


def test_vectors_alone_or_words_alone() -> None:
    words = Ranked(("f", "a"), (2.0, 1.0))
    alone = hybrid_search(index(), query(), words, 6, HybridSettings(0.0, centring=0, agreement=0))
    assert alone.ids == index().nearest(query(), 6).ids
    assert hybrid_search(index(), query(), words, 2, HybridSettings(1.0, centring=0, agreement=0)).ids == ("f", "a")


def test_a_fused_score_by_hand() -> None:
    flat = FlatVectors(("x", "y", "z"), np.array([[1, 0], [0, 1], [-1, 0]], np.float32))
    found = hybrid_search(flat, np.array([1, 0], np.float32), Ranked(("y",), (7.0,)), 3, HybridSettings(
        lexical_weight=0.25, centring=0, agreement=0
    ))  # fmt: skip
    # The usual cosine is that with the mean (0, 1/3): 0.
    assert found.ids == ("x", "y", "z")
    assert found.scores == pytest.approx((0.75, 0.25, -0.75))


def test_a_document_that_only_words_find_is_compared_with_the_query_too() -> None:
    found = hybrid_search(
        index(), query(), Ranked(("f",), (1.0,)), 6, HybridSettings(0.5, 0, candidates=1, agreement=0)
    )
    assert set(found.ids) == {"f", index().nearest(query(), 1).ids[0]}
    cosine = float(index().vectors(["f"])[0] @ query())
    usual, best = float(index().centre @ query()), max(index().nearest(query(), 1).scores)
    assert found.scores[found.ids.index("f")] == pytest.approx(0.5 + 0.5 * (cosine - usual) / (best - usual))


def test_centring_takes_off_what_all_documents_share() -> None:
    flat = FlatVectors(("x", "y"), unit_rows(np.array([[5, 1, 0], [5, -1, 1]], np.float32)))
    asked = unit_rows(np.array([[3, 1, 0]], np.float32))[0]
    off = asked - flat.centre
    centred = hybrid_search(flat, asked, Ranked((), ()), 2, HybridSettings(0, centring=1, agreement=0))
    assert centred.ids == flat.nearest(off, 2).ids
    gap = float(off @ (flat.vectors(["x"])[0] - flat.vectors(["y"])[0]))
    assert gap > 0


def test_agreement_by_hand() -> None:
    similar = np.array([[1, 0.5, 0.1], [0.5, 1, -0.2], [0.1, -0.2, 1]])
    mixed = agreement(np.array([3.0, 2.0, 1.0]), similar, 1, 0.4)
    # Scores become 1, .5, 0; the nearest neighbours are 1, 0 and 0.
    assert mixed == pytest.approx([0.6 * 1 + 0.4 * 0.5, 0.6 * 0.5 + 0.4 * 1, 0.4 * 1])
    both = agreement(np.array([3.0, 2.0, 1.0]), similar, 2, 0.4)
    assert both[0] == pytest.approx(0.6 + 0.4 * (0.5 * 0.5 + 0.1 * 0) / 0.6)


def test_an_item_like_no_other_gains_nothing() -> None:
    assert agreement(np.array([1.0, 0.0]), np.eye(2), 3, 0.4).tolist() == [0.6, 0]
    assert agreement(np.array([2.0, 2.0]), np.ones((2, 2)), 3, 0.4).tolist() == [0, 0]


def test_agreement_lifts_what_resembles_the_best() -> None:
    rows = unit_rows(np.array([[1, 0, 0], [0.9, 0.44, 0], [0.9, -0.44, 0], [0, 0, 1]], np.float32))
    flat = FlatVectors(IDS[:4], rows)
    words = Ranked(("a", "d", "b", "c"), (10.0, 5.2, 5.0, 5.0))
    asked = np.array([0.577, 0, 0.577], np.float32)
    without = hybrid_search(flat, asked, words, 4, HybridSettings(1.0, 0, agreement=0))
    agreed = hybrid_search(flat, asked, words, 4, HybridSettings(1.0, 0, neighbours=1, agreement=0.4))
    assert without.ids == ("a", "d", "b", "c")
    assert agreed.ids == ("a", "b", "c", "d")


@given(st.integers(0, 200), st.integers(1, 6), st.integers(2, 6), st.permutations(IDS), st.integers(0, 6))
def test_every_candidate_once_with_falling_scores(
    seed: int, candidates: int, agreeing: int, order: list[str], matched: int
) -> None:
    words = Ranked(tuple(order[:matched]), tuple(float(6 - i) for i in range(matched)))
    settings = HybridSettings(candidates=candidates, agreeing=agreeing)
    found = hybrid_search(index(seed), query(seed + 1), words, 10, settings)
    assert len(set(found.ids)) == len(found.ids)
    near = index(seed).nearest(query(seed + 1) - 0.5 * index(seed).centre, candidates)
    assert set(found.ids) == set(near.ids) | set(words.ids[:candidates])
    assert list(found.scores) == sorted(found.scores, reverse=True)
    top = hybrid_search(index(seed), query(seed + 1), words, 2, settings)
    assert top == found.top(2)


def test_an_empty_collection_finds_nothing() -> None:
    empty = FlatVectors((), np.zeros((0, 4), np.float32))
    assert hybrid_search(empty, query(), Ranked((), ()), 5).ids == ()


def test_one_document_is_found() -> None:
    assert hybrid_search(index(count=1), query(), Ranked(("a",), (1.0,)), 5).ids == ("a",)
