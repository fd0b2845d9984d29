"""What the retrieval endpoints have in common: a tenant, a place, and an answer in JSON."""

from __future__ import annotations

from asyncio import timeout
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import parse_qs

import msgspec

from coe_gateway.exchange import read_body
from coe_gateway.routes.endpoint import Endpoint, decode
from experts.errors import DeadlineExceeded, InvalidRequest, RetrievalOff
from experts.retrieval.records import Page

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.types import Receive, Scope, Send

    from coe_gateway.exchange import Exchange
    from coe_gateway.gateway import Gateway
    from coe_gateway.interruption import Interruptible
    from coe_gateway.retrieval.decision import RetrievalDecision
    from coe_gateway.retrieval.service import Retrieval

_T = TypeVar("_T", bound=msgspec.Struct)
_MOST_LISTED: Final = 100
_MULTIPART_BYTES: Final = 64 * 1024  # of an upload's other fields and its boundaries
_JSON: Final = b"application/json"
MOST_QUERY_CHARS: Final = 20_000


@dataclass(slots=True)
class Call:
    """One request to the retrieval API. decision: set by what searches, for the reply's headers."""

    retrieval: Retrieval
    tenant: str
    params: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[bytes, bytes]
    raw: bytes
    decision: RetrievalDecision | None = field(default=None)

    def body(self, decoder: msgspec.json.Decoder[_T]) -> _T:
        """The body as its struct. Raises: InvalidRequest: naming the field."""
        return decode(decoder, self.raw)

    def page(self) -> Page:
        """Which part of a list is asked for. Raises: InvalidRequest."""
        limit, order = self.query.get("limit", "20"), self.query.get("order", "desc")
        if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit) <= _MOST_LISTED:
            raise InvalidRequest(f"limit {limit!r} is not a number from 1 to {_MOST_LISTED}", "limit")
        if order not in {"asc", "desc"}:
            raise InvalidRequest(f"order {order!r} is neither `asc` nor `desc`", "order")
        return Page(int(limit), order == "desc", self.query.get("after"), self.query.get("before"))


class RetrievalEndpoint(Endpoint):
    """An ASGI endpoint for one operation of the retrieval API."""

    def __init__(
        self, gateway: Gateway, path: str, act: Callable[[Call], Awaitable[object]], *, uploads: bool = False
    ) -> None:
        super().__init__(gateway, path)
        self._act = act
        self._uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; an upload, which is held in memory, in its turn."""
        retrieval = self._gateway.retrieval
        if not self._uploads or retrieval is None:
            await super().__call__(scope, receive, send)
            return
        async with retrieval.uploading:
            await super().__call__(scope, receive, send)

    async def body(self, exchange: Exchange, receive: Receive) -> bytes:
        """The whole request body: an upload's may be as large as a file, and must come in time for the next.

        Raises: BodyTooLarge, ClientLeft, DeadlineExceeded.
        """
        retrieval, timeout_s = self._gateway.retrieval, self._gateway.settings.request_timeout_s
        if not self._uploads or retrieval is None:
            return await super().body(exchange, receive)
        most = int(retrieval.settings.limits.max_file_bytes) + _MULTIPART_BYTES
        try:
            async with timeout(timeout_s):
                return await read_body(exchange, receive, most)
        except TimeoutError as error:
            raise DeadlineExceeded(f"the upload did not come within {timeout_s:g} s") from error

    async def answer(self, exchange: Exchange, interruptible: Interruptible, raw: bytes) -> None:
        """Do it and tell. Raises: CoeError."""
        call = call_of(self._gateway, exchange, raw)
        asked_s = perf_counter()
        timeout_s = self._gateway.settings.request_timeout_s
        interruptible.set_deadline(timeout_s, DeadlineExceeded(f"no answer within {timeout_s:g} s"))
        async with self._gateway.admission:
            exchange.lease_s = perf_counter()
            exchange.queue_s = exchange.lease_s - asked_s
            reply = await self._act(call)
        if isinstance(reply, bytes):
            await exchange.start(b"application/octet-stream", reply)
            return
        data = msgspec.json.encode(reply)
        if call.decision is None:
            await exchange.json(data)
            return
        decided(exchange, call.decision)
        exchange.answered()
        await exchange.start(_JSON, data)


def call_of(gateway: Gateway, exchange: Exchange, raw: bytes) -> Call:
    """A request as the operations want it. Raises: RetrievalOff, InvalidRequest."""
    if gateway.retrieval is None:
        problem = "this gateway keeps no documents: its configuration has no `retrieval:` section"
        raise RetrievalOff(f"{problem} (which needs the extra: pip install 'coe-gateway[retrieval]')")
    authorization = exchange.headers.get(b"authorization", b"").decode("latin-1")
    tenant = gateway.tenant_of(authorization, exchange.account)
    try:
        query = {
            key: values[-1] for key, values in parse_qs(exchange.query.decode("ascii"), keep_blank_values=True).items()
        }
    except (UnicodeDecodeError, ValueError) as error:
        raise InvalidRequest(f"the query string cannot be read: {error}") from error
    return Call(gateway.retrieval, tenant, exchange.params, query, exchange.headers, raw)


def decided(exchange: Exchange, decision: RetrievalDecision) -> None:
    """Tell by headers who ranked, as the chat endpoints tell who answered."""
    exchange.expert = decision.expert
    exchange.route_s = decision.timings_ms.get("route", 0.0) / 1000
    if decision.reason == "low_confidence":
        exchange.fallback_reason = decision.reason
