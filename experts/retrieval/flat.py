"""Vectors in memory, compared one by one: exact, and quick enough for some ten thousand documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from experts.retrieval.ranking import Ranked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    F32 = NDArray[np.float32]


class FlatVectors:
    """Unit vectors under ids; read-only. Shapes: vectors (N, D). Raises: ValueError: they are not one an id."""

    def __init__(self, ids: Sequence[str], vectors: F32) -> None:
        if len(ids) != len(vectors):
            raise ValueError(f"{len(ids)} ids with {len(vectors)} vectors")
        self._ids, self._vectors = tuple(ids), vectors
        self._rows = {name: row for row, name in enumerate(self._ids)}
        self._centre: F32 = vectors.mean(axis=0) if len(vectors) else np.zeros(vectors.shape[1], np.float32)

    @property
    def centre(self) -> F32:
        """The mean of all vectors: what everything in the collection has in common. Shapes: (D,)."""
        return self._centre

    def nearest(self, query: F32, count: int) -> Ranked:
        """The `count` vectors of the largest inner product; equal ones in the order of ids. Shapes: query (D,)."""
        scores = self._vectors @ query
        found = np.arange(len(scores))
        if len(scores) > count:
            found = np.argpartition(-scores, count - 1)[:count]
        found = found[np.lexsort((found, -scores[found]))]
        return Ranked(tuple(self._ids[row] for row in found), tuple(float(scores[row]) for row in found))

    def compare(self, query: F32, ids: Sequence[str]) -> F32:
        """The inner products with these. Shapes: query (D,), C ids -> (C,). Raises: KeyError: one is not there."""
        products: F32 = self.vectors(ids) @ query
        return products

    def vectors(self, ids: Sequence[str]) -> F32:
        """The vectors of these ids. Shapes: C ids -> (C, D). Raises: KeyError: one is not there."""
        return self._vectors[[self._rows[name] for name in ids]]
