"""One store's index as the hybrid search wants it: ids are sequence numbers, equal passages count once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from experts.retrieval.ranking import Ranked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experts.retrieval.passages import Passages
    from experts.retrieval.snapshot import Ranges, Snapshot
    from routers.types import F32


class StoreVectors:
    """A VectorIndex over a snapshot. allowed: where the passages are that a filter lets pass."""

    def __init__(self, snapshot: Snapshot, passages: Passages, allowed: Ranges | None) -> None:
        self._snapshot, self._passages, self._allowed = snapshot, passages, allowed

    @property
    def centre(self) -> F32:
        """The mean of the store's vectors. Shapes: (D,)."""
        mean: F32 = (self._snapshot.total / max(self._snapshot.rows, 1)).astype(np.float32)
        return mean

    def nearest(self, query: F32, count: int) -> Ranked:
        """See VectorIndex."""
        return once_each(self._snapshot.search(query, count, self._allowed), self._passages)

    def compare(self, query: F32, ids: Sequence[str]) -> F32:
        """See VectorIndex."""
        products: F32 = self.vectors(ids) @ query
        return products

    def vectors(self, ids: Sequence[str]) -> F32:
        """See VectorIndex."""
        return self._snapshot.rows_of(np.array([int(name) for name in ids], np.int64))


def once_each(ranking: Sequence[tuple[int, float]], passages: Passages) -> Ranked:
    """A ranking by the first of equal passages, each once; what is gone meanwhile is left out."""
    twins = passages.twins([seq for seq, _ in ranking])
    first: dict[int, float] = {}
    for seq, score in ranking:
        if seq in twins:
            first.setdefault(twins[seq], score)
    return Ranked(tuple(map(str, first)), tuple(first.values()))
