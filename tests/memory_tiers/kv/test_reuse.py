"""The worked examples of the method, and what must hold for all numbers."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_tiers.kv.chunk_key import ChunkKey
from memory_tiers.kv.reuse import (
    ChunkStatistics,
    ReuseRules,
    context_impact,
    disorder,
    first_tokens,
    fix_overhead,
    focused,
    kept_share,
    most_attending,
    most_deviating,
    ordered_share,
    plan_chunk,
    plan_variant,
    recompute_count,
)

A, B, C, D = (ChunkKey(name) for name in "abcd")
SHARE = st.floats(0, 1)
KEYS = st.lists(st.sampled_from([A, B, C, D]), max_size=4, unique=True)


def f32(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def statistics(prefix: str = "ab", tokens: int = 40, *, outer: float = 0.02, exact: bool = True) -> ChunkStatistics:
    keys = tuple(ChunkKey(name) for name in prefix)
    by_token = np.linspace(1, 0, tokens, dtype=np.float32) if keys else np.zeros(tokens, dtype=np.float32)
    inter = np.arange(1, len(keys) + 1, dtype=np.float32)
    return ChunkStatistics(keys, inter, outer if keys else 0.0, 0.04, by_token, exact)


def test_the_worked_example() -> None:
    impact = context_impact(0.02, 0.04)
    assert impact == pytest.approx(0.622459, abs=5e-7)
    assert disorder([A, B, C], [A, C, B]) == pytest.approx(1 / 3)
    ordered = ordered_share([A, B, C, D], f32(3, 3, 2, 2), [A, C, B])
    assert kept_share([A, B, C, D], f32(3, 3, 2, 2), [A, C, B]) == pytest.approx(0.8)
    assert ordered == pytest.approx(0.533333, abs=5e-7)
    cfo = fix_overhead(1.0, impact, ordered)
    assert cfo == pytest.approx(0.290481, abs=5e-7)
    assert recompute_count(cfo, 512) == 149


def test_all_kept_in_order_costs_nothing() -> None:
    assert fix_overhead(1.0, context_impact(0.02, 0.04), 1.0) == 0
    assert recompute_count(0.0, 512) == 0


def test_three_chunks_reversed_lose_all() -> None:
    assert disorder([A, B, C], [C, B, A]) == 1
    assert ordered_share([A, B, C], f32(1, 2, 3), [C, B, A]) == 0


@given(alpha=st.floats(0, 3), impact=st.floats(0.5, 1), low=SHARE, high=SHARE)
def test_the_share_falls_in_what_is_kept(alpha: float, impact: float, low: float, high: float) -> None:
    low, high = sorted((low, high))
    assert 0 <= fix_overhead(alpha, impact, high) <= fix_overhead(alpha, impact, low) <= 1


@given(alpha=st.floats(0, 3), ordered=SHARE, low=st.floats(0, 9), high=st.floats(0, 9), inner=st.floats(0.01, 1))
def test_the_share_rises_in_the_impact(alpha: float, ordered: float, low: float, high: float, inner: float) -> None:
    low, high = sorted((low, high))
    less, more = context_impact(low, inner), context_impact(high, inner)
    assert 0.5 <= less <= more <= 1
    assert fix_overhead(alpha, less, ordered) <= fix_overhead(alpha, more, ordered)


@given(old=KEYS, new=KEYS, paid=st.lists(st.floats(0, 10, width=32), min_size=4, max_size=4))
def test_shares_are_shares_and_the_same_prefix_keeps_all(
    old: list[ChunkKey], new: list[ChunkKey], paid: list[float]
) -> None:
    inter = f32(*paid[: len(old)])
    assert 0 <= ordered_share(old, inter, new) <= kept_share(old, inter, new) <= 1
    assert ordered_share(old, inter, old) == 1


@pytest.mark.parametrize("new", list(permutations([A, B, C, D])))
def test_disorder_is_the_share_of_swaps_that_a_bubble_sort_makes(new: tuple[ChunkKey, ...]) -> None:
    row, swaps = list(new), 0
    for end in range(len(row) - 1, 0, -1):
        for at in range(end):
            if row[at] > row[at + 1]:
                row[at], row[at + 1], swaps = row[at + 1], row[at], swaps + 1
    assert disorder([A, B, C, D], new) == swaps / 6


def test_a_chunk_that_comes_twice_counts_once_in_the_order() -> None:
    assert disorder([A, B, A], [A, B]) == 0
    assert disorder([B, A], [A, B, A]) == 1


@given(cfo=SHARE, tokens=st.integers(1, 5000))
def test_the_count_is_the_smallest_that_is_enough(cfo: float, tokens: int) -> None:
    count = recompute_count(cfo, tokens)
    assert count == tokens or count >= cfo * tokens > count - 1
    assert recompute_count(1.0, tokens) == tokens


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=40), st.integers(0, 50))
def test_those_that_attend_most_are_chosen_in_order(weights: list[float], count: int) -> None:
    chosen = list(most_attending(f32(*weights), count))
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(count, len(weights))
    rest = [w for at, w in enumerate(weights) if at not in chosen]
    assert not rest or not chosen or max(rest) <= min(weights[at] for at in chosen)


def test_of_equals_the_earlier_is_chosen() -> None:
    assert list(most_attending(f32(1, 2, 1, 1), 2)) == [0, 1]


def test_epic_takes_the_first_and_cacheblend_the_farthest() -> None:
    assert list(first_tokens(5, 3)) == [0, 1, 2]
    assert list(first_tokens(2, 3)) == [0, 1]
    assert list(most_deviating(f32(0, 5, 1, 9, 0, 0), 0.16)) == [3]
    assert list(most_deviating(f32(0, 5, 1, 9, 0, 0), 0.17)) == [1, 3]


def test_focus_is_the_fewest_that_hold_the_share() -> None:
    assert list(focused(f32(0.1, 0.6, 0.3), 0.5)) == [False, True, False]
    assert list(focused(f32(0.1, 0.6, 0.3), 0.7)) == [False, True, True]
    assert list(focused(f32(0.1, 0.6, 0.3), 1.0)) == [True, True, True]
    assert list(focused(f32(0, 0), 0.5)) == [True, True]


@given(st.lists(st.floats(0, 10, width=32), min_size=1, max_size=12), st.floats(0.01, 1))
def test_focus_holds_its_share_and_nobody_superfluous(paid: list[float], share: float) -> None:
    attention = f32(*paid).astype(np.float64)
    kept = focused(attention, share)
    assert kept.any()
    assert attention[kept].sum() >= share * attention.sum() * (1 - 1e-5)
    if attention.sum() > 0:
        least = attention[kept].min()
        assert attention[kept].sum() - least <= share * attention.sum() * (1 + 1e-5)


def test_a_chunk_without_a_prefix_computes_its_first_tokens_anew_behind_one() -> None:
    alone = statistics("", 40)
    assert ordered_share(alone.prefix, alone.inter, [A]) == 1  # the formula alone would recompute nothing
    cfo, places = plan_variant(alone, [A], ReuseRules())
    assert list(places) == list(range(16))
    assert cfo == 16 / 40
    assert len(plan_variant(alone, [], ReuseRules())[1]) == 0
    assert len(plan_variant(statistics("", 10), [A], ReuseRules())[1]) == 10


def test_the_same_prefix_in_the_same_order_computes_nothing_anew() -> None:
    cfo, places = plan_variant(statistics("ab"), [A, B], ReuseRules(alpha=3))
    assert (cfo, len(places)) == (0.0, 0)


@given(alpha=st.floats(0, 3), new=KEYS)
def test_as_many_are_chosen_as_the_formula_says(alpha: float, new: list[ChunkKey]) -> None:
    known = statistics("abc")
    ordered = ordered_share(known.prefix, known.inter, new)
    cfo, places = plan_variant(known, new, ReuseRules(alpha=alpha))
    assert cfo == fix_overhead(alpha, context_impact(0.02, 0.04), ordered)
    assert len(places) == recompute_count(cfo, 40)


def test_the_variant_with_the_lowest_share_is_taken_and_an_exact_one_before_its_equal() -> None:
    plan = plan_chunk([statistics("cd"), statistics("ab"), statistics("")], 40, [A, B, C], ReuseRules())
    assert plan.variant == 1
    assert not plan.exact
    tied = [statistics("ab", exact=False), statistics("ab")]
    plan = plan_chunk(tied, 40, [A, B], ReuseRules())
    assert (plan.variant, plan.exact) == (1, True)
    assert not plan_chunk(tied[:1], 40, [A, B], ReuseRules()).exact


def test_without_a_variant_or_above_the_guard_the_whole_chunk_is_computed() -> None:
    for variants, rules in (([], ReuseRules()), ([statistics("cd")], ReuseRules(max_cfo=0.6))):
        plan = plan_chunk(variants, 40, [A, B], rules)
        assert (plan.variant, plan.cfo) == (None, 1.0)
        assert list(plan.recompute) == list(range(40))
    assert plan_chunk([statistics("cd")], 40, [A, B], ReuseRules(max_cfo=0.63)).variant == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"alpha": -1.0}, "alpha -1.0"),
        ({"alpha": float("nan")}, "alpha nan"),
        ({"boundary_tokens": -1}, "boundary_tokens -1"),
        ({"max_cfo": 1.5}, "max_cfo 1.5"),
    ],
)
def test_wrong_rules_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReuseRules(**wrong)


def test_wrong_statistics_are_refused() -> None:
    with pytest.raises(ValueError, match="inter has 1 values for a prefix of 2 chunks"):
        ChunkStatistics((A, B), f32(1), 0.0, 1.0, f32(1))
    with pytest.raises(ValueError, match="inner_mean 0"):
        context_impact(0.1, 0)
