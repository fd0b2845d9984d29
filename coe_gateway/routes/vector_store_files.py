"""/v1/vector_stores/{store}/files and /file_batches: what a store holds."""

from __future__ import annotations

from collections import Counter
from secrets import token_hex
from typing import TYPE_CHECKING, Final, get_args

import msgspec

from coe_gateway.retrieval_requests import (
    AttachRequest,
    AttributesChange,
    BatchFile,
    BatchRequest,
    ChunkingStrategy,
    StaticSize,
)
from coe_gateway.retrieval_wire import (
    Content,
    ContentPage,
    Deleted,
    FileBatch,
    LastError,
    VectorStoreFile,
    VectorStoreFileList,
)
from coe_gateway.routes.vector_stores import chunk_size, file_counts
from experts.errors import InvalidRequest, UnknownObject
from experts.retrieval.records import Status

if TYPE_CHECKING:
    from coe_gateway.routes.retrieval_endpoint import Call
    from experts.retrieval.records import Attachment, Store

_ATTACH: Final = msgspec.json.Decoder(AttachRequest)
_CHANGE: Final = msgspec.json.Decoder(AttributesChange)
_BATCH: Final = msgspec.json.Decoder(BatchRequest)


async def attach(call: Call) -> VectorStoreFile:
    """POST /v1/vector_stores/{store}/files. Raises: InvalidRequest, UnknownObject, StorageFailed."""
    body, store = call.body(_ATTACH), await _store(call)
    return await _attached(call, store, BatchFile(body.file_id, body.attributes, body.chunking_strategy))


async def list_attached(call: Call) -> VectorStoreFileList:
    """GET /v1/vector_stores/{store}/files. Raises: InvalidRequest, UnknownObject."""
    store = await _store(call)
    return await _page(call, store, None)


async def get_attached(call: Call) -> VectorStoreFile:
    """GET /v1/vector_stores/{store}/files/{file}. Raises: UnknownObject."""
    return store_file(await _attachment(call))


async def change_attached(call: Call) -> VectorStoreFile:
    """POST /v1/vector_stores/{store}/files/{file}: other attributes. Raises: InvalidRequest, UnknownObject."""
    body, store, attachments = call.body(_CHANGE), await _store(call), call.retrieval.library.attachments
    changed = await call.retrieval.run(
        attachments.set_attributes, store.id, call.params["file"], dict(body.attributes or {})
    )
    return store_file(changed)


async def detach(call: Call) -> Deleted:
    """DELETE /v1/vector_stores/{store}/files/{file}; it stays uploaded. Raises: UnknownObject, StorageFailed."""
    store, file = await _store(call), call.params["file"]
    await call.retrieval.run(call.retrieval.library.detach, store.id, file)
    call.retrieval.upkeep.changed(store.id)
    return Deleted(id=file, object="vector_store.file.deleted")


async def attached_content(call: Call) -> ContentPage:
    """GET /v1/vector_stores/{store}/files/{file}/content. Raises: UnknownObject."""
    attachment = await _attachment(call)
    texts = await call.retrieval.run(call.retrieval.library.passages.of_file, attachment)
    return ContentPage(data=[Content(text) for text in texts])


async def create_batch(call: Call) -> FileBatch:
    """POST /v1/vector_stores/{store}/file_batches. Raises: InvalidRequest, UnknownObject, StorageFailed."""
    body, store = call.body(_BATCH), await _store(call)
    if (body.files is None) == (body.file_ids is None):
        raise InvalidRequest("either `file_ids` or `files` must be given", "file_ids")
    files = body.files or [BatchFile(f, body.attributes, body.chunking_strategy) for f in body.file_ids or ()]
    for file in files:  # all of them, or none
        await call.retrieval.run(call.retrieval.library.uploads.get, call.tenant, file.file_id)
    batch = f"vsfb_{token_hex(12)}"
    for file in files:
        await _attached(call, store, file, batch)
    return await _batch(call, store, batch)


async def get_batch(call: Call) -> FileBatch:
    """GET /v1/vector_stores/{store}/file_batches/{batch}. Raises: UnknownObject."""
    return await _batch(call, await _store(call), call.params["batch"])


async def cancel_batch(call: Call) -> FileBatch:
    """POST /v1/vector_stores/{store}/file_batches/{batch}/cancel. Raises: UnknownObject, StorageFailed."""
    store, batch = await _store(call), call.params["batch"]
    await call.retrieval.run(call.retrieval.library.attachments.cancel, store.id, batch)
    return await _batch(call, store, batch)


async def list_batch(call: Call) -> VectorStoreFileList:
    """GET /v1/vector_stores/{store}/file_batches/{batch}/files. Raises: InvalidRequest, UnknownObject."""
    return await _page(call, await _store(call), call.params["batch"])


def store_file(attachment: Attachment) -> VectorStoreFile:
    """A file of a store on the wire."""
    size = StaticSize(attachment.size.max_tokens, attachment.size.overlap_tokens)
    return VectorStoreFile(
        id=attachment.file,
        created_at=attachment.created_at,
        usage_bytes=attachment.usage_bytes,
        vector_store_id=attachment.store,
        status=attachment.status,
        attributes=attachment.attributes,
        chunking_strategy=ChunkingStrategy("static", size),
        last_error=LastError(attachment.error_code, attachment.error) if attachment.error_code else None,
        chunk_count=attachment.chunks,
    )


async def _store(call: Call) -> Store:
    return await call.retrieval.run(call.retrieval.library.stores.usable, call.tenant, call.params["store"])


async def _attachment(call: Call) -> Attachment:
    store = await _store(call)
    return await call.retrieval.run(call.retrieval.library.attachments.get, store.id, call.params["file"])


async def _attached(call: Call, store: Store, file: BatchFile, batch: str = "") -> VectorStoreFile:
    library, size = call.retrieval.library, chunk_size(file.chunking_strategy, call.retrieval.settings)
    upload = await call.retrieval.run(library.uploads.get, call.tenant, file.file_id)
    attributes = dict(file.attributes or {})
    attachment = await call.retrieval.run(library.attach, store.id, upload, attributes, size, batch)
    call.retrieval.upkeep.files_wait()
    return store_file(attachment)


async def _page(call: Call, store: Store, batch: str | None) -> VectorStoreFileList:
    page, status = call.page(), call.query.get("filter")
    if status not in {None, *get_args(Status)}:
        raise InvalidRequest(f"filter {status!r} is none of {', '.join(get_args(Status))}", "filter")
    attachments = call.retrieval.library.attachments
    found = await call.retrieval.run(attachments.page, store.id, page, status, batch)
    files = [store_file(attachment) for attachment in found[: page.limit]]
    first, last = (files[0].id, files[-1].id) if files else (None, None)
    return VectorStoreFileList(data=files, first_id=first, last_id=last, has_more=len(found) > page.limit)


async def _batch(call: Call, store: Store, batch: str) -> FileBatch:
    files = await call.retrieval.run(call.retrieval.library.attachments.of_batch, store.id, batch)
    if not files:
        raise UnknownObject("file batch", batch)
    counts = Counter(file.status for file in files)
    whole: list[Status] = [status for status in get_args(Status) if counts[status] == len(files)]
    status: Status = "in_progress" if counts["in_progress"] else whole[0] if whole else "completed"
    return FileBatch(
        id=batch,
        created_at=min(file.created_at for file in files),
        vector_store_id=store.id,
        status=status,
        file_counts=file_counts(counts),
    )
