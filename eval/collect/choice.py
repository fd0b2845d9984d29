"""Multiple choice: the letter that an answer chooses. Pure: text in, letter out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from eval.collect.exact import visible
from eval.collect.tasks import CHOICE_LETTERS

if TYPE_CHECKING:
    from collections.abc import Sequence

_CAPITAL: Final = f"[{CHOICE_LETTERS}]"
_SMALL: Final = f"[{CHOICE_LETTERS.lower()}]"
# Every repetition is bounded: an answer of a hundred thousand brackets must not take a minute.
_GAP: Final = r"\s{1,3}"
_MAYBE_GAP: Final = r"\s{0,3}"
_STARS: Final = r'[*_"]{0,3}'
_OPEN: Final = r"""[(\[*"'`]{0,4}"""
_CLOSE: Final = r"""[)\]*."'`]{0,4}"""
_WRAP: Final = r"""[\s(\[{*_"'`$]{0,12}(?:\\boxed\{|\\text\{)?""" + _OPEN
_UNWRAP: Final = r"""[)\]}.*_$"'`\s]{0,12}"""
_STOP: Final = r"""[)\]}.,;:*_"`\n]|\Z|\s[-–]\s"""  # noqa: RUF001 -- a dash as people type it
_REASON: Final = r"\s(?:because|since|as|which|or|and)\b"
# `A` and `I` are words too: they count only before a stop or a reason; another capital also before any word.
_LETTER: Final = rf"(?P<letter>{_CAPITAL}(?={_STOP}|{_REASON})|[BCDEFGHJ](?=\s)|{_SMALL}(?={_STOP}))"
_NOUN: Final = r"(?i:option|choice|letter)"
_IS: Final = rf"(?i:is|(?:would|should|must){_GAP}be)"
_KEY: Final = (
    rf"\b(?i:answer|(?:correct|right|best){_GAP}{_NOUN}){_STARS}(?:{_GAP}{_IS}\b|{_MAYBE_GAP}[:=]){_MAYBE_GAP}:?"
    rf"|\b(?i:choose|pick|select|go{_GAP}with)\b"
)
_SAID: Final = re.compile(rf"(?:{_KEY}){_WRAP}(?:{_NOUN}{_GAP}{_OPEN})?{_LETTER}")
_OPENING: Final = re.compile(rf"\A{_WRAP}(?:{_NOUN}{_GAP}{_OPEN})?(?P<letter>(?:{_CAPITAL}|{_SMALL})(?={_STOP}))")
_CLOSING: Final = re.compile(rf"(?:\n|\\boxed\{{){_WRAP}(?P<letter>{_CAPITAL}){_UNWRAP}\Z")
_MARKED: Final = re.compile(rf"(?:\(|\*\*\(?|\\boxed\{{)(?P<letter>{_CAPITAL})(?=[)\]}}.*:])")
_LISTED: Final = re.compile(rf"(?:^|\s|\()(?P<letter>{_CAPITAL})[).:]", re.MULTILINE)
_A_LIST: Final = 3  # so many letters with a mark each repeat the options: the first of them is no choice
_JOIN: Final = rf"(?:,|/|&|\b(?:or|and)\b){_MAYBE_GAP}(?:(?:or|and){_GAP})?"
_HEDGE: Final = re.compile(rf"{_CLOSE}{_MAYBE_GAP}{_JOIN}(?:{_NOUN}{_GAP})?{_OPEN}{_CAPITAL}\b")


def choice_of(answer: str) -> str | None:
    """The letter an answer chooses, or None if it is not clear which.

    Read in this order: what it says the answer is, the last time it does; a letter it begins with; a letter alone on
    its last line; the only letter in brackets or in bold. `A or B` chooses nothing.
    """
    text = visible(answer).strip()
    listed = len({match["letter"] for match in _LISTED.finditer(text)}) >= _A_LIST
    for pattern in (_SAID, _CLOSING) if listed else (_SAID, _OPENING, _CLOSING):
        if found := list(pattern.finditer(text)):
            return None if _HEDGE.match(text, found[-1].end("letter")) else found[-1]["letter"].upper()
    marked = {match["letter"] for match in _MARKED.finditer(text)}
    return marked.pop() if len(marked) == 1 else None


def choice_score(answer: str, accepted: Sequence[str]) -> float | None:
    """1 or 0; None where no letter can be read."""
    letter = choice_of(answer)
    return None if letter is None else float(letter in accepted)
