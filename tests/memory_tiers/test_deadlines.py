"""When each has to begin, so that a disk that reads one after another keeps everybody's time."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from experts.types import ExpertId
from memory_tiers.deadlines import Due, begin_by


def due(name: str, start_by_s: float, reads_s: float = 0.0, then_s: float = 1.0) -> Due:
    return Due(ExpertId(name), start_by_s, reads_s, then_s)


def test_who_needs_no_reading_begins_for_itself() -> None:
    assert begin_by([due("a", 10.0), due("b", 12.0)]) == {"a": 9.0, "b": 11.0}


def test_readings_before_a_deadline_add_up_and_one_may_be_under_way() -> None:
    found = begin_by([due("a", 30.0, 7.0), due("b", 30.0, 7.0), due("c", 60.0, 7.0), due("d", 30.0)])
    assert sorted(found[ExpertId(name)] for name in "ab") == [29 - 14 - 7, 29 - 7 - 7]
    assert (found[ExpertId("c")], found[ExpertId("d")]) == (59 - 7 - 7, 29)


def test_a_later_deadline_presses_those_before_it_where_many_are_due() -> None:
    found = begin_by([due("a", 40.0, 10.0, 0.0), *(due(f"b{n}", 41.0, 10.0, 0.0) for n in range(3))])
    assert found[ExpertId("a")] == 41 - 40 - 10  # not 40 - 10 - 10


DUES = st.lists(st.tuples(st.floats(20, 200), st.floats(0.5, 10), st.floats(0, 5)), min_size=1, max_size=6)


@given(DUES)
def test_served_in_order_of_deadline_from_the_last_moment_on_everybody_is_in_time(
    drawn: list[tuple[float, float, float]],
) -> None:
    dues = [due(f"e{number}", *own) for number, own in enumerate(drawn)]
    found = begin_by(dues)
    now = min(found.values()) + max(own.reads_s for own in dues)  # a reading was under way till now
    for own in sorted(dues, key=lambda own: own.start_by_s):
        now += own.reads_s
        assert now + own.then_s <= own.start_by_s + 1e-6


@given(DUES, st.integers(0, 5))
def test_one_fewer_presses_nobody_more(drawn: list[tuple[float, float, float]], gone: int) -> None:
    dues = [due(f"e{number}", *own) for number, own in enumerate(drawn)]
    fewer = [own for number, own in enumerate(dues) if number != gone]
    before, after = begin_by(dues), begin_by(fewer)
    assert all(after[own.expert_id] >= before[own.expert_id] - 1e-6 for own in fewer)


def test_nobody_is_due() -> None:
    assert begin_by([]) == {}
    with pytest.raises(KeyError):
        begin_by([])[ExpertId("a")]
