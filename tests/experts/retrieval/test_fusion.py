from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.retrieval.fusion import by_score, normalised, reciprocal_rank, weighted_sum
from experts.retrieval.ranking import Ranked

SCORES = st.lists(st.floats(-100, 100), min_size=2, max_size=12).map(np.array)


def ranked(*ids: str) -> Ranked:
    return Ranked(ids, tuple(float(len(ids) - i) for i in range(len(ids))))


def test_reciprocal_ranks_by_hand() -> None:
    fused = reciprocal_rank([ranked("a", "b", "c"), ranked("c", "d")])
    assert fused.ids == ("c", "a", "b", "d")
    assert fused.scores == pytest.approx((1 / 63 + 1 / 61, 1 / 61, 1 / 62, 1 / 62))


def test_weights_and_the_constant_count() -> None:
    first, second = ranked("a", "b"), ranked("b", "a")
    assert reciprocal_rank([first, second], [1, 2]).ids == ("b", "a")
    assert reciprocal_rank([first, second], [1, 2], constant=1).scores == pytest.approx((1 / 3 + 2 / 2, 1 / 2 + 2 / 3))
    with pytest.raises(ValueError, match="zip"):
        reciprocal_rank([first, second], [1])


def test_one_ranking_or_none() -> None:
    assert reciprocal_rank([ranked("a", "b")]).ids == ("a", "b")
    assert reciprocal_rank([]).ids == reciprocal_rank([ranked()]).ids == ()


@given(st.permutations("abcdef"), st.permutations("abcdef"))
def test_the_order_of_rankings_changes_no_sum(first: list[str], second: list[str]) -> None:
    one, other = reciprocal_rank([ranked(*first), ranked(*second)]), reciprocal_rank([ranked(*second), ranked(*first)])
    assert dict(zip(one.ids, one.scores, strict=True)) == pytest.approx(dict(zip(other.ids, other.scores, strict=True)))
    assert list(one.scores) == sorted(one.scores, reverse=True)


def test_normalised_by_hand() -> None:
    assert normalised(np.array([1.0, 3.0, 5.0]), "min_max") == pytest.approx([0, 0.5, 1])
    assert normalised(np.array([1.0, 3.0]), "z") == pytest.approx([-1, 1])
    assert normalised(np.array([7.0, 7.0]), "z") == pytest.approx([0, 0])
    assert normalised(np.array([]), "z").shape == (0,)


@given(SCORES, st.floats(0.1, 10), st.floats(-50, 50))
def test_a_rankers_own_scale_does_not_matter(scores: np.ndarray, factor: float, shift: float) -> None:
    if scores.std() > 1e-3:
        for how in ("z", "min_max"):
            assert normalised(scores * factor + shift, how) == pytest.approx(normalised(scores, how), abs=1e-4)


def test_a_weighted_sum_by_hand() -> None:
    fused = weighted_sum([np.array([0.0, 10.0]), np.array([3.0, 1.0])], [1.0, 3.0], "min_max")
    assert fused == pytest.approx([3.0, 1.0])
    assert weighted_sum([np.array([5.0, 5.0]), np.array([3.0, 1.0])], [9.0, 1.0]) == pytest.approx([1, -1])


def test_equal_scores_keep_their_order() -> None:
    assert by_score(["b", "a", "c"], np.array([1.0, 1.0, 2.0])) == Ranked(("c", "b", "a"), (2.0, 1.0, 1.0))
    assert by_score(["b", "a", "c"], np.array([1.0, 1.0, 2.0]), 2).ids == ("c", "b")
