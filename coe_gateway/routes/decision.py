"""POST /v1/route: the decision and every score behind it, without spending a token."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from coe_gateway.exchange import Exchange, read_body
from coe_gateway.routes.completions import decode
from coe_gateway.wire import RouteRequest
from experts.errors import CoeError

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from coe_gateway.gateway import Gateway

_log = logging.getLogger(__name__)


class RouteEndpoint:
    """An ASGI endpoint that explains."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._decoder = msgspec.json.Decoder(RouteRequest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens."""
        gateway, exchange = self._gateway, Exchange(scope, send)
        try:
            gateway.authorize(exchange.headers.get(b"authorization", b"").decode("latin-1"))
            gateway.require_ready()
            raw = await read_body(exchange, receive, gateway.settings.max_body_bytes)
            async with gateway.admission:
                decision = await gateway.decide(decode(self._decoder, raw))
            await exchange.json(msgspec.json.encode(decision))
        except CoeError as error:
            await exchange.fail(error)
        except Exception as error:  # noqa: BLE001 - top of the task: the client gets an answer, the log the trace
            _log.exception("request %s", exchange.request_id.decode())
            await exchange.fail(error)
        finally:
            gateway.metrics.requests.labels("/v1/route", "", exchange.status).inc()
