"""The JSON shapes that the retrieval API takes: OpenAI's, and beside them what routing adds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from coe_gateway.wire import ChatRequest

Text = Annotated[str, Meta(min_length=1)]
Name = Annotated[str, Meta(max_length=512)]
Attributes = Annotated[
    dict[Annotated[str, Meta(min_length=1, max_length=64)], Annotated[str, Meta(max_length=512)] | float | bool],
    Meta(max_length=16),
]
Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
]
FileIds = Annotated[list[Text], Meta(min_length=1, max_length=500)]


class StaticSize(msgspec.Struct):
    """How long passages are. A token is a word or a mark; the overlap is at most half of the size."""

    max_chunk_size_tokens: Annotated[int, Meta(ge=16, le=4096)] = 160
    chunk_overlap_tokens: Annotated[int, Meta(ge=0, le=2048)] = 32


class ChunkingStrategy(msgspec.Struct):
    """How a file is cut: as the gateway is set up to, or by a size of its own."""

    type: Literal["auto", "static", "other"] = "auto"
    static: StaticSize | None = None


class ExpiresAfter(msgspec.Struct):
    """When a store that nobody uses is deleted."""

    days: Annotated[int, Meta(ge=1, le=365)]
    anchor: Literal["last_active_at"] = "last_active_at"


class StoreRequest(msgspec.Struct):
    """Body of POST /v1/vector_stores."""

    name: Name | None = None
    file_ids: FileIds | None = None
    metadata: Metadata | None = None
    expires_after: ExpiresAfter | None = None
    chunking_strategy: ChunkingStrategy | None = None


class StoreChange(msgspec.Struct):
    """Body of POST /v1/vector_stores/{id}: what is left out stays."""

    name: Name | msgspec.UnsetType | None = msgspec.UNSET
    metadata: Metadata | msgspec.UnsetType | None = msgspec.UNSET
    expires_after: ExpiresAfter | msgspec.UnsetType | None = msgspec.UNSET


class AttachRequest(msgspec.Struct):
    """Body of POST /v1/vector_stores/{id}/files."""

    file_id: Text
    attributes: Attributes | None = None
    chunking_strategy: ChunkingStrategy | None = None


class AttributesChange(msgspec.Struct):
    """Body of POST /v1/vector_stores/{id}/files/{file_id}."""

    attributes: Attributes | None


class BatchFile(msgspec.Struct):
    """One file of a batch, with attributes of its own."""

    file_id: Text
    attributes: Attributes | None = None
    chunking_strategy: ChunkingStrategy | None = None


class BatchRequest(msgspec.Struct):
    """Body of POST /v1/vector_stores/{id}/file_batches: ids alike, or files each with its own attributes."""

    file_ids: FileIds | None = None
    files: Annotated[list[BatchFile], Meta(min_length=1, max_length=500)] | None = None
    attributes: Attributes | None = None
    chunking_strategy: ChunkingStrategy | None = None


class RankingOptions(msgspec.Struct):
    """ranker `none`: nothing is ranked anew. score_threshold: hits below it are left out."""

    ranker: str | None = None
    score_threshold: float | None = None


class SearchOptions(msgspec.Struct, kw_only=True):
    """How to search. expert: `auto`, an embedder or `bm25`; hybrid and rerank: the gateway's setting, or none."""

    filters: dict[str, Any] | None = None
    max_num_results: Annotated[int, Meta(ge=1, le=50)] | None = None
    ranking_options: RankingOptions | None = None
    expert: Text = "auto"
    hybrid: bool | None = None
    rerank: bool | None = None


class SearchRequest(SearchOptions, kw_only=True):
    """Body of POST /v1/vector_stores/{id}/search."""

    query: (
        Annotated[str, Meta(min_length=1, max_length=100_000)]
        | Annotated[list[Annotated[str, Meta(min_length=1, max_length=100_000)]], Meta(min_length=1, max_length=16)]
    )
    rewrite_query: bool | None = None


class EmbeddingRequest(msgspec.Struct):
    """Body of POST /v1/embeddings. input_type: experts that adapt queries tell them from documents."""

    input: str | Annotated[list[str | int | list[int]], Meta(min_length=1, max_length=2048)]
    model: Text = "auto"
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    user: str | None = None
    input_type: Literal["query", "document"] = "document"


class RerankText(msgspec.Struct):
    """A document to rank."""

    text: str


class RerankRequest(msgspec.Struct):
    """Body of POST /v1/rerank."""

    query: Text
    documents: Annotated[list[str | RerankText], Meta(min_length=1, max_length=1000)]
    model: Text = "auto"
    top_n: Annotated[int, Meta(ge=1)] | None = None
    return_documents: bool = False


class RagRequest(ChatRequest, kw_only=True):
    """Body of POST /v1/rag/answer: a chat completion, and where to look first. query: else the last question asked."""

    vector_store_ids: Annotated[list[Text], Meta(min_length=1, max_length=8)]
    retrieval: SearchOptions | None = None
    query: Text | None = None
