from __future__ import annotations

import time
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.simulation.popularity import zipf_shares
from eval.simulation.suitability import belady_hits, lru_hits, mean_srp, sch_hits, srp, suitability
from tests.simulation_cases import EXPERT_TRACES

WORKED = [0, 1, 2, 0, 1, 3, 0, 1, 2, 3, 0, 1, 4, 0, 1, 2]
SLOTS = st.integers(1, 8)


@pytest.mark.parametrize(
    ("used", "window", "expected"),
    [([1, 1, 0, 0, 1, 0], 2, 10 / 13), ([1, 1, 1, 1, 0, 0, 0, 0], 4, 0.8182), ([1, 0] * 8, 4, 2 / 3)],
)
def test_srp_of_the_worked_examples(used: list[int], window: int, expected: float) -> None:
    assert srp(np.array(used, dtype=bool), window) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(("slots", "lru", "sch", "belady"), [(2, 0, 3, 4), (3, 6, 8, 8), (4, 10, 11, 11)])
def test_hits_of_the_worked_example(slots: int, lru: int, sch: int, belady: int) -> None:
    assert (lru_hits(WORKED, slots), sch_hits(WORKED, slots, 4), belady_hits(WORKED, slots)) == (lru, sch, belady)


def srp_by_definition(used: list[bool], window: int) -> float:
    uses = [sum(used[p : p + window]) for p in range(len(used) - window + 1)]
    return max(
        (
            2 * sum(f for f in uses if f >= a) / (window * sum(f >= a for f in uses) + sum(uses))
            for a in range(1, window + 1)
            if sum(uses)
        ),
        default=0.0,
    )


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.data())
def test_srp_is_its_definition_and_a_share(used: list[bool], draw: st.DataObject) -> None:
    window = draw.draw(st.integers(1, len(used)))
    found = srp(np.array(used), window)
    assert found == pytest.approx(srp_by_definition(used, window))
    assert 0 <= found <= 1


@given(EXPERT_TRACES, st.data())
def test_mean_srp_weighs_experts_by_use(trace: list[int], draw: st.DataObject) -> None:
    window = draw.draw(st.integers(1, len(trace)))
    by_request = [srp(np.array(trace) == expert, window) for expert in trace]
    assert mean_srp(trace, window) == pytest.approx(np.mean(by_request))


def most_hits(trace: tuple[int, ...], slots: int) -> int:
    """Every choice of what makes room, tried."""

    @cache
    def best(position: int, resident: frozenset[int]) -> int:
        if position == len(trace):
            return 0
        expert = trace[position]
        if expert in resident:
            return 1 + best(position + 1, resident)
        if len(resident) < slots:
            return best(position + 1, resident | {expert})
        return max(best(position + 1, resident - {gone} | {expert}) for gone in resident)

    return best(0, frozenset())


@given(st.lists(st.integers(0, 4), max_size=14), st.integers(1, 4))
def test_belady_is_the_best_there_is(trace: list[int], slots: int) -> None:
    assert belady_hits(trace, slots) == most_hits(tuple(trace), slots)


def lru_by_definition(trace: list[int], slots: int) -> int:
    hits, order = 0, []
    for expert in trace:
        hits += expert in order
        order = [*[other for other in order if other != expert], expert][-slots:]
    return hits


def sch_by_definition(trace: list[int], slots: int, window: int) -> int:
    hits, order = 0, []  # least recently used first
    for position, expert in enumerate(trace):
        if expert in order:
            hits += 1
            order.remove(expert)
        elif len(order) == slots:
            order.remove(min(order, key=trace[position + 1 : position + 1 + window].count))
        order.append(expert)
    return hits


@given(EXPERT_TRACES, SLOTS, st.integers(1, 70))
def test_caches_follow_their_rules_and_none_beats_belady(trace: list[int], slots: int, window: int) -> None:
    lru, sch, belady = lru_hits(trace, slots), sch_hits(trace, slots, window), belady_hits(trace, slots)
    assert lru == lru_by_definition(trace, slots)
    assert sch == sch_by_definition(trace, slots, window)
    assert max(lru, sch) <= belady <= len(trace) - len(set(trace))
    assert belady <= belady_hits(trace, slots + 1)
    if slots >= len(set(trace)):
        assert lru == sch == belady == len(trace) - len(set(trace))


def test_names_and_numbers_are_the_same_to_a_cache() -> None:
    names = [f"expert-{number}" for number in WORKED]
    assert suitability(names, 3, 4) == suitability(WORKED, 3, 4)
    found = suitability(names, 3, 4)
    assert (found.requests, found.experts, found.slots, found.window) == (16, 5, 3, 4)
    assert (found.lru_hit_ratio, found.sch_hit_ratio, found.belady_hit_ratio) == (6 / 16, 0.5, 0.5)


def test_what_cannot_be_measured_is_refused() -> None:
    for measure in (lru_hits, belady_hits, lambda trace, slots: sch_hits(trace, slots, 4)):
        with pytest.raises(ValueError, match="slots 0 is below 1"):
            measure(WORKED, 0)
    with pytest.raises(ValueError, match="window 0 is below 1"):
        sch_hits(WORKED, 2, 0)
    for window in (0, 17):
        with pytest.raises(ValueError, match=rf"window {window} is not in \[1, 16\]"):
            mean_srp(WORKED, window)
    with pytest.raises(ValueError, match=r"not in \[1, 0\]"):
        mean_srp([], 1)


def test_an_hour_of_requests_takes_seconds() -> None:
    trace = np.random.default_rng(0).choice(50, 20_000, p=zipf_shares(50, 1.0)).tolist()
    begin_s = time.process_time()
    for slots in (2, 8, 40):
        suitability(trace, slots, 256)
    assert time.process_time() - begin_s < 6
