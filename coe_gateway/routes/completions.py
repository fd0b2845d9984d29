"""POST /v1/chat/completions and /v1/completions: parse, plan, lease, pass the expert's bytes on."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Final

import msgspec

from coe_gateway.errors import wire_of
from coe_gateway.routes.endpoint import Endpoint, decode
from coe_gateway.sse import ModelName, whole_events
from experts.errors import (
    CoeError,
    DeadlineExceeded,
    ExpertError,
    ExpertRefused,
    TierFull,
)
from experts.types import ExpertCall

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from coe_gateway.exchange import Exchange
    from coe_gateway.gateway import Gateway
    from coe_gateway.interruption import Interruptible
    from coe_gateway.wire import ChatRequest, CompletionRequest
    from experts.backend import ExpertReply
    from experts.types import ExpertId

_EVENT_STREAM: Final = "text/event-stream"
_SERVER_FAULT: Final = 500
_TOO_MANY: Final = 429


class CompletionEndpoint(Endpoint):
    """An ASGI endpoint for one of the two completion APIs."""

    def __init__(self, gateway: Gateway, path: str, body_type: type[ChatRequest | CompletionRequest]) -> None:
        super().__init__(gateway, path)
        self._decoder = msgspec.json.Decoder(body_type)

    async def answer(self, exchange: Exchange, interruptible: Interruptible, raw: bytes) -> None:
        """Try the planned experts in their order until one answers. Raises: CoeError."""
        body = decode(self._decoder, raw)
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


def outgoing(body: ChatRequest | CompletionRequest, raw: bytes, model: str) -> bytes:
    """The body for an expert: the caller's own bytes where only `model` could differ and does not."""
    if body.models is None and body.model == model:
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
