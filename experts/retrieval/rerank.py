"""Scoring texts against a query one by one, which a ranking of many thousands cannot afford."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experts.embedders.embedder import Embedder

Method = Literal["cross_encoder", "embedding_similarity"]


class Reranker(Protocol):
    """What puts texts into an order."""

    @property
    def id(self) -> str:
        """The expert that scores."""

    @property
    def method(self) -> Method:
        """How: whether it reads query and text together, or compares their vectors."""

    def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """How well each text answers the query; the higher the better, at most 1."""


class SimilarityReranker:
    """By the cosine of an embedder's vectors: what there is where no cross-encoder is configured."""

    method: Method = "embedding_similarity"

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    @property
    def id(self) -> str:
        """The embedder's."""
        return self._embedder.id

    def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """See Reranker."""
        if not texts:
            return []
        vector = self._embedder.embed([query], "query")[0]
        cosines: list[float] = (self._embedder.embed(texts, "document") @ vector).tolist()
        return cosines
