"""/v1/files: what clients upload before it goes into a store."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from coe_gateway.retrieval_wire import Deleted, FileList, FileObject
from experts.errors import DocumentTooLarge, InvalidRequest
from experts.retrieval.documents import sniff

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from coe_gateway.routes.retrieval_endpoint import Call
    from experts.retrieval.records import Upload

_UNSEEN: Final = re.compile(r"[\x00-\x1f\x7f]")
_MOST_NAME_CHARS: Final = 255
_READ: Final = frozenset({"assistants", "user_data"})  # purposes for which a file is a document
_PURPOSES: Final = frozenset({*_READ, "batch", "evals", "fine-tune", "vision"})


async def upload(call: Call) -> FileObject:
    """POST /v1/files. Raises: InvalidRequest, DocumentError, StorageQuota, StorageFailed."""
    name, content, purpose = await _form(call)
    most = int(call.retrieval.settings.limits.max_file_bytes)
    if len(content) > most:
        raise DocumentTooLarge(name, f"has {len(content)} bytes; at most {most} are taken")
    if purpose in _READ:
        await call.retrieval.run(sniff, name, content)
    return file_object(
        await call.retrieval.run(call.retrieval.library.uploads.add, call.tenant, name, content, purpose)
    )


async def list_files(call: Call) -> FileList:
    """GET /v1/files. Raises: InvalidRequest, UnknownObject."""
    page, uploads = call.page(), call.retrieval.library.uploads
    found = await call.retrieval.run(uploads.page, call.tenant, page, call.query.get("purpose"))
    files = [file_object(one) for one in found[: page.limit]]
    first, last = (files[0].id, files[-1].id) if files else (None, None)
    return FileList(data=files, first_id=first, last_id=last, has_more=len(found) > page.limit)


async def get_file(call: Call) -> FileObject:
    """GET /v1/files/{file_id}. Raises: UnknownObject."""
    return file_object(await call.retrieval.run(call.retrieval.library.uploads.get, call.tenant, call.params["file"]))


async def file_content(call: Call) -> bytes:
    """GET /v1/files/{file_id}/content. Raises: UnknownObject."""
    uploads = call.retrieval.library.uploads
    kept = await call.retrieval.run(uploads.get, call.tenant, call.params["file"])
    return await call.retrieval.run(uploads.content, kept)


async def delete_file(call: Call) -> Deleted:
    """DELETE /v1/files/{file_id}: it leaves every store too. Raises: UnknownObject."""
    file_id = call.params["file"]
    await call.retrieval.run(call.retrieval.library.delete_upload, call.tenant, file_id)
    return Deleted(id=file_id, object="file")


def file_object(upload: Upload) -> FileObject:
    """An upload on the wire."""
    return FileObject(
        id=upload.id,
        bytes=upload.size_bytes,
        created_at=upload.created_at,
        filename=upload.name,
        purpose=upload.purpose,
    )


async def _form(call: Call) -> tuple[str, bytes, str]:
    """Name, bytes and purpose of an upload. Raises: InvalidRequest."""

    async def body() -> AsyncGenerator[bytes, None]:
        yield call.raw

    headers = Headers(raw=list(call.headers.items()))
    if not headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise InvalidRequest("an upload is a body of multipart/form-data with `file` and `purpose`")
    try:
        form = await MultiPartParser(headers, body(), max_files=1, max_fields=10).parse()
    except (MultiPartException, KeyError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the body cannot be read as multipart/form-data: {error}") from error
    try:
        file, purpose = form.get("file"), form.get("purpose", "assistants")
        if not isinstance(file, UploadFile):
            raise InvalidRequest("`file` is missing, or is not a file", "file")
        if not isinstance(purpose, str) or purpose not in _PURPOSES:
            raise InvalidRequest(f"purpose {purpose!r} is none of {', '.join(sorted(_PURPOSES))}", "purpose")
        return _bare_name(file.filename or ""), await file.read(), purpose
    finally:
        await form.close()


def _bare_name(name: str) -> str:
    """A file's name without folders or what cannot be seen; it is shown, never opened."""
    bare = _UNSEEN.sub("", name.replace("\\", "/").rpartition("/")[2]).strip()[:_MOST_NAME_CHARS]
    return "file" if bare in {"", ".", ".."} else bare
