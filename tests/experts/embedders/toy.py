"""An embedder of few dimensions that needs no model: words hashed into directions."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from experts.embedders.adapter import unit_rows
from experts.embedders.embedder import Kind
from experts.types import ExpertId


class ToyEmbedder:
    def __init__(self, dimensions: int = 8) -> None:
        self.id, self.dimensions, self.fingerprint = ExpertId("toy"), dimensions, f"toy-{dimensions}"
        self.asked: list[tuple[str, Kind]] = []

    def embed(self, texts: Sequence[str], kind: Kind) -> NDArray[np.float32]:
        self.asked += [(text, kind) for text in texts]
        rows = np.zeros((len(texts), self.dimensions), np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().split() or ["nothing"]:
                seed = zlib.crc32(word.encode())
                rows[row] += np.random.default_rng(seed).normal(size=self.dimensions).astype(np.float32)
        return unit_rows(rows)
