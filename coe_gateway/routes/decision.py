"""POST /v1/route: the decision and every score behind it, without spending a token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from coe_gateway.routes.endpoint import Endpoint, decode
from coe_gateway.wire import RouteRequest

if TYPE_CHECKING:
    from coe_gateway.exchange import Exchange
    from coe_gateway.gateway import Gateway
    from coe_gateway.interruption import Interruptible


class RouteEndpoint(Endpoint):
    """An ASGI endpoint that explains."""

    def __init__(self, gateway: Gateway, path: str) -> None:
        super().__init__(gateway, path)
        self._decoder = msgspec.json.Decoder(RouteRequest)

    async def answer(self, exchange: Exchange, interruptible: Interruptible, raw: bytes) -> None:  # noqa: ARG002 - it takes milliseconds: nothing to interrupt
        """Decide and tell. Raises: CoeError."""
        body = decode(self._decoder, raw)
        async with self._gateway.admission:
            decision = await self._gateway.decide(body)
        await exchange.json(msgspec.json.encode(decision))
