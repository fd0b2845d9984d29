"""Passages: whole, bounded, overlapping as asked, at the best boundary there is."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.retrieval.chunking import ChunkSize, split, token_spans

SIZES = st.integers(1, 30).flatmap(lambda most: st.builds(ChunkSize, st.just(most), st.integers(0, most // 2)))
TEXTS = st.text(st.sampled_from("ab. !?\n\t,0é漢。字\u00a0-"), max_size=300) | st.text(max_size=200)


@given(TEXTS, SIZES)
def test_every_token_is_in_a_passage_and_none_is_too_long(text: str, size: ChunkSize) -> None:
    passages, spans = split(text, size), token_spans(text)
    assert all(text[p.start : p.end] == p.text for p in passages)
    assert all(1 <= p.tokens <= size.max_tokens for p in passages)
    assert all(len(token_spans(p.text)) == p.tokens for p in passages)
    covered = [any(p.start <= start and end <= p.end for p in passages) for start, end in spans]
    assert all(covered)
    assert bool(passages) == bool(spans)


@given(TEXTS, SIZES)
def test_each_begins_later_and_repeats_no_more_than_the_overlap(text: str, size: ChunkSize) -> None:
    passages = split(text, size)
    for one, other in pairwise(passages):
        assert one.start < other.start
        assert one.end < other.end
        assert len(token_spans(text[other.start : one.end])) <= size.overlap_tokens


def test_a_passage_ends_with_a_paragraph_before_a_sentence_before_a_line() -> None:
    paragraph = "one two three four five\n\nsix seven. eight nine\nten"
    assert [p.text for p in split(paragraph, ChunkSize(8, 0))] == [
        "one two three four five",
        "six seven. eight nine\nten",
    ]
    sentence = "one two three four five. Six seven\neight nine ten"
    assert split(sentence, ChunkSize(8, 0))[0].text == "one two three four five."
    line = "one two three four five\nsix seven eight nine ten"
    assert split(line, ChunkSize(8, 0))[0].text == "one two three four five"
    words = "one two three four five six seven eight nine ten"
    assert [p.tokens for p in split(words, ChunkSize(8, 0))] == [8, 2]


def test_a_break_in_the_first_half_does_not_end_a_passage() -> None:
    assert split("one.\n\ntwo three four five six seven eight nine ten", ChunkSize(8, 0))[0].tokens == 8


def test_the_overlap_begins_with_a_sentence_where_one_begins_in_it() -> None:
    text = "a b c d e f. G h i j. K l m n o p q r"
    first, second, *_ = split(text, ChunkSize(12, 6))
    assert first.text == "a b c d e f. G h i j."
    assert second.text.startswith("G h i j. K")


def test_words_without_an_end_and_ideographs_count_by_what_they_cost() -> None:
    assert [p.tokens for p in split("x" * 160, ChunkSize(5, 0))] == [5, 5]
    assert len(token_spans("漢字漢字")) == 4


@pytest.mark.parametrize(("most", "overlap"), [(0, 0), (10, 6), (10, -1)])
def test_sizes_that_cannot_be_are_refused(most: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="tokens"):
        ChunkSize(most, overlap)
