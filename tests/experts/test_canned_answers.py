"""Answers by rule."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.canned_answers import MATCHED_CHARS, CannedAnswer, CannedAnswers, compiled

RULES = CannedAnswers(
    [
        CannedAnswer("pattern", match="(good )?(morning|evening).*"),
        CannedAnswer("greeting", ("Hello", "good morning")),
        CannedAnswer("thanks", ("thank you", "mille  grazie!")),
        CannedAnswer("late", ("hello",)),
    ],
    "default",
)


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("hello", "greeting"),
        ("  HELLO!! ", "greeting"),
        ("¡Hello!", "greeting"),
        ("mille grazie", "thanks"),
        ("Good morning", "greeting"),  # exact texts are looked at before patterns
        ("good evening to you", "pattern"),
        ("Evening", "pattern"),
        ("a good evening", None),  # a pattern is for the whole text
        ("hello, how do I sort a list?", None),
        ("", None),
        ("?!", None),
        ("\ud800", None),
    ],
)
def test_the_rule_that_fits(text: str, reply: str | None) -> None:
    assert RULES.find(text) == reply


@given(st.text(max_size=40))
def test_any_text_has_one_answer_at_most_and_padding_changes_none(text: str) -> None:
    assert RULES.find(text) in {None, "pattern", "greeting", "thanks"}
    assert CannedAnswers([CannedAnswer("all", match="(?s).+")], "").find(text) == ("all" if text.strip() else None)


def test_a_long_text_fits_no_rule() -> None:
    everything = CannedAnswers([CannedAnswer("x", match="a*")], "")
    assert everything.find("a" * MATCHED_CHARS) == "x"
    assert everything.find("a" * (MATCHED_CHARS + 1)) is None


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|a)*b", "(a|aa)+$b", r"(.*?,){25}b"])
def test_no_pattern_takes_long(pattern: str) -> None:
    """Python's own engine would not return from these."""
    rules = CannedAnswers([CannedAnswer("x", match=pattern)], "")
    started_s = time.perf_counter()
    assert rules.find("a" * MATCHED_CHARS) is None
    assert time.perf_counter() - started_s < 0.1


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("(hi", "unclosed group"),
        ("a)|(b", "unopened group"),
        (r"(a)\1", "backreferences are not supported"),
        ("(?=a)", "look-around"),
        ("(a{1000}){1000}", "size limit"),
    ],
)
def test_a_pattern_that_cannot_be_used_says_why(pattern: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        compiled(pattern)
