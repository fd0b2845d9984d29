"""The retrieval API's part of the OpenAPI document, made from its structs and its table of operations."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from coe_gateway import retrieval_requests as asked
from coe_gateway import retrieval_wire as wire
from coe_gateway.retrieval.decision import RetrievalDecision

if TYPE_CHECKING:
    from collections.abc import Callable

_PARAMETER: Final = re.compile(r"{(\w+)}")
_IDS: Final = {"file": "file-...", "store": "vs_...", "batch": "vsfb_..."}
TYPES: Final = (
    asked.StoreRequest, asked.StoreChange, asked.AttachRequest, asked.AttributesChange, asked.BatchRequest,
    asked.SearchRequest, asked.EmbeddingRequest, asked.RerankRequest, asked.RagRequest,
    wire.FileObject, wire.FileList, wire.Deleted, wire.VectorStore, wire.VectorStoreList, wire.VectorStoreFile,
    wire.VectorStoreFileList, wire.FileBatch, wire.ContentPage, wire.SearchPage, wire.EmbeddingReply,
    wire.RerankReply, wire.Citation, RetrievalDecision,
)  # fmt: skip
_ERRORS: Final = {
    "400": "A field is missing or wrong, or the file cannot be read",
    "401": "No key, or a wrong one",
    "403": "The tenant stores all that it may",
    "404": "No such file, store, batch or embedder, or it is another tenant's",
    "413": "The body or the file is too large",
    "415": "The file is of no kind that can be read",
    "429": "The queue is full",
    "501": "The gateway is not set up for retrieval",
    "502": "The expert failed",
    "503": "The disk does not take it, or the gateway is shutting down",
    "504": "No answer in time",
}
_LISTING: Final = (
    ("limit", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}),
    ("order", {"type": "string", "enum": ["asc", "desc"], "default": "desc"}),
    ("after", {"type": "string", "minLength": 1}),
    ("before", {"type": "string", "minLength": 1}),
)
PURPOSES: Final = ("assistants", "user_data", "batch", "evals", "fine-tune", "vision")
_UPLOAD: Final = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "purpose": {"type": "string", "enum": list(PURPOSES), "default": "assistants"},
    },
}


@dataclass(frozen=True, slots=True)
class _Operation:
    method: str
    path: str
    name: str
    summary: str
    body: str = ""
    reply: str = ""
    lists: bool = False


_STORE: Final = "/v1/vector_stores/{store}"
_OPERATIONS: Final = (
    _Operation("post", "/v1/files", "uploadFile", "Upload a file", "upload", "FileObject"),
    _Operation("get", "/v1/files", "listFiles", "Every file", reply="FileList", lists=True),
    _Operation("get", "/v1/files/{file}", "getFile", "One file", reply="FileObject"),
    _Operation("delete", "/v1/files/{file}", "deleteFile", "Delete a file, in every store too", reply="Deleted"),
    _Operation("get", "/v1/files/{file}/content", "fileContent", "A file as it came", reply="bytes"),
    _Operation("post", "/v1/vector_stores", "createStore", "A new store", "StoreRequest", "VectorStore"),
    _Operation("get", "/v1/vector_stores", "listStores", "Every store", reply="VectorStoreList", lists=True),
    _Operation("get", _STORE, "getStore", "One store", reply="VectorStore"),
    _Operation("post", _STORE, "changeStore", "Other words about a store", "StoreChange", "VectorStore"),
    _Operation("delete", _STORE, "deleteStore", "Delete a store; its files stay", reply="Deleted"),
    _Operation("post", f"{_STORE}/search", "searchStore", "The best passages", "SearchRequest", "SearchPage"),
    _Operation("post", f"{_STORE}/files", "attachFile", "Put a file in", "AttachRequest", "VectorStoreFile"),
    _Operation("get", f"{_STORE}/files", "listStoreFiles", "Its files", reply="VectorStoreFileList", lists=True),
    _Operation("get", f"{_STORE}/files/{{file}}", "getStoreFile", "One of its files", reply="VectorStoreFile"),
    _Operation(
        "post", f"{_STORE}/files/{{file}}", "changeStoreFile", "Other attributes", "AttributesChange", "VectorStoreFile"
    ),
    _Operation("delete", f"{_STORE}/files/{{file}}", "detachFile", "Take a file out; it stays", reply="Deleted"),
    _Operation("get", f"{_STORE}/files/{{file}}/content", "storeFileContent", "Its passages", reply="ContentPage"),
    _Operation("post", f"{_STORE}/file_batches", "createBatch", "Put files in", "BatchRequest", "FileBatch"),
    _Operation("get", f"{_STORE}/file_batches/{{batch}}", "getBatch", "How far they are", reply="FileBatch"),
    _Operation("post", f"{_STORE}/file_batches/{{batch}}/cancel", "cancelBatch", "Give them up", reply="FileBatch"),
    _Operation(
        "get", f"{_STORE}/file_batches/{{batch}}/files", "listBatch", "Them", reply="VectorStoreFileList", lists=True
    ),
    _Operation("post", "/v1/embeddings", "embed", "Texts as vectors", "EmbeddingRequest", "EmbeddingReply"),
    _Operation("post", "/v1/rerank", "rerank", "Texts in the order of a query", "RerankRequest", "RerankReply"),
    _Operation("post", "/v1/rag/answer", "answerFromPassages", "An answer and its sources", "RagRequest", "answer"),
)


def retrieval_paths(schema: dict[str, Any], error: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """The operations by path and method. schema: references by a struct's name. error: its text as a reply."""
    refused = {code: error(text) for code, text in _ERRORS.items()}
    paths: dict[str, dict[str, Any]] = {}
    for operation in _OPERATIONS:
        described: dict[str, Any] = {
            "operationId": operation.name,
            "summary": operation.summary,
            "responses": {"200": {"description": "Done", "content": _content(operation.reply, schema)}, **refused},
        }
        parameters = [_parameter(name, "path", {"type": "string", "minLength": 1}, required=True, example=_IDS[name])
                      for name in _PARAMETER.findall(operation.path)]  # fmt: skip
        if operation.lists:
            parameters += [_parameter(name, "query", kind) for name, kind in _LISTING]
        if parameters:
            described["parameters"] = parameters
        if operation.body:
            described["requestBody"] = {
                "required": operation.name != "createStore",
                "content": _content(operation.body, schema),
            }
        paths.setdefault(operation.path, {})[operation.method] = described
    return paths


def _content(kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    if kind == "upload":
        return {"multipart/form-data": {"schema": _UPLOAD}}
    if kind == "bytes":
        return {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    if kind == "answer":
        event = {"type": "object", "properties": {"data": {"type": "string"}}, "required": ["data"]}
        return {"application/json": {"schema": {"type": "object"}}, "text/event-stream": {"schema": event}}
    return {"application/json": {"schema": schema[kind]}}


def _parameter(name: str, place: str, kind: dict[str, Any], **more: object) -> dict[str, Any]:
    return {"name": name, "in": place, "schema": kind, **more}
