"""Hashed n-grams against a reference that goes through a text symbol by symbol."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routers.lexical import (
    BUCKET_BITS,
    BUCKETS,
    LETTERS,
    LexicalSpace,
    SparseRow,
    fit_lexical,
    letter_buckets,
    word_buckets,
)
from routers.types import Encoded

WORD = (1 << 64) - 1
FLAT = LexicalSpace(np.ones(BUCKETS, np.float32), np.ones(BUCKETS, np.float32))


def hashed(symbols: list[int], orders: tuple[int, ...]) -> Counter[int]:
    """Every n-gram's bucket, each hashed from its first symbol on."""
    found: Counter[int] = Counter()
    for order in orders:
        for start in range(len(symbols) - order + 1):
            value = symbols[start] + 1
            for at in range(2, order + 1):
                value = (value * 0x9E3779B97F4A7C15 + symbols[start + at - 1] + 1) & WORD
            value ^= value >> 29
            found[((value * 0xD6E8FEB86659FD93) & WORD) >> (64 - BUCKET_BITS)] += 1
    return found


def encoded(*texts: str, pieces: tuple[list[int], ...] | None = None) -> Encoded:
    n = len(texts)
    own = () if pieces is None else tuple(np.array(row, np.int64) for row in pieces)
    return Encoded(texts, np.zeros((n, 2), np.float32), (False,) * n, (1,) * n, own)


def length(row: SparseRow) -> float:
    return float(np.linalg.norm(row.weights))


@given(st.lists(st.integers(0, 30_521), max_size=40))
def test_word_buckets_are_the_references(pieces: list[int]) -> None:
    assert Counter(word_buckets(np.array(pieces, np.int64)).tolist()) == hashed(pieces, (1, 2, 3))


@given(st.text(max_size=60))
def test_letter_buckets_are_the_references(text: str) -> None:
    plain = f" {' '.join(text.lower().split())} ".encode("utf-8", "replace")
    assert Counter(letter_buckets(text).tolist()) == hashed(list(plain), (2, 3, 4, 5))


@given(st.lists(st.text(st.characters(), max_size=30), min_size=1, max_size=6), st.data())
@settings(max_examples=40)
def test_rows_are_of_unit_length_or_empty_with_rising_buckets(texts: list[str], data: st.DataObject) -> None:
    some = st.lists(st.integers(0, 50), max_size=8)
    batch = encoded(*texts, pieces=tuple(data.draw(some) for _ in texts))
    for row, pieces in zip(fit_lexical(batch).rows(batch), batch.word_pieces, strict=True):
        assert length(row.words) == pytest.approx(1 if len(pieces) else 0, abs=1e-5)
        assert length(row.letters) == pytest.approx(1, abs=1e-5)
        for side in (row.words, row.letters):
            assert (np.diff(side.buckets) > 0).all()
            assert side.weights.dtype == np.float32


def test_a_repeated_piece_weighs_by_the_logarithm_of_its_count() -> None:
    (row,) = FLAT.rows(encoded("", pieces=([7, 7, 7],)))
    counts = [3, 2, 1]  # 7, 7 7, 7 7 7
    wanted = np.array([1 + math.log(count) for count in counts])
    assert sorted(row.words.weights.tolist(), reverse=True) == pytest.approx(
        (wanted / np.linalg.norm(wanted)).tolist(), abs=1e-6
    )


def test_rare_ngrams_weigh_by_inverse_document_frequency() -> None:
    batch = encoded("x", "y", "z", pieces=([1, 1], [1], [2]))
    space = fit_lexical(batch)
    (one,), (two,) = ({*word_buckets(np.array([piece]))} for piece in (1, 2))
    assert space.words[one] == pytest.approx(math.log(4 / 3) + 1)  # in two of three texts, however often
    assert space.words[two] == pytest.approx(math.log(4 / 2) + 1)
    unseen = next(b for b in range(BUCKETS) if space.words[b] == space.words.max())
    assert space.words[unseen] == pytest.approx(math.log(4) + 1)


@pytest.mark.parametrize("text", ["", "a", "é", "\ud800", "x\udfffy", "日本語", "\0"])
def test_every_text_has_letters(text: str) -> None:
    (row,) = FLAT.rows(encoded(text, pieces=([],)))
    assert length(row.letters) == pytest.approx(1, abs=1e-5)
    assert len(row.words.buckets) == 0


def test_an_encoder_without_word_pieces_leaves_the_letters() -> None:
    batch = encoded("one", "two")
    first, second = fit_lexical(batch).rows(batch)
    assert len(first.words.buckets) == len(second.words.buckets) == 0
    assert first.letters.buckets.tolist() != second.letters.buckets.tolist()


@given(st.text(st.sampled_from("abcXYZ123 "), max_size=40), st.sampled_from(["  ", "\n", "\t \n"]))
def test_letter_case_and_spacing_make_no_other_text(text: str, space: str) -> None:
    plain = letter_buckets(text).tolist()
    assert letter_buckets(text.upper()).tolist() == plain
    assert letter_buckets(space + text.replace(" ", space) + space).tolist() == plain


def test_word_ends_count() -> None:
    assert {*letter_buckets("to night")} != {*letter_buckets("tonight")}


def test_what_lies_beyond_the_cap_is_not_looked_at() -> None:
    body = "ab" * (LETTERS // 2)
    assert letter_buckets(body + "zz").tolist() == letter_buckets(body).tolist()
    assert len(letter_buckets("é" * LETTERS)) == sum(
        LETTERS - order + 1 for order in (2, 3, 4, 5)
    )  # bytes, not letters
    assert letter_buckets("z" + body).tolist() != letter_buckets(body).tolist()
