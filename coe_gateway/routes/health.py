"""Liveness, readiness, metrics: what an orchestrator asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from coe_gateway.wire import Health

if TYPE_CHECKING:
    from starlette.requests import Request

    from coe_gateway.gateway import Gateway


class HealthEndpoint:
    """Alive while the event loop turns; ready once it can answer and until it drains."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def liveness(self, _: Request) -> Response:
        """200 while the process answers at all."""
        return _health("alive", 200)

    async def readiness(self, _: Request) -> Response:
        """200 when requests will be served, 503 before the router is loaded and while draining."""
        if self._gateway.admission.draining:
            return _health("shutting_down", 503)
        return _health("ready", 200) if self._gateway.ready else _health("loading", 503)

    async def metrics(self, _: Request) -> Response:
        """Prometheus text."""
        return Response(self._gateway.metrics.render(), media_type=CONTENT_TYPE_LATEST)


def _health(status: str, code: int) -> Response:
    return Response(msgspec.json.encode(Health(status)), code, media_type="application/json")
