"""Answers by rule: which text gets which reply, with no model asked.

Patterns are run by the regex engine that pydantic brings along (Rust's): no look-around and no backreferences, and in
exchange the time is linear in the text, whatever the pattern. So no configuration can make a request hang.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydantic_core import SchemaError, SchemaValidator, core_schema

if TYPE_CHECKING:
    from collections.abc import Iterable

MATCHED_CHARS: Final = 512  # a longer ask is no greeting, and no question of a list either
_AROUND: Final = " .,;:!?…'\"()\u3002\u3001\uff01\uff1f\u00a1\u00bf"


@dataclass(frozen=True, slots=True)
class CannedAnswer:
    """One rule: texts that are said in just these words, or a pattern that the whole text must match."""

    reply: str
    exact: tuple[str, ...] = ()
    match: str | None = None


class CannedAnswers:
    """Rules in their order, and what is said where none fits. Raises: ValueError: a pattern is none."""

    def __init__(self, answers: Iterable[CannedAnswer], default: str) -> None:
        self.default = default
        self._exact: dict[str, str] = {}
        self._patterns: list[tuple[SchemaValidator, str]] = []
        for answer in answers:
            for text in answer.exact:
                self._exact.setdefault(plain_words(text), answer.reply)
            if answer.match is not None:
                self._patterns.append((compiled(answer.match), answer.reply))

    def find(self, text: str) -> str | None:
        """The reply of the first rule that fits, exact texts before patterns; None where none does.

        An empty text, or one longer than MATCHED_CHARS, fits none.
        """
        if len(text) > MATCHED_CHARS or not (text := text.strip()):
            return None
        reply = self._exact.get(plain_words(text))
        if reply is not None:
            return reply
        return next((said for pattern, said in self._patterns if pattern.isinstance_python(text)), None)


def plain_words(text: str) -> str:
    """What makes two texts the same words: spacing, letter case and the punctuation around them do not count."""
    return " ".join(text.casefold().split()).strip(_AROUND)


def compiled(pattern: str) -> SchemaValidator:
    """A check that a whole text matches, letter case aside. Raises: ValueError: saying what is wrong with it."""
    try:  # the first on its own: `a)|(b` is no pattern, though it is one inside of the brackets that follow
        SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
        whole = rf"(?i)\A(?:{pattern})\z"
        return SchemaValidator(core_schema.str_schema(pattern=whole, regex_engine="rust-regex"))
    except SchemaError as error:
        problem = str(error).rpartition("error: ")[2].rpartition("SchemaError: ")[2].strip()
        raise ValueError(f"is no pattern that can be used: {problem}") from error
