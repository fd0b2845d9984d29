"""An embedder without a model: each word adds to a few places that its hash names. The fake behind the real ones.

Texts that share words are near each other, so what is built on embedders can be tried with it, quickly and anywhere.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import numpy as np

from experts.types import ExpertId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from experts.embedders.embedder import Kind

_WORD: Final = re.compile(r"\w+")
_PLACES: Final = 4  # of each word: with fewer, two words that meet in one are taken for each other
_MOST_CHARS: Final = 20_000


class HashingEmbedder:
    """Unit vectors of word counts, hashed. It has no state but its dimensions."""

    def __init__(self, expert_id: str = "hashing", dimensions: int = 256) -> None:
        self._id = ExpertId(expert_id)
        self._dimensions = dimensions

    @property
    def id(self) -> ExpertId:
        """See Embedder."""
        return self._id

    @property
    def dimensions(self) -> int:
        """See Embedder."""
        return self._dimensions

    @property
    def fingerprint(self) -> str:
        """See Embedder."""
        return f"hashing-1-{self._dimensions}"

    def embed(self, texts: Sequence[str], kind: Kind) -> NDArray[np.float32]:  # noqa: ARG002 - a query is a text too
        """See Embedder."""
        rows = np.zeros((len(texts), self._dimensions), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in _WORD.findall(text[:_MOST_CHARS].lower()):
                self._add(row, word)
            if not row.any():
                row[0] = 1.0
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows

    def _add(self, row: NDArray[np.float32], word: str) -> None:
        digest = blake2b(word.encode("utf-8", "surrogatepass"), digest_size=4 * _PLACES).digest()
        for value in np.frombuffer(digest, "<u4").tolist():
            row[(value >> 1) % self._dimensions] += 1.0 if value & 1 else -1.0
