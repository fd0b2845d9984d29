"""The embedding experts of a configuration, opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experts.embedders.hashing import HashingEmbedder
from experts.types import ExpertId

if TYPE_CHECKING:
    from coe_gateway.retrieval_settings import EmbedderEntry, RetrievalSettings
    from experts.embedders.embedder import Embedder
    from experts.weights import WeightStore


def open_embedders(settings: RetrievalSettings, store: WeightStore) -> dict[ExpertId, Embedder]:
    """By id, in the order of the configuration. Blocks. Raises: ConfigError, SourceUnavailable: a file is missing."""
    opened: dict[ExpertId, Embedder] = {}
    for entry in settings.embedders:
        opened[ExpertId(entry.id)] = _open(entry, store)
    return opened


def _open(entry: EmbedderEntry, store: WeightStore) -> Embedder:
    del store
    return HashingEmbedder(entry.id, entry.dimensions)
