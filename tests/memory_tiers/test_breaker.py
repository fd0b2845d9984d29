"""A failed expert rests, longer each time; a good load ends it."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from experts.types import ExpertId
from memory_tiers.breaker import Breaker

A, B = ExpertId("a"), ExpertId("b")


def rest_s(breaker: Breaker, now_s: float) -> float:
    """How long a failure now keeps A from being tried, to a hundredth of a second."""
    breaker.failed(A, RuntimeError("no"), now_s)
    steps = 0
    while breaker.open(A, now_s + steps / 100) is not None:
        steps += 1
    return steps / 100


def test_each_failure_doubles_the_rest_up_to_the_most() -> None:
    breaker = Breaker(5.0, 30.0)
    assert [rest_s(breaker, 1000.0 * number) for number in range(5)] == [5.0, 10.0, 20.0, 30.0, 30.0]


def test_a_good_load_forgets_every_failure() -> None:
    breaker = Breaker(5.0, 30.0)
    for number in range(4):
        breaker.failed(A, RuntimeError("no"), float(number))
    breaker.healthy(A)
    assert breaker.open(A, 4.0) is None
    assert rest_s(breaker, 5.0) == 5.0
    breaker.healthy(B)  # who never failed


def test_the_last_error_is_told_and_others_are_left_alone() -> None:
    breaker = Breaker(5.0, 30.0)
    first, second = RuntimeError("first"), RuntimeError("second")
    breaker.failed(A, first, 0.0)
    breaker.failed(A, second, 1.0)
    assert breaker.open(A, 2.0) is second
    assert breaker.open(B, 2.0) is None
    assert breaker.resting(2.0) == {A}
    assert breaker.resting(11.0) == set()


@given(failures=st.integers(1, 5000), first=st.floats(0.1, 10), most=st.floats(10, 1e4))
def test_no_number_of_failures_keeps_it_away_for_longer(failures: int, first: float, most: float) -> None:
    breaker = Breaker(first, most)
    for _ in range(failures):
        breaker.failed(A, RuntimeError("no"), 0.0)
    assert breaker.open(A, most) is None
    assert breaker.open(A, first * 0.99) is not None
