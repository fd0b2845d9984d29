"""Whom to bring in early: worth its transfer, the best first, within what is spare."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.types import ExpertId
from memory_tiers.prefetch import Guess, Link, gain_s, plan_prefetch

BUSY = Link(bytes_per_s=10.0, contention_ratio=0.5)
GUESSES = st.lists(
    st.builds(
        Guess,
        st.integers(0, 99).map(lambda n: ExpertId(f"e{n}")),
        st.floats(0, 1),
        st.integers(1, 100),
        st.floats(0, 20),
    ),
    max_size=12,
)


def guess(name: str, probability: float, size: int = 40, saved_s: float = 8.0) -> Guess:
    return Guess(ExpertId(name), probability, size, saved_s)


def test_a_prefetch_has_to_save_more_than_it_costs_others() -> None:
    worth, even, waste = guess("w", 0.26), guess("e", 0.25), guess("x", 0.24)
    assert [gain_s(g, BUSY) for g in (worth, even, waste)] == pytest.approx([0.08, 0.0, -0.08])
    assert plan_prefetch([waste, even, worth], 1000, 10, BUSY) == [worth]
    assert plan_prefetch([waste], 1000, 10, Link(bytes_per_s=10.0)) == [waste]


def test_a_large_guess_that_does_not_fit_leaves_room_for_a_smaller_one() -> None:
    large, small = guess("l", 0.9, size=90, saved_s=20.0), guess("s", 0.5, size=10)
    assert plan_prefetch([small, large], 100, 2, BUSY) == [large, small]
    assert plan_prefetch([small, large], 100, 1, BUSY) == [large]
    assert plan_prefetch([small, large], 50, 2, BUSY) == [small]
    assert plan_prefetch([small, large], 100, 0, BUSY) == []


@given(guesses=GUESSES, spare_bytes=st.integers(0, 200), slots=st.integers(0, 4))
def test_a_plan_fits_and_leaves_out_nothing_better_that_would_have_fitted(
    guesses: list[Guess], spare_bytes: int, slots: int
) -> None:
    plan = plan_prefetch(guesses, spare_bytes, slots, BUSY)
    left = spare_bytes - sum(g.size_bytes for g in plan)
    assert left >= 0
    assert len(plan) <= slots
    assert all(gain_s(g, BUSY) > 0 for g in plan)
    if len(plan) < slots:
        assert all(g.size_bytes > left for g in guesses if g not in plan and gain_s(g, BUSY) > 0)


@pytest.mark.parametrize(("bytes_per_s", "contention"), [(0.0, 0.5), (-1.0, 0.5), (1.0, -0.1)])
def test_a_link_that_cannot_be_is_refused(bytes_per_s: float, contention: float) -> None:
    with pytest.raises(ValueError, match=r"is not positive|is negative"):
        Link(bytes_per_s, contention)
