"""POST /v1/chat/completions and /v1/completions: parse, plan, lease, pass the expert's bytes on."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from coe_gateway.accounts.accounts import Asked
from coe_gateway.conversation import conversation_of
from coe_gateway.errors import ABOUT_THE_REQUEST, wire_of
from coe_gateway.race import Race
from coe_gateway.routes.endpoint import Endpoint, decode
from coe_gateway.sse import ModelName, whole_events
from experts.errors import (
    ClientLeft,
    CoeError,
    DeadlineExceeded,
    ExpertError,
    ExpertRefused,
    NotReady,
    StreamBroken,
    TierFull,
)
from experts.types import ExpertCall

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from coe_gateway.accounts.charge import Attempt, Charge
    from coe_gateway.exchange import Exchange
    from coe_gateway.gateway import Gateway, Plan
    from coe_gateway.interruption import Interruptible
    from coe_gateway.protocols.dialect import StreamTranslation
    from coe_gateway.wire import ChatRequest, CompletionRequest
    from experts.backend import ExpertReply
    from experts.types import ExpertId, ExpertSpec

_EVENT_STREAM: Final = "text/event-stream"
_TOO_MANY: Final = 429
_ANY: Final = msgspec.json.Decoder(dict[str, Any])


class CompletionEndpoint(Endpoint):
    """An ASGI endpoint for one of the two completion APIs."""

    def __init__(self, gateway: Gateway, path: str, body_type: type[ChatRequest | CompletionRequest]) -> None:
        super().__init__(gateway, path)
        self.expert_path = path
        self._decoder = msgspec.json.Decoder(body_type)

    async def answer(self, exchange: Exchange, interruptible: Interruptible, raw: bytes) -> None:
        """Plan, reserve, then try the planned experts. Raises: CoeError."""
        body = decode(self._decoder, raw)
        asked_s = perf_counter()
        timeout_s = self._gateway.settings.request_timeout_s
        interruptible.set_deadline(timeout_s, DeadlineExceeded(f"no answer within {timeout_s:g} s"))
        async with self._gateway.admission:
            exchange.queue_s = perf_counter() - asked_s
            plan = await self._planned(exchange, body)
            exchange.planned(plan)
            exchange.session = conversation_of(exchange.headers, body)
            exchange.asker = self._gateway.asker(exchange)
            raw = await self.outgoing_body(exchange, plan, body, raw)
            if exchange.account is None:
                await self._serve(exchange, plan, body, raw, interruptible)
                return
        # A limit may have to be waited for, which must not take a place from those who need not.
        with await self._charged(exchange, plan, body, raw) as exchange.charge:
            asked_s = perf_counter()
            async with self._gateway.admission:
                exchange.queue_s += perf_counter() - asked_s
                await self._serve(exchange, plan, body, raw, interruptible)

    async def _planned(self, exchange: Exchange, body: ChatRequest | CompletionRequest) -> Plan:
        """Choose who may answer, within the key's scope. Raises: CoeError."""
        account = exchange.account
        if account is None:
            return await self._gateway.plan(body)
        account.allow(body.models or [body.model], self._gateway.backends)
        plan = await self._gateway.plan(body)
        return plan if plan.decision is None else account.narrowed(plan, body.model)

    async def _charged(
        self, exchange: Exchange, plan: Plan, body: ChatRequest | CompletionRequest, raw: bytes
    ) -> Charge:
        """Reserve what the request may cost. Raises: QuotaExhausted, RateLimited, AccountsUnavailable."""
        if self._gateway.accounts is None or exchange.account is None:
            raise NotReady("the gateway has no accounts")
        turns = [experts for experts, _ in plan.turns()]
        asked = Asked(body, raw, turns, exchange.category, exchange.request_id.decode())
        asked_s = perf_counter()
        try:
            return await self._gateway.accounts.charge(exchange.account, asked)
        finally:
            exchange.queue_s += perf_counter() - asked_s

    async def _serve(
        self,
        exchange: Exchange,
        plan: Plan,
        body: ChatRequest | CompletionRequest,
        raw: bytes,
        interruptible: Interruptible,
    ) -> None:
        """Try the planned experts in their order until one answers. Raises: CoeError."""
        for experts, is_last in plan.turns():
            try:
                if len(experts) == 1:
                    await self._attempt(exchange, experts[0], body, raw, interruptible)
                else:
                    await self._race(exchange, experts, body, raw, interruptible)
            except CoeError as error:
                if is_last or exchange.content_started or not _may_retry(error):
                    raise
                self._failed(exchange, error)
            else:
                return

    async def outgoing_body(
        self,
        exchange: Exchange,  # noqa: ARG002 - this and the next two are for endpoints that add to a request
        plan: Plan,  # noqa: ARG002
        body: ChatRequest | CompletionRequest,  # noqa: ARG002
        raw: bytes,
    ) -> bytes:
        """The body as experts get it, but for `model`. Raises: CoeError."""
        return raw

    def beginning(self, exchange: Exchange) -> bytes:  # noqa: ARG002 - as above
        """What goes before the expert's first event: whole events, or nothing."""
        return b""

    def whole(self, exchange: Exchange, reply: bytes) -> bytes:  # noqa: ARG002 - as above
        """A reply that is no stream as the client gets it."""
        return reply

    async def _race(
        self,
        exchange: Exchange,
        experts: tuple[ExpertId, ...],
        body: ChatRequest | CompletionRequest,
        raw: bytes,
        interruptible: Interruptible,
    ) -> None:
        """Let several experts try at once; the first to have something to send answers. Raises: CoeError."""

        async def attempt(own: Exchange, expert_id: ExpertId) -> None:
            await self._attempt(own, expert_id, body, raw, interruptible)

        await Race(exchange, attempt, _may_retry, self._failed).run(experts)

    def _failed(self, exchange: Exchange, error: CoeError) -> None:
        """Note that an expert failed and that another is to answer."""
        code = wire_of(error).code
        exchange.fallback_reason = f"{code}:{exchange.expert}"
        self._gateway.metrics.fallbacks.labels(exchange.expert, code).inc()

    async def _attempt(
        self,
        exchange: Exchange,
        expert_id: ExpertId,
        body: ChatRequest | CompletionRequest,
        raw: bytes,
        interruptible: Interruptible,
    ) -> None:
        """Lease one expert and let it answer. Raises: CoeError: before or after the first byte."""
        backend = self._gateway.backends[expert_id]
        exchange.expert = expert_id
        charge = exchange.charge
        amendments = None if charge is None else charge.amendments
        data = outgoing(body, raw, backend.spec.model, amendments)
        call = ExpertCall(self.expert_path, data, bool(body.stream), exchange.ask)
        asked_s = perf_counter()
        lease = self._gateway.residency.lease(expert_id, exchange.asker)
        async with lease as resident:
            exchange.leased(asked_s, resident.load_s if lease.cold else 0.0)
            self._gateway.metrics.leases[lease.cold].inc()
            if charge is None:
                async with backend.call(call) as reply:
                    await self._pass_on(exchange, reply, call, interruptible, spec=backend.spec)
            else:
                with charge.attempt(expert_id) as attempt:
                    async with backend.call(call) as reply:
                        await self._pass_on(exchange, reply, call, interruptible, spec=backend.spec, attempt=attempt)

    async def _pass_on(
        self,
        exchange: Exchange,
        reply: ExpertReply,
        call: ExpertCall,
        interruptible: Interruptible,
        *,
        spec: ExpertSpec,
        attempt: Attempt | None = None,
    ) -> None:
        """Send an expert's answer on, counting it where somebody pays. Raises: StreamBroken."""
        name = ModelName(spec.id) if spec.model != spec.id else None
        if call.stream and reply.content_type.lower().startswith(_EVENT_STREAM):
            events = whole_events(reply.chunks(), spec.id, name)
            if attempt is not None:
                events = attempt.events(events)
            if exchange.translation is not None:
                events = translated(events, exchange.translation.stream(spec.id))
            await self._stream(exchange, events, reply, interruptible)
            return
        data = await reply.read()
        if attempt is not None:
            attempt.whole(data)
        if exchange.translation is not None:
            if call.stream:
                raise StreamBroken(spec.id, "it was asked for a stream and gave none")
            data, name = exchange.translation.whole(data, spec.id), None
        exchange.answered()
        data = self.whole(exchange, data if name is None else name.rewrite(data))
        await exchange.start(reply.content_type.encode("latin-1"), data)

    async def _stream(
        self, exchange: Exchange, events: AsyncIterator[bytes], reply: ExpertReply, interruptible: Interruptible
    ) -> None:
        """Pass whole events on as they come; the status goes with the first, so that until then all can be retried.

        A client that does not read is given up after `send_timeout_s`: it would keep its expert from everyone else.
        """
        send_timeout_s = self._gateway.settings.send_timeout_s
        stuck = ClientLeft(f"the client read nothing for {send_timeout_s:g} s")
        async for ready in events:
            interruptible.set_deadline(send_timeout_s, stuck)
            if not exchange.content_started:
                exchange.answered()
                await exchange.start(reply.content_type.encode("latin-1"))
                ready = self.beginning(exchange) + ready  # noqa: PLW2901 - one piece, so that nothing comes between
            await exchange.body(ready, more=True)
            interruptible.clear_deadline()  # silences are the backend's to judge
        await exchange.body(b"", more=False)


async def translated(events: AsyncIterator[bytes], stream: StreamTranslation) -> AsyncIterator[bytes]:
    """A stream of chat completions as one of another protocol. Raises: StreamBroken."""
    async for ready in events:
        if passing := stream.passed(ready):
            yield passing
    yield stream.end()


def outgoing(
    body: ChatRequest | CompletionRequest, raw: bytes, model: str, amendments: Mapping[str, object] | None = None
) -> bytes:
    """The body for an expert: the caller's own bytes where nothing has to differ. amendments: fields to set in it."""
    if body.models is None and body.model == model and not amendments:
        return raw
    document = decode(_ANY, raw)
    document.pop("models", None)
    document["model"] = model
    for name, value in (amendments or {}).items():
        old = document.get(name)
        document[name] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    return msgspec.json.encode(document)


def _may_retry(error: CoeError) -> bool:
    """Whether another expert might do better; a request that is wrong itself is wrong for all."""
    if isinstance(error, ExpertRefused):
        return error.status not in ABOUT_THE_REQUEST or error.status == _TOO_MANY
    return isinstance(error, ExpertError | TierFull)
