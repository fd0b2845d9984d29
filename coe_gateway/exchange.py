"""One request on its way: what arrived, how long each step took, and the reply as ASGI messages."""

from __future__ import annotations

import re
from asyncio import timeout
from contextlib import suppress
from copy import copy
from random import getrandbits
from time import perf_counter, time
from typing import TYPE_CHECKING, Final

from coe_gateway.access_log import AccessRow
from coe_gateway.errors import wire_of
from coe_gateway.protocols.dialect import OPENAI
from experts.errors import BodyTooLarge, ClientLeft
from memory_tiers.types import ANYBODY

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Receive, Scope, Send

    from coe_gateway.accounts.charge import Charge
    from coe_gateway.accounts.keys import Account
    from coe_gateway.gateway import Plan
    from coe_gateway.protocols.dialect import Dialect, Translation

_REQUEST_ID = re.compile(rb"^[A-Za-z0-9._-]{1,128}$")
_JSON = b"application/json"
_NO_BODY_STATUS = 499
_FAREWELL_S = 2.0
# A proxy in between must neither keep a stream nor hold it back.
_STREAM_HEADERS = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]


class Exchange:
    """The state of one HTTP exchange. Times are seconds of `perf_counter`."""

    __slots__ = (
        "_send", "_whole", "account", "ask", "asker", "category", "charge", "client", "confidence", "content_started",
        "dialect", "expert", "fallback_reason", "fan_out", "first_byte_s", "headers", "lease_s", "params", "query",
        "queue_s", "received_s", "request_id", "retriever", "route_s", "session", "status", "supplement", "swap_s",
        "translation", "upstream_s",
    )  # fmt: skip

    def __init__(self, scope: Scope, send: Send) -> None:
        self.received_s = perf_counter()
        self._send = send
        self.client: str = (scope.get("client") or ("",))[0]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.params: dict[str, str] = scope.get("path_params", {})
        self.query: bytes = scope.get("query_string", b"")
        given = self.headers.get(b"x-request-id", b"")
        self.request_id = given if _REQUEST_ID.match(given) else b"%032x" % getrandbits(128)
        self.content_started = self._whole = False
        self.status = 0
        self.expert = self.category = self.fallback_reason = self.ask = ""
        self.retriever = ""
        self.supplement = b""  # fields for the reply beside the expert's own, as a JSON object
        self.session: str | None = None
        self.asker = ANYBODY
        self.account: Account | None = None
        self.charge: Charge | None = None
        self.dialect: Dialect = OPENAI
        self.translation: Translation | None = None
        self.confidence = 0.0
        self.fan_out: tuple[str, ...] = ()
        self.route_s = self.queue_s = self.lease_s = self.swap_s = self.upstream_s = self.first_byte_s = 0.0

    @property
    def overhead_s(self) -> float:
        """Request received to first byte sent, less what was spent waiting for others."""
        waited_s = self.queue_s + self.swap_s + self.upstream_s
        return max(self.first_byte_s - self.received_s - waited_s, 0.0)

    def planned(self, plan: Plan) -> None:
        """Remember what the router said."""
        if plan.decision is not None:
            self.category = plan.decision.category
            self.confidence = plan.decision.confidence
            self.route_s = plan.decision.timings_ms["total"] / 1000
            self.fan_out = plan.decision.fan_out
            self.ask = plan.decision.text
        self.fallback_reason = plan.fallback_reason

    def access_row(self) -> AccessRow:
        """The exchange as a line of the access log; seconds are rounded to microseconds."""
        now_s = perf_counter()
        begun = self.first_byte_s > 0
        return AccessRow(
            at=round(time() - (now_s - self.received_s), 6),
            expert=self.expert,
            status=self.status or _NO_BODY_STATUS,
            session=self.session,
            category=self.category or None,
            queue_s=round(self.queue_s, 6),
            swap_s=round(self.swap_s, 6),
            ttft_s=round(self.first_byte_s - self.received_s, 6) if begun else None,
            total_s=round(now_s - self.received_s, 6) if begun else None,
        )

    def sending_by(self, wrap: Callable[[Send], Send]) -> Exchange:
        """A copy as things stand, which sends through `wrap`."""
        twin = copy(self)
        twin._send = wrap(self._send)  # noqa: SLF001 - its own kind
        return twin

    def become(self, twin: Exchange) -> None:
        """Take over what has happened to a copy since it was made."""
        for name in _STATE:
            setattr(self, name, getattr(twin, name))

    def leased(self, asked_s: float, load_s: float) -> None:
        """Note that the expert is there: since `asked_s` it was loaded for `load_s` and otherwise waited for."""
        self.lease_s = perf_counter()
        waited_s = self.lease_s - asked_s
        self.swap_s = min(load_s, waited_s)
        self.queue_s += waited_s - self.swap_s

    def answered(self) -> None:
        """Note that the expert has answered, or begun to."""
        self.upstream_s = perf_counter() - self.lease_s

    async def start(self, content_type: bytes, whole: bytes | None = None) -> None:
        """Send the status line and the headers of a good reply, and its body if it is whole."""
        self.first_byte_s = perf_counter()
        headers = self._decision_headers()
        if whole is None:
            headers += _STREAM_HEADERS
        await self._start(200, content_type, headers, None if whole is None else len(whole))
        if whole is not None:
            await self.body(whole, more=False)

    async def body(self, data: bytes, *, more: bool) -> None:
        """Send a piece of the body."""
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def json(self, data: bytes, status: int = 200) -> None:
        """Send a whole JSON reply that no expert made."""
        await self._start(status, _JSON, [], len(data))
        await self.body(data, more=False)

    async def fail(self, error: Exception) -> None:
        """Tell the client: as an HTTP error, or as an event once the stream has begun."""
        wire = wire_of(error)
        if isinstance(error, ClientLeft):
            self.status = _NO_BODY_STATUS
            return
        if self.content_started and self._whole:
            return  # its length is promised and its bytes are on their way: nothing can be added
        if self.content_started:
            with suppress(TimeoutError):  # the client may be the one that does not read
                async with timeout(_FAREWELL_S):
                    await self.body(self.dialect.error_event(error), more=False)
            return
        data = self.dialect.error_body(error)
        extra = [(b"retry-after", b"%d" % wire.retry_after_s)] if wire.retry_after_s is not None else []
        await self._start(wire.status, _JSON, extra, len(data))
        await self.body(data, more=False)

    async def _start(
        self, status: int, content_type: bytes, more: list[tuple[bytes, bytes]], length: int | None
    ) -> None:
        headers = [(b"content-type", content_type), (b"x-coe-request-id", self.request_id), *more]
        if length is not None:
            headers.append((b"content-length", b"%d" % length))
        self.status = status
        self.content_started = True
        self._whole = length is not None
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    def _decision_headers(self) -> list[tuple[bytes, bytes]]:
        route, queue, swap = self.route_s * 1000, self.queue_s * 1000, self.swap_s * 1000
        upstream, overhead = self.upstream_s * 1000, self.overhead_s * 1000
        timing = b"route;dur=%.3f, queue;dur=%.3f, swap;dur=%.3f, upstream;dur=%.3f, overhead;dur=%.3f"
        headers = [
            (b"x-coe-model", _header(self.expert)),
            (b"x-coe-route-ms", b"%.3f" % route),
            (b"x-coe-queue-ms", b"%.3f" % queue),
            (b"x-coe-swap-ms", b"%.3f" % swap),
            (b"x-coe-overhead-ms", b"%.3f" % overhead),
            (b"server-timing", timing % (route, queue, swap, upstream, overhead)),
        ]
        if self.category:
            headers.append((b"x-coe-category", _header(self.category)))
            headers.append((b"x-coe-confidence", b"%.4f" % self.confidence))
        if len(self.fan_out) > 1:
            headers.append((b"x-coe-fan-out", _header(",".join(self.fan_out))))
        if self.retriever:
            headers.append((b"x-coe-retriever", _header(self.retriever)))
        if self.fallback_reason:
            headers.append((b"x-coe-fallback-reason", _header(self.fallback_reason)))
        return headers


_STATE: Final = tuple(name for name in Exchange.__slots__ if name != "_send")


def _header(text: str) -> bytes:
    """A header value: printable ASCII, whatever a configuration named its categories."""
    return text.encode("ascii", "backslashreplace").translate(None, b"\r\n\0")


async def read_body(exchange: Exchange, receive: Receive, limit_bytes: int) -> bytes:
    """The whole request body. Raises: BodyTooLarge: at the first sign of it; ClientLeft."""
    declared = exchange.headers.get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > limit_bytes:
        raise BodyTooLarge(limit_bytes)
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False) and message["type"] == "http.request" and len(body) <= limit_bytes:
        return body
    parts = [body]
    size = len(body)
    while message["type"] == "http.request" and message.get("more_body", False):
        if size > limit_bytes:
            raise BodyTooLarge(limit_bytes)
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
    if message["type"] == "http.disconnect":
        raise ClientLeft("the client hung up before its request was complete")
    if size > limit_bytes:
        raise BodyTooLarge(limit_bytes)
    return b"".join(parts)
