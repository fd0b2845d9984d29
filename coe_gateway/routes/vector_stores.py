"""/v1/vector_stores: collections, and searches in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from coe_gateway.retrieval.search import SearchAsk
from coe_gateway.retrieval_requests import (
    ChunkingStrategy,
    ExpiresAfter,
    SearchOptions,
    SearchRequest,
    StoreChange,
    StoreRequest,
)
from coe_gateway.retrieval_wire import Content, Deleted, FileCounts, SearchHit, SearchPage, VectorStore, VectorStoreList
from experts.errors import InvalidRequest
from experts.retrieval.chunk_key import chunk_id
from experts.retrieval.chunking import ChunkSize
from experts.retrieval.filters import parse_filter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coe_gateway.retrieval.search import Hit
    from coe_gateway.retrieval_settings import RetrievalSettings
    from coe_gateway.routes.retrieval_endpoint import Call
    from experts.retrieval.records import Status, Store

_CREATE: Final = msgspec.json.Decoder(StoreRequest)
_CHANGE: Final = msgspec.json.Decoder(StoreChange)
_SEARCH: Final = msgspec.json.Decoder(SearchRequest)
_DEFAULT_COUNT: Final = 10


async def create_store(call: Call) -> VectorStore:
    """POST /v1/vector_stores. Raises: InvalidRequest, UnknownObject, StorageFailed."""
    body, library = call.body(_CREATE) if call.raw else StoreRequest(), call.retrieval.library
    size = chunk_size(body.chunking_strategy, call.retrieval.settings)
    uploads = [await call.retrieval.run(library.uploads.get, call.tenant, name) for name in body.file_ids or ()]
    days = body.expires_after.days if body.expires_after else None
    store = await call.retrieval.run(library.stores.create, call.tenant, body.name or "", body.metadata, days)
    for upload in uploads:
        await call.retrieval.run(library.attach, store.id, upload, {}, size)
    if uploads:
        call.retrieval.upkeep.files_wait()
        store = await call.retrieval.run(library.stores.get, call.tenant, store.id)
    return vector_store(store)


async def list_stores(call: Call) -> VectorStoreList:
    """GET /v1/vector_stores. Raises: InvalidRequest, UnknownObject."""
    page = call.page()
    found = await call.retrieval.run(call.retrieval.library.stores.page, call.tenant, page)
    stores = [vector_store(store) for store in found[: page.limit]]
    first, last = (stores[0].id, stores[-1].id) if stores else (None, None)
    return VectorStoreList(data=stores, first_id=first, last_id=last, has_more=len(found) > page.limit)


async def get_store(call: Call) -> VectorStore:
    """GET /v1/vector_stores/{store}. Raises: UnknownObject."""
    return vector_store(await call.retrieval.run(call.retrieval.library.stores.get, call.tenant, call.params["store"]))


async def change_store(call: Call) -> VectorStore:
    """POST /v1/vector_stores/{store}. Raises: InvalidRequest, UnknownObject, StorageFailed."""
    body, stores = call.body(_CHANGE), call.retrieval.library.stores
    store = await call.retrieval.run(stores.get, call.tenant, call.params["store"])
    days, expiry = store.expires_days, body.expires_after
    if not isinstance(expiry, msgspec.UnsetType):
        days = expiry.days if expiry else None
    changed = await call.retrieval.run(
        stores.change,
        store,
        name=store.name if isinstance(body.name, msgspec.UnsetType) else body.name or "",
        metadata=store.metadata if isinstance(body.metadata, msgspec.UnsetType) else body.metadata or {},
        expires_days=days,
    )
    return vector_store(changed)


async def delete_store(call: Call) -> Deleted:
    """DELETE /v1/vector_stores/{store}; its files stay uploaded. Raises: UnknownObject, StorageFailed."""
    store = call.params["store"]
    await call.retrieval.run(call.retrieval.library.stores.drop, call.tenant, store)
    call.retrieval.upkeep.dropped()
    return Deleted(id=store, object="vector_store.deleted")


async def search_store(call: Call) -> SearchPage:
    """POST /v1/vector_stores/{store}/search. Raises: InvalidRequest, UnknownObject, UnknownExpert."""
    body, retrieval = call.body(_SEARCH), call.retrieval
    if body.rewrite_query:
        raise InvalidRequest("rewrite_query is not supported: the query is searched as it is", "rewrite_query")
    queries = (body.query,) if isinstance(body.query, str) else tuple(body.query)
    ask = search_ask(body, queries, retrieval.settings)
    store = await retrieval.run(retrieval.library.stores.usable, call.tenant, call.params["store"])
    hits, decisions = await retrieval.run(retrieval.searcher.search, store.id, ask)
    call.decision = decisions[0]
    return SearchPage(search_query=list(queries), data=[search_hit(hit) for hit in hits], decisions=decisions)


def search_ask(options: SearchOptions, queries: tuple[str, ...], settings: RetrievalSettings) -> SearchAsk:
    """The options of a request, with what it leaves open. Raises: InvalidRequest: a filter is wrong."""
    ranking = options.ranking_options
    rerank = bool(options.rerank) and (ranking is None or ranking.ranker != "none")
    return SearchAsk(
        queries=queries,
        count=options.max_num_results or _DEFAULT_COUNT,
        expert=options.expert,
        hybrid=options.hybrid if options.hybrid is not None else settings.hybrid and options.expert == "auto",
        rerank=rerank,
        filter=None if options.filters is None else parse_filter(options.filters),
        threshold=ranking.score_threshold if ranking else None,
    )


def search_hit(hit: Hit) -> SearchHit:
    """A hit on the wire."""
    passage = hit.passage
    return SearchHit(
        file_id=passage.file,
        filename=passage.file_name,
        score=hit.score,
        attributes=passage.attributes,
        content=[Content(passage.text)],
        expert=hit.expert,
        chunk_id=chunk_id(passage.content_key, passage.seq),
        content_key=passage.content_key,
        scores=dict(hit.scores),
        start=passage.start,
        end=passage.end,
    )


def chunk_size(strategy: ChunkingStrategy | None, settings: RetrievalSettings) -> ChunkSize:
    """How a request wants files cut. Raises: InvalidRequest: the overlap is more than half of the size."""
    if strategy is None or strategy.static is None:
        return settings.chunk_size
    static = strategy.static
    try:
        return ChunkSize(static.max_chunk_size_tokens, static.chunk_overlap_tokens)
    except ValueError as error:
        raise InvalidRequest(f"chunking_strategy: {error}", "chunking_strategy.static.chunk_overlap_tokens") from error


def vector_store(store: Store) -> VectorStore:
    """A store on the wire."""
    counts = file_counts(store.counts)
    return VectorStore(
        id=store.id,
        created_at=store.created_at,
        name=store.name,
        usage_bytes=store.usage_bytes,
        file_counts=counts,
        status="in_progress" if counts.in_progress else "completed",
        last_active_at=store.last_active_at,
        metadata=dict(store.metadata),
        expires_after=None if store.expires_days is None else ExpiresAfter(store.expires_days),
        expires_at=store.expires_at,
    )


def file_counts(counts: Mapping[Status, int]) -> FileCounts:
    """How many files are how far."""
    fields: dict[str, Any] = {str(status): count for status, count in counts.items()}
    return FileCounts(**fields, total=sum(counts.values()))
