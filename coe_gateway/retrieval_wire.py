"""The JSON shapes that the retrieval API gives: OpenAI's, and beside them what routing adds.

Fields that OpenAI's clients do not know come after theirs and have defaults.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from coe_gateway.retrieval.decision import RetrievalDecision  # noqa: TC001 - structs read their annotations
from coe_gateway.retrieval_requests import ChunkingStrategy, ExpiresAfter, RerankText  # noqa: TC001 - as above


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
