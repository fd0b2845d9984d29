"""POST /v1/chat/completions and /v1/completions: parse, plan, lease, pass the expert's bytes on."""

from __future__ import annotations

import logging
import re
from time import perf_counter
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from coe_gateway.errors import wire_of
from coe_gateway.exchange import Exchange, read_body
from coe_gateway.interruption import Interruptible
from coe_gateway.sse import ModelName, whole_events
from experts.errors import (
    CoeError,
    DeadlineExceeded,
    ExpertError,
    ExpertRefused,
    InvalidRequest,
    TierFull,
)
from experts.types import ExpertCall

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.types import Receive, Scope, Send

    from coe_gateway.gateway import Gateway
    from coe_gateway.wire import ChatRequest, CompletionRequest
    from experts.backend import ExpertReply
    from experts.types import ExpertId

_T = TypeVar("_T")
_log = logging.getLogger(__name__)
_FIELD: Final = re.compile(r"`\$\.([^`]+)`|field `([^`]+)`")
_EVENT_STREAM: Final = "text/event-stream"
_SERVER_FAULT: Final = 500
_TOO_MANY: Final = 429


class CompletionEndpoint:
    """An ASGI endpoint for one of the two completion APIs."""

    def __init__(self, gateway: Gateway, path: str, body_type: type[ChatRequest | CompletionRequest]) -> None:
        self._gateway = gateway
        self._path = path
        self._decoder = msgspec.json.Decoder(body_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens."""
        gateway, exchange = self._gateway, Exchange(scope, send)
        try:
            gateway.authorize(exchange.headers.get(b"authorization", b"").decode("latin-1"))
            gateway.require_ready()
            raw = await read_body(exchange, receive, gateway.settings.max_body_bytes)
            body = decode(self._decoder, raw)
            with Interruptible(receive) as interruptible:
                gateway.active.add(interruptible)
                try:
                    await self._admit(exchange, interruptible, body, raw)
                finally:
                    gateway.active.discard(interruptible)
        except CoeError as error:
            await exchange.fail(error)
        except Exception as error:  # noqa: BLE001 - top of the task: the client gets an answer, the log the trace
            _log.exception("request %s", exchange.request_id.decode())
            await exchange.fail(error)
        finally:
            self._observe(exchange)

    async def _admit(
        self, exchange: Exchange, interruptible: Interruptible, body: ChatRequest | CompletionRequest, raw: bytes
    ) -> None:
        asked_s = perf_counter()
        async with self._gateway.admission:
            exchange.queue_s = perf_counter() - asked_s
            plan = await self._gateway.plan(body)
            exchange.planned(plan)
            for expert_id, is_last in _with_last(plan.experts):
                try:
                    timeout_s = self._gateway.settings.request_timeout_s
                    late = DeadlineExceeded(f"expert {expert_id!r} gave no answer within {timeout_s:g} s")
                    interruptible.set_deadline(timeout_s, late)
                    await self._attempt(exchange, expert_id, body, raw, interruptible.clear_deadline)
                except CoeError as error:
                    if is_last or exchange.content_started or not _may_retry(error):
                        raise
                    code = wire_of(error).code
                    exchange.fallback_reason = f"{code}:{expert_id}"
                    self._gateway.metrics.fallbacks.labels(expert_id, code).inc()
                else:
                    return

    async def _attempt(
        self,
        exchange: Exchange,
        expert_id: ExpertId,
        body: ChatRequest | CompletionRequest,
        raw: bytes,
        on_first_byte: Callable[[], None],
    ) -> None:
        """Lease one expert and let it answer. Raises: CoeError: before or after the first byte."""
        backend = self._gateway.backends[expert_id]
        exchange.expert = expert_id
        call = ExpertCall(self._path, outgoing(body, raw, backend.spec.model), bool(body.stream))
        asked_s = perf_counter()
        lease = self._gateway.residency.lease(expert_id)
        async with lease as resident:
            exchange.leased(asked_s, resident.load_s if lease.cold else 0.0)
            async with backend.call(call) as reply:
                name = ModelName(expert_id) if backend.spec.model != expert_id else None
                if body.stream and reply.content_type.startswith(_EVENT_STREAM):
                    await _stream(exchange, whole_events(reply.chunks(), expert_id, name), reply, on_first_byte)
                else:
                    data = await reply.read()
                    exchange.answered()
                    await exchange.start(
                        reply.content_type.encode("latin-1"), data if name is None else name.rewrite(data)
                    )

    def _observe(self, exchange: Exchange) -> None:
        metrics = self._gateway.metrics
        metrics.answered(self._path, exchange.expert, exchange.status)
        if exchange.first_byte_s:
            ttft_s = exchange.first_byte_s - exchange.received_s
            metrics.timed(exchange.expert, ttft_s, perf_counter() - exchange.received_s)
            metrics.overhead.observe(exchange.overhead_s)
            metrics.queue.observe(exchange.queue_s)


async def _stream(
    exchange: Exchange, events: AsyncIterator[bytes], reply: ExpertReply, on_first_byte: Callable[[], None]
) -> None:
    """Pass whole events on as they come; the status goes out with the first, so that before it all can be retried."""
    async for ready in events:
        if not exchange.content_started:
            on_first_byte()  # it is answering: silences are the backend's to judge from here on
            exchange.answered()
            await exchange.start(reply.content_type.encode("latin-1"))
        await exchange.body(ready, more=True)
    await exchange.body(b"", more=False)


def decode(decoder: msgspec.json.Decoder[_T], raw: bytes) -> _T:
    """A request body as its struct. Raises: InvalidRequest: naming the field."""
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        found = _FIELD.search(str(error))
        raise InvalidRequest(f"the body cannot be read: {error}", found and (found[1] or found[2])) from error


def outgoing(body: ChatRequest | CompletionRequest, raw: bytes, model: str) -> bytes:
    """The body for an expert: the caller's own bytes where only `model` could differ and does not."""
    if body.models is None and body.model == model and b'"model"' in raw:
        return raw
    document = msgspec.json.decode(raw)
    document.pop("models", None)
    document["model"] = model
    return msgspec.json.encode(document)


def _may_retry(error: CoeError) -> bool:
    """Whether another expert might do better; a request that is wrong itself is wrong for all."""
    if isinstance(error, ExpertRefused):
        return error.status >= _SERVER_FAULT or error.status == _TOO_MANY
    return isinstance(error, ExpertError | TierFull)


def _with_last(experts: tuple[ExpertId, ...]) -> list[tuple[ExpertId, bool]]:
    return [(expert, i == len(experts) - 1) for i, expert in enumerate(experts)]
