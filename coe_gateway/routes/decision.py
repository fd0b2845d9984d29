"""POST /v1/route: the decision and every score behind it, without spending a token; of a retrieval, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from coe_gateway.gateway import ask_of
from coe_gateway.routes.endpoint import Endpoint, decode
from coe_gateway.routes.retrieval_endpoint import MOST_QUERY_CHARS, call_of
from coe_gateway.wire import RouteRequest
from experts.errors import InvalidRequest

if TYPE_CHECKING:
    from coe_gateway.exchange import Exchange
    from coe_gateway.gateway import Gateway
    from coe_gateway.interruption import Interruptible
    from coe_gateway.retrieval.decision import RetrievalDecision
    from routers.types import RouteDecision


class RouteEndpoint(Endpoint):
    """An ASGI endpoint that explains."""

    def __init__(self, gateway: Gateway, path: str) -> None:
        super().__init__(gateway, path)
        self._decoder = msgspec.json.Decoder(RouteRequest)

    async def answer(self, exchange: Exchange, interruptible: Interruptible, raw: bytes) -> None:  # noqa: ARG002 - it takes milliseconds: nothing to interrupt
        """Decide and tell. Raises: CoeError."""
        body = decode(self._decoder, raw)
        async with self._gateway.admission:
            if body.kind == "retrieval" or b"kind=retrieval" in exchange.query.split(b"&"):
                decision: RouteDecision | RetrievalDecision = await self._retrieval(exchange, body, raw)
            else:
                decision = await self._gateway.decide(body)
        await exchange.json(msgspec.json.encode(decision))

    async def _retrieval(self, exchange: Exchange, body: RouteRequest, raw: bytes) -> RetrievalDecision:
        """Which embedding expert would rank for the ask. Raises: RetrievalOff, InvalidRequest, UnknownExpert."""
        retrieval = call_of(self._gateway, exchange, raw).retrieval
        text = body.query or ask_of(body, MOST_QUERY_CHARS).text
        if not text.strip():
            raise InvalidRequest("there is nothing to look for", "query")
        return await retrieval.run(retrieval.searcher.decide, body.expert, text, hybrid=retrieval.settings.hybrid)
