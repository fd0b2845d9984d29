"""Choices of experts on a matrix with gaps: worked by hand, and properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eval.metrics.routing import (
    average_active_params_b,
    best_single,
    category_map,
    chosen_costs,
    chosen_scores,
    known_mean,
    known_share,
    oracle_choice,
    oracle_scores,
    quality,
    random_scores,
    regrets,
    single_qualities,
)

NAN = math.nan
SCORES = np.array([[1.0, 0.0, NAN], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, NAN, 1.0]])
CHOICE = np.array([0, 0, 2, 1])
FILLED = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 12), st.integers(1, 5)), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])
)


@st.composite
def outcomes(draw: st.DrawFn) -> np.ndarray:
    """A matrix with gaps but no empty row."""
    scores = draw(FILLED)
    gaps = draw(hnp.arrays(np.bool_, scores.shape))
    gaps[np.arange(len(scores)), draw(hnp.arrays(np.int64, len(scores), elements=st.just(0)))] = False
    return np.where(gaps, NAN, scores)


def test_a_choice_by_hand() -> None:
    np.testing.assert_equal(chosen_scores(SCORES, CHOICE), [1.0, 0.5, 1.0, NAN])
    assert quality(SCORES, CHOICE) == pytest.approx(2.5 / 3)
    assert known_share(chosen_scores(SCORES, CHOICE)) == 3 / 4
    np.testing.assert_equal(regrets(SCORES, CHOICE), [0.0, 0.5, 0.0, NAN])


def test_the_baselines_by_hand() -> None:
    assert single_qualities(SCORES).tolist() == pytest.approx([2.5 / 4, 1 / 3, 2 / 3])
    assert best_single(SCORES) == 2
    assert random_scores(SCORES).tolist() == pytest.approx([0.5, 0.5, 1 / 3, 1.0])
    assert oracle_scores(SCORES).tolist() == [1, 1, 1, 1]
    assert oracle_choice(SCORES).tolist() == [0, 1, 2, 0]
    assert oracle_choice(SCORES, costs=np.array([3.0, 2.0, 1.0])).tolist() == [0, 1, 2, 2]
    per_prompt = np.tile([3.0, 2.0, 1.0], (4, 1))
    per_prompt[3, 2] = NAN  # an unknown cost is the last to be taken
    assert oracle_choice(SCORES, costs=per_prompt).tolist() == [0, 1, 2, 0]


def test_costs_by_hand() -> None:
    assert chosen_costs(np.array([1.0, 10.0, 100.0]), CHOICE).tolist() == [1, 1, 100, 10]
    assert average_active_params_b(np.array([1.0, 10.0, 100.0]), CHOICE) == 28
    assert chosen_costs(np.arange(12.0).reshape(4, 3), CHOICE).tolist() == [0, 3, 8, 10]
    with pytest.raises(ValueError, match=r"matrix \(3, 3\) and choice \(4,\)"):
        chosen_costs(np.ones((3, 3)), CHOICE)


def test_the_category_oracle_by_hand() -> None:
    categories = np.array([0, 0, 2, 2])
    # 0: means .75 .5 0; 1: nothing to fit on, so the best single; 2: .5 0 1
    assert category_map(SCORES, categories, 4).tolist() == [0, 2, 2, 2]
    only_first = np.array([[0.2, NAN], [NAN, 0.9]])
    assert category_map(only_first, np.array([0, 1]), 2).tolist() == [0, 1]
    never_run = np.array([[NAN, NAN], [0.1, 0.9]])
    assert category_map(never_run, np.array([0, 1]), 2).tolist() == [1, 1]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"matrix \(4, 3\) and choice \(3,\) differ in N"):
        quality(SCORES, CHOICE[:3])
    for wrong in (-1, 3):
        with pytest.raises(ValueError, match=rf"{wrong} is not in 0\.\.2"):
            regrets(SCORES, np.array([0, 0, 0, wrong]))
    with pytest.raises(ValueError, match="1 prompts were run on no expert, first 1"):
        oracle_scores(np.array([[1.0, 0.0], [NAN, NAN]]))
    with pytest.raises(ValueError, match="no expert was run"):
        best_single(np.full((2, 2), NAN))
    with pytest.raises(ValueError, match="none is known"):
        known_mean(np.array([NAN]))
    with pytest.raises(ValueError, match=r"scores \(4, 3\) and costs \(4,\)"):
        oracle_choice(SCORES, costs=np.ones(4))
    with pytest.raises(ValueError, match=r"2 is not in 0\.\.1"):
        category_map(SCORES, np.array([0, 1, 1, 2]), 2)


@settings(max_examples=60)
@given(outcomes(), st.data())
def test_nothing_beats_the_oracle_and_regret_is_the_distance(scores: np.ndarray, data: st.DataObject) -> None:
    choice = data.draw(hnp.arrays(np.int64, len(scores), elements=st.integers(0, scores.shape[1] - 1)))
    chosen = chosen_scores(scores, choice)
    known = ~np.isnan(chosen)
    assert (oracle_scores(scores)[known] >= chosen[known]).all()
    np.testing.assert_equal(regrets(scores, choice)[known], (oracle_scores(scores) - chosen)[known])
    assert quality(scores, oracle_choice(scores)) == pytest.approx(oracle_scores(scores).mean())
    assert (random_scores(scores) <= oracle_scores(scores) + 1e-12).all()


@settings(max_examples=60)
@given(FILLED, st.data())
def test_a_category_oracle_is_between_the_best_single_and_the_query_oracle(
    scores: np.ndarray, data: st.DataObject
) -> None:
    categories = data.draw(hnp.arrays(np.int64, len(scores), elements=st.integers(0, 2)))
    by_category = quality(scores, category_map(scores, categories, 3)[categories])
    assert single_qualities(scores)[best_single(scores)] - 1e-12 <= by_category
    assert by_category <= oracle_scores(scores).mean() + 1e-12


@settings(max_examples=60)
@given(outcomes(), st.data())
def test_the_order_of_prompts_and_experts_does_not_matter(scores: np.ndarray, data: st.DataObject) -> None:
    rows = np.array(data.draw(st.permutations(range(len(scores)))))
    columns = np.array(data.draw(st.permutations(range(scores.shape[1]))))
    moved = scores[rows][:, columns]
    np.testing.assert_allclose(single_qualities(moved), single_qualities(scores)[columns], atol=1e-12)
    np.testing.assert_allclose(random_scores(moved), random_scores(scores)[rows], atol=1e-12)
    np.testing.assert_equal(oracle_scores(moved), oracle_scores(scores)[rows])
    costs = np.arange(scores.shape[1], dtype=float)  # distinct, so the choice is one
    np.testing.assert_equal(columns[oracle_choice(moved, costs[columns])], oracle_choice(scores, costs)[rows])
