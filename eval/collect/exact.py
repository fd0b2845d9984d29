"""Exact match: an answer compared with those that are accepted. Pure: text in, score out."""

from __future__ import annotations

import re
import string
import unicodedata
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_READ_CHARS: Final = 100_000  # of an answer; a model that runs away writes more
_NUMBER_CHARS: Final = 60
_THOUSANDS: Final = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_NUMBER: Final = re.compile(r"(?<![\w.])-?(?:\d+(?:\.\d+)?|\.\d+)(?:e[+-]?\d{1,3})?(?![\d])", re.IGNORECASE)
_RATIO: Final = re.compile(r"-?\d+(?:[/:]\d+)+")
_ARTICLES: Final = frozenset({"a", "an", "the"})
_MINUS: Final = str.maketrans(dict.fromkeys("−‒–—﹣－", "-"))  # noqa: RUF001 -- the signs that are not a hyphen
_MARKS: Final = re.compile(rf"[{re.escape(string.punctuation)}“”‘’«»¿¡…]+")  # noqa: RUF001 -- quotes of all kinds
_INNER: Final = re.compile(r"(?<=[^\W\d])[-'’](?=[^\W\d])")  # noqa: RUF001 -- as above
_TAIL: Final = re.compile(r"\banswer(?:\s+is\b|\s*[:=])\s*:?(?P<tail>[^\n]+)", re.IGNORECASE)
_THOUGHT: Final = re.compile(r"\A\s*<think>.*?(?:</think>|\Z)", re.DOTALL)


def visible(answer: str) -> str:
    """The answer without the reasoning that some models put before it, and cut to a length worth reading."""
    return _THOUGHT.sub("", answer, count=1)[:_READ_CHARS]


def exact_score(answer: str, accepted: Sequence[str]) -> float:
    """1 if the answer, its last line or what follows its last `answer is` is accepted; else 0.

    Case, spacing, punctuation, articles and the way a number is written do not matter. Where a number is accepted,
    the last number of the answer is compared.
    """
    said = [normalised(form) for form in _forms(answer)]
    last = _last_number(answer)
    for wanted in accepted:
        number = _number(wanted)
        if number is not None and last is not None and number == last:
            return 1.0
        if number is None and normalised(wanted) in said and normalised(wanted):
            return 1.0
    return 0.0


def normalised(text: str) -> str:
    """What of a text is compared. It is its own normal form: normalising twice changes nothing."""
    plain = unicodedata.normalize("NFKC", text).translate(_MINUS).casefold()
    plain = unicodedata.normalize("NFKC", plain)
    plain = _NUMBER.sub(_same_number, _THOUSANDS.sub("", plain))
    words = (_bare(word) for word in plain.split())
    flat = " ".join(word for word in words if word).split()
    return " ".join(word for word in flat if word not in _ARTICLES)


def _forms(answer: str) -> Iterator[str]:
    text = visible(answer).strip()
    yield text
    lines = text.splitlines()
    if lines:
        yield lines[-1]
    tails = [match["tail"] for match in _TAIL.finditer(text)]
    if tails:
        yield tails[-1]


def _last_number(answer: str) -> Decimal | None:
    plain = unicodedata.normalize("NFKC", visible(answer)).translate(_MINUS)
    found = _NUMBER.findall(_THOUSANDS.sub("", plain))
    return _number(found[-1]) if found else None


def _number(text: str) -> Decimal | None:
    plain = _THOUSANDS.sub("", unicodedata.normalize("NFKC", text).translate(_MINUS)).strip()
    if len(plain) > _NUMBER_CHARS or _NUMBER.fullmatch(plain) is None:
        return None
    try:
        value = Decimal(plain)
    except InvalidOperation:  # pragma: no cover - the pattern admits numbers only
        return None
    return value or Decimal(0)


def _same_number(match: re.Match[str]) -> str:
    value = _number(match[0])
    return match[0] if value is None else f"{value.normalize():f}"


def _bare(word: str) -> str:
    """A word without marks, but for those inside a number or between letters."""
    if _NUMBER.fullmatch(word):
        return word
    stripped = word.strip(string.punctuation.replace("-", "") + "“”‘’«»¿¡…")  # noqa: RUF001 -- as above
    if _NUMBER.fullmatch(stripped) or _RATIO.fullmatch(stripped):
        return stripped
    return _MARKS.sub(" ", _INNER.sub("", word)).strip()
