"""What the endpoints that carry the load have in common: whatever happens, the client gets an answer."""

from __future__ import annotations

import logging
import re
from abc import ABC, abstractmethod
from time import perf_counter
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from coe_gateway.exchange import Exchange, read_body
from coe_gateway.interruption import Interruptible
from coe_gateway.protocols.dialect import OPENAI
from experts.errors import CoeError, InvalidRequest

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from coe_gateway.gateway import Gateway
    from coe_gateway.protocols.dialect import Dialect

_T = TypeVar("_T")
_log = logging.getLogger(__name__)
_FIELD: Final = re.compile(r"`\$\.([^`]+)`|field `([^`]+)`")


class Endpoint(ABC):
    """An ASGI endpoint: key, readiness, body, `answer`, and the one place where its errors become replies."""

    def __init__(self, gateway: Gateway, path: str) -> None:
        self._gateway = gateway
        self._path = path
        self._dialect: Dialect = OPENAI

    @abstractmethod
    async def answer(self, exchange: Exchange, interruptible: Interruptible, raw: bytes) -> None:
        """Answer a request whose body is `raw`. Raises: CoeError: the client is told."""

    async def body(self, exchange: Exchange, receive: Receive) -> bytes:
        """The whole request body. Raises: BodyTooLarge, ClientLeft."""
        return await read_body(exchange, receive, self._gateway.settings.max_body_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens."""
        gateway, exchange = self._gateway, Exchange(scope, send)
        exchange.dialect = self._dialect
        try:
            exchange.account = gateway.authorize(self._dialect.key(exchange.headers))
            gateway.require_ready()
            raw = await self.body(exchange, receive)
            with Interruptible(receive) as interruptible:
                gateway.active.add(interruptible)
                try:
                    await self.answer(exchange, interruptible, raw)
                finally:
                    gateway.active.discard(interruptible)
        except CoeError as error:
            await exchange.fail(error)
        except Exception as error:  # noqa: BLE001 - top of the task: the client gets an answer, the log the trace
            _log.exception("request %s", exchange.request_id.decode())
            await exchange.fail(error)
        finally:
            self._observe(exchange)

    def _observe(self, exchange: Exchange) -> None:
        metrics = self._gateway.metrics
        if self._gateway.access_log is not None and exchange.expert in self._gateway.backends:
            self._gateway.access_log.add(exchange.access_row())
        metrics.answered(self._path, exchange.expert, exchange.status)
        if exchange.first_byte_s:
            ttft_s = exchange.first_byte_s - exchange.received_s
            metrics.timed(exchange.expert, ttft_s, perf_counter() - exchange.received_s)
            metrics.overhead.observe(exchange.overhead_s)
            metrics.queue.observe(exchange.queue_s)


def decode(decoder: msgspec.json.Decoder[_T], raw: bytes) -> _T:
    """A request body as its struct. Raises: InvalidRequest: naming the field."""
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        found = _FIELD.search(str(error))
        raise InvalidRequest(f"the body cannot be read: {error}", found and (found[1] or found[2])) from error
