"""Documents longer than an encoder reads, as windows that it does: a document is as near as its nearest window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from experts.retrieval.fusion import by_score

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.retrieval.collection import Document
    from experts.retrieval.ranking import Ranked
    from routers.types import F32

WORDS: Final = 180  # with a title about the 256 tokens that MiniLM reads
STEP: Final = 140


def windows(document: Document) -> list[str]:
    """The document whole if it is short, else its words in overlapping windows, each behind the title."""
    words = document.whole.split()
    if len(words) <= WORDS:
        return [document.whole]
    starts = range(0, len(words) - (WORDS - STEP), STEP)
    parts = [" ".join(words[start : start + WORDS]) for start in starts]
    return [parts[0], *(f"{document.title.strip()} {part}".strip() for part in parts[1:])]


class WindowedVectors:
    """Documents by the vectors of their windows; the first of them stands for a document beside others.

    owners: for each vector the row of its document, rising. Shapes: vectors (V, D), owners (V,).
    """

    def __init__(self, ids: Sequence[str], vectors: F32, owners: Sequence[int]) -> None:
        self._ids, self._vectors = tuple(ids), vectors
        self._starts = np.flatnonzero(np.diff(np.asarray(owners), prepend=-1))
        self._rows = {name: row for row, name in enumerate(self._ids)}
        self._centre: F32 = vectors.mean(axis=0)

    @property
    def centre(self) -> F32:
        """The mean of all vectors. Shapes: (D,)."""
        return self._centre

    def nearest(self, query: F32, count: int) -> Ranked:
        """The documents of the nearest windows. Shapes: query (D,)."""
        return by_score(self._ids, self._similarities(query).astype(np.float64), count)

    def compare(self, query: F32, ids: Sequence[str]) -> F32:
        """The inner product of each document's nearest window. Shapes: query (D,), C ids -> (C,)."""
        return self._similarities(query)[[self._rows[name] for name in ids]]

    def vectors(self, ids: Sequence[str]) -> F32:
        """The vectors of the first windows. Shapes: C ids -> (C, D)."""
        return self._vectors[self._starts[[self._rows[name] for name in ids]]]

    def first(self) -> F32:
        """Every document's first window. Shapes: -> (N, D)."""
        return self._vectors[self._starts]

    def _similarities(self, query: F32) -> F32:
        best: F32 = np.maximum.reduceat(self._vectors @ query, self._starts)
        return best
