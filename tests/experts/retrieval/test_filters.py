"""Filters on attributes, as OpenAI's clients send them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.errors import InvalidRequest
from experts.retrieval.filters import parse_filter

FILE = {"year": 2024.0, "lang": "en", "draft": False}


@pytest.mark.parametrize(
    ("key", "kind", "value", "passes"),
    [
        ("year", "eq", 2024, True),
        ("year", "ne", 2024, False),
        ("year", "gt", 2023, True),
        ("year", "gte", 2024, True),
        ("year", "lt", 2024, False),
        ("year", "lte", 2024, True),
        ("lang", "in", ["de", "en"], True),
        ("lang", "nin", ["de", "en"], False),
        ("lang", "gt", "de", True),
        ("draft", "eq", False, True),
        ("draft", "eq", 0, False),  # a truth value is no number
        ("year", "eq", "2024", False),
        ("year", "gt", "2023", False),
        ("none", "eq", 1, False),
        ("none", "ne", 1, True),
        ("none", "nin", [1], True),
        ("none", "lt", 1, False),
    ],
)
def test_comparisons(key: str, kind: str, value: Any, passes: bool) -> None:
    assert parse_filter({"key": key, "type": kind, "value": value}).allows(FILE) is passes


def test_and_and_or_nest() -> None:
    english = {"key": "lang", "type": "eq", "value": "en"}
    old = {"key": "year", "type": "lt", "value": 2000}
    assert not parse_filter({"type": "and", "filters": [english, old]}).allows(FILE)
    assert parse_filter({"type": "or", "filters": [{"type": "and", "filters": [english, old]}, english]}).allows(FILE)


@pytest.mark.parametrize(
    ("value", "at"),
    [
        ("x", "filters"),
        ({"type": "like", "key": "a", "value": 1}, "filters.type"),
        ({"type": "eq", "key": "", "value": 1}, "filters.key"),
        ({"type": "eq", "key": "a", "value": None}, "filters.value"),
        ({"type": "in", "key": "a", "value": "abc"}, "filters.value"),
        ({"type": "and", "filters": []}, "filters.filters"),
        ({"type": "or", "filters": [{"type": "eq", "key": 1, "value": 1}]}, "filters.filters[0].key"),
    ],
)
def test_what_is_no_filter_is_refused_by_its_place(value: object, at: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_filter(value)
    assert refused.value.param == at


def test_a_filter_nested_without_end_is_refused() -> None:
    deep: dict[str, Any] = {"type": "eq", "key": "a", "value": 1}
    for _ in range(20):
        deep = {"type": "and", "filters": [deep]}
    with pytest.raises(InvalidRequest, match="deep"):
        parse_filter(deep)


ATTRIBUTES = st.dictionaries(st.sampled_from("ab"), st.integers(0, 3) | st.text("xy", max_size=1) | st.booleans())
LEAVES = st.builds(
    lambda key, kind, value: {"key": key, "type": kind, "value": value},
    st.sampled_from("ab"),
    st.sampled_from(["eq", "ne", "gt", "lte"]),
    st.integers(0, 3) | st.text("xy", max_size=1) | st.booleans(),
)


@given(LEAVES, LEAVES, ATTRIBUTES)
def test_joins_are_what_python_says(one: dict, other: dict, attributes: dict) -> None:
    first, second = (parse_filter(part).allows(attributes) for part in (one, other))
    assert parse_filter({"type": "and", "filters": [one, other]}).allows(attributes) == (first and second)
    assert parse_filter({"type": "or", "filters": [one, other]}).allows(attributes) == (first or second)


@given(st.sampled_from(["eq", "in"]), st.integers(0, 3) | st.text("xy", max_size=1) | st.booleans(), ATTRIBUTES)
def test_the_negations_are_negations(kind: str, value: Any, attributes: dict) -> None:
    wanted = [value] if kind == "in" else value
    if kind == "in" and isinstance(value, bool):
        return
    negated = {"eq": "ne", "in": "nin"}[kind]
    yes = parse_filter({"key": "a", "type": kind, "value": wanted}).allows(attributes)
    assert parse_filter({"key": "a", "type": negated, "value": wanted}).allows(attributes) is not yes
