"""Seconds of a move: by prior, by the expert's own measurements, by what others showed of the prior."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from experts.types import ExpertId
from memory_tiers.costs import DISK_TO_HOST, HOST_TO_DEVICE, PRIORS, MoveCosts, Transfer

A, B = ExpertId("a"), ExpertId("b")


def costs() -> MoveCosts:
    return MoveCosts({HOST_TO_DEVICE: Transfer(1.0, 10.0), DISK_TO_HOST: Transfer(0.0, 5.0)})


def test_before_any_measurement_the_prior_holds() -> None:
    assert costs().seconds(A, HOST_TO_DEVICE, 100) == 11.0
    assert costs().seconds(A, DISK_TO_HOST, 100) == 20.0


def test_an_experts_own_measurements_come_first_and_the_latest_counts_for_a_third_or_so() -> None:
    known = costs()
    known.observed(A, HOST_TO_DEVICE, 100, 4.0)
    assert known.seconds(A, HOST_TO_DEVICE, 100) == 4.0
    known.observed(A, HOST_TO_DEVICE, 100, 5.0)
    assert known.seconds(A, HOST_TO_DEVICE, 100) == pytest.approx(4.3)


def test_what_one_expert_shows_corrects_the_prior_of_the_others_and_of_no_other_move() -> None:
    known = costs()
    known.observed(A, HOST_TO_DEVICE, 100, 22.0)  # twice the prior
    assert known.seconds(B, HOST_TO_DEVICE, 40) == pytest.approx(2 * 5.0)
    assert known.seconds(B, DISK_TO_HOST, 40) == 8.0


def test_the_shared_priors_are_not_written_to() -> None:
    before = dict(PRIORS)
    MoveCosts().observed(A, HOST_TO_DEVICE, 10, 99.0)
    MoveCosts().priors[HOST_TO_DEVICE] = Transfer(9.0, 9.0)
    assert before == PRIORS


def test_a_move_that_a_prior_calls_free_can_be_measured() -> None:
    known = MoveCosts({HOST_TO_DEVICE: Transfer(0.0, 10.0)})
    known.observed(A, HOST_TO_DEVICE, 0, 3.0)
    assert known.seconds(A, HOST_TO_DEVICE, 0) == 3.0
    assert known.seconds(B, HOST_TO_DEVICE, 50) == 5.0


@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=30))
def test_an_estimate_lies_within_what_was_measured_and_follows_a_change(measured: list[float]) -> None:
    known = costs()
    for seconds in measured:
        known.observed(A, HOST_TO_DEVICE, 100, seconds)
    found = known.seconds(A, HOST_TO_DEVICE, 100)
    assert min(measured) * (1 - 1e-9) <= found <= max(measured) * (1 + 1e-9)
    for _ in range(20):
        known.observed(A, HOST_TO_DEVICE, 100, 7.0)
    assert known.seconds(A, HOST_TO_DEVICE, 100) == pytest.approx(7.0, abs=0.001 * max(found, 7.0) + 1e-6)
