"""Every operation of the retrieval API: its method, its path, what does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.routing import Route

from coe_gateway.routes import embeddings, files, vector_store_files, vector_stores
from coe_gateway.routes.rag import RagEndpoint
from coe_gateway.routes.retrieval_endpoint import RetrievalEndpoint

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.types import ASGIApp, Receive, Scope, Send

    from coe_gateway.gateway import Gateway
    from coe_gateway.routes.retrieval_endpoint import Call

_STORE: Final = "/v1/vector_stores/{store}"
_BATCHES: Final = f"{_STORE}/file_batches"
RAG: Final = "/v1/rag/answer"
OPERATIONS: Final[tuple[tuple[str, str, Callable[[Call], Awaitable[object]]], ...]] = (
    ("POST", "/v1/files", files.upload),
    ("GET", "/v1/files", files.list_files),
    ("GET", "/v1/files/{file}", files.get_file),
    ("DELETE", "/v1/files/{file}", files.delete_file),
    ("GET", "/v1/files/{file}/content", files.file_content),
    ("POST", "/v1/vector_stores", vector_stores.create_store),
    ("GET", "/v1/vector_stores", vector_stores.list_stores),
    ("GET", _STORE, vector_stores.get_store),
    ("POST", _STORE, vector_stores.change_store),
    ("DELETE", _STORE, vector_stores.delete_store),
    ("POST", f"{_STORE}/search", vector_stores.search_store),
    ("POST", f"{_STORE}/files", vector_store_files.attach),
    ("GET", f"{_STORE}/files", vector_store_files.list_attached),
    ("GET", f"{_STORE}/files/{{file}}", vector_store_files.get_attached),
    ("POST", f"{_STORE}/files/{{file}}", vector_store_files.change_attached),
    ("DELETE", f"{_STORE}/files/{{file}}", vector_store_files.detach),
    ("GET", f"{_STORE}/files/{{file}}/content", vector_store_files.attached_content),
    ("POST", _BATCHES, vector_store_files.create_batch),
    ("GET", f"{_BATCHES}/{{batch}}", vector_store_files.get_batch),
    ("POST", f"{_BATCHES}/{{batch}}/cancel", vector_store_files.cancel_batch),
    ("GET", f"{_BATCHES}/{{batch}}/files", vector_store_files.list_batch),
    ("POST", "/v1/embeddings", embeddings.embeddings),
    ("POST", "/v1/rerank", embeddings.rerank),
)


class Methods:
    """One path's endpoints by method; the route before it lets no other method through."""

    def __init__(self, endpoints: Mapping[str, ASGIApp]) -> None:
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; HEAD is answered as GET is, its body left out by the server."""
        await self._endpoints["GET" if scope["method"] == "HEAD" else scope["method"]](scope, receive, send)


def retrieval_routes(gateway: Gateway) -> list[Route]:
    """The routes around a gateway, whether it keeps documents or answers 501."""
    paths: dict[str, dict[str, ASGIApp]] = {RAG: {"POST": RagEndpoint(gateway, RAG)}}
    for method, path, act in OPERATIONS:
        endpoint = RetrievalEndpoint(gateway, path, act, uploads=act is files.upload)
        paths.setdefault(path, {})[method] = endpoint
    return [Route(path, Methods(endpoints), methods=list(endpoints)) for path, endpoints in paths.items()]
