"""POST /v1/messages and /v1/responses: other protocols, answered by the same experts in the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coe_gateway.routes.completions import CompletionEndpoint
from coe_gateway.wire import ChatRequest

if TYPE_CHECKING:
    from coe_gateway.exchange import Exchange
    from coe_gateway.gateway import Gateway
    from coe_gateway.interruption import Interruptible
    from coe_gateway.protocols.dialect import TranslatingDialect


class TranslatedEndpoint(CompletionEndpoint):
    """An ASGI endpoint whose requests go to experts as chat completions."""

    def __init__(self, gateway: Gateway, path: str, dialect: TranslatingDialect) -> None:
        super().__init__(gateway, path, ChatRequest)
        self._dialect = dialect
        self._translating = dialect
        self.expert_path = "/v1/chat/completions"

    async def answer(self, exchange: Exchange, interruptible: Interruptible, raw: bytes) -> None:
        """Translate, then plan, reserve and try as for any chat completion. Raises: CoeError."""
        exchange.translation = self._translating.translated(raw)
        await super().answer(exchange, interruptible, exchange.translation.chat)
