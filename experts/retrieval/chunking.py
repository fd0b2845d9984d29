"""Cut a document into passages: by tokens, at the best boundary within reach, overlapping, with offsets. Pure.

A token here is a word of at most 16 characters, a single ideograph, or a punctuation mark: what every tokenizer makes
one piece of or a little more, and what needs no model. A passage ends where a paragraph does if one ends in its last
half, else where a sentence does, else a line, else a word.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_TOKEN: Final = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]|[^\W\u2e80-\u9fff\uac00-\ud7af]{1,16}|[^\w\s]")
_WIDE_ENDS: Final = "\u3002\uff01\uff1f"  # of a sentence, where no space follows
_GAPS: Final = (  # between two tokens, the strongest first
    re.compile(r"\n[^\S\n]*\n"),
    re.compile(r"(?<=[.!?\u3002\uff01\uff1f])[\"')\]]*(?:\s|$)|(?<=[\u3002\uff01\uff1f])"),
    re.compile(r"\n"),
)


@dataclass(frozen=True, slots=True)
class ChunkSize:
    """How long passages are. overlap_tokens: what one repeats of its predecessor, at most half of max_tokens."""

    max_tokens: int
    overlap_tokens: int

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens {self.max_tokens} is not positive")
        if not 0 <= self.overlap_tokens <= self.max_tokens // 2:
            raise ValueError(f"overlap_tokens {self.overlap_tokens} is not between 0 and {self.max_tokens // 2}")


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document: `document[start:end] == text`. tokens: how many it has."""

    text: str
    start: int
    end: int
    tokens: int


def token_spans(text: str) -> list[tuple[int, int]]:
    """Where each token of `text` begins and ends."""
    return [match.span() for match in _TOKEN.finditer(text)]


def split(text: str, size: ChunkSize) -> list[Passage]:
    """The passages of `text`, in its order; none where it has no token.

    Every token is in one of them, none has more than max_tokens, and each begins after the one before it.
    """
    spans = token_spans(text)
    breaks = _breaks(text, spans)
    passages, begin = [], 0
    while begin < len(spans):
        end = _end(begin, len(spans), size, breaks)
        start_char, end_char = spans[begin][0], spans[end - 1][1]
        passages.append(Passage(text[start_char:end_char], start_char, end_char, end - begin))
        if end == len(spans):
            break
        begin = max(begin + 1, _resume(end, size, breaks))
    return passages


def _breaks(text: str, spans: Sequence[tuple[int, int]]) -> list[list[int]]:
    """For each strength the tokens before which the text breaks that strongly, or more so, ascending."""
    found: list[list[int]] = [[] for _ in _GAPS]
    for token in range(1, len(spans)):
        before, after = spans[token - 1][1], spans[token][0]
        if before == after and text[before - 1] not in _WIDE_ENDS:
            continue
        for strength, gap in enumerate(_GAPS):
            if gap.search(text, before - 1, after):
                for weaker in found[strength:]:
                    weaker.append(token)
                break
    return found


def _end(begin: int, total: int, size: ChunkSize, breaks: Sequence[Sequence[int]]) -> int:
    """One past the last token of the passage that begins at `begin`."""
    furthest = begin + size.max_tokens
    if furthest >= total:
        return total
    least = begin + (size.max_tokens + 1) // 2
    for places in breaks:
        last = bisect_left(places, furthest + 1) - 1
        if last >= 0 and places[last] > least:
            return places[last]
    return furthest


def _resume(end: int, size: ChunkSize, breaks: Sequence[Sequence[int]]) -> int:
    """Where the next passage begins: at the first sentence within the overlap, else as far back as it reaches."""
    earliest = end - size.overlap_tokens
    sentences = breaks[1]
    at = bisect_left(sentences, earliest)
    return sentences[at] if at < len(sentences) and sentences[at] < end else earliest
