"""The JSON shapes of the retrieval API: OpenAI's, and beside them what routing adds.

Fields that OpenAI's clients do not know come after theirs and have defaults.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from coe_gateway.retrieval.decision import RetrievalDecision  # noqa: TC001 - structs read their annotations
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


class FileObject(msgspec.Struct, kw_only=True):
    """A file that was uploaded."""

    id: str
    bytes: int
    created_at: int
    filename: str
    purpose: str
    object: Literal["file"] = "file"
    status: Literal["uploaded", "processed", "error"] = "processed"


class Deleted(msgspec.Struct, kw_only=True):
    """What was deleted."""

    id: str
    object: str
    deleted: bool = True


class FileCounts(msgspec.Struct, kw_only=True):
    """Files by how far they have come."""

    in_progress: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    total: int = 0


class VectorStore(msgspec.Struct, kw_only=True):
    """A collection of files that is searched as one."""

    id: str
    created_at: int
    name: str
    usage_bytes: int
    file_counts: FileCounts
    status: Literal["expired", "in_progress", "completed"]
    last_active_at: int
    metadata: dict[str, str]
    expires_after: ExpiresAfter | None = None
    expires_at: int | None = None
    object: Literal["vector_store"] = "vector_store"


class LastError(msgspec.Struct):
    """Why a file could not be taken in."""

    code: str
    message: str


class VectorStoreFile(msgspec.Struct, kw_only=True):
    """A file in a store. chunk_count: its passages."""

    id: str
    created_at: int
    usage_bytes: int
    vector_store_id: str
    status: Literal["in_progress", "completed", "cancelled", "failed"]
    attributes: dict[str, str | float | bool]
    chunking_strategy: ChunkingStrategy
    last_error: LastError | None = None
    object: Literal["vector_store.file"] = "vector_store.file"
    chunk_count: int = 0


class FileBatch(msgspec.Struct, kw_only=True):
    """Files that came together."""

    id: str
    created_at: int
    vector_store_id: str
    status: Literal["in_progress", "completed", "cancelled", "failed"]
    file_counts: FileCounts
    object: Literal["vector_store.files_batch"] = "vector_store.files_batch"


class FileList(msgspec.Struct, kw_only=True):
    """A page of files."""

    data: list[FileObject]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False
    object: Literal["list"] = "list"


class VectorStoreList(msgspec.Struct, kw_only=True):
    """A page of stores."""

    data: list[VectorStore]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False
    object: Literal["list"] = "list"


class VectorStoreFileList(msgspec.Struct, kw_only=True):
    """A page of a store's files."""

    data: list[VectorStoreFile]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False
    object: Literal["list"] = "list"


class Content(msgspec.Struct):
    """A passage's text."""

    text: str
    type: Literal["text"] = "text"


class ContentPage(msgspec.Struct, kw_only=True):
    """A file's passages, in their order."""

    data: list[Content]
    has_more: bool = False
    next_page: str | None = None
    object: Literal["vector_store.file_content.page"] = "vector_store.file_content.page"


class SearchHit(msgspec.Struct, kw_only=True):
    """A passage found. scores: each ranking's own. start, end: where it stands in the file's text."""

    file_id: str
    filename: str
    score: float
    attributes: dict[str, str | float | bool]
    content: list[Content]
    expert: str
    chunk_id: str
    content_key: str
    scores: dict[str, float]
    start: int
    end: int


class SearchPage(msgspec.Struct, kw_only=True):
    """Reply of a search, best first; a decision for each query."""

    search_query: list[str]
    data: list[SearchHit]
    decisions: list[RetrievalDecision]
    has_more: bool = False
    next_page: str | None = None
    object: Literal["vector_store.search_results.page"] = "vector_store.search_results.page"


class Embedding(msgspec.Struct, kw_only=True):
    """A vector: numbers, or base64 of little-endian float32."""

    index: int
    embedding: list[float] | str
    object: Literal["embedding"] = "embedding"


class TokenUsage(msgspec.Struct, kw_only=True):
    """Words and marks that were read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingReply(msgspec.Struct, kw_only=True):
    """Reply of POST /v1/embeddings."""

    data: list[Embedding]
    model: str
    usage: TokenUsage
    object: Literal["list"] = "list"


class RerankResult(msgspec.Struct, kw_only=True):
    """A document's place."""

    index: int
    relevance_score: float
    document: RerankText | None = None


class RerankReply(msgspec.Struct, kw_only=True):
    """Reply of POST /v1/rerank, best first. method: what the scores are."""

    id: str
    model: str
    method: Literal["cross_encoder", "embedding_similarity"]
    results: list[RerankResult]
    usage: TokenUsage


class Citation(msgspec.Struct, kw_only=True):
    """A passage the answer was written from. number: as the answer cites it."""

    number: int
    file_id: str
    filename: str
    vector_store_id: str
    chunk_id: str
    content_key: str
    score: float
    expert: str
    text: str
    start: int
    end: int
