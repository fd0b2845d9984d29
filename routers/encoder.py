"""The routing encoder: all-MiniLM-L6-v2 as deep as routing wants it, in the router's own terms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experts.embedders.minilm_engine import MiniLm
from routers.types import Encoded

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class MiniLmEncoder:
    """Encodes texts with the fused graph at `model`.

    max_tokens: longer texts are cut to it, [CLS] and [SEP] included. threads: cores of one forward pass.
    Raises: ConfigError: a file is missing or of the wrong kind, or max_tokens is outside 3 to 512.
    """

    def __init__(self, model: Path, tokenizer: Path, max_tokens: int = 128, threads: int = 2) -> None:
        self._engine = MiniLm(model, tokenizer, max_tokens, threads)

    @property
    def dimensions(self) -> int:
        """D, the length of a vector."""
        return self._engine.dimensions

    @property
    def encoder_hash(self) -> str:
        """The engine's fingerprint: equal hashes mean comparable vectors."""
        return self._engine.fingerprint

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Encode `texts`. Shapes: B texts -> vectors (B, D)."""
        read = self._engine.read(texts)
        return Encoded(tuple(texts), read.vectors, read.truncated, read.tokens, read.word_pieces)
