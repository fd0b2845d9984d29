"""all-MiniLM-L6-v2, all six layers, as an embedding expert: the general one, and the base that adapters move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from experts.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from experts.embedders.embedder import Kind
    from experts.embedders.minilm_engine import MiniLm
    from experts.types import ExpertId

DIMENSIONS: Final = 384
MAX_TOKENS: Final = 256  # what the model was trained to read


class MiniLmEmbedder:
    """The expert over an engine whose graph has one view.

    Raises: ConfigError: the graph has several views: those are for routing.
    """

    def __init__(self, expert_id: ExpertId, engine: MiniLm) -> None:
        if engine.dimensions != DIMENSIONS:
            problem = f"has vectors of {engine.dimensions} numbers, an embedder's have {DIMENSIONS}"
            raise ConfigError(f"embedder {expert_id}", None, problem)
        self._id, self._engine = expert_id, engine

    @property
    def id(self) -> ExpertId:
        """The expert's id."""
        return self._id

    @property
    def dimensions(self) -> int:
        """D, the length of a vector."""
        return self._engine.dimensions

    @property
    def fingerprint(self) -> str:
        """The engine's: weights, tokenizer and cut."""
        return self._engine.fingerprint

    def embed(self, texts: Sequence[str], kind: Kind) -> NDArray[np.float32]:
        """Queries and documents alike. Shapes: N texts -> (N, D)."""
        del kind
        return self._engine.read(texts).vectors
