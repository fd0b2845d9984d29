"""Requests as token ids: each part is tokenized by itself, so that a passage is the same tokens wherever it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tokenizers import Tokenizer

from experts.errors import ConfigError
from memory_tiers.kv.prompt import Prompt

if TYPE_CHECKING:
    from pathlib import Path

    from eval.chunks.workload import Request

HEAD: Final = (
    "<|im_start|>system\nYou answer questions from the passages you are given.<|im_end|>\n<|im_start|>user\n"
    "Passages:\n\n"
)
CHUNK: Final = "{passage}\n\n"
QUESTION: Final = "Question: {question}\nAnswer with a few words.<|im_end|>\n<|im_start|>assistant\n"


class PromptWriter:
    """Writes prompts in ChatML, which the models here were tuned on."""

    def __init__(self, folder: Path, passage_tokens: int | None = None) -> None:
        """passage_tokens: longer ones are cut. Raises: ConfigError: the folder has no tokenizer that can be used."""
        self._longest = passage_tokens
        path = folder / "tokenizer.json"
        try:
            self._tokenizer = Tokenizer.from_str(path.read_text())
        except Exception as error:
            raise ConfigError(str(path), None, f"cannot be read: {error}") from error

    def write(self, request: Request) -> Prompt:
        """The prompt of a request."""
        chunks = tuple(self._ids(CHUNK.format(passage=passage))[: self._longest] for passage in request.passages)
        return Prompt(self._ids(HEAD), chunks, self._ids(QUESTION.format(question=request.question)))

    def read(self, tokens: list[int]) -> str:
        """Generated tokens as text."""
        return str(self._tokenizer.decode(tokens))

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)
