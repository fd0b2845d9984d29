"""Prompts of an exact length in tokens, for measuring what a routing decision takes at that length."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from eval.serving.prompts import prompt_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SPECIAL = 2  # [CLS] and [SEP], which count


class SizedPrompts:
    """Writes prompts that the encoder's tokenizer cuts into exactly so many tokens, no two alike in its life."""

    def __init__(self, tokenizer: Path) -> None:
        from tokenizers import Tokenizer  # noqa: PLC0415 - importing this module stays cheap

        self._tokenizer: Any = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._numbers = count()

    def of(self, tokens: int) -> Iterator[str]:
        """Prompts without end. Raises: ValueError: that length cannot be met."""
        return (self._prompt(next(self._numbers), tokens) for _ in count())

    def tokens(self, text: str) -> int:
        """How many there are, [CLS] and [SEP] included; all that tokenising takes."""
        return len(self._tokenizer.encode_batch_fast([text])[0].ids)

    def _prompt(self, number: int, tokens: int) -> str:
        """The number first, so that no cut makes two alike; a piece of a word is cut off behind, never in it."""
        text = f"Case {number}."
        found = self._tokenizer.encode(text)
        while len(found.ids) < tokens:
            text = f"{text} {prompt_text(number + len(text))}"
            found = self._tokenizer.encode(text)
        cut = text[: found.offsets[tokens - _SPECIAL][1]]
        if self.tokens(cut) != tokens:
            raise ValueError(f"{cut!r} has {self.tokens(cut)} tokens, not {tokens}")
        return cut
