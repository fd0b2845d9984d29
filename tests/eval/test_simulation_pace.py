from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.simulation.arrival import Arrival, TraceRow
from eval.simulation.pace import at_rate, first_seconds, from_start, mean_rate
from experts.errors import ConfigError
from experts.types import ExpertId

TIMES = st.lists(st.floats(0, 1e6), min_size=2, max_size=40)


def rows(times: list[float]) -> tuple[TraceRow, ...]:
    return tuple(TraceRow(at_s, number, 1) for number, at_s in enumerate(times))


@given(TIMES)
def test_from_start_sorts_and_loses_nobody(times: list[float]) -> None:
    found = from_start(rows(times))
    assert found[0].at_s == 0
    assert [row.at_s for row in found] == sorted(at_s - min(times) for at_s in times)
    assert sorted(row.prompt_tokens for row in found) == list(range(len(times)))


def test_requests_of_one_moment_stay_in_order() -> None:
    assert [row.prompt_tokens for row in from_start(rows([2, 1, 2, 1]))] == [1, 3, 0, 2]


@given(TIMES, st.floats(0.01, 100))
def test_another_rate_keeps_the_shape(times: list[float], rate_rps: float) -> None:
    if max(times) - min(times) < 1e-3:
        return
    before = from_start(rows(times))
    after = at_rate(before, rate_rps)
    assert mean_rate(after) == pytest.approx(rate_rps)
    old, new = (np.diff([row.at_s for row in found]) for found in (before, after))
    np.testing.assert_allclose(new / new.sum(), old / old.sum(), atol=1e-9)
    assert [row.prompt_tokens for row in after] == [row.prompt_tokens for row in before]


def test_arrivals_keep_their_experts() -> None:
    arrivals = [Arrival(at_s, ExpertId("e"), "s", 1, 2) for at_s in (0.0, 1.0, 4.0)]
    assert at_rate(arrivals, 1.0) == tuple(Arrival(at_s, ExpertId("e"), "s", 1, 2) for at_s in (0.0, 0.5, 2.0))


@pytest.mark.parametrize("rate_rps", [0, -1, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(rate_rps: float) -> None:
    with pytest.raises(ConfigError, match=r"rate_rps = .*must be above 0"):
        at_rate(rows([0, 1]), rate_rps)


def test_requests_without_gaps_have_no_rate() -> None:
    assert mean_rate(()) == mean_rate(rows([3])) == 0
    assert at_rate(rows([0]), 5) == rows([0])
    with pytest.raises(ConfigError, match="all 3 requests come at one moment"):
        at_rate(rows([1, 1, 1]), 5)


def test_first_seconds_end_before_the_last() -> None:
    assert [row.at_s for row in first_seconds(rows([0, 1, 2, 3]), 2)] == [0, 1]
